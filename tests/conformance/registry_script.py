"""A short life of a registry, call by call, with what its tables must say after each answer."""

import hashlib
import random
from dataclasses import dataclass

import requests
from harness import MODELS, PATIENCE_S, Server, model_file
from mlflow_server import API, ARTIFACTS

MODEL = (MODELS / model_file("identity_fp32")).read_bytes()
# More than one part of an upload.
LARGE = random.Random(16).randbytes((8 << 20) + 4321)
_STAGES = "SELECT version, stage FROM model_versions ORDER BY version"


@dataclass(frozen=True)
class Call:
    """A call that was answered with 200, and a question with the only rows that answer it from then on."""

    name: str
    question: str
    rows: list[tuple]


class _Client:
    def __init__(self, server: Server, calls: list[Call]):
        self.server, self.calls = server, calls
        self.session = requests.Session()

    def send(self, method: str, path: str, question: str, *rows: tuple, **options) -> dict:
        self.calls.append(Call(f"{method} {path}", question, list(rows)))
        url = self.server.url + (path if path.startswith("/") else f"{API}/{path}")
        headers = {"X-Request-Id": f"op-{len(self.calls)}"}
        answer = self.session.request(method, url, headers=headers, timeout=PATIENCE_S, **options)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else {}

    def post(self, path: str, body: dict, question: str, *rows: tuple) -> dict:
        return self.send("POST", path, question, *rows, json=body)

    def put(self, path: str, data: bytes) -> None:
        question = f"SELECT digest, size FROM artifacts WHERE path = '{path}'"
        digest = hashlib.sha256(data).hexdigest()
        self.send("PUT", f"{ARTIFACTS}/{path}", question, (digest, len(data)), data=data)

    def run(self, experiment: str, name: str) -> tuple[str, str]:
        """A run, and where its model's files go."""
        body = {"experiment_id": experiment, "run_name": name, "start_time": 1}
        run = self.post("runs/create", body, f"SELECT status FROM runs WHERE run_name = '{name}'", ("RUNNING",))
        info = run["run"]["info"]
        return info["run_id"], info["artifact_uri"].removeprefix("mlflow-artifacts:/") + "/model"

    def version(self, number: int, run: str, folder: str, n_files: int) -> None:
        body = {"name": "iris", "source": f"mlflow-artifacts:/{folder}", "run_id": run}
        question = f"SELECT COUNT(*) FROM model_version_files WHERE version = {number}"
        self.post("model-versions/create", body, question, (n_files,))

    def promote(self, version: int, *stages: tuple) -> None:
        body = {"name": "iris", "version": str(version), "stage": "Production", "archive_existing_versions": True}
        self.post("model-versions/transition-stage", body, _STAGES, *stages)

    def alias(self, version: int) -> None:
        body = {"name": "iris", "alias": "champion", "version": str(version)}
        self.post("registered-models/alias", body, "SELECT alias, version FROM model_aliases", ("champion", version))

    def until_served(self, version: int) -> None:
        """Waits until the server has fetched a version and answers with it, so that the trace has that too."""
        path = f"/v2/models/iris/versions/{version}/ready"
        self.server.until(lambda: self.server.get(path).status_code == 200, f"ready with version {version}")


def first_part(server: Server, calls: list[Call]) -> None:
    """An experiment, two runs with files, two versions, and what can happen to them."""
    client = _Client(server, calls)
    made = client.post("experiments/create", {"name": "plants"}, "SELECT COUNT(*) FROM experiments", (2,))
    run, folder = client.run(made["experiment_id"], "one")
    client.post(
        "runs/log-metric", {"run_id": run, "key": "loss", "value": 0.5, "timestamp": 1, "step": 1},
        "SELECT value FROM latest_metrics WHERE key = 'loss'", (0.5,),
    )
    client.post("runs/log-parameter", {"run_id": run, "key": "depth", "value": "3"}, "SELECT key, value FROM params", ("depth", "3"))
    metrics = [{"key": "loss", "value": 1 / step, "timestamp": step, "step": step} for step in range(2, 200)]
    batch = {"run_id": run, "metrics": metrics, "params": [{"key": "seed", "value": "7"}], "tags": [{"key": "kind", "value": "tree"}]}
    client.post(
        "runs/log-batch", batch,
        "SELECT (SELECT COUNT(*) FROM metrics), (SELECT COUNT(*) FROM params), (SELECT COUNT(*) FROM run_tags WHERE key = 'kind')",
        (199, 2, 1),
    )
    client.put(f"{folder}/model.onnx", MODEL)
    client.put(f"{folder}/data/notes", LARGE)
    client.put(f"{folder}/data/draft", b"first")
    client.put(f"{folder}/data/draft", b"second")
    client.send("DELETE", f"{ARTIFACTS}/{folder}/data/draft", "SELECT COUNT(*) FROM artifacts", (2,))
    client.post("registered-models/create", {"name": "iris"}, "SELECT name FROM registered_models", ("iris",))
    client.version(1, run, folder, 2)
    client.alias(1)
    client.promote(1, (1, "Production"))
    client.until_served(1)
    run, folder = client.run(made["experiment_id"], "two")
    client.put(f"{folder}/model.onnx", MODEL)
    client.put(f"{folder}/data/notes", b"small")
    client.version(2, run, folder, 2)
    client.promote(2, (1, "Archived"), (2, "Production"))
    client.until_served(2)
    client.alias(2)
    client.post(
        "model-versions/set-tag", {"name": "iris", "version": "2", "key": "checked", "value": "yes"},
        "SELECT version, key, value FROM model_version_tags", (2, "checked", "yes"),
    )
    client.post(
        "runs/update", {"run_id": run, "status": "FINISHED", "end_time": 2},
        "SELECT status, end_time FROM runs WHERE run_name = 'two'", ("FINISHED", 2),
    )
    client.send(
        "DELETE", "model-versions/delete", "SELECT version FROM model_versions", (2,), json={"name": "iris", "version": "1"},
    )


def second_part(server: Server, calls: list[Call]) -> None:
    """What a server does on the folder that another one has left."""
    client = _Client(server, calls)
    client.until_served(2)
    client.post(
        "registered-models/rename", {"name": "iris", "new_name": "lily"},
        "SELECT name FROM model_versions UNION SELECT name FROM model_aliases", ("lily",),
    )
    run, folder = client.run("0", "three")
    client.put(f"{folder}/model.onnx", MODEL[::-1])
    client.send("DELETE", f"{ARTIFACTS}/{folder}", f"SELECT COUNT(*) FROM artifacts WHERE path LIKE '{folder}/%'", (0,))
    client.post("runs/delete", {"run_id": run}, "SELECT lifecycle_stage FROM runs WHERE run_name = 'three'", ("deleted",))
