"""A Redis of the tests' own, on a free port. It has on disk what it answers, and may be killed."""

import contextlib
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from harness import PATIENCE_S
from mlflow_server import missing


class Redis:
    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        settings = ("--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always")
        self.process = subprocess.Popen(
            ["redis-server", *map(str, settings)], cwd=self.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError("redis-server does not start")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(5) == b"+PONG"
        return False

    def queue(self) -> str:
        """The address of a queue that is new."""
        return f"redis://127.0.0.1:{self.port}?prefix=t{uuid.uuid4().hex[:12]}"

    def kill(self) -> None:
        """SIGKILL: only what is on disk is left."""
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    if shutil.which("redis-server") is None:
        missing("redis", "no redis-server in the path (Debian: apt-get install redis-server)")
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()
