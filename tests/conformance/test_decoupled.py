"""Models in Python that give several answers to a request, through unmodified gRPC streams."""

import json
import os
import queue
import socket
import struct
import time

import frames
import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
import tritonclient.utils.shared_memory as shm
from harness import PATIENCE_S
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException
from workers import FLAGS, model

COUNTER = '''
import pathlib
import salver

SEEN = pathlib.Path(__file__).parent / "closed"


class Counter:
    inputs = {"n": ("INT32", [1])}
    outputs = {"i": ("INT32", [1]), "text": ("STRING", [1])}

    def predict(self, batch):
        n = int(batch["n"][0])
        if n == 99:
            raise salver.InvalidInput("99 is too much")
        try:
            for i in range(abs(n)):
                if n < 0 and i == 2:
                    raise ValueError("two is enough")
                if n > 1_000:
                    SEEN.with_name("given").write_text(str(i))
                yield {"i": [i], "text": [f"piece {i}"]}
        finally:
            SEEN.write_text(str(n))
'''


@pytest.fixture(scope="module")
def decoupled(start, tmp_path_factory):
    folder = model(tmp_path_factory.mktemp("models") / "counter", COUNTER, "[instances]\ncount = 1\n")
    server = start(folder, *FLAGS, "--allow-client-shm")
    server.closed = folder / "closed"
    return server


def number(module, value):
    return module.InferInput("n", [1], "INT32").set_data_from_numpy(np.array([value], np.int32))


class Stream:
    """What came over a stream, in the order in which it came."""

    def __init__(self, server):
        self.answers: queue.Queue = queue.Queue()
        self.connection = grpc_client.InferenceServerClient(server.grpc)
        self.connection.start_stream(lambda result, error: self.answers.put((result, error)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.stop_stream(cancel_requests=True)
        self.connection.close()

    def ask(self, value, request_id="", final=False):
        self.connection.async_stream_infer(
            "counter", [number(grpc_client, value)], request_id=request_id, enable_empty_final_response=final
        )

    def next(self):
        result, error = self.answers.get(timeout=PATIENCE_S)
        if error is not None:
            raise error
        return result

    def is_quiet(self):
        return self.answers.empty()


def is_final(result):
    return result.get_response().parameters["triton_final_response"].bool_param


def test_each_answer_comes_by_itself_and_an_empty_one_ends_them(decoupled):
    with Stream(decoupled) as stream:
        stream.ask(3, "α", final=True)
        for i in range(3):
            result = stream.next()
            response = result.get_response()
            assert (response.id, response.model_name, response.model_version) == ("α", "counter", "1")
            assert (result.as_numpy("i").item(), result.as_numpy("text").item()) == (i, f"piece {i}".encode())
            assert not is_final(result)
        last = stream.next().get_response()
        assert (last.id, len(last.outputs), last.model_name) == ("α", 0, "counter")
        assert last.parameters["triton_final_response"].bool_param


def test_without_the_flag_only_answers_come(decoupled):
    with Stream(decoupled) as stream:
        stream.ask(2, "first")
        stream.ask(1, "second")
        got = sorted((result.get_response().id, result.as_numpy("i").item()) for result in (stream.next() for _ in range(3)))
        assert got == [("first", 0), ("first", 1), ("second", 0)]
        assert stream.is_quiet()


def test_a_request_may_have_no_answer_at_all(decoupled):
    with Stream(decoupled) as stream:
        stream.ask(0, "none", final=True)
        last = stream.next()
        assert last.get_response().id == "none" and is_final(last)


def test_tensors_of_each_answer_may_lie_in_shared_memory(decoupled):
    name = f"salver_pieces_{os.getpid()}"
    region = shm.create_shared_memory_region(name, f"/{name}", 8, create_only=True)
    try:
        with Stream(decoupled) as stream:
            stream.connection.register_system_shared_memory(name, f"/{name}", 8)
            shm.set_shared_memory_region(region, [np.array([3], np.int32)])
            given = grpc_client.InferInput("n", [1], "INT32")
            given.set_shared_memory(name, 4)
            wanted = [grpc_client.InferRequestedOutput("i"), grpc_client.InferRequestedOutput("text")]
            wanted[0].set_shared_memory(name, 4, 4)
            stream.connection.async_stream_infer("counter", [given], outputs=wanted)
            texts = [stream.next().as_numpy("text").item() for _ in range(3)]
            stream.connection.unregister_system_shared_memory(name)
        assert texts == [b"piece 0", b"piece 1", b"piece 2"]
        assert shm.get_contents_as_numpy(region, np.int32, [1], 4).item() == 2, "each is written over the one before"
    finally:
        shm.destroy_shared_memory_region(region)


@pytest.mark.announced_errors("request failed", "two is enough")
def test_an_error_ends_the_answers_and_the_stream_lives_on(decoupled):
    with Stream(decoupled) as stream:
        stream.ask(-5)
        assert [stream.next().as_numpy("i").item() for _ in range(2)] == [0, 1]
        with pytest.raises(InferenceServerException, match="two is enough"):
            stream.next()
        stream.ask(99)
        with pytest.raises(InferenceServerException, match="99 is too much"):
            stream.next()
        stream.ask(1, final=True)
        assert stream.next().as_numpy("i").item() == 0
        assert is_final(stream.next())


def test_unary_calls_are_refused(decoupled):
    text = "doesn't support models with decoupled transaction policy"
    with http_client.InferenceServerClient(decoupled.http) as connection:
        with pytest.raises(InferenceServerException, match=text) as caught:
            connection.infer("counter", [number(http_client, 1)])
        assert caught.value.status() == "400"
        assert connection.get_model_config("counter")["model_transaction_policy"] == {"decoupled": True}
    with grpc_client.InferenceServerClient(decoupled.grpc) as connection:
        with pytest.raises(InferenceServerException, match=text):
            connection.infer("counter", [number(grpc_client, 1)])
        assert connection.get_model_config("counter").config.model_transaction_policy.decoupled


def test_generate_stream_has_an_event_for_each_answer(decoupled):
    with decoupled.post("/v2/models/counter/generate_stream", {"n": 3}, stream=True) as answer:
        lines = [json.loads(line.removeprefix(b"data: ")) for line in answer.iter_lines() if line]
    assert [(line["i"], line["text"]) for line in lines] == [(i, f"piece {i}") for i in range(3)]
    refused = decoupled.post("/v2/models/counter/generate", {"n": 3})
    assert refused.status_code == 400 and "decoupled transaction policy" in refused.json()["error"]


def test_a_client_that_goes_ends_the_generator(decoupled):
    decoupled.closed.unlink(missing_ok=True)
    with Stream(decoupled) as stream:
        stream.ask(1_000_000_000)
        assert [stream.next().as_numpy("i").item() for _ in range(3)] == [0, 1, 2]
    decoupled.until(decoupled.closed.exists, "closed")
    with Stream(decoupled) as stream:
        stream.ask(1, final=True)
        assert stream.next().as_numpy("i").item() == 0, "the instance is free again"


def test_a_client_that_stops_reading_holds_little(decoupled):
    decoupled.closed.unlink(missing_ok=True)
    before = decoupled.rss_kib()
    request = service_pb2.ModelInferRequest(model_name="counter", raw_input_contents=[np.int32(10**9).tobytes()])
    request.inputs.add(name="n", datatype="INT32", shape=[1])
    message = request.SerializeToString()
    fields = [
        (":method", "POST"), (":scheme", "http"), (":path", "/inference.GRPCInferenceService/ModelStreamInfer"),
        (":authority", "a"), ("content-type", "application/grpc"), ("te", "trailers"),
    ]
    with socket.create_connection(decoupled.listeners["grpc"], timeout=PATIENCE_S) as raw:
        # The window of HTTP/2 fills, then the room for answers, and the worker rests.
        raw.sendall(frames.PREFACE + frames.frame(frames.SETTINGS) + frames.headers(1, fields, frames.END_HEADERS))
        raw.sendall(frames.frame(frames.DATA, 0, 1, b"\0" + struct.pack(">I", len(message)) + message))
        answered = [0]

        def rests():
            # The counter stands still once nobody takes its answers.
            before, answered[0] = answered[0], int(seen.read_text() or 0) if seen.exists() else 0
            time.sleep(0.3)
            return before > 0 and before == answered[0]

        seen = decoupled.closed.with_name("given")
        decoupled.until(rests, "at rest")
        assert answered[0] < 100_000
        assert decoupled.rss_kib() - before < 64 << 10
        assert not decoupled.closed.exists()
    decoupled.until(decoupled.closed.exists, "closed")
