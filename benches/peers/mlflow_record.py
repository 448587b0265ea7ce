#!/usr/bin/env python3
"""Writes down what MLflow's own client sends in a fixed piece of work, and what it is answered.

    mlflow_record.py URL OUTPUT RUNS

Runs in the environment of requirements-mlflow.txt; benches/registry.py starts it and replays what it
wrote: one JSON object a line. The client is as it is published; only the last step before the
connection is looked over. Names that have to be new each time hold NAME.
"""

import base64
import json
import logging
import os
import pathlib
import sys
import tempfile
import threading
import warnings

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"
warnings.simplefilter("ignore")

import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

# Stages go, some day; until then people use them.
logging.getLogger("mlflow").setLevel(logging.ERROR)

NAME = "zzNAMEzz"
STAGES = ("Staging", "Production", "Archived", "None")


class Recorder:
    """Stands between the client and its connections."""

    def __init__(self, output):
        self.file, self.lock, self.send = output.open("w"), threading.Lock(), requests.adapters.HTTPAdapter.send

    def __enter__(self):
        def send(adapter, request, **options):
            # Files are sent from the disk.
            if hasattr(request.body, "read"):
                request.body = request.body.read()
            answer = self.send(adapter, request, **options)
            self.add(request, answer)
            return answer

        requests.adapters.HTTPAdapter.send = send
        return self

    def __exit__(self, *_):
        requests.adapters.HTTPAdapter.send = self.send
        self.file.close()

    def add(self, request, answer):
        body = request.body or b""
        entry = {
            "method": request.method,
            "path": request.path_url,
            "headers": dict(request.headers),
            "body": base64.b64encode(body.encode() if isinstance(body, str) else body).decode(),
            "status": answer.status_code,
            "answer": base64.b64encode(answer.content).decode(),
        }
        with self.lock:
            print(json.dumps(entry), file=self.file)


def track(client, experiment, number, files):
    """A run from its beginning to its end."""
    run = client.create_run(experiment, tags={"team": "blue"}, run_name=f"run {number}").info.run_id
    params = [Param(f"param{idx}", str(idx * number)) for idx in range(10)]
    client.log_batch(run, params=params, tags=[RunTag("kind", "forest" if number % 2 else "network")])
    # Fixed times: each replay writes the same points.
    batch = [Metric(f"metric{idx % 5}", idx / (number + 1), 1_750_000_000_000 + idx, idx // 5) for idx in range(100)]
    client.log_batch(run, metrics=batch)
    for step in range(20):
        client.log_metric(run, "loss", 1 / (step + number + 1), timestamp=1_750_000_001_000 + step, step=step)
    client.log_param(run, "rate", 0.1 * (number + 1))
    for key in ("host", "branch", "note"):
        client.set_tag(run, key, f"{key} of {number}")
    client.log_artifact(run, files / "notes.txt")
    client.log_artifacts(run, files / "model", "model")
    client.set_terminated(run)
    client.get_run(run)
    client.get_metric_history(run, "loss")
    return run


def register(client, model, run, number):
    """A version of a model, what is usually said about it, and what asks for it."""
    source = f"{client.get_run(run).info.artifact_uri}/model"
    version = client.create_model_version(model, source, run, tags={"number": str(number)}).version
    client.transition_model_version_stage(model, version, STAGES[number % len(STAGES)])
    client.set_model_version_tag(model, version, "checked", "yes")
    client.set_registered_model_alias(model, "champion", version)
    client.get_latest_versions(model, ["Production"])
    client.get_model_version(model, version)
    client.get_model_version_by_alias(model, "champion")
    client.get_model_version_download_uri(model, version)


def work(client, n_runs, folder):
    files = folder / "files"
    (files / "model").mkdir(parents=True)
    (files / "notes.txt").write_text("what was tried\n" * 100)
    (files / "model/MLmodel").write_text("flavors: {}\n")
    (files / "model/model.onnx").write_bytes(bytes(range(256)) * 256)
    experiment = client.create_experiment(f"experiment-{NAME}", tags={"owner": "replay"})
    client.get_experiment_by_name(f"experiment-{NAME}")
    runs = [track(client, experiment, number, files) for number in range(n_runs)]
    for filter_text, order in (
        ("", []),
        ("metrics.loss < 0.5", ["metrics.loss ASC"]),
        ("params.param1 = '3' AND tags.kind = 'forest'", []),
        ("attributes.status = 'FINISHED' AND tags.team LIKE 'bl%'", ["metrics.metric1 DESC"]),
        ("metrics.metric0 >= 1 AND params.rate != '0.1'", ["attributes.start_time DESC"]),
    ):
        client.search_runs([experiment], filter_text, order_by=order)
    model = f"model-{NAME}"
    client.create_registered_model(model, tags={"owner": "replay"}, description="of a replay")
    for number, run in enumerate(runs):
        register(client, model, run, number)
    client.search_model_versions(f"name = '{model}'")
    client.search_model_versions(f"name = '{model}' AND tags.number = '1'", order_by=["version_number DESC"])
    client.search_registered_models(f"name = '{model}'")
    client.get_registered_model(model)
    for number, run in enumerate(runs):
        client.list_artifacts(run)
        destination = folder / f"back-{number}"
        destination.mkdir()
        client.download_artifacts(run, "model", destination)


def main():
    url, output, n_runs = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    client = MlflowClient(url, url)
    with tempfile.TemporaryDirectory(prefix="salver-record-") as folder, Recorder(output):
        work(client, n_runs, pathlib.Path(folder))


if __name__ == "__main__":
    main()
