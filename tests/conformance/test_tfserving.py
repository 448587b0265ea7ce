"""TF Serving's REST protocol, as its documentation has it, over folders of ONNX."""

import base64

import numpy as np
import pytest
from harness import DEMO, MODELS, ort

HALF = "/v1/models/half_plus_two"
DEMO_IRIS = DEMO / "iris" / "model.onnx"


def halves(version, *values):
    x = np.array(values, np.float32)
    return ort(f"tfserving/half_plus_two/{version}/model.onnx", x=x)["y"].tolist()


@pytest.mark.parametrize(
    "path, version",
    [(HALF, 2), (HALF + "/versions/1", 1), (HALF + "/versions/2", 2),
     (HALF + "/labels/stable", 1), (HALF + "/labels/can%61ry", 2)],
)
def test_predict_in_row_and_column_form_by_version_and_label(tfserving, path, version):
    expected = halves(version, 1.0, 2.0, 5.0)
    row = tfserving.post(path + ":predict", {"instances": [1.0, 2.0, 5.0]})
    assert row.status_code == 200, row.text
    assert row.json() == {"predictions": expected}
    column = tfserving.post(path + ":predict", {"inputs": [1.0, 2.0, 5.0]})
    assert column.json() == {"outputs": expected}
    named = tfserving.post(path + ":predict", {"inputs": {"x": [1.0, 2.0, 5.0]}})
    assert named.json() == {"outputs": expected}


def test_rows_may_name_their_single_input(tfserving):
    answer = tfserving.post(HALF + ":predict", {"instances": [{"x": 1.0}, {"x": 5.0}]})
    assert answer.json() == {"predictions": halves(2, 1, 5)}


def test_two_inputs_and_outputs_in_row_form(tfserving):
    rows = [{"a": 1.0, "b": [2.0, 3.0]}, {"b": [4, 5], "a": 10}]
    answer = tfserving.post("/v1/models/axpy:predict", {"instances": rows})
    assert answer.status_code == 200, answer.text
    expected = ort(
        "tfserving/axpy/1/model.onnx", a=np.array([1, 10], np.float32),
        b=np.array([[2, 3], [4, 5]], np.float32),
    )
    assert answer.json() == {
        "predictions": [
            {"sum": s, "diff": d}
            for s, d in zip(expected["sum"].tolist(), expected["diff"].tolist(), strict=True)
        ]
    }


def test_two_inputs_and_outputs_in_column_form(tfserving):
    answer = tfserving.post(
        "/v1/models/axpy:predict",
        {"inputs": {"a": [1, 10], "b": [[2, 3], [4, 5]], "unused": [1, 2]}},
    )
    assert answer.json() == {"outputs": {"sum": [[3, 4], [14, 15]], "diff": [[-1, -2], [6, 5]]}}


def test_no_batch_limit_applies(tfserving):
    values = [float(i) for i in range(500)]
    answer = tfserving.post(HALF + ":predict", {"instances": values})
    assert answer.json() == {"predictions": halves(2, *values)}


def test_whole_floats_keep_their_decimal_point(tfserving):
    answer = tfserving.post(HALF + ":predict", {"instances": [1000.0]})
    assert "503.0" in answer.text.replace(" ", "")


def test_not_a_number_and_infinity_are_tokens_both_ways(tfserving):
    answer = tfserving.request(
        "POST", HALF + ":predict", (), b'{"instances": [NaN, Infinity, -Infinity]}'
    )
    assert answer.status == 200, answer.text
    values = answer.json()["predictions"]
    assert np.isnan(values[0]) and values[1:] == [float("inf"), float("-inf")]


def test_base64_strings_go_in_and_outputs_named_bytes_come_out_so(tfserving):
    def b64(data: bytes):
        return {"b64": base64.b64encode(data).decode()}

    answer = tfserving.post("/v1/models/text_bytes:predict", {"instances": ["plain", b64("grüße".encode())]})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "predictions": [
            {"plain": "plain", "raw_bytes": b64(b"plain")},
            {"plain": "grüße", "raw_bytes": b64("grüße".encode())},
        ]
    }
    columns = tfserving.post("/v1/models/text_bytes:predict", {"inputs": {"text": [b64(b"x")]}})
    assert columns.json() == {"outputs": {"plain": ["x"], "raw_bytes": [b64(b"x")]}}


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json"])
def test_the_content_type_does_not_matter_and_the_path_has_no_case(tfserving, content_type):
    headers = [("Content-Type", content_type)] if content_type else []
    for path in (HALF + ":predict", "/V1/Models/half_plus_two:PREDICT", "/v1/models/half%5Fplus_two:predict"):
        answer = tfserving.request("POST", path, headers, b'{"instances": [1.0]}')
        assert answer.status == 200, answer.text


def test_the_default_signature_may_be_named(tfserving):
    answer = tfserving.post(HALF + ":predict", {"signature_name": "serving_default", "instances": [2.0]})
    assert answer.json() == {"predictions": halves(2, 2)}


def test_status_of_all_versions_and_of_one(tfserving):
    def status(version):
        return {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}

    everything = tfserving.get(HALF).json()
    assert sorted(everything["model_version_status"], key=lambda s: s["version"]) == [status("1"), status("2")]
    assert (everything["name"], everything["ready"]) == ("half_plus_two", True)
    assert tfserving.get(HALF + "/versions/1").json()["model_version_status"] == [status("1")]
    assert tfserving.get(HALF + "/labels/stable").json()["model_version_status"] == [status("1")]


def test_metadata_has_the_signature(tfserving):
    metadata = tfserving.get(HALF + "/metadata").json()
    assert metadata["model_spec"] == {"name": "half_plus_two", "signature_name": "", "version": "2"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
    shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    assert signature["inputs"]["x"]["tensor_shape"] == shape
    assert signature["outputs"]["y"]["tensor_shape"] == shape
    old = tfserving.get(HALF + "/versions/1/metadata").json()
    assert old["model_spec"]["version"] == "1"
    text = tfserving.get("/v1/models/text_bytes/metadata").json()
    signature = text["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["text"]["dtype"] == "DT_STRING"


@pytest.mark.parametrize(
    "path, body, status, text",
    [
        ("/v1/models/nobody:predict", {"instances": [1.0]}, 404, "Latest(nobody)"),
        (HALF + "/versions/9:predict", {"instances": [1.0]}, 404, "Specific(half_plus_two, 9)"),
        (HALF + "/labels/none:predict", {"instances": [1.0]}, 400, "Unrecognized servable version label: none"),
        (HALF + "/labels/none:regress", {"examples": [{"x": 1.0}]}, 400, "Unrecognized servable version label: none"),
        ("/v1/models/nobody:regress", {"examples": [{"x": 1.0}]}, 404, "Latest(nobody)"),
        (HALF + "/versions/9:classify", {"examples": [{"x": 1.0}]}, 404, "Specific(half_plus_two, 9)"),
        (HALF + ":regress", {}, 400, "no 'examples'"),
        (HALF + ":regress", {"examples": 1}, 400, "list of objects"),
        (HALF + ":regress", {"examples": []}, 400, "empty"),
        (HALF + ":regress", {"examples": [1.0]}, 400, "example 0"),
        (HALF + ":regress", {"examples": [{}]}, 400, "lacks the feature 'x'"),
        (HALF + ":regress", {"examples": [{"x": True}]}, 400, "'x'"),
        (HALF + ":regress", {"examples": [{"x": "1"}]}, 400, "'x'"),
        (HALF + ":regress", {"examples": [{"x": None}]}, 400, "'x'"),
        (HALF + ":regress", {"examples": [{"x": [[1.0]]}]}, 400, "'x'"),
        (HALF + ":regress", {"examples": [{"x": 1.0}, {"x": [1.0, 2.0]}]}, 400, "example 1"),
        (HALF + ":regress", {"examples": [{"x": 1.0}], "context": 3}, 400, "'context'"),
        (HALF + ":regress", {"examples": [{"x": 1.0}], "signature_name": "another"}, 400, "another"),
        (HALF + ":regress", {"examples": [{"x": 1.0}], "signature_name": 3}, 400, "must be a string"),
        (HALF + ":classify", {"examples": [{"x": 1.0}]}, 400, "cannot classify"),
        ("/v1/models/axpy:regress", {"examples": [{"a": 1.0, "b": [1, 2]}]}, 400, "cannot regress"),
        (HALF + "/versions/1/labels/stable:predict", {"instances": [1.0]}, 400, ""),
        (HALF + ":predict", {}, 400, ""),
        (HALF + ":predict", [1.0], 400, ""),
        (HALF + ":predict", {"instances": [1.0], "inputs": [1.0]}, 400, ""),
        (HALF + ":predict", {"instances": []}, 400, ""),
        (HALF + ":predict", {"instances": 1.0}, 400, ""),
        (HALF + ":predict", {"instances": [True]}, 400, ""),
        (HALF + ":predict", {"instances": ["1.0"]}, 400, ""),
        (HALF + ":predict", {"instances": [None]}, 400, ""),
        (HALF + ":predict", {"instances": [[1.0], [1.0, 2.0]]}, 400, ""),
        (HALF + ":predict", {"instances": [1.0, [1.0]]}, 400, ""),
        (HALF + ":predict", {"instances": [{"y": 1.0}]}, 400, ""),
        (HALF + ":predict", {"instances": [1.0], "signature_name": "another"}, 400, "another"),
        (HALF + ":predict", {"instances": [1.0], "signature_name": 3}, 400, ""),
        ("/v1/models/axpy:predict", {"instances": [{"a": 1.0}]}, 400, "b"),
        ("/v1/models/axpy:predict", {"instances": [{"a": 1.0, "b": [1, 2], "c": 3}]}, 400, "c"),
        ("/v1/models/axpy:predict", {"instances": [[1.0, 2.0]]}, 400, ""),
        ("/v1/models/axpy:predict", {"inputs": {"a": [1.0]}}, 400, "b"),
        ("/v1/models/axpy:predict", {"inputs": {"a": [1.0], "b": [[1, 2], [3, 4]]}}, 400, ""),
        ("/v1/models/axpy:predict", {"instances": [{"a": 1.0, "b": [1, 2, 3]}]}, 400, "b"),
        ("/v1/models/text_bytes:predict", {"instances": [{"b64": "###"}]}, 400, ""),
        ("/v1/models/text_bytes:predict", {"instances": [1]}, 400, ""),
    ],
)
def test_what_does_not_fit_is_refused(tfserving, path, body, status, text):
    answer = tfserving.post(path, body)
    assert answer.status_code in (status if isinstance(status, tuple) else (status,)), answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert text in answer.json()["error"]


def test_bodies_that_are_no_json_and_unknown_paths_are_refused(tfserving):
    assert tfserving.request("POST", HALF + ":predict", (), b"{").status == 400
    assert tfserving.request("POST", HALF + ":predict", (), b"").status == 400
    for method, path in (("POST", HALF + ":paint"), ("GET", HALF + ":predict")):
        answer = tfserving.request(method, path)
        assert answer.status == 400
        assert "Malformed request" in answer.json()["error"]
    assert tfserving.get("/v1/models/nobody").status_code == 404
    assert tfserving.get("/v1/models/nobody/metadata").status_code == 404


def test_regress_answers_a_number_for_each_example(tfserving):
    answer = tfserving.post(HALF + ":regress", {"examples": [{"x": 1.0}, {"x": [5], "unused": "text"}]})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"results": halves(2, 1, 5)}
    old = tfserving.post("/V1/models/half_plus_two/LABELS/stable:Regress", {"examples": [{"x": 1.0}]})
    assert old.json() == {"results": halves(1, 1)}
    default = {"signature_name": "serving_default", "examples": [{"x": 1000.0}]}
    assert "503.0" in tfserving.post(HALF + ":regress", default).text


def test_the_features_of_the_context_are_shared(tfserving):
    body = b'{"examples": [{}, {"x": 5.0}, {}], "context": {"x": 1.0}}'
    answer = tfserving.request("POST", HALF + ":regress", (), body)
    assert answer.json() == {"results": halves(2, 1, 5, 1)}


def test_classify_answers_labels_and_scores_in_the_models_order(demo):
    flower = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
    answer = demo.post("/v1/models/iris:classify", {"examples": [flower, {"X": [6.7, 3.0, 5.2, 2.3]}]})
    assert answer.status_code == 200, answer.text
    rows = np.array([list(flower.values()), [6.7, 3.0, 5.2, 2.3]], np.float32)
    scores = next(iter(o for o in ort(DEMO_IRIS, X=rows).values() if o.ndim == 2))
    results = answer.json()["results"]
    assert [[label for label, _ in row] for row in results] == [["setosa", "versicolor", "virginica"]] * 2
    np.testing.assert_allclose([[score for _, score in row] for row in results], scores, rtol=1e-5)


def test_a_deadline_that_passes_is_504(triton):
    values = triton.get("/v1/models/slow/metadata").json()["metadata"]["signature_def"]["signature_def"]["serving_default"]
    (name, given), = values["inputs"].items()
    dims = [abs(int(dim["size"])) for dim in given["tensor_shape"]["dim"]]
    answer = triton.post(
        "/v1/models/slow:predict", {"inputs": {name: np.zeros(dims, np.float32).tolist()}}, headers={"x-salver-timeout-ms": "1"}
    )
    assert answer.status_code == 504, answer.text
    assert "deadline" in answer.json()["error"]


def test_a_folder_without_config_serves_its_highest_version_only(start):
    server = start(MODELS / "tfserving" / "half_plus_two")
    assert server.post(HALF + ":predict", {"instances": [1.0]}).json() == {"predictions": halves(2, 1)}
    assert server.post(HALF + "/versions/1:predict", {"instances": [1.0]}).status_code == 404


def test_kserve_v1_names_on_the_same_routes(tfserving):
    assert sorted(tfserving.get("/v1/models").json()["models"]) == ["axpy", "half_plus_two", "text_bytes"]
    assert tfserving.get("/").json()["status"] == "alive"
    assert tfserving.post(HALF + ":explain", {"instances": [1.0]}).status_code == 501
