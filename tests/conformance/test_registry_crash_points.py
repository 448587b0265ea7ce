"""Every moment of a registry's life as its last: what was acknowledged is there, and nothing is half there.

A server is traced while a script of calls runs against it, one after the other; so are a collection of
garbage, a backup, and a second server on what the first has left. Then the trace is replayed, and after every call
that changed the data folder the disk is looked at as a crash would leave it: of the process, and of the
machine, where only what was synced is certain. What the tables say there must be exactly what they said
after the last acknowledged call, or after the one under way, and the files they name must be whole.
SALVER_CRASH_SEED sets the seed that chooses what else is on the disk.
"""

import hashlib
import os
import random
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import disk_trace
import pytest
from disk import Disk, Image
from disk_trace import Event
from harness import BINARY, PATIENCE_S, Server
from mlflow_server import missing
from registry_script import Call, first_part, second_part

SEED = int(os.environ.get("SALVER_CRASH_SEED", "16"))
# Of the images that follow an answer, and of all others: how many Salver itself saves or serves.
SAVED, SERVED = 10, 5
ANSWERED = re.compile(rb"HTTP/1.1 200 OK\r\n.*\r\nx-request-id: op-(\d+)\r\n", re.S)
DATABASE = "data/registry/registry.db"
BLOBS = "data/registry/artifacts/blobs/sha256/"
COPY = "copy/"


@dataclass(frozen=True)
class Records:
    """What the tables of an image say: a digest of all of it, and the files that they name."""

    state: str
    digests: frozenset[str]


class Reader:
    """Opens images with SQLite, each one that is different once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.known: dict[tuple, Records | None] = {}

    def records(self, image: Image) -> Records | None:
        """None: there is no database, or one without tables."""
        key = tuple(sorted((path, hash(data)) for path, data in _database(image).items()))
        if key not in self.known:
            connection = self.open(image)
            self.known[key] = _records(connection) if connection else None
            if connection:
                connection.close()
        return self.known[key]

    def open(self, image: Image) -> sqlite3.Connection | None:
        if DATABASE not in image:
            return None
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for path, data in _database(image).items():
            (self.folder / Path(path).name).write_bytes(data)
        connection = sqlite3.connect(self.folder / Path(DATABASE).name)
        connection.execute("PRAGMA synchronous = OFF")
        return connection


def _database(image: Image) -> Image:
    return {path: data for path, data in image.items() if path.startswith(DATABASE)}


def _records(connection: sqlite3.Connection) -> Records | None:
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    if not tables:
        return None
    state = hashlib.sha256()
    for table in tables:
        rows = sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
        state.update(repr((table, rows)).encode())
    digests = set()
    for table in {"artifacts", "model_version_files"} & set(tables):
        digests |= {digest for (digest,) in connection.execute(f"SELECT digest FROM {table}")}
    return Records(state.hexdigest(), frozenset(digests))


class Checks:
    """Compares images with what the calls were told."""

    def __init__(self, reader: Reader, states: list[Records | None], copy: Image):
        self.reader, self.states, self.copy = reader, states, copy
        self.hashes: dict[int, str] = {}
        self.seen: set[tuple] = set()

    def check(self, image: Image, answered: int, is_saved: bool) -> bool:
        """Whether the image was a new one."""
        key = (answered, is_saved, *sorted((path, hash(data)) for path, data in image.items()))
        if key in self.seen:
            return False
        self.seen.add(key)
        records = self.reader.records(image)
        if answered:
            allowed = self.states[answered : answered + 2]
            assert records is not None, f"after {answered} answers there is no database"
            assert records.state in {state.state for state in allowed}, f"not the records of {answered} answers, or one more"
        blobs = {path.rsplit("/", 1)[1]: data for path, data in image.items() if path.startswith(BLOBS)}
        # What has a blob's name is that blob; what is on its way there has another one.
        for digest, data in blobs.items():
            if re.fullmatch("[0-9a-f]{64}", digest):
                assert self.hash(data) == digest, f"blob {digest} has {len(data)} other bytes"
        lost = (records.digests if records else set()) - blobs.keys()
        assert not lost, f"the records name files that are not there: {lost}"
        # A backup that says it is complete is; one that was told to be complete says so.
        if is_saved or f"{COPY}registry.json" in image:
            for path, data in self.copy.items():
                assert image.get(path) == data, f"of the backup, {path} is missing or cut off"
        return True

    def hash(self, data: bytes) -> str:
        key = hash(data)
        if key not in self.hashes:
            self.hashes[key] = hashlib.sha256(data).hexdigest()
        return self.hashes[key]


@pytest.fixture
def traced(tmp_path):
    """A folder, server(what to call) and command(words): each runs to its end and returns what it did there."""
    if reason := disk_trace.why_not():
        missing("strace", reason)
    root, number = tmp_path / "disk", iter(range(100))
    root.mkdir()
    running: list[Server] = []

    def server(calls) -> list[Event]:
        trace = tmp_path / f"trace-{next(number)}"
        running.append(Server(root, "--grpc", "off", under=disk_trace.tracer(trace)))
        calls(running[-1])
        running[-1].stop()
        return disk_trace.events(disk_trace.finished(trace, running[-1].process.pid), root)

    def command(*words: str) -> list[Event]:
        trace = tmp_path / f"trace-{next(number)}"
        line = [*disk_trace.tracer(trace), str(BINARY), *words, "--data", str(root / "data")]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = process.communicate(timeout=PATIENCE_S)[0]
        assert process.returncode == 0, said
        return [*disk_trace.events(disk_trace.finished(trace, process.pid), root), Event("done", words[1])]

    yield root, server, command
    for server in running:
        if server.process.poll() is None:
            server.process.kill()
            server.wait()


def moments(events: list[Event], root: Path) -> Iterator[tuple[Event, int, Disk]]:
    """The disk after each event that changed it, or told somebody, and how many calls were answered before."""
    disk, answered = Disk(str(root)), 0
    for event in events:
        if event.kind == "send" and (answer := ANSWERED.match(event.data)):
            answered += 1
            assert int(answer[1]) == answered
            yield event, answered, disk
        elif event.kind == "done" or disk.apply(event):
            yield event, answered, disk


def states(reader: Reader, events: list[Event], root: Path, calls: list[Call]) -> list[Records | None]:
    """What the tables said when each call was answered; and that they show it."""
    found: list[Records | None] = [None]
    for event, answered, disk in moments(events, root):
        if event.kind == "send":
            image, call = disk.kept(), calls[answered - 1]
            found.append(reader.records(image))
            rows = reader.open(image).execute(call.question).fetchall()
            assert rows == call.rows, f"{call.name}: {call.question}: {rows}"
    assert len(found) == len(calls) + 1, f"{len(calls)} calls, {len(found) - 1} answers in the trace"
    return found


def test_every_moment_may_be_the_last(traced, tmp_path):
    root, server, command = traced
    calls: list[Call] = []
    events = server(lambda started: first_part(started, calls))
    events += command("registry", "gc", "--grace-s", "0")
    events += command("registry", "backup", str(root / COPY))
    events += server(lambda started: second_part(started, calls))

    reader = Reader(tmp_path / "image")
    copy = {str(path.relative_to(root)): path.read_bytes() for path in (root / COPY).rglob("*") if path.is_file()}
    checks = Checks(reader, states(reader, events, root, calls), copy)
    n_moments, is_saved, after_answers, others = 0, False, [], []
    for event, answered, disk in moments(events, root):
        n_moments += 1
        is_saved |= event == Event("done", "backup")
        for crash in (disk.kept, disk.synced, disk.named, lambda: disk.torn(f"{SEED}/{n_moments}")):
            image = crash()
            try:
                is_new = checks.check(image, answered, is_saved)
            except (AssertionError, sqlite3.Error) as problem:
                name = getattr(crash, "__name__", "torn")
                last = calls[answered - 1].name if answered else "nothing"
                raise AssertionError(f"moment {n_moments} ({event}), {name}, answered: {last}: {problem}") from problem
            if is_new and event.kind == "send" and crash == disk.synced:
                after_answers.append((answered, image))
            elif is_new and n_moments % 7 == 0:
                others.append((answered, image))
    print(f"{n_moments} moments, {len(checks.seen)} images, {len(reader.known)} databases, {len(after_answers)} after answers")
    assert n_moments > 500 and len(after_answers) > 15

    for idx, (answered, image) in enumerate(random.Random(SEED).sample(after_answers, SAVED)):
        folder = laid_out(image, tmp_path / f"saved-{idx}")
        line = [str(BINARY), "registry", "backup", str(folder / "saved"), "--data", str(folder / "data"), "--json"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, f"after {answered} answers, synced: {done.stdout}{done.stderr}"
        shutil.rmtree(folder)
    for idx, (answered, image) in enumerate(random.Random(SEED).sample(others, SERVED)):
        folder = laid_out(image, tmp_path / f"served-{idx}")
        started = Server(folder, "--grpc", "off")
        started.stop()
        assert not started.errors(), f"after {answered} answers: {started.errors()}"


def laid_out(image: Image, folder: Path) -> Path:
    """Puts an image into a folder of its own."""
    folder.mkdir()
    for path, data in sorted(image.items()):
        if path.endswith("/"):
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)
    return folder
