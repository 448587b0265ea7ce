"""Workers that stand still, die, or have another model: whose answer is kept, and what becomes of the jobs."""

import base64
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import threading
import time

import pytest
import requests
from harness import MODELS, PATIENCE_S, Server, model_file
from test_cli import salver
from test_jobs import ended, post, status, submit
from test_jobs_crash import queue  # noqa: F401 (fixture)
from test_registry_serving import push
from workers import FLAGS, eventually, is_running, model

LEASE_MS = 1000
HALF_PLUS_TWO = MODELS / "tfserving" / "half_plus_two"

HELD = '''
import pathlib
import time

HERE = pathlib.Path(__file__).parent


class Held:
    """Answers with the name of its folder's parent once the file `go` is there; what begins is noted."""

    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("STRING", [-1, 1])}

    def predict(self, batch):
        import numpy

        if (abs(batch["x"]) >= 1).all():
            with (HERE / "begun").open("a") as file:
                file.write("\\n".join(str(int(x)) for x in batch["x"].ravel()) + "\\n")
            while not (HERE / "go").exists():
                time.sleep(0.005)
        return {"y": numpy.full(batch["x"].shape, HERE.parent.name, dtype=object)}
'''

# The worker of the model is a child of `salver worker`: to kill that is what a model does that takes its
# process down with it.
POISON = '''
import os
import pathlib
import signal

HERE = pathlib.Path(__file__).parent


class Poison:
    """Doubles; 13 ends the process that asks, until the file `repaired` is there."""

    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}

    def predict(self, batch):
        if (batch["x"] == 13).any() and not (HERE / "repaired").exists():
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        return {"y": batch["x"] * 2}
'''
ONE_BY_ONE = "[instances]\ncount = 1\n[batching]\nmax_rows = 1\n"


@pytest.fixture
def processes(tmp_path, queue):  # noqa: F811
    """begin(verb, name, model, …): a server or a worker of one queue; all of them end with the test."""
    started = []

    def begin(verb, name, *args, lease_ms=LEASE_MS, **options):
        words = (*args, "--queue", queue, "--job-lease-ms", lease_ms, *FLAGS)
        started.append(Server(tmp_path / name, *words, verb=verb, **options))
        return started[-1]

    yield begin
    for server in started:
        if is_running(server.process.pid):
            os.kill(server.process.pid, signal.SIGCONT)
            server.stop()


def held_model(folder):
    return model(folder / "held", HELD, ONE_BY_ONE)


def begun(folder):
    file = folder / "begun"
    return file.read_text().split() if file.exists() else []


def texts(job):
    return [event["text"] for event in job["history"]]


def answer(job):
    return job["result"]["predictions"][0]["y"]


def stand_still(worker, queue):  # noqa: F811
    """SIGSTOP, at a moment at which it does not hold the lock of the file: then nobody could write before it goes on."""
    while True:
        os.kill(worker.process.pid, signal.SIGSTOP)
        if not queue.startswith("sqlite://"):
            return
        with contextlib.closing(sqlite3.connect(queue.removeprefix("sqlite://"), isolation_level=None, timeout=2)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
                return
            except sqlite3.OperationalError as error:
                assert "locked" in str(error)
        os.kill(worker.process.pid, signal.SIGCONT)


@pytest.mark.parametrize("second", ["runs on", "has ended"])
def test_a_worker_that_stood_still_comes_too_late(processes, tmp_path, queue, second):  # noqa: F811
    slow, quick = held_model(tmp_path / "slow"), held_model(tmp_path / "quick")
    server = processes("serve", "server", slow, "--job-workers", 0)
    first = processes("worker", "first", slow)
    job = submit(server, "held", {"x": [[7]]})
    eventually(lambda: begun(slow) == ["7"], "the first worker has begun")
    stand_still(first, queue)
    other = processes("worker", "second", quick)
    eventually(lambda: begun(quick) == ["7"], "the second worker has taken it over")
    (slow / "go").touch()
    if second == "has ended":
        (quick / "go").touch()
        assert answer(ended(server, job)) == "quick"
    os.kill(first.process.pid, signal.SIGCONT)

    # Its answer and its sign of life come at the same time; whichever is first is refused.
    refusals = ("no longer this worker's; its answer is dropped", "given to another worker; it is dropped")
    first.until(lambda: any(text in first.log() for text in refusals), "told that it comes too late")
    if second == "runs on":
        assert status(server, job).json()["status"] == "running"
        (quick / "go").touch()
    got = ended(server, job)
    assert (got["status"], answer(got), got["attempts"], got["lost_workers"]) == ("done", "quick", 2, 1)
    assert texts(got) == [
        "submitted", "handed out (attempt 1)", "lost with its worker; from now on it runs alone", "handed out (attempt 2)", "done",
    ]
    # It works on as if nothing had happened.
    other.stop()
    got = ended(server, submit(server, "held", {"x": [[8]]}))
    assert (answer(got), got["attempts"]) == ("slow", 1)


def test_a_worker_with_a_longer_lease_than_others_is_not_taken_for_gone(processes, tmp_path):
    """Signs of life come as often as the worker's own lease wants them."""
    folder = held_model(tmp_path)
    server = processes("serve", "server", folder, "--job-workers", 0)
    worker = processes("worker", "worker", folder, lease_ms=15 * LEASE_MS)
    job = submit(server, "held", {"x": [[7]]})
    eventually(lambda: begun(folder) == ["7"], "the worker has begun")
    # By then the shorter lease has passed several times.
    later = submit(server, "held", {"x": [[8]]}, delay=f"{4 * LEASE_MS}ms")
    server.until(lambda: server.get("/api/v1/jobs/queue").json()["scheduled"] == 0, "time for the second job")
    (folder / "go").touch()
    got = ended(server, job)
    assert (got["status"], got["attempts"], got.get("lost_workers")) == ("done", 1, None)
    assert ended(server, later)["attempts"] == 1
    worker.stop()


class Supervised:
    """A worker that is started again whenever it has ended, as systemd would."""

    def __init__(self, begin):
        self._over, self.begin = threading.Event(), begin
        self.killed = 0
        self.worker = begin(0)
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self):
        while not self._over.is_set():
            if self.worker.process.poll() is None:
                time.sleep(0.01)
                continue
            self.worker.kill()  # it has ended; what is known of it is forgotten
            self.killed += 1
            self.worker = self.begin(self.killed)

    def stop(self):
        self._over.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def test_a_job_that_ends_its_workers_is_put_aside_and_the_others_go_on(processes, tmp_path):
    folder = model(tmp_path / "poison", POISON, ONE_BY_ONE)
    server = processes("serve", "server", folder, "--job-workers", 0)
    values = [1, 2, 13, 4, 5, 6]
    jobs = {value: submit(server, "poison", {"x": [[value]]}) for value in values}
    workers = Supervised(lambda number: processes("worker", f"worker-{number}", folder, ready=False))
    try:
        ends = {value: ended(server, job) for value, job in jobs.items()}
        behind = ended(server, submit(server, "poison", {"x": [[20]]}))
        assert (behind["attempts"], answer(behind)) == (1, 40)
        dead = ends.pop(13)
        assert (dead["status"], dead["dead"], dead["lost_workers"], dead["attempts"]) == ("failed", True, 6, 6)
        assert "5 workers were lost" in dead["reason"] and texts(dead)[-1].startswith("dead: ")
        # Once with the others, then five times alone; nobody else was with it then.
        assert texts(dead).count("lost with its worker; from now on it runs alone") == 5
        for value, job in ends.items():
            assert (job["status"], answer(job)) == ("done", 2 * value), job
            assert job.get("lost_workers", 0) <= 1 and job["attempts"] <= 2, job
        assert workers.killed == 6

        def cli(*words):
            return json.loads(salver("jobs", *words, "--json", "--server", server.url).stdout)

        assert [job["id"] for job in cli("dead")["jobs"]] == [jobs[13]]
        cli("replay", jobs[13])
        again = cli("list", "--limit", "1")["jobs"][0]["id"]
        server.until(lambda: status(server, again).json().get("lost_workers", 0) >= 1, "as bad as before")
        (folder / "repaired").touch()
        repaired = ended(server, again)
        assert (repaired["status"], answer(repaired), repaired["replay_of"]) == ("done", 26, jobs[13])
        assert texts(ended(server, jobs[13]))[-1] == f"replayed by {again}"
        assert [job["id"] for job in cli("dead")["jobs"]] == [jobs[13]], "what has ended stays as it is"
    finally:
        workers.stop()


def troubles(job):
    return [text for text in texts(job) if text.startswith("trouble: ")]


def test_a_job_waits_longer_and_longer_for_a_worker_that_has_its_model(processes, tmp_path):
    server = processes("serve", "server", HALF_PLUS_TWO, "--job-workers", 0)
    wrong = processes("worker", "wrong", held_model(tmp_path / "other"))
    patient = submit(server, "half_plus_two", {"x": [1.0]}, retries=20)
    at_once = ended(server, submit(server, "half_plus_two", {"x": [2.0]}, retries=0))
    assert (at_once["status"], at_once["attempts"]) == ("failed", 1)
    assert "'half_plus_two'" in at_once["reason"] and "not found" in at_once["reason"]
    server.until(lambda: len(troubles(status(server, patient).json())) >= 2, "tried twice")
    wrong.stop()
    job = status(server, patient).json()
    assert (job["status"], job["attempts"]) == ("queued", len(troubles(job)))
    assert [text.rsplit(";", 1)[1] for text in troubles(job)][:2] == [" again in 1 s", " again in 2 s"]
    processes("worker", "right", HALF_PLUS_TWO)
    job = ended(server, patient)
    assert (job["status"], job["attempts"], answer(job)) == ("done", len(troubles(job)) + 1, 3.5)
    replayed = requests.post(f"{server.url}/api/v1/jobs/{at_once['id']}/replay", timeout=PATIENCE_S).json()["id"]
    assert answer(ended(server, replayed)) == 4.0


def registered(server, folder, name, factor):
    """A model that multiplies, in production."""
    assert push(server, folder, name, factor, "--stage", "production") == "1"
    server.until(lambda: server.get(f"/v2/models/{name}/ready").status_code == 200, f"serving {name}")


def test_a_worker_on_the_data_of_a_server_has_its_registry_and_its_queue(start, tmp_path):
    shared = ("--data", tmp_path / "data", "--job-lease-ms", LEASE_MS)
    server = start(*shared, "--job-workers", "0")
    registered(server, tmp_path, "scale", 3.0)
    waiting = submit(server, "scale", {"x": [[1.0]]})
    worker = start(*shared, verb="worker")
    assert answer(ended(server, waiting)) == 3.0
    # What is registered later, it has as well.
    registered(server, tmp_path, "later", 5.0)
    assert answer(ended(server, submit(server, "later", {"x": [[1.0]]}, retries=10))) == 5.0
    # Either may go.
    worker.kill()
    another = submit(server, "scale", {"x": [[2.0]]})
    server.kill()
    worker = start(*shared, verb="worker")
    assert answer(ended(worker, another)) == 6.0
    worker.stop()


@pytest.mark.parametrize("control", ["none", "explicit"])
def test_a_job_of_a_registered_model_outlives_a_restart_also_where_it_may_run_only_once(start, tmp_path, control):
    """A server begins to work when its models are there, those of the registry too."""
    shared = ("--data", tmp_path / "data", "--model-control", control, HALF_PLUS_TWO)
    server = start(*shared, "--job-workers", "0")
    registered(server, tmp_path, "scale", 3.0)
    jobs = [submit(server, "scale", {"x": [[float(number)]]}, retries=0) for number in range(5)]
    server.stop()
    server = start(*shared)
    ends = [ended(server, job) for job in jobs]
    assert [(job["status"], job.get("reason")) for job in ends] == [("done", None)] * 5
    assert [answer(job) for job in ends] == [0.0, 3.0, 6.0, 9.0, 12.0]
    server.stop()


def test_files_that_a_client_sent_are_one_servers_own(start, tmp_path):
    shared = (
        "--data", tmp_path / "data", "--model-control", "explicit", "--allow-model-upload", "--registry=false",
        tmp_path / "models",
    )
    shutil.copytree(MODELS / "triton" / "two_versions", tmp_path / "models" / "two_versions")
    server = start(*shared, "--job-workers", "0")
    file = base64.b64encode((MODELS / model_file("identity_fp32")).read_bytes()).decode()
    load = server.post("/v2/repository/models/sent/load", {"parameters": {"config": "{}", "file:1/model.onnx": file}})
    assert load.status_code == 200, load.text
    body = {"inputs": [{"name": "INPUT0", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}

    def job():
        reply = post(server, "/v2/models/sent/jobs", body, params={"retries": 0})
        assert reply.status_code == 202, reply.text
        return reply.json()["id"]

    worker = start(*shared, verb="worker")
    refused = ended(server, job())
    assert refused["status"] == "failed" and "'sent'" in refused["reason"]
    # A worker that starts takes nothing away from the server.
    assert post(server, "/v2/models/sent/infer", body).status_code == 200
    assert worker.post("/v2/repository/models/sent/load", {"parameters": {"config": "{}", "file:1/model.onnx": file}}).ok
    assert ended(server, job())["result"]["outputs"][0]["data"] == [1, 2, 3, 4]
    worker.stop()
    server.stop()


BATCHED = '''
import os
import pathlib
import signal
import time

HERE = pathlib.Path(__file__).parent


class Batched:
    """Doubles; 1 waits for the file `go`, and 13 ends this process with all that are in its batch."""

    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}

    def predict(self, batch):
        if (batch["x"] == 13).any():
            with (HERE / "ended").open("a") as file:
                file.write(f"{len(batch['x'])}\\n")
            os.kill(os.getpid(), signal.SIGKILL)
        if (batch["x"] == 1).any():
            (HERE / "begun").touch()
            while not (HERE / "go").exists():
                time.sleep(0.005)
        return {"y": batch["x"] * 2}
'''


def test_a_job_that_ends_the_process_of_its_model_takes_nobody_of_its_batch_along(start, tmp_path):
    """They ran once and did nothing wrong: they run again, one by one, also where none may be retried."""
    folder = model(tmp_path / "batched", BATCHED, "[instances]\ncount = 1\n[batching]\nmax_rows = 16\n")
    server = start(folder, *FLAGS)
    values = [1, 2, 13, 4, 5, 6]
    jobs = {1: submit(server, "batched", {"x": [[1]]}, retries=0)}
    server.until((folder / "begun").exists, "busy")
    jobs |= {value: submit(server, "batched", {"x": [[value]]}, retries=0) for value in values[1:]}
    server.until(lambda: server.get("/api/v1/jobs/queue").json()["running"] == len(values), "behind it")
    (folder / "go").touch()
    ends = {value: ended(server, job) for value, job in jobs.items()}
    together, *alone = (folder / "ended").read_text().split()
    assert int(together) > 1, "nobody else was in its batch"
    assert ends.pop(13)["status"] == "failed"
    assert {value: job["status"] for value, job in ends.items()} == dict.fromkeys(ends, "done")
    assert set(alone) <= {"1"}, "it ran alone from then on"
    assert {value: answer(job) for value, job in ends.items()} == {value: 2 * value for value in ends}
    server.stop()
