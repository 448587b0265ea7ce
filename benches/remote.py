#!/usr/bin/env python3
"""Measures what slow calls of another server cost while they are under way: memory, threads, connections.

A server of our own answers each call after two seconds, from one thread. Callers are sockets that wait, so
what grows is Salver. Prints the growth from idle, and fails above the bound.

Usage: benches/remote.py [path to salver] [calls]
"""

import json
import pathlib
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
DELAY_S = 2.0
BOUND_MB = 50
ANSWER = json.dumps({
    "choices": [{"message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1},
}).encode()
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)


class Slow:
    """Answers every request after a while; `at_work` counts those that wait."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port, self.due, self.most = self.listener.getsockname()[1], {}, 0
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
                    self.due.pop(key.fileobj, None)
                    key.fileobj.close()
                else:
                    self.due.setdefault(key.fileobj, time.monotonic() + DELAY_S)
            self.most, now = max(self.most, len(self.due)), time.monotonic()
            for connection in [one for one, due in list(self.due.items()) if due <= now]:
                connection.send(REPLY)
                del self.due[connection]


def status(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) / 1000, int(re.search(r"Threads:\s+(\d+)", text)[1])


def request(port, text="hello"):
    tensor = {"name": "prompt", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
    body = json.dumps({"inputs": [tensor]}).encode()
    head = f"POST /v2/models/slow/infer HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {len(body)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(head.encode() + body)
    return connection


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/release/salver")
    calls = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    slow = Slow()
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "slow"
        model.mkdir()
        (model / "model.toml").write_text(
            f'engine = "http"\n[remote]\napi = "openai-chat"\nurl = "http://127.0.0.1:{slow.port}/v1"\n'
            f"max_concurrency = {calls}\nmax_in_flight = {calls}\n"
        )
        command = [binary, "serve", model, "--http", "127.0.0.1:0", "--grpc", "off", "--data", f"{folder}/data",
                   "--remote-allow", "127.0.0.1"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            port = int(next(m[1] for line in server.stdout if (m := re.match(r"http listening on .*:(\d+)", line))))
            while not request(port).recv(64).startswith(b"HTTP/1.1 200"):
                time.sleep(0.01)
            time.sleep(1.0)  # idle
            idle_mb, idle_threads = status(server.pid)
            waiting = [request(port) for _ in range(calls)]
            busy_mb, busy_threads = idle_mb, idle_threads
            while len(slow.due) < calls and slow.most < calls:
                time.sleep(0.001)
            end = time.monotonic() + DELAY_S
            while time.monotonic() < end:
                mb, threads = status(server.pid)
                busy_mb, busy_threads = max(busy_mb, mb), max(busy_threads, threads)
                time.sleep(0.01)
            good = sum(connection.recv(64).startswith(b"HTTP/1.1 200") for connection in waiting)
        finally:
            server.terminate()
            server.wait()
    grown = busy_mb - idle_mb
    print(f"calls in flight: {slow.most} at most, {good} of {calls} answered")
    print(f"memory: {idle_mb:.1f} MB idle, {busy_mb:.1f} MB with {calls} calls of {DELAY_S:.0f} s in flight: {grown:+.1f} MB "
          f"(callers' connections included; bound {BOUND_MB} MB)")
    print(f"threads: {idle_threads} idle, {busy_threads} busy")
    assert good == calls and grown < BOUND_MB and busy_threads - idle_threads < 16, "the bound is not kept"


main()
