#!/usr/bin/env python3
"""Asynchronous work: jobs a second, the time from submission to result, a queue of a million.

    jobs.py peers   [--rounds N]   end to end, against Celery with Redis
    jobs.py idle    [--jobs N]     one job at a time on an idle queue
    jobs.py million [--jobs N]     what a full queue costs

What is acknowledged is on the disk on every side: SQLite with synchronous=FULL, PostgreSQL with its
defaults, Redis with appendonly and appendfsync=always, for Salver as for Celery. A round submits as
fast as it goes for some seconds and then waits until the last result is stored; its rate is jobs by
the whole time. All servers run at the same time and are asked in turn.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import common
from common import IRIS, Failed, Process, Salver, Spread, ask, bench, free_port, memory, note

common.use_environment()

HERE = pathlib.Path(__file__).resolve().parent
ROWS = [[5.1, 3.5, 1.4, 0.2]]
CONNECTIONS = 64
N_CELERY = 3_000
# As many jobs at hand as Celery's two processes have.
AT_HAND = ["--job-workers", "128"]


# --- Engines ------------------------------------------------------------------------------------


class Redis(Process):
    """A Redis that has written to the disk what it acknowledges."""

    def __init__(self):
        program = shutil.which("redis-server")
        if program is None:
            raise Failed("redis-server is not installed (Debian: apt-get install redis-server)")
        self.port, self.data = free_port(), tempfile.TemporaryDirectory(prefix="salver-redis-")
        settings = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", self.data.name]
        super().__init__([program, "--port", self.port, "--bind", "127.0.0.1", *settings])
        self.wait(lambda: self.call("PING") == "PONG", "its answer")

    def call(self, *words):
        """One command; its answer, where that is a number or a word."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in map(str, words))
            connection.sendall(f"*{len(words)}\r\n{parts}".encode())
            kind, text = (line := connection.makefile("r").readline().strip())[:1], line[1:]
            return int(text) if kind == ":" else text

    def stop(self):
        super().stop()
        self.data.cleanup()


class Postgres(Process):
    """A cluster with the settings that PostgreSQL comes with. It refuses to run as root."""

    def __init__(self):
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        if not found:
            raise Failed("PostgreSQL is not installed (Debian: apt-get install postgresql)")
        self.binaries, self.user = found[-1], "postgres" if os.getuid() == 0 else None
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="salver-postgres-", dir="/var/tmp"))
        if self.user:
            shutil.chown(self.place, self.user)
        self.port, self.cluster = free_port(), self.place / "cluster"
        self.run("initdb", "-D", self.cluster, "-U", "salver", "-A", "trust", "-E", "UTF8")
        settings = ["-p", self.port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        group = pwd.getpwnam(self.user).pw_gid if self.user else None
        super().__init__([self.binaries / "postgres", "-D", self.cluster, *settings], user=self.user, group=group, cwd="/")
        is_there = ("pg_isready", "-q", "-h", "127.0.0.1", "-p", self.port)
        self.wait(lambda: self.succeeds(*is_there), "its answer")
        self.run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "salver", "jobs")

    def succeeds(self, *command):
        with contextlib.suppress(Failed):
            self.run(*command)
            return True

    def run(self, program, *arguments):
        group = pwd.getpwnam(self.user).pw_gid if self.user else None
        command = [str(part) for part in (self.binaries / program, *arguments)]
        done = subprocess.run(
            command, user=self.user, group=group, cwd="/", stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)} ended with status {done.returncode}")

    @property
    def url(self):
        return f"postgres://salver@127.0.0.1:{self.port}/jobs"

    def stop(self):
        super().stop()
        shutil.rmtree(self.place, ignore_errors=True)


# --- The two sides ------------------------------------------------------------------------------


def body():
    file = common.scratch("jobs") / "body.json"
    file.write_text(json.dumps(ROWS))
    return file


def waiting(server):
    """Jobs that have not ended."""
    status, said = ask(server.port, "GET", "/api/v1/jobs/queue")
    if status != 200:
        raise Failed(f"the queue's figures: {status} {said[:200]!r}")
    counts = json.loads(said)
    return sum(counts[state] for state in ("scheduled", "queued", "running"))


def drained(server, seconds=300):
    """Waits until no job waits or runs."""
    end = time.monotonic() + seconds
    while waiting(server):
        if time.monotonic() > end:
            raise Failed(f"jobs still wait after {seconds} s")
        time.sleep(0.02)


def failures(server):
    """Jobs that have ended otherwise than with an answer."""
    status, said = ask(server.port, "GET", "/api/v1/jobs?status=failed,cancelled,expired&limit=1")
    return [] if status == 200 and not json.loads(said)["jobs"] else [said[:300]]


def ours(server, file, seconds):
    """Jobs a second, end to end."""
    begin = time.monotonic()
    url = f"{server.url}/models/iris/jobs"
    load = ["--connections", CONNECTIONS, "--duration", f"{seconds}s", "--warmup", "0s"]
    run = bench("--url", url, "--input", file, *load)["runs"][0]
    submitted = time.monotonic() - begin
    drained(server)
    took = time.monotonic() - begin
    if failed := failures(server):
        raise Failed(f"a job failed: {failed}")
    return {"rate": run["requests"] / took, "submit_rate": run["requests"] / submitted, "jobs": run["requests"]}


class Celery:
    """Two prefork processes; broker and results in one Redis."""

    def __init__(self, redis):
        self.redis = redis
        self.python = common.environment("peers/celery", HERE / "peers/requirements-celery.txt")
        self.env = {
            **os.environ,
            "PEER_BROKER": f"redis://127.0.0.1:{redis.port}/0",
            "PEER_RESULTS": f"redis://127.0.0.1:{redis.port}/1",
            "PEER_MODEL": str(IRIS / "model.onnx"),
            "PEER_ROWS": json.dumps(ROWS),
            "PYTHONPATH": str(HERE / "peers"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [self.python, "-m", "celery", "-A", "celery_app", "worker", "--pool", "prefork", "--concurrency", "2"]
        quiet = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        self.process = Process([*command, *quiet], env=self.env, cwd=common.scratch("celery"))
        try:
            self.submit(2, 1)
            self.process.wait(lambda: self.results() == 2, "the first results")
        except BaseException:
            self.process.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()

    def results(self):
        """Results that are stored; nothing else is in that database."""
        size = "eval", "return redis.call('select', 1) and redis.call('dbsize')", 0
        return self.redis.call(*size)

    def submit(self, count, processes):
        command = [self.python, HERE / "peers/celery_app.py", count, processes]
        done = subprocess.run([*map(str, command)], env=self.env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{common.show(command)}: {done.stderr[-1000:]}")

    def measure(self, count, processes):
        """Tasks a second, end to end."""
        before, begin = self.results(), time.monotonic()
        self.submit(count, processes)
        submitted = time.monotonic() - begin
        self.process.wait(lambda: self.results() >= before + count, "all results", 600)
        took = time.monotonic() - begin
        return {"rate": count / took, "submit_rate": count / submitted, "jobs": count}


def against_celery(rounds, seconds):
    """Rates by queue engine and of Celery, and their ratios, round by round; and what was skipped."""
    file, skipped = body(), {}
    with contextlib.ExitStack() as stack:
        sides = {}

        def add(name, start):
            try:
                sides[name] = start()
            except Failed as failure:
                note(f"SKIPPED: {name}: {failure}")
                skipped[name] = str(failure).splitlines()[0]

        def salver(*arguments):
            server = stack.enter_context(Salver(IRIS, *AT_HAND, *arguments))
            return lambda: ours(server, file, seconds)

        def celery():
            peer = stack.enter_context(Celery(stack.enter_context(Redis())))
            # Whichever number of submitters serves Celery better; both are tried once.
            rates = {n: peer.measure(N_CELERY, n)["rate"] for n in (1, 2)}
            best = max(rates, key=rates.get)
            count = max(200, int(rates[best] * seconds)) // best * best
            return lambda: peer.measure(count, best)

        add("celery", celery)
        add("sqlite", salver)
        add("postgres", lambda: salver("--queue", stack.enter_context(Postgres()).url))
        add("redis", lambda: salver("--queue", f"redis://127.0.0.1:{stack.enter_context(Redis()).port}"))
        runs = {name: [] for name in sides}
        for idx in range(rounds):
            note(f"jobs: round {idx + 1} of {rounds}")
            turn = idx % len(sides)
            for name in list(sides)[turn:] + list(sides)[:turn]:
                runs[name].append(sides[name]())
    found = {}
    for name, of in runs.items():
        found[name] = {key: Spread([run[key] for run in of]) for key in ("rate", "submit_rate")}
        if name != "celery" and "celery" in runs:
            found[name]["ratio"] = Spread([one["rate"] / other["rate"] for one, other in zip(of, runs["celery"])])
    return found, skipped


# --- An idle queue, and a full one --------------------------------------------------------------


def on_idle(jobs):
    """Milliseconds from the submission to the result, one job at a time."""
    with Salver(IRIS) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        times = []
        for idx in range(jobs + 20):
            begin = time.perf_counter()
            connection.request("POST", "/models/iris/jobs", json.dumps(ROWS), {"content-type": "application/json"})
            job = json.loads(connection.getresponse().read())
            connection.request("GET", f"{job['status_url']}?wait=30s")
            shown = json.loads(connection.getresponse().read())
            took = 1000 * (time.perf_counter() - begin)
            if shown["status"] != "done" or "result" not in shown:
                raise Failed(f"the job did not end well: {shown}")
            if idx >= 20:
                times.append(took)
        connection.close()
    return Spread(times)


def gate(server, name):
    status, said = ask(server.port, "POST", f"/api/v1/jobs/queue/{name}")
    if status != 200:
        raise Failed(f"the queue's gate: {status} {said[:200]!r}")


def runs_so_far(server):
    text = ask(server.port, "GET", "/metrics")[1].decode()
    lines = [line for line in text.splitlines() if line.startswith("salver_job_runs_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def submitting(server, file, seconds):
    """Submissions a second while nobody takes jobs."""
    url = f"{server.url}/models/iris/jobs"
    load = ["--connections", CONNECTIONS, "--duration", f"{seconds}s", "--warmup", "0s"]
    return bench("--url", url, "--input", file, *load)["runs"][0]["per_second"]


def taking(server, seconds):
    """Jobs a second that are taken, run and finished."""
    before, begin = runs_so_far(server), time.monotonic()
    gate(server, "resume")
    time.sleep(seconds)
    gate(server, "pause")
    took = time.monotonic() - begin
    return (runs_so_far(server) - before) / took


def with_a_million(jobs, seconds=3):
    """Rates of submitting and taking on a short queue and on a long one, and the server's memory."""
    file = body()
    with Salver(IRIS, "--max-jobs", "10000000") as server:
        gate(server, "pause")

        def both():
            return {"submit": submitting(server, file, seconds), "take": taking(server, seconds)}

        # The first round makes the files; a short queue is what one round leaves.
        both()
        short = both()
        begin = time.monotonic()
        while (there := waiting(server)) < jobs:
            note(f"{there:,} of {jobs:,} jobs wait")
            submitting(server, file, 10)
        filled = time.monotonic() - begin
        idle = memory(server.pid)
        long = both()
        return {
            "jobs": waiting(server),
            "fill_seconds": filled,
            "short": short,
            "long": long,
            "submit_cost": short["submit"] / long["submit"],
            "take_cost": short["take"] / long["take"],
            "resident_mb": idle["resident"],
            "peak_mb": memory(server.pid)["peak"],
            "disk_mb": sum(file.stat().st_size for file in pathlib.Path(server.data.name, "jobs").iterdir()) / 1e6,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["peers", "idle", "million"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--jobs", type=int)
    options = parser.parse_args()
    figures, skipped = {}, {}
    match options.what:
        case "peers":
            figures, skipped = against_celery(options.rounds, options.seconds)
        case "idle":
            figures = {"ms": on_idle(options.jobs or 500)}
        case "million":
            figures = with_a_million(options.jobs or 1_000_000)
    print(json.dumps({**figures, "skipped": skipped}, indent=2, default=lambda spread: spread.text(2)))
    sys.exit(1 if skipped else 0)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"jobs.py: {failure}")
