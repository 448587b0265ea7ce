"""Stateful models through unmodified clients: sequences over HTTP, gRPC and streams."""

import queue
import random
import shutil
import threading

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from harness import MODELS, PATIENCE_S
from tritonclient.utils import InferenceServerException


@pytest.fixture(scope="module")
def stateful(start):
    return start(MODELS / "sequences")


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request, stateful):
    module, address = (http_client, stateful.http) if request.param == "http" else (grpc_client, stateful.grpc)
    with module.InferenceServerClient(address) as connection:
        yield module, connection


def number(module, value, name="INPUT"):
    return module.InferInput(name, [1, 1], "INT32").set_data_from_numpy(np.array([[value]], np.int32))


def ask(client, model, value, sequence, first=False, last=False, name="SUM"):
    module, connection = client
    result = connection.infer(
        model, [number(module, value)], sequence_id=sequence, sequence_start=first, sequence_end=last
    )
    return result.as_numpy(name).item()


@pytest.mark.parametrize("model, begins_at", [("sum_oldest", 0), ("sum_direct", 100)])
def test_sequences_have_sums_of_their_own(client, model, begins_at):
    assert ask(client, model, 1, 11, first=True) == begins_at + 1
    assert ask(client, model, 10, 12, first=True) == begins_at + 10
    assert ask(client, model, 2, 11) == begins_at + 3
    assert ask(client, model, 20, 12, last=True) == begins_at + 30
    assert ask(client, model, 3, 11) == begins_at + 6
    assert ask(client, model, 5, 11, first=True) == begins_at + 5, "a second start begins anew"
    assert ask(client, model, 6, 11, last=True) == begins_at + 11
    assert ask(client, model, 7, 13, first=True, last=True) == begins_at + 7


def test_the_same_text_and_number_are_two_sequences(client):
    assert ask(client, "sum_oldest", 1, 21, first=True) == 1
    assert ask(client, "sum_oldest", 2, "21", first=True) == 2
    assert ask(client, "sum_oldest", 3, 21, last=True) == 4
    assert ask(client, "sum_oldest", 3, "21", last=True) == 5


def test_what_belongs_to_no_sequence_is_refused(client):
    module, connection = client
    with pytest.raises(InferenceServerException, match="must specify the START flag on the first request") as caught:
        ask(client, "sum_oldest", 1, 31)
    assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    with pytest.raises(InferenceServerException, match="must specify a non-zero or non-empty correlation ID"):
        connection.infer("sum_oldest", [number(module, 1)])
    rows = module.InferInput("INPUT", [2, 1], "INT32").set_data_from_numpy(np.zeros((2, 1), np.int32))
    with pytest.raises(InferenceServerException, match="must specify batch-size 1"):
        connection.infer("sum_oldest", [rows], sequence_id=31, sequence_start=True)
    assert ask(client, "sum_oldest", 1, 32, first=True, last=True) == 1
    with pytest.raises(InferenceServerException, match="START flag"):
        ask(client, "sum_oldest", 1, 32)


@pytest.mark.parametrize("model, sequence", [("controls_number", 77), ("controls_text", "seventy-seven"), ("controls_text", 77)])
def test_a_model_hears_where_in_its_sequence_it_is(client, model, sequence):
    module, connection = client
    for first, last in [(True, False), (False, False), (False, True), (True, True)]:
        result = connection.infer(
            model, [number(module, 5)], sequence_id=sequence, sequence_start=first, sequence_end=last
        )
        told = {name: result.as_numpy(name).item() for name in ("OUTPUT", "STARTED", "ENDED", "WAS_READY", "ID")}
        expected = sequence if model == "controls_number" else str(sequence).encode()
        assert told == {"OUTPUT": 5, "STARTED": int(first), "ENDED": 1.0 if last else -1.0, "WAS_READY": True, "ID": expected}


def test_an_id_that_the_model_cannot_take_is_refused(client):
    with pytest.raises(InferenceServerException, match="does not fit into the input 'CORRID'"):
        ask(client, "controls_number", 1, "a text", first=True, name="OUTPUT")


def test_a_sequence_that_rests_gives_its_row_back(client):
    for sequence in (41, 42):
        assert ask(client, "sum_short", sequence, sequence, first=True) == sequence
    # Both rows are taken; the third waits until one of them has rested for its second, and has its row.
    assert ask(client, "sum_short", 1, 43, first=True) == 1
    with pytest.raises(InferenceServerException, match="START flag"):
        ask(client, "sum_short", 1, 41)


@pytest.mark.parametrize("model, begins_at", [("sum_oldest", 0), ("sum_direct", 100)])
def test_sequences_of_one_stream_run_in_order(stateful, model, begins_at):
    answers: queue.Queue = queue.Queue()
    with grpc_client.InferenceServerClient(stateful.grpc) as connection:
        connection.start_stream(lambda result, error: answers.put((result, error)))
        expected = {}
        for step in range(40):
            for sequence in (51, 52, "53"):
                value = step + len(str(sequence))
                expected[f"{sequence}/{step}"] = value
                connection.async_stream_infer(
                    model, [number(grpc_client, value)], request_id=f"{sequence}/{step}",
                    sequence_id=sequence, sequence_start=step == 0, sequence_end=step == 39,
                )
        sums: dict[str, int] = {}
        for _ in expected:
            result, error = answers.get(timeout=PATIENCE_S)
            assert error is None
            request = result.get_response().id
            sequence = request.split("/")[0]
            sums[sequence] = sums.get(sequence, begins_at) + expected[request]
            assert result.as_numpy("SUM").item() == sums[sequence], request
        connection.stop_stream()


def test_a_hundred_clients_keep_their_sums_apart(stateful):
    problems: list[str] = []

    def run(sequence: int) -> None:
        chance = random.Random(sequence)
        with http_client.InferenceServerClient(stateful.http) as connection:
            pair = (http_client, connection)
            for model, begins_at in (("sum_oldest", 0), ("sum_direct", 100)):
                total, steps = begins_at, chance.randrange(1, 8)
                for step in range(steps):
                    value = chance.randrange(1000)
                    total += value
                    got = ask(pair, model, value, sequence, first=step == 0, last=step == steps - 1)
                    if got != total:
                        problems.append(f"{model} {sequence}: {got} instead of {total}")

    threads = [threading.Thread(target=run, args=(1000 + idx,)) for idx in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads)
    assert not problems, problems[:5]


def test_a_swap_leaves_sequences_that_have_begun_where_they_are(start, tmp_path):
    repository = tmp_path / "repository"
    shutil.copytree(MODELS / "sequences" / "sum_oldest", repository / "sum_oldest")
    server = start(repository, "--model-control", "explicit", "--load-model", "*")
    with http_client.InferenceServerClient(server.http) as connection:
        pair = (http_client, connection)
        assert ask(pair, "sum_oldest", 1, 61, first=True) == 1
        shutil.copytree(repository / "sum_oldest" / "1", repository / "sum_oldest" / "2")
        connection.load_model("sum_oldest")

        def version(sequence, **flags):
            result = connection.infer("sum_oldest", [number(http_client, 1)], sequence_id=sequence, **flags)
            return result.get_response()["model_version"], result.as_numpy("SUM").item()

        assert version(62, sequence_start=True) == ("2", 1)
        assert version(61) == ("1", 2)
        assert version(61, sequence_end=True) == ("1", 3)
        assert version(61, sequence_start=True) == ("2", 1)
        server.until(lambda: {("1", "READY")} != {
            (entry["version"], entry.get("state")) for entry in connection.get_model_repository_index()
            if entry["version"] == "1"
        }, "gone")


def test_the_configuration_is_shown_as_it_was_written(stateful):
    with http_client.InferenceServerClient(stateful.http) as connection:
        shown = connection.get_model_config("sum_direct")["sequence_batching"]
        assert shown["direct"] == {"max_queue_delay_microseconds": 0, "minimum_slot_utilization": 0.0}
        assert shown["max_sequence_idle_microseconds"] == 60_000_000
        state = shown["state"][0]
        assert (state["input_name"], state["output_name"], state["dims"]) == ("SUM_IN", "SUM_OUT", [1])
        assert state["initial_state"][0]["data_file"] == "hundred"
        controls = connection.get_model_config("controls_text")["sequence_batching"]["control_input"]
        assert [entry["control"][0]["kind"] for entry in controls] == [
            "CONTROL_SEQUENCE_START", "CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_READY", "CONTROL_SEQUENCE_CORRID",
        ]
        names = [entry["name"] for entry in connection.get_model_metadata("sum_direct")["inputs"]]
        assert names == ["INPUT"]
    with grpc_client.InferenceServerClient(stateful.grpc) as connection:
        shown = connection.get_model_config("sum_oldest").config.sequence_batching
        assert shown.oldest.max_candidate_sequences == 64
        assert shown.state[0].output_name == "SUM_OUT"
        control = connection.get_model_config("controls_number").config.sequence_batching.control_input[1].control[0]
        assert list(control.fp32_false_true) == [-1.0, 1.0]
