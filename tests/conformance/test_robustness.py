"""Bad input: each attack gets its 4xx, and the server goes on, correct and with flat memory."""

import gzip
import json
import socket
import struct
import threading

import grpc
import numpy as np
import pytest
from attacks import ATTACKS, GOOD, LIMIT, V2, Attack
from harness import MODELS, PATIENCE_S, Answer, Server, read_answer
from tritonclient.grpc import service_pb2, service_pb2_grpc


@pytest.fixture(scope="module")
def target(start) -> Server:
    """A server of its own: what is done to it must not disturb the other tests."""
    return start(MODELS / "triton", "--default-model", "identity_fp32")


def strike(server: Server, attack: Attack) -> Answer:
    """Sends while it reads: a server may answer and close before it has everything."""
    body = attack.bytes()
    names = {name.lower() for name, _ in attack.headers}
    lines = [f"{attack.method} {attack.path} HTTP/1.1", f"Host: {server.http}"]
    lines += [f"{name}: {value}" for name, value in attack.headers]
    if not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    data = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
    with server.connect() as connection:
        def send():
            try:
                connection.sendall(data)
            except OSError:
                pass

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        answer = read_answer(connection, attack.method)
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        sender.join(timeout=PATIENCE_S)
    return answer


def assert_answers(server: Server) -> None:
    answer = server.request("POST", V2, (), GOOD)
    assert answer.status == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [1.0]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.id)
def test_each_attack_is_refused_and_the_server_goes_on(target, attack):
    answer = strike(target, attack)
    assert answer.status in attack.status, f"{answer.status} {answer.text[:500]} {answer.error}"
    assert len(answer.body) < 64 << 10, "an error must not echo the request"
    if answer.status >= 400 and answer.body:
        assert answer.headers["content-type"].startswith(("application/json", "text/plain"))
    assert_answers(target)


def test_memory_stays_flat_under_all_attacks(target):
    def strike_with_all(rounds: int) -> None:
        for _ in range(rounds):
            for attack in ATTACKS:
                strike(target, attack)

    strike_with_all(2)
    before = target.rested_rss_kib()
    strike_with_all(4)
    target.assert_rss_returns(before, 24 << 10)
    assert_answers(target)


# At the limit and one past it, with settings that make the limits small.


@pytest.fixture(scope="module")
def small(start) -> Server:
    return start(
        MODELS / "triton", "--default-model", "identity_fp32",
        "--body-limit-bytes", "4096", "--json-depth-limit", "20", "--max-inputs", "3", "--max-outputs", "3",
        "--name-limit-bytes", "16", "--uri-limit-bytes", "128", "--max-headers", "10",
    )


def padded(size: int) -> bytes:
    return GOOD + b" " * (size - len(GOOD))


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("size, status", [(4096, 200), (4097, 413)])
def test_the_body_limit_holds_for_declared_and_chunked_and_decoded_bodies(small, size, status):
    assert strike(small, Attack("", V2, padded(size))).status == status
    assert strike(small, Attack("", V2, chunked(padded(size)), (("Transfer-Encoding", "chunked"),))).status == status
    # Random texts hardly compress: the ratio limit stays out of it.
    noise = np.random.default_rng(7).integers(33, 127, size - len(GOOD) - 8).astype(np.uint8).tobytes()
    noise = noise.replace(b'"', b"'").replace(b"\\", b"/")
    body = GOOD[:-1] + b',"x":"' + noise + b'"}'
    assert abs(len(body) - size) <= 4
    body += b" " * (size - len(body))
    answer = strike(small, Attack("", V2, gzip.compress(body), (("Content-Encoding", "gzip"),)))
    assert answer.status == status, answer.text


def test_the_ratio_of_compression_is_limited(start):
    """The same eight megabytes: hardly compressed they pass, compressed to almost nothing they do not."""
    server = start(MODELS / "triton" / "identity_fp32", "--decompression-ratio-limit", "10")
    headers = (("Content-Encoding", "gzip"),)
    dense, loose = (gzip.compress(padded(8 << 20), level) for level in (9, 0))
    assert strike(server, Attack("", V2, dense, headers)).status in (400, 413)
    assert strike(server, Attack("", V2, loose, headers)).status == 200


@pytest.mark.parametrize("depth, status", [(16, 200), (17, 400)])
def test_the_depth_limit_is_exact(small, depth, status):
    """data stands three levels down already: object, list of inputs, input."""
    nested = b"[" * (depth + 1) + b"1.0" + b"]" * (depth + 1)
    body = GOOD.replace(b"[1.0]", nested)
    assert strike(small, Attack("", V2, body)).status == status


def test_the_number_of_outputs_is_limited(small):
    for count, status in ((3, (200,)), (4, (400, 413))):
        body = json.dumps({**json.loads(GOOD), "outputs": [{"name": "OUTPUT0"}] * count}).encode()
        assert strike(small, Attack("", V2, body)).status in status


def test_the_length_of_names_is_limited_in_a_message_of_bounded_length(small):
    body = GOOD.replace(b"INPUT0", b"x" * 17)
    answer = strike(small, Attack("", V2, body))
    assert answer.status == 400
    assert "16" in answer.json()["error"]


def test_path_and_header_limits(small):
    assert strike(small, Attack("", "/v2/models/" + "x" * 200, method="GET")).status == 414
    many = tuple((f"X-{i}", "1") for i in range(11))
    assert strike(small, Attack("", "/v2", headers=many, method="GET")).status == 431
    few = tuple((f"X-{i}", "1") for i in range(5))
    assert strike(small, Attack("", "/v2", headers=few, method="GET")).status == 200


def test_the_default_body_limit_lets_64_mebibytes_pass(target):
    answer = strike(target, Attack("", V2, padded(LIMIT)))
    assert answer.status == 200, answer.text


# gRPC


@pytest.fixture(scope="module")
def stub(target):
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(target.grpc, options=options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def message(blob: bytes, shape) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name="identity_fp32", raw_input_contents=[blob])
    request.inputs.add(name="INPUT0", datatype="FP32", shape=shape)
    return request


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_grpc_message_above_the_limit_is_refused_also_when_compressed(target, stub, compression):
    count = (80 << 20) // 4
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message(b"\0" * 4 * count, [1, count]), timeout=PATIENCE_S, compression=compression)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    reply = stub.ModelInfer(message(struct.pack("<f", 5), [1, 1]), timeout=PATIENCE_S)
    assert reply.raw_output_contents[0] == struct.pack("<f", 5)


def test_bytes_that_are_no_protobuf_are_refused(target):
    with grpc.insecure_channel(target.grpc) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for junk in (b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 10_000):
            with pytest.raises(grpc.RpcError) as caught:
                call(junk, timeout=PATIENCE_S)
            assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
    assert_answers(target)


def test_cancelled_calls_leave_the_model_usable(target, stub):
    request = service_pb2.ModelInferRequest(
        model_name="slow", raw_input_contents=[struct.pack("<f", 1)]
    )
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 1])
    calls = [stub.ModelInfer.future(request, timeout=PATIENCE_S) for _ in range(40)]
    for call in calls:
        call.cancel()
    reply = stub.ModelInfer(request, timeout=PATIENCE_S)
    assert reply.raw_output_contents[0] == struct.pack("<f", 1)


# Connections


def test_half_open_and_silent_connections_hold_nobody_up(target):
    held = []
    try:
        for i in range(200):
            connection = target.connect()
            connection.sendall((b"", b"POST ", f"POST {V2} HTTP/1.1\r\nContent-Length: 10\r\n\r\n{{".encode())[i % 3])
            held.append(connection)
        assert_answers(target)
    finally:
        for connection in held:
            connection.close()
    assert_answers(target)


def test_bytes_that_are_no_http_are_refused(target):
    for junk in (b"\x16\x03\x01\x02\x00\x01\x00", b"\0" * 1000, b"\r\n\r\n\r\n\r\nx\r\n\r\n",
                 b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100):
        with target.connect() as connection:
            try:
                connection.sendall(junk)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:
                pass  # closed already
        assert_answers(target)


def test_clients_that_leave_in_the_middle_of_a_body_do_no_harm(target):
    for i in range(50):
        connection = target.connect()
        connection.sendall(f"POST {V2} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD[:i])
        # A reset instead of an orderly end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert_answers(target)
