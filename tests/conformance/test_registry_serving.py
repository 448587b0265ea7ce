"""What the registry says is in production is what answers: from training with plain MLflow to a rollback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from harness import PATIENCE_S, Server

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
            row["name"] == "needs-python" and "sklearn" in row["reason"]
            for row in requests.get(f"{server.url}/api/v1/models", timeout=PATIENCE_S).json()["models"]
        ),
        "the reason why it is not served",
    )
