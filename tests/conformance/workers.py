"""Worker processes of a server under test, as the system sees them, and a steady load beside them."""

import http.client
import json
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness import MODELS, PATIENCE_S, Server

# The interpreter of the tests has what the models need.
FLAGS = ("--allow-python", "--python", sys.executable, "--python-requirements", "ignore")

TROUBLE = MODELS / "python" / "trouble.py"
RAISE, REFUSE, EXIT, KILLED, HANG, PRINT, SCRIBBLE, FORK, EAT, SEGFAULT, SHORT, WRONG, CHILD, BABBLE = range(-1, -15, -1)

ECHO = """
class Echo:
    inputs = {"x": ("FP32", [-1, 2])}
    outputs = {"y": ("FP32", [-1, 2])}
    def predict(self, batch):
        return batch["x"]
"""


def model(folder: Path, code: str | Path, toml: str = "") -> Path:
    """A folder with a class in Python."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(code, Path):
        shutil.copy(code, folder / "model.py")
    else:
        (folder / "model.py").write_text(code)
    (folder / "model.toml").write_text('engine = "python"\n' + toml)
    return folder


def stat(pid: int | str) -> list[str] | None:
    """The fields of /proc/PID/stat behind the name: state, parent, group, …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def children(server: Server, state: str | None = None) -> list[int]:
    """Direct children, or those in one state (Z: ended and not waited for)."""
    found = []
    for pid in processes():
        fields = stat(pid)
        if fields and int(fields[1]) == server.process.pid and state in (None, fields[0]):
            found.append(pid)
    return found


def workers(server: Server) -> list[int]:
    return [pid for pid in children(server) if is_running(pid)]


def is_running(pid: int) -> bool:
    fields = stat(pid)
    return fields is not None and fields[0] not in "ZX"


def in_groups(groups: set[int]) -> list[int]:
    """Processes that run in one of these process groups, whoever their parent is."""
    running = [(pid, stat(pid)) for pid in processes()]
    return [pid for pid, fields in running if fields and fields[0] not in "ZX" and int(fields[2]) in groups]


def open_files(server: Server) -> list[str]:
    """What the descriptors of the server lead to."""
    found = []
    for entry in Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            found.append(os.readlink(entry))
        except FileNotFoundError:
            pass
    return found


def eventually(condition, what: str) -> None:
    """Asks again and again until it holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.01)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


@dataclass
class Load:
    """Callers that ask models without a pause; each row is one of its kind, and so is its answer."""

    server: Server
    models: tuple[str, ...]
    callers: int = 4
    answered: dict[str, int] = field(default_factory=dict)
    failed: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __enter__(self):
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask, args=(model, caller))
            for model in self.models for caller in range(self.callers)
        ]
        for name in self.models:
            self.answered[name], self.failed[name] = 0, []
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        assert not self.wrong, self.wrong[:5]

    def goes_on(self, n: int = 20) -> None:
        """Waits for more answers of every model."""
        before = dict(self.answered)
        eventually(lambda: all(self.answered[name] >= before[name] + n for name in self.models), f"answers {self.failed}")

    def take_failures(self, model: str) -> list[tuple[int, str]]:
        with self._lock:
            taken, self.failed[model] = self.failed[model], []
        return taken

    def _ask(self, model: str, caller: int) -> None:
        connection = http.client.HTTPConnection(*self.server.listeners["http"], timeout=PATIENCE_S)
        number = 0
        while not self._stop.is_set():
            number += 1
            row = [float(caller * 1_000_000 + number), float(number % 7)]
            connection.request("POST", f"/models/{model}/predict", json.dumps({"x": [row]}), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
            with self._lock:
                if response.status != 200:
                    self.failed[model].append((response.status, body.decode()))
                    continue
                self.answered[model] += 1
                if json.loads(body)["predictions"] != [{"y": row}]:
                    self.wrong.append(f"{model}: {row} gave {body.decode()}")
        connection.close()
