"""Ragged inputs through unmodified clients: the elements of all requests of a batch one after the other."""

import json
import random
import shutil
import subprocess
import threading

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from harness import BINARY, MODELS, PATIENCE_S
from tritonclient.utils import InferenceServerException

RAGGED = MODELS / "ragged"


def waiting_for(folder, preferred):
    """The models, but a batch waits a minute for so many rows: what is sent together runs together."""
    shutil.copytree(RAGGED, folder)
    for config in folder.glob("*/config.pbtxt"):
        batching = f"dynamic_batching {{ preferred_batch_size: [ {preferred} ] max_queue_delay_microseconds: 60000000 }}"
        text = config.read_text()
        assert text.count("dynamic_batching { }") == 1
        config.write_text(text.replace("dynamic_batching { }", batching) + "instance_group [ { count: 1 } ]\n")
    return folder


@pytest.fixture(scope="module")
def server(start):
    return start(RAGGED)


@pytest.fixture(scope="module")
def merging(start, tmp_path_factory):
    return start(waiting_for(tmp_path_factory.mktemp("ragged") / "models", 4), "--log-level", "debug")


@pytest.fixture(params=["http", "grpc"])
def module(request):
    return {"http": http_client, "grpc": grpc_client}[request.param]


def connect(module, server):
    return module.InferenceServerClient(server.http if module is http_client else server.grpc)


def tensor(module, name, array, datatype="FP32"):
    return module.InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)


def values(*rows):
    return np.array(rows, np.float32)


def together(module, server, model, requests):
    """Sends requests side by side; returns their results in order."""
    results = [None] * len(requests)

    def ask(idx):
        with connect(module, server) as connection:
            results[idx] = connection.infer(model, requests[idx])

    threads = [threading.Thread(target=ask, args=(idx,)) for idx in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    assert all(result is not None for result in results)
    return results


def executions(server, model):
    """How often each batch size ran."""
    with http_client.InferenceServerClient(server.http) as connection:
        (stats,) = connection.get_inference_statistics(model)["model_stats"]
    return {batch["batch_size"]: batch["compute_infer"]["count"] for batch in stats["batch_stats"]}


def new_executions(before, after):
    return {size: count - before.get(size, 0) for size, count in after.items() if count != before.get(size, 0)}


def check_sums(result, array):
    """Each request has one row of its own."""
    np.testing.assert_array_equal(result.as_numpy("TOTAL"), array.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(result.as_numpy("DOUBLED"), array * 2)


@pytest.mark.parametrize("length", [0, 1, 7, 1000])
def test_a_lone_request_has_its_own_sum_and_its_own_shape(module, server, length):
    array = np.arange(length, dtype=np.float32).reshape(1, length)
    with connect(module, server) as connection:
        check_sums(connection.infer("ragged_sums", [tensor(module, "VALUES", array)]), array)


def test_requests_of_different_lengths_run_as_one_batch(module, merging):
    before = executions(merging, "ragged_sums")
    arrays = [values([1, 2, 3]), values([10]), values([]).reshape(1, 0), values([100, 200, 300, 400, 500])]
    results = together(module, merging, "ragged_sums", [[tensor(module, "VALUES", array)] for array in arrays])
    for result, array in zip(results, arrays, strict=True):
        check_sums(result, array)
    assert new_executions(before, executions(merging, "ragged_sums")) == {4: 1}


def test_counts_are_those_of_the_batch(module, merging):
    arrays = [values(range(length)) for length in (3, 1, 4, 2)]
    requests = [[tensor(module, "VALUES", array)] for array in arrays]
    for kind in ("count", "count_fp32"):
        before = executions(merging, f"ragged_{kind}")
        told = together(module, merging, f"ragged_{kind}", requests)
        assert [result.as_numpy("TOLD").tolist() for result in told] == [[[3]], [[1]], [[4]], [[2]]]
        assert new_executions(before, executions(merging, f"ragged_{kind}")) == {4: 1}
    for kind in ("ends", "ends_fp32"):
        told = together(module, merging, f"ragged_{kind}", requests)
        ends = {result.as_numpy("TOLD").item(): array for result, array in zip(told, arrays, strict=True)}
        # The order of arrival is not known: each request ends its own length behind another one, or the start.
        assert max(ends) == 10 and len(ends) == 4
        assert all(end - array.shape[1] in {0, *ends} for end, array in ends.items())
        for result, array in zip(told, arrays, strict=True):
            np.testing.assert_array_equal(result.as_numpy("SAME"), array)


def words(module, rows, height, width, start):
    array = np.array([str(start + idx) for idx in range(rows * height * width)], np.object_).reshape(rows, height, width)
    scale = np.full((rows, 1), start, np.float32)
    return array, [tensor(module, "WORDS", array, "BYTES"), tensor(module, "SCALE", scale)]


def test_rows_of_different_shapes_come_with_their_shapes(module, merging):
    shapes = [(1, 2, 3), (2, 1, 5), (1, 4, 1)]
    sent = [words(module, *shape, 100 * idx) for idx, shape in enumerate(shapes)]
    before = executions(merging, "ragged_shapes")
    results = together(module, merging, "ragged_shapes", [inputs for _, inputs in sent])
    for idx, (result, (array, _), (rows, height, width)) in enumerate(zip(results, sent, shapes, strict=True)):
        assert result.as_numpy("ITEM").tolist() == result.as_numpy("PAIR").tolist() == [[height, width]] * rows
        assert result.as_numpy("LONG").tolist() == [[10]] * rows, "the longest request has 2 * 1 * 5 elements"
        assert result.as_numpy("SCALED").tolist() == [[200.0 * idx]] * rows
        same = result.as_numpy("SAME")
        assert same.shape == array.shape and [text.decode() for text in same.ravel()] == list(array.ravel())
    assert new_executions(before, executions(merging, "ragged_shapes")) == {4: 1}


def test_fifty_clients_keep_their_values_apart(server):
    problems = []

    def run(seed):
        chance = random.Random(seed)
        with http_client.InferenceServerClient(server.http) as connection:
            for step in range(20):
                array = np.full((1, chance.randrange(30)), seed * 100 + step, np.float32)
                result = connection.infer("ragged_sums", [tensor(http_client, "VALUES", array)])
                try:
                    check_sums(result, array)
                except AssertionError as error:
                    problems.append(str(error))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads)
    assert not problems, problems[:3]


def test_what_the_server_makes_is_neither_shown_nor_taken(module, server):
    with connect(module, server) as connection:
        described = connection.get_model_metadata("ragged_sums")
        inputs = described["inputs"] if module is http_client else described.inputs
        names = [(entry["name"], entry["shape"]) if module is http_client else (entry.name, list(entry.shape)) for entry in inputs]
        assert names == [("VALUES", [-1, -1])]
        array = values([1, 2])
        bounds = tensor(module, "BOUNDS", np.array([0, 2], np.int32), "INT32")
        with pytest.raises(InferenceServerException, match="unexpected inference input 'BOUNDS'"):
            connection.infer("ragged_sums", [tensor(module, "VALUES", array), bounds])
        with pytest.raises(InferenceServerException, match="Expected \\[-1,-1\\], got \\[2\\]"):
            connection.infer("ragged_sums", [tensor(module, "VALUES", array.reshape(2))])
        nine = np.zeros((9, 1), np.float32)
        with pytest.raises(InferenceServerException, match="batch-size must be <= 8"):
            connection.infer("ragged_sums", [tensor(module, "VALUES", nine)])


def test_the_configuration_is_shown_as_it_was_written(server):
    with http_client.InferenceServerClient(server.http) as connection:
        shown = connection.get_model_config("ragged_sums")
        assert shown["batch_input"] == [{
            "kind": "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", "target_name": ["BOUNDS"],
            "data_type": "TYPE_INT32", "source_input": ["VALUES"],
        }]
        assert shown["batch_output"] == [{
            "target_name": ["DOUBLED"], "kind": "BATCH_SCATTER_WITH_INPUT_SHAPE", "source_input": ["VALUES"],
        }]
        (entry,) = shown["input"]
        assert (entry["name"], entry["dims"], entry["allow_ragged_batch"]) == ("VALUES", [-1], True)
    with grpc_client.InferenceServerClient(server.grpc) as connection:
        shown = connection.get_model_config("ragged_shapes", as_json=True)["config"]
        kinds = [(entry["kind"], entry["target_name"], entry["source_input"]) for entry in shown["batch_input"]]
        assert kinds == [
            ("BATCH_ITEM_SHAPE", ["ITEMS"], ["WORDS"]), ("BATCH_ITEM_SHAPE_FLATTEN", ["FLATTENED"], ["WORDS"]),
            ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", ["LONGEST"], ["WORDS"]),
        ]
        assert [entry["target_name"] for entry in shown["batch_output"]] == [["SAME"]]
        assert shown["input"][0]["allow_ragged_batch"] and not shown["input"][1].get("allow_ragged_batch")


def refusal(server):
    """Why the only model does not load."""
    found = {}

    def has_failed():
        for entry in server.post("/v2/repository/index").json():
            found.update(entry)
        return found.get("state") == "UNAVAILABLE"

    server.until(has_failed, "refused")
    return found["reason"]


@pytest.mark.parametrize("change, reason", [
    (('"BOUNDS"', '"NOBODY"'), "batch_input 'NOBODY' is not in the graph, which has 'VALUES', 'BOUNDS'"),
    (("TYPE_INT32", "TYPE_INT64"), "line 14: batch_input 'BOUNDS': data_type must be TYPE_INT32 or TYPE_FP32"),
    (("TYPE_INT32", "TYPE_FP32"), "batch_input 'BOUNDS': data_type is that of FP32, but the graph has INT32"),
    (('source_input: "VALUES"', 'source_input: "OTHER"'), "line 15: batch_input 'BOUNDS': source_input 'OTHER' must be one of"),
    (('source_input: "VALUES"', ""), "batch_input 'BOUNDS': one source_input is expected, got 0"),
    (("allow_ragged_batch: true", ""), "line 15: batch_input 'BOUNDS': source_input 'VALUES' must be one of the inputs"),
    (("WITH_ZERO", "WITH_ONE"), "line 12: 'BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ONE' is not a Kind"),
    (('target_name: "DOUBLED"', 'target_name: "TRIPLED"'), "line 20: batch_output 'TRIPLED': target_name 'TRIPLED' must be"),
    (("dynamic_batching { }", "sequence_batching { }"), "allow_ragged_batch is not offered beside sequence_batching"),
    (("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", "BATCH_ITEM_SHAPE"), "BATCH_ITEM_SHAPE has the shape [-1, 1], but the graph"),
])
def test_what_cannot_be_is_refused_with_its_reason(start, tmp_path, change, reason):
    text = (RAGGED / "ragged_sums" / "config.pbtxt").read_text()
    assert change[0] in text
    shutil.copytree(RAGGED / "ragged_sums", tmp_path / "models" / "ragged_sums")
    (tmp_path / "models" / "ragged_sums" / "config.pbtxt").write_text(text.replace(*change, 1))
    server = start(tmp_path / "models", "--log-level", "off", ready=False)
    assert reason in refusal(server)


def test_a_graph_that_takes_rows_is_no_ragged_one(start, tmp_path):
    folder = tmp_path / "models" / "identity_fp32"
    shutil.copytree(MODELS / "triton" / "identity_fp32", folder)
    config = folder / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: -1", "dims: -1, allow_ragged_batch: true"))
    server = start(tmp_path / "models", "--log-level", "off", ready=False)
    reason = refusal(server)
    assert "input 'INPUT0' has allow_ragged_batch" in reason and "it has [-1, -1]" in reason


def test_a_report_says_that_they_serve(server):
    done = subprocess.run([BINARY, "migrate", "triton", RAGGED, "--json"], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["serves"], done.stdout
    with http_client.InferenceServerClient(server.http) as connection:
        served = {entry["name"] for entry in connection.get_model_repository_index() if entry["state"] == "READY"}
    assert served == {model["name"] for model in found["models"]}
    notes = {note["what"]: note["status"] for model in found["models"] for note in model["notes"]}
    assert (notes["batch_input"], notes["batch_output"]) == ("serves", "serves")
