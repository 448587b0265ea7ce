"""KServe's own inference client, unmodified: v2 over REST and gRPC, and v1."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from harness import MODELS, PATIENCE_S, ort

VALUES = {
    "identity_int64": [[2**63 - 1, -5]], "identity_uint8": [[0, 255]], "identity_bool": [[True, False]],
    "identity_fp64": [[0.1, 1e300]], "identity_bytes": [["", "grüße"]],
}
FIRST = np.arange(32, dtype=np.float32).reshape(2, 16)
SUM_AND_DIFFERENCE = {
    "OUTPUT0": (FIRST + FIRST * 2).tolist(), "OUTPUT1": (FIRST - FIRST * 2).tolist(),
}


@pytest.fixture(scope="module")
def broken(start):
    """A server some of whose models do not load."""
    server = start(MODELS / "broken" / "triton", "--log-level", "off", ready=False)
    server.until(lambda: server.get("/v1/models/wrong_rank").status_code == 503, "loaded as far as it goes")
    return server


@pytest.fixture(scope="module")
def results(triton, demo, broken):
    """Every call of kserve_calls.py, by name."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("kserve_calls.py"), triton.http, triton.grpc, demo.http, broken.http],
        capture_output=True, text=True, timeout=3 * PATIENCE_S, check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "call, expected",
    [
        ("v2 live", True), ("v2 ready", True), ("v2 model ready", True), ("v2 model missing", False),
        ("v1 live", True), ("v1 model ready", True),
        ("v2 live but not ready", True), ("v2 model not ready", False),
        ("v1 live but not ready", True), ("v1 model not ready", False),
        ("grpc live", True), ("grpc ready", True), ("grpc model ready", True), ("grpc model missing", False),
    ],
)
def test_health_is_understood(results, call, expected):
    assert results[call] == expected


@pytest.mark.parametrize("call", ["v2 infer binary", "v2 infer json", "grpc infer raw", "grpc infer typed"])
def test_add_sub(results, call):
    assert results[call] == {"id": "k-1", "model": "add_sub_fp32", "outputs": SUM_AND_DIFFERENCE}


def test_outputs_are_chosen_and_plain_dicts_are_taken(results):
    only = {"OUTPUT1": SUM_AND_DIFFERENCE["OUTPUT1"]}
    assert results["v2 chosen output"] == {"id": "k-1", "model": "add_sub_fp32", "outputs": only}
    assert results["v2 dict"] == {"id": "k-1", "model": "add_sub_fp32", "outputs": SUM_AND_DIFFERENCE}


@pytest.mark.parametrize("model", VALUES)
@pytest.mark.parametrize("call", ["v2 {} binary", "v2 {} json", "grpc {} raw", "grpc {} typed"])
def test_types_come_back_as_they_went_in(results, call, model):
    assert results[call.format(model)] == VALUES[model]


def test_v1_predictions_equal_onnx_runtime(results):
    rows = np.array([[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]], np.float32)
    expected = ort("sklearn/iris_ml.onnx", X=rows)
    predictions = results["v1 predict"]["predictions"]
    assert [p["label"] for p in predictions] == expected["label"].tolist()
    np.testing.assert_allclose([p["probabilities"] for p in predictions], expected["probabilities"], rtol=1e-5)


def test_v1_takes_inputs_too(results):
    # The column form of TF Serving, which has the same route.
    labels = [prediction["label"] for prediction in results["v1 predict"]["predictions"]]
    assert results["v1 predict inputs"]["outputs"]["label"] == labels


def test_both_versions_list_the_models(triton, demo, broken):
    assert demo.get("/v1/models").json()["models"] == demo.get("/v2/models").json()["models"] == [
        "digits", "iris", "iris_ml", "strings"
    ]
    assert "wrong_rank" in broken.get("/v1/models").json()["models"]
    assert demo.get("/").json()["status"] == "alive"
    ready = demo.get("/v1/models/iris").json()
    assert (ready["name"], ready["ready"]) == ("iris", True) and ready["model_version_status"]
    assert triton.get("/v2/models/nobody/ready").status_code == 400


def test_v1_refusals_name_what_is_wrong(demo):
    for path, body, status in [
        ("/v1/models/iris:predict", b"{", 400), ("/v1/models/iris:predict", b'{"instances": 5}', 400),
        ("/v1/models/iris:predict", b"{}", 400), ("/v1/models/nobody:predict", b'{"instances": [1]}', 404),
        ("/v1/models/iris:explain", b'{"instances": [1]}', 501),
    ]:
        answer = demo.request("POST", path, body=body)
        assert answer.status == status and answer.json()["error"], answer.body


@pytest.mark.parametrize(
    "call, texts",
    [
        ("v2 unknown", ["404", "nobody"]), ("v1 model missing", ["404"]),
        ("v2 not ready", ["400"]), ("v1 unknown", ["404", "nobody"]), ("v1 explain", ["501"]), ("v1 bad", ["400"]),
    ],
)
def test_refusals_reach_the_client_with_their_reason(results, call, texts):
    error = results[call]["error"]
    assert error.startswith("HTTPStatusError")
    for text in texts:
        assert text in error


def test_grpc_says_that_a_model_is_unknown(results):
    assert "NOT_FOUND" in results["grpc unknown"]["error"] and "nobody" in results["grpc unknown"]["error"]
