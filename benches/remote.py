#!/usr/bin/env python3
"""What slow calls of another server cost while they are under way: memory and threads.

A server of our own takes each call and answers once all are there, from one thread. Callers are sockets that
wait, so what grows is Salver.

Usage: benches/remote.py [calls]
"""

import json
import selectors
import socket
import sys
import threading
import time

import common
from common import Failed, Salver, memory

ANSWER = json.dumps({
    "choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}).encode()
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
PATIENCE_S = 30
# How long the calls are held once all are under way.
HOLD_S = 3


class Upstream:
    """Answers no request until it is let go; `waiting` are the connections that have one."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port, self.waiting, self.is_open = self.listener.getsockname()[1], set(), True
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        selector = selectors.DefaultSelector()
        self.listener.setblocking(False)
        selector.register(self.listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(0.01):
                if key.fileobj is self.listener:
                    connection, _ = self.listener.accept()
                    connection.setblocking(False)
                    selector.register(connection, selectors.EVENT_READ)
                elif not key.fileobj.recv(1 << 16):
                    selector.unregister(key.fileobj)
                    self.waiting.discard(key.fileobj)
                    key.fileobj.close()
                else:
                    self.waiting.add(key.fileobj)
            if self.is_open:
                for connection in list(self.waiting):
                    connection.send(REPLY)
                    self.waiting.discard(connection)


def request(port):
    tensor = {"name": "prompt", "datatype": "BYTES", "shape": [1, 1], "data": ["hello"]}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = f"POST /v2/models/slow/infer HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {len(body)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    connection.sendall(head.encode() + body)
    return connection


def threads(pid):
    return int(common.pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[17])


def measure(calls=1000):
    """Memory in MB and threads, idle and with so many calls under way."""
    upstream, folder = Upstream(), common.scratch("remote") / "slow"
    folder.mkdir()
    (folder / "model.toml").write_text(
        f'engine = "http"\n[remote]\napi = "openai-chat"\nurl = "http://127.0.0.1:{upstream.port}/v1"\n'
        f"max_concurrency = {calls}\nmax_in_flight = {calls}\ntimeout_ms = {PATIENCE_S * 1000}\n"
    )
    with Salver(folder, "--remote-allow", "127.0.0.1") as server:
        # Not the first call's cost: one goes before.
        with request(server.port) as connection:
            answered(connection)
        time.sleep(1)
        idle = memory(server.pid)["resident"], threads(server.pid)
        # What as many connections of callers hold by themselves, each after an answer.
        connections = [socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) for _ in range(calls)]
        for connection in connections:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % server.port)
            answered(connection)
        time.sleep(1)
        connected = memory(server.pid)["resident"]
        for connection in connections:
            connection.close()
        time.sleep(1)
        upstream.is_open = False
        callers = [request(server.port) for _ in range(calls)]
        server.wait(lambda: len(upstream.waiting) == calls, f"all {calls} calls", PATIENCE_S)
        highest, end = list(idle), time.monotonic() + HOLD_S
        while time.monotonic() < end:
            now = memory(server.pid)["resident"], threads(server.pid)
            highest = [max(pair) for pair in zip(highest, now, strict=True)]
            time.sleep(0.02)
        upstream.is_open = True
        for caller in callers:
            answered(caller)
            caller.close()
    return {
        "calls": calls, "idle_mb": idle[0], "busy_mb": highest[0], "over_idle_mb": highest[0] - idle[0],
        "connections_mb": connected - idle[0], "over_connections_mb": highest[0] - connected,
        "idle_threads": idle[1], "busy_threads": highest[1],
    }


def answered(connection):
    if not (said := connection.recv(1 << 12)).startswith(b"HTTP/1.1 200"):
        raise Failed(f"a call was answered with {said[:200]!r}")


if __name__ == "__main__":
    for name, value in measure(*map(int, sys.argv[1:])).items():
        print(f"{name:14} {value:,.1f}" if isinstance(value, float) else f"{name:14} {value}")
