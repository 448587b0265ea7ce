"""Attacks on the transport: each ends in a closed connection or is shrugged off, at no cost to others.

HTTP/2 floods and malformed fields go out as frames written by hand (`frames.py`), HTTP/1 framing as
raw bytes. Afterwards, and where it matters meanwhile, an ordinary client is answered correctly.
"""

import itertools
import re
import resource
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import frames
import pytest
from attacks import GOOD, V2, one_byte_chunks, tensor
from frames import (
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PING,
    PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, STREAM_CLOSED, Reader, frame, headers, hello, reset,
    settings, window_update,
)
from harness import MODELS, PATIENCE_S, Server, read_answer

# What a flood may leave behind in memory, once the first round has warmed the allocator up.
GROWTH_KIB = 16 << 10


@pytest.fixture(scope="module")
def target(start) -> Server:
    """A server of its own: what is done to it must not disturb the other tests."""
    return start(MODELS / "triton", "--default-model", "identity_fp32")


def assert_answers(server: Server) -> None:
    answer = server.request("POST", V2, (), GOOD)
    assert answer.status == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == [1.0]


def fields(path: str = V2, method: str = "POST", *more) -> list:
    return [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path), *more]


GRPC = (("content-type", "application/grpc"), ("te", "trailers"))
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
MARK = b"the end."


@dataclass
class Outcome:
    """What a connection looked like from outside."""

    closed: bool = False
    # (kind, code) of RST_STREAM and GOAWAY, (HEADERS, status) of replies
    seen: Counter = field(default_factory=Counter)

    def read(self, connection: socket.socket, enough: Callable[[frames.Frame], bool]) -> None:
        """Until something is enough or the server closes."""
        for got in Reader(connection):
            if got.kind in (RST_STREAM, GOAWAY):
                self.seen[got.kind, got.code] += 1
            elif got.kind == HEADERS:
                self.seen[got.kind, got.status] += 1
            if enough(got):
                return
        self.closed = True


def is_mark(got: frames.Frame) -> bool:
    return got.kind == PING and got.payload == MARK


def is_answer(got: frames.Frame) -> bool:
    return got.kind in (RST_STREAM, GOAWAY, HEADERS)


def converse(server: Server, pieces: Iterable[bytes], enough: Callable[[frames.Frame], bool] = is_mark) -> Outcome:
    """Sends these bytes and a PING on one connection, and reads meanwhile."""
    outcome = Outcome()
    with server.connect() as connection:
        reader = threading.Thread(target=outcome.read, args=(connection, enough), daemon=True)
        reader.start()
        try:
            connection.sendall(hello())
            for piece in pieces:
                connection.sendall(piece)
            connection.sendall(frame(PING, payload=MARK))
        except ConnectionError:
            pass  # what the server said before it closed is for the reader
        reader.join(timeout=PATIENCE_S)
        assert not reader.is_alive(), "the server neither answers nor closes"
    return outcome


# HTTP/2 floods


def streams(count: int, after: Callable[[int], bytes]) -> Iterable[bytes]:
    """Opens `count` streams; each is followed at once by what `after` makes of its number."""
    for some in hundreds(range(1, 2 * count, 2)):
        yield b"".join(headers(stream, fields(), END_HEADERS) + after(stream) for stream in some)


def hundreds(numbers: range) -> Iterable[range]:
    return (numbers[i : i + 100] for i in range(0, len(numbers), 100))


def head_and(piece: bytes, count: int, head: bytes) -> Iterable[bytes]:
    yield head
    for _ in range(count // 100):
        yield piece * 100


def open_call(path: str = V2, *more) -> bytes:
    return headers(1, fields(path, "POST", *more), END_HEADERS)


def unfinished_head() -> bytes:
    return frame(HEADERS, END_STREAM, 1, frames.block(fields()))


def large_fields() -> Iterable[bytes]:
    """64 MiB of header fields."""
    yield unfinished_head()
    for i in range(4096):
        yield frame(CONTINUATION, 0, 1, frames.block([(f"x-{i}", "v" * 16_000)]))


@dataclass(frozen=True)
class Flood:
    id: str
    pieces: Callable[[], Iterable[bytes]]
    # The connection ends, or it goes on as if nothing had been.
    ends: bool
    codes: tuple[int, ...] = (ENHANCE_YOUR_CALM,)


FLOODS = [
    Flood("rapid reset", lambda: streams(20_000, reset), True),
    Flood("window of a stream overflows", lambda: streams(4_000, lambda s: window_update(s, 2**31 - 1)), True),
    Flood("window update of nothing", lambda: streams(4_000, lambda s: window_update(s, 0)), True, (PROTOCOL_ERROR,)),
    Flood("frames on a closed stream",
          lambda: head_and(frame(DATA, 0, 1, b"x"), 100_000, headers(1, fields("/nowhere", "GET"))), True,
          # How well the server remembers the stream is a matter of moments.
          (PROTOCOL_ERROR, STREAM_CLOSED, ENHANCE_YOUR_CALM)),
    Flood("continuations without end", large_fields, True),
    Flood("empty continuations", lambda: head_and(frame(CONTINUATION, 0, 1), 200_000, unfinished_head()), True),
    Flood("empty data", lambda: head_and(frame(DATA, 0, 1), 200_000, open_call()), True),
    Flood("empty data that nobody reads",
          lambda: head_and(frame(DATA, 0, 1), 200_000, open_call("/v2/models/nobody/infer")), True),
    Flood("empty data into a stream of calls",
          lambda: head_and(frame(DATA, 0, 1), 200_000, open_call(STREAM_INFER, *GRPC)), True),
    Flood("settings", lambda: head_and(settings((INITIAL_WINDOW_SIZE, 65_535)), 50_000, b""), False),
    Flood("pings", lambda: head_and(frame(PING, payload=b"12345678"), 50_000, b""), False),
    Flood("priorities", lambda: head_and(frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 1)), 200_000, b""), False),
    Flood("unknown frames", lambda: head_and(frame(77, 0, 1), 200_000, b""), False),
]


@pytest.mark.parametrize("flood", FLOODS, ids=lambda f: f.id)
def test_a_flood_ends_the_connection_or_costs_nothing(target, flood):
    converse(target, flood.pieces())
    before = target.rss_kib()
    outcome = converse(target, flood.pieces())
    after = target.rss_kib()
    assert outcome.closed == flood.ends, outcome
    # A reset connection may swallow the last words; what is heard must be the right ones.
    words = {code for kind, code in outcome.seen if kind == GOAWAY}
    assert words <= set(flood.codes if flood.ends else ()), outcome
    assert after - before < GROWTH_KIB, f"{before} KiB, then {after} KiB"
    assert_answers(target)


def test_20_000_resets_on_one_connection_after_another_leave_nothing_behind(target):
    """Each connection is cut off early, so there are many; the server's books must balance after all of them."""

    def resets(count: int) -> None:
        sent = 0
        while sent < count:
            with target.connect() as connection:
                try:
                    connection.sendall(hello())
                    for piece in streams(count, reset):
                        connection.sendall(piece)
                        sent += 100
                except ConnectionError:
                    pass

    resets(2_000)
    before = target.rss_kib()
    resets(20_000)
    assert_answers(target)
    after = target.rss_kib()
    assert after - before < GROWTH_KIB, f"{before} KiB, then {after} KiB"


def test_calls_that_are_reset_once_they_run_give_their_places_back(target):
    """Slow enough for the server to start each call: nothing to complain of, so the places must come back."""
    body = tensor([2.0], [1, 1])
    call = fields("/v2/models/slow/infer", "POST", ("content-length", str(len(body))))
    with target.connect() as connection:
        reader = Reader(connection)
        connection.sendall(hello())
        for first in range(1, 2_000, 20):
            some = range(first, first + 20, 2)
            connection.sendall(b"".join(
                headers(stream, call, END_HEADERS) + frame(DATA, END_STREAM, stream, body) for stream in some
            ) + frame(PING, payload=MARK))
            for got in reader:
                assert got.kind != GOAWAY, got
                if is_mark(got):
                    break
            connection.sendall(b"".join(reset(stream) for stream in some))
        last = 2_001
        connection.sendall(headers(last, call, END_HEADERS) + frame(DATA, END_STREAM, last, body))
        answer = next(got for got in reader if got.kind == HEADERS and got.stream == last)
        assert answer.status == 200
    assert_answers(target)


@pytest.mark.parametrize("piece", [frame(PING, payload=b"12345678"), settings((INITIAL_WINDOW_SIZE, 65_535))],
                         ids=["pings", "settings"])
def test_who_asks_and_never_reads_is_cut_off(start, piece):
    """Answers are not piled up: the server stops reading, and after the idle time it closes."""
    server = start(MODELS / "triton" / "identity_fp32", "--idle-timeout-ms", "500")
    before = server.rss_kib()
    with server.connect() as connection, pytest.raises(ConnectionError):
        connection.sendall(hello())
        while True:
            connection.sendall(piece * 1000)
    after = server.rss_kib()
    assert after - before < GROWTH_KIB, f"{before} KiB, then {after} KiB"
    assert_answers(server)


def test_no_more_streams_are_open_than_allowed(start):
    server = start(MODELS / "triton" / "identity_fp32", "--max-streams", "4")
    with server.connect() as connection:
        reader = Reader(connection)
        connection.sendall(hello() + b"".join(headers(stream, fields(), END_HEADERS) for stream in (1, 3, 5, 7, 9)))
        refused = next(filter(is_answer, reader))
        assert (refused.kind, refused.stream, refused.code) == (RST_STREAM, 9, REFUSED_STREAM)
        for stream in (1, 3, 5, 7):
            connection.sendall(frame(DATA, END_STREAM, stream, GOOD))
        answers = list(itertools.islice(filter(is_answer, reader), 4))
        assert sorted((got.stream, got.status) for got in answers) == [(1, 200), (3, 200), (5, 200), (7, 200)]
        # A place that is free again may be taken.
        connection.sendall(headers(11, fields("/v2", "GET")))
        assert next(filter(is_answer, reader)).status == 200


# Fields of HTTP/2 requests that an HTTP/1 server behind a proxy would misread

MALFORMED = {
    "carriage return in a value": fields(V2, "GET", ("x-a", "a\rb")),
    "line feed in a value": fields(V2, "GET", ("x-a", "a\nb")),
    "nul in a value": fields(V2, "GET", ("x-a", "a\0b")),
    "line end in a name": fields(V2, "GET", ("x-a\r\nb", "c")),
    "colon in a name": fields(V2, "GET", ("a:b", "c")),
    "capitals in a name": fields(V2, "GET", ("X-A", "b")),
    "line end in the path": fields("/v2\r\nX: y", "GET"),
    "space in the path": fields("/v2 HTTP/1.1", "GET"),
    "line end in the method": fields("/v2", "GE\nT"),
    "line end in the authority": [(":method", "GET"), (":scheme", "http"), (":path", "/v2"), (":authority", "a\r\nb")],
    "connection": fields("/v2", "GET", ("connection", "close")),
    "keep-alive": fields("/v2", "GET", ("keep-alive", "1")),
    "proxy-connection": fields("/v2", "GET", ("proxy-connection", "keep-alive")),
    "transfer-encoding": fields("/v2", "GET", ("transfer-encoding", "chunked")),
    "upgrade": fields("/v2", "GET", ("upgrade", "h2c")),
    "te other than trailers": fields("/v2", "GET", ("te", "gzip")),
    "two paths": fields("/v2", "GET", (":path", "/v1")),
    "no path": fields()[:3],
    "no fields at all": [],
    "a pseudo field at the end": [("x-a", "b"), *fields("/v2", "GET")],
    "a pseudo field nobody knows": fields("/v2", "GET", (":x", "y")),
    "a length and no body": fields(V2, "POST", ("content-length", "5")),
    "two lengths": fields(V2, "POST", ("content-length", "0"), ("content-length", "5")),
}


@pytest.mark.parametrize("malformed", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_fields_end_their_stream(target, malformed):
    outcome = converse(target, [headers(1, malformed)], is_answer)
    refusals = {(RST_STREAM, PROTOCOL_ERROR), (GOAWAY, PROTOCOL_ERROR), (HEADERS, 400)}
    assert set(outcome.seen) <= refusals, outcome
    assert outcome.seen or outcome.closed, outcome
    assert_answers(target)


def test_the_same_fields_in_order_are_answered(target):
    """The twin of the test above: without the fault the request is a good one."""
    good = fields("/v2", "GET", ("x-a", "b"), ("te", "trailers"))
    outcome = converse(target, [headers(1, good)], is_answer)
    assert outcome.seen == {(HEADERS, 200): 1}
    assert not outcome.closed


def test_a_body_that_is_not_as_long_as_told_is_refused(target):
    for length, parts in ((5, [GOOD]), (len(GOOD) + 1, [GOOD]), (len(GOOD), [GOOD, b"x"])):
        sent = [frame(DATA, END_STREAM if part is parts[-1] else 0, 1, part) for part in parts]
        head = headers(1, fields(V2, "POST", ("content-length", str(length))), END_HEADERS)
        outcome = converse(target, [head, *sent], is_answer)
        assert (HEADERS, 200) not in outcome.seen, outcome
        assert outcome.seen or outcome.closed, outcome
    assert_answers(target)


# Framing of HTTP/1

SMUGGLED = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
LENGTH = f"Content-Length: {len(GOOD)}"
CLOSE = "Connection: close"
CHUNKED = "Transfer-Encoding: chunked"


def one_chunk(body: bytes = GOOD, size: str | None = None, after: str = "") -> bytes:
    return (f"{len(body):x}" if size is None else size).encode() + after.encode() + b"\r\n" + body + b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Framing:
    id: str
    head: tuple[str, ...]
    body: bytes = GOOD
    # Exactly these answers, and then the end of the connection.
    statuses: tuple[int, ...] = (400,)
    version: str = "1.1"

    def bytes(self) -> bytes:
        lines = [f"POST {V2} HTTP/{self.version}", "Host: localhost", *self.head]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


FRAMINGS = [
    Framing("one length", (LENGTH, CLOSE), statuses=(200,)),
    Framing("length after spaces", (f"Content-Length:  \t {len(GOOD)} ", CLOSE), statuses=(200,)),
    Framing("length with a sign", (f"Content-Length: +{len(GOOD)}",)),
    Framing("negative length", ("Content-Length: -1",)),
    Framing("a list of equal lengths", (f"Content-Length: {len(GOOD)}, {len(GOOD)}",)),
    Framing("length in hexadecimal", (f"Content-Length: 0x{len(GOOD):x}",)),
    Framing("length with text after it", (f"Content-Length: {len(GOOD)}x",)),
    Framing("length beyond 64 bits", (f"Content-Length: {2**64 + len(GOOD)}",)),
    Framing("empty length", ("Content-Length:",)),
    Framing("two lengths", (LENGTH, "Content-Length: 5")),
    Framing("space before the colon", (f"Content-Length : {len(GOOD)}",)),
    Framing("a folded length", (f"Content-Length:\r\n {len(GOOD)}",)),
    Framing("chunks", (CHUNKED, CLOSE), one_chunk(), (200,)),
    Framing("chunks in capitals", ("TRANSFER-ENCODING: Chunked", CLOSE), one_chunk(), (200,)),
    Framing("chunks after a tab", ("Transfer-Encoding:\tchunked", CLOSE), one_chunk(), (200,)),
    Framing("length, then chunks", (LENGTH, CHUNKED), b"0\r\n\r\n" + SMUGGLED),
    Framing("chunks, then a length", (CHUNKED, "Content-Length: 4"), one_chunk(SMUGGLED)),
    Framing("chunks after a bare line feed, and a length", (f"{LENGTH}\n{CHUNKED}",), b"0\r\n\r\n" + SMUGGLED),
    Framing("two chunked codings", (CHUNKED, CHUNKED), one_chunk()),
    Framing("chunked, chunked", (f"{CHUNKED}, chunked",), one_chunk()),
    Framing("chunked, then identity", (CHUNKED, "Transfer-Encoding: identity"), b"0\r\n\r\n" + SMUGGLED),
    Framing("gzip, then chunked", ("Transfer-Encoding: gzip, chunked",), one_chunk()),
    Framing("identity", ("Transfer-Encoding: identity", LENGTH), GOOD),
    Framing("a coding nobody knows", ("Transfer-Encoding: xchunked",), b"0\r\n\r\n" + SMUGGLED),
    Framing("a coding nobody knows, and a length", (LENGTH, "Transfer-Encoding: x"), GOOD),
    Framing("quoted chunked", ('Transfer-Encoding: "chunked"',), b"0\r\n\r\n" + SMUGGLED),
    Framing("a coding before its colon", ("Transfer-Encoding : chunked",), b"0\r\n\r\n" + SMUGGLED),
    Framing("vertical tab before chunked", ("Transfer-Encoding: \x0bchunked",), b"0\r\n\r\n" + SMUGGLED),
    Framing("HTTP/1.0 with a length", (LENGTH,), statuses=(200,), version="1.0"),
    Framing("HTTP/1.0 with chunks", (CHUNKED,), b"0\r\n\r\n" + SMUGGLED, version="1.0"),
    Framing("HTTP/1.0 with both", (LENGTH, CHUNKED), b"0\r\n\r\n" + SMUGGLED, version="1.0"),
    Framing("chunk size with a sign", (CHUNKED,), one_chunk(size=f"+{len(GOOD):x}")),
    Framing("chunk size with a prefix", (CHUNKED,), one_chunk(size=f"0x{len(GOOD):x}")),
    Framing("negative chunk size", (CHUNKED,), one_chunk(size="-1")),
    Framing("no chunk size", (CHUNKED,), one_chunk(size="")),
    Framing("chunk longer than told", (CHUNKED,), one_chunk(GOOD + b"x", size=f"{len(GOOD):x}")),
    Framing("line feed in a chunk's extension", (CHUNKED,), one_chunk(after=";a\nb")),
    Framing("a megabyte of chunk extension", (CHUNKED,), one_chunk(after=";" + "a" * (1 << 20))),
    Framing("a length among the trailers", (CHUNKED, CLOSE), one_chunk()[:-2] + b"Content-Length: 5\r\n\r\n", (200,)),
]


def answers_to(server: Server, data: bytes) -> tuple[int, ...]:
    """The statuses of everything the server says until it closes."""
    heard = bytearray()
    with server.connect() as connection:

        def send() -> None:
            try:
                connection.sendall(data)
            except OSError:
                pass

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        try:
            while piece := connection.recv(65536):
                heard += piece
        except ConnectionResetError:
            pass
        sender.join(timeout=PATIENCE_S)
    return tuple(int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", heard))


@pytest.mark.parametrize("framing", FRAMINGS, ids=lambda f: f.id)
def test_doubtful_framing_is_refused_and_the_connection_ends(target, framing):
    assert answers_to(target, framing.bytes()) == framing.statuses
    assert_answers(target)


def test_a_million_chunks_of_one_byte_are_one_body(target):
    body = GOOD + b" " * (1_000_000 - len(GOOD))
    framing = Framing("", (CHUNKED, CLOSE), one_byte_chunks(body))
    answers_to(target, framing.bytes())
    before = target.rss_kib()
    assert answers_to(target, framing.bytes()) == (200,)
    after = target.rss_kib()
    assert after - before < GROWTH_KIB, f"{before} KiB, then {after} KiB"
    assert_answers(target)


# Slow and silent peers


def dribbles() -> list[bytes]:
    """What slow peers send, a byte at a time; none of it is ever complete."""
    head = f"POST {V2} HTTP/1.1\r\nHost: localhost\r\n".encode()
    endless = b"X-Slow: " + b"a" * 4096
    late_preface = hello() + headers(1, fields("/v2", "GET"))[:20]
    body = head + f"Content-Length: {64 << 10}\r\n\r\n".encode()
    return [head + endless, b"\r\n" * 2048, late_preface + b"a" * 4096, body + b" " * 4096]


def test_500_slow_peers_are_cut_off_while_a_good_one_is_served(start):
    server = start(
        MODELS / "triton", "--default-model", "identity_fp32", "--header-timeout-ms", "1000",
        "--idle-timeout-ms", "1000", "--body-grace-ms", "1000",
    )
    kinds = dribbles()
    with selectors.DefaultSelector() as open_ones:
        for i in range(500):
            connection = server.connect()
            connection.setblocking(False)
            text = kinds[i % len(kinds)]
            # The slow bodies start with their head complete, the HTTP/2 ones with their preface.
            at = {2: len(hello()), 3: len(text) - 4096}.get(i % len(kinds), 0)
            connection.send(text[:at])
            open_ones.register(connection, selectors.EVENT_READ, iter(text[at:]))
        end = time.monotonic() + PATIENCE_S
        rounds = 0
        while open_ones.get_map():
            assert time.monotonic() < end, f"{len(open_ones.get_map())} slow peers are still connected"
            assert_answers(server)
            rounds += 1
            for key in list(open_ones.get_map().values()):
                if has_ended(key.fileobj, bytes([next(key.data)])):
                    open_ones.unregister(key.fileobj)
                    key.fileobj.close()
            open_ones.select(timeout=0.02)
    assert rounds > 1, "nobody was slow"
    assert_answers(server)


def has_ended(connection: socket.socket, byte: bytes) -> bool:
    """Sends one more byte; whether the server has closed the connection."""
    try:
        connection.send(byte)
        while connection.recv(65536):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def large_reply() -> bytes:
    """A request whose reply is larger than what the sockets of both sides hold."""
    count = 8 << 20
    head = (
        f'{{"parameters":{{"binary_data_output":true}},"inputs":[{{"name":"INPUT0","shape":[1,{count}],'
        f'"datatype":"FP32","parameters":{{"binary_data_size":{4 * count}}}}}]}}'
    ).encode()
    lines = (
        f"POST {V2} HTTP/1.1\r\nHost: localhost\r\nInference-Header-Content-Length: {len(head)}\r\n"
        f"Content-Length: {len(head) + 4 * count}\r\n\r\n"
    )
    return lines.encode() + head + b"\0" * (4 * count)


def test_a_reply_that_nobody_reads_is_dropped(start):
    """The only connection allowed is held by somebody who does not read; the next client waits for it."""
    server = start(MODELS / "triton" / "identity_fp32", "--max-connections", "1", "--idle-timeout-ms", "500",
                   ready=False)
    server.until(lambda: server.get("/v2/health/ready").status_code == 200, "ready")
    request = large_reply()
    with server.connect() as unread:
        unread.sendall(request)
        assert_answers(server)
        received = 0
        try:
            while piece := unread.recv(1 << 20):
                received += len(piece)
        except ConnectionResetError:
            pass
        assert received < 32 << 20, "the reply was kept until somebody read it"


def test_a_server_without_free_file_descriptors_serves_again_once_it_has_some(start):
    server = start(MODELS / "triton" / "identity_fp32")
    with server.connect() as early:
        ask = f"POST {V2} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD
        early.sendall(ask)
        assert read_answer(early).status == 200
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        held = [server.connect() for _ in range(100)]
        try:
            server.until(lambda: any("accepting connections pauses" in line for line in server.stderr), "full")
            # Who is connected already does not notice.
            early.sendall(ask)
            assert read_answer(early).status == 200
        finally:
            for connection in held:
                connection.close()
        assert_answers(server)
    assert_answers(server)
    server.stop()


# Limits that stand in no other test: at the limit and one past it


def test_the_number_of_inputs_is_limited(start):
    server = start(MODELS / "triton", "--default-model", "identity_fp32", "--max-inputs", "2")
    one = {"name": "INPUT0", "shape": [1, 16], "datatype": "INT32", "data": [1] * 16}

    def ask(count: int):
        inputs = [{**one, "name": f"INPUT{i}"} for i in range(count)]
        return server.post("/v2/models/add_sub_int32/infer", {"inputs": inputs})

    assert ask(2).status_code == 200, ask(2).text
    refused = ask(3)
    assert refused.status_code == 413
    assert "2" in refused.json()["error"]


@pytest.mark.parametrize("limit, status", [(6, 200), (5, 400)])
def test_the_length_of_names_is_limited_exactly(start, limit, status):
    server = start(MODELS / "triton" / "identity_fp32", "--name-limit-bytes", str(limit))
    answer = server.request("POST", V2, (), GOOD)
    assert answer.status == status, answer.text


def test_a_batch_is_as_large_as_its_model_takes(target):
    assert target.request("POST", V2, (), tensor([1.0] * 8, [8, 1])).status == 200
    assert target.request("POST", V2, (), tensor([1.0] * 9, [9, 1])).status == 400


@pytest.mark.parametrize("rank", [64, 65])
def test_a_shape_has_at_most_64_dimensions(target, rank):
    """No model has that many, so both are refused; the longer one before anybody looks at the model."""
    answer = target.request("POST", V2, (), tensor([1.0], [1] * rank))
    assert answer.status == 400
    assert ("more than 64 dimensions" in answer.json()["error"]) == (rank > 64), answer.text
