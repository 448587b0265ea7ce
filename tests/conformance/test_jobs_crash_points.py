"""Every moment of a queue's life as its last: what was acknowledged is there, nothing is half there, and the
queue works on.

A server is traced while clients submit jobs, wait for them, cancel, replay and purge; it is killed with work
in hand, and a second server goes on. Then the trace is replayed, and after every call that changed the folder
the disk is looked at as a crash would leave it: of the process, and of the machine, where only what was synced
is certain. Some of these disks, by a seed (SALVER_CRASH_SEED), are given to a fresh server, which must know
every job that was acknowledged, answer what was answered before, and bring all others to their end.
SALVER_JOB_CRASH_POINTS sets how many; `all` gives it each disk that is different.
"""

import copy
import json
import os
import random
import re
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import disk_trace
import pytest
import requests
from disk import Disk, Image
from disk_trace import Event
from harness import MODELS, PATIENCE_S, Server
from mlflow_server import missing
from test_registry_crash_points import laid_out

SEED = int(os.environ.get("SALVER_CRASH_SEED", "16"))
POINTS = os.environ.get("SALVER_JOB_CRASH_POINTS", "16")
MODEL = MODELS / "tfserving" / "half_plus_two"
FOLDER = "data/jobs/"
DATABASE = f"{FOLDER}jobs.db"
ANSWERED = re.compile(rb"HTTP/1.1 (\d+) .*?\r\nx-request-id: op-(\d+)\r\n.*?\r\n\r\n(.*)", re.S)
# The numbers of states in the tables.
SCHEDULED, QUEUED, RUNNING, DONE, FAILED, DEAD, CANCELLED = range(7)
LINES = {"Content-Type": "application/x-ndjson"}
FLAGS = ("--registry=false", "--grpc", "off", "--job-workers", "3")


@dataclass
class Call:
    """A call of the script, and what its answer says from then on."""

    verb: str
    job: str = ""
    status: str = ""
    body: bytes = b""
    key: str | None = None
    values: tuple[float, ...] = ()
    jobs: frozenset[str] = frozenset()


@dataclass
class Script:
    """Calls of clients; each has a number, which stands in its answer."""

    calls: list[Call] = field(default_factory=list)
    server: Server | None = None
    # Jobs that nobody has waited for.
    left: list[str] = field(default_factory=list)

    def send(self, call: Call, method: str, path: str, headers=(), **options) -> requests.Response:
        self.calls.append(call)
        # Calls that are made at once are made by `together` alone, which appends them beforehand.
        return self.ask(len(self.calls) - 1, method, path, headers, **options)

    def ask(self, number: int, method: str, path: str, headers=(), **options) -> requests.Response:
        headers = {"X-Request-Id": f"op-{number}", "Accept-Encoding": "identity", **dict(headers)}
        reply = requests.request(method, self.server.url + path, headers=headers, timeout=PATIENCE_S, **options)
        assert reply.status_code in (200, 202), f"{self.calls[number]}: {reply.status_code} {reply.text}"
        return reply

    def submit(self, *values: float, key: str | None = None, **query) -> str:
        self.calls.append(_submission(values, key))
        return self.ask_for(len(self.calls) - 1, **query)

    def together(self, values: range) -> list[str]:
        """One job for each value, all at once."""
        first = len(self.calls)
        self.calls += [_submission((value,), f"key-{value}") for value in values]
        with ThreadPoolExecutor(len(values)) as pool:
            return list(pool.map(self.ask_for, range(first, len(self.calls))))

    def ask_for(self, number: int, **query) -> str:
        call = self.calls[number]
        headers = dict(LINES if len(call.values) > 1 else {}, **({"Idempotency-Key": call.key} if call.key else {}))
        reply = self.ask(number, "POST", "/models/half_plus_two/jobs", headers, data=call.body, params=query)
        return reply.json()["id"]

    def ended(self, job: str, status: str = "done") -> None:
        call = Call("ended", job, status)
        reply = self.send(call, "GET", f"/api/v1/jobs/{job}", params={"wait": "60s"})
        assert reply.json()["status"] == status, reply.text

    def cancel(self, job: str) -> None:
        self.send(Call("cancel", job), "DELETE", f"/api/v1/jobs/{job}")

    def replay(self, job: str) -> str:
        return self.send(Call("replay", job), "POST", f"/api/v1/jobs/{job}/replay").json()["id"]

    def purge(self, status: str, *jobs: str) -> None:
        call = Call("purge", jobs=frozenset(jobs))
        reply = self.send(call, "POST", "/api/v1/jobs/purge", params={"status": status})
        assert reply.json() == {"purged": len(jobs)}, reply.text

    def gate(self, verb: str) -> None:
        self.send(Call(verb), "POST", f"/api/v1/jobs/queue/{verb}")


def _submission(values, key: str | None) -> Call:
    body = b"\n".join(json.dumps({"x": [float(value)]}).encode() for value in values)
    # The larger version of the model adds three.
    return Call("submit", body=body, key=key, values=tuple(value / 2 + 3 for value in values))


def first_part(script: Script) -> None:
    """Jobs of all kinds; at the end some wait and some run."""
    keyed = script.submit(1, key="once")
    assert script.submit(1, key="once") == keyed
    script.ended(keyed)
    # More bytes than a page of the database has, and as many in the answer.
    long = script.submit(*range(1000))
    script.ended(long)
    for job in script.together(range(10, 18)):
        script.ended(job)
    script.gate("pause")
    unwanted, waiting = script.submit(20), script.submit(21)
    script.submit(22, delay="1h")
    script.cancel(unwanted)
    script.gate("resume")
    script.ended(waiting)
    slow = script.submit(*range(3000), time_limit="1ms", retries=0)
    script.ended(slow, "failed")
    script.ended(script.replay(slow), "failed")
    script.purge("cancelled", unwanted)
    script.left = [script.submit(*range(value, value + 500)) for value in range(30, 36)]


def second_part(script: Script) -> None:
    """What a server does with a queue that another one has left with work in hand."""
    assert script.submit(1, key="once")
    last = script.submit(40)
    for job in [last, *script.left]:
        script.ended(job)


class Known:
    """What was answered up to a moment, and what may have happened since."""

    def __init__(self, calls: list[Call]):
        self.calls = calls
        self.answered: set[int] = set()
        self.jobs: dict[str, Call] = {}
        self.ends: dict[str, str] = {}
        self.gone: frozenset[str] = frozenset()
        self.gate = "open"

    def now(self) -> "Known":
        """The same, and as it stays."""
        same = copy.copy(self)
        same.answered, same.jobs, same.ends = set(self.answered), dict(self.jobs), dict(self.ends)
        return same

    def hear(self, number: int, body: bytes) -> None:
        call = self.calls[number]
        self.answered.add(number)
        match call.verb:
            case "submit":
                job = json.loads(body)["id"]
                assert self.jobs.setdefault(job, call).body == call.body
            case "replay":
                self.jobs[json.loads(body)["id"]] = self.jobs[call.job]
            case "ended":
                self.ends[call.job] = call.status
            case "cancel":
                self.ends[call.job] = "cancelled"
            case "purge":
                self.gone |= call.jobs
            case "pause" | "resume":
                self.gate = {"pause": "paused", "resume": "open"}[call.verb]

    def under_way(self) -> Call | None:
        """The call that may have been made, and was not answered, where calls come one by one."""
        number = len(self.answered)
        return self.calls[number] if number < len(self.calls) and number - 1 in self.answered | {-1} else None

    def gates(self) -> set[str]:
        call = self.under_way()
        return {self.gate} | ({"pause": {"paused"}, "resume": {"open"}}.get(call.verb, set()) if call else set())

    def may_be_gone(self) -> frozenset[str]:
        call = self.under_way()
        return self.gone | (call.jobs if call else frozenset())

    def may_be_cancelled(self, job: str) -> bool:
        call = self.under_way()
        return self.ends.get(job) == "cancelled" or call is not None and (call.verb, call.job) == ("cancel", job)


def values_of(answer: bytes) -> tuple[float, ...]:
    lines = [json.loads(line) for line in answer.splitlines()]
    return tuple(row["y"] for line in lines for row in line["predictions"])


class Reader:
    """Opens images with SQLite, each one that is different once, and reads the tables."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.known: dict[int, tuple | None] = {}

    def tables(self, key: int, image: Image) -> tuple | None:
        """None: there is no database, or one without tables."""
        if key not in self.known:
            self.known[key] = self._read(image) if DATABASE in image else None
        return self.known[key]

    def _read(self, image: Image) -> tuple | None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for path, data in image.items():
            if path.startswith(DATABASE):
                (self.folder / path.removeprefix(FOLDER)).write_bytes(data)
        database = sqlite3.connect(self.folder / "jobs.db")
        try:
            database.execute("PRAGMA synchronous = OFF")
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if "jobs" not in names:
                return None
            jobs = {row[0]: row[1:] for row in database.execute("SELECT seq, id, state, idempotency_key, total FROM jobs")}
            bodies = dict(database.execute("SELECT job, bytes FROM job_bodies"))
            answers = {job: (values_of(data), data) for job, data in database.execute("SELECT job, bytes FROM job_answers")}
            events = {job for (job,) in database.execute("SELECT DISTINCT job FROM job_events")}
            ((gate,),) = database.execute("SELECT gate FROM job_gate").fetchall()
            return jobs, bodies, answers, events, gate
        finally:
            database.close()


def check(tables: tuple | None, known: Known) -> None:
    """Compares what the tables say with what was answered."""
    if tables is None:
        assert not known.answered, f"after {len(known.answered)} answers there are no tables"
        return
    jobs, bodies, answers, events, gate = tables
    assert bodies.keys() | answers.keys() | events <= jobs.keys(), "something belongs to a job that is not there"
    assert gate in known.gates(), f"the gate is {gate}"
    by_id = {row[0]: (seq, *row[1:]) for seq, row in jobs.items()}
    assert len(by_id) == len(jobs)
    lost = known.jobs.keys() - by_id.keys() - known.may_be_gone()
    assert not lost, f"{len(lost)} jobs that were acknowledged are not there"
    assert not by_id.keys() & known.gone, "what was purged is there again"
    submitted = {call.body for call in known.calls if call.verb == "submit"}
    for job, (seq, state, key, total) in by_id.items():
        call = known.jobs.get(job)
        if state == DONE:
            assert seq in answers and seq not in bodies, f"job {job} is done by half"
            assert len(answers[seq][0]) == total
            assert call is None or answers[seq][0] == call.values, f"job {job} has another answer"
        elif state == CANCELLED:
            assert known.may_be_cancelled(job) and seq not in bodies and seq not in answers, f"job {job} is cancelled"
        else:
            assert state in (SCHEDULED, QUEUED, RUNNING, FAILED), f"job {job} is in state {state}"
            assert seq in bodies and seq not in answers, f"job {job} is there by half"
            assert bodies[seq] in ({call.body} if call else submitted), f"job {job} has another body"
        assert call is None or key == call.key
        if job in known.ends:
            expected = {"done": DONE, "failed": FAILED, "cancelled": CANCELLED}[known.ends[job]]
            assert state == expected, f"job {job} was told to be {known.ends[job]} and is in state {state}"


def work_on(folder: Path, known: Known) -> None:
    """A fresh server on what a crash left."""
    server = Server(folder, MODEL, *FLAGS, "--job-lease-ms", "1000")
    try:
        server.post("/api/v1/jobs/queue/resume")
        stats = lambda: server.get("/api/v1/jobs/queue").json()  # noqa: E731
        server.until(lambda: (now := stats())["queued"] + now["running"] == 0, "done with what was left")
        assert stats()["dead"] == 0
        for job, call in known.jobs.items():
            reply = server.get(f"/api/v1/jobs/{job}")
            if job in known.gone:
                assert reply.status_code == 404
                continue
            if reply.status_code == 404 and job in known.may_be_gone():
                continue
            assert reply.status_code == 200, f"{job}: {reply.text}"
            status = reply.json()["status"]
            if job in known.ends:
                assert status == known.ends[job], reply.text
            if status == "done":
                assert values_of(server.get(f"/api/v1/jobs/{job}/result").content) == call.values
            elif len(call.values) == 3000:
                assert status == "failed" and "time limit" in reply.json()["reason"], reply.text
            elif status == "queued":
                assert "not_before_ms" in reply.json() and call.values == (14.0,), reply.text
            else:
                assert status == "cancelled" and known.may_be_cancelled(job), reply.text
            if call.key:
                headers = {"Idempotency-Key": call.key}
                again = requests.post(f"{server.url}/models/half_plus_two/jobs", data=call.body, headers=headers, timeout=PATIENCE_S)
                assert again.json()["id"] == job, "a key was forgotten"
    finally:
        if server.process.poll() is None:
            server.stop()
    assert not server.errors()


@pytest.fixture
def traced(tmp_path):
    """A folder, and live(what to call, how to end): the events of a server's life in it."""
    if reason := disk_trace.why_not():
        missing("strace", reason)
    root, lives = tmp_path / "disk", []
    root.mkdir()

    def live(script: Script, calls, end) -> list[Event]:
        trace = tmp_path / f"trace-{len(lives)}"
        script.server = Server(root, MODEL, *FLAGS, "--job-lease-ms", "1000", under=disk_trace.tracer(trace))
        lives.append(script.server)
        calls(script)
        end(script.server)
        return disk_trace.events(disk_trace.finished(trace, script.server.process.pid), root)

    yield root, live
    for server in lives:
        if server.process.poll() is None:
            server.kill()


def moments(events: list[Event], root: Path, known: Known) -> Iterator[tuple[Event, Disk]]:
    """The disk after each event that changed the queue's folder, or told somebody."""
    disk = Disk(str(root))
    for event in events:
        if event.kind == "send":
            if answer := ANSWERED.match(event.data):
                assert answer[1] in (b"200", b"202")
                known.hear(int(answer[2]), answer[3])
                yield event, disk
        elif disk.apply(event) and f"/{FOLDER}" in f"{event.path}/":
            yield event, disk


@pytest.mark.timeout(7200 if POINTS == "all" else 300)
def test_every_moment_may_be_the_last(traced, tmp_path):
    root, live = traced
    script = Script()
    events = live(script, first_part, Server.kill)
    events += live(script, second_part, Server.stop)

    reader, known, seen, disks = Reader(tmp_path / "image"), Known(script.calls), set(), []
    n_moments = 0
    for event, disk in moments(events, root, known):
        n_moments += 1
        for crash in (disk.kept, disk.synced, disk.named, lambda: disk.torn(f"{SEED}/{n_moments}")):
            image = {path: data for path, data in crash().items() if path.startswith(FOLDER) or path in ("data/", FOLDER)}
            key = hash(tuple(sorted(image.items())))
            if (key, len(known.answered)) in seen:
                continue
            name = f"moment {n_moments} ({event}), {getattr(crash, '__name__', 'torn')}, {len(known.answered)} answers"
            try:
                check(reader.tables(key, image), known)
            except (AssertionError, sqlite3.Error) as problem:
                raise AssertionError(f"{name}: {problem}") from problem
            if key not in seen:
                disks.append((name, image, known.now()))
            seen |= {key, (key, len(known.answered))}
    assert known.answered == set(range(len(script.calls))), "every answer is in the trace"
    print(f"{n_moments} moments, {len(disks)} different disks, {len(script.calls)} calls")
    assert n_moments > 500

    chosen = disks if POINTS == "all" else random.Random(SEED).sample(disks, int(POINTS))

    def try_out(numbered):
        number, (name, image, known) = numbered
        folder = laid_out(image, tmp_path / f"disk-{number}")
        try:
            work_on(folder, known)
        except AssertionError as problem:
            return f"{name}: {problem}"
        shutil.rmtree(folder)
        return None

    # They wait for leases to end, mostly.
    problems = []
    with ThreadPoolExecutor(6) as pool:
        for tried, problem in enumerate(pool.map(try_out, enumerate(chosen)), 1):
            problems += [problem] if problem else []
            if tried % 100 == 0:
                print(f"{tried} of {len(chosen)} disks tried, {len(problems)} bad", flush=True)
    assert not problems, f"{len(problems)} of {len(chosen)}:\n" + "\n".join(problems[:3])
