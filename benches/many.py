#!/usr/bin/env python3
"""Many models under a memory limit: is every answer right, and does the limit hold?

    many.py [--count 300] [--hold 20] [--passes 3] [--clients 4]

Serves COUNT models of 12.6 MB with a `--memory-limit` in which HOLD of them fit. The limit is
measured, not guessed: a server without pressure answers with HOLD models first, and what it then
holds is the limit. Then every model is asked once a pass, in a random order from a fixed seed, by
several clients at a time; every value of every answer is compared, and memory is sampled
throughout.
"""

import argparse
import json
import queue
import sys
import threading
import time
from collections import Counter

import common
from common import Caller, Failed, MemoryLog, Salver, memory, note

common.use_environment()

import numpy as np

SEED = 11


def body_of(x):
    return json.dumps({"inputs": [{"name": "x", "shape": [1, len(x)], "datatype": "FP32", "data": x}]})


class Answers:
    """What every model has to answer to the one input."""

    def __init__(self, folder, count):
        expected = json.loads(folder.with_suffix(".json").read_text())
        self.tolerance, self.body = expected["tolerance"], body_of(expected["x"])
        self.values = {name: np.array(y, np.float32) for name, y in list(expected["y"].items())[:count]}

    def ask(self, caller, name):
        """Asks one model: `right`, `wrong`, or what failed."""
        try:
            status, _, reply = caller.post(f"/v2/models/{name}/infer", self.body)
        except (OSError, common.http.client.HTTPException) as error:
            return f"connection: {error}"
        if status != 200:
            return f"status {status}: {reply.decode(errors='replace')[:200]}"
        (output,) = json.loads(reply)["outputs"]
        values = np.array(output["data"], np.float32)
        return "right" if np.allclose(values, self.values[name], atol=self.tolerance) else "wrong"


def limit_for(folder, answers, hold):
    """Memory of a server that has answered with `hold` models and nothing else, in MB."""
    names = list(answers.values)[:hold]
    with Salver(folder, "--memory-limit", "1000GB") as server:
        before, caller = memory(server.pid)["resident"], Caller(server.url)
        for name in names:
            if (said := answers.ask(caller, name)) != "right":
                raise Failed(f"{name}: {said}")
        after = memory(server.pid)["resident"]
    note(f"{before:.0f} MB without a model, {after:.0f} MB with {len(names)}")
    return after


def run(server, answers, order, n_clients):
    """Sends `order`, spread over the clients; counts what came and how long it took."""
    waiting, seen, latencies = queue.Queue(len(order)), Counter(), []
    for name in order:
        waiting.put_nowait(name)
    lock = threading.Lock()

    def client():
        caller = Caller(server.url)
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return caller.close()
            begin = time.monotonic()
            said = answers.ask(caller, name)
            with lock:
                seen[said] += 1
                latencies.append((time.monotonic() - begin) * 1000)

    clients = [threading.Thread(target=client) for _ in range(n_clients)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return seen, latencies


def measure(count=300, hold=20, passes=3, clients=4):
    """The figures, by name."""
    folder = common.models("many", count)
    answers = Answers(folder, count)
    limit = limit_for(folder, answers, hold)
    random, order = np.random.default_rng(SEED), []
    for _ in range(passes):
        order += [str(name) for name in random.permutation(list(answers.values))]
    with Salver(folder, "--memory-limit", f"{limit:.0f}MB") as server:
        with MemoryLog(server.pid, interval=0.02) as log:
            begin = time.monotonic()
            seen, latencies = run(server, answers, order, clients)
            took = time.monotonic() - begin
        peak = memory(server.pid)["peak"]
    highest = max(sample for _, sample in log.samples)
    spread = common.Spread(latencies)
    return {
        "models": count,
        "requests": len(order),
        "right": seen.pop("right", 0),
        "others": dict(seen),
        "limit_mb": limit,
        "sampled_max_mb": highest,
        "peak_mb": peak,
        "over_limit": max(peak, highest) / limit - 1,
        "per_second": len(order) / took,
        "p50_ms": spread.median,
        "p99_ms": spread.at(0.99),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--hold", type=int, default=20)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    figures = measure(**vars(parser.parse_args()))
    print(json.dumps(figures, indent=1))
    sys.exit(0 if figures["right"] == figures["requests"] else 1)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"error: {failure}")
