"""What the registry says is to be served is what answers: from training with plain MLflow to a rollback,
and what endpoints name by version, stage or alias."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import onnx
import pytest
import requests
from harness import BINARY, PATIENCE_S, Server

pytestmark = pytest.mark.filterwarnings("ignore")  # of the client, which would have no stages

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/registry/train_and_promote.py"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("registry-serving"), "--grpc", "off")
    yield server
    server.stop()


def run_example(server: Server) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SALVER_", "MLFLOW_"))}
    command = [sys.executable, str(EXAMPLE), "--server", server.url]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S * 4)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_trains_promotes_and_rolls_back(server):
    pytest.importorskip("skl2onnx")
    story = run_example(server)
    changes = requests.get(f"{server.url}/api/v1/registry/history?limit=1000", timeout=PATIENCE_S).json()["changes"]
    promoted = [
        change["subject"].rsplit("/", 1)[1] for change in reversed(changes)
        if change["what"] == "version.stage" and change["after"] == {"stage": "Production"}
    ]
    assert promoted[:1] == ["1"] and "2" in promoted and promoted[-1] == "1", (promoted, story)


def test_a_model_that_needs_python_is_kept_and_says_so(server):
    sklearn = pytest.importorskip("sklearn.linear_model")
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    mlflow.set_experiment("needs-python")
    model = sklearn.LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with mlflow.start_run():
        mlflow.sklearn.log_model(model, name="model", registered_model_name="needs-python")
    stage = {"name": "needs-python", "version": "1", "stage": "Production"}
    reply = requests.post(f"{server.url}/api/2.0/mlflow/model-versions/transition-stage", json=stage, timeout=PATIENCE_S)
    assert reply.status_code == 200, reply.text
    server.until(
        lambda: any(
            row["name"] == "needs-python" and "python" in (row["reason"] or "").lower()
            for row in requests.get(f"{server.url}/api/v1/models", timeout=PATIENCE_S).json()["models"]
        ),
        "the reason why it is not served",
    )


# Endpoints: versions under names of their own

ENDPOINTS = """
[endpoints]
moved = "models:/scale@challenger"
trial = "staged/staging"
pinned = "models:/pinned/1"
lost = "models:/absent@nobody"
"""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def serving(request, tmp_path_factory):
    """A server with endpoints for models that are not registered yet."""
    folder = tmp_path_factory.mktemp("endpoints")
    (folder / "salver.toml").write_text(ENDPOINTS)
    options = ["--grpc", "off", "--config", folder / "salver.toml"]
    if request.param == "postgres":
        options += ["--database", request.getfixturevalue("postgres").database()]
    server = Server(folder, *options)
    yield server
    server.stop()


def push(server: Server, folder: Path, name: str, factor: float, *options: str) -> str:
    """Registers a model that multiplies by a factor; returns its version."""
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 1])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 1])
    factor = onnx.helper.make_tensor("factor", onnx.TensorProto.FLOAT, [1], [factor])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Mul", ["x", "factor"], ["y"])], "scale", [x], [y], [factor])
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.save(model, folder / "model.onnx")
    command = [BINARY, "models", "push", name, folder / "model.onnx", "--json", "--server", server.url, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    return json.loads(done.stdout)["version"]


def ask(session: requests.Session, server: Server, name: str) -> tuple[int, str, float | None]:
    """The status, the version that answered, and what it makes of a one."""
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
    reply = session.post(f"{server.url}/v2/models/{name}/infer", json=body, timeout=PATIENCE_S)
    if reply.status_code != 200:
        return reply.status_code, reply.text, None
    return 200, reply.json()["model_version"], reply.json()["outputs"][0]["data"][0]


def until_answered(server: Server, name: str, version: str, value: float) -> None:
    server.until(lambda: ask(requests, server, name) == (200, version, value), f"{name} of version {version}")


def row(server: Server, name: str) -> dict:
    """What the index says of the endpoint as a whole."""
    rows = requests.post(f"{server.url}/v2/repository/index", timeout=PATIENCE_S).json()
    found = next((row for row in rows if row["name"] == name and "version" not in row), {})
    return {"reason": "", **found}  # which is left out where there is none


def registry_client(server: Server):
    mlflow = pytest.importorskip("mlflow")
    return mlflow.MlflowClient(server.url, server.url)


def test_an_alias_that_moves_under_load_changes_answers_and_fails_no_request(serving, tmp_path):
    client = registry_client(serving)
    serving.until(lambda: "there is no registered model 'scale'" in row(serving, "moved")["reason"], "told why not")
    factors = {push(serving, tmp_path, "scale", factor): factor for factor in (2.0, 3.0)}
    first, second = factors
    client.set_registered_model_alias("scale", "challenger", first)
    until_answered(serving, "moved", first, 2.0)
    assert row(serving, "moved")["reason"] == ""
    is_over, answers = threading.Event(), []

    def load():
        with requests.Session() as session:
            while not is_over.is_set():
                answers.append(ask(session, serving, "moved"))

    askers = [threading.Thread(target=load) for _ in range(4)]
    for asker in askers:
        asker.start()
    try:
        for version in (second, first, second, first):
            client.set_registered_model_alias("scale", "challenger", version)
            until_answered(serving, "moved", version, factors[version])
    finally:
        is_over.set()
        for asker in askers:
            asker.join(timeout=PATIENCE_S)
    assert set(answers) == {(200, version, factor) for version, factor in factors.items()}
    assert requests.get(f"{serving.url}/v2/models/scale", timeout=PATIENCE_S).status_code == 404, "not in production"

    client.delete_registered_model_alias("scale", "challenger")
    serving.until(lambda: "has no alias 'challenger'" in row(serving, "moved")["reason"], "without its alias")
    status, reason, _ = ask(requests, serving, "moved")
    assert status == 503 and "has no alias 'challenger'" in reason, reason
    assert serving.get("/v2/health/ready").status_code == 200, "nothing is wrong with the server"
    client.set_registered_model_alias("scale", "challenger", second)
    until_answered(serving, "moved", second, 3.0)


def test_an_endpoint_of_a_stage_follows_what_is_put_there(serving, tmp_path):
    client = registry_client(serving)
    first = push(serving, tmp_path, "staged", 5.0, "--stage", "staging")
    until_answered(serving, "trial", first, 5.0)
    second = push(serving, tmp_path, "staged", 7.0)
    client.transition_model_version_stage("staged", second, "Staging")
    until_answered(serving, "trial", second, 7.0)
    client.transition_model_version_stage("staged", second, "Production")
    until_answered(serving, "trial", first, 5.0)
    until_answered(serving, "staged", second, 7.0)
    client.transition_model_version_stage("staged", first, "Archived")
    serving.until(lambda: "is in Staging" in row(serving, "trial")["reason"], "without a version in the stage")


def test_an_endpoint_of_its_models_name_holds_a_version_whatever_is_promoted(serving, tmp_path):
    first = push(serving, tmp_path, "pinned", 11.0, "--stage", "production")
    until_answered(serving, "pinned", first, 11.0)
    push(serving, tmp_path, "pinned", 13.0, "--stage", "production")
    marker = push(serving, tmp_path, "marker", 1.0, "--stage", "production")
    until_answered(serving, "marker", marker, 1.0)  # What was promoted before was looked at before.
    assert ask(requests, serving, "pinned") == (200, first, 11.0)


def test_an_endpoint_that_names_nothing_says_what_there_is_not(serving):
    reason = "models:/absent@nobody: there is no registered model 'absent'"
    serving.until(lambda: row(serving, "lost")["reason"] == reason, "told why not")
    command = [BINARY, "models", "list", "--server", serving.url]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
    assert any(line.split()[:1] == ["lost"] and "registered model 'absent'" in line for line in listed.splitlines()), listed


@pytest.mark.parametrize(("endpoint", "said"), [
    ("iris", "NAME=MODEL"), ("a=iris/prod", "models:/NAME/STAGE"), ("a=iris", "models:/NAME@ALIAS"),
])
def test_an_endpoint_that_cannot_be_is_refused_at_the_start(endpoint, said, tmp_path):
    command = [BINARY, "serve", "--http", "127.0.0.1:0", "--data", tmp_path, "--endpoint", endpoint]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode != 0 and said in done.stderr and "--endpoint" in done.stderr, done.stderr
