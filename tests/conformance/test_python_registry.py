"""From training with plain MLflow to predictions by a worker, without a line about serving in between."""

import numpy as np
import pytest
from harness import Server
from workers import FLAGS, eventually, workers

mlflow = pytest.importorskip("mlflow")
pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")

from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of the client, which would have no stages


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("python-registry"), *FLAGS, "--grpc", "off", "--default-model", "flowers")
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    mlflow.set_experiment("python")
    yield server
    server.stop()


def log(model, name: str, table) -> None:
    signature = mlflow.models.infer_signature(table, model.predict(table))
    with mlflow.start_run():
        # What is needed is named, so that MLflow does not go and look for it.
        mlflow.sklearn.log_model(
            model, name="model", signature=signature, registered_model_name=name, pip_requirements=["scikit-learn", "pandas"]
        )


def promote(server: Server, name: str, version: int) -> None:
    mlflow.MlflowClient().transition_model_version_stage(
        name, str(version), "Production", archive_existing_versions=True
    )
    eventually(lambda: served(server, name) == version, f"version {version} serves")


def served(server: Server, name: str):
    answer = server.get(f"/models/{name}")
    return answer.json().get("version") if answer.status_code == 200 else None


def test_a_model_logged_with_mlflow_is_promoted_and_served_by_a_worker(server):
    iris = load_iris(as_frame=True)
    table = iris.data.rename(columns=lambda column: column.removesuffix(" (cm)").replace(" ", "_"))
    models = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=500)).fit(table, iris.target) for c in (1e-4, 1.0)]
    for version, model in enumerate(models, 1):
        log(model, "flowers", table)
        promote(server, "flowers", version)
        info = server.get("/models/flowers").json()
        assert info["engine"] == "python"
        assert [one["name"] for one in info["inputs"]] == list(table.columns)
        # As MLflow's own scoring server is asked, and by name over plain JSON.
        split = {"dataframe_split": table.to_dict(orient="split", index=False)}
        answer = server.post("/invocations", split)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == model.predict(table).tolist()
        rows = table.head(3).to_dict(orient="records")
        answer = server.post("/models/flowers/predict", {"inputs": rows})
        assert answer.status_code == 200, answer.text
        assert [row["predictions"] for row in answer.json()["predictions"]] == model.predict(table.head(3)).tolist()
    promote(server, "flowers", 1)
    assert len(workers(server)) >= 1


def test_columns_of_several_types_reach_the_pipeline_as_a_table(server):
    random = np.random.default_rng(7)
    table = pandas.DataFrame({
        "age": random.integers(18, 90, 200), "income": random.normal(50.0, 9.0, 200).round(2),
        "city": random.choice(["Ulm", "Oslo", "Łódź"], 200),
    })
    paid = (table.income > 50) ^ (table.city == "Oslo")
    columns = ColumnTransformer([("text", OneHotEncoder(), ["city"]), ("number", StandardScaler(), ["age", "income"])])
    model = make_pipeline(columns, LogisticRegression()).fit(table, paid)
    log(model, "payers", table)
    promote(server, "payers", 1)
    rows = table.head(20).to_dict(orient="records")
    answer = server.post("/models/payers/predict", {"inputs": rows})
    assert answer.status_code == 200, answer.text
    assert [row["predictions"] for row in answer.json()["predictions"]] == model.predict(table.head(20)).tolist()
    # What contradicts the signature is the caller's fault, and says which column.
    answer = server.post("/models/payers/predict", {"inputs": [{"age": 3, "income": 1.0}]})
    assert answer.status_code == 400 and "city" in answer.text
