"""TF Serving's gRPC services, by its own client's stubs where they are installed (`tfserving_stubs.py`)."""

import os
import shutil

import grpc
import numpy as np
import onnx
import pytest
from harness import MODELS, PATIENCE_S, REPO, ort
from tfserving_stubs import PUBLISHED, descriptors, tf

Dt = tf.DataType
HALF = "half_plus_two"


class Client:
    def __init__(self, address):
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(address, options=options)
        self.prediction = tf.PredictionServiceStub(self.channel)
        self.models = tf.ModelServiceStub(self.channel)

    def predict(self, spec, inputs, outputs=()):
        request = tf.PredictRequest(model_spec=spec, output_filter=outputs)
        for name, proto in inputs.items():
            request.inputs[name].CopyFrom(proto)
        return self.prediction.Predict(request, timeout=PATIENCE_S)


@pytest.fixture(scope="module", params=["grpc port", "http port"])
def client(request, tfserving):
    return Client(tfserving.grpc if request.param == "grpc port" else tfserving.http)


def spec(name=HALF, version=None, label=None, signature=""):
    out = tf.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        out.version.value = version
    if label is not None:
        out.version_label = label
    return out


def proto(dtype, dims, **fields):
    shape = tf.TensorShapeProto(dim=[tf.TensorShapeProto.Dim(size=size) for size in dims])
    return tf.TensorProto(dtype=dtype, tensor_shape=shape, **fields)


def floats(*values):
    return proto(Dt.Value("DT_FLOAT"), [len(values)], float_val=values)


def example(**features):
    out = tf.Example()
    for name, values in features.items():
        values = values if isinstance(values, list) else [values]
        feature = out.features.feature[name]
        kind = {bytes: feature.bytes_list, float: feature.float_list, int: feature.int64_list}[type(values[0])]
        kind.value.extend(values)
    return out


def refused(call, code, text):
    with pytest.raises(grpc.RpcError) as error:
        call()
    assert error.value.code() == code, error.value.details()
    assert text in error.value.details()


def test_names_and_numbers_are_the_published_ones():
    """Every message, field number and enum value of `proto/` against the package's own descriptors."""
    if not PUBLISHED:
        reason = "tensorflow-serving-api and tensorflow are not installed here"
        if os.environ.get("SALVER_REQUIRE_TFSERVING_API") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(f"SKIPPED: {reason}; recorded messages of theirs are in crates/protocol/corpus/tfserving_grpc")
    from google.protobuf import descriptor_pool

    pool = descriptor_pool.Default()
    ours = descriptors()
    # The messages of models.config stand in other files there, nested elsewhere.
    elsewhere = {"ServableVersionPolicy"}
    checked = 0
    for name, message in ours.items():
        if not name.startswith("tensorflow.") or name.split(".")[-1] in elsewhere:
            continue
        if hasattr(message, "value"):
            published = pool.FindEnumTypeByName(name)
            assert {v.name: v.number for v in message.value} == {
                v.name: published.values_by_name[v.name].number for v in message.value
            }
            continue
        published = pool.FindMessageTypeByName(name)
        for field in message.field:
            theirs = published.fields_by_name[field.name]
            assert field.number == theirs.number, f"{name}.{field.name}"
            # The code of a status and the attributes of logging are enums there: the same on the wire.
            if (field.type, theirs.type) != (field.TYPE_INT32, field.TYPE_ENUM):
                assert field.type == theirs.type, f"{name}.{field.name}"
            checked += 1
        for nested in message.enum_type:
            theirs = published.enum_types_by_name[nested.name].values_by_name
            assert all(value.number == theirs[value.name].number for value in nested.value), f"{name}.{nested.name}"
    assert checked > 90


@pytest.mark.parametrize("version, label, expected", [(None, None, 2), (1, None, 1), (2, None, 2), (None, "stable", 1), (None, "canary", 2)])
def test_predict_by_version_and_label(client, version, label, expected):
    reply = client.predict(spec(version=version, label=label), {"x": floats(1.0, 2.0, 5.0)})
    y = ort(f"tfserving/{HALF}/{expected}/model.onnx", x=np.array([1, 2, 5], np.float32))["y"]
    # Clients read the field of the type directly, as TF Serving fills it.
    assert list(reply.outputs["y"].float_val) == y.tolist()
    assert not reply.outputs["y"].tensor_content
    assert reply.outputs["y"].dtype == Dt.Value("DT_FLOAT")
    assert [dim.size for dim in reply.outputs["y"].tensor_shape.dim] == [3]
    assert (reply.model_spec.name, reply.model_spec.version.value) == (HALF, expected)
    assert reply.model_spec.signature_name == "serving_default"


def test_the_content_of_numpy_arrays_and_the_last_element(client):
    values = np.arange(150_000, dtype=np.float32)
    reply = client.predict(spec(), {"x": proto(Dt.Value("DT_FLOAT"), values.shape, tensor_content=values.tobytes())})
    np.testing.assert_array_equal(np.array(reply.outputs["y"].float_val, np.float32), ort(f"tfserving/{HALF}/2/model.onnx", x=values)["y"])
    reply = client.predict(spec(), {"x": proto(Dt.Value("DT_FLOAT"), [4], float_val=[2.0, 6.0])})
    assert list(reply.outputs["y"].float_val) == ort(f"tfserving/{HALF}/2/model.onnx", x=np.array([2, 6, 6, 6], np.float32))["y"].tolist()


def test_the_output_filter_and_several_inputs(client):
    inputs = {"a": floats(1.0, 10.0), "b": proto(Dt.Value("DT_FLOAT"), [2, 2], float_val=[2, 3, 4, 5])}
    everything = client.predict(spec("axpy"), inputs)
    assert sorted(everything.outputs) == ["diff", "sum"]
    assert list(everything.outputs["sum"].float_val) == [3, 4, 14, 15]
    only = client.predict(spec("axpy"), inputs, ["diff"])
    assert list(only.outputs) == ["diff"]
    assert list(only.outputs["diff"].float_val) == [-1, -2, 6, 5]


def test_strings_go_both_ways(client):
    text = proto(Dt.Value("DT_STRING"), [2], string_val=[b"plain", "grüße".encode()])
    reply = client.predict(spec("text_bytes"), {"text": text})
    assert list(reply.outputs["raw_bytes"].string_val) == [b"plain", "grüße".encode()]
    packed = proto(Dt.Value("DT_STRING"), [2], tensor_content=b"\x01\x00a")
    assert list(client.predict(spec("text_bytes"), {"text": packed}).outputs["plain"].string_val) == [b"a", b""]


NAMES = {
    "BOOL": "DT_BOOL", "INT8": "DT_INT8", "INT16": "DT_INT16", "INT32": "DT_INT32", "INT64": "DT_INT64",
    "UINT8": "DT_UINT8", "UINT16": "DT_UINT16", "UINT32": "DT_UINT32", "UINT64": "DT_UINT64",
    "FP16": "DT_HALF", "BF16": "DT_BFLOAT16", "FP32": "DT_FLOAT", "FP64": "DT_DOUBLE",
}


def test_every_type_goes_both_ways(triton):
    """The Triton repository has a model for each type; every protocol serves every model."""
    client = Client(triton.grpc)
    seen = set()
    for model in sorted(path.name for path in (MODELS / "triton").iterdir() if path.name.startswith("identity_")):
        metadata = triton.get(f"/v2/models/{model}").json()
        (given,), (made,) = metadata["inputs"], metadata["outputs"]
        if given["datatype"] not in NAMES:
            continue
        dims = [1 if size < 0 else size for size in given["shape"]]
        count = int(np.prod(dims))
        dtype = Dt.Value(NAMES[given["datatype"]])
        width = {"BOOL": 1, "FP16": 2, "BF16": 2}.get(given["datatype"]) or int("".join(filter(str.isdigit, given["datatype"]))) // 8
        reply = client.predict(spec(model), {given["name"]: proto(dtype, dims, tensor_content=b"\x01" * (count * width))})
        output = reply.outputs[made["name"]]
        again = client.predict(spec(model), {given["name"]: output}).outputs[made["name"]]
        assert again == output and output.dtype == dtype
        seen.add(given["datatype"])
    assert len(seen) >= 10, seen


def test_the_metadata_hold_the_signature(client):
    request = tf.GetModelMetadataRequest(model_spec=spec(), metadata_field=["signature_def"])
    reply = client.prediction.GetModelMetadata(request, timeout=PATIENCE_S)
    assert (reply.model_spec.name, reply.model_spec.version.value) == (HALF, 2)
    signatures = tf.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert signature.inputs["x"].dtype == Dt.Value("DT_FLOAT")
    assert [dim.size for dim in signature.outputs["y"].tensor_shape.dim] == [-1]
    for fields, text in (([], "at least one metadata_field"), (["x"], "is not supported")):
        bad = tf.GetModelMetadataRequest(model_spec=spec(), metadata_field=fields)
        refused(lambda bad=bad: client.prediction.GetModelMetadata(bad, timeout=PATIENCE_S), grpc.StatusCode.INVALID_ARGUMENT, text)


def test_the_status_of_all_versions_and_of_one(client):
    def status(model_spec):
        reply = client.models.GetModelStatus(tf.GetModelStatusRequest(model_spec=model_spec), timeout=PATIENCE_S)
        return [(one.version, one.state, one.status.error_code, one.status.error_message) for one in reply.model_version_status]

    available = tf.ModelVersionStatus.AVAILABLE
    assert status(spec()) == [(2, available, 0, ""), (1, available, 0, "")]
    assert status(spec(version=1)) == status(spec(label="stable")) == [(1, available, 0, "")]
    refused(lambda: status(spec("nobody")), grpc.StatusCode.NOT_FOUND, "Could not find any versions of model nobody")
    refused(lambda: status(spec(version=9)), grpc.StatusCode.NOT_FOUND, f"Could not find version 9 of model {HALF}")
    refused(lambda: status(spec(label="none")), grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: none")
    refused(lambda: status(None), grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")


@pytest.mark.parametrize(
    "model_spec, inputs, outputs, code, text",
    [
        (spec("nobody"), {"x": floats(1.0)}, (), "NOT_FOUND", "Servable not found for request: Latest(nobody)"),
        (spec(version=9), {"x": floats(1.0)}, (), "NOT_FOUND", f"Specific({HALF}, 9)"),
        (spec(version=-1), {"x": floats(1.0)}, (), "NOT_FOUND", f"Specific({HALF}, -1)"),
        (spec(label="none"), {"x": floats(1.0)}, (), "INVALID_ARGUMENT", "Unrecognized servable version label: none"),
        (spec(signature="other"), {"x": floats(1.0)}, (), "FAILED_PRECONDITION", 'Serving signature key "other" not found'),
        (spec(""), {"x": floats(1.0)}, (), "INVALID_ARGUMENT", "no name specified"),
        (None, {"x": floats(1.0)}, (), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (spec("../x"), {"x": floats(1.0)}, (), "INVALID_ARGUMENT", ""),
        (spec(), {}, (), "INVALID_ARGUMENT", "x"),
        (spec(), {"x": floats(1.0), "z": floats(1.0)}, (), "INVALID_ARGUMENT", "z"),
        (spec(), {"x": floats(1.0)}, ("z",), "INVALID_ARGUMENT", "z"),
        (spec(), {"x": floats(1.0)}, ("y", "y"), "INVALID_ARGUMENT", "duplicate output"),
        (spec(), {"x": proto(Dt.Value("DT_DOUBLE"), [1], double_val=[1.0])}, (), "INVALID_ARGUMENT", "FP64"),
        (spec(), {"x": proto(Dt.Value("DT_FLOAT"), [1, 1], float_val=[1.0])}, (), "INVALID_ARGUMENT", "shape"),
        (spec(), {"x": proto(Dt.Value("DT_FLOAT"), [1], float_val=[1.0, 2.0])}, (), "INVALID_ARGUMENT", "2 elements"),
        (spec(), {"x": proto(Dt.Value("DT_FLOAT"), [2], tensor_content=b"1234567")}, (), "INVALID_ARGUMENT", "8 bytes"),
        (spec(), {"x": proto(Dt.Value("DT_FLOAT"), [-1], float_val=[1.0])}, (), "INVALID_ARGUMENT", "from 0"),
        (spec(), {"x": proto(Dt.Value("DT_FLOAT"), [1 << 40, 1 << 40], float_val=[1.0])}, (), "INVALID_ARGUMENT", "more elements"),
        (spec(), {"x": proto(Dt.Value("DT_FLOAT"), [1 << 34], float_val=[1.0])}, (), "RESOURCE_EXHAUSTED", "filled in"),
        (spec(), {"x": tf.TensorProto(dtype=Dt.Value("DT_FLOAT"), tensor_shape=tf.TensorShapeProto(unknown_rank=True))}, (), "INVALID_ARGUMENT", "unknown_rank"),
        (spec(), {"x": tf.TensorProto()}, (), "INVALID_ARGUMENT", "dtype is missing"),
    ],
)
def test_what_does_not_fit_is_refused(client, model_spec, inputs, outputs, code, text):
    refused(lambda: client.predict(model_spec, inputs, outputs), grpc.StatusCode[code], text)
    assert list(client.predict(spec(), {"x": floats(1.0)}).outputs["y"].float_val)


def test_services_that_are_not_there_are_unimplemented(client):
    call = client.channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
    refused(lambda: call(b"", timeout=PATIENCE_S), grpc.StatusCode.UNIMPLEMENTED, "")
    garbage = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    refused(lambda: garbage(b"\x0a\xff\xff", timeout=PATIENCE_S), grpc.StatusCode.INVALID_ARGUMENT, "")


@pytest.fixture(scope="module")
def classifier(start, tmp_path_factory):
    """`classes` and `scores` from two features, and a server for them."""
    helper = onnx.helper
    base = tmp_path_factory.mktemp("classifier") / "flower"
    (base / "1").mkdir(parents=True)
    nodes = [
        helper.make_node("Softmax", ["x"], ["scores"], axis=1),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Constant", [], ["names"], value=helper.make_tensor("n", onnx.TensorProto.STRING, [1, 2], [b"no", b"yes"])),
        helper.make_node("Expand", ["names", "shape"], ["classes"]),
    ]
    graph = helper.make_graph(
        nodes, "flower", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("classes", onnx.TensorProto.STRING, ["n", 2]),
         helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["n", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, base / "1" / "model.onnx")
    return start(base)


def softmax(*rows):
    powers = np.exp(np.array(rows, np.float32))
    return powers / powers.sum(axis=1, keepdims=True)


def test_classify(classifier):
    client = Client(classifier.grpc)
    request = tf.ClassificationRequest(model_spec=spec("flower"))
    request.input.example_list.examples.extend([example(x=[1.0, 2.0], other=b"ignored"), example(x=[3, 0])])
    reply = client.prediction.Classify(request, timeout=PATIENCE_S)
    assert (reply.model_spec.name, reply.model_spec.version.value, reply.model_spec.signature_name) == ("flower", 1, "serving_default")
    rows = [[(c.label, c.score) for c in row.classes] for row in reply.result.classifications]
    assert [[label for label, _ in row] for row in rows] == [["no", "yes"]] * 2
    np.testing.assert_allclose([[score for _, score in row] for row in rows], softmax([1, 2], [3, 0]), rtol=1e-6)
    request.input.example_list_with_context.examples.extend([example(), example(x=[3.0, 0.0])])
    request.input.example_list_with_context.context.CopyFrom(example(x=[1.0, 2.0]))
    shared = client.prediction.Classify(request, timeout=PATIENCE_S)
    assert shared.result == reply.result


def test_regress(client):
    request = tf.RegressionRequest(model_spec=spec(version=1))
    request.input.example_list.examples.extend([example(x=1.0), example(x=5)])
    reply = client.prediction.Regress(request, timeout=PATIENCE_S)
    expected = ort(f"tfserving/{HALF}/1/model.onnx", x=np.array([1, 5], np.float32))["y"].tolist()
    assert [one.value for one in reply.result.regressions] == expected
    assert reply.model_spec.version.value == 1


def task(method, name=HALF, **more):
    return tf.InferenceTask(model_spec=spec(name, **more), method_name=f"tensorflow/serving/{method}")


def test_multi_inference(client):
    request = tf.MultiInferenceRequest(tasks=[task("regress")])
    request.input.example_list.examples.extend([example(x=1.0), example(x=5.0)])
    reply = client.prediction.MultiInference(request, timeout=PATIENCE_S)
    (result,) = reply.results
    assert [one.value for one in result.regression_result.regressions] == ort(f"tfserving/{HALF}/2/model.onnx", x=np.array([1, 5], np.float32))["y"].tolist()
    assert result.model_spec.version.value == 2
    for tasks, code, text in (
        ([], "INVALID_ARGUMENT", "no tasks"),
        ([task("regress"), task("regress", "axpy")], "INVALID_ARGUMENT", "same model name"),
        ([task("regress"), task("regress")], "INVALID_ARGUMENT", "Duplicate evaluation"),
        ([task("paint")], "UNIMPLEMENTED", "Unsupported signature method_name"),
        ([task("regress", signature="z")], "INVALID_ARGUMENT", "z"),
        ([task("regress", "nobody")], "NOT_FOUND", "Latest(nobody)"),
        ([task("regress"), task("classify")], "INVALID_ARGUMENT", "cannot classify"),
    ):
        bad = tf.MultiInferenceRequest(tasks=tasks, input=request.input)
        refused(lambda bad=bad: client.prediction.MultiInference(bad, timeout=PATIENCE_S), grpc.StatusCode[code], text)


def test_examples_that_do_not_fit_are_refused(client):
    def regress(*examples, **more):
        request = tf.RegressionRequest(model_spec=spec(**more))
        request.input.example_list.examples.extend(examples)
        return lambda: client.prediction.Regress(request, timeout=PATIENCE_S)

    invalid = grpc.StatusCode.INVALID_ARGUMENT
    refused(regress(), invalid, "Input is empty")
    refused(regress(example(z=1.0)), invalid, "example 0: lacks the feature 'x'")
    refused(regress(example(x=b"1")), invalid, "feature 'x'")
    refused(regress(example(x=1.0), example(x=[1.0, 2.0])), invalid, "has 2 values")
    refused(regress(example(x=1.0), signature="z"), invalid, "z")
    refused(regress(example(x=1.0), name="nobody"), grpc.StatusCode.NOT_FOUND, "Latest(nobody)")
    refused(regress(example(a=1.0), name="axpy"), invalid, "cannot regress")


def config_of(*models):
    request = tf.ReloadConfigRequest()
    for name, base in models:
        request.config.model_config_list.config.add(name=name, base_path=str(base))
    return request


def test_replacing_the_models_is_off_by_default(client):
    request = config_of((HALF, MODELS / "tfserving" / HALF))
    refused(lambda: client.models.HandleReloadConfigRequest(request, timeout=PATIENCE_S), grpc.StatusCode.FAILED_PRECONDITION, "--reload-config-from")


def test_a_client_replaces_the_models_within_one_folder(start, tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    shutil.copytree(MODELS / "tfserving", inside)
    shutil.copytree(MODELS / "tfserving" / HALF, outside / HALF)
    (inside / "link").symlink_to(outside / HALF)
    listed = tmp_path / "models.config"
    listed.write_text(f'model_config_list {{ config {{ name: "a" base_path: "{inside / HALF}" }} }}')
    server = start(listed, "--reload-config-from", inside)
    client = Client(server.grpc)

    def reload(*models):
        return client.models.HandleReloadConfigRequest(config_of(*models), timeout=PATIENCE_S)

    def names():
        return sorted(server.get("/v1/models").json()["models"])

    for base in (outside / HALF, "../outside/half_plus_two", "link", inside, "/", "missing"):
        refused(lambda base=base: reload(("b", base)), grpc.StatusCode.INVALID_ARGUMENT, "base_path")
    refused(lambda: client.models.HandleReloadConfigRequest(tf.ReloadConfigRequest(), timeout=PATIENCE_S), grpc.StatusCode.INVALID_ARGUMENT, "model_config_list")
    refused(lambda: reload(("b", "axpy"), ("b", HALF)), grpc.StatusCode.INVALID_ARGUMENT, "listed twice")
    assert names() == ["a"]
    reply = reload(("b", HALF), ("c", inside / "axpy"))
    assert (reply.status.error_code, reply.status.error_message) == (0, "")
    assert list(client.predict(spec("b"), {"x": floats(1.0)}).outputs["y"].float_val)
    server.until(lambda: names() == ["b", "c"], "without the model that left")
    refused(lambda: client.predict(spec("a"), {"x": floats(1.0)}), grpc.StatusCode.NOT_FOUND, "Latest(a)")
    labelled = config_of(("b", HALF))
    (only,) = labelled.config.model_config_list.config
    only.model_version_policy.specific.versions.extend([1, 2])
    only.version_labels["stable"] = 1
    client.models.HandleReloadConfigRequest(labelled, timeout=PATIENCE_S)
    assert client.predict(spec("b", label="stable"), {"x": floats(1.0)}).model_spec.version.value == 1
    only.version_labels["old"] = 7
    refused(lambda: client.models.HandleReloadConfigRequest(labelled, timeout=PATIENCE_S), grpc.StatusCode.INVALID_ARGUMENT, "stands for version 7")


def test_recorded_messages_of_the_published_package_are_read(client):
    """What the package wrote, byte for byte, as Predict takes it."""
    folder = REPO / "crates" / "protocol" / "corpus" / "tfserving_grpc"
    call = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    for name in ("float_val", "content", "string_val", "version", "label"):
        # The recordings ask for a model `m`, which is the last thing that a decoder finds out.
        refused(lambda name=name: call((folder / name).read_bytes(), timeout=PATIENCE_S), grpc.StatusCode.NOT_FOUND if name != "label" else grpc.StatusCode.INVALID_ARGUMENT, "(m" if name != "label" else "stable")
