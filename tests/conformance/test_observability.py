"""What is seen from outside: metrics, request ids, logs, the description of the REST side."""

import re

import numpy as np
import pytest
import requests
from harness import MODELS
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

INFER = "/v2/models/{}/infer"


def good(name="identity_fp32"):
    return {"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}


def samples(server) -> dict[tuple, float]:
    answer = server.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(("text/plain", "application/openmetrics-text"))
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def total(found, name, **labels):
    wanted = set(labels.items())
    return sum(value for key, value in found.items() if key[0] == name and wanted <= set(key[1:]))


def test_inferences_are_counted_by_model_version_and_status(triton):
    def success(version):
        return total(samples(triton), "ml_inference_total", model="two_versions", version=version, status="success")

    body = {"inputs": [{"name": "INPUT0", "shape": [1, 4], "datatype": "FP32", "data": [0] * 4}]}
    before = success("1"), success("2")
    for version in ("1", "1", "2"):
        path = f"/v2/models/two_versions/versions/{version}/infer"
        assert triton.post(path, body).status_code == 200
    assert (success("1") - before[0], success("2") - before[1]) == (2, 1)


def test_durations_are_a_histogram(triton):
    assert triton.post(INFER.format("identity_fp32"), good()).status_code == 200
    found = samples(triton)
    count = total(found, "ml_inference_duration_seconds_count", model="identity_fp32")
    assert count >= 1
    assert total(found, "ml_inference_duration_seconds_sum", model="identity_fp32") > 0
    assert total(found, "ml_inference_duration_seconds_bucket", model="identity_fp32", le="+Inf") == count


def test_names_from_the_wire_make_no_series(triton):
    for i in range(50):
        triton.post(INFER.format(f"invented_{i}"), good())
        triton.get(f"/invented_path_{i}")
    assert "invented" not in triton.get("/metrics").text


def test_a_request_id_is_kept_and_one_is_made_when_none_came(triton):
    answer = triton.get("/v2/health/live", headers={"x-request-id": "abc-123"})
    assert answer.headers["x-request-id"] == "abc-123"
    first, second = (triton.get("/v2/health/live").headers["x-request-id"] for _ in range(2))
    assert first and second and first != second


def test_a_hostile_request_id_does_not_reach_the_log_raw(triton):
    answer = triton.request("GET", "/v2/models/nobody", [("x-request-id", "a\x1b]0;x" + "y" * 5000)])
    assert answer.status in (400, 404, 431)
    assert "\x1b" not in triton.log()


def test_every_log_line_is_json_when_asked(start):
    server = start(MODELS / "triton" / "add_sub_fp32", ready=False)
    server.stop()
    assert all(line.startswith("{") for line in server.stderr if line), server.stderr


def test_the_openapi_document_is_valid(triton):
    document = triton.get("/openapi.json").json()
    validate(document)
    assert document["openapi"].startswith("3.")
    paths = {re.sub(r"\{[^}]*\}", "{}", path): methods for path, methods in document["paths"].items()}
    for method, path in (
        ("post", "/v2/models/{}/infer"), ("get", "/v2/models/{}"), ("get", "/v2/health/ready"),
        ("post", "/v2/repository/index"), ("post", "/v1/models/{}:predict"), ("post", "/invocations"),
        ("get", "/ping"), ("post", "/models/{}/predict"), ("get", "/metrics"),
    ):
        assert method in paths.get(path, {}), f"{method} {path}"


def test_the_openapi_document_tells_the_truth_about_what_can_be_read(triton):
    """Every GET without or with a model's name answers with a status that is documented for it."""
    document = triton.get("/openapi.json").json()
    asked = 0
    for path, methods in document["paths"].items():
        if "get" not in methods:
            continue
        filled = path
        for name in re.findall(r"\{([^}]*)\}", path):
            value = "1" if "version" in name.lower() else "two_versions"
            filled = filled.replace("{" + name + "}", value)
        answer = triton.get(filled)
        assert str(answer.status_code) in methods["get"]["responses"], f"GET {filled}: {answer.status_code}"
        asked += 1
    assert asked >= 10


def test_the_registry_answers_in_the_shapes_of_the_openapi_document(start):
    server = start("--grpc", "off")
    document = server.get("/openapi.json").json()
    mlflow, base = "/api/2.0/mlflow", "/api/v1/registry"
    assert server.post(f"{mlflow}/registered-models/create", {"name": "m", "tags": [{"key": "a", "value": "b"}]}).ok
    run = server.post(f"{mlflow}/runs/create", {"experiment_id": "0"}).json()["run"]["info"]
    assert server.post(f"{mlflow}/runs/log-metric", {"run_id": run["run_id"], "key": "loss", "value": 1, "timestamp": 1}).ok
    for _ in range(2):
        body = {"name": "m", "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
        assert server.post(f"{mlflow}/model-versions/create", body).ok
    calls = [
        ("post", "/models/{name}/promote", {"version": 1}),
        ("post", "/models/{name}/promote", {"version": 2, "stage": "production", "replaces": 1}),
        ("post", "/models/{name}/rollback", {}),
        ("post", "/models/{name}/versions/{version}/stage", {"stage": "archived"}),
        ("get", "/models", None),
        ("get", "/models/{name}", None),
        ("get", "/models/{name}/compare?version=1&version=2", None),
        ("get", "/models/{name}/versions/{version}", None),
        ("get", "/models/{name}/stages?stage=production", None),
        ("get", "/history?subject=model/m&limit=5", None),
        ("post", "/gc", {"dry_run": True}),
        ("delete", "/models/{name}/versions/{version}", None),
        ("delete", "/models/{name}", None),
    ]
    for method, path, body in calls:
        url = server.url + base + path.format(name="m", version=2)
        answer = requests.request(method, url, json=body, timeout=60)
        assert answer.status_code == 200, f"{method} {path}: {answer.text}"
        replies = document["paths"][base + path.split("?")[0]][method]["responses"]
        schema = replies["200"]["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": document["components"]}).validate(answer.json())
    described = {path for path in document["paths"] if path.startswith(base)}
    assert described == {base + path.split("?")[0] for _, path, _ in calls}
    server.stop()


def test_the_root_is_a_page_for_browsers_and_json_for_programs(triton):
    assert triton.get("/", headers={"Accept": "text/html"}).headers["content-type"].startswith("text/html")
    assert triton.get("/", headers={"Accept": "application/json"}).json()["status"] == "alive"


def test_the_served_version_is_in_a_header(triton):
    answer = triton.post(INFER.format("identity_fp32"), good())
    assert answer.headers["x-salver-model-version"] == "1"


def test_a_time_limit_that_is_over_is_answered_so(triton):
    body = {"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
    answer = triton.post(INFER.format("slow"), body, headers={"x-salver-timeout-ms": "1"})
    assert answer.status_code == 504, answer.text
    assert triton.post(INFER.format("slow"), body).status_code == 200


def test_time_limits_and_refusals_are_counted_as_such(start):
    from concurrent.futures import ThreadPoolExecutor

    server = start(MODELS / "triton", "--max-queue", "2")
    body = {"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}

    def one(_):
        return server.post(INFER.format("slow"), body).status_code

    def counted(status):
        return total(samples(server), "ml_inference_total", model="slow", status=status)

    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(one, range(64)))
    assert set(codes) == {200, 503}
    assert counted("success") == codes.count(200)
    assert counted("rejected") == codes.count(503)
    assert one(0) == 200
    assert server.post(INFER.format("slow"), body, headers={"x-salver-timeout-ms": "1"}).status_code == 504
    assert counted("timeout") == 1


def test_a_slow_inference_is_warned_of_with_its_request_and_trace(start):
    server = start(MODELS / "triton" / "slow", "--slow-ms", "1")
    body = {"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"x-request-id": "slow-one", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    assert server.post(INFER.format("slow"), body, headers=headers).status_code == 200

    def warned():
        return [r for r in server.records() if r.get("level") == "WARN" and "slow-one" in str(r)]

    server.until(warned, "warned of the slow inference")
    assert "slow" in str(warned()[0]).replace("slow-one", "")
    assert trace in str(warned()[0])


def test_without_a_second_port_the_first_answers_everything(start):
    import tritonclient.grpc as grpcclient

    server = start(MODELS / "triton" / "identity_fp32", "--grpc", "off")
    assert server.listeners.keys() == {"http"}
    with grpcclient.InferenceServerClient(server.http) as rpc:
        assert rpc.is_model_ready("identity_fp32")
    assert server.post(INFER.format("identity_fp32"), good()).status_code == 200


def test_settings_may_come_from_a_file(start, tmp_path):
    (tmp_path / "salver.toml").write_text(f'paths = ["{MODELS / "triton" / "identity_fp32"}"]\nmax_inputs = 1\n')
    server = start("--config", tmp_path / "salver.toml")
    assert server.post(INFER.format("identity_fp32"), good()).status_code == 200


def test_concurrent_rows_are_batched_and_each_gets_its_own_answer(triton):
    from concurrent.futures import ThreadPoolExecutor

    def one(i):
        body = {"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "FP32", "data": [i]}]}
        return triton.post(INFER.format("slow"), body).json()["outputs"][0]["data"]

    def executions():
        entry, = triton.get("/v2/models/slow/stats").json()["model_stats"]
        return entry["execution_count"]

    before = executions()
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(32))) == [[float(np.float32(i))] for i in range(32)]
    assert executions() - before < 32


@pytest.mark.parametrize("origin, allowed", [("https://app.example", True), ("https://other.example", False)])
def test_only_the_named_origin_may_call_from_a_browser(start, origin, allowed):
    server = start(MODELS / "triton" / "identity_fp32", "--cors", "https://app.example", ready=False)
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = requests.options(server.url + INFER.format("identity_fp32"), headers=headers, timeout=60)
    assert (answer.headers.get("access-control-allow-origin") == origin) == allowed
    server.stop()


def test_a_page_whose_name_leads_here_reaches_nothing(start):
    """DNS rebinding: the connection is to this machine, the name is the page's; and a form of another origin."""
    server = start(MODELS / "triton" / "identity_fp32", "--allowed-host", "models.example")
    for host, status in (("evil.example", 403), ("models.example:1234", 200), ("localhost", 200)):
        answer = server.get("/v2/models/identity_fp32", headers={"Host": host})
        assert answer.status_code == status, f"{host}: {answer.text}"
    assert "--allowed-host" in server.get("/", headers={"Host": "evil.example"}).json()["error"]
    for origin, status in (("http://evil.example", 403), ("null", 403), (server.url, 200)):
        answer = server.post("/api/2.0/mlflow/experiments/search", {"max_results": 1}, headers={"Origin": origin})
        assert answer.status_code == status, f"{origin}: {answer.text}"
    server.stop()


def test_tritons_names_stand_for_the_same_counters(start):
    server = start(MODELS / "triton", "--triton-metrics")
    body = {"inputs": [{"name": "INPUT0", "shape": [2, 1], "datatype": "FP32", "data": [1, 2]}]}
    for _ in range(3):
        assert server.post(INFER.format("identity_fp32"), body).status_code == 200
    found = samples(server)
    of_model = {"model": "identity_fp32", "version": "1"}
    assert total(found, "nv_inference_request_success", **of_model) == 3
    assert total(found, "nv_inference_count", **of_model) == 6
    assert total(found, "nv_inference_exec_count", **of_model) == 3
    assert total(found, "nv_inference_pending_request_count", **of_model) == 0
    for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER"):
        assert ("nv_inference_request_failure", *sorted({**of_model, "reason": reason}.items())) in found
    stats = server.get("/v2/models/identity_fp32/stats").json()["model_stats"][0]["inference_stats"]
    for name, stat in [
        ("request", "success"), ("queue", "queue"), ("compute_input", "compute_input"),
        ("compute_infer", "compute_infer"), ("compute_output", "compute_output"),
    ]:
        assert total(found, f"nv_inference_{name}_duration_us", **of_model) == stats[stat]["ns"] // 1000
    assert total(found, "ml_inference_total", status="success", **of_model) == 3
    families = {family.name: family.type for family in openmetrics(server.get("/metrics").text)}
    assert families["nv_inference_count"] == "unknown" and families["nv_inference_pending_request_count"] == "gauge"
    server.stop()


def test_tritons_names_are_there_only_when_asked_for(triton):
    assert "nv_" not in triton.get("/metrics").text
