"""Connections on as many threads as `--threads` says: each stays on one, and all are answered."""

import json
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from harness import MODELS, PATIENCE_S

REQUESTS = 20


@pytest.fixture(params=[1, 2, 3])
def threads(request) -> int:
    return request.param


@pytest.fixture
def server(start, threads):
    return start(MODELS / "triton" / "identity_fp32", "--threads", str(threads))


def event_loops(server) -> int:
    """How many threads of the process serve nothing but connections."""
    names = [task.joinpath("comm").read_text() for task in Path(f"/proc/{server.process.pid}/task").iterdir()]
    return sum(name.startswith("connections-") for name in names)


def ask_over_http(server, values: list[list[float]]) -> list[list[float]]:
    """Asks for each of `values` on one connection, with what lists models in between."""
    host, port = server.listeners["http"]
    connection, answers = HTTPConnection(host, port, timeout=PATIENCE_S), []
    for value in values:
        given = {"name": "INPUT0", "shape": [1, len(value)], "datatype": "FP32", "data": value}
        connection.request("POST", "/v2/models/identity_fp32/infer", json.dumps({"inputs": [given]}))
        answers.append(json.load(connection.getresponse())["outputs"][0]["data"])
        connection.request("GET", "/api/v1/models")
        assert connection.getresponse().read().startswith(b"{")
    connection.close()
    return answers


def ask_over_grpc(server, values: list[list[float]]) -> list[list[float]]:
    host, port = server.listeners["grpc"]
    answers = []
    with tritonclient.grpc.InferenceServerClient(f"{host}:{port}") as client:
        for value in values:
            given = tritonclient.grpc.InferInput("INPUT0", [1, len(value)], "FP32")
            given.set_data_from_numpy(np.array([value], np.float32))
            answers.append(client.infer("identity_fp32", [given]).as_numpy("OUTPUT0")[0].tolist())
    return answers


def test_every_connection_gets_its_own_answers(server, threads):
    # Every third question is long enough to be read and written on other threads.
    questions = [
        [[float(connection * 1000 + idx)] * (10_000 if idx % 3 == 2 else 4) for idx in range(REQUESTS)]
        for connection in range(4 * threads)
    ]
    with ThreadPoolExecutor(2 * len(questions)) as pool:
        over_http = pool.map(lambda values: ask_over_http(server, values), questions)
        over_grpc = pool.map(lambda values: ask_over_grpc(server, values), questions)
        assert list(over_http) == questions
        assert list(over_grpc) == questions
    assert event_loops(server) == (threads if threads > 1 else 0), "one thread does everything by itself"
