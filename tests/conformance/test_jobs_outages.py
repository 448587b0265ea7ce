"""Queues that cannot be reached, clocks that jump, servers that are killed: what was acknowledged is there.

A server and a worker share a queue while clients submit without a pause. In the middle, the queue goes away:
its SQLite file is locked by somebody else, or PostgreSQL is killed and started again. Submissions wait or fail
loudly, and everybody works on afterwards.
"""

import contextlib
import os
import shutil
import sqlite3
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from harness import MODELS, PATIENCE_S, RUNNING, Server
from mlflow_server import Postgres, _binaries, missing
from test_jobs import ended, post, status, submit
from test_jobs_crash import flat
from workers import FLAGS, eventually, model

LEASE_MS = 2000
SUBMITTERS = 4
MODEL = MODELS / "tfserving" / "half_plus_two"
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


HELD = '''
import pathlib
import select

HERE = pathlib.Path(__file__).parent


class Held:
    """Answers once the file `go` is there."""

    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}

    def predict(self, batch):
        while (abs(batch["x"]) >= 1).any() and not (HERE / "go").exists():
            select.select([], [], [], 0.005)  # libfaketime breaks time.sleep
        return {"y": batch["x"] * 2}
'''
ONE_BY_ONE = "[instances]\ncount = 1\n[batching]\nmax_rows = 1\n"


class Submitters:
    """Clients that submit one job after the other and take no 503 for an answer."""

    def __init__(self, server):
        self.server = server
        self.acknowledged = {}
        self.refused = 0
        self.problems = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._submit, args=(number,)) for number in range(SUBMITTERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._over.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE_S)
            assert not thread.is_alive()

    def go_on(self, n=10):
        """Waits for more jobs that were acknowledged."""
        before = len(self.acknowledged)
        eventually(lambda: len(self.acknowledged) >= before + n or self.problems, "more jobs are taken in")

    def _submit(self, number):
        while not self._over.is_set():
            value = number
            number += SUBMITTERS
            while True:
                reply = post(
                    self.server, "/models/half_plus_two/jobs", {"x": [float(value)]},
                    headers={"Idempotency-Key": f"job-{value}"}, params={"retries": 0},
                )
                if reply.status_code == 202:
                    self.acknowledged[reply.json()["id"]] = value / 2 + 3
                    break
                if reply.status_code != 503 or "retry-after" not in reply.headers:
                    self.problems.append((reply.status_code, reply.text))
                    return
                self.refused += 1
                time.sleep(0.05)


class Locked:
    """The queue in a file, and somebody who locks it."""

    def __init__(self, folder):
        self.file = folder / "jobs.db"
        self.url = f"sqlite://{self.file}"

    @contextlib.contextmanager
    def away(self):
        with contextlib.closing(sqlite3.connect(self.file, isolation_level=None, timeout=PATIENCE_S)) as database:
            database.execute("BEGIN EXCLUSIVE")
            yield {job for (job,) in database.execute("SELECT id FROM jobs")}
            database.execute("ROLLBACK")


class Killed:
    """The queue in a PostgreSQL of its own, which is killed and started again."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.url = cluster.database()

    @contextlib.contextmanager
    def away(self):
        self.cluster.kill()
        yield None
        self.cluster.start_again()


@pytest.fixture(autouse=True)
def nobody_is_left():
    """What a test that failed has started ends with it."""
    before = list(RUNNING)
    yield
    for server in [server for server in RUNNING if server not in before]:
        server.kill()


@pytest.fixture
def cluster():
    """A PostgreSQL that nobody else uses."""
    binaries = _binaries()
    if binaries is None:
        missing("postgres", "no initdb in /usr/lib/postgresql/*/bin or the path (Debian: apt-get install postgresql)")
    # Not pytest's own folder: its parents are closed to other users.
    folder = Path("/tmp") / f"salver-postgres-{uuid.uuid4().hex[:8]}"
    try:
        made = Postgres(folder, binaries)
        yield made
        made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def outage(request, tmp_path):
    if request.param == "sqlite":
        return Locked(tmp_path)
    return Killed(request.getfixturevalue("cluster"))


def readiness(server):
    reply = server.get("/v2/health/ready")
    return reply.status_code, reply.json().get("degraded")


def test_a_queue_that_goes_away_for_a_while_loses_nothing(outage, tmp_path):
    words = (MODEL, "--queue", outage.url, "--job-lease-ms", LEASE_MS)
    server = Server(tmp_path / "server", *words, "--job-workers", "2")
    worker = Server(tmp_path / "worker", *words, verb="worker")
    with Submitters(server) as clients:
        clients.go_on(50)
        with outage.away() as kept:
            eventually(lambda: clients.refused or clients.problems, "somebody is told that the queue is away")
            if kept is not None:
                assert clients.acknowledged.keys() <= kept, "acknowledged while nothing could be written"
            assert server.get("/v2/health/live").status_code == 200
            assert post(server, "/models/half_plus_two/predict", {"x": [1.0]}).status_code == 200
            eventually(lambda: readiness(server) == (200, ["job_queue"]), "the server names what is away")
        clients.go_on(50)
        eventually(lambda: readiness(server) == (200, None), "the server no longer names it")
        clients.stop()
    assert clients.problems == []
    for job, value in clients.acknowledged.items():
        got = ended(server, job)
        assert got["status"] == "done" and value in flat(got["result"]), got
    stats = server.get("/api/v1/jobs/queue").json()
    assert (stats["scheduled"], stats["queued"], stats["running"], stats["dead"]) == (0, 0, 0, 0)
    # Each key made one job.
    listed, token = set(), None
    while token != "":
        query = {"limit": 1000, "page_token": token} if token else {"limit": 1000}
        page = server.get("/api/v1/jobs", params=query).json()
        listed |= {job["id"] for job in page["jobs"]}
        token = page["next_page_token"] or ""
    assert listed == clients.acknowledged.keys()
    worker.stop()
    server.stop()


def test_one_key_is_one_job_also_where_the_server_is_killed_meanwhile(tmp_path):
    words = (MODEL, "--data", tmp_path / "data", "--job-lease-ms", LEASE_MS, "--grpc", "off")
    running = [Server(tmp_path, *words)]
    address = ("--http", running[0].http)
    half, restarted = threading.Semaphore(0), threading.Event()

    def once(number):
        if number >= 50:
            restarted.wait(PATIENCE_S)
        while True:
            try:
                reply = post(running[0], "/models/half_plus_two/jobs", {"x": [3.0]}, headers={"Idempotency-Key": "the only one"})
                assert reply.status_code in (202, 503), reply.text
                if reply.status_code == 202:
                    half.release()
                    return reply.json()["id"]
            except requests.ConnectionError:
                time.sleep(0.02)

    with ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(once, number) for number in range(100)]
        half.acquire(timeout=PATIENCE_S)
        url = running[0].url
        running[0].kill()
        running.append(Server(tmp_path, *words, *address))
        assert running[1].url == url
        restarted.set()
        ids = {one.result(2 * PATIENCE_S) for one in asked}
    assert len(ids) == 1
    job, server = ids.pop(), running[1]
    assert flat(ended(server, job)["result"])[-1] == 4.5
    for body, query in (({"x": [4.0]}, {}), ({"x": [3.0]}, {"priority": 1})):
        reply = post(server, "/models/half_plus_two/jobs", body, headers={"Idempotency-Key": "the only one"}, params=query)
        assert reply.status_code == 422 and job in reply.text
    assert [one["id"] for one in server.get("/api/v1/jobs").json()["jobs"]] == [job]
    server.stop()


class Clock:
    """The wall clock of the processes that are started with `env`; the steady one goes on as it does."""

    def __init__(self, folder):
        if FAKETIME is None:
            missing("libfaketime", "not in /usr/lib/*/faketime (Debian: apt-get install libfaketime)")
        self.file = folder / "clock"
        self.set("+0")
        self.env = {
            "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset):
        new = self.file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        os.replace(new, self.file)


@pytest.mark.parametrize("jumper", ["server", "worker"])
@pytest.mark.parametrize("jump", ["+86400", "-86400"])
def test_a_wall_clock_that_jumps_a_day_ends_no_lease_and_loses_nothing(tmp_path, jumper, jump):
    clock = Clock(tmp_path)
    folder = model(tmp_path / "held", HELD, ONE_BY_ONE)
    words = (folder, *FLAGS, "--queue", f"sqlite://{tmp_path / 'jobs.db'}", "--job-lease-ms", 1000)
    env = {name: clock.env if name == jumper else None for name in ("server", "worker")}
    server = Server(tmp_path / "server", *words, "--job-workers", "0", env=env["server"])
    worker = Server(tmp_path / "worker", *words, env=env["worker"], verb="worker")
    # An answer that is kept for longer than the clock jumps.
    running, waiting = (submit(server, "held", {"x": [[value]]}, result_ttl="3days") for value in (7, 8))
    server.until(lambda: status(server, running).json()["status"] == "running", "running")
    clock.set(jump)
    behind = submit(server, "held", {"x": [[9]]}, result_ttl="3days")
    # Both have looked at the queue again and again since: signs of life, and who watches for them.
    beats_of(tmp_path / "jobs.db", running, n=15)
    assert status(server, running).json()["attempts"] == 1
    (folder / "go").touch()
    for job, value in ((running, 14), (waiting, 16), (behind, 18)):
        got = ended(server, job)
        assert (got["status"], flat(got["result"])[-1], got["attempts"], got.get("lost_workers")) == ("done", value, 1, None)
    before = status(server, running).json()["created_ms"]
    after = got["created_ms"] if jumper == "server" else got["started_ms"]
    assert round((after - before) / 1000 / 86_400) == int(jump) / 86_400, "the clock did jump"
    clock.set("+0")
    got = ended(server, submit(server, "held", {"x": [[10]]}))
    assert (got["status"], got["attempts"]) == ("done", 1)
    assert status(server, running).status_code == 200
    worker.stop()
    server.stop()


def beats_of(file, job, n):
    """Waits until a job that runs has given so many more signs of life: several leases."""
    with contextlib.closing(sqlite3.connect(file, timeout=PATIENCE_S)) as database:
        def beats():
            return database.execute("SELECT beats FROM jobs WHERE id = ?", (job,)).fetchone()[0]

        before = beats()
        eventually(lambda: beats() >= before + n, "signs of life")


# A stop


def test_a_stop_gives_back_what_does_not_end_in_time(tmp_path):
    words = (*FLAGS, "--queue", f"sqlite://{tmp_path / 'jobs.db'}", "--shutdown-grace-ms", "200")
    slow, quick = (model(tmp_path / name / "held", HELD, ONE_BY_ONE) for name in ("slow", "quick"))
    server = Server(tmp_path / "server", quick, *words, "--job-workers", "0")
    worker = Server(tmp_path / "worker", slow, *words, verb="worker")
    jobs = [submit(server, "held", {"x": [[value]]}, retries=0) for value in (7, 8)]
    server.until(lambda: server.get("/api/v1/jobs/queue").json()["running"] == 2, "both run")
    worker.terminate()
    server.until(lambda: server.get("/api/v1/jobs/queue").json()["queued"] == 2, "both are back")
    # The run itself cannot be taken back.
    (slow / "go").touch()
    assert worker.wait() == 0
    (quick / "go").touch()
    again = Server(tmp_path / "again", quick, *words, verb="worker")
    for job, value in zip(jobs, (14, 16), strict=True):
        got = ended(server, job)
        assert (got["status"], flat(got["result"])[-1], got.get("lost_workers")) == ("done", value, None)
        assert [event["text"].split(",")[0] for event in got["history"]] == [
            "submitted", "handed out (attempt 1)", "given back", "handed out (attempt 2)", "done",
        ]
    again.stop()
    server.stop()


def test_a_stop_does_not_wait_for_a_queue_that_is_away_once_for_each_job(tmp_path):
    """Whoever asks for a lock waits ten seconds for it: once is enough."""
    folder = model(tmp_path / "held", HELD, ONE_BY_ONE)
    queue = Locked(tmp_path)
    words = (folder, *FLAGS, "--queue", queue.url, "--job-lease-ms", "1000", "--shutdown-grace-ms", "200")
    server = Server(tmp_path / "server", *words)
    jobs = [submit(server, "held", {"x": [[value]]}) for value in range(1, 9)]
    server.until(lambda: server.get("/api/v1/jobs/queue").json()["running"] == 8, "all run")
    with queue.away():
        (folder / "go").touch()
        server.stop()
    server = Server(tmp_path / "server", *words)
    for job, value in zip(jobs, range(1, 9), strict=True):
        got = ended(server, job)
        assert (got["status"], flat(got["result"])[-1]) == ("done", 2 * value)
    server.stop()
