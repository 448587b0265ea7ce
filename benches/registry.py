#!/usr/bin/env python3
"""Measures the model registry: at size, with a large file, and against MLflow's own server.

    registry.py [--quick] {registry,artifact,replay}

`registry` fills an empty SQLite database through MLflow's REST interface with 10,000 versions and a
million metric points and asks for them over one connection. `artifact` sends a file of 500 MB and
gets it back while the server's memory is watched. `replay` writes down what MLflow's client sends to
MLflow's server in a fixed piece of work (benches/peers/mlflow_record.py), and sends the same requests
to Salver and to MLflow in turn.
"""

import argparse
import base64
import contextlib
import gzip
import hashlib
import http.client
import json
import os
import pathlib
import random
import re
import socket
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import common
from common import Failed, MemoryLog, Process, Salver, Spread, environment, free_port, memory, note, status_of

PEERS = pathlib.Path(__file__).resolve().parent / "peers"
API = "/api/2.0/mlflow"
FILES = "/api/2.0/mlflow-artifacts/artifacts"


class Wire:
    """A connection that stays open and costs little: a request is one write, and an answer is read
    with no more care than these servers need."""

    LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
    CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def more(self):
        if not (piece := self.socket.recv(1 << 18)):
            raise Failed("the server closed a connection that was to stay open")
        self.rest += piece

    def take(self, size):
        while len(self.rest) < size:
            self.more()
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def line(self, end=b"\r\n"):
        while (place := self.rest.find(end)) < 0:
            self.more()
        return self.take(place + len(end))

    def exchange(self, request):
        """Sends a request; the status, the head and the body of the answer."""
        self.socket.sendall(request)
        head = self.line(b"\r\n\r\n")
        status = int(head[9:12])
        if length := self.LENGTH.search(head):
            return status, head, self.take(int(length[1]))
        if not self.CHUNKED.search(head):
            return status, head, b""
        pieces = []
        while size := int(self.line().split(b";")[0], 16):
            pieces.append(self.take(size))
            self.take(2)
        while self.line() != b"\r\n":
            pass
        return status, head, b"".join(pieces)

    def call(self, method, path, body=None):
        """A call of MLflow's interface, which has to succeed."""
        status, _, answer = self.exchange(render(method, path, body))
        if status != 200:
            raise Failed(f"{method} {path}: {status} {answer[:300]!r}")
        return json.loads(answer)


def render(method, path, body=None):
    """The bytes of a call: a query for GET, else a JSON body."""
    target, payload, kind = f"{API}/{path}", b"", ""
    if method == "GET":
        target += "?" + urllib.parse.urlencode(body or {}, doseq=True)
    else:
        payload = json.dumps(body or {}).encode()
        kind = f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n"
    return f"{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n{kind}\r\n".encode() + payload


# --- At size ------------------------------------------------------------------------------------

# More than there are cores, so that the server always has something to do.
N_WRITERS = 4
N_EXPERIMENTS, N_MODELS = 4, 20
BIG = "model-00"
STAGES = ("Staging", "Production", "Archived")


class Size:
    """How much there is. Most points belong to few long runs, and most runs are short ones."""

    def __init__(self, quick):
        # Runs, keys of each, steps of each key.
        self.runs = [(9, 10, 100), (10, 10, 10)] if quick else [(90, 10, 1000), (1000, 10, 10)]
        self.versions = 200 if quick else 10_000
        self.calls = 50 if quick else 500

    @property
    def points(self):
        return sum(runs * keys * steps for runs, keys, steps in self.runs)

    def models(self):
        """The name of each model and how many versions it has: one has half of all."""
        rest = self.versions - self.versions // 2
        shares = [rest // (N_MODELS - 1) + (idx < rest % (N_MODELS - 1)) for idx in range(N_MODELS - 1)]
        return [(f"model-{idx:02}", count) for idx, count in enumerate([self.versions // 2, *shares])]


class Writers:
    """Threads with a connection each."""

    def __init__(self, port):
        self.port, self.local, self.wires = port, threading.local(), []

    def __enter__(self):
        self.threads = ThreadPoolExecutor(N_WRITERS, initializer=self.connect)
        return self

    def __exit__(self, *_):
        self.threads.shutdown(cancel_futures=True)
        for wire in self.wires:
            wire.socket.close()

    def connect(self):
        self.local.wire = Wire(self.port)
        self.wires.append(self.local.wire)

    def map(self, work, items):
        """Does something with a connection for each item."""
        return list(self.threads.map(lambda item: work(self.local.wire, *item), items))


def fill_run(wire, experiment, number, n_keys, n_steps):
    """A run with its points, a thousand a call, as MLflow's client sends them."""
    chance = random.Random(number)
    start = 1_750_000_000_000 + number * 1000
    about = {"experiment_id": experiment, "start_time": start, "run_name": f"run {number}"}
    tags = [{"key": "kind", "value": "forest" if number % 2 else "network"}, {"key": "owner", "value": "bench"}]
    run = wire.call("POST", "runs/create", {**about, "tags": tags})["run"]["info"]["run_id"]
    params = [{"key": f"param{idx}", "value": str(chance.randrange(100))} for idx in range(10)]
    wire.call("POST", "runs/log-batch", {"run_id": run, "params": params})
    points = [
        {"key": f"metric{key}", "value": round(chance.random(), 6), "timestamp": start + step, "step": step}
        for step in range(n_steps)
        for key in range(n_keys)
    ]
    for begin in range(0, len(points), 1000):
        wire.call("POST", "runs/log-batch", {"run_id": run, "metrics": points[begin : begin + 1000]})
    wire.call("POST", "runs/update", {"run_id": run, "status": "FINISHED", "end_time": start + n_steps})
    return run


def fill_model(wire, name, first, last, runs):
    """Versions of a model; every tenth gets a stage in turn, and every fifth has tags."""
    for number in range(first, last):
        run = runs[number % len(runs)]
        body = {"name": name, "source": f"s3://bucket/{name}/{number}", "run_id": run}
        if number % 5 == 0:
            body["tags"] = [{"key": "checked", "value": "yes"}, {"key": "score", "value": str(number % 97)}]
        version = wire.call("POST", "model-versions/create", body)["model_version"]["version"]
        if number % 10 == 0:
            stage = {"name": name, "version": version, "stage": STAGES[number // 10 % len(STAGES)]}
            wire.call("POST", "model-versions/transition-stage", {**stage, "archive_existing_versions": False})


def fill(port, size):
    """Fills an empty server; its experiments, a long run, and the seconds of each part."""
    took = {}
    with Wire(port) as wire:
        names = [f"experiment {idx}" for idx in range(N_EXPERIMENTS)]
        experiments = [wire.call("POST", "experiments/create", {"name": name})["experiment_id"] for name in names]
        for name, _ in size.models():
            wire.call("POST", "registered-models/create", {"name": name, "description": "a model of many versions"})
    with Writers(port) as writers:
        begin = time.monotonic()
        shapes = [shape for runs, *shape in size.runs for _ in range(runs)]
        items = [(experiments[idx % N_EXPERIMENTS], idx, *shape) for idx, shape in enumerate(shapes)]
        runs = writers.map(fill_run, items)
        took["points"] = time.monotonic() - begin
        begin = time.monotonic()
        # The large model by all writers at once.
        pieces = [
            (name, first, min(first + 100, count), runs)
            for name, count in size.models()
            for first in range(0, count, 100)
        ]
        writers.map(fill_model, pieces)
        took["versions"] = time.monotonic() - begin
    with Wire(port) as wire:
        for name, count in size.models():
            wire.call("POST", "registered-models/alias", {"name": name, "alias": "champion", "version": str(count // 2)})
    return experiments, runs[0], took


def questions(size, experiments, run):
    """What is asked: a name, the call, how long its median may take in ms, and what its answer has to hold."""
    count = dict(size.models())[BIG]
    search = {"experiment_ids": experiments, "max_results": 100, "filter": "metrics.metric0 > 0.2"}
    visible = "tag.`mlflow.prompt.is_prompt` != 'true'"
    n_runs = sum(runs for runs, *_ in size.runs)
    page = min(100, n_runs)

    def length(key, expected):
        return lambda answer: len(answer.get(key, ())) == expected

    def in_order(answer):
        values = [
            next(metric["value"] for metric in found["data"]["metrics"] if metric["key"] == "metric1")
            for found in answer["runs"]
        ]
        return len(values) > 5 and values == sorted(values, reverse=True)

    def newest_in_production(answer):
        (found,) = answer["model_versions"]
        return found["current_stage"] == "Production"

    by_stage = {"name": BIG, "stages": ["Production"]}
    of_version = {"name": BIG, "version": str(count // 2)}
    everything = {**search, "filter": "", "max_results": 1000}
    history = {"run_id": run, "metric_key": "metric3", "max_results": 1000}
    versions = {"max_results": 100}
    return [
        ("get-latest-versions, Production", ("POST", "registered-models/get-latest-versions", by_stage), 2, newest_in_production),
        ("model-versions/get", ("GET", "model-versions/get", of_version), None, lambda answer: "model_version" in answer),
        ("by alias", ("GET", "registered-models/alias", {"name": BIG, "alias": "champion"}), None,
         lambda answer: answer["model_version"]["version"] == of_version["version"]),
        ("runs/search, by a metric, in the order of another", ("POST", "runs/search", {**search, "order_by": ["metrics.metric1 DESC"]}), 50, in_order),
        ("runs/search, newest first", ("POST", "runs/search", {**search, "filter": ""}), 50, length("runs", page)),
        ("model-versions/search", ("GET", "model-versions/search", versions), 50, length("model_versions", 100)),
        ("model-versions/search, of the model with half of them",
         ("GET", "model-versions/search", {**versions, "filter": f"name = '{BIG}'", "order_by": ["version_number DESC"]}),
         50, length("model_versions", min(100, count))),
        ("registered-models/search", ("GET", "registered-models/search", {**versions, "filter": visible}), 50,
         length("registered_models", N_MODELS)),
        ("runs/search, a page of 1,000", ("POST", "runs/search", everything), None, length("runs", min(1000, n_runs))),
        ("metrics/get-history, a page of 1,000", ("GET", "metrics/get-history", history), None,
         length("metrics", min(1000, size.runs[0][2]))),
    ]  # fmt: skip


def at_size(quick=False):
    """The figures, by name."""
    size = Size(quick)
    with Salver() as server:
        note(f"filling: {size.points:,} points, {size.versions:,} versions")
        experiments, run, took = fill(server.port, size)
        times = []
        with Wire(server.port) as wire:
            for name, (method, path, body), goal, is_right in questions(size, experiments, run):
                if not is_right(answer := wire.call(method, path, body)):
                    raise Failed(f"{name}: {json.dumps(body)} is answered {json.dumps(answer)[:500]}")
                request, spent, bytes_read = render(method, path, body), [], 0
                for _ in range(size.calls):
                    begin = time.perf_counter()
                    status, _, answer = wire.exchange(request)
                    spent.append((time.perf_counter() - begin) * 1000)
                    if status != 200:
                        raise Failed(f"{name}: {status} {answer[:300]!r}")
                    bytes_read = len(answer)
                times.append({"name": name, "ms": Spread(spent), "goal_ms": goal, "bytes": bytes_read})
        data = sum(file.stat().st_size for file in pathlib.Path(server.data.name).rglob("*") if file.is_file())
        return {
            "points": size.points,
            "versions": size.versions,
            "points_per_second": size.points / took["points"],
            "versions_per_second": size.versions / took["versions"],
            "fill_seconds": sum(took.values()),
            "data_mb": data / 1e6,
            "resident_mb": memory(server.pid)["resident"],
            "calls": times,
        }


# --- A large file -------------------------------------------------------------------------------

PIECE = 1 << 20


def random_file(file, megabytes):
    """Writes random bytes; their SHA-256."""
    digest = hashlib.sha256()
    with file.open("wb") as output:
        left = megabytes * 1_000_000
        while left:
            piece = os.urandom(min(PIECE, left))
            digest.update(piece)
            output.write(piece)
            left -= len(piece)
    return digest.hexdigest()


def pieces(file):
    with file.open("rb") as source:
        while piece := source.read(PIECE):
            yield piece


def large_file(quick=False):
    """The figures, by name; each round has other bytes, as the same ones are stored once."""
    megabytes, rounds = (50, 1) if quick else (500, 3)
    file = common.scratch("artifact") / "random"
    figures = defaultdict(list)
    with Salver() as server:
        with Wire(server.port) as wire:
            about = {"experiment_id": "0", "start_time": 1}
            run = wire.call("POST", "runs/create", about)["run"]["info"]["run_id"]
        # What is released after the start is not idle memory.
        time.sleep(1 if quick else 5)
        idle = memory(server.pid)["resident"]
        for idx in range(rounds):
            note(f"artifact: round {idx + 1} of {rounds}")
            digest, path = random_file(file, megabytes), f"{FILES}/0/{run}/artifacts/large-{idx}.bin"

            def upload(connection, path=path):
                size = {"content-length": str(file.stat().st_size), "content-type": "application/octet-stream"}
                connection.request("PUT", path, pieces(file), size)
                reply = connection.getresponse()
                return reply.status, reply.read()

            def download(connection, path=path, digest=digest):
                connection.request("GET", path)
                reply = connection.getresponse()
                got = hashlib.sha256()
                while piece := reply.read(PIECE):
                    got.update(piece)
                return reply.status, b"" if got.hexdigest() == digest else b"other bytes than those that were sent"

            for name, transfer in (("upload", upload), ("download", download)):
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
                with contextlib.closing(connection), MemoryLog(server.pid, 0.02) as log:
                    begin = time.monotonic()
                    status, said = transfer(connection)
                    seconds = time.monotonic() - begin
                if status != 200 or (name == "download" and said):
                    raise Failed(f"{name} of {megabytes} MB: {status} {said[:300]!r}")
                figures[f"{name}_over_idle_mb"].append(max(mb for _, mb in log.samples) - idle)
                figures[f"{name}_mb_per_second"].append(megabytes / seconds)
        # The kernel's own account, which misses nothing but cannot tell one transfer from another.
        peak = memory(server.pid)["peak"]
    file.unlink()
    return {"megabytes": megabytes, "idle_mb": idle, "peak_over_idle_mb": peak - idle, **figures}


# --- Against MLflow's own server ----------------------------------------------------------------

PATIENCE_S = 180
NAME = b"zzNAMEzz"


class MlFlow(Process):
    """MLflow's server as it is published, on SQLite, with its files behind it."""

    name = "MLflow"

    def __init__(self, workers):
        self.scratch = tempfile.TemporaryDirectory(prefix="salver-mlflow-")
        self.port, folder = free_port(), self.scratch.name
        python = mlflow_python()
        store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
        # Nobody reads a line per request, and no jobs are asked for.
        tuned = ["--workers", workers, "--uvicorn-opts", "--no-access-log --log-level warning"]
        env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        command = [python, "-m", "mlflow", "server", *store, "--serve-artifacts", "--host", "127.0.0.1"]
        super().__init__([*command, "--port", self.port, *tuned], env=env, cwd=folder)
        common.record(["mlflow", "server", "--backend-store-uri", "sqlite:///mlflow.db", "--serve-artifacts", *tuned])
        try:
            self.wait(lambda: status_of(self.port, "/health") == 200, "readiness", PATIENCE_S)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        super().stop()
        self.scratch.cleanup()


def mlflow_python():
    return environment("peers/mlflow", PEERS / "requirements-mlflow.txt")


class Call:
    """A request that was recorded, with holes where the server's answers before it go."""

    HOLE = re.compile(rb"(zz(?:NAME|RUN\d+|EXPERIMENT\d+)zz)")

    def __init__(self, head, body, has_body, status, takes, answer):
        self.head, self.body, self.has_body = self.HOLE.split(head), self.HOLE.split(body), has_body
        self.status, self.takes, self.answer = status, takes, answer
        method, path = head.split(b" ", 2)[:2]
        path = path.decode().split("?")[0]
        if path.startswith(FILES):
            path = f"{FILES}/…" if path != FILES else path
        self.kind = f"{method.decode()} {path.removeprefix('/api/2.0/')}"

    def request(self, values):
        head, body = (b"".join(values.get(part, part) for part in parts) for parts in (self.head, self.body))
        length = b"Content-Length: %d\r\n" % len(body) if self.has_body else b""
        return head + length + b"\r\n" + body


# Where an answer names what the server has made.
MADE = {
    f"POST {API}/experiments/create": (b"EXPERIMENT", ("experiment_id",)),
    f"POST {API}/runs/create": (b"RUN", ("run", "info", "run_id")),
}


def with_holes(text, experiments, runs):
    """Puts holes where a request names what the server has made."""
    for run, hole in runs.items():
        for experiment, of_experiment in experiments.items():
            # The path of a file, which begins with both.
            both = rb"(?<![0-9a-f])%s(/|%%2F)%s" % (experiment, run)
            text = re.sub(both, lambda found, a=of_experiment, b=hole: a + found[1] + b, text)
        text = text.replace(run, hole)
    for experiment, hole in experiments.items():
        for before in (rb'"experiment_ids?": *\[?\s*"', rb"[?&]experiment_id="):
            text = re.sub(rb"(%s)%s(?![0-9])" % (before, experiment), lambda found, a=hole: found[1] + a, text)
    return text


def read_recording(file):
    """The calls of a recording, in their order."""
    calls, experiments, runs = [], {}, {}
    for line in file.read_text().splitlines():
        entry = json.loads(line)
        body, answer = base64.b64decode(entry["body"]), base64.b64decode(entry["answer"])
        skipped = ("host", "content-length", "connection", "transfer-encoding")
        headers = {"Host": "127.0.0.1", **{k: v for k, v in entry["headers"].items() if k.lower() not in skipped}}
        head = f"{entry['method']} {entry['path']} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        takes = None
        if made := MADE.get(f"{entry['method']} {entry['path']}"):
            kind, place = made
            known = experiments if kind == b"EXPERIMENT" else runs
            hole = b"zz%s%dzz" % (kind, len(known))
            takes = (hole, place)
        has_body = bool(body) or entry["method"] not in ("GET", "HEAD")
        parts = (with_holes(text, experiments, runs) for text in (head.encode(), body))
        calls.append(Call(*parts, has_body, entry["status"], takes, answer))
        if takes:
            known[taken(answer, place)] = hole
    return calls


def taken(answer, place):
    value = json.loads(answer)
    for key in place:
        value = value[key]
    return value.encode()


def replay(port, calls, name):
    """Sends all calls over one connection; the seconds of each, and the answers."""
    values, seconds, answers = {NAME: name.encode()}, [], []
    with Wire(port) as wire:
        for call in calls:
            request = call.request(values)
            begin = time.perf_counter()
            status, head, answer = wire.exchange(request)
            seconds.append(time.perf_counter() - begin)
            if status != call.status:
                asked = request[:600].decode(errors="replace")
                raise Failed(f"{call.kind}: {status} where {call.status} was recorded: {answer[:300]!r} to {asked!r}")
            if call.takes:
                hole, place = call.takes
                values[hole] = taken(plain(head, answer), place)
            answers.append((head, answer))
    return seconds, answers


def plain(head, answer):
    return gzip.decompress(answer) if re.search(rb"\r\ncontent-encoding: *gzip", head, re.IGNORECASE) else answer


def gist(call, answer):
    """What two servers have to agree about: how much was found, versions, stages, values, files."""
    if call.kind == f"GET {FILES.removeprefix('/api/2.0/')}/…":
        return hashlib.sha256(answer).hexdigest()
    if not call.kind.split()[1].startswith("mlflow"):
        return None
    answer = json.loads(answer or b"{}")

    def of_version(version):
        return version["name"][:6], version["version"], version["current_stage"], len(version.get("tags", ()))

    def of_run(run):
        data = run["data"]
        metrics = sorted((metric["key"], metric["value"], metric["step"]) for metric in data.get("metrics", ()))
        return run["info"]["run_name"], run["info"]["status"], metrics, sorted(map(str, data.get("params", ())))

    found = [of_run(run) for run in answer.get("runs", ())]
    found += [of_run(answer["run"])] if "run" in answer else []
    # Of the same moment, versions come in any order.
    found += sorted(of_version(version) for version in answer.get("model_versions", ()))
    found += [of_version(answer["model_version"])] if "model_version" in answer else []
    found += [len(answer.get(key, ())) for key in ("metrics", "registered_models")]
    found += sorted((file["path"], file.get("file_size")) for file in answer.get("files", ()))
    return found


def compare(name, calls, answers):
    """Checks that a server has said what was recorded."""
    for call, (head, answer) in zip(calls, answers, strict=True):
        if (got := gist(call, plain(head, answer))) != (expected := gist(call, call.answer)):
            request = call.request({}).decode(errors="replace")[:800]
            raise Failed(f"{name}, {call.kind}: {got} where {expected} was recorded; the request: {request!r}")


class Ours(Salver):
    """Salver with its defaults."""

    name = "Salver"


def record(n_runs):
    """What the client sends to a fresh server of MLflow."""
    file = common.scratch("replay") / "recording.jsonl"
    with MlFlow(1) as server:
        command = [mlflow_python(), PEERS / "mlflow_record.py", f"http://127.0.0.1:{server.port}", file, n_runs]
        env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        with Process(command, env=env) as client:
            status = client.child.wait(600)
            if status != 0:
                raise Failed(f"the recording ended with status {status}:\n{client.said()}")
    return read_recording(file)


def pairs_of(calls, connections, workers, rounds):
    """Wall time and the time of each kind of call on both, round by round. Every connection does all
    of the work, in names of its own."""
    runs = {"Salver": [], "MLflow": []}
    with Ours() as ours, MlFlow(workers) as theirs, ThreadPoolExecutor(connections) as threads:

        def one(server, round_name):
            # Eight letters: as long as what they replace.
            names = [f"{round_name:>06}{idx:02}" for idx in range(connections)]
            begin = time.perf_counter()
            done = list(threads.map(lambda name: replay(server.port, calls, name), names))
            wall, kinds = time.perf_counter() - begin, defaultdict(float)
            for seconds, answers in done:
                compare(server.name, calls, answers)
                for call, spent in zip(calls, seconds):
                    kinds[call.kind] += spent
            return {"wall": wall, "per_second": connections * len(calls) / wall, "kinds": kinds}

        # What is imported, compiled or opened on the first call is not measured.
        for server in (ours, theirs):
            one(server, "warmup")
        for idx in range(rounds):
            note(f"replay over {connections} connection(s): pair {idx + 1} of {rounds}")
            for server in (ours, theirs) if idx % 2 == 0 else (theirs, ours):
                runs[server.name].append(one(server, f"{idx}"))
    return runs


def replays(quick=False, rounds=7):
    """The figures, by name, for one connection and for four."""
    note("recording what MLflow's client sends")
    calls = record(3 if quick else 20)
    figures = {"calls": len(calls)}
    # The second with as many workers as MLflow starts where nobody says how many.
    for connections, workers in ((1, 1), (4, 4)):
        runs = pairs_of(calls, connections, workers, rounds)
        both = list(zip(runs["Salver"], runs["MLflow"]))
        counts = defaultdict(int)
        for call in calls:
            counts[call.kind] += 1
        kinds = [
            {
                "kind": kind,
                "calls": count,
                "ratio": Spread([theirs["kinds"][kind] / ours["kinds"][kind] for ours, theirs in both]).median,
                "salver_ms": Spread([run["kinds"][kind] * 1000 / count / connections for run in runs["Salver"]]).median,
                "mlflow_ms": Spread([run["kinds"][kind] * 1000 / count / connections for run in runs["MLflow"]]).median,
            }
            for kind, count in counts.items()
        ]
        figures[f"connections_{connections}"] = {
            "workers": workers,
            "ratio": Spread([theirs["wall"] / ours["wall"] for ours, theirs in both]),
            "salver_per_second": Spread([run["per_second"] for run in runs["Salver"]]),
            "mlflow_per_second": Spread([run["per_second"] for run in runs["MLflow"]]),
            "kinds": sorted(kinds, key=lambda kind: -kind["calls"] * kind["mlflow_ms"]),
        }
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["registry", "artifact", "replay"])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.what == "replay":
        figures = replays(options.quick, 2 if options.quick else 7)
    else:
        figures = {"registry": at_size, "artifact": large_file}[options.what](options.quick)
    print(json.dumps(figures, indent=1, default=lambda spread: spread.text()))


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"error: {failure}")
