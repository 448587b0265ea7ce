"""Two versions of a model, from training to a rollback, with plain MLflow and scikit-learn.

Trains both on scikit-learn's iris data, logs and registers them with MLflow's own calls, makes the
first one the Production version, then the second, then the first again, and after each step asks the
server for a prediction until the reply names that version. `--no-serving` leaves the predictions out:
then any MLflow server will do.
"""

import argparse
import logging
import os
import sys
import time
import warnings

import mlflow
import requests
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NAME = "iris-registry"
ALIAS = "champion"
FLOWER = [[5.9, 3.0, 5.1, 1.8]]


def train(title: str, strength: float) -> str:
    """Trains, measures, logs and registers; the number of the new version."""
    features, species = load_iris(return_X_y=True)
    features = features.astype("float32")
    seen, held_out, seen_species, held_out_species = train_test_split(
        features, species, test_size=0.3, random_state=7, stratify=species
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength))
    with mlflow.start_run(run_name=title):
        model.fit(seen, seen_species)
        guessed = model.predict(held_out)
        accuracy = accuracy_score(held_out_species, guessed)
        f1 = f1_score(held_out_species, guessed, average="macro")
        mlflow.log_param("C", strength)
        mlflow.log_metrics({"accuracy": accuracy, "f1": f1})
        # One matrix of probabilities instead of a list of maps.
        options = {LogisticRegression: {"zipmap": False}}
        exported = to_onnx(model, seen[:1], options=options, target_opset=17)
        logged = mlflow.onnx.log_model(exported, name="model", registered_model_name=NAME)
    version = str(logged.registered_model_version)
    print(f"trained {title}: accuracy {accuracy:.3f}, f1 {f1:.3f}; registered as version {version}", flush=True)
    return version


def promote(client: mlflow.MlflowClient, version: str) -> None:
    """The one Production version; whatever was there before is archived. The alias follows."""
    client.transition_model_version_stage(NAME, version, "Production", archive_existing_versions=True)
    client.set_registered_model_alias(NAME, ALIAS, version)
    (current,) = client.get_latest_versions(NAME, ["Production"])
    print(f"version {current.version} is in Production and is {NAME}@{ALIAS}", flush=True)


def ask(server: str, version: str, limit_s: float) -> None:
    """Asks until the reply is of this version."""
    url = f"{server}/models/{NAME}/predict"
    end = time.monotonic() + limit_s
    while True:
        answer = requests.post(url, json=FLOWER, timeout=10)
        served = answer.headers.get("x-salver-model-version")
        if answer.ok and served == version:
            break
        if time.monotonic() > end:
            sys.exit(f"{url} never answered with version {version}: {answer.status_code}, version {served}, {answer.text[:300]}")
        time.sleep(0.1)
    print(f"  POST {url}\n  x-salver-model-version: {served}\n  {' '.join(answer.text.split())}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("SALVER_SERVER", "http://127.0.0.1:8080")
    options.add_argument("--server", default=default, help="address of the server (default: SALVER_SERVER or %(default)s)")
    options.add_argument("--no-serving", action="store_true", help="leave the predictions out: for a server that is not Salver")
    options.add_argument("--timeout", type=float, default=30, help="seconds to wait for a version to answer (default: %(default)s)")
    chosen = options.parse_args()
    server = chosen.server.rstrip("/")
    # The story is told here, and MLflow would rather have aliases only.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

    mlflow.set_tracking_uri(server)
    mlflow.set_registry_uri(server)
    mlflow.set_experiment("iris")
    client = mlflow.MlflowClient()

    first = train("a careful model", 0.01)
    second = train("a bolder model", 10.0)
    for step, version in (("Promote the first:", first), ("Promote the second:", second), ("Roll back:", first)):
        print(f"\n{step}", flush=True)
        promote(client, version)
        if not chosen.no_serving:
            ask(server, version, chosen.timeout)

    print("\nWhat the registry knows now:")
    for known in sorted(client.search_model_versions(f"name = '{NAME}'"), key=lambda v: int(v.version)):
        metrics = client.get_run(known.run_id).data.metrics
        print(f"  version {known.version}: {known.current_stage:<10} accuracy {metrics['accuracy']:.3f}, f1 {metrics['f1']:.3f}")


if __name__ == "__main__":
    main()
