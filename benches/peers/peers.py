#!/usr/bin/env python3
"""Measures Salver against other model servers: the same models, the same load generator, in turn.

    peers.py [--rounds 7] [--duration 5s] [--peers fastapi,mlserver,bentoml] [--models iris,transformer]

Each peer gets a virtual environment of its own under target/peers, made of its requirements file.
All servers run at the same time and are asked one after the other, round by round, with one row a
request: iris over 64 connections, the transformer (64 tokens) over 32. Before that each of them
answers 16 different requests at once, and every value is compared with ONNX Runtime's.
A peer that cannot be installed or started is reported as skipped.
"""

import argparse
import contextlib
import json
import os
import pathlib
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import common
from common import (
    IRIS,
    Caller,
    Failed,
    Process,
    Salver,
    Spread,
    bench,
    environment,
    free_port,
    note,
    status_of,
)

common.use_environment()

import numpy as np
import onnxruntime

# Numbers may travel as decimals; answers are between 0 and 4 in size.
TOLERANCE = 1e-3
N_CHECKED = 16


class Model:
    """What is asked: a file, random requests for it, and the right answers."""

    def __init__(self, name, find, connections, batch, make):
        self.name, self.find, self.connections, self.batch, self.make = name, find, connections, batch, make

    @property
    def folder(self):
        return self.find()

    @property
    def file(self):
        return self.folder / "model.onnx"

    def requests(self):
        random = np.random.default_rng(7)
        session = onnxruntime.InferenceSession(self.file, providers=["CPUExecutionProvider"])
        feeds = [self.make(random) for _ in range(N_CHECKED)]
        return [(feed, session.run(None, feed)[0]) for feed in feeds]


def flowers(random):
    return {"X": random.uniform(0.1, 8.0, (1, 4)).round(1).astype(np.float32)}


def tokens(random):
    ids = random.integers(1, 30_000, (1, 64))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


MODELS = {
    "iris": Model("iris", lambda: IRIS, 64, 32, flowers),
    "transformer": Model("transformer", lambda: common.models("transformer"), 32, 8, tokens),
}


def oip(feed):
    """A request of the Open Inference Protocol, which all but BentoML are sent."""
    names = {"float32": "FP32", "int64": "INT64"}

    def values(array):
        # As decimals people write them: 0.1 and not 0.10000000149.
        return [float(str(value)) if array.dtype == np.float32 else int(value) for value in array.ravel()]

    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": names[array.dtype.name], "data": values(array)}
        for name, array in feed.items()
    ]
    return json.dumps({"inputs": inputs}).encode()


class Peer:
    """A server that is not Salver."""

    path = "/infer"
    is_ready = "/ready"

    def environment(self):
        return environment(f"peers/{self.name}", HERE / f"requirements-{self.name}.txt")

    def start(self, model):
        port = free_port()
        binaries = self.environment().parent
        folder = pathlib.Path(self.scratch.name)
        command, env = self.command(model, binaries, port, folder)
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(HERE), **env}
        self.process = Process(command, env=env, cwd=folder)
        self.url = f"http://127.0.0.1:{port}"
        self.process.wait(lambda: status_of(port, self.is_ready) == 200, "readiness")

    def body(self, feed):
        return oip(feed)

    def __enter__(self):
        self.process = None
        self.scratch = tempfile.TemporaryDirectory(prefix="salver-peer-")
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.process.stop()
        self.scratch.cleanup()


class FastApi(Peer):
    """Two processes of uvicorn, each with ONNX Runtime on one thread."""

    name = "fastapi"

    def command(self, model, binaries, port, folder):
        tuned = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        command = [binaries / "uvicorn", "fastapi_app:app", "--port", port, "--workers", 2, *tuned]
        return command, {"PEER_MODEL": str(model.file)}

    def values(self, reply):
        return next(iter(reply.values()))


class MlServer(Peer):
    """Two workers and adaptive batching, the best of what was tried (workers 0 and 2, with and
    without batches)."""

    name = "mlserver"

    def command(self, model, binaries, port, folder):
        self.path = f"/v2/models/{model.name}/infer"
        self.is_ready = f"/v2/models/{model.name}/ready"
        settings = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": free_port(),
            "metrics_endpoint": None,
            "parallel_workers": 2,
        }
        of_model = {
            "name": model.name,
            "implementation": "mlserver_runtime.OnnxModel",
            "max_batch_size": model.batch,
            "max_batch_time": 0.002,
            "parameters": {"uri": str(model.file), "version": "1"},
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(json.dumps(of_model))
        return [binaries / "mlserver", "start", folder], {}

    def values(self, reply):
        (output,) = reply["outputs"]
        return np.reshape(output["data"], output["shape"])


class BentoMl(Peer):
    """Two workers with adaptive batching."""

    name = "bentoml"
    is_ready = "/readyz"

    def command(self, model, binaries, port, folder):
        env = {
            "PEER_MODEL": str(model.file),
            "PEER_MAX_BATCH": str(model.batch),
            "BENTOML_HOME": str(folder / "home"),
            "BENTOML_DO_NOT_TRACK": "True",
        }
        command = [binaries / "bentoml", "serve", "bentoml_service:Onnx", "--host", "127.0.0.1", "--port", port]
        return [*command, "--working-dir", HERE], env

    def body(self, feed):
        # One argument: the inputs of a model with several are stacked behind the batch dimension.
        arrays = list(feed.values())
        stacked = arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=1)
        return json.dumps({"inputs": stacked.tolist()}).encode()

    def values(self, reply):
        return reply


class Ours(Peer):
    """Salver with its defaults."""

    name = "salver"

    def start(self, model):
        self.process = Salver(model.folder)
        self.url, self.path = self.process.url, f"/v2/models/{model.name}/infer"

    values = MlServer.values


PEERS = {peer.name: peer for peer in (FastApi, MlServer, BentoMl)}


def check(server, model):
    """Asks different things at once and compares every value."""

    def one(pair):
        feed, expected = pair
        caller = Caller(server.url)
        try:
            status, _, reply = caller.post(server.path, server.body(feed))
        finally:
            caller.close()
        if status != 200:
            raise Failed(f"{server.name}, {model.name}: status {status}: {reply[:300]!r}")
        values = np.asarray(server.values(json.loads(reply)), dtype=np.float32).reshape(expected.shape)
        if not np.allclose(values, expected, atol=TOLERANCE):
            raise Failed(f"{server.name}, {model.name}: {values.ravel()[:4]} where {expected.ravel()[:4]} is right")

    with ThreadPoolExecutor(N_CHECKED) as threads:
        list(threads.map(one, model.requests()))


def measure(model, peers, rounds, duration, warmup):
    """Rows of the table for one model, and the names of the peers that were skipped, with why."""
    skipped, servers = [], []
    folder = common.scratch(f"peers-{model.name}")
    with contextlib.ExitStack() as stack:
        for peer in [Ours, *peers]:
            server = stack.enter_context(peer())
            try:
                note(f"starting {server.name} with {model.name}")
                server.start(model)
                check(server, model)
                servers.append(server)
            except Failed as failure:
                if peer is Ours:
                    raise
                note(f"SKIPPED: {server.name} with {model.name}: {failure}")
                skipped.append((server.name, str(failure).splitlines()[0]))
                if server.process is not None:
                    server.process.stop()
        body = {server.name: folder / f"{server.name}.json" for server in servers}
        for server in servers:
            body[server.name].write_bytes(server.body(model.requests()[0][0]))
        runs = {server.name: [] for server in servers}
        for idx in range(rounds):
            note(f"{model.name}: round {idx + 1} of {rounds}")
            # Everybody comes first, second, … equally often.
            turn = idx % len(servers)
            for server in servers[turn:] + servers[:turn]:
                arguments = ["--url", server.url + server.path, "--input", body[server.name]]
                load = ["--connections", model.connections, "--duration", duration, "--warmup", warmup]
                runs[server.name].append(bench(*arguments, *load)["runs"][0])
    return rows_of(model, runs), skipped


def rows_of(model, runs):
    rows = []
    for name, measured in runs.items():
        ratios = [ours["per_second"] / run["per_second"] for ours, run in zip(runs["salver"], measured)]
        rows.append(
            {
                "model": model.name,
                "server": name,
                "connections": model.connections,
                "per_second": Spread([run["per_second"] for run in measured]),
                "p50_ms": Spread([run["p50_ms"] for run in measured]).median,
                "p99_ms": Spread([run["p99_ms"] for run in measured]).median,
                "ratio": None if name == "salver" else Spread(ratios),
            }
        )
    return rows


def table(rows, skipped):
    """The rows as Markdown."""
    lines = [
        "| model | server | requests/s, median (quartiles) | p50 ms | p99 ms | Salver / server, median (quartiles) |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        rate, ratio = row["per_second"], row["ratio"]
        of_ratio = f"{ratio.median:.2f} ({ratio.lower:.2f} to {ratio.upper:.2f})" if ratio else ""
        lines.append(
            f"| {row['model']} | {row['server']} | {rate.median:,.0f} ({rate.lower:,.0f} to {rate.upper:,.0f}) "
            f"| {row['p50_ms']:.2f} | {row['p99_ms']:.2f} | {of_ratio} |"
        )
    lines += [f"| {model} | {name} | SKIPPED: {why} | | | |" for model, name, why in skipped]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--duration", default="5s")
    parser.add_argument("--warmup", default="2s")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--models", default=",".join(MODELS))
    options = parser.parse_args()
    rows, skipped = [], []
    for name in options.models.split(","):
        peers = [PEERS[peer] for peer in options.peers.split(",")]
        of_model, out = measure(MODELS[name], peers, options.rounds, options.duration, options.warmup)
        rows += of_model
        skipped += [(name, *entry) for entry in out]
    print(table(rows, skipped))
    sys.exit(1 if skipped else 0)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"error: {failure}")
