#!/usr/bin/env python3
"""A new version of a model every second under full load: does a request fail or go astray?

    swap.py [--seconds 60] [--connections 64] [--checkers 4]

A Triton repository under explicit control holds one model; every second a higher version of other
weights (two take turns) is put there and loaded, and the version before the last is deleted.
`salver bench` keeps the server busy and counts every call that fails; besides, checkers compare
each answer with the weights of the version that the reply names, and see to it that no version
comes back once a newer one has answered the same connection.
"""

import argparse
import json
import shutil
import sys
import threading
import time
from collections import Counter

import common
from common import Caller, Failed, Salver, ask, bench

common.use_environment()

import numpy as np

CONFIG = """\
name: "swap"
platform: "onnxruntime_onnx"
max_batch_size: 64
dynamic_batching { }
version_policy { latest { num_versions: 1 } }
"""
PATH = "/v2/models/swap/infer"


class Repository:
    """A Triton repository whose versions take their weights from two models in turn."""

    def __init__(self):
        many = common.models("many", 2)
        expected = json.loads(many.with_suffix(".json").read_text())
        names = list(expected["y"])[:2]
        self.files = [many / name / "model.onnx" for name in names]
        self.answers = [np.array(expected["y"][name], np.float32) for name in names]
        self.tolerance = expected["tolerance"]
        x = expected["x"]
        self.body = json.dumps({"inputs": [{"name": "x", "shape": [1, len(x)], "datatype": "FP32", "data": x}]})
        self.folder = common.scratch("swap")
        self.root = self.folder / "repository"
        (self.root / "swap").mkdir(parents=True)
        (self.root / "swap/config.pbtxt").write_text(CONFIG)

    def add(self, version):
        # Complete before it is visible.
        unfinished = self.folder / f"unfinished-{version}"
        unfinished.mkdir()
        shutil.copy(self.files[version % 2], unfinished / "model.onnx")
        unfinished.rename(self.root / "swap" / str(version))

    def remove(self, version):
        shutil.rmtree(self.root / "swap" / str(version), ignore_errors=True)

    def is_right(self, version, reply):
        (output,) = json.loads(reply)["outputs"]
        return np.allclose(np.array(output["data"], np.float32), self.answers[version % 2], atol=self.tolerance)


class Checker(threading.Thread):
    """Asks again and again, and compares each answer with the version that it names."""

    def __init__(self, url, repository, over):
        super().__init__(daemon=True)
        self.url, self.repository, self.over, self.seen, self.newest = url, repository, over, Counter(), 0

    def run(self):
        caller = Caller(self.url)
        while not self.over.is_set():
            try:
                status, headers, reply = caller.post(PATH, self.repository.body)
            except (OSError, common.http.client.HTTPException) as error:
                self.seen[f"connection: {error}"] += 1
                continue
            if status != 200:
                self.seen[f"status {status}: {reply[:200]!r}"] += 1
                continue
            version = int(headers["x-salver-model-version"])
            if not self.repository.is_right(version, reply):
                self.seen["misrouted: the answer of another version"] += 1
            elif version < self.newest:
                self.seen["misrouted: an older version after a newer one"] += 1
            else:
                self.seen["right"] += 1
            self.newest = max(self.newest, version)
        caller.close()


def swap(port, repository, seconds, failures):
    """Brings a new version each second; returns how many, and how long each load took in ms."""
    begin, took = time.monotonic(), []
    for version in range(2, seconds + 2):
        time.sleep(max(0.0, begin + version - 1 - time.monotonic()))
        repository.add(version)
        before = time.monotonic()
        status, reply = ask(port, "POST", "/v2/repository/models/swap/load")
        took.append((time.monotonic() - before) * 1000)
        if status != 200:
            failures[f"load of version {version}: {status} {reply[:200]!r}"] += 1
        repository.remove(version - 2)
    return took


def measure(seconds=60, connections=64, checkers=4):
    """The figures, by name."""
    repository = Repository()
    repository.add(1)
    body = repository.folder / "body.json"
    body.write_text(repository.body)
    flags = ["--model-control", "explicit", "--load-model", "swap"]
    with Salver(repository.root, *flags) as server:
        over, failures, load = threading.Event(), Counter(), {}
        arguments = ["--server", server.url, "--model", "swap", "--input", body, "--connections", connections]

        def busy():
            window = ["--duration", f"{seconds + 1}s", "--warmup", "0s"]
            load.update(bench(*arguments, *window, errors=True)["runs"][0])

        threads = [Checker(server.url, repository, over) for _ in range(checkers)]
        generator = threading.Thread(target=busy)
        for thread in [generator, *threads]:
            thread.start()
        took = swap(server.port, repository, seconds, failures)
        generator.join()
        over.set()
        for thread in threads:
            thread.join()
    if not load:
        raise Failed("the load generator ended early")
    checked = sum((thread.seen for thread in threads), Counter())
    right = checked.pop("right", 0)
    newest = max(thread.newest for thread in threads)
    return {
        "swaps": len(took),
        "newest_version_seen": newest,
        "requests": load["requests"] + load["errors"] + right + sum(checked.values()),
        "per_second": load["per_second"],
        "checked": right + sum(checked.values()),
        "failed": load["errors"] + sum(checked.values()) + sum(failures.values()),
        "first_error": load["first_error"],
        "others": dict(checked + failures),
        "load_ms_median": common.Spread(took).median,
        "p50_ms": load["p50_ms"],
        "p99_ms": load["p99_ms"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--checkers", type=int, default=4)
    figures = measure(**vars(parser.parse_args()))
    print(json.dumps(figures, indent=1))
    sys.exit(0 if figures["failed"] == 0 else 1)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"error: {failure}")
