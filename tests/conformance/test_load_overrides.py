"""Loads that bring a configuration and files of their own along, by Triton's clients and by hand."""

import base64
import json
import os

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from harness import MODELS
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

TRITON = MODELS / "triton"
GRAPH = (TRITON / "identity_fp32" / "1" / "model.onnx").read_bytes()
OTHER = (TRITON / "two_versions" / "2" / "model.onnx").read_bytes()


@pytest.fixture(params=["http", "grpc"])
def explicit(request, start, repository):
    """A server under explicit control that takes files, its repository, and a client for it."""
    folder = repository("identity_fp32", "two_versions")
    server = start(folder, "--model-control", "explicit", "--load-model", "*", "--allow-model-upload")
    kind = httpclient if request.param == "http" else grpcclient
    with kind.InferenceServerClient(server.http if request.param == "http" else server.grpc) as client:
        yield server, folder, client
    server.stop()


def config(server, name):
    return server.get(f"/v2/models/{name}/config").json()


def four(server, name, version=None):
    where = f"/versions/{version}" if version else ""
    body = {"inputs": [{"name": "INPUT0", "shape": [1, 4], "datatype": "FP32", "data": [0] * 4}]}
    return server.post(f"/v2/models/{name}{where}/infer", body)


def index(server):
    return {(e["name"], e.get("version", "")): e.get("state", "") for e in server.post("/v2/repository/index").json()}


def uploads(server):
    """What lies in the server's own folder of files that clients sent."""
    folder = server.folder / "data" / "uploads"
    return sorted(path for path in folder.glob("server-*/model-*"))


def refused(load, *texts):
    with pytest.raises(InferenceServerException) as caught:
        load()
    assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT"), caught.value
    for text in texts:
        assert text in caught.value.message(), caught.value
    return caught.value


def load_by_hand(server, name, parameters):
    return server.post(f"/v2/repository/models/{name}/load", {"parameters": parameters})


def test_a_configuration_replaces_the_models_own_until_the_next_plain_load(explicit):
    server, _, client = explicit
    before = config(server, "identity_fp32")
    client.load_model("identity_fp32", config=json.dumps({"max_batch_size": 3, "parameters": {"a": {"string_value": "b"}}}))
    changed = config(server, "identity_fp32")
    assert changed["max_batch_size"] == 3 and changed["parameters"] == {"a": {"string_value": "b"}}
    client.load_model("identity_fp32")
    assert config(server, "identity_fp32") == before


@pytest.mark.parametrize("name", ["identity_fp32", "two_versions"])
def test_what_the_config_endpoint_answers_is_taken_back(explicit, name):
    server, _, client = explicit
    answered = config(server, name)
    client.load_model(name, config=json.dumps(answered))
    assert config(server, name) == answered
    if isinstance(client, grpcclient.InferenceServerClient):
        as_json = client.get_model_config(name, as_json=True)["config"]
        client.load_model(name, config=json.dumps(as_json))
        assert config(server, name) == answered


def test_the_version_policy_of_the_configuration_holds(explicit):
    server, _, client = explicit
    client.load_model("two_versions", config=json.dumps({"version_policy": {"specific": {"versions": [1]}}}))
    assert four(server, "two_versions").headers["x-salver-model-version"] == "1"
    server.until(lambda: four(server, "two_versions", 2).status_code == 404, "without version 2")


@pytest.mark.parametrize("sent, text", [
    ("{", "not JSON"), ("[]", "expected an object"), ('{"nmae": "x"}', "unknown field 'nmae'"),
    ('{"name": "other"}', "must be the folder's name"), ('{"max_batch_size": -1}', "max_batch_size"),
    ('{"backend": "tensorrt"}', "tensorrt"), ('{"input": [{"name": "NOBODY"}]}', "INPUT0"),
    ('{"default_model_filename": "../../two_versions/1/model.onnx"}', "default_model_filename"),
    ('{"output": [{"name": "OUTPUT0", "label_filename": "../labels.txt"}]}', "label_filename"),
])
@pytest.mark.announced_errors("identity_fp32")
def test_a_configuration_that_does_not_fit_is_400_and_changes_nothing(explicit, sent, text):
    server, _, client = explicit
    before = config(server, "identity_fp32")
    refused(lambda: client.load_model("identity_fp32", config=sent), text)
    assert config(server, "identity_fp32") == before
    assert index(server)["identity_fp32", "1"] == "READY" and client.is_server_ready()


def test_an_unknown_model_is_404_also_with_a_configuration(explicit):
    _, _, client = explicit
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("nobody", config="{}")
    assert caught.value.status() in ("404", "StatusCode.NOT_FOUND")
    assert "failed to load 'nobody'" in caught.value.message()


def test_a_model_made_of_files_serves_and_is_gone_after_its_unload(explicit):
    server, _, client = explicit
    client.load_model("sent", config="{}", files={"file:1/model.onnx": OTHER, "file:7/model.onnx": OTHER})
    assert four(server, "sent").headers["x-salver-model-version"] == "7"
    (folder,) = uploads(server)
    for path in [folder, folder.parent, folder / "7"]:
        assert os.stat(path).st_mode & 0o777 == 0o700
    assert (folder / "7" / "model.onnx").read_bytes() == OTHER
    with pytest.raises(InferenceServerException):
        client.load_model("sent")  # the repository has none of that name
    assert four(server, "sent").status_code == 200
    client.unload_model("sent")
    server.until(lambda: not uploads(server), "without the files")
    assert not [name for name, _ in index(server) if name == "sent"]
    assert four(server, "sent").status_code == 404 and client.is_server_ready()


def test_files_stand_in_for_a_folder_until_the_next_plain_load(explicit):
    server, folder, client = explicit
    client.load_model("two_versions", config="{}", files={"file:5/model.onnx": OTHER})
    assert four(server, "two_versions").headers["x-salver-model-version"] == "5"
    client.load_model("two_versions", config="{}", files={"file:6/model.onnx": OTHER})
    server.until(lambda: len(uploads(server)) == 1, "with the second files only")
    client.load_model("two_versions")
    assert four(server, "two_versions").headers["x-salver-model-version"] == "2"
    server.until(lambda: not uploads(server), "without the files")
    client.load_model("two_versions", config="{}", files={"file:5/model.onnx": OTHER})
    client.unload_model("two_versions")
    server.until(lambda: not uploads(server), "without the files")
    assert sorted(path.name for path in folder.iterdir()) == ["identity_fp32", "two_versions"]
    assert any(name == "two_versions" for name, _ in index(server))


@pytest.mark.announced_errors("two_versions", "sent")
def test_of_several_versions_all_come_or_none_do(explicit):
    server, _, client = explicit
    before = index(server)
    policy = json.dumps({"version_policy": {"all": {}}})
    files = {"file:1/model.onnx": OTHER, "file:5/model.onnx": OTHER, "file:6/model.onnx": b"no model"}
    for name in ("two_versions", "sent"):
        refused(lambda name=name: client.load_model(name, config=policy, files=files), f"'{name}'")
        server.until(lambda: not uploads(server), "without the files")
    serving = {key: state for key, state in index(server).items() if state == "READY"}
    assert serving == {key: state for key, state in before.items() if state == "READY"}
    assert four(server, "two_versions").headers["x-salver-model-version"] == "2"
    assert four(server, "two_versions", 1).json()["outputs"][0]["data"] == [1] * 4
    assert client.is_server_ready() and four(server, "sent").status_code == 404


ESCAPES = [
    "../../root/x", "../x", "1/../../x", "a/../../b", "./../x", "a//../..", "1/.", "/etc/x", "1\\..\\x", "", "1/.ssh/x",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_files_never_leave_their_folder(explicit, path):
    server, _, client = explicit
    files = {"file:1/model.onnx": OTHER, f"file:{path}": b"escaped"}
    refused(lambda: client.load_model("sent", config="{}", files=files), "expected a path inside the model's folder")
    assert not uploads(server)
    assert not [name for name, _ in index(server) if name == "sent"]


@pytest.mark.announced_errors("sent", "two_versions")
@pytest.mark.parametrize("name", ["sent", "two_versions"])
@pytest.mark.parametrize("files, text", [
    ({"file:1/model.onnx": b"no model"}, ""), ({"file:1/other.onnx": OTHER}, "model.onnx does not exist"),
    ({"file:labels.txt": b"a"}, "no version folder"), ({"file:1/model.onnx": b""}, "empty"),
])
def test_files_that_make_no_model_are_400_and_leave_nothing(explicit, name, files, text):
    server, _, client = explicit
    before = index(server)
    caught = refused(lambda: client.load_model(name, config="{}", files=files), f"'{name}'", text)
    assert str(server.folder) not in caught.message() or text == ""
    assert index(server) == before and client.is_server_ready()
    server.until(lambda: not uploads(server), "without the files")
    assert four(server, "two_versions").headers["x-salver-model-version"] == "2"


@pytest.mark.announced_errors("sent")
@pytest.mark.parametrize("location", ["../../../identity_fp32/1/model.onnx", "/etc/passwd", "../../model-x/weights"])
def test_a_graph_cannot_point_outside_of_its_folder(explicit, location):
    server, _, client = explicit
    weights = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("Add", ["INPUT0", "W"], ["OUTPUT0"])], "g",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, [None, 4])], [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    refused(lambda: client.load_model("sent", config="{}", files={"file:1/model.onnx": model.SerializeToString()}))
    assert not [name for name, _ in index(server) if name == "sent"]


def test_weights_beside_the_graph_are_found(explicit):
    server, _, client = explicit
    weights = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="weights.bin")
    graph = helper.make_graph(
        [helper.make_node("Add", ["INPUT0", "W"], ["OUTPUT0"])], "g",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, [None, 4])], [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    files = {
        "file:1/model.onnx": model.SerializeToString(), "file:1/weights.bin": np.arange(4, dtype=np.float32).tobytes(),
        "file:labels.txt": b"a\nb\nc\nd\n",
    }
    labels = json.dumps({"output": [{"name": "OUTPUT0", "label_filename": "labels.txt"}]})
    client.load_model("sent", config=labels, files=files)
    assert four(server, "sent").json()["outputs"][0]["data"] == [0, 1, 2, 3]


def test_files_need_a_configuration_and_base64(explicit):
    server, _, _ = explicit
    data = base64.b64encode(OTHER).decode()
    for parameters, text in [
        ({"file:1/model.onnx": data}, "needs the parameter 'config'"),
        ({"file:1/model.onnx": "not base64!", "config": "{}"}, "base64"),
        ({"file:1/model.onnx": 7, "config": "{}"}, "base64"), ({"config": {}}, "JSON"),
        ({"config": "{}", **{f"file:1/{i}": data[:4] for i in range(257)}}, "256 files"),
    ]:
        answer = load_by_hand(server, "sent", parameters)
        assert answer.status_code == 400 and text in answer.json()["error"], answer.text
    assert not uploads(server)


def test_models_of_other_layouts_take_a_configuration_too(start):
    server = start(
        MODELS / "tfserving" / "half_plus_two", MODELS / "sklearn" / "iris_ml.onnx", "--model-control", "explicit",
        "--load-model", "*",
    )
    for name in ("half_plus_two", "iris_ml"):
        answered = config(server, name)
        answer = load_by_hand(server, name, {"config": json.dumps({**answered, "max_batch_size": 7})})
        assert answer.status_code == 200, answer.text
        assert config(server, name) == {**answered, "max_batch_size": 7}
    body = {"inputs": [{"name": "x", "shape": [8], "datatype": "FP32", "data": [1] * 8}]}
    assert server.post("/v2/models/half_plus_two/infer", body).status_code == 400
    server.stop()


@pytest.mark.announced_errors("two_versions", "sent")
def test_under_a_memory_limit_a_model_sent_stays_what_it_is(start, repository):
    server = start(
        repository("two_versions"), "--model-control", "explicit", "--memory-limit", "4GiB", "--allow-model-upload"
    )
    good, bad = base64.b64encode(OTHER).decode(), base64.b64encode(b"no model").decode()
    assert load_by_hand(server, "two_versions", {"config": "{}", "file:1/model.onnx": bad}).status_code == 400
    assert four(server, "two_versions").headers["x-salver-model-version"] == "2"
    assert load_by_hand(server, "sent", {"config": "{}", "file:9/model.onnx": good}).status_code == 200
    assert load_by_hand(server, "sent", {"config": "{}", "file:10/model.onnx": bad}).status_code == 400
    assert four(server, "sent").headers["x-salver-model-version"] == "9"
    assert len(uploads(server)) == 1
    assert server.post("/v2/repository/models/sent/unload").status_code == 200
    server.until(lambda: not uploads(server), "without the files")
    assert four(server, "sent").status_code == 404
    server.stop()


def test_files_are_not_taken_unless_the_server_was_told_to(start, repository):
    server = start(repository("two_versions"), "--model-control", "explicit")
    data = base64.b64encode(OTHER).decode()
    answer = load_by_hand(server, "sent", {"config": "{}", "file:1/model.onnx": data})
    assert answer.status_code == 501 and "--allow-model-upload" in answer.json()["error"]
    with grpcclient.InferenceServerClient(server.grpc) as client, pytest.raises(InferenceServerException) as caught:
        client.load_model("sent", config="{}", files={"file:1/model.onnx": OTHER})
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    assert load_by_hand(server, "two_versions", {"config": "{}"}).status_code == 200
    assert not (server.folder / "data" / "uploads").exists()
    server.stop()


def test_without_explicit_control_nothing_is_taken(start, repository):
    server = start(repository("two_versions"), "--allow-model-upload")
    data = base64.b64encode(OTHER).decode()
    for parameters in ({"config": "{}"}, {"config": "{}", "file:1/model.onnx": data}):
        answer = load_by_hand(server, "two_versions", parameters)
        assert answer.status_code == 503 and "explicit" in answer.json()["error"]
    assert not uploads(server)
    server.stop()


def test_what_a_killed_server_had_taken_goes_when_the_next_one_starts(start, repository, tmp_path):
    folder, data = repository("two_versions"), tmp_path / "data"
    flags = (folder, "--model-control", "explicit", "--allow-model-upload", "--data", data, "--registry=false")
    first = start(*flags)
    body = {"config": "{}", "file:1/model.onnx": base64.b64encode(OTHER).decode()}
    assert load_by_hand(first, "sent", body).status_code == 200
    other = start(*flags)
    assert load_by_hand(other, "sent", body).status_code == 200
    found = lambda: sorted((data / "uploads").glob("server-*/model-*"))
    assert len(found()) == 2
    first.process.kill()
    first.wait()
    assert len(found()) == 2
    last = start(*flags)
    assert len(found()) == 1 and four(other, "sent").status_code == 200
    other.stop()
    last.stop()
    assert not list((data / "uploads").glob("server-*"))
