"""MLflow's tracking and registry interface as raw requests: statuses, error codes, what JSON looks like.

What no client sends, or what it hides from a test that uses it.
"""

import http.client
import json
import math
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

import pytest
import requests
from mlflow_server import API, ARTIFACTS, PATIENCE_S, refused

INVALID = "INVALID_PARAMETER_VALUE"
ABSENT = "RESOURCE_DOES_NOT_EXIST"
NOBODY = "0" * 32
BIGGEST = 1.7976931348623157e308


@pytest.fixture(scope="module")
def experiment(tracking):
    return tracking.experiment()


@pytest.fixture(scope="module")
def run(tracking, experiment):
    return tracking.run(experiment)


@pytest.fixture(scope="module")
def other_run(tracking, experiment):
    return tracking.run(experiment)


@pytest.fixture(scope="module")
def model(tracking, experiment, run):
    """A model with one version."""
    name = tracking.model()
    add_version(tracking, name, f"mlflow-artifacts:/{experiment}/{run}/artifacts/m", run)
    return name


@pytest.fixture(scope="module")
def logged(tracking, experiment):
    return tracking.ok("POST", "logged-models", {"experiment_id": experiment, "name": "net"})["model"]["info"]["model_id"]


def add_version(tracking, name, source, run=None, **fields):
    body = {"name": name, "source": source, **({"run_id": run} if run else {}), **fields}
    return tracking.call("POST", "model-versions/create", body)


# The server


def test_health_version_and_server_info(tracking):
    health = tracking.send("GET", "/health")
    assert (health.status_code, health.text.strip()) == (200, "OK")
    assert tracking.send("HEAD", "/health").status_code == 200
    version = tracking.send("GET", "/version")
    assert version.status_code == 200 and int(version.text.strip().split(".")[0]) >= 3
    for base in ("/api/3.0/mlflow", "/ajax-api/3.0/mlflow"):
        info = tracking.send("GET", f"{base}/server-info")
        assert info.status_code == 200
        for key in ("workspaces_enabled", "multipart_uploads_enabled", "multipart_downloads_enabled", "artifacts_presigned_only"):
            assert info.json().get(key, False) is False
        assert info.json()["store_type"] == "SqlStore"


def test_every_call_has_a_twin_for_browsers(tracking, experiment, run, model):
    twin = "/ajax-api/2.0/mlflow"
    for method, path, body in (
        ("GET", "experiments/get", {"experiment_id": experiment}), ("GET", "runs/get", {"run_id": run}),
        ("POST", "experiments/search", {"max_results": 5}), ("GET", "registered-models/get", {"name": model}),
        ("POST", "runs/search", {"experiment_ids": [experiment]}), ("PATCH", "registered-models/update", {"name": model, "description": ""}),
    ):
        answer = tracking.call(method, path, body, api=twin)
        assert answer.status_code == 200, answer.text
    put = tracking.send("PUT", f"/ajax-api/2.0/mlflow-artifacts/artifacts/{experiment}/twin.txt", data=b"x")
    assert put.status_code == 200
    assert tracking.send("GET", f"{ARTIFACTS}/{experiment}/twin.txt").content == b"x"
    refused(tracking.call("GET", "runs/get", {"run_id": NOBODY}, api=twin), 404, ABSENT)


def test_unknown_routes_and_methods(tracking):
    assert tracking.call("GET", "experiments/none").status_code == 404
    assert tracking.call("POST", "nothing/at-all").status_code == 404
    assert tracking.send("GET", f"{API}/experiments/create").status_code == 405
    assert tracking.send("DELETE", f"{API}/runs/create", json={}).status_code == 405
    assert tracking.send("PUT", f"{API}/registered-models/update", json={}).status_code == 405


# What JSON looks like


def test_an_answer_is_an_object_with_numbers_and_without_what_is_unset(tracking, experiment):
    run = tracking.ok("POST", "runs/create", {"experiment_id": experiment, "start_time": 1700000000123, "run_name": "x"})["run"]
    info = run["info"]
    assert info["start_time"] == 1700000000123 and isinstance(info["start_time"], int)
    assert "end_time" not in info
    assert info["run_id"] == info["run_uuid"]
    assert (info["status"], info["lifecycle_stage"], info["experiment_id"]) == ("RUNNING", "active", experiment)
    assert not run["data"].get("metrics") and not run["data"].get("params")
    run_id = info["run_id"]
    for body in (
        {"run_id": run_id, "key": "a", "value": 0.5, "timestamp": "1700000000124", "step": "-3"},
        {"run_id": run_id, "key": "zero", "value": 0, "timestamp": 0},
    ):
        assert tracking.ok("POST", "runs/log-metric", body) == {}
    got = {m["key"]: m for m in tracking.ok("GET", "runs/get", {"run_id": run_id})["run"]["data"]["metrics"]}
    assert (got["a"]["value"], got["a"]["timestamp"], got["a"]["step"]) == (0.5, 1700000000124, -3)
    assert all(isinstance(got["a"][key], int) for key in ("timestamp", "step"))
    assert (got["zero"]["value"], got["zero"]["timestamp"], got["zero"]["step"]) == (0, 0, 0)
    updated = tracking.ok("POST", "runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": 1700000000999})["run_info"]
    assert (updated["status"], updated["end_time"]) == ("FINISHED", 1700000000999)


def test_searches_without_results_are_empty(tracking):
    nothing = {
        "runs": ("POST", "runs/search", {"experiment_ids": ["999999999"]}), "model_versions": ("GET", "model-versions/search", {"filter": "name = 'none'"}),
        "experiments": ("POST", "experiments/search", {"max_results": 5, "filter": "name = 'none'"}),
        "registered_models": ("GET", "registered-models/search", {"filter": "name = 'none'"}),
        "models": ("POST", "logged-models/search", {"experiment_ids": ["999999999"]}),
    }
    for field, call in nothing.items():
        answer = tracking.ok(*call)
        assert not answer.get(field) and not answer.get("next_page_token")
    assert not tracking.ok("POST", "runs/search", {}).get("runs")


@pytest.mark.parametrize(
    "sent, got",
    [("NaN", "NaN"), ("Infinity", BIGGEST), ("-Infinity", -BIGGEST), ("0.25", 0.25), (1, 1), (1e300, 1e300), (-0.5, -0.5)],
    ids=str,
)
def test_values_of_metrics_are_numbers_or_their_names(tracking, experiment, sent, got):
    run = tracking.run(experiment)
    tracking.ok("POST", "runs/log-metric", {"run_id": run, "key": "m", "value": sent, "timestamp": 1})
    tracking.ok("POST", "runs/log-batch", {"run_id": run, "metrics": [{"key": "n", "value": sent, "timestamp": 1, "step": 0}]})
    data = tracking.ok("GET", "runs/get", {"run_id": run})["run"]["data"]
    for metric in data["metrics"]:
        value = metric["value"]
        assert value == got or (got == "NaN" and isinstance(value, float) and math.isnan(value))
    history = tracking.ok("GET", "metrics/get-history", {"run_id": run, "metric_key": "m"})["metrics"]
    assert len(history) == 1


def test_unknown_fields_are_ignored_and_run_uuid_is_run_id(tracking, run):
    tracking.ok("POST", "runs/set-tag", {"run_uuid": run, "key": "uuid", "value": "1", "color": {"a": [1]}})
    tags = tracking.ok("GET", "runs/get", {"run_uuid": run})["run"]["data"]["tags"]
    assert {"key": "uuid", "value": "1"} in tags
    tracking.ok("POST", "runs/set-tag", {"run_uuid": run, "run_id": run, "key": "uuid", "value": "2"})


def test_versions_and_ids_are_strings(tracking, experiment, run, model):
    version = tracking.ok("GET", "model-versions/get", {"name": model, "version": "1"})["model_version"]
    assert version["version"] == "1" and version["current_stage"] == "None" and version["status"] == "READY"
    assert isinstance(version["creation_timestamp"], int)
    assert isinstance(tracking.ok("GET", "experiments/get", {"experiment_id": experiment})["experiment"]["experiment_id"], str)
    assert tracking.ok("GET", "model-versions/get", {"name": model, "version": 1})["model_version"]["run_id"] == run


def test_a_logged_model_has_its_enum_by_name(tracking, logged):
    info = tracking.ok("GET", f"logged-models/{logged}")["model"]["info"]
    assert (info["model_id"], info["status"]) == (logged, "LOGGED_MODEL_PENDING")
    assert isinstance(info["creation_timestamp_ms"], int)


def test_delete_has_its_arguments_in_a_body(tracking, run, model):
    tracking.ok("POST", "registered-models/set-tag", {"name": model, "key": "k", "value": "v"})
    assert tracking.ok("DELETE", "registered-models/delete-tag", {"name": model, "key": "k"}) == {}
    assert not tracking.ok("GET", "registered-models/get", {"name": model})["registered_model"].get("tags")
    tracking.ok("POST", "registered-models/alias", {"name": model, "alias": "x", "version": "1"})
    assert tracking.ok("DELETE", "registered-models/alias", {"name": model, "alias": "x"}) == {}
    name = tracking.model()
    assert tracking.ok("DELETE", "registered-models/delete", {"name": name}) == {}
    refused(tracking.call("DELETE", "registered-models/delete", {"name": name}), 404, ABSENT)


def test_a_repeated_field_of_get_is_a_repeated_parameter(tracking):
    mark = tracking.name("repeated")
    for letter in "ab":
        tracking.ok("POST", "registered-models/create", {"name": f"{mark} {letter}+1"})
    query = {"filter": f"name LIKE '{mark}%'", "order_by": ["name DESC", "last_updated_timestamp ASC"]}
    got = tracking.ok("GET", "registered-models/search", query)["registered_models"]
    assert [m["name"] for m in got] == [f"{mark} b+1", f"{mark} a+1"]
    one = tracking.ok("GET", "registered-models/search", {**query, "order_by": "name"})["registered_models"]
    assert [m["name"] for m in one] == [f"{mark} a+1", f"{mark} b+1"]
    plus = quote(f"{mark} a").replace("%20", "+") + "%2B1"
    assert tracking.send("GET", f"{API}/registered-models/get?name={plus}").status_code == 200
    latest = tracking.ok("GET", "registered-models/get-latest-versions", {"name": f"{mark} a+1", "stages": ["Staging", "None"]})
    assert not latest.get("model_versions")
    assert len(tracking.ok("GET", "experiments/search", {"max_results": 1})["experiments"]) == 1


# What does not fit


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"5", b'"x"', b"null", b'{"name": "x"', b'{"name": x}', b"\xff\xfe", b"[" * 5000],
    ids=lambda b: repr(b[:12]),
)
def test_what_is_no_object_of_json_is_refused(tracking, body):
    answer = tracking.send("POST", f"{API}/experiments/create", data=body, headers={"Content-Type": "application/json"})
    if not tracking.is_salver and answer.status_code == 500:
        pytest.skip("MLflow itself: 500")
    assert answer.status_code == 400, answer.text
    if tracking.is_salver:
        refused(answer, 400, INVALID, "BAD_REQUEST")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_another_content_type_is_refused(tracking, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    body = json.dumps({"name": tracking.name("typed")}).encode()
    refused(tracking.send("POST", f"{API}/experiments/create", data=body, headers=headers), 400, INVALID)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/json;charset=UTF-8"])
def test_utf8_may_be_named(tracking, content_type):
    body = json.dumps({"name": tracking.name("typed ü")}, ensure_ascii=False).encode()
    answer = tracking.send("POST", f"{API}/experiments/create", data=body, headers={"Content-Type": content_type})
    assert answer.status_code == 200, answer.text


# {e}xperiment, {r}un, registered {m}odel, {l}ogged model
WRONG = [
    ("POST", "experiments/create", {}), ("POST", "experiments/create", {"name": ""}), ("POST", "experiments/create", {"name": 5}),
    ("POST", "experiments/create", {"name": ["x"]}), ("POST", "experiments/create", {"name": "x" * 501}),
    ("POST", "experiments/create", {"name": "t", "tags": {"a": "b"}}),
    ("POST", "experiments/search", {"max_results": 0}), ("POST", "experiments/search", {"max_results": -1}), ("POST", "experiments/search", {}),
    ("POST", "experiments/search", {"max_results": 50001}), ("POST", "experiments/search", {"max_results": "x"}),
    ("POST", "experiments/search", {"max_results": 5, "page_token": "%%%"}), ("POST", "experiments/search", {"max_results": 5, "filter": "name ="}),
    ("POST", "experiments/search", {"max_results": 5, "order_by": ["color"]}), ("POST", "experiments/search", {"max_results": 5, "view_type": "SOME"}),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "{e}", "value": "x"}),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "{e}", "key": "k" * 251, "value": "x"}),
    ("GET", "experiments/get", {}), ("GET", "experiments/get-by-name", {}), ("POST", "experiments/delete", {}), ("POST", "experiments/update", {"new_name": "x"}),
    ("POST", "runs/create", {"experiment_id": "{e}", "start_time": "soon"}), ("POST", "runs/create", {"experiment_id": "{e}", "tags": "x"}),
    ("GET", "runs/get", {}), ("POST", "runs/update", {"run_id": "{r}", "status": "ASLEEP"}), ("POST", "runs/delete", {}),
    ("POST", "runs/log-metric", {"run_id": "{r}", "value": 1, "timestamp": 1}), ("POST", "runs/log-metric", {"run_id": "{r}", "key": "m", "timestamp": 1}),
    ("POST", "runs/log-metric", {"run_id": "{r}", "key": "m", "value": 1}), ("POST", "runs/log-metric", {"key": "m", "value": 1, "timestamp": 1}),
    ("POST", "runs/log-metric", {"run_id": "{r}", "key": "m", "value": "high", "timestamp": 1}),
    ("POST", "runs/log-metric", {"run_id": "{r}", "key": "m", "value": 1, "timestamp": -1}),
    ("POST", "runs/log-metric", {"run_id": "{r}", "key": "m", "value": 1, "timestamp": "x"}),
    ("POST", "runs/log-metric", {"run_id": "{r}", "key": "m", "value": 1, "timestamp": 1, "step": "x"}),
    ("POST", "runs/log-metric", {"run_id": "{r}", "key": "", "value": 1, "timestamp": 1}),
    *(("POST", "runs/log-metric", {"run_id": "{r}", "key": key, "value": 1, "timestamp": 1})
      for key in ("a//b", "../b", "/a", "a/../b", "./a", "a/", "m!", "a\\b", "a*", "k" * 251)),
    *(("POST", "runs/log-parameter", {"run_id": "{r}", "key": key, "value": "1"}) for key in ("a//b", "../b", "/a", "p?", "k" * 251)),
    ("POST", "runs/log-parameter", {"run_id": "{r}", "value": "1"}), ("POST", "runs/log-parameter", {"run_id": "{r}", "key": 5, "value": "1"}),
    ("POST", "runs/set-tag", {"run_id": "{r}", "value": "1"}), ("POST", "runs/set-tag", {"run_id": "{r}", "key": "k" * 251, "value": "1"}),
    ("POST", "runs/log-batch", {"metrics": []}), ("POST", "runs/log-batch", {"run_id": "{r}", "metrics": "x"}),
    ("POST", "runs/log-batch", {"run_id": "{r}", "metrics": [{"key": "m"}]}), ("POST", "runs/log-batch", {"run_id": "{r}", "params": [{"value": "x"}]}),
    ("POST", "runs/log-batch", {"run_id": "{r}", "metrics": [{"key": f"m{i}", "value": 1, "timestamp": 1, "step": 0} for i in range(1001)]}),
    ("POST", "runs/log-batch", {"run_id": "{r}", "params": [{"key": f"p{i}", "value": "1"} for i in range(101)]}),
    ("POST", "runs/log-batch", {"run_id": "{r}", "tags": [{"key": f"t{i}", "value": "1"} for i in range(101)]}),
    ("POST", "runs/log-batch", {"run_id": "{r}", "tags": [{"key": f"t{i}", "value": "1"} for i in range(100)],
                                "metrics": [{"key": f"m{i}", "value": 1, "timestamp": 1, "step": 0} for i in range(901)]}),
    ("POST", "runs/log-batch", {"run_id": "{r}", "params": [{"key": "dup", "value": "1"}, {"key": "dup", "value": "2"}]}),
    ("POST", "runs/search", {"experiment_ids": ["{e}"], "max_results": 0}), ("POST", "runs/search", {"experiment_ids": ["{e}"], "max_results": 50001}),
    ("POST", "runs/search", {"experiment_ids": ["{e}"], "page_token": "no token"}), ("POST", "runs/search", {"experiment_ids": ["{e}"], "max_results": "x"}),
    ("POST", "runs/search", {"experiment_ids": ["{e}"], "order_by": ["color"]}), ("POST", "runs/search", {"experiment_ids": ["{e}"], "filter": 5}),
    ("POST", "runs/search", {"experiment_ids": ["{e}"], "run_view_type": "SOME"}), ("POST", "runs/search", {"experiment_ids": "x"}),
    ("GET", "metrics/get-history", {"run_id": "{r}"}), ("GET", "metrics/get-history", {"metric_key": "m"}),
    ("POST", "registered-models/create", {}), ("POST", "registered-models/create", {"name": ""}), ("POST", "registered-models/create", {"name": "a/b"}),
    ("POST", "registered-models/create", {"name": "a:b"}), ("POST", "registered-models/create", {"name": 5}),
    ("GET", "registered-models/get", {}), ("PATCH", "registered-models/update", {"description": "x"}), ("POST", "registered-models/rename", {"name": "{m}", "new_name": "a/b"}),
    ("DELETE", "registered-models/delete", {}), ("GET", "registered-models/search", {"max_results": "x"}), ("GET", "registered-models/search", {"max_results": 1001}),
    ("GET", "registered-models/search", {"max_results": 0}), ("GET", "registered-models/search", {"max_results": -1}),
    ("GET", "registered-models/search", {"page_token": "%%%"}), ("GET", "registered-models/search", {"filter": "name"}),
    ("GET", "registered-models/search", {"filter": "creation_timestamp > 5"}), ("GET", "registered-models/search", {"order_by": "creation_timestamp"}),
    ("POST", "registered-models/get-latest-versions", {"name": "{m}", "stages": ["Live"]}), ("POST", "registered-models/get-latest-versions", {}),
    ("POST", "registered-models/set-tag", {"name": "{m}", "value": "x"}), ("POST", "registered-models/set-tag", {"name": "{m}", "key": "k" * 251, "value": "x"}),
    ("POST", "registered-models/set-tag", {"name": "{m}", "key": "k", "value": "x" * 100_001}),
    *(("POST", "registered-models/alias", {"name": "{m}", "alias": alias, "version": "1"})
      for alias in ("latest", "Latest", "v1", "V7", "a b", "a.b", "a/b", "", "x" * 256)),
    ("POST", "registered-models/alias", {"name": "{m}", "version": "1"}), ("POST", "registered-models/alias", {"name": "{m}", "alias": "a", "version": "one"}),
    ("GET", "registered-models/alias", {"name": "{m}", "alias": "nobody"}), ("GET", "registered-models/alias", {"name": "{m}"}),
    ("POST", "model-versions/create", {"name": "{m}"}), ("POST", "model-versions/create", {"source": "s3://b/m"}),
    ("GET", "model-versions/get", {"name": "{m}"}), ("GET", "model-versions/get", {"name": "{m}", "version": "one"}), ("GET", "model-versions/get", {"version": "1"}),
    ("PATCH", "model-versions/update", {"name": "{m}", "version": "1.5", "description": "x"}), ("DELETE", "model-versions/delete", {"name": "{m}"}),
    ("GET", "model-versions/search", {"filter": "color = 'red'"}), ("GET", "model-versions/search", {"filter": "version_number > 'x'"}),
    ("GET", "model-versions/search", {"max_results": 200_001}), ("GET", "model-versions/search", {"max_results": 0}),
    ("GET", "model-versions/search", {"page_token": "%%%"}), ("GET", "model-versions/search", {"order_by": "color"}),
    ("POST", "model-versions/transition-stage", {"name": "{m}", "version": "1", "stage": "Live"}),
    ("POST", "model-versions/transition-stage", {"name": "{m}", "version": "1"}), ("POST", "model-versions/transition-stage", {"name": "{m}", "version": "1", "stage": ""}),
    ("POST", "model-versions/transition-stage", {"name": "{m}", "version": "1", "stage": "Archived", "archive_existing_versions": True}),
    ("POST", "model-versions/transition-stage", {"name": "{m}", "version": "1", "stage": "Production", "archive_existing_versions": "maybe"}),
    ("POST", "model-versions/set-tag", {"name": "{m}", "version": "1", "value": "x"}), ("POST", "model-versions/set-tag", {"name": "{m}", "version": "x", "key": "k", "value": "v"}),
    ("POST", "logged-models", {"name": "x"}), ("POST", "logged-models", {"experiment_id": "{e}", "name": 5}),
    ("PATCH", "logged-models/{l}", {"model_id": "{l}", "status": "LOGGED_MODEL_ASLEEP"}), ("POST", "logged-models/search", {"experiment_ids": ["{e}"], "filter": "name ="}),
    ("POST", "logged-models/search", {"experiment_ids": ["{e}"], "order_by": ["name"]}), ("POST", "logged-models/search", {"experiment_ids": ["{e}"], "page_token": "%%%"}),
    ("POST", "logged-models/search", {"experiment_ids": ["{e}"], "order_by": [{"field_name": "color"}]}),
]

# Where MLflow's own server is no example: it takes these, or fails with 500.
MLFLOW_DIFFERS = {
    'POST experiments/search {"max_results": 5, "view_type": "SOME"}', 'POST runs/create {"experiment_id": "{e}", "tags": "x"}',
    'POST runs/update {"run_id": "{r}", "status": "ASLEEP"}', 'POST runs/search {"experiment_ids": ["{e}"], "run_view_type": "SOME"}',
    'GET registered-models/search {"max_results": 0}', 'GET registered-models/search {"max_results": -1}',
    'POST model-versions/transition-stage {"name": "{m}", "version": "1", "stage": "Archived", "archive_existing_versions": true}',
    'PATCH logged-models/{l} {"model_id": "{l}", "status": "LOGGED_MODEL_ASLEEP"}',
}


def fill(value, names):
    """Puts the names of what is there into a request."""
    if isinstance(value, dict):
        return {key: fill(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def label(case):
    method, path, body = case
    return f"{method} {path} {json.dumps(body)[:100]}"


@pytest.fixture(scope="module")
def there(experiment, run, model, logged):
    return {"{e}": experiment, "{r}": run, "{m}": model, "{l}": logged}


@pytest.mark.parametrize("case", WRONG, ids=label)
def test_requests_that_do_not_fit_are_refused(tracking, there, case):
    method, path, body = case
    answer = tracking.call(method, path.replace("{l}", there["{l}"]), fill(body, there))
    if not tracking.is_salver and label(case) in MLFLOW_DIFFERS:
        pytest.skip(f"MLflow itself: {answer.status_code}")
    error = refused(answer, 400, INVALID, *(["BAD_REQUEST"] if path == "experiments/update" else []))
    assert "Traceback" not in error["message"] and "panicked" not in error["message"]


MISSING = [
    ("GET", "experiments/get", {"experiment_id": "999999999"}), ("GET", "experiments/get-by-name", {"experiment_name": "no such experiment"}),
    ("POST", "experiments/delete", {"experiment_id": "999999999"}), ("POST", "experiments/restore", {"experiment_id": "999999999"}),
    ("POST", "experiments/update", {"experiment_id": "999999999", "new_name": "x"}),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "999999999", "key": "k", "value": "v"}),
    ("POST", "runs/create", {"experiment_id": "999999999", "start_time": 1}), ("GET", "runs/get", {"run_id": NOBODY}), ("GET", "runs/get", {"run_id": "x"}),
    ("POST", "runs/update", {"run_id": NOBODY, "status": "FINISHED"}), ("POST", "runs/delete", {"run_id": NOBODY}), ("POST", "runs/restore", {"run_id": NOBODY}),
    ("POST", "runs/log-metric", {"run_id": NOBODY, "key": "m", "value": 1, "timestamp": 1}),
    ("POST", "runs/log-parameter", {"run_id": NOBODY, "key": "p", "value": "1"}), ("POST", "runs/set-tag", {"run_id": NOBODY, "key": "t", "value": "1"}),
    ("POST", "runs/delete-tag", {"run_id": NOBODY, "key": "t"}), ("POST", "runs/delete-tag", {"run_id": "{r}", "key": "no such tag"}),
    ("POST", "runs/log-batch", {"run_id": NOBODY, "tags": [{"key": "k", "value": "v"}]}),
    ("POST", "runs/log-inputs", {"run_id": NOBODY, "datasets": [{"dataset": {"name": "n", "digest": "d", "source_type": "s", "source": "x"}}]}),
    ("GET", "artifacts/list", {"run_id": NOBODY}),
    *((method, f"registered-models/{path}", {"name": "no such model", **more}) for method, path, more in (
        ("GET", "get", {}), ("PATCH", "update", {"description": "x"}), ("POST", "rename", {"new_name": "y"}), ("DELETE", "delete", {}),
        ("POST", "get-latest-versions", {}), ("POST", "set-tag", {"key": "k", "value": "v"}), ("DELETE", "delete-tag", {"key": "k"}),
        ("POST", "alias", {"alias": "a", "version": "1"}), ("GET", "alias", {"alias": "a"}), ("DELETE", "alias", {"alias": "a"}),
    )),
    ("POST", "model-versions/create", {"name": "no such model", "source": "s3://b/m"}), ("POST", "registered-models/alias", {"name": "{m}", "alias": "a", "version": "99"}),
    *((method, f"model-versions/{path}", {"name": "{m}", "version": "99", **more}) for method, path, more in (
        ("GET", "get", {}), ("PATCH", "update", {"description": "x"}), ("DELETE", "delete", {}), ("GET", "get-download-uri", {}),
        ("POST", "transition-stage", {"stage": "Production"}), ("POST", "set-tag", {"key": "k", "value": "v"}), ("DELETE", "delete-tag", {"key": "k"}),
    )),
    ("POST", "logged-models", {"experiment_id": "999999999"}), ("GET", f"logged-models/m-{NOBODY}", {}), ("DELETE", f"logged-models/m-{NOBODY}", {}),
    ("PATCH", f"logged-models/m-{NOBODY}", {"model_id": f"m-{NOBODY}", "status": "LOGGED_MODEL_READY"}),
    ("PATCH", f"logged-models/m-{NOBODY}/tags", {"tags": [{"key": "k", "value": "v"}]}), ("DELETE", "logged-models/{l}/tags/none", {}),
]


@pytest.mark.parametrize("case", MISSING, ids=label)
def test_what_is_not_there_is_404(tracking, there, case):
    method, path, body = case
    answer = tracking.call(method, path.replace("{l}", there["{l}"]), fill(body, there))
    if not tracking.is_salver and label(case) in MLFLOW_DIFFERS:
        pytest.skip(f"MLflow itself: {answer.status_code}")
    refused(answer, 404, ABSENT)


def test_names_that_are_taken_are_400(tracking, model):
    name = tracking.name("taken")
    tracking.ok("POST", "experiments/create", {"name": name})
    refused(tracking.call("POST", "experiments/create", {"name": name}), 400, "RESOURCE_ALREADY_EXISTS")
    refused(tracking.call("POST", "registered-models/create", {"name": model}), 400, "RESOURCE_ALREADY_EXISTS")
    other = tracking.model()
    refused(tracking.call("POST", "registered-models/rename", {"name": other, "new_name": model}), 400, "RESOURCE_ALREADY_EXISTS")


def test_nothing_refused_leaves_a_trace(tracking, experiment):
    run = tracking.run(experiment)
    before = tracking.ok("GET", "runs/get", {"run_id": run})
    batch = {"run_id": run, "tags": [{"key": "t", "value": "1"}], "metrics": [{"key": "m", "value": 1, "timestamp": 1, "step": 0}]}
    refused(tracking.call("POST", "runs/log-batch", {**batch, "params": [{"key": "a//b", "value": "1"}]}), 400, INVALID)
    assert tracking.ok("GET", "runs/get", {"run_id": run}) == before


# Lengths


def test_lengths_up_to_the_limits_are_kept(tracking, experiment):
    run, key = tracking.run(experiment), "k" * 250
    tracking.ok("POST", "runs/log-parameter", {"run_id": run, "key": key, "value": "v" * 6000})
    tracking.ok("POST", "runs/set-tag", {"run_id": run, "key": key, "value": "v" * 8000})
    tracking.ok("POST", "runs/log-metric", {"run_id": run, "key": key, "value": 1, "timestamp": 1})
    data = tracking.ok("GET", "runs/get", {"run_id": run})["run"]["data"]
    assert data["params"] == [{"key": key, "value": "v" * 6000}]
    assert {"key": key, "value": "v" * 8000} in data["tags"]
    # Longer: cut, or refused.
    cut = tracking.call("POST", "runs/log-parameter", {"run_id": run, "key": "long", "value": "v" * 6001})
    assert cut.status_code in (200, 400)
    name = tracking.name("long") + "x" * 400
    assert tracking.call("POST", "experiments/create", {"name": name[:500]}).status_code == 200
    model = tracking.model()
    tracking.ok("POST", "registered-models/set-tag", {"name": model, "key": key, "value": "v" * 100_000})


# Pages


def test_pages_of_searches_and_histories(tracking):
    experiment = tracking.experiment()
    runs = [tracking.run(experiment, start_time=i + 1) for i in range(5)]
    body = {"experiment_ids": [experiment], "max_results": 2, "order_by": ["start_time ASC"]}
    seen, token = [], None
    for _ in range(3):
        page = tracking.ok("POST", "runs/search", {**body, **({"page_token": token} if token else {})})
        seen += [r["info"]["run_id"] for r in page["runs"]]
        token = page.get("next_page_token")
    assert seen == runs and not token
    assert len(tracking.ok("POST", "runs/search", {**body, "max_results": 50000})["runs"]) == 5
    tracking.ok("POST", "runs/log-batch", {"run_id": runs[0], "metrics": [{"key": "m", "value": i, "timestamp": i, "step": i} for i in range(5)]})
    seen, token = [], None
    while True:
        query = {"run_id": runs[0], "metric_key": "m", "max_results": 2, **({"page_token": token} if token else {})}
        page = tracking.ok("GET", "metrics/get-history", query)
        assert len(page["metrics"]) <= 2
        seen += [m["step"] for m in page["metrics"]]
        token = page.get("next_page_token")
        if not token:
            break
    assert seen == list(range(5))


# What was deleted takes nothing


def test_a_deleted_run_or_experiment_takes_no_writes(tracking):
    experiment = tracking.experiment()
    run = tracking.run(experiment)
    tracking.ok("POST", "runs/delete", {"run_id": run})
    for path, body in (
        ("log-metric", {"key": "m", "value": 1, "timestamp": 1}), ("log-parameter", {"key": "p", "value": "1"}), ("set-tag", {"key": "t", "value": "1"}),
        ("log-batch", {"tags": [{"key": "t", "value": "1"}]}), ("update", {"status": "FINISHED"}), ("delete-tag", {"key": "t"}),
    ):
        refused(tracking.call("POST", f"runs/{path}", {"run_id": run, **body}), 400, INVALID)
    tracking.ok("POST", "experiments/delete", {"experiment_id": experiment})
    refused(tracking.call("POST", "runs/create", {"experiment_id": experiment, "start_time": 1}), 400, INVALID)
    refused(tracking.call("POST", "experiments/set-experiment-tag", {"experiment_id": experiment, "key": "k", "value": "v"}), 400, INVALID)
    assert tracking.ok("GET", "experiments/get", {"experiment_id": experiment})["experiment"]["lifecycle_stage"] == "deleted"


# Artifacts


def raw(tracking, method, path, body=b""):
    """A request whose path no client tidies up (requests does, and drops `..`)."""
    address = urlsplit(tracking.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body)
        got = connection.getresponse()
        answer = requests.Response()
        answer.status_code, answer._content = got.status, got.read()
        answer.url, answer.request = path, requests.Request(method, tracking.url).prepare()
        return answer
    finally:
        connection.close()


BAD_PATHS = [
    "..", "../x", "a/../../x", "a/../b", "%2e%2e/x", "%2E%2E%2Fx", "a/%2e%2e/x", "a%2f..%2fx", "%252e%252e/x", "%252e%252e%252fx", "%25252e%25252e%25252fx",
    "%2fetc/passwd", "%252fetc/passwd", "//etc/passwd", "..%5cx", "a%5c..%5c..%5cx", "%5cetc", "C:%5cx", "x%00.txt", "a/%2500b", "file:///etc/passwd", "file:%2f%2f%2fetc%2fpasswd",
]


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE", "LIST"])
@pytest.mark.parametrize("path", BAD_PATHS)
def test_no_path_leaves_the_artifacts(tracking, method, path):
    if method == "LIST":
        answer = raw(tracking, "GET", f"{ARTIFACTS}?path={path}")
    else:
        answer = raw(tracking, method, f"{ARTIFACTS}/{path}", b"x")
    assert b"root:" not in answer.content
    if not tracking.is_salver:
        assert answer.status_code != 200 or method in ("LIST", "DELETE") or answer.content in (b"", b"x", b"{}"), answer.text
        if answer.status_code != 400:
            pytest.skip(f"MLflow itself: {answer.status_code}")
    # A server may also tidy the path up before it looks for a route: then there is none.
    if answer.status_code == 404:
        assert ".." in path or path.startswith("//")
        return
    refused(answer, 400, INVALID)


def test_an_artifact_is_bytes_with_their_type(tracking, experiment):
    root = f"{ARTIFACTS}/{experiment}/typed"
    assert raw(tracking, "PUT", f"{root}/page.html", b"<b>x</b>").status_code == 200
    assert raw(tracking, "PUT", f"{root}/data.json", b"{}").status_code == 200
    assert raw(tracking, "PUT", f"{root}/strange.zzz", bytes(range(256))).status_code == 200
    kinds = {"page.html": ("text/html", "text/plain"), "data.json": ("application/json", "text/plain"), "strange.zzz": "application/octet-stream"}
    for name, data in (("page.html", b"<b>x</b>"), ("data.json", b"{}"), ("strange.zzz", bytes(range(256)))):
        got = tracking.send("GET", f"{root}/{name}")
        assert (got.status_code, got.content) == (200, data)
        assert got.headers["content-type"].startswith(kinds[name])
        assert got.headers["content-disposition"].startswith("attachment") and name in got.headers["content-disposition"]
        assert got.headers["x-content-type-options"] == "nosniff"
    assert raw(tracking, "PUT", f"{root}/data.json", b"[1]").status_code == 200
    assert tracking.send("GET", f"{root}/data.json").content == b"[1]"


def test_chunks_and_ranges(tracking, experiment):
    path = f"{ARTIFACTS}/{experiment}/chunked.bin"
    assert tracking.send("PUT", path, data=iter([b"abc", b"defg", b"hij"])).status_code == 200
    assert tracking.send("GET", path).content == b"abcdefghij"
    for asked, status, data in (("bytes=2-4", 206, b"cde"), ("bytes=7-", 206, b"hij"), ("bytes=-3", 206, b"hij"), ("bytes=0-99", 206, b"abcdefghij"), ("bytes=50-", 416, None)):
        got = tracking.send("GET", path, headers={"Range": asked})
        assert got.status_code == status, asked
        assert data is None or got.content == data
    assert tracking.send("PUT", f"{ARTIFACTS}/{experiment}/empty", data=b"").status_code == 200
    empty = tracking.send("GET", f"{ARTIFACTS}/{experiment}/empty")
    assert (empty.status_code, empty.content) == (200, b"")


def test_listings_name_what_is_in_one_directory(tracking, experiment):
    root = f"{experiment}/listed"
    for name in ("b.txt", "a/x.txt", "a/deep/y.txt", "ü ?.txt"):
        assert raw(tracking, "PUT", f"{ARTIFACTS}/{root}/{quote(name)}", b"12345").status_code == 200

    def listed(path):
        got = tracking.send("GET", ARTIFACTS, params={"path": path})
        assert got.status_code == 200, got.text
        return sorted(got.json().get("files", []), key=lambda f: f["path"])

    assert listed(root) == [
        {"path": "a", "is_dir": True}, {"path": "b.txt", "is_dir": False, "file_size": 5}, {"path": "ü ?.txt", "is_dir": False, "file_size": 5},
    ]
    assert listed(f"{root}/a") == listed(f"{root}/a/") == [{"path": "deep", "is_dir": True}, {"path": "x.txt", "is_dir": False, "file_size": 5}]
    assert listed(f"{root}/b.txt") == listed(f"{root}/none") == []
    top = tracking.send("GET", ARTIFACTS)
    assert top.status_code == 200 and {"path": experiment, "is_dir": True} in top.json()["files"]


def test_what_is_no_file_is_no_artifact(tracking, experiment):
    root = f"{ARTIFACTS}/{experiment}/folder"
    assert raw(tracking, "PUT", f"{root}/file.txt", b"x").status_code == 200
    refused(tracking.send("GET", f"{root}/none.txt"), 404, ABSENT)
    assert tracking.send("GET", root).status_code == 400
    assert raw(tracking, "PUT", f"{root}/", b"x").status_code in (400, 404, 405)
    for path in (f"{root}/never", f"{root}/file.txt", root, root):
        gone = tracking.send("DELETE", path)
        assert (gone.status_code, gone.json()) == (200, {})
    refused(tracking.send("GET", f"{root}/file.txt"), 404, ABSENT)


def test_artifacts_of_a_run_are_listed_from_its_root(tracking, experiment):
    run = tracking.run(experiment)
    root = f"{ARTIFACTS}/{experiment}/{run}/artifacts"
    assert raw(tracking, "PUT", f"{root}/a/b.txt", b"12").status_code == 200
    got = tracking.ok("GET", "artifacts/list", {"run_id": run})
    assert got["root_uri"] == f"mlflow-artifacts:/{experiment}/{run}/artifacts"
    assert got["files"] == [{"path": "a", "is_dir": True}]
    assert tracking.ok("GET", "artifacts/list", {"run_id": run, "path": "a"})["files"] == [{"path": "a/b.txt", "is_dir": False, "file_size": 2}]
    for path in ("..", "a/../..", "/etc", "%2e%2e", "%252e%252e/x"):
        refused(tracking.call("GET", "artifacts/list", {"run_id": run, "path": path}), 400, INVALID)


def test_parts_and_presigned_addresses_are_not_implemented(tracking, experiment):
    base = "/api/2.0/mlflow-artifacts"
    for path, body in (
        ("mpu/create", {"path": "x.bin", "num_parts": 2}), ("mpu/complete", {"path": "x.bin", "upload_id": "u", "parts": [{"part_number": 1, "etag": "e"}]}),
        ("mpu/abort", {"path": "x.bin", "upload_id": "u"}),
    ):
        refused(tracking.send("POST", f"{base}/{path}/{experiment}/folder", json=body), 501, "NOT_IMPLEMENTED")
    refused(tracking.send("GET", f"{base}/presigned/{experiment}/x.bin"), 501, "NOT_IMPLEMENTED")


# Sources of versions


def test_sources_outside_what_they_belong_to_are_refused(tracking, experiment, run, other_run, logged):
    name = tracking.model()
    inside = f"mlflow-artifacts:/{experiment}/{run}/artifacts"
    for source in (
        "/etc/passwd", "etc/passwd", "file:/etc/passwd", "file:///etc", "file://host/etc", "C:\\x", f"{inside}/../x", f"{inside}/%2e%2e/x", f"{inside}/%252e%252e/x", f"{inside}/a\x00b",
        f"mlflow-artifacts:/{experiment}/{other_run}/artifacts/m", f"mlflow-artifacts:/{experiment}", "mlflow-artifacts:/", f"runs:/{other_run}/m",
        f"models:/{logged}", f"{tracking.url}{ARTIFACTS}/{experiment}/{other_run}/artifacts/m", "s3://bucket/../x", "",
    ):
        answer = add_version(tracking, name, source, run)
        if not tracking.is_salver and answer.status_code != 400:
            print(f"MLflow itself: {answer.status_code} for {source!r}")
            continue
        refused(answer, 400, INVALID)
    for source in (f"mlflow-artifacts:/{experiment}/{run}/artifacts/m", f"runs:/{run}/m"):
        answer = add_version(tracking, name, source)  # of no run
        if not tracking.is_salver and answer.status_code != 400:
            print(f"MLflow itself: {answer.status_code} for {source!r} of no run")
            continue
        refused(answer, 400, INVALID)


def test_sources_that_belong_are_taken(tracking, experiment, run, logged):
    name = tracking.model()
    inside = f"mlflow-artifacts:/{experiment}/{run}/artifacts"
    for source, more in (
        (f"{inside}/m", {"run_id": run}), (f"runs:/{run}/m", {"run_id": run}), (f"models:/{logged}", {"model_id": logged}),
        (f"mlflow-artifacts:/{experiment}/models/{logged}/artifacts", {"model_id": logged}),
        ("s3://bucket/m", {}), ("gs://bucket/m", {}), ("dbfs:/m", {"run_id": run}),
    ):
        answer = tracking.call("POST", "model-versions/create", {"name": name, "source": source, **more})
        assert answer.status_code == 200, f"{source}: {answer.text}"
        version = answer.json()["model_version"]
        assert (version["source"], version["status"]) == (source, "READY")
        uri = tracking.ok("GET", "model-versions/get-download-uri", {"name": name, "version": version["version"]})["artifact_uri"]
        expected = f"mlflow-artifacts:/{experiment}/models/{logged}/artifacts" if source.startswith("models:") else source
        assert uri in (expected, f"{inside}/m" if source.startswith("runs:") else expected)


def test_a_copy_of_a_version_leads_to_the_original(tracking, experiment, run, model):
    target = tracking.model()
    answer = add_version(tracking, target, f"models:/{model}/1")
    assert answer.status_code == 200, answer.text
    uri = tracking.ok("GET", "model-versions/get-download-uri", {"name": target, "version": "1"})["artifact_uri"]
    assert uri == f"mlflow-artifacts:/{experiment}/{run}/artifacts/m"
    assert add_version(tracking, target, f"models:/{model}/99").status_code in (400, 404)


def test_repeated_writes_are_the_same_as_one(tracking, experiment, model):
    """The client repeats these when an answer is lost."""
    run = tracking.run(experiment)
    for _ in range(2):
        tracking.ok("POST", "runs/log-metric", {"run_id": run, "key": "m", "value": 1, "timestamp": 1, "step": 1})
        tracking.ok("POST", "runs/log-parameter", {"run_id": run, "key": "p", "value": "1"})
        tracking.ok("POST", "runs/set-tag", {"run_id": run, "key": "t", "value": "1"})
        tracking.ok("POST", "registered-models/alias", {"name": model, "alias": "again", "version": "1"})
        tracking.ok("POST", "runs/update", {"run_id": run, "status": "FINISHED", "end_time": 5})
    assert len(tracking.ok("GET", "metrics/get-history", {"run_id": run, "metric_key": "m"})["metrics"]) == 1
    for _ in range(2):
        tracking.ok("POST", "runs/delete", {"run_id": run})
    for _ in range(2):
        tracking.ok("POST", "runs/restore", {"run_id": run})


def test_the_files_of_a_logged_model_are_listed_from_its_root(tracking, experiment, logged):
    root = f"{experiment}/models/{logged}/artifacts"
    assert raw(tracking, "PUT", f"{ARTIFACTS}/{root}/a/b.txt", b"12").status_code == 200
    path = f"logged-models/{logged}/artifacts/directories"
    got = tracking.ok("GET", path)
    assert (got["root_uri"], got["files"]) == (f"mlflow-artifacts:/{root}", [{"path": "a", "is_dir": True}])
    inside = tracking.ok("GET", path, {"artifact_directory_path": "a"})["files"]
    assert inside == [{"path": "a/b.txt", "is_dir": False, "file_size": 2}]
    for bad in ("..", "/etc", "%252e%252e"):
        refused(tracking.call("GET", path, {"artifact_directory_path": bad}), 400, INVALID)


# Many at once


def at_once(calls):
    """The answers of calls that are made at the same time, in no order."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def post(tracking, path, body):
    return lambda: requests.post(f"{tracking.url}{API}/{path}", json=body, timeout=PATIENCE_S)


def test_versions_made_at_once_have_numbers_of_their_own(tracking):
    name = tracking.model()
    answers = at_once([post(tracking, "model-versions/create", {"name": name, "source": "s3://b/m"}) for _ in range(12)])
    if not tracking.is_salver and any(a.status_code != 200 for a in answers):
        pytest.skip(f"MLflow itself: {sorted({a.status_code for a in answers})}")
    assert [a.status_code for a in answers] == [200] * 12
    assert sorted(int(a.json()["model_version"]["version"]) for a in answers) == list(range(1, 13))


def test_of_names_taken_at_once_one_wins(tracking):
    for path in ("experiments/create", "registered-models/create"):
        answers = at_once([post(tracking, path, {"name": tracking.name("race")})] * 8)
        won = [a for a in answers if a.status_code == 200]
        assert len(won) == 1, [a.text for a in answers]
        for answer in answers:
            if answer is not won[0]:
                refused(answer, 400, "RESOURCE_ALREADY_EXISTS")


def test_of_params_written_at_once_one_wins(tracking, experiment):
    run = tracking.run(experiment)
    answers = at_once([post(tracking, "runs/log-parameter", {"run_id": run, "key": "p", "value": str(i)}) for i in range(8)])
    if not tracking.is_salver and any(a.status_code not in (200, 400) for a in answers):
        pytest.skip(f"MLflow itself: {sorted({a.status_code for a in answers})}")
    won = [i for i, a in enumerate(answers) if a.status_code == 200]
    assert len(won) == 1, [a.text for a in answers]
    assert tracking.ok("GET", "runs/get", {"run_id": run})["run"]["data"]["params"] == [{"key": "p", "value": str(won[0])}]


def test_metrics_and_tags_written_at_once_are_all_there(tracking, experiment):
    run = tracking.run(experiment)
    calls = [post(tracking, "runs/log-batch", {"run_id": run, "tags": [{"key": f"t{i}", "value": "1"}],
             "metrics": [{"key": "m", "value": i, "timestamp": 1, "step": i}]}) for i in range(12)]
    assert [a.status_code for a in at_once(calls)] == [200] * 12
    got = tracking.ok("GET", "runs/get", {"run_id": run})["run"]["data"]
    assert [(m["key"], m["value"], m["step"]) for m in got["metrics"]] == [("m", 11, 11)]
    assert {t["key"] for t in got["tags"]} >= {f"t{i}" for i in range(12)}
    assert len(tracking.ok("GET", "metrics/get-history", {"run_id": run, "metric_key": "m"})["metrics"]) == 12


def test_what_was_written_is_there_after_a_restart(restart):
    first = restart()
    experiment = first.experiment(tags=[{"key": "k", "value": "v"}])
    run = first.run(experiment)
    first.ok("POST", "runs/log-metric", {"run_id": run, "key": "m", "value": "NaN", "timestamp": 1})
    name = first.model()
    assert add_version(first, name, f"runs:/{run}/m", run).status_code == 200
    first.ok("POST", "registered-models/alias", {"name": name, "alias": "a", "version": "1"})
    first.ok("DELETE", "model-versions/delete", {"name": name, "version": "1"})
    assert first.send("PUT", f"{ARTIFACTS}/{experiment}/x.txt", data=b"x").status_code == 200
    before = [first.ok("GET", path, query) for path, query in (
        ("experiments/get", {"experiment_id": experiment}), ("runs/get", {"run_id": run}), ("registered-models/get", {"name": name}),
    )]
    second = restart()
    after = [second.ok("GET", path, query) for path, query in (
        ("experiments/get", {"experiment_id": experiment}), ("runs/get", {"run_id": run}), ("registered-models/get", {"name": name}),
    )]
    assert after == before
    assert second.send("GET", f"{ARTIFACTS}/{experiment}/x.txt").content == b"x"
    assert add_version(second, name, "s3://b/m").json()["model_version"]["version"] == "2"
    assert second.experiment() != experiment


def test_models_that_are_prompts_are_left_out_only_when_asked(tracking):
    mark = tracking.name("prompts")
    tracking.ok("POST", "registered-models/create", {"name": f"{mark}-plain"})
    tracking.ok("POST", "registered-models/create", {"name": f"{mark}-prompt", "tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}]})
    asked = f"name LIKE '{mark}%' AND tag.`mlflow.prompt.is_prompt` != 'true'"
    got = tracking.ok("GET", "registered-models/search", {"filter": asked})["registered_models"]
    assert [m["name"] for m in got] == [f"{mark}-plain"]
    asked = f"name LIKE '{mark}%' AND tags.`mlflow.prompt.is_prompt` = 'true'"
    got = tracking.ok("GET", "registered-models/search", {"filter": asked})["registered_models"]
    assert [m["name"] for m in got] == [f"{mark}-prompt"]
