"""A Redis of the example's own, and what is loaded into it."""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE_S = 30


def check_installed() -> None:
    if shutil.which("redis-server") is None:
        sys.exit("there is no redis-server: apt-get install redis-server, or brew install redis")


@contextlib.contextmanager
def running(folder: Path) -> "Iterator[str]":
    """The address of a server on a free port, which keeps nothing on disk."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(process, port)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_for(process: subprocess.Popen, port: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
            return
        if process.poll() is not None or time.monotonic() > end:
            sys.exit("redis-server does not start")
        time.sleep(0.01)


def load(address: str, rows: Path) -> None:
    """Writes hashes: one a line, as `{"key": "user:1", "fields": {…}}`; of binary fields, `{"base64": "…"}`."""
    host, port = address.removeprefix("redis://").split(":")
    lines = rows.read_text().splitlines()
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(b"".join(hset(json.loads(line)) for line in lines))
        replies = connection.makefile("rb")
        for line in lines:
            reply = replies.readline()
            if not reply.startswith(b":"):
                sys.exit(f"redis refuses {line[:80]}: {reply.decode()}")
    print(f"{len(lines):,} rows of features in {address}", flush=True)


def hset(row: dict) -> bytes:
    """The command, as Redis reads it: https://redis.io/docs/latest/develop/reference/protocol-spec/"""
    words = [b"HSET", row["key"].encode()]
    for name, value in row["fields"].items():
        words += [name.encode(), base64.b64decode(value["base64"]) if isinstance(value, dict) else str(value).encode()]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
