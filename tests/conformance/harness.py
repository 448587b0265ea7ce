"""The server under test, plain sockets to talk to it, and ONNX Runtime to compare with."""

import ctypes
import functools
import http.client
import importlib.util
import json
import os
import queue
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import requests

REPO = Path(__file__).resolve().parents[2]
MODELS = REPO / "tests" / "models"
DEMO = REPO / "examples" / "demo"
BINARY = Path(os.environ.get("SALVER_BIN") or REPO / "target" / "debug" / "salver").resolve()

# Every wait has an end, so that a hanging server fails a test instead of stopping the run.
PATIENCE_S = 60

RUNNING: list["Server"] = []


def ort_library() -> Path | None:
    """The shared library inside the installed onnxruntime package."""
    spec = importlib.util.find_spec("onnxruntime")
    found = sorted(Path(spec.origin).parent.glob("capi/libonnxruntime.so.*"))
    return found[0] if found else None


class Server:
    """One `salver serve` process on free ports.

    Models load while the server listens already; `ready` waits until all of them are there. `under` stands
    before the command, such as a tracer that leaves it to be our child.
    """

    def __init__(
        self, folder: Path, *args: object, env: dict[str, str] | None = None, ready: bool = True,
        under: Sequence[str] = (), verb: str = "serve",
    ):
        if not BINARY.exists():
            raise FileNotFoundError(f"{BINARY} is not there: cargo build, or set SALVER_BIN")
        folder.mkdir(parents=True, exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SALVER_")}
        library = ort_library()
        if library:
            environment.setdefault("ORT_DYLIB_PATH", str(library))
        environment.update(env or {})
        words = [str(a) for a in args]
        command = [*under, str(BINARY), verb, *words]
        for flag, value in (
            ("--http", "127.0.0.1:0"), ("--grpc", "127.0.0.1:0"),
            ("--data", folder / "data"), ("--log-format", "json"),
        ):
            if flag not in words:
                command += [flag, str(value)]
        self.command = command
        self.folder = folder
        self.listeners: dict[str, tuple[str, int]] = {}
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._looked_at = [0, 0]
        self._errors: list[str] = []
        self._events: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        )
        self._readers = [
            threading.Thread(target=self._read_stdout, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        wanted = {"http"} if "off" in words else {"http", "grpc"}
        while not wanted <= self.listeners.keys():
            try:
                event = self._events.get(timeout=PATIENCE_S)
            except queue.Empty:
                event = None
            if event is None:
                self.process.kill()
                self.process.wait()
                raise RuntimeError(f"{' '.join(command)} did not say that it listens.\n{self.log()}")
        RUNNING.append(self)
        if ready:
            self.until(lambda: self.get("/v2/health/ready").status_code == 200, "ready")

    def until(self, condition, what: str) -> None:
        """Asks again and again until the server says so."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"never became {what}: {' '.join(self.command)}\n{self.log()}")
            time.sleep(0.01)

    def _read_stdout(self) -> None:
        for line in self.process.stdout:
            line = line.rstrip("\n")
            self.stdout.append(line)
            match = re.fullmatch(r"(http|grpc) listening on (\S+):(\d+)", line)
            if match:
                self.listeners[match[1]] = (match[2], int(match[3]))
            self._events.put(line)
        self._events.put(None)

    def _read_stderr(self) -> None:
        for line in self.process.stderr:
            self.stderr.append(line.rstrip("\n"))

    # Addresses

    @property
    def http(self) -> str:
        host, port = self.listeners["http"]
        return f"{host}:{port}"

    @property
    def grpc(self) -> str:
        host, port = self.listeners["grpc"]
        return f"{host}:{port}"

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    # Requests by an ordinary client

    def get(self, path: str, **options) -> requests.Response:
        return requests.get(self.url + path, timeout=PATIENCE_S, **options)

    def post(self, path: str, body: object = None, **options) -> requests.Response:
        if body is not None:
            options["data"] = json.dumps(body).encode()
            options["headers"] = {"Content-Type": "application/json", **options.get("headers", {})}
        return requests.post(self.url + path, timeout=PATIENCE_S, **options)

    # Requests byte by byte

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listeners["http"], timeout=PATIENCE_S)

    def raw(self, data: bytes, method: str = "POST") -> "Answer":
        """Sends exactly these bytes on a connection of their own; the first answer."""
        with self.connect() as connection:
            try:
                connection.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server has answered and closed before it had everything
            return read_answer(connection, method)

    def request(self, method: str, path: str, headers=(), body: bytes = b"") -> "Answer":
        """Like raw(), with the head put together; the path goes out as it is."""
        names = {name.lower() for name, _ in headers}
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.http}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        return self.raw(head + body, method)

    # The process

    def rss_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])

    def rested_rss_kib(self, seconds: float = 3) -> int:
        """What stays once freed memory has gone back, which the allocator does about once a second."""
        end = time.monotonic() + seconds
        least = self.rss_kib()
        while time.monotonic() < end:
            time.sleep(0.05)
            least = min(least, self.rss_kib())
        return least

    def assert_rss_returns(self, before_kib: int, room_kib: int) -> None:
        """Memory that was only taken for a moment comes back; what is kept never does."""
        self.until(lambda: self.rss_kib() - before_kib < room_kib, f"as small as {before_kib} + {room_kib} KiB again")

    def log(self) -> str:
        return "\n".join([*self.stdout, *self.stderr])

    def records(self) -> list[dict]:
        """The log lines that are JSON objects."""
        return [record for record in map(_record, [*self.stdout, *self.stderr]) if record is not None]

    def errors(self) -> list[str]:
        """Log lines of level ERROR, and panics, in the order of each stream. Every line is looked at once."""
        for stream, lines in enumerate((self.stdout, self.stderr)):
            new = lines[self._looked_at[stream] :]
            self._looked_at[stream] += len(new)
            self._errors += [line for line in new if _is_error(line)]
        return list(self._errors)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        try:
            code = self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the server did not end after SIGTERM\n{self.log()}") from None
        for reader in self._readers:
            reader.join(timeout=PATIENCE_S)
        if self in RUNNING:
            RUNNING.remove(self)
        return code

    def kill(self) -> None:
        """SIGKILL: nothing is said and nothing is finished."""
        self.process.kill()
        self.process.wait()
        if self in RUNNING:
            RUNNING.remove(self)

    def stop(self) -> None:
        """SIGTERM, and exit code 0 is the only good one."""
        if self.process.poll() is None:
            self.terminate()
        code = self.wait()
        assert code == 0, f"exit code {code} after SIGTERM\n{self.log()[-4000:]}"


def _record(line: str) -> dict | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _is_error(line: str) -> bool:
    if "panicked at" in line:
        return True
    record = _record(line) if "ERROR" in line.upper() else None
    return record is not None and str(record.get("level", "")).upper() == "ERROR"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    error: str = ""
    raw_headers: list[tuple[str, str]] = field(default_factory=list)

    def json(self):
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


def read_answer(connection: socket.socket, method: str = "POST") -> Answer:
    """One answer; status 0 when the server closed the connection without one."""
    response = http.client.HTTPResponse(connection, method=method)
    try:
        response.begin()
        body = response.read()
    except (http.client.HTTPException, ConnectionError) as error:
        return Answer(0, {}, b"", repr(error))
    headers = response.getheaders()
    return Answer(response.status, {k.lower(): v for k, v in headers}, body, "", headers)


# What ONNX Runtime itself says


@functools.cache
def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def ort(path: Path | str, **inputs) -> dict[str, np.ndarray]:
    """Outputs of a model file, by name. bfloat16 goes through its bits: numpy has no such type."""
    opened = session(MODELS / path if isinstance(path, str) else path)
    names = [o.name for o in opened.get_outputs()]
    if not any(str(value.dtype) == "bfloat16" for value in inputs.values()):
        return dict(zip(names, opened.run(names, inputs), strict=True))
    feeds = {
        name: onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
            value.view(np.uint16), onnx.TensorProto.BFLOAT16
        )
        for name, value in inputs.items()
    }
    results = opened.run_with_ort_values(names, feeds)
    return {n: _from_bits(r) for n, r in zip(names, results, strict=True)}


def _from_bits(value: onnxruntime.OrtValue) -> np.ndarray:
    shape = value.shape()
    bits = ctypes.string_at(value.data_ptr(), 2 * int(np.prod(shape)))
    return np.frombuffer(bits, ml_dtypes.bfloat16).reshape(shape)


def model_file(name: str, version: int = 1) -> str:
    return f"triton/{name}/{version}/model.onnx"


def assert_same(got: np.ndarray, expected: np.ndarray, exact: bool = True) -> None:
    assert got.shape == expected.shape
    if str(got.dtype) == "bfloat16" or str(expected.dtype) == "bfloat16":
        got, expected = got.view(np.uint16), expected.view(np.uint16)
    if got.dtype == object or expected.dtype == object:
        def as_bytes(value):
            return value if isinstance(value, bytes) else str(value).encode()
        assert [as_bytes(v) for v in got.reshape(-1)] == [as_bytes(v) for v in expected.reshape(-1)]
    elif exact:
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
