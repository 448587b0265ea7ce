#!/usr/bin/env python3
"""Measures a cold-process start: from spawning `salver serve` to its first prediction, and the
memory that it then holds while idle. Prints what it measured; the page cache is warm.

Usage: benches/startup.py [path to salver] [runs]
"""

import http.client
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BODY = '{"inputs":[{"name":"X","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}'


def resident_mb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1000


def predict(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v2/models/iris/infer", BODY)
    reply = connection.getresponse()
    reply.read()
    return reply.status


def measure(binary, data):
    command = [binary, "serve", str(ROOT / "examples/demo/iris"), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    started = time.perf_counter()
    server = subprocess.Popen([*command, "--data", data], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = int(next(m[1] for line in server.stdout if (m := re.match(r"http listening on .*:(\d+)", line))))
        while predict(port) != 200:  # 503 while the model loads
            time.sleep(0.001)
        first_prediction = time.perf_counter() - started
        time.sleep(1.0)  # idle
        return first_prediction * 1000, resident_mb(server.pid)
    finally:
        server.terminate()
        server.wait()


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/release/salver")
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 11
    with tempfile.TemporaryDirectory() as data:
        measured = [measure(binary, data) for _ in range(runs)]
    for name, unit, values in zip(("start to first prediction", "idle memory"), ("ms", "MB"), zip(*measured)):
        print(f"{name}: median {statistics.median(values):.0f} {unit} of {runs} (range {min(values):.0f}-{max(values):.0f})")


main()
