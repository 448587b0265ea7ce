"""tritonclient over HTTP, synchronous and asyncio, unmodified."""

import asyncio

import numpy as np
import pytest
import tritonclient.http as client
from harness import assert_same, model_file, ort
from tensors import BINARY_ONLY, SAMPLES, pair
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def http(triton):
    with client.InferenceServerClient(triton.http, concurrency=4) as connection:
        yield connection


def tensor(name, datatype, value, binary=True):
    return client.InferInput(name, list(value.shape), datatype).set_data_from_numpy(
        value, binary_data=binary
    )


def wanted(*names, binary=True):
    return [client.InferRequestedOutput(name, binary_data=binary) for name in names]


FORMS = [
    pytest.param(short, binary_in, binary_out, id=f"{short}, {names[binary_in]} in, {names[binary_out]} out")
    for names in [{True: "binary", False: "json"}]
    for short in SAMPLES
    for binary_in in (True, False)
    for binary_out in (True, False)
    # What has no JSON form is refused there: test_v2_rest.py.
    if short not in BINARY_ONLY or (binary_in and binary_out)
]


@pytest.mark.parametrize("short, binary_in, binary_out", FORMS)
def test_every_type_comes_back_as_it_went_in(http, short, binary_in, binary_out):
    datatype, value = SAMPLES[short]
    name = f"identity_{short}"
    result = http.infer(
        name, [tensor("INPUT0", datatype, value, binary_in)],
        outputs=wanted("OUTPUT0", binary=binary_out),
    )
    assert_same(result.as_numpy("OUTPUT0"), ort(model_file(name), INPUT0=value)["OUTPUT0"])


def test_bytes_that_are_no_text_pass_in_binary_form(http):
    value = np.array([[b"\xff\x00\xfe", b""]], object)
    result = http.infer("identity_bytes", [tensor("INPUT0", "BYTES", value)])
    assert list(result.as_numpy("OUTPUT0").reshape(-1)) == [b"\xff\x00\xfe", b""]


@pytest.mark.parametrize("short, datatype, dtype", [("int32", "INT32", np.int32), ("fp32", "FP32", np.float32)])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_add_sub_equals_onnx_runtime(http, short, datatype, dtype, batch, binary):
    first, second = pair(dtype, batch)
    name = f"add_sub_{short}"
    result = http.infer(
        name,
        [tensor("INPUT0", datatype, first, binary), tensor("INPUT1", datatype, second, binary)],
        outputs=wanted("OUTPUT0", "OUTPUT1", binary=binary),
        request_id="α-1",
    )
    expected = ort(model_file(name), INPUT0=first, INPUT1=second)
    assert_same(result.as_numpy("OUTPUT0"), expected["OUTPUT0"])
    assert_same(result.as_numpy("OUTPUT1"), expected["OUTPUT1"])
    response = result.get_response()
    assert response["id"] == "α-1"
    assert (response["model_name"], response["model_version"]) == (name, "1")


def test_json_and_binary_inputs_mix_in_one_request(http):
    first, second = pair(np.float32)
    expected = ort(model_file("add_sub_fp32"), INPUT0=first, INPUT1=second)
    for binary in ((True, False), (False, True)):
        result = http.infer(
            "add_sub_fp32",
            [tensor("INPUT0", "FP32", first, binary[0]), tensor("INPUT1", "FP32", second, binary[1])],
            outputs=wanted("OUTPUT1", binary=binary[0]) + wanted("OUTPUT0", binary=binary[1]),
        )
        assert_same(result.as_numpy("OUTPUT0"), expected["OUTPUT0"])
        assert_same(result.as_numpy("OUTPUT1"), expected["OUTPUT1"])


def test_inputs_in_the_other_order_keep_their_meaning(http):
    first, second = pair(np.float32)
    result = http.infer(
        "add_sub_fp32", [tensor("INPUT1", "FP32", second), tensor("INPUT0", "FP32", first)]
    )
    expected = ort(model_file("add_sub_fp32"), INPUT0=first, INPUT1=second)
    assert_same(result.as_numpy("OUTPUT1"), expected["OUTPUT1"])


def test_only_the_outputs_asked_for_come_back(http):
    first, second = pair(np.float32)
    result = http.infer(
        "add_sub_fp32",
        [tensor("INPUT0", "FP32", first), tensor("INPUT1", "FP32", second)],
        outputs=wanted("OUTPUT1"),
    )
    assert [o["name"] for o in result.get_response()["outputs"]] == ["OUTPUT1"]
    assert result.as_numpy("OUTPUT0") is None


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (8, 4, 1), (1, 0, 3)])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_output_shapes_follow_the_input(http, shape, binary):
    value = np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
    result = http.infer(
        "dynamic_shape", [tensor("INPUT0", "FP32", value, binary)],
        outputs=wanted("OUTPUT0", "OUTPUT1", binary=binary),
    )
    expected = ort(model_file("dynamic_shape"), INPUT0=value)
    # The client has no array for an output without elements; its shape says enough.
    for name in ("OUTPUT0", "OUTPUT1"):
        assert result.get_output(name)["shape"] == list(expected[name].shape)
        if expected[name].size:
            assert_same(result.as_numpy(name), expected[name])


def test_a_model_without_batching_takes_its_full_shape(http):
    value = np.arange(6).reshape(2, 3).astype(np.float32)
    result = http.infer("no_batch", [tensor("INPUT0", "FP32", value)])
    assert_same(result.as_numpy("OUTPUT0"), ort(model_file("no_batch"), INPUT0=value)["OUTPUT0"])


@pytest.mark.parametrize("version, served", [("1", 1), ("2", 2), ("", 2)])
def test_versions_are_told_apart_and_none_means_the_highest(http, version, served):
    value = np.zeros((1, 4), np.float32)
    result = http.infer("two_versions", [tensor("INPUT0", "FP32", value)], model_version=version)
    expected = ort(model_file("two_versions", served), INPUT0=value)
    assert_same(result.as_numpy("OUTPUT0"), expected["OUTPUT0"])
    assert result.get_response()["model_version"] == str(served)


def test_a_folder_without_config_is_served_from_its_graph(http):
    value = np.array([[1, 2, 3]], np.float32)
    result = http.infer("auto_config", [tensor("x", "FP32", value)])
    assert_same(result.as_numpy("y"), ort(model_file("auto_config"), x=value)["y"])
    config = http.get_model_config("auto_config")
    assert config["max_batch_size"] == 4
    assert "dynamic_batching" in config


def test_reshape_hides_the_graphs_shape(http):
    value = np.array([[2], [5]], np.float32)
    result = http.infer("reshaped", [tensor("INPUT0", "FP32", value)])
    expected = ort(model_file("reshaped"), INPUT0=value.reshape(2))["OUTPUT0"]
    assert_same(result.as_numpy("OUTPUT0"), expected.reshape(2, 1))
    metadata = http.get_model_metadata("reshaped")
    assert metadata["inputs"] == [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, 1]}]


@pytest.mark.parametrize("request_by", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_by", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_compression_works_both_ways(http, request_by, response_by, binary):
    first, second = pair(np.float32, 8)
    result = http.infer(
        "add_sub_fp32",
        [tensor("INPUT0", "FP32", first, binary), tensor("INPUT1", "FP32", second, binary)],
        outputs=wanted("OUTPUT0", "OUTPUT1", binary=binary),
        request_compression_algorithm=request_by,
        response_compression_algorithm=response_by,
    )
    assert_same(result.as_numpy("OUTPUT0"), first + second)


def test_requests_sent_at_once_all_get_their_own_answer(http):
    inputs = [np.full((1, 16), i, np.float32) for i in range(32)]
    pending = [
        http.async_infer(
            "add_sub_fp32",
            [tensor("INPUT0", "FP32", value), tensor("INPUT1", "FP32", value)],
            request_id=str(i),
        )
        for i, value in enumerate(inputs)
    ]
    for i, (value, request) in enumerate(zip(inputs, pending, strict=True)):
        result = request.get_result()
        assert result.get_response()["id"] == str(i)
        assert_same(result.as_numpy("OUTPUT0"), value + value)


def test_health(http):
    assert http.is_server_live()
    assert http.is_server_ready()
    assert http.is_model_ready("add_sub_fp32")
    assert http.is_model_ready("two_versions", "1")
    assert not http.is_model_ready("two_versions", "3")
    assert not http.is_model_ready("nobody")


def test_server_metadata_names_the_extensions(http):
    metadata = http.get_server_metadata()
    assert isinstance(metadata["name"], str) and isinstance(metadata["version"], str)
    assert {"binary_tensor_data", "model_repository", "model_configuration", "statistics"} <= set(
        metadata["extensions"]
    )
    assert "sequence" in metadata["extensions"]
    assert "cuda_shared_memory" not in metadata["extensions"]


def test_model_metadata(http):
    metadata = http.get_model_metadata("add_sub_int32")
    assert metadata["name"] == "add_sub_int32"
    assert metadata["versions"] == ["1"]
    assert metadata["platform"] == "onnxruntime_onnx"
    assert metadata["inputs"] == [
        {"name": name, "datatype": "INT32", "shape": [-1, 16]} for name in ("INPUT0", "INPUT1")
    ]
    assert metadata["outputs"] == [
        {"name": name, "datatype": "INT32", "shape": [-1, 16]} for name in ("OUTPUT0", "OUTPUT1")
    ]
    assert http.get_model_metadata("no_batch")["inputs"][0]["shape"] == [2, 3]
    assert http.get_model_metadata("identity_bytes")["inputs"][0]["datatype"] == "BYTES"
    assert sorted(http.get_model_metadata("two_versions")["versions"]) == ["1", "2"]


def test_model_configuration(http):
    config = http.get_model_config("add_sub_fp32")
    assert config["name"] == "add_sub_fp32"
    assert config["platform"] == "onnxruntime_onnx"
    assert config["max_batch_size"] == 8
    assert [(i["name"], i["data_type"], [int(d) for d in i["dims"]]) for i in config["input"]] == [
        ("INPUT0", "TYPE_FP32", [16]), ("INPUT1", "TYPE_FP32", [16]),
    ]
    assert [o["name"] for o in config["output"]] == ["OUTPUT0", "OUTPUT1"]
    assert config["instance_group"][0]["count"] == 1
    assert config["default_model_filename"] == "model.onnx"
    assert "dynamic_batching" in config
    assert int(config["version_policy"]["latest"]["num_versions"]) == 1
    assert "all" in http.get_model_config("two_versions")["version_policy"]
    assert http.get_model_config("identity_bytes")["input"][0]["data_type"] == "TYPE_STRING"
    assert http.get_model_config("labelled")["output"][0]["label_filename"] == "labels.txt"
    parameters = http.get_model_config("labelled")["parameters"]
    assert parameters["intra_op_thread_count"]["string_value"] == "1"
    delay = http.get_model_config("dynamic_shape")["dynamic_batching"]
    assert [int(n) for n in delay["preferred_batch_size"]] == [4, 8]
    assert int(delay["max_queue_delay_microseconds"]) == 100


def test_statistics_count_requests_rows_and_executions(http):
    def numbers():
        entry, = http.get_inference_statistics("identity_int16", "1")["model_stats"]
        return (
            entry["inference_stats"]["success"]["count"], entry["inference_count"],
            entry["execution_count"], entry["last_inference"],
        )

    before = numbers()
    value = np.ones((4, 2), np.int16)
    http.infer("identity_int16", [tensor("INPUT0", "INT16", value)])
    http.infer("identity_int16", [tensor("INPUT0", "INT16", value[:1])])
    with pytest.raises(InferenceServerException):
        http.infer("identity_int16", [tensor("WRONG", "INT16", value)])
    after = numbers()
    assert after[0] - before[0] == 2
    assert after[1] - before[1] == 5
    assert after[2] - before[2] == 2
    assert after[3] >= before[3] and after[3] > 1_600_000_000_000
    everything = http.get_inference_statistics()["model_stats"]
    assert {"add_sub_fp32", "two_versions"} <= {entry["name"] for entry in everything}


def test_the_repository_index_lists_every_version(http):
    index = {(e["name"], e.get("version")): e.get("state") for e in http.get_model_repository_index()}
    assert index["two_versions", "1"] == "READY"
    assert index["two_versions", "2"] == "READY"
    assert index["add_sub_fp32", "1"] == "READY"


@pytest.mark.parametrize(
    "model, inputs, status, texts",
    [
        ("nobody", {"INPUT0": ("FP32", (1, 16))}, "404", ["Request for unknown model: 'nobody'", "is not found"]),
        ("add_sub_fp32", {"INPUT0": ("FP32", (1, 16))}, "400", ["add_sub_fp32", "INPUT1"]),
        (
            "add_sub_fp32", {"INPUT0": ("FP32", (1, 15)), "INPUT1": ("FP32", (1, 16))}, "400",
            ["unexpected shape for input 'INPUT0' for model 'add_sub_fp32'", "Expected [-1,16], got [1,15]"],
        ),
        (
            "add_sub_int32", {"INPUT0": ("FP32", (1, 16)), "INPUT1": ("INT32", (1, 16))}, "400",
            ["inference input 'INPUT0' data-type is 'FP32', but model 'add_sub_int32' expects 'INT32'"],
        ),
        (
            "add_sub_fp32", {"INPUT0": ("FP32", (9, 16)), "INPUT1": ("FP32", (9, 16))}, "400",
            ["inference request batch-size must be <= 8 for 'add_sub_fp32'"],
        ),
        (
            "add_sub_fp32", {"INPUT0": ("FP32", (1, 16)), "INPUT1": ("FP32", (2, 16))}, "400",
            ["add_sub_fp32"],
        ),
        (
            "identity_fp32", {"INPUT0": ("FP32", (1, 2)), "INPUT7": ("FP32", (1, 2))}, "400",
            ["INPUT7", "identity_fp32"],
        ),
    ],
    ids=["model", "missing", "shape", "type", "batch too large", "batches differ", "unknown input"],
)
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_errors_name_what_is_wrong(http, model, inputs, status, texts, binary):
    dtypes = {"FP32": np.float32, "INT32": np.int32}
    tensors = [
        tensor(name, datatype, np.zeros(shape, dtypes[datatype]), binary)
        for name, (datatype, shape) in inputs.items()
    ]
    with pytest.raises(InferenceServerException) as caught:
        http.infer(model, tensors)
    assert caught.value.status() == status
    for text in texts:
        assert text in caught.value.message()


def test_an_unknown_output_is_named(http):
    value = np.zeros((1, 2), np.float32)
    with pytest.raises(InferenceServerException, match="unexpected inference output 'NONE' for model 'identity_fp32'"):
        http.infer("identity_fp32", [tensor("INPUT0", "FP32", value)], outputs=wanted("NONE"))


def test_an_unknown_version_is_named(http):
    value = np.zeros((1, 4), np.float32)
    with pytest.raises(
        InferenceServerException, match="Request for unknown model: 'two_versions' version 7 is not found"
    ):
        http.infer("two_versions", [tensor("INPUT0", "FP32", value)], model_version="7")


def test_load_and_unload_are_refused_without_explicit_control(http):
    for call in (http.load_model, http.unload_model):
        with pytest.raises(InferenceServerException) as caught:
            call("add_sub_fp32")
        assert caught.value.status() == "503"
    assert http.is_model_ready("add_sub_fp32")


def test_asyncio_client(triton):
    async def calls():
        async with aio.InferenceServerClient(triton.http) as http:
            assert await http.is_server_ready()
            assert await http.is_model_ready("add_sub_fp32")
            assert (await http.get_model_metadata("add_sub_fp32"))["name"] == "add_sub_fp32"
            assert (await http.get_model_config("add_sub_fp32"))["max_batch_size"] == 8

            async def one(i, binary):
                first = np.full((1, 16), i, np.float32)
                second = np.ones((1, 16), np.float32)
                result = await http.infer(
                    "add_sub_fp32",
                    [tensor("INPUT0", "FP32", first, binary), tensor("INPUT1", "FP32", second, binary)],
                    outputs=wanted("OUTPUT0", "OUTPUT1", binary=binary),
                    request_id=str(i),
                )
                assert_same(result.as_numpy("OUTPUT0"), first + second)
                assert_same(result.as_numpy("OUTPUT1"), first - second)
                assert result.get_response()["id"] == str(i)

            await asyncio.gather(*(one(i, i % 2 == 0) for i in range(32)))
            with pytest.raises(InferenceServerException, match="nobody"):
                await http.get_model_metadata("nobody")

    asyncio.run(calls())
