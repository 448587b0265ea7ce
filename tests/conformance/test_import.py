"""`salver models import`: from MLflow's own tracking server into Salver's registry, and back out of it."""

import http.server
import json
import os
import signal
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pandas
import pytest
import requests
from harness import BINARY, DEMO, PATIENCE_S, Server, ort
from mlflow_server import MlflowServer
from sklearn.linear_model import LogisticRegression

pytestmark = pytest.mark.filterwarnings("ignore")

IRIS = DEMO / "iris" / "model.onnx"
ROW = np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """MLflow's own server with two models: `flowers`, two versions in ONNX, and `sizes`, one of scikit-learn."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    try:
        fill(server.url)
        yield server
    finally:
        server.stop()


def use(url: str | None) -> mlflow.MlflowClient:
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    return mlflow.MlflowClient(url, url) if url else None


def fill(url: str) -> None:
    client = use(url)
    mlflow.set_experiment("training")
    model = onnx.load(IRIS)
    signature = mlflow.models.infer_signature(ROW, {"probabilities": np.zeros((1, 3), dtype=np.float32)})
    for version, accuracy in ((1, 0.95), (2, 0.97)):
        with mlflow.start_run(run_name=f"flowers {version}", tags={"team": "red"}):
            mlflow.log_metrics({"accuracy": accuracy, "nan": float("nan")})
            mlflow.log_param("depth", version)
            options = {"signature": signature} if version == 2 else {}
            mlflow.onnx.log_model(model, name="model", registered_model_name="flowers", **options)
    client.update_registered_model("flowers", "Which *flower* it is")
    client.set_registered_model_tag("flowers", "owner", "ann")
    client.update_model_version("flowers", "2", "More rows")
    client.set_model_version_tag("flowers", "2", "checked", "yes")
    client.set_registered_model_alias("flowers", "champion", "2")
    client.transition_model_version_stage("flowers", "1", "Staging")
    client.transition_model_version_stage("flowers", "2", "Production")
    frame = pandas.DataFrame({"width": [0.0, 1.0], "height": [1.0, 0.0]})
    sizes = LogisticRegression().fit(frame, [0, 1])
    with mlflow.start_run():
        mlflow.sklearn.log_model(sizes, name="model", registered_model_name="sizes", input_example=frame)
    use(None)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "salver", "--grpc", "off")
    yield server
    server.stop()


def salver(server: Server, *args: object, code: int | None = 0, **env: str) -> subprocess.CompletedProcess:
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("SALVER_", "MLFLOW_"))}
    command = [str(BINARY), "models", *map(str, args), "--server", server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=mine | env, check=False)
    assert code is None or done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "panicked" not in done.stderr
    return done


def shown(server: Server, name: str) -> dict:
    answer = requests.get(f"{server.url}/api/v1/registry/models/{name}", timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    return answer.json()


def registered(server: Server) -> list[str]:
    answer = requests.get(f"{server.url}/api/v1/registry/models", timeout=PATIENCE_S).json()
    return [model["name"] for model in answer["models"]]


def nothing_is_left(server: Server) -> None:
    """No model, no version, no run, no logged model and no file can be seen."""
    assert registered(server) == []
    client = use(server.url)
    for experiment in client.search_experiments():
        assert client.search_runs([experiment.experiment_id]) == []
        assert list(client.search_logged_models([experiment.experiment_id])) == []
        listed = f"{server.url}/api/2.0/mlflow-artifacts/artifacts"
        assert requests.get(listed, timeout=PATIENCE_S).json().get("files", []) == []
    use(None)


def test_all_versions_come_with_everything_and_load_from_here(foreign, server):
    out = salver(server, "import", "models:/flowers", "--from", foreign.url).stdout
    assert "models:/flowers/1 is now flowers/1" in out and "models:/flowers/2 is now flowers/2" in out, out
    client = use(server.url)
    model = client.get_registered_model("flowers")
    assert (model.description, model.tags) == ("Which *flower* it is", {"owner": "ann"})
    first, second = (client.get_model_version("flowers", str(version)) for version in (1, 2))
    assert (first.current_stage, second.current_stage) == ("Staging", "Production")
    assert (list(first.aliases), list(second.aliases)) == ([], ["champion"])
    assert second.description == "More rows" and second.tags["checked"] == "yes"
    there = mlflow.MlflowClient(foreign.url, foreign.url).get_model_version("flowers", "2")
    assert second.tags["imported.from"] == foreign.url
    assert second.tags["imported.version"] == "models:/flowers/2"
    assert second.tags["imported.source"] == there.source
    assert second.tags["imported.run_id"] == there.run_id
    assert pandas.Timestamp(second.tags["imported.created"]).timestamp() == there.creation_timestamp // 1000
    run = client.get_run(second.run_id)
    assert run.data.metrics["accuracy"] == 0.97 and np.isnan(run.data.metrics["nan"])
    assert run.data.params == {"depth": "2"} and run.data.tags["team"] == "red"
    expected = ort(IRIS, X=ROW)["probabilities"]
    for uri in ("models:/flowers/1", "models:/flowers/Production", "models:/flowers@champion"):
        assert mlflow.onnx.load_model(uri).SerializeToString() == onnx.load(IRIS).SerializeToString()
        got = mlflow.pyfunc.load_model(uri).predict(ROW)
        np.testing.assert_allclose(got["probabilities"], expected, rtol=1e-5)
    use(None)

    # What is in production there answers here; then the other one is promoted.
    request = {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": ROW.ravel().tolist()}]}

    def answers(version: str) -> bool:
        answer = server.post("/v2/models/flowers/infer", request)
        if answer.status_code != 200 or answer.json()["model_version"] != version:
            return False
        np.testing.assert_allclose(answer.json()["outputs"][0]["data"], expected.ravel(), rtol=1e-5)
        return True

    server.until(lambda: answers("2"), "version 2 answers")
    salver(server, "promote", "flowers/1")
    server.until(lambda: answers("1"), "version 1 answers")

    # Again: nothing is new, and what was promoted here stays where it is.
    out = salver(server, "import", "models:/flowers", "--from", foreign.url).stdout
    assert "models:/flowers/1 is here already, as flowers/1" in out and "flowers/2" in out
    versions = {card["version"]: card["current_stage"] for card in shown(server, "flowers")["versions"]}
    assert versions == {"1": "Production", "2": "Archived"}


def test_signatures_are_shown_and_compared(foreign, server):
    salver(server, "import", "models:/flowers", "--from", foreign.url)
    second, first = (card["signature"] for card in shown(server, "flowers")["versions"])
    # The first was logged without a signature: its graph has one.
    assert first["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}]
    assert second["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]
    assert second["inputs"][0]["datatype"] == "FP32" and second["inputs"][0]["name"] == ""
    out = salver(server, "compare", "flowers", 1, 2).stdout
    assert "0.97 (+0.02)" in out and "removed input 'X': FP32[-1,4]" in out, out
    assert "1 → 1: same signature" in salver(server, "compare", "flowers", 1, 1).stdout
    assert "X" in salver(server, "show", "flowers/1").stdout and "FP32[-1,4]" in salver(server, "show", "flowers").stdout


def test_a_model_of_sklearn_comes_and_loads_and_is_picked_by_alias_stage_and_name(foreign, server):
    out = salver(server, "import", "--all", "--from", foreign.url, "--unstaged", "--json").stdout
    assert [(one["source"], one["version"], one["imported"]) for one in json.loads(out)] == [
        ("models:/flowers/1", "1", True), ("models:/flowers/2", "2", True), ("models:/sizes/1", "1", True),
    ]
    client = use(server.url)
    assert {v.current_stage for v in client.search_model_versions()} == {"None"}
    assert client.get_registered_model("flowers").aliases == {}
    sizes = mlflow.sklearn.load_model("models:/sizes/1")
    assert sizes.predict(pandas.DataFrame({"width": [1.0], "height": [0.0]})).tolist() == [1]
    [card] = shown(server, "sizes")["versions"]
    assert [field["name"] for field in card["signature"]["inputs"]] == ["width", "height"]
    for uri, name, original in (
        ("models:/flowers@champion", "a", 2), ("models:/flowers/Staging", "b", 1), ("models:/flowers/latest", "c", 2),
    ):
        salver(server, "import", uri, "--name", name, MLFLOW_TRACKING_URI=foreign.url)
        assert client.get_model_version(name, "1").tags["imported.version"] == f"models:/flowers/{original}"
    use(None)


def test_a_folder_is_registered_as_push_does(foreign, server, tmp_path):
    use(foreign.url)
    folder = Path(mlflow.artifacts.download_artifacts("models:/flowers/1", dst_path=str(tmp_path / "copy")))
    use(None)
    assert "Version 1 of copied is registered" in salver(server, "import", folder, "--name", "copied").stdout
    assert (folder / "MLmodel").is_file()
    salver(server, "import", DEMO / "iris", "--name", "copied")
    assert len(shown(server, "copied")["versions"]) == 2
    refused = salver(server, "import", tmp_path, "--name", "x", code=1).stderr
    assert "neither MLmodel nor model.toml" in refused
    assert "--name NAME" in salver(server, "import", folder, code=1).stderr


def test_what_cannot_be_imported_says_what_to_do(foreign, server):
    client = use(foreign.url)
    client.create_registered_model("far")
    client.create_model_version("far", "s3://bucket/model")
    use(None)
    try:
        refused = salver(server, "import", "models:/far/1", "--from", foreign.url, code=1).stderr
        assert "models:/far/1" in refused and "'s3://bucket/model'" in refused
        assert "--serve-artifacts" in refused and "import DIR --name 'far'" in refused
        # The others come all the same.
        told = salver(server, "import", "--all", "--from", foreign.url, "--unstaged", code=1)
        assert "models:/far/1" in told.stderr and "1 of 4 versions" in told.stderr and "models:/sizes/1" in told.stdout
        assert sorted(registered(server)) == ["flowers", "sizes"]
    finally:
        client.delete_registered_model("far")
    for source, parts in (
        ("models:/never", ["never", foreign.url]),
        ("models:/flowers/9", ["9", foreign.url]),
        ("models:/flowers/Archived", ["Archived"]),
        ("models:/flowers@nobody", ["nobody"]),
        ("nowhere", ["'nowhere' is neither a folder"]),
    ):
        refused = salver(server, "import", source, "--from", foreign.url, code=1).stderr
        assert all(part in refused for part in parts), refused
    assert "--from http://HOST:PORT" in salver(server, "import", "models:/flowers", code=1).stderr
    assert "this registry itself" in salver(server, "import", "models:/flowers", "--from", server.url, code=1).stderr
    https = salver(server, "import", "models:/flowers", "--from", "https://localhost:1", code=1).stderr
    assert "TLS" in https


class Between(http.server.ThreadingHTTPServer):
    """A proxy in front of a tracking server that may spoil answers: spoil(path, body) -> body or None to hang up."""

    def __init__(self, url: str, spoil):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.spoil, self.logins = url, spoil, set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else None
        self.server.logins.add(self.headers.get("authorization"))
        request = urllib.request.Request(self.server.upstream + self.path, body, method=self.command)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                status, got = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, got = error.code, error.read()
        told, sent = self.server.spoil(urllib.parse.unquote(self.path), got)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(told))
        self.end_headers()
        self.wfile.write(sent)
        self.close_connection = told != len(sent)

    do_POST = do_GET

    def log_message(self, *_):
        pass


def is_file(path: str) -> bool:
    return "/mlflow-artifacts/artifacts/" in path


@pytest.mark.announced_errors("")
def test_a_server_that_dies_in_between_leaves_nothing_and_the_next_try_has_all(foreign, server):
    def breaks_off(path, body):
        return len(body), body[: len(body) // 2] if is_file(path) and path.endswith("model.onnx") else body

    def too_short(path, body):
        sent = body[:-1] if is_file(path) and path.endswith("model.onnx") else body
        return len(sent), sent

    for spoil, part in ((breaks_off, "broke off while sending"), (too_short, "as it lists")):
        with Between(foreign.url, spoil) as proxy:
            refused = salver(server, "import", "models:/flowers", "--from", proxy.url, code=1).stderr
            assert part in refused and "models:/flowers/1" in refused and "model.onnx" in refused, refused
        nothing_is_left(server)
    with Between(foreign.url, lambda path, body: (len(body), body)) as proxy:
        salver(server, "import", "models:/flowers", "--from", proxy.url)
        assert len(shown(server, "flowers")["versions"]) == 2
        # Nobody there any more.
    gone = salver(server, "import", "models:/flowers", "--from", proxy.url, code=1).stderr
    assert f"no answer from {proxy.url}" in gone and "tracking server" in gone


@pytest.mark.announced_errors("")
def test_an_import_that_is_interrupted_leaves_nothing(foreign, server):
    asked, go_on = threading.Event(), threading.Event()

    def keeps_waiting(path, body):
        if is_file(path) and path.endswith("model.onnx"):
            asked.set()
            go_on.wait(PATIENCE_S)
        return len(body), body

    with Between(foreign.url, keeps_waiting) as proxy:
        command = [str(BINARY), "models", "import", "models:/flowers", "--from", proxy.url, "--server", server.url]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert asked.wait(PATIENCE_S)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            go_on.set()
            process.kill()
    assert process.returncode == 1 and "interrupted" in err and "models:/flowers/1" in err, (process.returncode, out, err)
    nothing_is_left(server)


def test_names_that_lead_elsewhere_are_refused(foreign, server):
    for name in ("../../evil", "..", "/etc/evil", "a\\evil", "%2e%2e", "x/%2e%2e/y"):
        def spoil(path, body, name=name):
            if not path.split("?")[0].endswith("/mlflow-artifacts/artifacts"):
                return len(body), body
            body = json.dumps({"files": [{"path": name, "is_dir": False, "file_size": 3}]}).encode()
            return len(body), body

        with Between(foreign.url, spoil) as proxy:
            refused = salver(server, "import", "models:/sizes", "--from", proxy.url, code=1).stderr
        assert name.replace("\\", "\\\\") in refused, refused
        nothing_is_left(server)

    def leads_out(path, body):
        if "get-download-uri" in path:
            body = json.dumps({"artifact_uri": "mlflow-artifacts:/1/%2e%2e/%2e%2e/secret"}).encode()
        return len(body), body

    with Between(foreign.url, leads_out) as proxy:
        assert "Invalid path" in salver(server, "import", "models:/sizes", "--from", proxy.url, code=1).stderr


@pytest.mark.parametrize(("env", "login"), [
    ({}, None),
    ({"MLFLOW_TRACKING_TOKEN": "secret"}, "Bearer secret"),
    ({"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "pw", "MLFLOW_TRACKING_TOKEN": "x"}, "Basic YW5uOnB3"),
])
def test_the_login_of_mlflows_client_is_sent_with_everything(foreign, server, env, login):
    with Between(foreign.url, lambda path, body: (len(body), body)) as proxy:
        salver(server, "import", "models:/sizes", "--from", proxy.url, USER="somebody", **env)
        assert proxy.logins == {login}
