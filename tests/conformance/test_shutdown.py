"""SIGTERM under load: no accepted request is lost, and the process ends with 0.

Two ways without a clock to know that a request was accepted before the signal:

* it was sent with `Expect: 100-continue`, and the server said to go on;
* it was written in full on an established connection, and a health request that was sent
  afterwards had been answered before the signal.

Everything else may be refused or find a closed connection, but whatever answer begins must be
whole and right. SALVER_SHUTDOWN_RUNS sets the number of runs (default 10), SALVER_SHUTDOWN_SEED the
seed from which each run's moment is drawn.
"""

import json
import os
import random
import shutil
import socket
import subprocess
import threading
from dataclasses import dataclass

import grpc
import pytest
from harness import MODELS, PATIENCE_S, Server, read_answer
from tritonclient.grpc import service_pb2, service_pb2_grpc

RUNS = int(os.environ.get("SALVER_SHUTDOWN_RUNS", "10"))
SEED = int(os.environ.get("SALVER_SHUTDOWN_SEED", "7"))
CLIENTS = 4
IDLE = 20


@dataclass
class Sent:
    """One request: what is known of it from outside."""

    value: float
    accepted: bool = False
    answered: bool = False


class Load:
    """Clients in a closed loop, half of them with Expect, on a slow and a fast model."""

    def __init__(self, server: Server, rng: random.Random, quota: int):
        self.server, self.quota = server, quota
        self.lock = threading.Lock()
        self.requests: list[Sent] = []
        self.problems: list[str] = []
        # What each client is in the middle of, to tell what a server that does not end waits for.
        self.doing: dict[str, str] = {}
        self.completed = 0
        self.enough = threading.Event()
        self.stopping = threading.Event()
        seeds = [rng.random() for _ in range(2 * CLIENTS)]
        self.threads = [
            threading.Thread(target=target, args=(random.Random(seed), i % 2 == 0), daemon=True)
            for i, seed in enumerate(seeds)
            for target in [self.http if i < CLIENTS else self.grpc]
        ]
        for thread in self.threads:
            thread.start()

    def now(self, what: str) -> None:
        self.doing[threading.current_thread().name] = what

    def begin(self, value: float) -> Sent:
        sent = Sent(value)
        with self.lock:
            self.requests.append(sent)
        return sent

    def finish(self, sent: Sent) -> None:
        with self.lock:
            sent.answered = True
            self.completed += 1
            if self.completed >= self.quota:
                self.enough.set()

    def problem(self, text: str) -> None:
        with self.lock:
            self.problems.append(text)

    def http(self, rng: random.Random, expect: bool) -> None:
        try:
            connection = self.server.connect()
        except OSError as error:
            return self.problem(f"no connection at all: {error}")
        with connection:
            while True:
                model = rng.choice(["slow", "identity_fp32"])
                value = float(rng.randrange(1000))
                body = json.dumps({"inputs": [
                    {"name": "INPUT0", "shape": [1, 1], "datatype": "FP32", "data": [value]}
                ]}).encode()
                head = (
                    f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
                    f"{'Expect: 100-continue' if expect else 'X-Plain: 1'}\r\n\r\n"
                ).encode()
                try:
                    if expect:
                        connection.sendall(head)
                        self.now(f"{model}: sent a head, waits for 100")
                        go_on = connection.recv(25)
                        if not go_on.startswith(b"HTTP/1.1 100"):
                            # Refused before it was accepted, or the connection is gone.
                            if not self.stopping.is_set():
                                self.problem(f"no 100 before the signal: {go_on!r}")
                            return
                        sent = self.begin(value)
                        sent.accepted = True
                        connection.sendall(body)
                    else:
                        connection.sendall(head + body)
                        sent = self.begin(value)
                    self.now(f"{model}: sent all, waits for the answer (expect {expect})")
                    answer = read_answer(connection)
                    self.now(f"has its answer: {answer.status} {answer.error}")
                except OSError as error:
                    if not self.stopping.is_set():
                        self.problem(f"the connection failed before the signal: {error}")
                    return
                if answer.status == 0:
                    if answer.body or "IncompleteRead" in answer.error:
                        self.problem(f"an answer was cut: {answer.error}")
                    return  # an accepted request without answer is counted at the end
                if answer.status == 503 and self.stopping.is_set() and not sent.accepted:
                    sent.answered = True
                    return
                if answer.status != 200:
                    return self.problem(f"{answer.status} {answer.text[:200]}")
                if answer.json()["outputs"][0]["data"] != [value]:
                    self.problem(f"{value} came back as {answer.text[:200]}")
                self.finish(sent)
                if answer.headers.get("connection", "").lower() == "close":
                    return

    def grpc(self, rng: random.Random, _: bool) -> None:
        with grpc.insecure_channel(self.server.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while True:
                value = rng.randbytes(4)
                request = service_pb2.ModelInferRequest(
                    model_name=rng.choice(["slow", "identity_fp32"]), raw_input_contents=[b"\0\0\x80\x3f"]
                )
                request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 1])
                request.id = value.hex()
                self.now("gRPC: waits for the reply")
                try:
                    call = stub.ModelInfer.future(request, timeout=PATIENCE_S)
                    reply = call.result()
                except grpc.RpcError as error:
                    self.now(f"gRPC: {error.code()} {error.details()}")
                    refused = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
                    if not (refused and self.stopping.is_set()):
                        self.problem(f"gRPC: {error.code()} {error.details()}")
                    return
                if reply.id != value.hex() or reply.raw_output_contents[0] != b"\0\0\x80\x3f":
                    self.problem("a gRPC answer belongs to another request")
                sent = self.begin(1.0)
                self.finish(sent)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("repository")
    for name in ("slow", "identity_fp32"):
        shutil.copytree(MODELS / "triton" / name, path / name)
    return path


@pytest.mark.parametrize("run", range(RUNS))
def test_no_accepted_request_is_lost(start, folder, run):
    rng = random.Random(SEED * 1_000_003 + run)
    server = start(folder)
    idle = [server.connect() for _ in range(IDLE)]
    idle_channel = grpc.insecure_channel(server.grpc)
    grpc.channel_ready_future(idle_channel).result(timeout=PATIENCE_S)
    load = Load(server, rng, quota=rng.randrange(1, 60))
    assert load.enough.wait(PATIENCE_S), load.problems

    with load.lock:
        written = [sent for sent in load.requests if not sent.answered]
    assert server.get("/v2/health/live").status_code == 200
    for sent in written:
        sent.accepted = True
    load.stopping.set()
    server.terminate()
    waiting = None
    try:
        server.process.wait(timeout=PATIENCE_S / 12)
    except subprocess.TimeoutExpired:
        waiting = dict(load.doing)
    code = server.wait()

    for thread in load.threads:
        thread.join(timeout=PATIENCE_S)
        assert not thread.is_alive()
    for connection in idle:
        connection.close()
    idle_channel.close()
    assert load.problems == []
    lost = [sent for sent in load.requests if sent.accepted and not sent.answered]
    assert lost == [], f"{len(lost)} accepted requests had no answer (seed {SEED}, run {run})"
    assert code == 0, f"{server.log()[-4000:]}\nclients while it did not end: {waiting}"
    assert server.errors() == []
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_a_request_in_flight_is_answered_though_new_ones_are_refused(start, folder):
    server = start(folder)
    body = json.dumps({"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "FP32", "data": [4]}]}).encode()
    with server.connect() as connection:
        connection.sendall(
            f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        assert connection.recv(25).startswith(b"HTTP/1.1 100")
        server.terminate()
        # The listener closes while the request above is still open.
        server.until(lambda: refuses(server), "closed to new connections")
        connection.sendall(body)
        answer = read_answer(connection)
    assert answer.status == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [4.0]
    assert server.wait() == 0


def refuses(server: Server) -> bool:
    try:
        with server.connect() as connection:
            connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return read_answer(connection, "GET").status in (0, 400, 503)
    except OSError:
        return True


def test_a_grpc_connection_that_speaks_only_after_the_signal_is_told_to_go(start, folder):
    """It is open when the signal comes, but not yet known to be HTTP/2; then it never falls silent.

    A client that keeps calling ends only when it is sent away, so a server that forgets it here
    runs into the end of its grace. The client reaches the open connection through a bridge.
    """
    server = start(folder, "--shutdown-grace-ms", "5000")
    opened = socket.create_connection(server.listeners["grpc"], timeout=PATIENCE_S)
    assert server.get("/v2/health/live").status_code == 200
    server.terminate()
    server.until(lambda: refuses(server), "closed to new connections")

    gate = socket.create_server(("127.0.0.1", 0))
    clients = [threading.Thread(target=call_until_refused, args=(gate.getsockname()[1],)) for _ in range(4)]
    bridge = threading.Thread(target=bridge_one, args=(gate, opened), daemon=True)
    for thread in [bridge, *clients]:
        thread.start()
    code = server.wait()
    for thread in clients:
        thread.join(timeout=PATIENCE_S)
        assert not thread.is_alive()
    assert code == 0, server.log()[-4000:]


def bridge_one(gate: socket.socket, server_side: socket.socket) -> None:
    """Passes bytes between the first client of `gate` and an open connection; then nobody may come."""
    client_side, _ = gate.accept()
    gate.close()

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for side in (source, sink):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    back = threading.Thread(target=pump, args=(server_side, client_side), daemon=True)
    back.start()
    pump(client_side, server_side)
    back.join()
    client_side.close()
    server_side.close()


def call_until_refused(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = service_pb2.ModelInferRequest(model_name="slow", raw_input_contents=[b"\0\0\x80\x3f"])
        request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 1])
        try:
            while True:
                stub.ModelInfer(request, timeout=PATIENCE_S)
        except grpc.RpcError:
            return


def test_a_second_signal_ends_it_at_once(start, folder):
    # The grace period is longer than this test waits.
    server = start(folder, "--shutdown-grace-ms", str(10 * PATIENCE_S * 1000))
    with server.connect() as connection:
        connection.sendall(
            b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Length: 1000\r\n\r\n"
        )
        assert connection.recv(25).startswith(b"HTTP/1.1 100")
        server.terminate()
        server.until(lambda: refuses(server), "closed to new connections")
        server.terminate()
        assert server.wait() == 130


def test_it_starts_again_on_the_same_data_after_a_kill(start, folder, tmp_path):
    data = tmp_path / "data"
    first = start(folder, "--data", data)
    first.process.kill()
    first.wait()
    second = start(folder, "--data", data)
    assert second.get("/v2/health/ready").status_code == 200
    second.stop()

