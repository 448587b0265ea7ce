"""tritonclient over gRPC, synchronous, streaming and asyncio, unmodified."""

import asyncio
import queue

import grpc
import numpy as np
import pytest
import tritonclient.grpc as client
from harness import PATIENCE_S, assert_same, model_file, ort
from tensors import SAMPLES, pair
from tritonclient.grpc import aio, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module", params=["grpc port", "http port"])
def address(request, triton):
    """Both listeners speak gRPC: one port is enough."""
    return triton.grpc if request.param == "grpc port" else triton.http


@pytest.fixture(scope="module")
def rpc(address):
    with client.InferenceServerClient(address) as connection:
        yield connection


@pytest.fixture(scope="module")
def stub(address):
    with grpc.insecure_channel(address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def tensor(name, datatype, value):
    return client.InferInput(name, list(value.shape), datatype).set_data_from_numpy(value)


def wanted(*names):
    return [client.InferRequestedOutput(name) for name in names]


def add_sub(dtype=np.float32, batch=2):
    first, second = pair(dtype, batch)
    datatype = {np.float32: "FP32", np.int32: "INT32"}[dtype]
    return first, second, [tensor("INPUT0", datatype, first), tensor("INPUT1", datatype, second)]


@pytest.mark.parametrize("short", SAMPLES)
def test_every_type_comes_back_as_it_went_in(rpc, short):
    datatype, value = SAMPLES[short]
    name = f"identity_{short}"
    result = rpc.infer(name, [tensor("INPUT0", datatype, value)], client_timeout=PATIENCE_S)
    assert_same(result.as_numpy("OUTPUT0"), ort(model_file(name), INPUT0=value)["OUTPUT0"])


def test_bytes_that_are_no_text_pass(rpc):
    value = np.array([[b"\xff\x00\xfe", b""]], object)
    result = rpc.infer("identity_bytes", [tensor("INPUT0", "BYTES", value)])
    assert list(result.as_numpy("OUTPUT0").reshape(-1)) == [b"\xff\x00\xfe", b""]


@pytest.mark.parametrize("short, dtype", [("int32", np.int32), ("fp32", np.float32)])
def test_add_sub_equals_onnx_runtime(rpc, short, dtype):
    first, second, inputs = add_sub(dtype, 8)
    result = rpc.infer(f"add_sub_{short}", inputs, request_id="α-1", outputs=wanted("OUTPUT1", "OUTPUT0"))
    expected = ort(model_file(f"add_sub_{short}"), INPUT0=first, INPUT1=second)
    assert_same(result.as_numpy("OUTPUT0"), expected["OUTPUT0"])
    assert_same(result.as_numpy("OUTPUT1"), expected["OUTPUT1"])
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("α-1", f"add_sub_{short}", "1")


def test_only_the_outputs_asked_for_come_back(rpc):
    _, _, inputs = add_sub()
    response = rpc.infer("add_sub_fp32", inputs, outputs=wanted("OUTPUT1")).get_response()
    assert [o.name for o in response.outputs] == ["OUTPUT1"]
    assert len(response.raw_output_contents) == 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (8, 4, 1), (1, 0, 3)])
def test_output_shapes_follow_the_input(rpc, shape):
    value = np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
    result = rpc.infer("dynamic_shape", [tensor("INPUT0", "FP32", value)])
    expected = ort(model_file("dynamic_shape"), INPUT0=value)
    for name in ("OUTPUT0", "OUTPUT1"):
        assert list(result.get_output(name).shape) == list(expected[name].shape)
        if expected[name].size:
            assert_same(result.as_numpy(name), expected[name])


def test_a_model_without_batching_and_a_reshaped_one(rpc):
    value = np.arange(6).reshape(2, 3).astype(np.float32)
    result = rpc.infer("no_batch", [tensor("INPUT0", "FP32", value)])
    assert_same(result.as_numpy("OUTPUT0"), ort(model_file("no_batch"), INPUT0=value)["OUTPUT0"])
    column = np.array([[2], [5]], np.float32)
    result = rpc.infer("reshaped", [tensor("INPUT0", "FP32", column)])
    expected = ort(model_file("reshaped"), INPUT0=column.reshape(2))["OUTPUT0"]
    assert_same(result.as_numpy("OUTPUT0"), expected.reshape(2, 1))


@pytest.mark.parametrize("version, served", [("1", 1), ("2", 2), ("", 2)])
def test_versions_are_told_apart_and_none_means_the_highest(rpc, version, served):
    value = np.zeros((1, 4), np.float32)
    result = rpc.infer("two_versions", [tensor("INPUT0", "FP32", value)], model_version=version)
    expected = ort(model_file("two_versions", served), INPUT0=value)
    assert_same(result.as_numpy("OUTPUT0"), expected["OUTPUT0"])
    assert result.get_response().model_version == str(served)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_calls(rpc, algorithm):
    first, second, inputs = add_sub(batch=8)
    result = rpc.infer("add_sub_fp32", inputs, compression_algorithm=algorithm)
    assert_same(result.as_numpy("OUTPUT0"), first + second)


def test_a_message_above_four_mebibytes_passes(rpc):
    value = np.arange(2_000_000, dtype=np.float32).reshape(1, -1)
    result = rpc.infer("identity_fp32", [tensor("INPUT0", "FP32", value)], client_timeout=PATIENCE_S)
    assert_same(result.as_numpy("OUTPUT0"), value)


def test_health_and_metadata(rpc):
    assert rpc.is_server_live()
    assert rpc.is_server_ready()
    assert rpc.is_model_ready("add_sub_fp32")
    assert rpc.is_model_ready("two_versions", "1")
    assert not rpc.is_model_ready("nobody")
    assert "model_repository" in rpc.get_server_metadata().extensions
    metadata = rpc.get_model_metadata("add_sub_int32")
    assert metadata.platform == "onnxruntime_onnx"
    assert list(metadata.versions) == ["1"]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("INPUT0", "INT32", [-1, 16]), ("INPUT1", "INT32", [-1, 16]),
    ]


def test_configuration_is_the_protobuf(rpc):
    config = rpc.get_model_config("add_sub_fp32").config
    assert (config.name, config.platform, config.max_batch_size) == ("add_sub_fp32", "onnxruntime_onnx", 8)
    assert config.input[0].data_type == client.model_config_pb2.TYPE_FP32
    assert list(config.output[1].dims) == [16]
    assert config.HasField("dynamic_batching")
    assert rpc.get_model_config("two_versions").config.version_policy.HasField("all")
    assert rpc.get_model_config("labelled").config.output[0].label_filename == "labels.txt"
    assert rpc.get_model_config("reshaped").config.input[0].HasField("reshape")


def test_statistics_and_index(rpc):
    def numbers():
        entry, = rpc.get_inference_statistics("identity_uint8").model_stats
        return entry.inference_stats.success.count, entry.inference_count, entry.execution_count

    before = numbers()
    rpc.infer("identity_uint8", [tensor("INPUT0", "UINT8", np.ones((3, 1), np.uint8))])
    after = numbers()
    assert tuple(a - b for a, b in zip(after, before, strict=True)) == (1, 3, 1)
    index = {(m.name, m.version): m.state for m in rpc.get_model_repository_index().models}
    assert index["two_versions", "2"] == "READY"


@pytest.mark.parametrize(
    "model, version, inputs, code, texts",
    [
        ("nobody", "", {"INPUT0": ("FP32", (1, 16))}, "NOT_FOUND", ["Request for unknown model: 'nobody' is not found"]),
        ("two_versions", "7", {"INPUT0": ("FP32", (1, 4))}, "NOT_FOUND", ["'two_versions' version 7 is not found"]),
        ("two_versions", "one", {"INPUT0": ("FP32", (1, 4))}, "INVALID_ARGUMENT", ["one"]),
        ("add_sub_fp32", "", {"INPUT0": ("FP32", (1, 16))}, "INVALID_ARGUMENT", ["INPUT1", "add_sub_fp32"]),
        (
            "add_sub_fp32", "", {"INPUT0": ("FP32", (1, 15)), "INPUT1": ("FP32", (1, 16))}, "INVALID_ARGUMENT",
            ["unexpected shape for input 'INPUT0' for model 'add_sub_fp32'", "Expected [-1,16], got [1,15]"],
        ),
        (
            "add_sub_int32", "", {"INPUT0": ("FP32", (1, 16)), "INPUT1": ("INT32", (1, 16))}, "INVALID_ARGUMENT",
            ["inference input 'INPUT0' data-type is 'FP32', but model 'add_sub_int32' expects 'INT32'"],
        ),
        (
            "add_sub_fp32", "", {"INPUT0": ("FP32", (9, 16)), "INPUT1": ("FP32", (9, 16))}, "INVALID_ARGUMENT",
            ["inference request batch-size must be <= 8 for 'add_sub_fp32'"],
        ),
    ],
    ids=["model", "version", "no version", "missing", "shape", "type", "batch too large"],
)
def test_errors_have_their_code_and_name_what_is_wrong(rpc, model, version, inputs, code, texts):
    dtypes = {"FP32": np.float32, "INT32": np.int32}
    tensors = [tensor(n, d, np.zeros(shape, dtypes[d])) for n, (d, shape) in inputs.items()]
    with pytest.raises(InferenceServerException) as caught:
        rpc.infer(model, tensors, model_version=version)
    assert caught.value.status() == f"StatusCode.{code}"
    for text in texts:
        assert text in caught.value.message()


def test_an_unknown_output_is_named(rpc):
    _, _, inputs = add_sub()
    with pytest.raises(InferenceServerException, match="unexpected inference output 'NONE' for model 'add_sub_fp32'"):
        rpc.infer("add_sub_fp32", inputs, outputs=wanted("NONE"))


def test_asynchronous_calls_keep_their_ids(rpc):
    answers = queue.Queue()
    for i in range(16):
        value = np.full((1, 3), i, np.float32)
        rpc.async_infer(
            "identity_fp32", [tensor("INPUT0", "FP32", value)],
            callback=lambda result, error: answers.put((result, error)), request_id=str(i),
        )
    seen = set()
    for _ in range(16):
        result, error = answers.get(timeout=PATIENCE_S)
        assert error is None
        i = int(result.get_response().id)
        assert (result.as_numpy("OUTPUT0") == i).all()
        seen.add(i)
    assert seen == set(range(16))


def test_a_deadline_ends_the_call_and_the_model_stays_usable(rpc):
    value = np.ones((1, 1), np.float32)
    inputs = [tensor("INPUT0", "FP32", value)]
    with pytest.raises(InferenceServerException) as caught:
        rpc.infer("slow", inputs, client_timeout=0.003)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert_same(rpc.infer("slow", inputs, client_timeout=PATIENCE_S).as_numpy("OUTPUT0"), value)


def test_one_stream_serves_several_models_and_survives_a_bad_request(rpc):
    answers = queue.Queue()
    rpc.start_stream(lambda result, error: answers.put((result, error)))
    first, second, inputs = add_sub()
    rpc.async_stream_infer("add_sub_fp32", inputs, request_id="sum")
    rpc.async_stream_infer("nobody", inputs, request_id="bad")
    value = np.array([[7]], np.int64)
    rpc.async_stream_infer("identity_int64", [tensor("INPUT0", "INT64", value)], request_id="same")
    results, errors = {}, []
    for _ in range(3):
        result, error = answers.get(timeout=PATIENCE_S)
        if error is None:
            results[result.get_response().id] = result
        else:
            errors.append(error.message())
    rpc.stop_stream()
    assert_same(results["sum"].as_numpy("OUTPUT0"), first + second)
    assert_same(results["same"].as_numpy("OUTPUT0"), value)
    assert len(errors) == 1 and "nobody" in errors[0]


def test_the_single_reply_of_a_stream_is_marked_final_when_asked(rpc):
    answers = queue.Queue()
    rpc.start_stream(lambda result, error: answers.put((result, error)))
    _, _, inputs = add_sub()
    rpc.async_stream_infer("add_sub_fp32", inputs, request_id="f", enable_empty_final_response=True)
    result, error = answers.get(timeout=PATIENCE_S)
    rpc.stop_stream()
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param is True


def test_asyncio_client_with_a_stream(address):
    async def calls():
        async with aio.InferenceServerClient(address) as rpc:
            assert await rpc.is_server_ready()
            assert (await rpc.get_model_metadata("add_sub_fp32")).name == "add_sub_fp32"

            async def one(i):
                value = np.full((1, 3), i, np.float32)
                result = await rpc.infer("identity_fp32", [tensor("INPUT0", "FP32", value)])
                assert_same(result.as_numpy("OUTPUT0"), value)

            await asyncio.gather(*(one(i) for i in range(32)))

            async def requests():
                for i in range(4):
                    value = np.full((1, 2), i, np.int32)
                    yield {
                        "model_name": "identity_int32", "request_id": str(i),
                        "inputs": [tensor("INPUT0", "INT32", value)],
                    }

            seen = {}
            async for result, error in rpc.stream_infer(requests()):
                assert error is None
                seen[int(result.get_response().id)] = result.as_numpy("OUTPUT0")[0, 0]
                if len(seen) == 4:
                    break
            assert seen == {i: i for i in range(4)}
            with pytest.raises(InferenceServerException, match="nobody"):
                await rpc.infer("nobody", [tensor("INPUT0", "FP32", np.zeros((1, 1), np.float32))])

    asyncio.run(calls())


# Typed contents and the ways to get a message wrong, with the generated stubs: the client
# above always sends raw contents.

TYPED = {
    "bool": ("bool_contents", lambda v: bool(v)),
    "int8": ("int_contents", int), "int16": ("int_contents", int), "int32": ("int_contents", int),
    "int64": ("int64_contents", int),
    "uint8": ("uint_contents", int), "uint16": ("uint_contents", int), "uint32": ("uint_contents", int),
    "uint64": ("uint64_contents", int),
    "fp32": ("fp32_contents", float), "fp64": ("fp64_contents", float),
    "bytes": ("bytes_contents", lambda v: v.encode()),
}


def message(model, *inputs, raw=(), version=""):
    """inputs: (name, datatype, shape, {field: values})."""
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for name, datatype, shape, contents in inputs:
        one = request.inputs.add(name=name, datatype=datatype, shape=shape)
        for field, values in contents.items():
            getattr(one.contents, field).extend(values)
    request.raw_input_contents.extend(raw)
    return request


@pytest.mark.parametrize("short", TYPED)
def test_typed_contents_are_taken_and_the_reply_is_raw(stub, short):
    datatype, value = SAMPLES[short]
    field, convert = TYPED[short]
    name = f"identity_{short}"
    reply = stub.ModelInfer(
        message(name, ("INPUT0", datatype, value.shape, {field: [convert(v) for v in value.reshape(-1)]})),
        timeout=PATIENCE_S,
    )
    assert len(reply.raw_output_contents) == 1
    assert_same(
        client.InferResult(reply).as_numpy("OUTPUT0"), ort(model_file(name), INPUT0=value)["OUTPUT0"]
    )


FOUR = b"\x00\x00\x80\x3f" * 4


@pytest.mark.parametrize(
    "request_message",
    [
        message("identity_fp32", ("INPUT0", "FP32", [1, 4], {"fp32_contents": [1] * 4}), raw=[FOUR]),
        message("identity_fp32", ("INPUT0", "FP32", [1, 4], {}), raw=[FOUR, FOUR]),
        message("identity_fp32", ("INPUT0", "FP32", [1, 4], {})),
        message("identity_fp32", ("INPUT0", "FP32", [1, 4], {}), raw=[FOUR[:-1]]),
        message("identity_fp32", ("INPUT0", "FP32", [1, 4], {"fp32_contents": [1] * 3})),
        message("identity_fp32", ("INPUT0", "FP32", [1, 4], {"int_contents": [1] * 4})),
        message("identity_int8", ("INPUT0", "INT8", [1, 1], {"int_contents": [200]})),
        message("identity_uint8", ("INPUT0", "UINT8", [1, 1], {"uint_contents": [256]})),
        message("identity_fp16", ("INPUT0", "FP16", [1, 2], {"fp32_contents": [1, 2]})),
        message("identity_fp32", ("INPUT0", "FP32", [2**4, 2**60 + 2], {}), raw=[b"\0" * 128]),
        message("identity_fp32", ("INPUT0", "FP32", [1, 100_000_000_000], {"fp32_contents": [1, 2]})),
        message("identity_fp32", ("INPUT0", "FP32", [1, -4], {}), raw=[FOUR]),
        message("identity_fp32", ("INPUT0", "FP32", [0, 4], {}), raw=[b""]),
        message("identity_fp32", ("INPUT0", "fp32", [1, 4], {}), raw=[FOUR]),
        message("identity_bytes", ("INPUT0", "BYTES", [1, 1], {}), raw=[b"\xff\xff\xff\xffabc"]),
        message("identity_bytes", ("INPUT0", "BYTES", [1, 2], {}), raw=[b"\x01\0\0\0a"]),
        message(
            "identity_fp32", ("INPUT0", "FP32", [1, 4], {}), ("INPUT0", "FP32", [1, 4], {}), raw=[FOUR, FOUR]
        ),
        message("add_sub_fp32"),
    ],
    ids=[
        "typed and raw", "blob too many", "blob missing", "blob too short", "elements missing", "wrong field",
        "above int8", "above uint8", "typed fp16", "overflowing shape", "huge shape", "negative shape",
        "batch 0", "lower case type", "lying bytes length", "bytes element missing", "input twice", "no inputs",
    ],
)
def test_messages_that_contradict_themselves_are_refused(stub, request_message):
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request_message, timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details()
    good = stub.ModelInfer(
        message("identity_fp32", ("INPUT0", "FP32", [1, 4], {}), raw=[FOUR]), timeout=PATIENCE_S
    )
    assert good.raw_output_contents[0] == FOUR


def test_a_call_without_an_implementation_is_unimplemented(address):
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/Nothing")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=PATIENCE_S)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_health_service_mirrors_readiness(address):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        reply = health.Check(health_pb2.HealthCheckRequest(service=""), timeout=PATIENCE_S)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services_and_describes_the_main_one(address):
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
        ProtoReflectionDescriptorDatabase,
    )

    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(database.get_services())
        service = DescriptorPool(database).FindServiceByName("inference.GRPCInferenceService")
        assert {"ModelInfer", "ModelStreamInfer", "RepositoryIndex"} <= {m.name for m in service.methods}
