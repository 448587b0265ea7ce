#!/usr/bin/env python3
"""Mixed load for minutes: does the server's memory stay flat?

    soak.py [--minutes 10]

iris, digits and the transformer are asked at fixed rates, well below the peak, over HTTP JSON,
HTTP binary and gRPC, with one row and many, with the same values and others each time, and with
texts of several lengths. Besides, a client sends what is refused, drops connections in the middle
of a request, and reads metrics. Memory is sampled four times a second; the first half is warm-up.
"""

import argparse
import contextlib
import json
import socket
import sys
import threading
from collections import Counter

import common
from common import IRIS, Caller, Failed, MemoryLog, Salver, ask, bench

common.use_environment()

import numpy as np

DIGITS = common.ROOT / "examples/demo/digits"

# Model, protocol, requests per second, further options.
LOAD = [
    ("iris", "http-json", 800, []),
    ("iris", "http-json", 200, ["--vary"]),
    ("iris", "http-binary", 50, ["--rows", 500]),
    ("iris", "grpc", 400, ["--vary"]),
    ("digits", "http-json", 100, ["--rows", 4]),
    ("digits", "grpc", 100, []),
    ("transformer", "http-json", 4, ["--length", 64, "--vary"]),
    ("transformer", "grpc", 2, ["--length", 17]),
    ("transformer", "http-binary", 1, ["--length", 200]),
]

# What is refused, and with which status.
REFUSED = [
    ("/v2/models/iris/infer", b"{", 400),
    ("/v2/models/iris/infer", b'{"inputs":[{"name":"X","shape":[1,5],"datatype":"FP32","data":[1,2,3,4,5]}]}', 400),
    ("/v2/models/nobody/infer", b'{"inputs":[]}', 404),
    ("/models/iris/predict", b"[[1, 2, 3]]", 400),
]


class Nuisance(threading.Thread):
    """A client that does what clients should not, and one that watches."""

    def __init__(self, server, over):
        super().__init__(daemon=True)
        self.server, self.over, self.seen = server, over, Counter()

    def run(self):
        caller = Caller(self.server.url)
        while not self.over.wait(0.1):
            try:
                for path, body, expected in REFUSED:
                    status = caller.post(path, body)[0]
                    self.seen["refused" if status == expected else f"{path}: {status} instead of {expected}"] += 1
                self.drop_in_the_middle()
                status = ask(self.server.port, "GET", "/metrics")[0]
                self.seen["watched" if status == 200 else f"/metrics: {status}"] += 1
            except (OSError, common.http.client.HTTPException) as error:
                self.seen[f"connection: {error}"] += 1

    def drop_in_the_middle(self):
        head = b"POST /v2/models/iris/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
        with contextlib.closing(socket.create_connection(("127.0.0.1", self.server.port))) as connection:
            connection.sendall(head + b"x" * 1000)
        self.seen["dropped"] += 1


def flatness(samples):
    """Of the second half, without the 5 % of samples at either end: how far the highest lies over
    the mean, and the slope of a straight line through all of it."""
    second_half = samples[len(samples) // 2 :]
    seconds, megabytes = np.array(second_half).T
    cut = len(megabytes) // 20
    trimmed = np.sort(megabytes)[cut : len(megabytes) - cut]
    slope = np.polyfit(seconds, megabytes, 1)[0]
    return {
        "samples": len(second_half),
        "mean_mb": float(trimmed.mean()),
        "max_over_mean_mb": float(trimmed.max() - trimmed.mean()),
        "slope_mb_per_hour": float(slope * 3600),
    }


def measure(minutes=10.0):
    """The figures, by name."""
    over, runs, lock = threading.Event(), [], threading.Lock()
    with Salver(IRIS, DIGITS, common.models("transformer")) as server, MemoryLog(server.pid) as log:

        def busy(model, protocol, rate, more):
            arguments = ["--server", server.url, "--model", model, "--protocol", protocol, "--rate", rate, *more]
            window = ["--connections", 16, "--warmup", "0s", "--duration", f"{minutes * 60:.0f}s"]
            run = bench(*arguments, *window, errors=True)["runs"][0]
            with lock:
                runs.append(run)

        generators = [threading.Thread(target=busy, args=load) for load in LOAD]
        nuisance = Nuisance(server, over)
        for thread in [*generators, nuisance]:
            thread.start()
        for thread in generators:
            thread.join()
        over.set()
        nuisance.join()
    if len(runs) != len(LOAD):
        raise Failed("a load generator ended early")
    expected = {"refused", "dropped", "watched"}
    surprises = {what: n for what, n in nuisance.seen.items() if what not in expected}
    return {
        "minutes": minutes,
        "requests": sum(run["requests"] + run["errors"] for run in runs) + nuisance.seen["refused"],
        "failed": sum(run["errors"] for run in runs) + sum(surprises.values()),
        "first_error": next((run["first_error"] for run in runs if run["errors"]), None),
        "surprises": surprises,
        "refused_as_they_should": nuisance.seen["refused"],
        "first_sample_mb": log.samples[0][1],
        **flatness(log.samples),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    figures = measure(parser.parse_args().minutes)
    print(json.dumps(figures, indent=1))
    sys.exit(0 if figures["failed"] == 0 else 1)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"error: {failure}")
