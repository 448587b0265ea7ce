"""From the cache, or in the background: a model whose `[cache]` says `on_miss = "job"`."""

import json
import os
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from harness import BINARY, PATIENCE_S
from tritonclient.utils import InferenceServerException
from workers import FLAGS, model

SLOW = '''
import pathlib
import time

NOTES = pathlib.Path("@NOTES@")


class Slow:
    """Answers once the file `go` is there, except for what the warm-up asks; what begins is noted."""

    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}

    def predict(self, batch):
        if (abs(batch["x"]) < 1).all():
            return {"y": batch["x"]}
        with (NOTES / "begun").open("a") as file:
            file.write("\\n".join(str(int(x)) for x in batch["x"].ravel()) + "\\n")
        while not (NOTES / "go").exists():
            time.sleep(0.005)
        if (batch["x"] < 0).any():
            raise ValueError("negative")
        return {"y": batch["x"] * @FACTOR@}
'''


class Slow:
    """A model that answers when it is let go, and what was asked of it."""

    def __init__(self, folder):
        self.notes = folder / "notes"
        self.notes.mkdir()
        self.folder = folder / "slow"
        self.write()

    def write(self, version=1, factor=2, cache='on_miss = "job"\n'):
        code = SLOW.replace("@NOTES@", str(self.notes)).replace("@FACTOR@", str(factor))
        settings = f"version = {version}\n[instances]\ncount = 1\n[batching]\nmax_rows = 1\n[cache]\n{cache}"
        return model(self.folder, code, settings)

    def begun(self):
        file = self.notes / "begun"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def go(self):
        (self.notes / "go").touch()

    def hold(self):
        (self.notes / "go").unlink()


@pytest.fixture
def slow(tmp_path):
    made = Slow(tmp_path)
    yield made
    made.go()


@pytest.fixture
def serve(start, slow):
    def launch(*args, **options):
        return start(slow.folder, *FLAGS, *args, **options)

    return launch


def ask(server, value, path="/models/slow/predict", **options):
    return requests.post(f"{server.url}{path}", data=json.dumps({"x": [[value]]}), timeout=PATIENCE_S, **options)


def job_of(reply):
    """The id of the job that a question is left to."""
    assert reply.status_code == 202, f"{reply.status_code} {reply.text}"
    body = reply.json()
    assert set(body) == {"id", "status", "status_url"} and body["status_url"] == f"/api/v1/jobs/{body['id']}"
    assert (reply.headers["retry-after"], reply.headers["x-salver-cache"]) == ("1", "miss")
    return body["id"]


def answer_of(reply, cache="hit"):
    assert reply.status_code == 200, f"{reply.status_code} {reply.text}"
    assert reply.headers["x-salver-cache"] == cache
    return reply.json()["predictions"][0]["y"]


def ended(server, job):
    reply = requests.get(f"{server.url}/api/v1/jobs/{job}", params={"wait": "60s"}, timeout=PATIENCE_S + 10)
    assert reply.status_code == 200, reply.text
    assert reply.json()["status"] in ("done", "failed"), reply.text
    return reply.json()


def jobs(server):
    return [job["id"] for job in server.get("/api/v1/jobs").json()["jobs"]]


def manage(server, verb):
    assert requests.post(f"{server.url}/api/v1/jobs/queue/{verb}", timeout=PATIENCE_S).status_code == 200


def counted(server, result):
    line = f'salver_cache_requests_total{{model="slow",version="1",result="{result}"}} '
    return next(int(text.removeprefix(line)) for text in server.get("/metrics").text.splitlines() if text.startswith(line))


def test_a_question_is_a_job_first_and_answered_from_the_cache_afterwards(serve, slow):
    server = serve()
    first = ask(server, 5)
    job = job_of(first)
    assert first.json()["status"] == "queued" and first.headers["x-salver-model-version"] == "1"
    server.until(lambda: slow.begun() == [5], "begun")
    again = ask(server, 5)
    assert (job_of(again), again.json()["status"]) == (job, "running")
    slow.go()
    done = ended(server, job)
    assert (done["status"], done["result"]["predictions"]) == ("done", [{"y": 10.0}])
    assert answer_of(ask(server, 5)) == 10.0
    body = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [5]}]}
    other = requests.post(f"{server.url}/v2/models/slow/infer", json=body, timeout=PATIENCE_S)
    assert (other.status_code, other.json()["outputs"][0]["data"]) == (200, [10.0])
    assert slow.begun() == [5] and jobs(server) == [job]
    assert [counted(server, result) for result in ("deferred", "miss", "hit")] == [2, 1, 2]


def test_each_form_and_each_version_that_is_named_has_a_job_of_its_own(serve, slow):
    server = serve()
    body = {"id": "17", "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [6]}]}

    def of_protocol(path):
        return requests.post(f"{server.url}{path}", json=body, timeout=PATIENCE_S)

    plain = [job_of(ask(server, 6)), job_of(ask(server, 6, path="/models/slow/versions/1/predict"))]
    oip = [job_of(of_protocol(f"/v2/models/slow{version}/infer")) for version in ("", "/versions/1")]
    assert sorted(jobs(server)) == sorted({*plain, *oip}) and len(jobs(server)) == 4
    slow.go()
    for job in plain:
        assert ended(server, job)["result"]["predictions"] == [{"y": 12.0}]
    for job in oip:
        assert ended(server, job)["result"]["outputs"][0]["data"] == [12.0]
    answer = of_protocol("/v2/models/slow/infer")
    assert (answer.status_code, answer.json()["outputs"][0]["data"], answer.json()["id"]) == (200, [12.0], "17")
    assert slow.begun() == [6], "they share the computation"


def test_many_who_ask_the_same_at_once_get_the_same_job(serve, slow):
    server = serve()
    bodies = ['{"x": [[3]]}', '{ "x" : [ [3.0] ] }', "[[3]]"]

    def one(number):
        url = f"{server.url}/models/slow/predict"
        return job_of(requests.post(url, data=bodies[number % len(bodies)], timeout=PATIENCE_S))

    with ThreadPoolExecutor(20) as threads:
        ids = set(threads.map(one, range(100)))
    assert len(ids) == 1
    other = job_of(ask(server, 4))
    assert other not in ids and set(jobs(server)) == ids | {other}
    slow.go()
    for job in [*ids, other]:
        ended(server, job)
    assert (answer_of(ask(server, 3)), answer_of(ask(server, 4))) == (6.0, 8.0)
    assert sorted(slow.begun()) == [3, 4]


def test_a_new_version_answers_for_itself(serve, slow):
    server = serve("--model-control", "explicit", "--load-model", "slow")
    slow.go()
    ended(server, job_of(ask(server, 5)))
    assert answer_of(ask(server, 5)) == 10.0
    manage(server, "pause")
    waiting = job_of(ask(server, 7))
    slow.write(version=2, factor=3)
    loaded = requests.post(f"{server.url}/v2/repository/models/slow/load", json={}, timeout=PATIENCE_S)
    assert loaded.status_code == 200, loaded.text
    fives, sevens = job_of(ask(server, 5)), job_of(ask(server, 7))
    assert sevens != waiting
    manage(server, "resume")
    for job in (fives, sevens, waiting):
        assert ended(server, job)["status"] == "done"
    assert (answer_of(ask(server, 5)), answer_of(ask(server, 7))) == (15.0, 21.0)


def test_a_restart_keeps_the_jobs_and_computes_anew_what_the_memory_held(serve, slow, tmp_path):
    data = ("--data", tmp_path / "data")
    server = serve(*data)
    slow.go()
    done = job_of(ask(server, 5))
    ended(server, done)
    assert answer_of(ask(server, 5)) == 10.0
    manage(server, "pause")
    waiting = job_of(ask(server, 6))
    server.stop()
    server = serve(*data)
    assert job_of(ask(server, 6)) == waiting
    manage(server, "resume")
    ended(server, waiting)
    assert answer_of(ask(server, 6)) == 12.0
    # The job that is done is handed out for a moment; then there is another one.
    seen = []

    def is_answered():
        reply = ask(server, 5)
        if reply.status_code == 202:
            seen.append(job_of(reply))
        return reply.status_code == 200

    server.until(is_answered, "answered")
    assert answer_of(ask(server, 5)) == 10.0
    assert seen[-1] != done and slow.begun() == [5, 6, 5] and len(set(jobs(server))) == 3


def test_an_answer_that_was_purged_is_computed_again(serve, slow):
    server = serve()
    slow.go()
    ended(server, job_of(ask(server, 5)))
    assert requests.delete(f"{server.url}/api/v1/models/slow/cache", timeout=PATIENCE_S).status_code == 200
    asked = ask(server, 5)
    assert (job_of(asked), asked.json()["status"]) == (jobs(server)[0], "done")
    server.until(lambda: ask(server, 5).status_code == 200, "answered")
    assert slow.begun() == [5, 5]


def test_a_failure_is_handed_out_and_not_computed_again_and_again(serve, slow):
    server = serve()
    slow.go()
    job = job_of(ask(server, -3))
    failed = ended(server, job)
    assert failed["status"] == "failed" and "negative" in failed["reason"]
    runs = slow.begun()
    for _ in range(20):
        again = ask(server, -3)
        assert (job_of(again), again.json()["status"]) == (job, "failed")
    assert slow.begun() == runs
    ended(server, job_of(ask(server, 3)))
    assert answer_of(ask(server, 3)) == 6.0
    purged = requests.post(f"{server.url}/api/v1/jobs/purge", params={"status": "failed"}, timeout=PATIENCE_S)
    assert purged.json() == {"purged": 1}
    assert job_of(ask(server, -3)) != job


def test_a_job_that_was_cancelled_is_nobodys_answer(serve, slow):
    server = serve()
    manage(server, "pause")
    job = job_of(ask(server, 5))
    assert requests.delete(f"{server.url}/api/v1/jobs/{job}", timeout=PATIENCE_S).status_code == 200
    other = job_of(ask(server, 5))
    assert other != job
    slow.go()
    manage(server, "resume")
    ended(server, other)
    assert answer_of(ask(server, 5)) == 10.0


def test_no_caller_can_take_a_question_over(serve, slow):
    server = serve()
    manage(server, "pause")
    job = job_of(ask(server, 5))
    own = requests.post(f"{server.url}/models/slow/jobs", data='{"x": [[5]]}', timeout=PATIENCE_S)
    assert own.status_code == 202 and own.json()["id"] != job


def test_what_passes_the_cache_by_is_computed_at_once(serve, slow):
    slow.go()
    server = serve()
    assert answer_of(ask(server, 5, headers={"x-salver-cache": "bypass"}), "bypass") == 10.0
    assert answer_of(ask(server, 6, headers={"cache-control": "no-cache"}), "miss") == 12.0
    assert answer_of(ask(server, 6)) == 12.0
    assert jobs(server) == []


def test_protocols_without_a_202_compute(serve, slow):
    slow.go()
    server = serve()
    wanted = triton_grpc.InferInput("x", [1, 1], "FP32")
    wanted.set_data_from_numpy(np.array([[5]], np.float32))
    with triton_grpc.InferenceServerClient(server.grpc) as client:
        assert client.infer("slow", [wanted]).as_numpy("y").tolist() == [[10.0]]
    scored = requests.post(f"{server.url}/v1/models/slow:predict", json={"instances": [[6]]}, timeout=PATIENCE_S)
    assert scored.json() == {"predictions": [[12.0]]}
    assert jobs(server) == []
    assert (answer_of(ask(server, 5)), answer_of(ask(server, 6))) == (10.0, 12.0)


def test_bad_requests_are_refused_and_make_no_jobs(serve):
    server = serve()
    url = f"{server.url}/models/slow/predict"
    for body in ("{", '{"x": [["a"]]}', '{"x": [[1, 2]]}', '{"z": [[1]]}'):
        assert requests.post(url, data=body, timeout=PATIENCE_S).status_code == 400, body
    assert ask(server, 1, path="/models/slow/versions/9/predict").status_code == 404
    manage(server, "drain")
    assert ask(server, 5).status_code == 503
    assert jobs(server) == []


@pytest.mark.parametrize("flags, reason", [
    (["--jobs=false"], "--jobs=false"), (["--cache-bytes", "0"], "--cache-bytes"), (["--job-workers", "0"], "--cache-redis"),
])
def test_settings_without_which_it_cannot_work_are_named(serve, flags, reason):
    server = serve(*flags, ready=False)

    def listed():
        return [model["reason"] or "" for model in server.get("/models").json()["models"] if model["state"] == "failed"]

    server.until(listed, "refused")
    assert 'on_miss = "job"' in listed()[0] and reason in listed()[0]


@pytest.fixture
def redis(tmp_path):
    if not shutil.which("redis-server"):
        assert os.environ.get("SALVER_REQUIRE_SERVICES") != "1", "redis-server is not there"
        pytest.skip("redis-server is not there")
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE_S
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None and time.monotonic() < end, "redis-server does not start"
            time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def test_a_worker_elsewhere_fills_the_cache_of_servers_through_redis(serve, slow, redis, tmp_path):
    shared = ("--cache-redis", redis, "--data", tmp_path / "data")
    servers = [serve(*shared, "--job-workers", "0") for _ in range(2)]
    job = job_of(ask(servers[0], 5))
    assert job_of(ask(servers[1], 5)) == job
    serve(*shared, verb="worker")
    slow.go()
    assert ended(servers[1], job)["status"] == "done"
    for server in servers:
        server.until(lambda server=server: ask(server, 5).status_code == 200, "answered")
        assert answer_of(ask(server, 5)) == 10.0
    assert slow.begun() == [5] and counted(servers[0], "shared") == 1


def salver(server, *words):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SALVER_")}
    command = [BINARY, *words, "--server", server.url]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)


def test_the_command_line_shows_the_job_or_waits_for_it(serve, slow):
    server = serve()
    shown = salver(server, "predict", "slow", "-i", "[[5]]")
    (job,) = jobs(server)
    assert shown.returncode == 0 and f"salver jobs wait {job}" in shown.stdout, shown
    told = salver(server, "predict", "slow", "-i", "[[5]]", "--json")
    assert json.loads(told.stdout)["id"] == job
    slow.go()
    waited = salver(server, "predict", "slow", "-i", "[[5]]", "--json", "--wait")
    assert json.loads(waited.stdout)["predictions"] == [{"y": 10.0}], waited
    assert json.loads(salver(server, "predict", "slow", "-i", "[[5]]", "--json").stdout)["predictions"] == [{"y": 10.0}]


def test_clients_of_triton_are_told_to_ask_again(serve, slow):
    server = serve()
    wanted = triton_http.InferInput("x", [1, 1], "FP32")
    wanted.set_data_from_numpy(np.array([[5]], np.float32))
    with triton_http.InferenceServerClient(server.http) as client:
        with pytest.raises(InferenceServerException):
            client.infer("slow", [wanted]).as_numpy("y")
        slow.go()
        ended(server, jobs(server)[0])
        assert client.infer("slow", [wanted]).as_numpy("y").tolist() == [[10.0]]
