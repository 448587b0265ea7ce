"""What the contract says beside the v2 protocol, statement by statement, where no other test holds it.

Statistics, KServe v1, TF Serving by REST and gRPC, MLflow's scoring, `config.pbtxt`, and what hostile
input may not do.
"""

import base64
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from harness import MODELS, PATIENCE_S, model_file, ort
from tfserving_stubs import tf
from tritonclient.grpc import service_pb2, service_pb2_grpc
from workers import FLAGS, model

GRAPH = MODELS / model_file("add_sub_fp32")
HALF = MODELS / "tfserving" / "half_plus_two"
HALF_PATH = "/v1/models/half_plus_two"

HEAD = '<ir_version: 8, opset_import: ["" : 13]>\n'


def write_graph(path: Path, text: str) -> Path:
    """A model file from ONNX's own text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.parser.parse_model(HEAD + text), path)
    return path


def body(*rows, name="INPUT0", datatype="FP32", **more):
    data = np.array(rows)
    tensor = {"name": name, "shape": list(data.shape), "datatype": datatype, "data": data.reshape(-1).tolist()}
    return {"inputs": [tensor], **more}


def index(server):
    return {(e["name"], e.get("version", "")): e for e in server.post("/v2/repository/index", {}).json()}


def settled(server, names):
    """Waits until every one of these models serves or has failed."""

    def is_settled():
        states = {}
        for (name, _), entry in index(server).items():
            states.setdefault(name, set()).add(entry.get("state"))
        return all(states.get(name, {None}) <= {"READY", "UNAVAILABLE"} for name in names)

    server.until(is_settled, "done with loading")


# Statistics


@pytest.fixture(scope="module")
def counted(start):
    """A server whose counters only these tests move."""
    return start(MODELS / "triton")


def stats(server, model, version="1"):
    (entry,) = server.get(f"/v2/models/{model}/versions/{version}/stats").json()["model_stats"]
    return entry


DURATIONS = {
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
}


def assert_duration(value):
    assert value.keys() == {"count", "ns"}
    assert all(type(number) is int and number >= 0 for number in value.values()), value


def test_a_model_that_was_never_asked_has_all_counters_at_zero(counted):
    entry = stats(counted, "identity_uint32")
    zero = {"count": 0, "ns": 0}
    assert entry == {
        "name": "identity_uint32", "version": "1", "last_inference": 0, "inference_count": 0, "execution_count": 0,
        "inference_stats": dict.fromkeys(DURATIONS, zero), "response_stats": {}, "batch_stats": [], "memory_usage": [],
    }


def test_a_batch_is_counted_by_rows_executions_and_requests(counted):
    answer = counted.post("/v2/models/identity_int8/infer", body([1], [2], [3], [4], datatype="INT8"))
    assert answer.status_code == 200, answer.text
    entry = stats(counted, "identity_int8")
    assert (entry["inference_count"], entry["execution_count"]) == (4, 1)
    assert entry["inference_stats"].keys() == DURATIONS
    for name, value in entry["inference_stats"].items():
        assert_duration(value)
        assert value["count"] == (1 if name in {"success", "queue", "compute_input", "compute_infer", "compute_output"} else 0), name
    (batch,) = entry["batch_stats"]
    assert batch.keys() == {"batch_size", "compute_input", "compute_infer", "compute_output"}
    assert batch["batch_size"] == 4
    for name in ("compute_input", "compute_infer", "compute_output"):
        assert_duration(batch[name])
        assert batch[name]["count"] == 1


def test_what_is_refused_before_it_is_scheduled_moves_no_counter(counted):
    assert counted.post("/v2/models/add_sub_int32/infer", {"inputs": []}).status_code == 400
    before = stats(counted, "add_sub_int32")
    two = [body([0] * 16, name=name, datatype="INT32")["inputs"][0] for name in ("INPUT0", "INPUT1")]
    for refused in (
        {"inputs": two[:1]}, {"inputs": [*two, two[0]]}, {"inputs": two, "outputs": [{"name": "NONE"}]},
        {"inputs": [two[0], {**two[1], "datatype": "FP32"}]}, {"inputs": [two[0], {**two[1], "shape": [16]}]},
        {"inputs": [{**one, "shape": [9, 16], "data": [0] * 144} for one in two]}, {"inputs": two, "parameters": {"priority": -1}},
    ):
        assert counted.post("/v2/models/add_sub_int32/infer", refused).status_code == 400
    assert counted.request("POST", "/v2/models/add_sub_int32/infer", (), b"{").status == 400
    assert counted.post("/v2/models/add_sub_int32/versions/9/infer", {"inputs": two}).status_code == 404
    assert stats(counted, "add_sub_int32") == before
    assert counted.post("/v2/models/add_sub_int32/infer", {"inputs": two}).status_code == 200
    assert stats(counted, "add_sub_int32")["inference_stats"]["success"]["count"] == 1


def test_versions_are_counted_apart(counted):
    for version in ("2", "2", "1"):
        assert counted.post(f"/v2/models/two_versions/versions/{version}/infer", body([0] * 4)).status_code == 200
    entries = counted.get("/v2/models/two_versions/stats").json()["model_stats"]
    assert {e["version"]: e["inference_stats"]["success"]["count"] for e in entries} == {"1": 1, "2": 2}


# KServe v1


def test_a_model_that_was_unloaded_is_not_ready_in_v1(start, repository):
    server = start(repository("identity_fp32"), "--model-control", "explicit", "--load-model", "identity_fp32")
    assert server.get("/v1/models/identity_fp32").json()["ready"] is True
    server.post("/v2/repository/models/identity_fp32/unload")
    server.until(lambda: server.get("/v1/models/identity_fp32").status_code == 503, "without the model")
    assert server.get("/v1/models/identity_fp32").json()["ready"] is False
    server.stop()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_v1_has_no_other_methods(tfserving, method):
    for path in ("/v1/models", HALF_PATH, HALF_PATH + ":predict"):
        answer = tfserving.request(method, path)
        assert answer.status == 400
        assert answer.json() == {"error": f"Malformed request: {method} {path}"}


# TF Serving, REST


@pytest.mark.parametrize("method, path", [
    ("GET", HALF_PATH + ":predict"), ("GET", HALF_PATH + ":classify"), ("POST", HALF_PATH), ("POST", HALF_PATH + "/metadata"),
    ("POST", HALF_PATH + ":paint"), ("POST", HALF_PATH + "/versions/1/labels/stable:predict"),
    ("GET", HALF_PATH + "/versions/1/labels/stable"), ("GET", HALF_PATH + "/labels/stable/versions/1/metadata"),
    ("GET", HALF_PATH + "/versions/one"), ("GET", "/v1/nothing"), ("GET", HALF_PATH + "/versions"),
])
def test_what_no_path_of_theirs_means_is_malformed(tfserving, method, path):
    answer = tfserving.request(method, path)
    assert answer.status == 400, answer.text
    assert answer.json() == {"error": f"Malformed request: {method} {path}"}


@pytest.mark.parametrize("tail", ["", "/metadata", ":predict", ":classify", ":regress"])
def test_unknown_models_and_versions_are_404_in_their_words_everywhere(tfserving, tail):
    def ask(model):
        path = f"/v1/models/{model}{tail}"
        return tfserving.post(path, {"instances": [1.0]}) if tail.startswith(":") else tfserving.get(path)

    for model, named in (("nobody", "Latest(nobody)"), ("half_plus_two/versions/9", "Specific(half_plus_two, 9)")):
        answer = ask(model)
        assert answer.status_code == 404
        assert answer.json() == {"error": f"Servable not found for request: {named}"}
    assert ask("half_plus_two/labels/none").status_code == 400
    assert "none" in ask("half_plus_two/labels/none").json()["error"]


@pytest.mark.parametrize("part, version", [("versions/1", "1"), ("versions/02", "2"), ("labels/stable", "1"), ("LABELS/canar%79", "2")])
def test_versions_and_labels_lead_to_metadata_too(tfserving, part, version):
    assert tfserving.get(f"{HALF_PATH}/{part}/metadata").json()["model_spec"]["version"] == version


def test_the_whole_metadata(tfserving):
    def tensor(name):
        shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
        return {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": f"{name}:0"}

    signature = {"inputs": {"x": tensor("x")}, "outputs": {"y": tensor("y")}, "method_name": "tensorflow/serving/predict"}
    assert tfserving.get(HALF_PATH + "/metadata").json() == {
        "model_spec": {"name": "half_plus_two", "signature_name": "", "version": "2"},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }


@pytest.mark.parametrize("rows", [[1.0, {"x": 1.0}], [{"x": 1.0}, 1.0], [{"x": 1.0}, [1.0]], [[1.0], {"x": 1.0}]])
def test_objects_and_values_do_not_mix(tfserving, rows):
    answer = tfserving.post(HALF_PATH + ":predict", {"instances": rows})
    assert answer.status_code == 400 and answer.json()["error"]


@pytest.mark.parametrize("value", [{"b64": 3}, {"b64": "eA==", "x": 1}, {"b64": "e"}, {"b64": "eA?="}, {"base64": "eA=="}, {}])
def test_a_byte_string_is_one_key_with_good_base64(tfserving, value):
    answer = tfserving.post("/v1/models/text_bytes:predict", {"instances": [value]})
    assert answer.status_code == 400 and answer.json()["error"]


@pytest.mark.parametrize("model, good, bad", [
    ("identity_int32", 1, [1.0, 1.5, 1e3, True, "1", None, 2**31]), ("identity_fp32", 1, [True, "1", None]),
    ("identity_bool", True, [1, 0, "true", None, 1.0]), ("identity_bytes", "a", [1, 1.5, True, None]),
])
def test_nothing_is_converted(triton, model, good, bad):
    path = f"/v1/models/{model}:predict"
    assert triton.post(path, {"instances": [[good]]}).json() == {"predictions": [[good]]}
    for value in bad:
        for form in ({"instances": [[value]]}, {"inputs": [[value]]}):
            answer = triton.post(path, form)
            assert answer.status_code == 400 and "INPUT0" in answer.json()["error"], value


VALUES = [502.0, 0.1, 1 / 3, 16777216.0, 1e-45, 3.4028234663852886e38, 1e20, -0.0, 123456.789]


@pytest.mark.parametrize("model, dtype", [("identity_fp32", np.float32), ("identity_fp64", np.float64)])
def test_floats_are_the_shortest_text_that_reads_back(triton, model, dtype):
    answer = triton.post(f"/v1/models/{model}:predict", {"instances": [VALUES]})
    tokens = re.search(r"\[\[(.*)\]\]", answer.text.replace(" ", ""))[1].split(",")
    assert len(tokens) == len(VALUES)

    def digits(text):
        return re.split("[eE]", text)[0].replace("-", "").replace(".", "").strip("0")

    for token, value in zip(tokens, np.array(VALUES, dtype), strict=True):
        assert re.fullmatch(r"-?\d+(\.\d+|(\.\d+)?[eE][+-]?\d+)", token), token
        assert dtype(token) == value and np.signbit(dtype(token)) == np.signbit(value)
        assert digits(token) == digits(np.format_float_scientific(value, unique=True)), token


@pytest.fixture(scope="module")
def made(start, tmp_path_factory):
    """Graphs that the test models lack, in TF Serving's folders."""
    base = tmp_path_factory.mktemp("made")
    graphs = {
        "unlabelled": "g (float[n,2] x) => (float[n,2] scores) { scores = Identity(x) }",
        "uneven": "g (float[n] x) => (float[n] y, float[1] total) { y = Identity(x) total = ReduceSum(x) }",
        "columns": "g (double[n,1] a, double[n,1] b) => (double[n,1] y) { y = Add(a, b) }",
        "flower": "g (float[n,2] x) => (string[n,2] classes, float[n,2] scores) "
                  "{ scores = Identity(x) s = Shape(x) "
                  'names = Constant<value: tensor = string[1,2] {"no", "yes"}>() classes = Expand(names, s) }',
        "words": "g (string[n] word) => (string[n] outputs) { outputs = Identity(word) }",
    }
    folders = [write_graph(base / name / "1" / "model.onnx", text).parent.parent for name, text in graphs.items()]
    shutil.copytree(MODELS / "triton" / "reshaped", base / "reshaped")
    return start(*folders, base / "reshaped")


def test_rows_need_outputs_of_the_same_batch_size(made):
    columns = made.post("/v1/models/uneven:predict", {"inputs": [1.0, 2.0]})
    assert columns.json() == {"outputs": {"y": [1.0, 2.0], "total": [3.0]}}
    rows = made.post("/v1/models/uneven:predict", {"instances": [1.0, 2.0]})
    assert rows.status_code == 400, rows.text
    assert rows.json()["error"]


def test_classes_without_labels_are_empty_texts_in_the_models_order(made):
    answer = made.post("/v1/models/unlabelled:classify", {"examples": [{"x": [0.25, 0.75]}, {"x": [3.0, -1.0]}]})
    assert answer.json() == {"results": [[["", 0.25], ["", 0.75]], [["", 3.0], ["", -1.0]]]}


def test_outputs_called_classes_and_scores_make_the_classification(made):
    answer = made.post("/v1/models/flower:classify", {"examples": [{"x": [0.25, 0.75]}], "context": {"x": [5.0, 6.0]}})
    assert answer.json() == {"results": [[["no", 0.25], ["yes", 0.75]]]}


def test_scores_take_the_labels_of_a_file(triton):
    answer = triton.post("/v1/models/labelled:classify", {"examples": [{"INPUT0": [0.25, 5.0, -1.0]}]})
    assert answer.json() == {"results": [[["ant", 0.25], ["bee", 5.0], ["cat", -1.0]]]}


def test_a_regression_may_have_a_dimension_of_one(made):
    answer = made.post("/v1/models/reshaped:regress", {"examples": [{"INPUT0": 2.0}, {"INPUT0": [5.0]}]})
    assert answer.json() == {"results": [6.0, 15.0]}


@pytest.mark.parametrize("model, named", [
    ("flower:regress", "'scores'"), ("words:regress", "'words' cannot regress"), ("uneven:regress", "'uneven' cannot regress"),
    ("words:classify", "'words' cannot classify"), ("uneven:classify", "'uneven' cannot classify"),
])
def test_only_what_fits_is_a_classification_or_a_regression(made, model, named):
    """A regression is one number for each row."""
    example = {"word": "a", "x": [1.0, 2.0] if model.startswith("flower") else 1.0}
    answer = made.post(f"/v1/models/{model}", {"examples": [example]})
    assert answer.status_code == 400
    assert named in answer.json()["error"]


@pytest.mark.parametrize("sent, text", [
    ({}, "examples"), ({"examples": {}}, "examples"), ({"examples": []}, "empty"), ({"examples": [[1.0]]}, "example 0"),
    ({"examples": [None]}, "example 0"), ({"examples": [{"x": [1.0]}]}, "'x'"), ({"examples": [{"x": "a"}]}, "'x'"),
    ({"examples": [{}]}, "'x'"), ({"examples": [{"x": [1.0, 2.0]}], "signature_name": "other"}, "other"),
    ({"examples": [{"x": [1.0, 2.0]}], "context": []}, "'context'"), ([], ""),
])
def test_examples_to_classify_that_do_not_fit_are_refused(made, sent, text):
    answer = made.post("/v1/models/flower:classify", sent)
    assert answer.status_code == 400
    assert text in answer.json()["error"]


def test_scores_that_are_no_finite_numbers_are_tokens_both_ways(made):
    sent = b'{"examples": [{"x": [NaN, Infinity]}, {"x": [-Infinity, 1.0]}]}'
    answer = made.request("POST", "/v1/models/unlabelled:classify", (), sent)
    assert "NaN" in answer.text and "-Infinity" in answer.text
    (nan, high), (low, one) = answer.json()["results"]
    assert np.isnan(nan[1]) and (high[1], low[1], one[1]) == (float("inf"), float("-inf"), 1.0)


@pytest.fixture(scope="module")
def failing(start):
    server = start(MODELS / "broken" / "triton", "--log-level", "off", ready=False)
    settled(server, ["wrong_rank", "good"])
    return server


def test_a_version_that_did_not_load_has_ended_with_its_reason(failing):
    answer = failing.get("/v1/models/wrong_rank")
    assert answer.status_code == 503
    (status,) = answer.json()["model_version_status"]
    assert (status["version"], status["state"]) == ("1", "END")
    assert status["status"]["error_code"] != "OK" and "INPUT0" in status["status"]["error_message"]
    reply = tf.ModelServiceStub(grpc.insecure_channel(failing.grpc)).GetModelStatus(
        tf.GetModelStatusRequest(model_spec=tf.ModelSpec(name="wrong_rank")), timeout=PATIENCE_S
    )
    (found,) = reply.model_version_status
    assert (found.version, found.state) == (1, tf.ModelVersionStatus.END)
    assert found.status.error_code != 0 and "INPUT0" in found.status.error_message


def test_a_model_that_failed_to_load_is_unavailable_to_predict(failing):
    answer = failing.post("/v1/models/wrong_rank:predict", {"instances": [1.0]})
    assert answer.status_code == 503, answer.text
    assert "wrong_rank" in answer.json()["error"]


def crowd(ask, count=24):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def test_a_full_queue_is_429_here(start):
    server = start(MODELS / "triton" / "slow", "--max-queue", "1")
    answers = crowd(lambda _: server.post("/v1/models/slow:predict", {"instances": [[1.0]]}))
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(answer.json()["error"] for answer in answers if answer.status_code == 429)
    server.stop()


# TF Serving, folders and models.config


def versions_of(tmp_path, *versions):
    for version in versions:
        shutil.copytree(HALF / "2", tmp_path / "m" / version)
    return tmp_path / "m"


def test_versions_may_have_leading_zeros_and_no_batch_limit_applies(start, tmp_path):
    folder = versions_of(tmp_path, "0003", "0012", "notes")
    (folder / "notes" / "model.onnx").write_bytes(b"no model")
    server = start(folder)
    status = server.get("/v1/models/m").json()["model_version_status"]
    assert [one["version"] for one in status] == ["12"]
    assert server.get("/v1/models/m/versions/3").status_code == 404
    rows = list(range(500))
    assert server.post("/v1/models/m/versions/012:predict", {"instances": rows}).json()["predictions"] == [x / 2 + 3 for x in rows]
    server.stop()


@pytest.mark.parametrize("policy, served", [
    ("", ["3"]), ("model_version_policy { latest { num_versions: 2 } }", ["3", "2"]), ("model_version_policy { all { } }", ["3", "2", "1"]),
    ("model_version_policy: { specific: { versions: 1, versions: 3 } }", ["3", "1"]),
])
@pytest.mark.parametrize("platform", ["", 'model_platform: "onnx"'])
def test_the_policies_of_a_config_list(start, tmp_path, policy, served, platform):
    folder = versions_of(tmp_path, "1", "2", "3")
    config = tmp_path / "models.config"
    config.write_text(f"""# two models
      model_config_list: {{ config: {{ name: 'a', base_path: "{folder}" {platform} {policy} version_labels {{ key: "top" value: 3 }} }}
      config {{ name: "b"; base_path: "m" }} }}""")
    server = start(config)
    assert [one["version"] for one in server.get("/v1/models/a").json()["model_version_status"]] == served
    assert server.get("/v1/models/b").json()["ready"] is True
    assert server.get("/v1/models/a/labels/top/metadata").json()["model_spec"]["version"] == "3"
    server.stop()


# TF Serving, gRPC


class Client:
    def __init__(self, address):
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(address, options=options)
        self.prediction = tf.PredictionServiceStub(self.channel)
        self.models = tf.ModelServiceStub(self.channel)


@pytest.fixture(scope="module")
def half(tfserving):
    return Client(tfserving.grpc)


def spec(name="half_plus_two", version=None, label=None, signature=""):
    out = tf.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        out.version.value = version
    if label is not None:
        out.version_label = label
    return out


def floats(*values, **more):
    dims = [tf.TensorShapeProto.Dim(size=len(values))]
    return tf.TensorProto(dtype=tf.DataType.Value("DT_FLOAT"), tensor_shape=tf.TensorShapeProto(dim=dims), float_val=values, **more)


def predicting(model_spec, **inputs):
    request = tf.PredictRequest(model_spec=model_spec)
    for name, tensor in inputs.items():
        request.inputs[name].CopyFrom(tensor)
    return request


def example(**features):
    out = tf.Example()
    for name, values in features.items():
        feature = out.features.feature[name]
        kinds = {bytes: feature.bytes_list, float: feature.float_list, int: feature.int64_list}
        kinds[type(values[0])].value.extend(values)
    return out


def about(request, *examples):
    """The request with these examples."""
    request.input.example_list.SetInParent()
    request.input.example_list.examples.extend(examples)
    return request


def refused(call, request, code, text):
    with pytest.raises(grpc.RpcError) as error:
        call(request, timeout=PATIENCE_S)
    assert error.value.code() == grpc.StatusCode[code], error.value.details()
    assert text in error.value.details(), error.value.details()


GOOD_EXAMPLES = [example(x=[1.0, 2.0])]


@pytest.mark.parametrize("model_spec, given, code, text", [
    (None, GOOD_EXAMPLES, "INVALID_ARGUMENT", "Missing ModelSpec"),
    (spec(""), GOOD_EXAMPLES, "INVALID_ARGUMENT", "no name specified"),
    (spec("nobody"), GOOD_EXAMPLES, "NOT_FOUND", "Latest(nobody)"),
    (spec("flower", version=7), GOOD_EXAMPLES, "NOT_FOUND", "Specific(flower, 7)"),
    (spec("flower", label="none"), GOOD_EXAMPLES, "INVALID_ARGUMENT", "Unrecognized servable version label: none"),
    (spec("flower", signature="z"), GOOD_EXAMPLES, "INVALID_ARGUMENT", "z"),
    (spec("flower"), [], "INVALID_ARGUMENT", "Input is empty"),
    (spec("flower"), [example(y=[1.0, 2.0])], "INVALID_ARGUMENT", "lacks the feature 'x'"),
    (spec("flower"), [tf.Example()], "INVALID_ARGUMENT", "lacks the feature 'x'"),
    (spec("flower"), [example(x=[b"1", b"2"])], "INVALID_ARGUMENT", "feature 'x'"),
    (spec("flower"), [example(x=[1.0])], "INVALID_ARGUMENT", "'x'"),
    (spec("flower"), [example(x=[1.0, 2.0]), example(x=[1.0, 2.0, 3.0])], "INVALID_ARGUMENT", "example 1"),
    (spec("words"), [example(word=[b"a"])], "INVALID_ARGUMENT", "cannot classify"),
], ids=["no spec", "no name", "model", "version", "label", "signature", "no examples", "unknown feature", "no features", "type", "short", "ragged", "no classes"])
@pytest.mark.parametrize("method", ["Classify", "MultiInference"])
def test_classifications_that_do_not_fit_are_refused(made, method, model_spec, given, code, text):
    stub = Client(made.grpc).prediction
    if method == "Classify":
        request = about(tf.ClassificationRequest(model_spec=model_spec), *given)
    else:
        task = tf.InferenceTask(model_spec=model_spec, method_name="tensorflow/serving/classify")
        request = about(tf.MultiInferenceRequest(tasks=[task]), *given)
    refused(getattr(stub, method), request, code, text)


@pytest.mark.parametrize("model_spec, code, text", [
    (None, "INVALID_ARGUMENT", "Missing ModelSpec"), (spec(version=9), "NOT_FOUND", "Specific(half_plus_two, 9)"),
    (spec(label="none"), "INVALID_ARGUMENT", "Unrecognized servable version label: none"),
    (spec("text_bytes"), "INVALID_ARGUMENT", "cannot regress"),
])
def test_regressions_of_what_is_not_there_are_refused(half, model_spec, code, text):
    request = about(tf.RegressionRequest(model_spec=model_spec), example(x=[1.0], text=[b"a"]))
    refused(half.prediction.Regress, request, code, text)


@pytest.mark.parametrize("kind", ["none", "empty", "context only"])
@pytest.mark.parametrize("method", ["Classify", "Regress"])
def test_an_input_without_examples_is_empty(made, method, kind):
    request = {"Classify": tf.ClassificationRequest, "Regress": tf.RegressionRequest}[method]()
    request.model_spec.name = "flower" if method == "Classify" else "reshaped"
    if kind == "empty":
        request.input.SetInParent()
    if kind == "context only":
        request.input.example_list_with_context.context.CopyFrom(example(x=[1.0, 2.0], INPUT0=[1.0]))
    refused(getattr(Client(made.grpc).prediction, method), request, "INVALID_ARGUMENT", "Input is empty")


def test_several_questions_are_answered_in_their_order(start):
    """A model with one score for each row, so that both questions have an answer."""
    server = start(MODELS / "triton" / "reshaped")
    tasks = [tf.InferenceTask(model_spec=spec("reshaped"), method_name=f"tensorflow/serving/{m}") for m in ("regress", "classify")]
    request = about(tf.MultiInferenceRequest(tasks=tasks), example(INPUT0=[2.0]), example(INPUT0=[5.0]))
    first, second = Client(server.grpc).prediction.MultiInference(request, timeout=PATIENCE_S).results
    assert [one.value for one in first.regression_result.regressions] == [6.0, 15.0]
    assert [[c.score for c in row.classes] for row in second.classification_result.classifications] == [[6.0], [15.0]]
    server.stop()


@pytest.mark.parametrize("model_spec, code, text", [
    (None, "INVALID_ARGUMENT", "Missing ModelSpec"), (spec(""), "INVALID_ARGUMENT", "no name specified"),
    (spec("nobody"), "NOT_FOUND", "Latest(nobody)"), (spec(version=9), "NOT_FOUND", "Specific(half_plus_two, 9)"),
    (spec(label="none"), "INVALID_ARGUMENT", "Unrecognized servable version label: none"), (spec("../x"), "INVALID_ARGUMENT", ""),
])
def test_metadata_of_what_is_not_there(half, model_spec, code, text):
    request = tf.GetModelMetadataRequest(model_spec=model_spec, metadata_field=["signature_def"])
    refused(half.prediction.GetModelMetadata, request, code, text)


@pytest.mark.parametrize("version, label, expected", [(1, None, 1), (None, "canary", 2)])
def test_metadata_by_version_and_label(half, version, label, expected):
    request = tf.GetModelMetadataRequest(model_spec=spec(version=version, label=label), metadata_field=["signature_def"])
    assert half.prediction.GetModelMetadata(request, timeout=PATIENCE_S).model_spec.version.value == expected


@pytest.mark.parametrize("fields, expected", [(b"\x12\x02\x08\x01\x22\x06canary", 2), (b"\x22\x06canary\x12\x02\x08\x01", 1)])
def test_of_a_version_and_a_label_the_last_one_counts(half, fields, expected):
    """They exclude each other in a message, so only bytes made by hand have both; protobuf takes the last."""
    model_spec = b"\x0a\x0dhalf_plus_two" + fields
    rest = predicting(None, x=floats(1.0)).SerializeToString()
    message = b"\x0a" + bytes([len(model_spec)]) + model_spec + rest
    call = half.channel.unary_unary("/tensorflow.serving.PredictionService/Predict", response_deserializer=tf.PredictResponse.FromString)
    assert call(message, timeout=PATIENCE_S).model_spec.version.value == expected


def test_a_shape_of_very_many_dimensions_is_refused(half):
    shape = tf.TensorShapeProto(dim=[tf.TensorShapeProto.Dim(size=1)] * 100_000)
    tensor = tf.TensorProto(dtype=tf.DataType.Value("DT_FLOAT"), tensor_shape=shape, float_val=[1.0])
    refused(half.prediction.Predict, predicting(spec(), x=tensor), "INVALID_ARGUMENT", "dimensions")


NO_MODEL_TAKES = {"complex": 8, "quantized": 11, "resource": 20, "variant": 21, "8-bit float": 24, "reference": 101, "none": 9999}


@pytest.mark.parametrize("dtype", NO_MODEL_TAKES)
def test_types_that_no_model_takes_are_refused(half, dtype):
    tensor = floats(1.0)
    tensor.dtype = NO_MODEL_TAKES[dtype]
    refused(half.prediction.Predict, predicting(spec(), x=tensor), "INVALID_ARGUMENT", "x")


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_calls_may_be_compressed_and_large(half, compression):
    values = np.arange(2_000_000, dtype=np.float32)
    tensor = floats()
    tensor.tensor_shape.dim[0].size = len(values)
    tensor.tensor_content = values.tobytes()
    reply = half.prediction.Predict(predicting(spec(), x=tensor), timeout=PATIENCE_S, compression=compression)
    np.testing.assert_array_equal(np.array(reply.outputs["y"].float_val, np.float32), values / 2 + 3)


def test_a_full_queue_is_resource_exhausted_here(start):
    server = start(MODELS / "triton" / "slow", "--max-queue", "1")
    client = Client(server.grpc)
    tensor = floats(1.0)
    tensor.tensor_shape.dim.add(size=1)
    calls = [client.prediction.Predict.future(predicting(spec("slow"), INPUT0=tensor), timeout=PATIENCE_S) for _ in range(24)]
    assert {call.code() for call in calls} == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    server.stop()


@pytest.mark.announced_errors("'bad'")
def test_a_list_with_a_model_that_does_not_load_fails_and_the_others_serve(start, tmp_path):
    base = tmp_path / "models"
    shutil.copytree(HALF, base / "good")
    (base / "bad" / "1").mkdir(parents=True)
    (base / "bad" / "1" / "model.onnx").write_bytes(b"no model")
    (tmp_path / "models.config").write_text('model_config_list { config { name: "first" base_path: "models/good" } }')
    server = start(tmp_path / "models.config", "--reload-config-from", base)
    client = Client(server.grpc)

    def reload(**models):
        request = tf.ReloadConfigRequest()
        for name, platform in models.items():
            request.config.model_config_list.config.add(name=name, base_path=name, model_platform=platform)
        return request

    refused(client.models.HandleReloadConfigRequest, reload(good="tensorflow"), "UNIMPLEMENTED", "model_platform")
    assert server.get("/v1/models/first").json()["ready"] is True, "nothing has changed"
    with pytest.raises(grpc.RpcError) as error:
        client.models.HandleReloadConfigRequest(reload(good="onnx", bad=""), timeout=PATIENCE_S)
    assert "bad" in error.value.details()
    assert client.prediction.Predict(predicting(spec("good"), x=floats(1.0)), timeout=PATIENCE_S).model_spec.version.value == 2
    server.stop()


# MLflow's scoring server


def invoke(server, sent, content_type="application/json"):
    data = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    return server.request("POST", "/invocations", [("Content-Type", content_type)], data)


@pytest.fixture(scope="module", params=["columns", "flat"])
def scored(request, start, tmp_path_factory):
    """`y = 2a + 3b`, of one value for each row; the graph takes `[rows, 1]` or `[rows]`."""
    name = request.param
    shape = "n,1" if name == "columns" else "n"
    text = f"""g (double[{shape}] a, double[{shape}] b) => (double[{shape}] y)
      {{ two = Constant<value: tensor = double {{2.0}}>() three = Constant<value: tensor = double {{3.0}}>()
         c = Mul(a, two) d = Mul(b, three) y = Add(c, d) }}"""
    path = write_graph(tmp_path_factory.mktemp("scored") / name / "1" / "model.onnx", text)
    return start(path.parent.parent)


@pytest.fixture(scope="module")
def whole(start):
    """One input of four values for each row."""
    return start(MODELS / "sklearn" / "iris_ml.onnx")


ROWS = [[1, 4], [4.0, 8]]
RECORDS = [{"a": 1, "b": 4}, {"a": 4.0, "b": 8}]


@pytest.mark.parametrize("sent", [
    {"dataframe_split": {"columns": ["a", "b"], "data": ROWS}}, {"dataframe_records": RECORDS}, {"instances": RECORDS},
    {"inputs": {"b": [4, 8], "a": [1, 4.0]}}, b"b,a\r\n4,1\r\n8,4.0\r\n", b'"a","b"\n"1",4\n4,"8"\n',
])
def test_columns_feed_inputs_of_one_value_a_row(scored, sent):
    answer = invoke(scored, sent, "text/csv" if isinstance(sent, bytes) else "application/json")
    assert answer.text.replace(" ", "") == '{"predictions":[{"y":14.0},{"y":32.0}]}'


@pytest.mark.parametrize("sent", [
    {"dataframe_split": {"columns": ["a", "b"], "data": []}}, {"dataframe_records": []}, {"instances": []},
    {"inputs": {"a": [], "b": []}}, b"a,b\n",
], ids=["split", "records", "instances", "inputs", "csv"])
def test_no_rows_give_no_predictions_in_every_form(scored, sent):
    answer = invoke(scored, sent, "text/csv" if isinstance(sent, bytes) else "application/json")
    assert (answer.status, answer.json()) == (200, {"predictions": []})


@pytest.mark.parametrize("sent", [
    {"dataframe_split": {"columns": list("wxyz"), "data": []}}, {"dataframe_records": []}, {"instances": []}, {"inputs": []},
], ids=["split", "records", "instances", "inputs"])
def test_no_rows_give_no_predictions_of_a_model_that_takes_whole_frames_either(whole, sent):
    answer = invoke(whole, sent)
    assert (answer.status, answer.json()) == (200, {"predictions": []})


@pytest.mark.parametrize("sent, text", [
    ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3]]}}, "row 1"),
    ({"dataframe_split": {"columns": ["a", "b"], "data": [[1], [3]]}}, "row 0"),
    ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2, 3]]}}, "row 0"),
    ({"dataframe_split": {"columns": ["a", "b", "a"], "data": [[1, 2, 3]]}}, "'a'"),
    ({"dataframe_records": [{"a": 1, "b": 2}, {"a": 1}]}, "'b'"), ({"inputs": {"a": [1], "b": [1, 2]}}, "'"),
    ({"inputs": {"a": [1]}}, "'b'"), ({"inputs": [[1, 2]]}, "2 inputs"), (RECORDS, "object"),
    ({"instances": RECORDS, "dataframe_records": RECORDS}, "exactly one"), ({"params": {}}, "none"),
    (b"a,b\n1\n", "CSV"), (b"a,b\n1,2,3\n", "CSV"), (b'a,b\n"1,2\n', "quotes"), (b"", "empty"), (b"a\n1\n", "'b'"),
    (b"a,b\nx,1\n", "'a'"), (b"a,a\n1,2\n", "twice"),
])
def test_frames_that_do_not_hold_together_are_refused(scored, sent, text):
    answer = invoke(scored, sent, "text/csv" if isinstance(sent, bytes) else "application/json")
    assert answer.status == 400, answer.text
    assert answer.json()["error_code"] == "BAD_REQUEST" and text in answer.json()["message"], answer.text


@pytest.mark.parametrize("index", [[5], [5, 5], [1, 2, 3, 4], "none"])
def test_the_index_of_a_frame_is_not_looked_at(scored, index):
    answer = invoke(scored, {"dataframe_split": {"columns": ["a", "b"], "data": ROWS, "index": index}})
    assert answer.json() == {"predictions": [{"y": 14.0}, {"y": 32.0}]}


@pytest.mark.parametrize("content_type", [
    "application/json; charset=utf-8; version=1", "text/csv; charset=utf-16", "text/csv; header=present", "application/vnd.apache.parquet",
    "application/json, text/csv", "", "multipart/form-data; boundary=x",
])
def test_no_other_type_and_no_other_parameter_is_taken(scored, content_type):
    answer = invoke(scored, {"dataframe_records": RECORDS}, content_type)
    assert answer.status == 415
    assert answer.headers["content-type"].startswith("text/plain")


def test_the_version_is_bare_text(scored):
    assert re.fullmatch(r"\d+\.\d+\.\d+", scored.get("/version").text)


def test_of_several_models_one_has_to_be_named(start):
    server = start(MODELS / "triton" / "identity_fp32", MODELS / "triton" / "reshaped")
    answer = invoke(server, {"inputs": [[1.0]]})
    assert answer.status == 404 and "--default-model" in answer.json()["message"]
    server.stop()


# config.pbtxt: copies of one model with other configurations

IO = """input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 16 ] }, { name: "INPUT1" data_type: TYPE_FP32 dims: [ 16 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 16 ] }, { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ 16 ] } ]
"""
EIGHT = "max_batch_size: 8\n" + IO


def io(**changes):
    """The usual inputs and outputs, each line of a name with something added or changed."""
    text = EIGHT
    for name, change in changes.items():
        text = re.sub(rf'(name: "{name}" data_type: TYPE_FP32) dims: \[ 16 \]', lambda _, c=change: f'name: "{name}" {c}', text)
    return text


def warmup(data, name="INPUT0", dims="16", dtype="TYPE_FP32"):
    other = "INPUT1 INPUT0".split()[name == "INPUT1"]
    inputs = "".join(f'inputs {{ key: "{key}" value {{ data_type: {dtype} dims: {dims} {data} }} }} ' for key in {name, other})
    return f'{EIGHT} model_warmup [ {{ name: "w" batch_size: 2 {inputs} }} ]'


REFUSED = {
    "backend": (f'backend: "python"\n{EIGHT}', "backend 'python'"),
    "torch": (f'platform: "pytorch_libtorch"\n{EIGHT}', "platform 'pytorch_libtorch'"),
    "ensemble": ('platform: "ensemble" ensemble_scheduling { step { model_name: "a" model_version: -1 } }', "ensemble"),
    "steps": (EIGHT + 'ensemble_scheduling { step { model_name: "a" model_version: -1 } }', "ensemble_scheduling"),
    "decoupled": (EIGHT + "model_transaction_policy { decoupled: true }", "decoupled"),
    "batch_input": (EIGHT + 'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "INPUT1" data_type: TYPE_FP32 source_input: "INPUT0" }', "batch_input"),
    "batch_output": (EIGHT + 'batch_output { target_name: "OUTPUT0" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "INPUT0" }', "batch_output"),
    "negative_batch": ("max_batch_size: -1\n" + IO, "max_batch_size"),
    "preferred_zero": (EIGHT + "dynamic_batching { preferred_batch_size: [ 0 ] }", "preferred_batch_size"),
    "preferred_nine": (EIGHT + "dynamic_batching { preferred_batch_size: [ 4, 9 ] }", "preferred_batch_size"),
    "priority_none": (EIGHT + "dynamic_batching { priority_levels: 2 }", "default_priority_level"),
    "priority_three": (EIGHT + "dynamic_batching { priority_levels: 2 default_priority_level: 3 }", "default_priority_level"),
    "policy_three": (EIGHT + "dynamic_batching { priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 value { } } }", "priority_queue_policy"),
    "two_schedulers": (EIGHT + "dynamic_batching { } sequence_batching { }", "exclude each other"),
    "dims_zero": (io(INPUT0="data_type: TYPE_FP32 dims: [ 0 ]"), "dims"),
    "dims_two_less": (io(INPUT0="data_type: TYPE_FP32 dims: [ -2 ]"), "dims"),
    "input_type": (io(INPUT1="data_type: TYPE_FP64 dims: [ 16 ]"), "INPUT1"),
    "output_type": (io(OUTPUT0="data_type: TYPE_INT32 dims: [ 16 ]"), "OUTPUT0"),
    "output_rank": (io(OUTPUT1="data_type: TYPE_FP32 dims: [ 4, 4 ]"), "OUTPUT1"),
    "output_name": (EIGHT + 'output { name: "NOBODY" data_type: TYPE_FP32 dims: [ 16 ] }', "NOBODY"),
    "input_name": (EIGHT + 'input { name: "NOBODY" data_type: TYPE_FP32 dims: [ 16 ] }', "NOBODY"),
    "extent": (io(INPUT0="data_type: TYPE_FP32 dims: [ 15 ]"), "INPUT0"),
    "freed": (io(INPUT0="data_type: TYPE_FP32 dims: [ -1 ]"), "INPUT0"),
    "no_dimension": ("max_batch_size: 0\n" + IO, "INPUT0"),
    "reshaped_badly": (io(INPUT0="data_type: TYPE_FP32 dims: [ 4, 4 ] reshape { shape: [ 15 ] }"), "reshape"),
    "labels_gone": (io(OUTPUT0='data_type: TYPE_FP32 dims: [ 16 ] label_filename: "gone.txt"'), "label_filename"),
    "labels_outside": (io(OUTPUT0='data_type: TYPE_FP32 dims: [ 16 ] label_filename: "../../good/labels.txt"'), "label_filename"),
    "policy_gone": (EIGHT + "version_policy { specific { versions: [ 7 ] } }", "7"),
    "file_gone": (EIGHT + 'default_model_filename: "net.onnx"', "net.onnx"),
    "file_outside": (EIGHT + 'default_model_filename: "../../good/1/model.onnx"', "default_model_filename"),
    "gpu": (EIGHT + "instance_group [ { kind: KIND_GPU } ]", "cuda:0"),
    "no_count": (EIGHT + "instance_group [ { count: -1 } ]", "count"),
    "threads": (EIGHT + 'parameters { key: "intra_op_thread_count" value { string_value: "many" } }', "intra_op_thread_count"),
    "warmup_input": (warmup("zero_data: true", name="NOBODY"), "NOBODY"),
    "warmup_type": (warmup("zero_data: true", dtype="TYPE_INT64"), "model_warmup"),
    "warmup_shape": (warmup("random_data: true", dims="15"), "model_warmup"),
    "warmup_gone": (warmup('input_data_file: "gone"'), "input_data_file"),
    "warmup_outside": (warmup('input_data_file: "../1/model.onnx"'), "input_data_file"),
    "warmup_short": (warmup('input_data_file: "short"'), "model_warmup"),
    "unknown_nested": (EIGHT + "dynamic_batching { prefered_batch_size: [ 4 ] }", "prefered_batch_size"),
    "unknown_enum": (EIGHT + "instance_group [ { kind: KIND_TPU } ]", "KIND_TPU"),
    "given_twice": ("max_batch_size: 8\n" + EIGHT, "max_batch_size"),
    "cached_sequences": (EIGHT + "sequence_batching { } response_cache { enable: true }", "response_cache"),
}

SERVED = {
    "good": EIGHT,
    "spelled": """# every way to write it
      name: 'spel' "led" ; backend : "onnx" 'runtime', platform: 'onnxruntime_onnx'
      max_batch_size: 8,
      input: { name: "INPUT0", data_type: TYPE_FP32; dims: [16] } # one
      input < name: 'INPUT1' data_type: 11 dims: 0x10 >
      output: [ { name: "OUT" "PUT0" data_type: TYPE_FP32 dims: [ 16 ] }, { name: "OUTPUT1"; data_type: TYPE_FP32, dims: 16 } ];
      version_policy: { latest: { num_versions: 1 } }
      parameters: [ { key: "a" value: { string_value: "\\x41\\n" } } ]
      parameters { value { string_value: 'c' } key: "b" }""",
    "no_effect": EIGHT + """
      optimization { graph { level: 1 } priority: PRIORITY_MAX cuda { graphs: true } input_pinned_memory { enable: true } eager_batching: true }
      metric_tags { key: "a" value: "b" } cc_model_filenames { key: "7.5" value: "other.onnx" }
      model_operations { op_library_filename: "none.so" } model_repository_agents { agents [ { name: "checksum" } ] } runtime: "r"
      instance_group [ { name: "g" count: 2 kind: KIND_CPU passive: false host_policy: "h" rate_limiter { resources { name: "r" count: 1 } } } ]""",
    "model_kind": EIGHT + "instance_group [ { count: 1 kind: KIND_MODEL }, { kind: KIND_AUTO } ]",
    "single_answer": EIGHT + "model_transaction_policy { decoupled: false } ",
    "marked": io(INPUT0="data_type: TYPE_FP32 dims: [ 16 ] optional: true allow_ragged_batch: false format: FORMAT_NONE is_shape_tensor: false"),
    "only_a_limit": "max_batch_size: 3",
    "only_a_platform": 'platform: "onnxruntime_onnx"',
    "only_inputs": "max_batch_size: 8\n" + IO.splitlines()[0],
    "only_outputs": "max_batch_size: 8\n" + IO.splitlines()[1],
    "only_names": 'max_batch_size: 8 input [ { name: "INPUT0" }, { name: "INPUT1" } ] output [ { name: "OUTPUT0" }, { name: "OUTPUT1" } ]',
    "only_a_comment": "# nothing",
    "latest": EIGHT + "version_policy { latest { } }",
    "one_output": EIGHT.replace('{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 16 ] }, ', ""),
    "threads_of_its_own": EIGHT + 'parameters { key: "intra_op_thread_count" value { string_value: "2" } } parameters { key: "inter_op_thread_count" value { string_value: "2" } }',
    "warm_zeros": warmup("zero_data: true"),
    "warm_random": warmup("random_data: true"),
    "warm_file": warmup('input_data_file: "row"'),
    "cached": EIGHT + "response_cache { enable: true }",
    "renamed_file": EIGHT + 'default_model_filename: "net.onnx"',
    "file_in_a_folder": EIGHT,
    "policies": EIGHT + """dynamic_batching {
      preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 50 preserve_ordering: true
      priority_levels: 2 default_priority_level: 2
      default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 9007199254740993 allow_timeout_override: true max_queue_size: 7 }
      priority_queue_policy { key: 1 value { timeout_action: REJECT max_queue_size: 3 } } }""",
    "levels_without_queueing": "max_batch_size: 1\n" + IO + "dynamic_batching { priority_levels: 1 default_priority_level: 1 }",
}


@pytest.fixture(scope="module")
def configured(start, tmp_path_factory):
    """A repository of all of them."""
    folder = tmp_path_factory.mktemp("configured")
    configs = SERVED | {name: config for name, (config, _) in REFUSED.items()}
    assert len(configs) == len(SERVED) + len(REFUSED)
    for name, config in configs.items():
        target = folder / name / "1" / {"renamed_file": "net.onnx", "file_in_a_folder": "model.onnx/model.onnx"}.get(name, "model.onnx")
        target.parent.mkdir(parents=True)
        shutil.copy(GRAPH, target)
        (folder / name / "config.pbtxt").write_text(config)
    for name, data in (("warm_file", np.arange(16, dtype=np.float32).tobytes()), ("warmup_short", b"four")):
        (folder / name / "warmup").mkdir()
        (folder / name / "warmup" / ("row" if name == "warm_file" else "short")).write_bytes(data)
    (folder / "good" / "labels.txt").write_text("a\n")
    server = start(folder, "--cache-bytes", "1048576", "--log-level", "off", ready=False)
    settled(server, configs)
    return server


def ask(server, model, rows=1, **more):
    a, b = (np.arange(16 * rows, dtype=np.float32).reshape(rows, 16) * k for k in (1, 3))
    inputs = [body(*value, name=name)["inputs"][0] for name, value in (("INPUT0", a.tolist()), ("INPUT1", b.tolist()))]
    return server.post(f"/v2/models/{model}/infer", {"inputs": inputs, **more}), ort(GRAPH, INPUT0=a, INPUT1=b)


def config_of(server, model):
    return server.get(f"/v2/models/{model}/config").json()


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_configuration_may_not_say_fails_the_load_by_name(configured, name):
    entries = [entry for (model, _), entry in index(configured).items() if model == name]
    assert {entry["state"] for entry in entries} == {"UNAVAILABLE"}
    assert any(REFUSED[name][1] in entry["reason"] for entry in entries), entries
    assert configured.get(f"/v2/models/{name}/ready").status_code == 400


@pytest.mark.parametrize("name", SERVED)
def test_what_a_configuration_may_say_serves_the_same_answers(configured, name):
    answer, expected = ask(configured, name)
    assert answer.status_code == 200, f"{answer.text} {[e for (m, _), e in index(configured).items() if m == name]}"
    found = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    wanted = ["OUTPUT1"] if name == "one_output" else ["OUTPUT0", "OUTPUT1"]
    assert found == {output: expected[output].reshape(-1).tolist() for output in wanted}


def test_every_spelling_reads_the_same(configured):
    spelled, good = config_of(configured, "spelled"), config_of(configured, "good")
    assert spelled["parameters"] == {"a": {"string_value": "A\n"}, "b": {"string_value": "c"}}
    differing = ("name", "backend", "platform", "parameters")
    assert {k: v for k, v in spelled.items() if k not in differing} == {k: v for k, v in good.items() if k not in differing}


def test_the_defaults_are_spelled_out(configured):
    config = config_of(configured, "good")
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    assert config["default_model_filename"] == "model.onnx"
    assert (config["parameters"], config["model_warmup"]) == ({}, [])
    (group,) = config["instance_group"]
    assert group["count"] >= 1 and group["kind"] in ("KIND_CPU", "KIND_AUTO") and group["gpus"] == [] and "name" in group
    assert "dynamic_batching" not in config and "sequence_batching" not in config
    assert config["input"][0] == {
        "name": "INPUT0", "data_type": "TYPE_FP32", "dims": [16], "format": "FORMAT_NONE", "is_shape_tensor": False,
        "allow_ragged_batch": False, "optional": False,
    }
    assert config["output"][0] == {
        "name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [16], "label_filename": "", "is_shape_tensor": False,
    }


def test_queue_settings_are_shown_as_they_were_written(configured):
    assert config_of(configured, "policies")["dynamic_batching"] == {
        "preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 50, "preserve_ordering": True, "priority_levels": 2,
        "default_priority_level": 2,
        "default_queue_policy": {
            "timeout_action": "DELAY", "default_timeout_microseconds": 9007199254740993, "allow_timeout_override": True,
            "max_queue_size": 7,
        },
        "priority_queue_policy": {"1": {
            "timeout_action": "REJECT", "default_timeout_microseconds": 0, "allow_timeout_override": False, "max_queue_size": 3,
        }},
    }


def test_groups_warm_up_and_marks_are_shown(configured):
    groups = config_of(configured, "model_kind")["instance_group"]
    assert [(group["count"], group["kind"]) for group in groups] == [(1, "KIND_MODEL"), (1, "KIND_AUTO")]
    (group,) = config_of(configured, "no_effect")["instance_group"]
    assert (group["name"], group["count"], group["kind"]) == ("g", 2, "KIND_CPU")
    (request,) = config_of(configured, "warm_file")["model_warmup"]
    assert (request["name"], request["batch_size"]) == ("w", 2)
    assert request["inputs"]["INPUT0"] == {"data_type": "TYPE_FP32", "dims": [16], "input_data_file": "row"}
    marked = config_of(configured, "marked")["input"][0]
    assert (marked["optional"], marked["allow_ragged_batch"]) == (True, False)
    threads = config_of(configured, "threads_of_its_own")["parameters"]
    assert threads["intra_op_thread_count"] == threads["inter_op_thread_count"] == {"string_value": "2"}
    assert config_of(configured, "cached")["response_cache"] == {"enable": True}
    assert config_of(configured, "renamed_file")["default_model_filename"] == "net.onnx"


def test_outputs_that_are_not_listed_are_not_offered(configured):
    metadata = configured.get("/v2/models/one_output").json()
    assert [output["name"] for output in metadata["outputs"]] == ["OUTPUT1"]
    answer, _ = ask(configured, "one_output", outputs=[{"name": "OUTPUT0"}])
    assert answer.status_code == 400
    assert "unexpected inference output 'OUTPUT0' for model 'one_output'" in answer.json()["error"]


def test_an_optional_input_that_the_graph_needs_is_missed_by_name(configured):
    answer = configured.post("/v2/models/marked/infer", body([1.0] * 16, name="INPUT1"))
    assert answer.status_code == 400 and "INPUT0" in answer.json()["error"]


@pytest.mark.parametrize("name, most, merges", [
    ("only_a_limit", 3, False), ("only_a_platform", 4, True), ("only_a_comment", 4, True), ("only_inputs", 8, False),
    ("only_outputs", 8, False), ("only_names", 8, False),
])
def test_what_is_left_out_is_derived_from_the_graph(configured, name, most, merges):
    config = config_of(configured, name)
    assert config["max_batch_size"] == most and ("dynamic_batching" in config) == merges
    assert [i["name"] for i in config["input"]] == ["INPUT0", "INPUT1"]
    assert [o["name"] for o in config["output"]] == ["OUTPUT0", "OUTPUT1"]
    assert [(t["data_type"], t["dims"]) for t in config["input"] + config["output"]] == [("TYPE_FP32", [16])] * 4
    assert ask(configured, name, rows=most)[0].status_code == 200
    refusal = ask(configured, name, rows=most + 1)[0]
    assert refusal.status_code == 400 and f"must be <= {most} for '{name}'" in refusal.json()["error"]


def test_without_a_free_first_dimension_nothing_is_batched(start, repository):
    folder = repository("no_batch")
    (folder / "no_batch" / "config.pbtxt").unlink()
    server = start(folder)
    config = config_of(server, "no_batch")
    assert config["max_batch_size"] == 0 and "dynamic_batching" not in config
    assert config["input"][0]["dims"] == [2, 3]
    assert server.post("/v2/models/no_batch/infer", body([1, 2, 3], [4, 5, 6])).json()["outputs"][0]["shape"] == [2, 3]
    server.stop()


def test_equal_questions_are_answered_from_the_cache(configured):
    def counts():
        found = stats(configured, "cached")["inference_stats"]
        return found["cache_hit"]["count"], found["cache_miss"]["count"]

    def row(value):
        inputs = [body([value] * 16, name=name)["inputs"][0] for name in ("INPUT0", "INPUT1")]
        return configured.post("/v2/models/cached/infer", {"inputs": inputs}).json()["outputs"][0]["data"]

    hits, misses = counts()
    assert row(5.0) == row(5.0) == [10.0] * 16
    assert counts() == (hits + 1, misses + 1)
    assert row(6.0) == [12.0] * 16
    assert counts() == (hits + 1, misses + 2)


def test_without_a_cache_nothing_is_cached(start, repository):
    folder = repository("identity_fp32")
    with (folder / "identity_fp32" / "config.pbtxt").open("a") as config:
        config.write("\nresponse_cache { enable: true }\n")
    server = start(folder, "--cache-bytes", "0")
    for _ in range(3):
        assert server.post("/v2/models/identity_fp32/infer", body([1.0])).status_code == 200
    entry = stats(server, "identity_fp32")
    assert entry["execution_count"] == 3 and entry["inference_stats"]["cache_hit"]["count"] == 0
    server.stop()


@pytest.mark.announced_errors("'out_of_range'")
def test_warm_up_runs_before_a_model_is_ready(start, tmp_path):
    """The graph fails for an index that its table lacks: whether the model serves is up to the warm-up."""
    text = """g (int64[n,1] i) => (float[n,1] y)
      { table = Constant<value: tensor = float[2] {10.0, 20.0}>() y = Gather(table, i) }"""
    for name, idx in (("in_range", 1), ("out_of_range", 7)):
        write_graph(tmp_path / "r" / name / "1" / "model.onnx", text)
        (tmp_path / "r" / name / "config.pbtxt").write_text("""max_batch_size: 4 model_warmup { name: "first" batch_size: 1
          inputs { key: "i" value { data_type: TYPE_INT64 dims: 1 input_data_file: "i" } } }""")
        (tmp_path / "r" / name / "warmup").mkdir()
        (tmp_path / "r" / name / "warmup" / "i").write_bytes(np.int64(idx).tobytes())
    server = start(tmp_path / "r", ready=False)
    settled(server, ["in_range", "out_of_range"])
    found = {name: entry for (name, _), entry in index(server).items()}
    assert (found["in_range"]["state"], found["out_of_range"]["state"]) == ("READY", "UNAVAILABLE")
    assert "first" in found["out_of_range"]["reason"]
    answer = server.post("/v2/models/in_range/infer", body([0], name="i", datatype="INT64"))
    assert answer.json()["outputs"][0]["data"] == [10.0]
    server.stop()


def test_thread_counts_are_honoured(start, repository):
    folder = repository("identity_fp32")
    path = folder / "identity_fp32" / "config.pbtxt"
    text = path.read_text()

    def threads(name, value):
        path.write_text(text + f'\nparameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n')
        server = start(folder)
        assert server.post("/v2/models/identity_fp32/infer", body([1.0])).status_code == 200
        found = len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))
        server.stop()
        return found

    few = threads("intra_op_thread_count", 1)
    assert threads("intra_op_thread_count", 33) - few >= 24
    assert threads("inter_op_thread_count", 33) - few >= 24


def test_version_folders_are_numbers_without_leading_zeros(start, repository):
    folder = repository("two_versions")
    for name in ("0", "03", "-4", "5.0", "six", "+7", "99999999999999999999"):
        shutil.copytree(folder / "two_versions" / "1", folder / "two_versions" / name)
    server = start(folder)
    assert server.get("/v2/models/two_versions").json()["versions"] == ["1", "2"]
    server.stop()


@pytest.mark.parametrize("policy, served", [
    ("", ["3"]), ("version_policy { latest { num_versions: 2 } }", ["2", "3"]), ("version_policy: { all: { } }", ["1", "2", "3"]),
    ("version_policy { specific { versions: [ 1, 3, 9 ] } }", ["1", "3"]),
])
def test_the_version_policy_says_what_serves(start, repository, policy, served):
    folder = repository("two_versions")
    shutil.copytree(folder / "two_versions" / "2", folder / "two_versions" / "3")
    path = folder / "two_versions" / "config.pbtxt"
    path.write_text(re.sub("version_policy.*", policy, path.read_text()))
    server = start(folder)
    assert server.get("/v2/models/two_versions").json()["versions"] == served
    server.stop()


def test_queue_settings_act_at_a_batch_size_of_one_too(start, repository):
    folder = repository("slow")
    path = folder / "slow" / "config.pbtxt"
    text = path.read_text().replace("max_batch_size: 8", "max_batch_size: 1")

    def statuses(batching, **parameters):
        path.write_text(text.replace("dynamic_batching { }", batching))
        server = start(folder)
        answers = crowd(lambda _: server.post("/v2/models/slow/infer", body([1.0], parameters=parameters)))
        server.stop()
        return {(answer.status_code, answer.json().get("error", "").split(";")[0][:24]) for answer in answers}

    bounded = statuses("dynamic_batching { default_queue_policy { max_queue_size: 1 } }")
    assert {code for code, _ in bounded} == {200, 503}
    policy = "allow_timeout_override: true default_timeout_microseconds: 60000000"
    late = statuses(f"dynamic_batching {{ default_queue_policy {{ {policy} }} }}", timeout=1)
    assert 503 in {code for code, _ in late}
    assert {code for code, _ in statuses("", timeout=1)} == {200}, "without dynamic_batching they have no effect"
    assert {code for code, _ in statuses("dynamic_batching { default_queue_policy { max_queue_size: 0 } }")} == {200}


COUNTED = """
import pathlib
import time
import uuid

HERE = pathlib.Path(__file__).parent


class Counted:
    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}

    def predict(self, batch):
        if batch["x"].min() < 0:
            (HERE / f"run-{uuid.uuid4()}").touch()
            while not (HERE / "may_answer").exists():
                time.sleep(0.01)
        return batch["x"]
"""


def test_no_more_runs_at_a_time_than_there_are_instances(start, tmp_path):
    """In Python, where a run can be held; what bounds it is the same for every engine."""
    folder = model(tmp_path / "counted", COUNTED, "[batching]\nmax_rows = 1\n[instances]\ncount = 2\n")
    server = start(folder, *FLAGS)
    assert [group["count"] for group in config_of(server, "counted")["instance_group"]] == [2]

    def waiting():
        return re.search(r'^salver_queue_requests\{model="counted"[^}]*\} (\d+)', server.get("/metrics").text, re.M)[1]

    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(server.post, "/v2/models/counted/infer", body([float(-i)], name="x")) for i in range(1, 6)]
        server.until(lambda: (len(list(folder.glob("run-*"))), waiting()) == (2, "3"), "busy with two of five")
        (folder / "may_answer").touch()
        assert [call.result().json()["outputs"][0]["data"] for call in calls] == [[float(-i)] for i in range(1, 6)]
    assert len(list(folder.glob("run-*"))) == 5
    server.stop()


def test_ragged_inputs_run_together_unpadded(start):
    server = start(MODELS / "ragged" / "ragged_sums")

    def one(i):
        row = [float(i)] * (1 + i % 5)
        answer = server.post("/v2/models/ragged_sums/infer", body(row, name="VALUES")).json()["outputs"]
        return [output["data"] for output in answer] == [[sum(row)], [value * 2 for value in row]]

    assert all(crowd(one, 40))
    server.stop()


# Robustness


DEEP = b"[" * 100_000
DEEP_ROUTES = [
    "/v1/models/identity_fp32:classify", "/v1/models/identity_fp32:regress", "/v2/models/identity_fp32/generate",
    "/v2/models/identity_fp32/generate_stream", "/v2/repository/index", "/v2/repository/models/identity_fp32/load",
    "/v2/repository/models/identity_fp32/unload", "/v2/logging", "/v2/trace/setting", "/v2/models/identity_fp32/trace/setting",
    "/v2/systemsharedmemory/region/a/register", "/v1/embeddings", "/models/identity_fp32/predict",
]


@pytest.fixture(scope="module")
def attacked(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacked")
    for name in ("identity_fp32", "identity_bytes"):
        shutil.copytree(MODELS / "triton" / name, folder / name)
    return start(
        folder, "--model-control", "explicit", "--load-model", "*", "--allow-model-upload", "--allow-client-shm",
        "--default-model", "identity_bytes",
    )


def assert_serves(server):
    answer = server.post("/v2/models/identity_fp32/infer", body([1.0]))
    assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [1.0]


@pytest.mark.parametrize("path", DEEP_ROUTES)
@pytest.mark.parametrize("sent", [DEEP, b'{"examples":' + DEEP, b'{"x":' * 100_000, b'{"parameters":{"config":' + DEEP])
def test_no_route_follows_brackets_without_end(attacked, path, sent):
    answer = attacked.request("POST", path, [("Content-Type", "application/json")], sent)
    assert 400 <= answer.status < 500, f"{answer.status} {answer.text[:300]}"
    assert len(answer.body) < 4096
    assert_serves(attacked)


@pytest.mark.parametrize("config", [
    "[" * 100_000, '{"parameters":' * 50_000, '{"max_batch_size": 1e999}', '{"max_batch_size": 99999999999999999999}',
    '{"input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [9223372036854775807, 9223372036854775807]}]}',
    json.dumps({"input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [1] * 100_000}]}),
    '{"instance_group": [{"count": 2147483647}]}', '{"instance_group": [{"count": -1}]}', '{"name": "\\ud800"}', '{"name": "a\\u0000b"}',
    '{"model_warmup": [{"name": "w", "batch_size": 4294967295, "count": 4294967295, "inputs": {"INPUT0": {"data_type": "TYPE_FP32", "dims": [4611686018427387904, 4], "zero_data": true}}}]}',
    '{"dynamic_batching": {"priority_levels": 18446744073709551615, "default_priority_level": 1}}',
    '{"max_batch_size": 1, "max_batch_size": 2}', '{"default_model_filename": "/etc/passwd"}',
    '{"parameters": {"intra_op_thread_count": {"string_value": "4000000000"}}}',
], ids=lambda config: config[:40])
@pytest.mark.announced_errors("identity_fp32")
def test_a_hostile_configuration_is_refused_and_the_old_one_serves(attacked, config):
    before = config_of(attacked, "identity_fp32")
    answer = attacked.post("/v2/repository/models/identity_fp32/load", {"parameters": {"config": config}})
    assert answer.status_code == 400, answer.text[:300]
    assert len(answer.content) < 4096
    assert config_of(attacked, "identity_fp32") == before
    assert_serves(attacked)


@pytest.mark.parametrize("path, template", [
    ("/v2/models/identity_bytes/infer", b'{"inputs":[{"name":"INPUT0","shape":[1,1],"datatype":"BYTES","data":[%s]}]}'),
    ("/v1/models/identity_bytes:predict", b'{"instances":[[%s]]}'), ("/invocations", b'{"inputs":[[%s]]}'),
    ("/models/identity_bytes/predict", b"[[%s]]"), ("/v2/models/identity_bytes/generate", b'{"INPUT0":%s}'),
])
def test_text_that_is_no_unicode_is_refused_or_replaced(attacked, path, template):
    for value, status in ((b'"\\ud800"', (200, 400)), (b'"\xff\xfe"', (400,)), (b'"\xed\xa0\x80"', (400,)), (b'"a\x00b"', (400,))):
        answer = attacked.request("POST", path, [("Content-Type", "application/json")], template % value)
        assert answer.status in status, f"{value} {answer.status} {answer.text}"
        if answer.status == 200:
            assert "\ufffd" in answer.body.decode("utf-8") or "\\ufffd" in answer.text


@pytest.mark.parametrize("name", ["a%00b", "..%2f..%2fetc", "%2e%2e", "..%5cx", "a%2fb", "%ff", "x" * 300])
@pytest.mark.parametrize("method, path", [
    ("GET", "/v2/models/{}"), ("GET", "/v2/models/{}/config"), ("GET", "/v2/models/{}/stats"), ("GET", "/v2/models/{}/trace/setting"),
    ("GET", "/v2/models/identity_fp32/versions/{}"), ("GET", "/v1/models/{}"), ("GET", "/v1/models/identity_fp32/labels/{}"),
    ("POST", "/v2/repository/models/{}/load"), ("GET", "/v2/systemsharedmemory/region/{}/status"), ("GET", "/models/{}"),
    ("POST", "/v2/models/{}/generate"), ("GET", "/v1/models/{}/metadata"),
])
def test_names_never_lead_anywhere(attacked, method, path, name):
    answer = attacked.request(method, path.format(name), [("Content-Type", "application/json")], b"{}" if method == "POST" else b"")
    assert answer.status in (400, 404, 405), answer.text
    assert "root:" not in answer.text


@pytest.mark.parametrize("version", ["../1", "1/..", "1.0", "9223372036854775808", "\x001", " 1"])
def test_a_version_over_grpc_is_a_number(attacked, version):
    with grpc.insecure_channel(attacked.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="identity_fp32", version=version), timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_shapes_over_grpc_are_multiplied_with_care(attacked):
    with grpc.insecure_channel(attacked.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for shape in ([2**4, 2**60 + 2], [1, 100_000_000_000], [1, 2**63 - 1], [-1, -1], [1] * 100_000, [2**62, 4]):
            request = service_pb2.ModelInferRequest(model_name="identity_fp32", raw_input_contents=[b"\0" * 8])
            request.inputs.add(name="INPUT0", datatype="FP32", shape=shape)
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(request, timeout=PATIENCE_S)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT, shape[:3]
            assert len(caught.value.details()) < 4096
    assert_serves(attacked)


@pytest.mark.parametrize("path, sent", [
    ("/v1/models/identity_fp32:regress", b'{"examples":[{"INPUT0":1.0}],"examples":[{"INPUT0":2.0}]}'),
    ("/v1/models/identity_fp32:predict", b'{"signature_name":"","signature_name":"","instances":[[1.0]]}'),
    ("/v1/models/identity_fp32:predict", b'{"instances":[{"INPUT0":[1.0],"INPUT0":[2.0]}]}'),
    ("/v2/models/identity_fp32/generate", b'{"INPUT0":1.0,"INPUT0":2.0}'), ("/v2/logging", b'{"log_info":true,"log_info":false}'),
    ("/v2/trace/setting", b'{"trace_rate":"1","trace_rate":"2"}'),
    ("/v2/repository/models/identity_fp32/load", b'{"parameters":{"config":"{}","config":"{}"}}'),
    ("/v2/systemsharedmemory/region/a/register", b'{"key":"/a","key":"/b","byte_size":1}'),
])
def test_a_key_given_twice_is_refused_everywhere(attacked, path, sent):
    answer = attacked.request("POST", path, [("Content-Type", "application/json")], sent)
    assert answer.status == 400, answer.text


def test_texts_in_base64_reach_a_model_as_bytes(attacked):
    value = base64.b64encode("grüße".encode()).decode()
    answer = attacked.post("/v1/models/identity_bytes:predict", {"instances": [[{"b64": value}]]})
    assert answer.json() == {"predictions": [["grüße"]]}
