"""The v2 protocol and Triton's extensions, statement by statement: what no other file holds.

Raw requests and tritonclient, over REST and gRPC. Models that wait or fail on purpose are in Python.
"""

import gzip
import json
import os
import queue
import re
import shutil
import struct
import threading
import zlib

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import MODELS, PATIENCE_S
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException
from workers import FLAGS, eventually, model

FOUR = struct.pack("<4f", 1, 2, 3, 4)
INFER = "/v2/models/{}/infer"


def one(data, shape=None, datatype="FP32", name="INPUT0"):
    return {"name": name, "shape": shape or [1, len(data)], "datatype": datatype, "data": data}


def infer(server, model, *inputs, **members):
    return server.post(INFER.format(model), {"inputs": list(inputs), **members})


def blob(size, shape, datatype="FP32", name="INPUT0"):
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}


def binary(server, model, head, blobs=b"", extra=()):
    text = json.dumps(head).encode()
    headers = [("Inference-Header-Content-Length", len(text)), *extra]
    return server.request("POST", INFER.format(model), headers, text + blobs)


def split(answer):
    assert answer.status == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    return json.loads(answer.body[:length]), answer.body[length:]


def refused(answer, *texts, status=400):
    code = getattr(answer, "status", None) or answer.status_code
    assert code == status, answer.text
    assert {k.lower(): v for k, v in answer.headers.items()}["content-type"].startswith("application/json")
    for text in texts:
        assert text in answer.json()["error"]


@pytest.fixture(scope="module")
def stub(triton):
    with grpc.insecure_channel(triton.grpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def message(model, *inputs, raw=(), **members):
    """inputs: (name, datatype, shape)."""
    request = service_pb2.ModelInferRequest(model_name=model, **members)
    for name, datatype, shape in inputs:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
    request.raw_input_contents.extend(raw)
    return request


def fails_with(code, call, *texts):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == code, caught.value
    for text in texts:
        assert text in caught.value.details()


CODE = grpc.StatusCode


# A model that loads and answers when it is let, and one that gives pieces.

GATE = """
import pathlib
import time

HERE = pathlib.Path(__file__).parent


def wait(name):
    while not (HERE / name).exists():
        time.sleep(0.01)


class Gate:
    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}

    def __init__(self):
        wait("may_load")

    def predict(self, batch):
        if batch["x"].min() == -1:
            (HERE / "runs").touch()
            wait("may_answer")
        if batch["x"].min() == -2:
            raise RuntimeError("asked to")
        return batch["x"]
"""

PIECES = """
class Pieces:
    inputs = {"n": ("INT32", [1])}
    outputs = {"i": ("INT32", [1])}

    def predict(self, batch):
        for i in range(int(batch["n"][0])):
            if i == 2:
                raise ValueError("two is enough")
            yield {"i": [i]}
"""


class Gate:
    """A server under explicit control with one model that waits for files in its folder."""

    def __init__(self, start, folder):
        self.folder = model(folder / "gate", GATE, "[instances]\ncount = 1\n")
        shutil.copytree(MODELS / "triton" / "identity_fp32", folder / "identity_fp32")
        self.server = start(
            folder / "gate", folder / "identity_fp32", "--model-control", "explicit",
            "--load-model", "identity_fp32", *FLAGS,
        )

    def let(self, what):
        (self.folder / what).touch()

    def state(self):
        entries = self.server.post("/v2/repository/index").json()
        return next(entry for entry in entries if entry["name"] == "gate").get("state")

    def later(self, call):
        """The answer of a call that is made meanwhile, once its thread has ended."""
        answers = []
        thread = threading.Thread(target=lambda: answers.append(call()))
        thread.start()

        def wait():
            thread.join(timeout=PATIENCE_S)
            return answers[0]

        return wait

    def load(self):
        return self.server.post("/v2/repository/models/gate/load")

    def ask(self, value):
        return infer(self.server, "gate", one([value], name="x"))

    def rpc(self, value):
        with grpc_client.InferenceServerClient(self.server.grpc) as client:
            value = np.array([[value]], np.float32)
            return client.infer("gate", [grpc_client.InferInput("x", [1, 1], "FP32").set_data_from_numpy(value)])

    def is_serving(self):
        """What all ways of asking say: they have to agree."""
        with grpc_client.InferenceServerClient(self.server.grpc) as client:
            said = {client.is_server_ready()}
        with grpc.insecure_channel(self.server.grpc) as channel:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
            said.add({1: True, 2: False}[reply.status])
        answer = self.server.get("/v2/health/ready")
        assert answer.status_code in (200, 400, 503)
        said.add(answer.status_code == 200)
        assert len(said) == 1
        return said.pop()


@pytest.fixture
def gate(start, tmp_path):
    gate = Gate(start, tmp_path)
    yield gate
    gate.let("may_load")
    gate.let("may_answer")
    gate.server.stop()


# 1. Errors


def test_a_model_that_is_being_loaded_is_unavailable_and_the_server_is_not_ready(gate):
    assert gate.is_serving()
    loading = gate.later(gate.load)
    gate.server.until(lambda: gate.state() == "LOADING", "loading")
    assert not gate.is_serving()
    refused(gate.server.get("/v2/models/gate/ready"))
    refused(gate.ask(1.0), "gate", status=503)
    with pytest.raises(InferenceServerException, match="gate") as caught:
        gate.rpc(1.0)
    assert caught.value.status() == "StatusCode.UNAVAILABLE"
    gate.let("may_load")
    assert loading().status_code == 200
    assert gate.state() == "READY" and gate.is_serving()
    assert gate.ask(1.0).json()["outputs"][0]["data"] == [1.0]


def test_an_unload_returns_at_once_and_finishes_what_runs(gate):
    gate.let("may_load")
    answer = gate.load()
    assert (answer.status_code, answer.content) == (200, b"")
    running = gate.later(lambda: gate.ask(-1.0))
    eventually((gate.folder / "runs").exists, "in the model")
    answer = gate.server.post("/v2/repository/models/gate/unload")
    assert (answer.status_code, answer.content) == (200, b"")
    gate.server.until(lambda: gate.state() == "UNLOADING", "unloading")
    refused(gate.ask(1.0), "'gate'", status=404)
    gate.let("may_answer")
    assert running().json()["outputs"][0]["data"] == [-1.0]
    gate.server.until(lambda: gate.state() == "UNAVAILABLE", "unloaded")
    assert gate.is_serving(), "what was unloaded on request does not count"
    refused(gate.ask(1.0), "'gate'", "has no available versions", status=404)
    with pytest.raises(InferenceServerException, match="'gate'.*has no available versions") as caught:
        gate.rpc(1.0)
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_a_server_is_not_ready_while_a_model_is_unloading(gate):
    gate.let("may_load")
    gate.load()
    running = gate.later(lambda: gate.ask(-1.0))
    eventually((gate.folder / "runs").exists, "in the model")
    gate.server.post("/v2/repository/models/gate/unload")
    gate.server.until(lambda: gate.state() == "UNLOADING", "unloading")
    assert not gate.is_serving()
    gate.let("may_answer")
    assert running().status_code == 200
    gate.server.until(lambda: gate.server.get("/v2/health/ready").status_code == 200, "ready again")
    assert gate.is_serving()


@pytest.mark.announced_errors("asked to")
def test_only_the_servers_own_fault_is_500_and_internal(gate):
    gate.let("may_load")
    gate.load()
    refused(gate.ask(-2.0), "gate", status=500)
    with pytest.raises(InferenceServerException, match="gate") as caught:
        gate.rpc(-2.0)
    assert caught.value.status() == "StatusCode.INTERNAL"


@pytest.mark.announced_errors("gate")
def test_a_load_that_failed_counts_against_readiness_until_it_is_mended(gate):
    code = (gate.folder / "model.py").read_text()
    (gate.folder / "model.py").write_text("class Gate:\n    def __init__(self):\n        raise RuntimeError('asked to')\n")
    assert gate.load().status_code != 200
    assert gate.state() == "UNAVAILABLE" and not gate.is_serving()
    (gate.folder / "model.py").write_text(code)
    gate.let("may_load")
    assert gate.load().status_code == 200
    assert gate.is_serving()


def test_a_full_queue_is_unavailable_over_grpc(start, tmp_path):
    server = start(queued(tmp_path, "dynamic_batching { default_queue_policy { max_queue_size: 1 } }"))
    errors = queue.Queue()
    with grpc_client.InferenceServerClient(server.grpc) as client:
        value = grpc_client.InferInput("INPUT0", [1, 1], "FP32").set_data_from_numpy(np.ones((1, 1), np.float32))
        for _ in range(24):
            client.async_infer("slow", [value], lambda result, error: errors.put(error))
        seen = [errors.get(timeout=PATIENCE_S) for _ in range(24)]
    refusals = [error for error in seen if error is not None]
    assert 0 < len(refusals) < 24
    assert {error.status() for error in refusals} == {"StatusCode.UNAVAILABLE"}
    assert all("Exceeds maximum queue size" in error.message() for error in refusals)
    server.stop()


def queued(folder, batching):
    path = folder / "repository" / "slow"
    shutil.copytree(MODELS / "triton" / "slow", path)
    config = (path / "config.pbtxt").read_text()
    (path / "config.pbtxt").write_text(re.sub(r"dynamic_batching \{ \}", batching, config))
    return path.parent


def test_memory_of_cuda_is_not_offered(triton):
    """Clients that clear up before they begin are served; nothing can be registered."""
    with http_client.InferenceServerClient(triton.http) as client:
        assert client.get_cuda_shared_memory_status() == []
        client.unregister_cuda_shared_memory("r")
        client.unregister_cuda_shared_memory()
        for call, status in (
            (lambda: client.get_cuda_shared_memory_status("r"), "404"),
            (lambda: client.register_cuda_shared_memory("r", b"handle", 0, 64), "501"),
        ):
            with pytest.raises(InferenceServerException, match="(?i)cuda") as caught:
                call()
            assert caught.value.status() == status


def test_memory_of_cuda_is_not_offered_over_grpc(stub):
    def call(verb, **fields):
        request = getattr(service_pb2, f"CudaSharedMemory{verb}Request")(**fields)
        return getattr(stub, f"CudaSharedMemory{verb}")(request, timeout=PATIENCE_S)

    assert not call("Status").regions
    call("Unregister")
    call("Unregister", name="r")
    fails_with(CODE.NOT_FOUND, lambda: call("Status", name="r"))
    fails_with(CODE.UNIMPLEMENTED, lambda: call("Register", name="r", byte_size=64))


@pytest.mark.parametrize("method, path, status", [
    ("DELETE", "/v2/models/identity_fp32", 405), ("POST", "/v2", 405), ("PUT", INFER.format("identity_fp32"), 405),
    ("GET", "/v2/repository/index", 405), ("GET", "/v2/repository/models/identity_fp32/load", 405),
    ("POST", "/v2/models/identity_fp32/infer/more", 404), ("GET", "/v2/models/identity_fp32/versions", 404),
])
def test_wrong_methods_and_paths_have_an_error_object(triton, method, path, status):
    refused(triton.request(method, path), status=status)


def test_an_error_does_not_echo_what_is_long(triton):
    long = "x" * 100_000
    for answer in (
        infer(triton, "identity_fp32", one([1], datatype=long)),
        infer(triton, "identity_fp32", one([long])),
        infer(triton, "identity_fp32", one([1]), outputs=[{"name": long}]),
        infer(triton, "identity_fp32", one([1]), parameters={"triton_" + long: 1}),
        triton.post("/v2/repository/index", {"ready": long}),
    ):
        refused(answer)
        assert len(answer.content) < 4096


def test_an_error_over_grpc_does_not_echo_what_is_long(stub):
    long = "x" * 100_000
    for request in (
        message(long), message("identity_fp32", (long, "FP32", [1, 4]), raw=[FOUR]),
        message("identity_fp32", ("INPUT0", long, [1, 4]), raw=[FOUR]), message("identity_fp32", model_version=long),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request, timeout=PATIENCE_S)
        assert caught.value.code() == CODE.INVALID_ARGUMENT and 0 < len(caught.value.details()) < 4096


# 2. Health and metadata


def test_a_model_that_is_not_ready_says_so(triton):
    for path in ("/v2/models/nobody/ready", "/v2/models/two_versions/versions/3/ready"):
        refused(triton.get(path), "Model version not ready")


@pytest.mark.parametrize("version", [1, 2])
def test_everything_about_a_model_may_name_a_version(triton, version):
    path = f"/v2/models/two_versions/versions/{version}"
    assert triton.get(path).json()["name"] == "two_versions"
    assert triton.get(f"{path}/ready").json() == {"name": "two_versions", "ready": True}
    assert triton.get(f"{path}/config").json()["name"] == "two_versions"
    stats, = triton.get(f"{path}/stats").json()["model_stats"]
    assert (stats["name"], stats["version"]) == ("two_versions", str(version))


@pytest.mark.parametrize("what, status", [("", 404), ("/config", 404), ("/stats", 400), ("/ready", 400)])
def test_an_unknown_version_is_refused_like_an_unknown_model(triton, what, status):
    refused(triton.get(f"/v2/models/two_versions/versions/7{what}"), status=status)
    refused(triton.get(f"/v2/models/nobody{what}"), status=status)


@pytest.mark.parametrize("version, status", [
    ("one", 404), ("1.0", 404), ("-1", 404), ("1a", 404), ("0", 404), (2**63 - 1, 404), (2**63, 400), (2**64, 400),
    (10**40, 400),
])
def test_versions_in_paths_are_decimal_numbers_of_63_bits(triton, version, status):
    refused(triton.get(f"/v2/models/two_versions/versions/{version}"), status=status)
    refused(triton.post(f"/v2/models/two_versions/versions/{version}/infer", {"inputs": [one([0] * 4)]}), status=status)


@pytest.mark.parametrize("path", ["/v2/health/ready", "/v2/models/identity_fp32/ready"])
def test_head_is_allowed_where_health_is_asked(triton, path):
    answer = triton.request("HEAD", path)
    assert (answer.status, answer.body) == (200, b"")


def test_names_in_paths_are_decoded_for_requests_too(triton):
    body = json.dumps({"inputs": [one([5])]}).encode()
    assert triton.request("POST", "/v2/models/identity%5Ffp32/infer", body=body).status == 200


def test_server_metadata_are_texts_and_nothing_absent_is_named(triton):
    metadata = triton.get("/v2").json()
    assert all(isinstance(text, str) and text for text in (metadata["name"], metadata["version"], *metadata["extensions"]))
    assert not {"cuda_shared_memory", "generate"} & set(metadata["extensions"])


def test_the_metadata_have_the_types_of_the_document(triton):
    metadata = triton.get("/v2/models/no_batch").json()
    assert metadata == {
        "name": "no_batch", "versions": ["1"], "platform": "onnxruntime_onnx",
        "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [2, 3]}],
        "outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [2, 3]}],
    }
    assert triton.get("/v2/models/dynamic_shape").json()["inputs"][0]["shape"] == [-1, -1, -1]


# 3. Inference


def test_the_reply_has_these_members_and_no_more(triton):
    answer = infer(triton, "two_versions", one([0] * 4), id="i").json()
    output = {"name": "OUTPUT0", "datatype": "FP32", "shape": [1, 4], "data": [2] * 4}
    assert answer == {"id": "i", "model_name": "two_versions", "model_version": "2", "outputs": [output]}


@pytest.mark.parametrize("depth, status", [(97, 200), (98, 400)])
def test_a_body_is_nested_at_most_a_hundred_deep(triton, depth, status):
    """The lists of `data` stand in an object in a list in an object."""
    body = json.dumps({"inputs": [one([1.0])]}).replace("[1.0]", "[" * depth + "1.0" + "]" * depth).encode()
    assert triton.request("POST", INFER.format("identity_fp32"), body=body).status == status


def test_blobs_go_with_their_outputs(triton):
    inputs = [one(list(range(16))), one([1] * 16, name="INPUT1")]
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in ("OUTPUT1", "OUTPUT0")]
    reply, blobs = split(binary(triton, "add_sub_fp32", {"inputs": inputs, "outputs": wanted}))
    found = {}
    for output in reply["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]], blobs = np.frombuffer(blobs[:size], np.float32).tolist(), blobs[size:]
    assert found == {"OUTPUT0": [x + 1 for x in range(16)], "OUTPUT1": [x - 1 for x in range(16)]}
    assert blobs == b""


def test_blobs_and_json_alternate_in_a_reply(triton):
    inputs = [one(list(range(16))), one([1] * 16, name="INPUT1")]
    wanted = [{"name": "OUTPUT0"}, {"name": "OUTPUT1", "parameters": {"binary_data": True}}]
    reply, blobs = split(binary(triton, "add_sub_fp32", {"inputs": inputs, "outputs": wanted}))
    outputs = {output["name"]: output for output in reply["outputs"]}
    assert outputs["OUTPUT0"]["data"] == [x + 1 for x in range(16)] and "parameters" not in outputs["OUTPUT0"]
    assert np.frombuffer(blobs, np.float32).tolist() == [x - 1 for x in range(16)]


@pytest.mark.parametrize("short, datatype", [("fp32", "FP32"), ("fp64", "FP64")])
@pytest.mark.parametrize("number", [b"1e999", b"-1e999"])
def test_a_number_beyond_every_float_is_refused(triton, short, datatype, number):
    body = json.dumps({"inputs": [one([7], datatype=datatype)]}).encode().replace(b"[7]", b"[" + number + b"]")
    refused(triton.request("POST", INFER.format(f"identity_{short}"), body=body), "INPUT0")


@pytest.mark.parametrize("text", ["Infinity", "-Infinity", "1"])
def test_no_text_stands_for_a_float(triton, text):
    refused(infer(triton, "identity_fp32", one([text])), "INPUT0")


@pytest.mark.parametrize("datatype", ["int32", "FP33", "STRING", "TYPE_FP32", ""])
def test_an_unknown_datatype_has_tritons_text(triton, datatype):
    refused(infer(triton, "identity_fp32", one([1], datatype=datatype)), "invalid datatype for input", "INPUT0")


@pytest.mark.parametrize("batch, status", [(0, 400), (1, 200), (8, 200), (9, 400)])
def test_the_first_dimension_is_the_batch(triton, batch, status):
    assert infer(triton, "identity_fp32", one([1] * batch, [batch, 1])).status_code == status


@pytest.mark.parametrize("shape, status", [([2, 3], 200), ([1, 2, 3], 400), ([6], 400), ([3, 2], 400)])
def test_without_a_batch_the_shape_is_the_whole_one(triton, shape, status):
    assert infer(triton, "no_batch", one([1] * 6, shape)).status_code == status


def test_blobs_of_nothing_need_no_header_either_way(triton):
    head = {"inputs": [blob(0, [1, 0])], "parameters": {"binary_data_output": True}}
    without = triton.request("POST", INFER.format("identity_fp32"), body=json.dumps(head).encode())
    for answer in (binary(triton, "identity_fp32", head), without):
        assert answer.status == 200, answer.text
        assert answer.headers["content-type"].startswith("application/json")
        assert "inference-header-content-length" not in answer.headers
        output, = answer.json()["outputs"]
        assert (output["shape"], output["parameters"]) == ([1, 0], {"binary_data_size": 0})


@pytest.mark.parametrize("sent", [7, 1.5, True, None, ["a"], {}])
def test_an_id_is_a_text(triton, sent):
    refused(infer(triton, "identity_fp32", one([1]), id=sent), "id")


@pytest.mark.parametrize("value", [[1], {}, None])
def test_parameters_of_tensors_are_scalars_too(triton, value):
    refused(infer(triton, "identity_fp32", one([1]) | {"parameters": {"mine": value}}), "mine")
    wanted = [{"name": "OUTPUT0", "parameters": {"mine": value}}]
    refused(infer(triton, "identity_fp32", one([1]), outputs=wanted), "mine")


@pytest.mark.parametrize("parameters", [[], "x", 1, None])
def test_parameters_are_an_object(triton, parameters):
    refused(infer(triton, "identity_fp32", one([1]), parameters=parameters), "parameters")
    refused(infer(triton, "identity_fp32", one([1]) | {"parameters": parameters}), "INPUT0")


def test_unknown_scalar_parameters_of_tensors_are_ignored(triton):
    wanted = [{"name": "OUTPUT0", "parameters": {"mine": 1}, "more": []}]
    answer = infer(triton, "identity_fp32", one([1]) | {"parameters": {"mine": "x"}, "more": 1}, outputs=wanted)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("outputs", [
    {}, "OUTPUT0", 1, ["OUTPUT0"], [{}], [{"name": 1}], [{"name": "OUTPUT0", "parameters": []}],
])
def test_outputs_are_a_list_of_objects_with_names(triton, outputs):
    refused(infer(triton, "identity_fp32", one([1]), outputs=outputs), "output")


# Binary tensors


def test_blobs_come_in_the_order_of_the_inputs_that_have_one(triton):
    first, second = np.arange(16, dtype=np.float32), np.full(16, 3, np.float32)
    for inputs, blobs, expected in [
        ([blob(64, [1, 16], name="INPUT1"), blob(64, [1, 16])], second.tobytes() + first.tobytes(), first - second),
        ([blob(64, [1, 16], name="INPUT1"), one(first.tolist())], second.tobytes(), first - second),
        ([one(second.tolist()), blob(64, [1, 16], name="INPUT1")], first.tobytes(), second - first),
    ]:
        answer = binary(triton, "add_sub_fp32", {"inputs": inputs}, blobs)
        assert {o["name"]: o["data"] for o in answer.json()["outputs"]}["OUTPUT1"] == expected.tolist()


def test_half_floats_are_two_little_endian_bytes(triton):
    for short, datatype, bits in (("fp16", "FP16", b"\x00\x3c\x01\x00"), ("bf16", "BF16", b"\x80\x3f\x01\x00")):
        head = {"inputs": [blob(4, [1, 2], datatype)], "parameters": {"binary_data_output": True}}
        assert split(binary(triton, f"identity_{short}", head, bits))[1] == bits


def test_texts_are_a_length_and_any_bytes(triton):
    content = b"".join(struct.pack("<I", len(text)) + text for text in (b"\xff\x00\xfe", b"", b"a" * 70_000))
    head = {"inputs": [blob(len(content), [1, 3], "BYTES")], "parameters": {"binary_data_output": True}}
    assert split(binary(triton, "identity_bytes", head, content))[1] == content


@pytest.mark.parametrize("outputs, is_binary", [
    (None, True), ([], True), ([{"name": "OUTPUT0"}], False),
    ([{"name": "OUTPUT0", "parameters": {"binary_data": True}}], True),
    ([{"name": "OUTPUT0", "parameters": {"binary_data": False}}], False),
])
def test_the_flag_of_the_request_counts_where_no_output_is_listed(triton, outputs, is_binary):
    members = {} if outputs is None else {"outputs": outputs}
    answer = infer(triton, "identity_fp32", one([1]), parameters={"binary_data_output": True}, **members)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == ("application/octet-stream" if is_binary else "application/json")
    assert ("inference-header-content-length" in answer.headers) == is_binary


@pytest.mark.parametrize("length", ["-0", "1e1", "0x10", "1 2", "99999999999999999999", " "])
def test_a_length_header_that_is_no_number_is_refused(triton, length):
    text = json.dumps({"inputs": [blob(16, [1, 4])]}).encode()
    headers = [("Inference-Header-Content-Length", length)]
    refused(triton.request("POST", INFER.format("identity_fp32"), headers, text + FOUR))


def test_a_raw_text_is_taken_where_the_model_has_one_for_a_row(start, repository):
    folder = repository("identity_bytes")
    config = folder / "identity_bytes" / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: -1", "dims: 1").replace("[ -1 ]", "[ 1 ]"))
    server = start(folder)
    content = b"any \xff bytes \x00 at all"
    answer = server.request("POST", INFER.format("identity_bytes"), [("Inference-Header-Content-Length", 0)], content)
    reply, blobs = split(answer)
    assert reply["outputs"][0]["shape"] == [1, 1]
    assert blobs == struct.pack("<I", len(content)) + content
    server.stop()


@pytest.mark.parametrize("model, body, status", [
    ("identity_fp32", b"", 400), ("identity_fp32", FOUR[:-1], 400), ("labelled", FOUR[:12], 200), ("labelled", FOUR, 400),
    ("identity_fp16", b"\x00\x3c", 200), ("no_batch", FOUR + FOUR[:8], 200), ("no_batch", FOUR, 400),
])
def test_a_raw_body_fits_a_shape_with_at_most_one_free_dimension(triton, model, body, status):
    answer = triton.request("POST", INFER.format(model), [("Inference-Header-Content-Length", 0)], body)
    assert answer.status == status, answer.text


# Compression


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "x"])
def test_another_coding_is_415(triton, coding):
    body = json.dumps({"inputs": [one([1])]}).encode()
    answer = triton.request("POST", INFER.format("identity_fp32"), [("Content-Encoding", coding)], body)
    refused(answer, status=415)
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("coding, broken", [
    ("gzip", b"{}"), ("deflate", b"{}"), ("gzip", zlib.compress(b"{}")), ("gzip", b""), ("deflate", b""),
    ("deflate", zlib.compress(b'{"inputs": []}')[:-3]),
])
def test_a_body_that_does_not_decode_is_400(triton, coding, broken):
    refused(triton.request("POST", INFER.format("identity_fp32"), [("Content-Encoding", coding)], broken))


@pytest.mark.parametrize("accept, coding", [
    ("deflate, gzip", "gzip"), ("deflate;q=0.5, gzip;q=0.5", "gzip"), ("gzip;q=0, deflate", "deflate"),
    ("gzip;q=0, deflate;q=0", None), ("deflate;q=0, gzip;q=0.1", "gzip"), ("identity", None), (None, None),
    ("gzip;q=0.1, deflate;q=0.9", "deflate"), ("br;q=1, gzip;q=0.001", "gzip"),
])
def test_the_better_coding_wins_and_gzip_a_tie(triton, accept, coding):
    body = json.dumps({"inputs": [one([1])]}).encode()
    answer = triton.request("POST", INFER.format("identity_fp32"), [("Accept-Encoding", accept)] if accept else [], body)
    assert answer.headers.get("content-encoding") == coding
    plain = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[coding](answer.body)
    assert json.loads(plain)["outputs"][0]["data"] == [1]


@pytest.mark.parametrize("coding, unpack", [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_the_length_header_of_a_compressed_reply_counts_decompressed_bytes(triton, coding, unpack):
    head = {"inputs": [blob(16, [1, 4])], "parameters": {"binary_data_output": True}}
    answer = binary(triton, "identity_fp32", head, FOUR, [("Accept-Encoding", coding)])
    assert answer.headers["content-encoding"] == coding
    body, length = unpack(answer.body), int(answer.headers["inference-header-content-length"])
    assert body[length:] == FOUR and json.loads(body[:length])["outputs"][0]["shape"] == [1, 4]


# 4. gRPC


def test_every_call_is_there(stub):
    """The shared memory calls are off here and held elsewhere; so are load and unload."""
    for call, request in [
        ("ServerLive", service_pb2.ServerLiveRequest()), ("ServerReady", service_pb2.ServerReadyRequest()),
        ("ModelReady", service_pb2.ModelReadyRequest(name="identity_fp32")),
        ("ServerMetadata", service_pb2.ServerMetadataRequest()),
        ("ModelMetadata", service_pb2.ModelMetadataRequest(name="identity_fp32")),
        ("ModelConfig", service_pb2.ModelConfigRequest(name="identity_fp32")),
        ("ModelStatistics", service_pb2.ModelStatisticsRequest()),
        ("RepositoryIndex", service_pb2.RepositoryIndexRequest()),
        ("TraceSetting", service_pb2.TraceSettingRequest()), ("LogSettings", service_pb2.LogSettingsRequest()),
    ]:
        assert getattr(stub, call)(request, timeout=PATIENCE_S).ByteSize() > 0, call
    for call in ("RepositoryModelLoad", "RepositoryModelUnload"):
        request = getattr(service_pb2, f"{call}Request")(model_name="identity_fp32")
        fails_with(CODE.UNAVAILABLE, lambda: getattr(stub, call)(request, timeout=PATIENCE_S), "explicit")


@pytest.mark.parametrize("version", ["one", "1.0", "-2", " 1", "+1", str(2**63), "1" * 40])
@pytest.mark.parametrize("call", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ModelInfer"])
def test_a_version_that_is_no_number_is_an_invalid_argument(stub, call, version):
    request = getattr(service_pb2, f"{call}Request")()
    if call == "ModelInfer":
        request.model_name, request.model_version = "two_versions", version
    else:
        request.name, request.version = "two_versions", version
    fails_with(CODE.INVALID_ARGUMENT, lambda: getattr(stub, call)(request, timeout=PATIENCE_S))


@pytest.mark.parametrize("version", ["", "-1"])
def test_no_version_is_the_highest(stub, version):
    """-1 is how Triton itself writes it."""
    request = message("two_versions", ("INPUT0", "FP32", [1, 4]), raw=[FOUR], model_version=version)
    assert stub.ModelInfer(request, timeout=PATIENCE_S).model_version == "2"


@pytest.mark.parametrize("call, code", [
    ("ModelMetadata", CODE.NOT_FOUND), ("ModelConfig", CODE.NOT_FOUND), ("ModelStatistics", CODE.NOT_FOUND),
    ("ModelReady", None),
])
@pytest.mark.parametrize("name, version", [("nobody", ""), ("two_versions", "7")])
def test_an_unknown_model_is_not_found_and_not_ready(stub, call, code, name, version):
    request = getattr(service_pb2, f"{call}Request")(name=name, version=version)
    if call == "ModelReady":
        assert not stub.ModelReady(request, timeout=PATIENCE_S).ready
    else:
        fails_with(code, lambda: getattr(stub, call)(request, timeout=PATIENCE_S), name)


def two(**contents):
    request = message("add_sub_fp32", ("INPUT0", "FP32", [1, 16]), ("INPUT1", "FP32", [1, 16]))
    for name, values in contents.items():
        if name != "raw":
            request.inputs[int(name[-1])].contents.fp32_contents.extend(values)
    request.raw_input_contents.extend(contents.get("raw", []))
    return request


@pytest.mark.parametrize("count", [1, 3])
def test_there_is_a_blob_for_each_input(stub, count):
    fails_with(CODE.INVALID_ARGUMENT, lambda: stub.ModelInfer(two(raw=[FOUR * 4] * count), timeout=PATIENCE_S))


def test_blobs_and_typed_contents_do_not_mix(stub):
    for request in (two(raw=[FOUR * 4], input1=[1] * 16), two(raw=[FOUR * 4] * 2, input0=[1] * 16)):
        fails_with(CODE.INVALID_ARGUMENT, lambda request=request: stub.ModelInfer(request, timeout=PATIENCE_S))


def test_a_typed_field_for_one_input_and_none_for_the_other_is_refused(stub):
    fails_with(CODE.INVALID_ARGUMENT, lambda: stub.ModelInfer(two(input0=[1] * 16), timeout=PATIENCE_S), "INPUT1")


def test_a_reply_has_a_blob_for_each_output_in_their_order(stub):
    reply = stub.ModelInfer(two(input0=range(16), input1=[1] * 16), timeout=PATIENCE_S)
    blobs = dict(zip([o.name for o in reply.outputs], reply.raw_output_contents, strict=True))
    assert np.frombuffer(blobs["OUTPUT0"], np.float32).tolist() == [x + 1 for x in range(16)]
    assert np.frombuffer(blobs["OUTPUT1"], np.float32).tolist() == [x - 1 for x in range(16)]
    assert not any(len(o.contents.fp32_contents) for o in reply.outputs)


def test_half_floats_are_raw_only(stub):
    request = message("identity_bf16", ("INPUT0", "BF16", [1, 1]))
    request.inputs[0].contents.fp32_contents.append(1)
    fails_with(CODE.INVALID_ARGUMENT, lambda: stub.ModelInfer(request, timeout=PATIENCE_S), "INPUT0")


@pytest.mark.parametrize("kind, value", [
    ("bool_param", True), ("int64_param", -5), ("string_param", "x"), ("double_param", 1.5), ("uint64_param", 2**64 - 1),
])
def test_parameters_come_in_five_kinds(stub, kind, value):
    request = message("identity_fp32", ("INPUT0", "FP32", [1, 4]), raw=[FOUR])
    setattr(request.parameters["mine"], kind, value)
    assert stub.ModelInfer(request, timeout=PATIENCE_S).raw_output_contents == [FOUR]


@pytest.mark.parametrize("name, kind, value, is_good", [
    ("timeout", "uint64_param", 2**64 - 1, True), ("timeout", "int64_param", 5, True),
    ("priority", "uint64_param", 3, True), ("sequence_id", "string_param", "a", True),
    ("sequence_id", "uint64_param", 7, True), ("sequence_start", "bool_param", True, True),
    ("triton_final_response", "bool_param", True, False),
])
def test_reserved_parameters_mean_the_same_as_over_rest(stub, name, kind, value, is_good):
    request = message("identity_fp32", ("INPUT0", "FP32", [1, 4]), raw=[FOUR])
    setattr(request.parameters[name], kind, value)
    if is_good:
        assert stub.ModelInfer(request, timeout=PATIENCE_S).raw_output_contents == [FOUR]
    else:
        fails_with(CODE.INVALID_ARGUMENT, lambda: stub.ModelInfer(request, timeout=PATIENCE_S), name)


def test_metadata_that_nobody_knows_are_ignored(stub):
    request = message("identity_fp32", ("INPUT0", "FP32", [1, 4]), raw=[FOUR])
    metadata = (("authorization", "Bearer x"), ("x-anything", "1"), ("blob-bin", b"\xff\x00"))
    assert stub.ModelInfer(request, timeout=PATIENCE_S, metadata=metadata).raw_output_contents == [FOUR]


def test_a_failing_request_is_a_message_and_the_stream_lives(stub):
    good = message("identity_fp32", ("INPUT0", "FP32", [1, 4]), raw=[FOUR], id="good")
    bad = message("identity_fp32", ("INPUT0", "FP32", [1, 3]), raw=[FOUR], id="bad")
    call = stub.ModelStreamInfer(iter([good, bad, message("nobody", id="none"), good]), timeout=PATIENCE_S)
    replies = list(call)
    assert call.code() == CODE.OK
    assert [bool(reply.error_message) for reply in replies] == [False, True, True, False]
    assert "INPUT0" in replies[1].error_message and "nobody" in replies[2].error_message
    assert [replies[i].infer_response.id for i in (0, 3)] == ["good", "good"]
    assert "triton_final_response" not in replies[0].infer_response.parameters, "only where it is asked for"


def test_what_a_client_gives_up_is_dropped_from_the_queue(gate):
    """The model is busy with another request, so what waits behind it can be counted."""
    gate.let("may_load")
    gate.load()
    running = gate.later(lambda: gate.ask(-1.0))
    eventually((gate.folder / "runs").exists, "in the model")
    request = message("gate", ("x", "FP32", [1, 1]), raw=[struct.pack("<f", 5)])

    def waits(count):
        gate.server.until(lambda: waiting(gate.server, "gate") == count, f"waited for by {count}")

    waits(0)
    with grpc.insecure_channel(gate.server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer.future(request, timeout=PATIENCE_S) for _ in range(5)]
        waits(5)
        for call in calls:
            call.cancel()
        waits(0)
        assert {call.code() for call in calls} == {CODE.CANCELLED}
        open_end = threading.Event()
        stream = stub.ModelStreamInfer(held_open([request] * 5, open_end), timeout=PATIENCE_S)
        gate.server.until(lambda: waiting(gate.server, "gate") > 0, "waited for by a stream")
        stream.cancel()
        open_end.set()
        waits(0)
        fails_with(CODE.DEADLINE_EXCEEDED, lambda: stub.ModelInfer(request, timeout=0.05))
        waits(0)
    gate.let("may_answer")
    assert running().status_code == 200
    assert gate.ask(5.0).json()["outputs"][0]["data"] == [5.0], "the model stays usable"
    stats, = gate.server.get("/v2/models/gate/stats").json()["model_stats"]
    assert stats["inference_stats"]["success"]["count"] == 2


def held_open(requests, end):
    yield from requests
    end.wait(PATIENCE_S)


def waiting(server, model):
    text = server.get("/metrics").text
    return sum(int(n) for n in re.findall(rf'^salver_queue_requests\{{[^}}]*model="{model}"[^}}]*\}} (\d+)$', text, re.M))


# 5. Extensions


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": false}', b'{"other": 1}'])
def test_the_index_lists_everything_unless_asked_for_what_is_ready(gate, body):
    entries = gate.server.request("POST", "/v2/repository/index", body=body).json()
    assert {entry["name"] for entry in entries} == {"gate", "identity_fp32"}
    assert {"name": "gate"} in entries, "never loaded: only a name"
    ready = gate.server.post("/v2/repository/index", {"ready": True}).json()
    assert [(e["name"], e["version"], e["state"]) for e in ready] == [("identity_fp32", "1", "READY")]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"ready": 1}', b'{"ready": "true"}'])
def test_an_index_request_that_is_none_is_refused(triton, body):
    refused(triton.request("POST", "/v2/repository/index", body=body))


@pytest.fixture(scope="module")
def explicit(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("explicit")
    shutil.copytree(MODELS / "triton" / "identity_fp32", folder / "identity_fp32")
    return start(folder, "--model-control", "explicit")


@pytest.mark.parametrize("module", [http_client, grpc_client])
def test_dependents_may_be_named(explicit, module):
    address = explicit.http if module is http_client else explicit.grpc
    with module.InferenceServerClient(address) as client:
        client.load_model("identity_fp32")
        client.unload_model("identity_fp32", unload_dependents=True)
        explicit.until(lambda: not client.is_model_ready("identity_fp32"), "unloaded")


@pytest.mark.parametrize("what", ["load", "unload"])
def test_load_and_unload_answer_nothing(explicit, what):
    for body in (b"", b"{}", b'{"parameters": {}}'):
        answer = explicit.request("POST", f"/v2/repository/models/identity_fp32/{what}", body=body)
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("body", [
    b"{", b"[]", b'{"parameters": []}', b'{"parameters": {"config": 1}}', b'{"parameters": {"config": {}}}',
])
def test_a_load_request_that_is_none_is_refused(explicit, body):
    explicit.post("/v2/repository/models/identity_fp32/load")
    refused(explicit.request("POST", "/v2/repository/models/identity_fp32/load", body=body))
    assert explicit.get("/v2/models/identity_fp32/ready").status_code == 200
    assert explicit.get("/v2/health/ready").status_code == 200, "what is refused does not count"


def test_labels_lie_beside_the_configuration_and_others_have_none(start, repository):
    folder = repository("labelled")
    config = folder / "labelled" / "config.pbtxt"
    (folder / "labelled" / "other.txt").write_text("one\ntwo\n")
    config.write_text(config.read_text().replace("labels.txt", "other.txt"))
    server = start(folder)
    wanted = [{"name": "SCORES", "parameters": {"classification": 3}}]
    answer = infer(server, "labelled", one([1, 3, 2]), outputs=wanted)
    assert answer.json()["outputs"][0]["data"] == ["3.000000:1:two", "2.000000:2", "1.000000:0:one"]
    server.stop()


@pytest.fixture(scope="module")
def sharing(start):
    return start(MODELS / "triton" / "identity_fp32", "--allow-client-shm")


@pytest.fixture
def region():
    name = f"salver_test_contract_{os.getpid()}"
    with open(f"/dev/shm/{name}", "xb") as file:
        file.write(FOUR + bytes(48))
    yield name
    os.unlink(f"/dev/shm/{name}")


def test_regions_over_rest(sharing, region):
    path = "/v2/systemsharedmemory"
    assert sharing.get(f"{path}/status").json() == []
    register = sharing.post(f"{path}/region/a/register", {"key": f"/{region}", "byte_size": 64})
    assert register.status_code == 200, "an offset that is missing is 0"
    listed = {"name": "a", "key": f"/{region}", "offset": 0, "byte_size": 64}
    assert sharing.get(f"{path}/status").json() == [listed]
    assert sharing.get(f"{path}/region/a/status").json() == [listed]
    place = {"shared_memory_region": "a", "shared_memory_byte_size": 16}
    given = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "parameters": place}
    assert infer(sharing, "identity_fp32", given).json()["outputs"][0]["data"] == [1, 2, 3, 4]
    wanted = [{"name": "OUTPUT0", "parameters": {**place, "shared_memory_offset": 32}}]
    assert infer(sharing, "identity_fp32", given, outputs=wanted).json()["outputs"] == [
        {"name": "OUTPUT0", "datatype": "FP32", "shape": [1, 4]}
    ]
    with open(f"/dev/shm/{region}", "rb") as file:
        assert file.read()[32:48] == FOUR
    refused(sharing.get(f"{path}/region/b/status"), "'b'", status=404)
    assert sharing.post(f"{path}/region/b/unregister").status_code == 200
    assert sharing.post(f"{path}/region/a/unregister").status_code == 200
    assert sharing.get(f"{path}/status").json() == []


def test_trace_settings_are_texts_and_one_list(triton):
    settings = triton.get("/v2/trace/setting").json()
    assert settings.keys() == {"trace_level", "trace_rate", "trace_count", "log_frequency", "trace_file", "trace_mode"}
    assert all(isinstance(text, str) for text in [*settings.pop("trace_level"), *settings.values()])
    refused(triton.get("/v2/models/nobody/trace/setting"), "nobody")


@pytest.mark.parametrize("parameters", [{"timeout": 1}, {"priority": 1}, {"priority": 7, "timeout": 1}])
def test_the_schedule_policy_acts_with_dynamic_batching_only(start, tmp_path, parameters):
    server = start(queued(tmp_path, ""))
    assert "dynamic_batching" not in server.get("/v2/models/slow/config").json()
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(infer(server, "slow", one([1.0]), parameters=parameters).status_code))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    assert answers == [200] * 12
    server.stop()


def test_the_timeout_counts_the_wait_and_not_the_run(start, tmp_path):
    settings = "[instances]\ncount = 1\n[batching]\nmax_rows = 1\ntimeout_ms = 60000\ntimeout_override = true\n"
    folder = model(tmp_path / "gate", GATE, settings)
    (folder / "may_load").touch()
    server = start(folder, *FLAGS)
    answers = queue.Queue()

    def ask(value, timeout):
        answers.put((value, infer(server, "gate", one([value], name="x"), parameters={"timeout": timeout})))

    first = threading.Thread(target=ask, args=(-1.0, 300_000))
    first.start()
    eventually((folder / "runs").exists, "in the model")
    second = threading.Thread(target=ask, args=(1.0, 300_000))
    second.start()
    value, answer = answers.get(timeout=PATIENCE_S)
    assert value == 1.0, "it waited behind the first for as long as it may"
    refused(answer, "Request timeout expired", status=503)
    (folder / "may_answer").touch()
    value, answer = answers.get(timeout=PATIENCE_S)
    assert (value, answer.status_code) == (-1.0, 200), "it has run for longer than that"
    for thread in (first, second):
        thread.join(timeout=PATIENCE_S)
    server.stop()


@pytest.mark.announced_errors("two is enough")
def test_what_fails_after_the_first_event_is_an_event(start, tmp_path):
    server = start(model(tmp_path / "pieces", PIECES, "[instances]\ncount = 1\n"), *FLAGS)
    with server.post("/v2/models/pieces/generate_stream", {"n": 5}, stream=True) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = [json.loads(line.removeprefix(b"data: ")) for line in answer.iter_lines() if line]
    assert [event["i"] for event in events[:-1]] == [0, 1]
    assert events[-1].keys() == {"error"} and "two is enough" in events[-1]["error"]
    server.stop()


@pytest.mark.parametrize("route", ["generate", "generate_stream"])
def test_generate_of_an_unknown_version_is_not_found(triton, route):
    refused(triton.post(f"/v2/models/two_versions/versions/7/{route}", {"INPUT0": [0] * 4}), "7", status=404)
