"""`salver jobs`, as a person at a shell and a script meet it."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios

import pytest
from harness import BINARY, DEMO, MODELS, PATIENCE_S
from test_cli import salver
from workers import FLAGS, model

ROW = "[[5.1, 3.5, 1.4, 0.2]]"
ID = re.compile(r"[0-9a-f]{32}")

HELD = '''
import pathlib
import time

GO = pathlib.Path(__file__).parent / "go"


class Held:
    """Answers 9 and less at once, more once the file `go` is there, and nothing below zero."""

    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}

    def predict(self, batch):
        if (batch["x"] < 0).any():
            raise ValueError("below zero")
        while (batch["x"] > 9).any() and not GO.exists():
            time.sleep(0.005)
        return {"y": batch["x"] * 2}
'''


class Queue:
    """The commands of one server."""

    def __init__(self, server):
        self.server = server
        # Models may be there before the queue is.
        server.until(lambda: server.get("/api/v1/jobs/queue").status_code != 503, "open for jobs")

    def run(self, *words, **options):
        return salver("jobs", *words, "--server", self.server.url, **options)

    def out(self, *words, **options) -> str:
        return self.run(*words, **options).stdout

    def json(self, *words, **options):
        return json.loads(self.out(*words, "--json", **options))

    def submit(self, *words) -> str:
        out = self.out("submit", *words)
        assert ID.fullmatch(out.strip()) and out.endswith("\n"), out
        return out.strip()

    def start(self, *words, **options) -> subprocess.Popen:
        command = [str(BINARY), "jobs", *words, "--server", self.server.url]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, **({"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, "text": True} | options))


@pytest.fixture(scope="module")
def queue(start):
    return Queue(start(DEMO / "iris", MODELS / "tfserving" / "half_plus_two"))


@pytest.fixture
def held(start, tmp_path):
    """The queue of a server whose model answers when it is let go, and how to let it."""
    folder = model(tmp_path / "held", HELD, "[instances]\ncount = 1\n[batching]\nmax_rows = 1\n")
    go = folder / "go"
    yield Queue(start(folder, *FLAGS)), go
    go.touch()


@pytest.fixture
def paused(queue):
    queue.run("pause")
    yield queue
    queue.run("resume")


@contextlib.contextmanager
def terminal(queue, *words):
    """The command on a terminal of its own: what it shows, and keys for it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 160, 0, 0))
    process = queue.start(*words, stdin=theirs, stdout=theirs, stderr=theirs, text=False)
    shown = b""

    def read_until(*wanted: str) -> str:
        nonlocal shown
        while not all(part.encode() in shown for part in wanted):
            assert select.select([ours], [], [], PATIENCE_S)[0], f"never {wanted} in {shown}"
            shown += os.read(ours, 4096)
        return shown.decode(errors="replace")

    try:
        yield process, read_until, lambda keys: os.write(ours, keys)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_a_job_is_handed_in_waited_for_and_asked_for(queue, tmp_path):
    job = queue.submit("iris", ROW)
    assert "setosa" in queue.out("wait", job)
    status = queue.out("status", job)
    for word in (job, "iris", "done", "1 of 1", "submitted", f"salver jobs result {job}"):
        assert word in status
    shown = queue.json("status", job)
    assert (shown["id"], shown["status"], shown["history"][0]["text"].split()[0]) == (job, "done", "submitted")
    direct = json.loads(salver("predict", "iris", "--input", ROW, "--json", "--server", queue.server.url).stdout)
    assert queue.json("result", job) == direct == shown["result"] == queue.json("wait", job)["result"]
    file = tmp_path / "result.json"
    assert str(file) in queue.out("result", job, "--output", file)
    assert json.loads(file.read_bytes()) == direct


def test_a_body_may_be_what_predict_takes_and_lines(queue, tmp_path):
    (tmp_path / "rows.csv").write_text("sepal_length,sepal_width,petal_length,petal_width\n5.1,3.5,1.4,0.2\n")
    (tmp_path / "rows.jsonl").write_text((ROW + "\n") * 3)
    (tmp_path / "rows.txt").write_text((ROW + "\n") * 2)
    (tmp_path / "rows.json").write_text(ROW)
    answers = {}
    for name in ("rows.jsonl", "@rows.jsonl", "rows.json", "@rows.json", "rows.csv"):
        answers[name] = queue.out("submit", "iris", name, "--wait", cwd=tmp_path)
    for name in ("rows.jsonl", "@rows.jsonl"):
        lines = [json.loads(line) for line in answers[name].splitlines()]
        assert [line["predictions"][0]["label"] for line in lines] == ["setosa"] * 3
    assert answers["rows.json"] == answers["@rows.json"] == answers["rows.csv"] != ""
    assert len(queue.out("submit", "iris", "@rows.txt", "--lines", "--wait", cwd=tmp_path).splitlines()) == 2
    with queue.start("submit", "iris", "-", "--wait", stdin=subprocess.PIPE) as piped:
        out, err = piped.communicate(ROW, timeout=PATIENCE_S)
    assert "setosa" in out and ID.search(err) and not ID.search(out)


def test_a_version_and_the_open_inference_protocol(queue):
    body = json.dumps({"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]})
    for name in ("half_plus_two", "half_plus_two/2"):
        answer = queue.json("submit", name, body, "--v2", "--wait")["result"]
        assert (answer["model_version"], answer["outputs"][0]["data"]) == ("2", [3.5, 4.0])
    assert queue.json("submit", "half_plus_two/2", '{"x": [1]}').keys() >= {"id", "status", "status_url"}


@pytest.mark.parametrize("words, text", [
    (("submit", "nobody", ROW), "nobody"),
    (("submit", "iris", '[["x"]]'), "'X'"),
    (("submit", "iris", "@nowhere.json"), "nowhere.json"),
    (("submit", "iris", ROW, "--priority", "0"), "1..=9"),
    (("status", "0" * 32), "no job " + "0" * 32),
    (("status", "../models"), "32 hexadecimal digits"),
    (("wait", "0" * 32), "no job"),
    (("result", "0" * 32), "no job"),
    (("cancel", "0" * 32), "no job"),
    (("replay", "0" * 32), "no job"),
    (("purge",), "--older-than"),
    (("purge", "--status", "running", "--yes"), "'running'"),
    (("list", "--status", "dun"), "scheduled, queued"),
])  # fmt: skip
def test_what_is_wrong_is_said_and_shows_in_the_exit_code(queue, words, text):
    done = queue.run(*words, code=None)
    assert done.returncode != 0 and not done.stdout
    assert text in done.stderr


def test_a_server_that_is_not_there_or_has_no_queue_is_named(start):
    away = salver("jobs", "list", "--server", "http://127.0.0.1:1", code=1).stderr
    assert "127.0.0.1:1" in away and "salver serve" in away
    without = Queue(start(DEMO / "iris", "--jobs=false"))
    assert "no queue" in without.run("stats", code=1).stderr


def test_one_key_makes_one_job(queue):
    key = ("--key", "night-1")
    job = queue.submit("iris", ROW, *key)
    assert queue.submit("iris", ROW, *key) == job
    assert job in queue.run("submit", "iris", "[[1, 2, 3, 4]]", *key, code=1).stderr


def test_how_waiting_ended_shows_in_the_exit_code(held):
    queue, go = held
    failed = queue.submit("held", '{"x": [[-1]]}', "--retries", "0")
    assert "below zero" in queue.run("wait", failed, code=1).stderr
    shown = queue.json("wait", failed, code=1)
    assert shown["status"] == "failed" and "below zero" in shown["reason"]

    job = queue.submit("held", '{"x": [[10]]}')
    late = queue.run("wait", job, "--timeout", "300ms", code=2)
    assert job in late.stderr and "0 of 1 done" in late.stderr and not late.stdout
    assert queue.json("wait", job, "--timeout", "0s", code=2)["id"] == job
    assert "has no answer yet" in queue.run("result", job, code=1).stderr
    go.touch()
    assert "20" in queue.out("wait", job)

    waiting = queue.submit("held", '{"x": [[1]]}', "--delay", "1h")
    queue.run("cancel", waiting)
    assert "was cancelled" in queue.run("wait", waiting, code=1).stderr
    assert queue.json("wait", waiting, code=1)["status"] == "cancelled"


def test_jobs_are_listed_by_the_words_that_find_them(paused):
    queue = paused
    jobs = [queue.submit("iris", ROW) for _ in range(3)]
    later = queue.submit("iris", ROW, "--delay", "1h", "--priority", "1")
    listed = [job["id"] for job in queue.json("list", "--limit", "4")["jobs"]]
    assert listed == [later, *reversed(jobs)]
    assert re.search(later + r" +iris +scheduled", queue.out("list"))
    assert [job["id"] for job in queue.json("list", "--status", "scheduled")["jobs"]] == [later]
    assert {job["id"] for job in queue.json("list", "--status", "queued,running")["jobs"]} == {*jobs, later}
    first = queue.json("list", "--limit", "2")
    assert (len(first["jobs"]), first["more"]) == (2, True)
    assert "--limit" in queue.out("list", "--limit", "2")
    assert "No jobs." in queue.out("list", "--model", "nobody")
    assert "No job is dead." in queue.out("dead")
    assert queue.json("dead") == {"jobs": [], "more": False}
    stats = queue.json("stats")
    assert (stats["scheduled"], stats["queued"], stats["gate"]) == (1, 3, "paused")
    assert "The queue is paused" in queue.out("stats")
    queue.run("cancel", later, *jobs)


def test_several_jobs_are_cancelled_and_one_that_cannot_be_stops_nobody(paused):
    queue = paused
    one, other = queue.submit("iris", ROW), queue.submit("iris", ROW)
    done = queue.run("cancel", one, "0" * 32, other, code=1)
    assert one in done.stdout and other in done.stdout
    assert "0" * 32 in done.stderr and "1 of 3" in done.stderr
    told = queue.json("cancel", one, "0" * 32, code=1)
    assert told[0]["status"] == "cancelled" and "no job" in told[1]["error"]


def test_a_job_that_failed_is_submitted_anew(held):
    queue, _ = held
    failed = queue.submit("held", '{"x": [[-1]]}', "--retries", "0")
    queue.run("wait", failed, code=1)
    out = queue.out("replay", failed)
    old, new = ID.findall(out)
    assert old == failed != new
    queue.run("wait", new, code=1)
    assert queue.json("status", new)["replay_of"] == failed
    done = queue.submit("held", '{"x": [[1]]}')
    queue.run("wait", done)
    assert done in queue.run("replay", done, code=1).stderr


def test_only_what_has_ended_and_is_meant_is_removed(paused):
    queue = paused
    cancelled, waiting = queue.submit("iris", ROW), queue.submit("iris", ROW)
    queue.run("cancel", cancelled)
    assert "--yes" in queue.run("purge", "--status", "cancelled", code=1).stderr
    assert queue.json("purge", "--status", "cancelled", "--older-than", "1h", "--yes") == {"purged": 0}
    assert queue.json("purge", "--status", "done,failed", "--model", "nobody", "--yes") == {"purged": 0}
    assert "jobs removed" in queue.out("purge", "--status", "cancelled", "--yes")
    assert "no job" in queue.run("status", cancelled, code=1).stderr
    assert queue.json("status", waiting)["status"] == "queued"
    with terminal(queue, "purge", "--model", "iris") as (process, read_until, write):
        read_until("Remove all jobs that have ended, of model iris", "[y/N]")
        write(b"n\n")
        read_until("Nothing was removed.")
        assert process.wait(PATIENCE_S) == 0
    queue.run("cancel", waiting)


def test_a_queue_is_drained_until_nothing_waits_or_runs(held):
    queue, go = held
    job = queue.submit("held", '{"x": [[10]]}')
    assert "The queue drains" in queue.out("drain", "--no-wait")
    assert queue.run("submit", "held", '{"x": [[1]]}', code=1).stderr
    assert "The queue drains" in queue.out("drain", "--timeout", "300ms", code=2)
    with queue.start("drain") as drain:
        queue.server.until(lambda: queue.json("stats")["running"] == 1, "busy")
        assert drain.poll() is None
        go.touch()
        out, _ = drain.communicate(timeout=PATIENCE_S)
    assert drain.returncode == 0 and "The queue is empty" in out
    assert queue.json("status", job)["status"] == "done"
    assert "The queue is open." in queue.out("resume")
    queue.submit("held", '{"x": [[1]]}')


def test_who_drains_hears_that_somebody_opened_the_queue(held):
    queue, _ = held
    queue.submit("held", '{"x": [[10]]}')
    with queue.start("drain") as drain:
        queue.server.until(lambda: queue.json("stats")["gate"] == "draining", "draining")
        queue.run("resume")
        _, err = drain.communicate(timeout=PATIENCE_S)
    assert drain.returncode == 1 and "opened the queue again" in err


def test_waiting_shows_how_far_a_job_is_on_a_terminal(held, tmp_path):
    queue, go = held
    (tmp_path / "x.jsonl").write_text("".join(f'{{"x": [[{x}]]}}\n' for x in (1, 2, 10)))
    job = queue.submit("held", f"@{tmp_path / 'x.jsonl'}")
    with terminal(queue, "wait", job) as (process, read_until, _):
        read_until("2 of 3")
        go.touch()
        read_until('"predictions"')
        assert process.wait(PATIENCE_S) == 0


def test_a_list_is_watched_on_a_terminal_until_somebody_quits(paused):
    queue = paused
    before = queue.submit("iris", ROW)
    with terminal(queue, "list", "--watch") as (process, read_until, write):
        read_until("\x1b[?1049h", "paused", before, "q quit")
        later = queue.submit("iris", ROW)
        read_until(later)
        write(b"q")
        read_until("\x1b[?1049l")
        assert process.wait(PATIENCE_S) == 0
    # Without a terminal, it is a list.
    assert before in queue.out("list", "--watch")
    queue.run("cancel", before, later)


def test_waiting_outlives_a_restart_of_the_server(start, tmp_path):
    first = Queue(start(DEMO / "iris", "--data", tmp_path / "data"))
    first.run("pause")
    job = first.submit("iris", ROW)
    with terminal(first, "wait", job) as (wait, read_until, _):
        # The bar says that the server was asked once: only a job that was seen is waited for.
        read_until("0 of 1")
        first.server.stop()
        again = Queue(start(DEMO / "iris", "--data", tmp_path / "data", "--http", first.server.http))
        assert again.json("stats")["gate"] == "paused"
        again.run("resume")
        read_until("setosa")
        assert wait.wait(PATIENCE_S) == 0
