#!/usr/bin/env python3
"""Models in Python: an echo behind Salver and behind FastAPI, and how soon a killed worker is back.

    workers.py echo | restart

Both sides run the same class in two processes. JSON goes to each in the form of the Open Inference
Protocol; FastAPI reads and writes it as its tutorial teaches, and tuned by hand. As bytes, Salver gets
that protocol's binary form and FastAPI the numbers themselves. The share of the constant route says how
much is left to win: it reads the same body and answers without a model.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import struct
import subprocess
import sys
import time

import common
from common import ROOT, Caller, Failed, Process, Salver, Spread, bench, environment, free_port, note, status_of

common.use_environment()

PEERS = ROOT / "benches/peers"
PROCESSES = 2
# Numbers of a row, and connections: 16 bytes and 600 KB.
PAYLOADS = {"4 floats": (4, 64), "600 KB": (150_000, 8)}
# What a model of some size imports.
HEAVY = """
import numpy as np
import pandas
import sklearn.ensemble


class Heavy:
    inputs = {"x": ("FP32", [-1, 4])}
    outputs = {"y": ("FP32", [-1, 4])}

    def predict(self, batch):
        return {"y": batch["x"]}
"""
LIGHT = HEAVY.replace("import pandas\nimport sklearn.ensemble\n", "")


def flags(python):
    return ["--allow-python", "--python", python, "--python-requirements", "ignore"]


def echo_of(width):
    """The class with another width, in a folder that Salver serves."""
    folder = common.scratch(f"echo-{width}") / "echo"
    folder.mkdir(exist_ok=True)
    code = (PEERS / "echo/model.py").read_text()
    (folder / "model.py").write_text(code.replace("WIDTH = 4", f"WIDTH = {width}"))
    (folder / "model.toml").write_text(f'engine = "python"\n[instances]\ncount = {PROCESSES}\n')
    return folder


def bodies(width):
    """The same row as JSON and as bytes, with numbers as people write them."""
    row = [round(idx % 79 * 0.1, 1) for idx in range(width)]
    folder = common.scratch(f"echo-bodies-{width}")
    as_json, as_bytes = folder / "row.json", folder / "row.txt"
    as_json.write_text(json.dumps({"inputs": [{"name": "x", "shape": [1, width], "datatype": "FP32", "data": row}]}))
    as_bytes.write_bytes(struct.pack(f"<{width}f", *row))
    return as_json, as_bytes


class FastApi(Process):
    """uvicorn with as many processes as Salver has workers."""

    def __init__(self, model):
        binaries = environment("peers/fastapi", PEERS / "requirements-fastapi.txt").parent
        self.port = free_port()
        tuned = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        env = {**os.environ, "PYTHONPATH": str(PEERS), "PYTHONDONTWRITEBYTECODE": "1", "PEER_MODEL": str(model / "model.py")}
        super().__init__([binaries / "uvicorn", "fastapi_echo:app", "--port", self.port, "--workers", PROCESSES, *tuned], env=env)
        self.wait(lambda: status_of(self.port, "/ready") == 200, "readiness")

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"


def echo(pairs, window):
    """Requests a second of both, in turn, for each payload and form."""
    python = environment("peers/fastapi", PEERS / "requirements-fastapi.txt")
    found = {}
    for payload, (width, connections) in PAYLOADS.items():
        model, (as_json, as_bytes) = echo_of(width), bodies(width)
        load = ["--connections", connections, *window]
        with Salver(model, *flags(python)) as ours, FastApi(model) as theirs:
            check(ours, theirs, width, as_json, as_bytes)
            forms = {
                "JSON, as in FastAPI's tutorial": (
                    ["--url", f"{ours.url}/v2/models/echo/infer", "--input", as_json],
                    ["--url", theirs.url("/predict"), "--input", as_json],
                ),
                "JSON, tuned": (
                    ["--url", f"{ours.url}/v2/models/echo/infer", "--input", as_json],
                    ["--url", theirs.url("/json"), "--input", as_json],
                ),
                "bytes": (
                    ["--server", ours.url, "--model", "echo", "--protocol", "http-binary"],
                    ["--url", theirs.url("/bytes"), "--input", as_bytes],
                ),
            }
            for form, sides in forms.items():
                rates = ([], [])
                for idx in range(pairs):
                    note(f"echo of {payload} as {form}: pair {idx + 1} of {pairs}")
                    for side in (0, 1) if idx % 2 == 0 else (1, 0):
                        run = bench(*sides[side], *load)["runs"][0]
                        if run["errors"]:
                            raise Failed(f"{run['errors']} calls failed: {run['first_error']}")
                        rates[side].append(run["per_second"])
                found[f"{payload}, {form}"] = {
                    "ratio": Spread([one / other for one, other in zip(*rates)]),
                    "salver": Spread(rates[0]),
                    "fastapi": Spread(rates[1]),
                }
    return found


def check(ours, theirs, width, as_json, as_bytes):
    """Both answer with what they were asked."""
    sent = json.loads(as_json.read_text())["inputs"][0]["data"]

    def post(url, path, body):
        caller = Caller(url)
        status, _, reply = caller.post(path, body)
        caller.close()
        if status != 200:
            raise Failed(f"{url}{path}: {status} {reply[:300]}")
        return reply

    got = json.loads(post(ours.url, "/v2/models/echo/infer", as_json.read_bytes()))["outputs"][0]["data"]
    also = json.loads(post(theirs.url(""), "/json", as_json.read_bytes()))["y"][0]
    taught = json.loads(post(theirs.url(""), "/predict", as_json.read_bytes()))["y"][0]
    raw = post(theirs.url(""), "/bytes", as_bytes.read_bytes())
    for values in (got, also, taught, struct.unpack(f"<{width}f", raw)):
        if any(abs(one - other) > 1e-5 for one, other in zip(sent, values, strict=True)):
            raise Failed("an echo is not what was sent")


def restart(times):
    """A worker is killed, and somebody asks at once: when is the answer there, beyond what starting Python and
    importing takes by itself? (A Python that ends at once, without tidying up.)"""
    python = environment("workers-venv", ROOT / "tests/conformance/requirements.txt")
    found = {}
    for name, code in (("numpy", LIGHT), ("pandas and scikit-learn", HEAVY)):
        folder = common.scratch("restart-" + name.split()[0]) / "m"
        folder.mkdir(exist_ok=True)
        (folder / "model.py").write_text(code)
        (folder / "model.toml").write_text('engine = "python"\n')
        whole, alone = [], []
        with Salver(folder, *flags(python)) as server:
            caller = Caller(server.url)
            for idx in range(times):
                note(f"restart with {name}: {idx + 1} of {times}")
                (worker,) = children(server.pid)
                begun = time.perf_counter()
                os.kill(worker, signal.SIGKILL)
                while caller.post("/models/m/predict", b'{"x": [[1, 2, 3, 4]]}')[0] != 200:
                    pass
                whole.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                subprocess.run([str(python), "-B", "-c", "import os, model; os._exit(0)"], cwd=folder, check=True)
                alone.append(time.perf_counter() - begun)
            caller.close()
        found[name] = {
            "restart_ms": Spread([1000 * one for one in whole]),
            "import_ms": Spread([1000 * one for one in alone]),
            "beyond_ms": 1000 * (statistics.median(whole) - statistics.median(alone)),
        }
    return found


def children(pid):
    """Direct children that run."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
        except (OSError, ValueError, IndexError):
            continue
        if entry.name.isdigit() and int(parent) == pid and state not in "ZX":
            found.append(int(entry.name))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["echo", "restart"])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--duration", default="5s")
    options = parser.parse_args()
    if options.what == "echo":
        figures = echo(options.pairs, ["--duration", options.duration])
    else:
        figures = restart(options.pairs)
    for name, of in figures.items():
        for key, value in of.items():
            text = value.text(2) if isinstance(value, Spread) else f"{value:.0f}"
            print(f"{name}: {key} {text}")


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"error: {error}")
