"""Models in Python under load: what a worker that misbehaves costs, and that nothing of it stays.

`SALVER_WORKER_KILLS` says how many workers are killed (the promise is held with 1,000).
"""

import os
import subprocess

import pytest
from harness import BINARY, DEMO, Server
from workers import (
    BABBLE, CHILD, ECHO, EXIT, FLAGS, FORK, HANG, KILLED, PRINT, RAISE, REFUSE, SCRIBBLE, SEGFAULT, TROUBLE, WRONG,
    Load, children, eventually, in_groups, kill, model, open_files, workers,
)  # fmt: skip

KILLS = int(os.environ.get("SALVER_WORKER_KILLS", "25"))
CALLERS = 4


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("python")
    trouble = model(folder / "trouble", TROUBLE, "[instances]\ncount = 2\nrun_timeout_ms = 1000\n")
    calm = model(folder / "calm", ECHO)
    return start(trouble, calm, DEMO / "iris", *FLAGS, "--log-level", "info,salver_engine_python=warn")


def wish(server: Server, what: int):
    return server.post("/models/trouble/predict", {"x": [[float(what), 0.0]]})


def models(server: Server, *arguments: str) -> str:
    done = subprocess.run([BINARY, "models", *arguments, "--server", server.url], capture_output=True, text=True)
    return done.stdout + done.stderr


# What is asked for, the status of who asked, words of the answer, whether the worker ends.
FAULTS = {
    "raises": (RAISE, 500, "predict raised RuntimeError: asked to", False),
    "refuses": (REFUSE, 400, "x must not be -2", False),
    "exits": (EXIT, 503, "exited with status 3", True),
    "is killed": (KILLED, 503, "was killed", True),
    "crashes": (SEGFAULT, 503, "crashed (signal 11", True),
    "hangs": (HANG, 500, "did not come back within 1000 ms", True),
    "prints": (PRINT, 200, "", False),
    "scribbles": (SCRIBBLE, 200, "", False),
    "forks": (FORK, 200, "", False),
    "leaves a child": (CHILD, 200, "", False),
    "answers wrongly": (WRONG, 500, "expected FP32", False),
    "sends nonsense": (BABBLE, 503, "makes no sense", True),
}


@pytest.mark.announced_errors("did not come back", "predict raised")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_its_own_batch_and_nothing_else(server, fault):
    what, status, words, ends = FAULTS[fault]
    groups = set(workers(server))
    with Load(server, ("trouble", "calm"), CALLERS) as load:
        response = wish(server, what)
        assert response.status_code == status, response.text
        assert words in response.text
        load.goes_on(50)
        # Who shared the batch may have to ask again; nobody else notices anything.
        beside = load.take_failures("trouble")
        assert len(beside) <= (CALLERS if ends else 0), beside
        assert all(status in (500, 503) for status, _ in beside), beside
        assert load.take_failures("calm") == []
    eventually(lambda: len(workers(server)) == 3, "two workers of trouble and one of calm")
    if ends:
        gone = groups - set(workers(server))
        assert len(gone) == 1
        eventually(lambda: not in_groups(gone), "the end of all that the worker started")


@pytest.mark.announced_errors("unavailable", "did not come back", "instance")
def test_a_crash_loop_makes_a_model_unavailable_with_its_reason_and_leaves_others_alone(server):
    with Load(server, ("calm",), CALLERS) as load:

        def is_given_up():
            response = wish(server, KILLED)
            return response.status_code == 503 and "in a row" in response.text

        eventually(is_given_up, "given up")
        assert server.get("/v2/models/trouble/ready").status_code != 200
        index = {entry["name"]: entry for entry in server.post("/v2/repository/index", {}).json()}
        assert index["trouble"]["state"] == "UNAVAILABLE" and "was killed" in index["trouble"]["reason"]
        assert "was killed" in models(server, "show", "trouble")
        assert index["iris"]["state"] == index["calm"]["state"] == "READY"
        # It comes back by itself.
        eventually(lambda: server.get("/v2/models/trouble/ready").status_code == 200, "back")
        eventually(lambda: wish(server, 1).status_code == 200, "answers again")
        load.goes_on()
        assert load.take_failures("calm") == []


def test_nothing_stays_of_killed_workers(server):
    # Memory for a batch is taken at its first use.
    with Load(server, ("trouble", "calm"), CALLERS) as load:
        load.goes_on()
    eventually(lambda: len(workers(server)) == 3, "all workers are there")
    files, groups = len(open_files(server)), set(workers(server))
    with Load(server, ("trouble", "calm"), CALLERS) as load:
        for _ in range(KILLS):
            before = workers(server)
            kill(before[0])
            eventually(lambda: len(set(workers(server)) - set(before)) == 1, "another worker")
            load.goes_on(10)
            groups |= set(workers(server))
        failures = load.take_failures("trouble") + load.take_failures("calm")
    assert len(groups) == KILLS + 3
    # Only what a worker held at that moment was lost, and could be asked again.
    assert len(failures) <= KILLS * CALLERS
    assert not [failure for failure in failures if failure[0] != 503], failures
    eventually(lambda: not in_groups(groups - set(workers(server))), "the end of all that they started")
    eventually(lambda: children(server, "Z") == [], "nothing left to wait for")
    eventually(lambda: len(open_files(server)) <= files + 2, f"{files} files as before: {open_files(server)}")


def test_an_unloaded_model_leaves_no_process(start, tmp_path):
    server = start(
        model(tmp_path / "m", ECHO, "[instances]\ncount = 3\n"), *FLAGS, "--model-control", "explicit", "--load-model", "m"
    )
    eventually(lambda: len(workers(server)) == 3, "three workers")
    assert server.post("/v2/repository/models/m/unload", {}).status_code == 200
    eventually(lambda: children(server) == [], "no children")
    assert server.post("/v2/repository/models/m/load", {}).status_code == 200
    assert server.post("/models/m/predict", {"x": [[1, 2]]}).status_code == 200


def test_workers_end_with_a_server_that_is_killed(tmp_path):
    sleep = 'time.sleep(600 if batch["x"][0, 0] == 7 else 0)\n        return batch["x"]'
    busy = "import time\n" + ECHO.replace('return batch["x"]', sleep)
    server = Server(tmp_path / "server", model(tmp_path / "m", busy), *FLAGS)
    with server.connect() as connection:
        body = b'{"x": [[7, 2]]}'
        connection.sendall(b"POST /models/m/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        pids = workers(server)
        assert len(pids) == 1
        server.process.kill()
        server.wait()
    eventually(lambda: not in_groups(set(pids)), "the end of the worker")


def test_a_server_stops_while_a_worker_that_hangs_is_being_started(start, tmp_path):
    flag = tmp_path / "hang"
    load = f"""
    def load(self):
        import os, time
        while os.path.exists({str(flag)!r}):
            time.sleep(0.1)
"""
    server = start(model(tmp_path / "m", ECHO + load), *FLAGS)
    flag.touch()
    (before,) = workers(server)
    kill(before)
    eventually(lambda: workers(server) not in ([], [before]), "another one, which hangs")
    server.stop()


def test_changed_code_is_picked_up_without_dropping_a_request(start, tmp_path):
    doubled = ECHO.replace('return batch["x"]', 'return batch["x"] * 1  # the same')
    server = start(model(tmp_path / "m", ECHO), *FLAGS, "--reload")
    pids = set(workers(server))
    with Load(server, ("m",), CALLERS) as load:
        for code in (doubled, ECHO):
            (tmp_path / "m" / "model.py").write_text(code)
            eventually(lambda: workers(server) and not pids & set(workers(server)), "a new worker instead of the old")
            pids = set(workers(server))
            load.goes_on()
        assert load.take_failures("m") == []


@pytest.mark.announced_errors("model failed to load")
def test_why_a_model_does_not_start_is_shown_and_a_fixed_one_serves(start, tmp_path):
    folder = model(tmp_path / "m", "import no_such_package\n" + ECHO)
    server = start(folder, *FLAGS, "--reload", ready=False)
    eventually(lambda: "no_such_package" in models(server, "show", "m"), "the reason")
    shown = models(server, "show", "m")
    assert "ModuleNotFoundError: No module named 'no_such_package'" in shown and "line 1" in shown
    assert server.get("/v2/health/ready").status_code != 200
    (folder / "model.py").write_text(ECHO)
    eventually(lambda: server.post("/models/m/predict", {"x": [[1, 2]]}).status_code == 200, "serving")


@pytest.mark.announced_errors("model failed to load")
def test_without_allow_python_the_reason_says_what_to_do(start, tmp_path):
    server = start(model(tmp_path / "m", ECHO), ready=False)
    eventually(lambda: "--allow-python" in models(server, "show", "m"), "the reason")
    assert workers(server) == []



def test_a_memory_limit_counts_the_workers(start, tmp_path):
    held = "\n    def load(self):\n        self.held = bytearray(b'x') * (150 << 20)\n"
    for name in ("a", "b", "c"):
        model(tmp_path / "models" / name, ECHO + held)
    server = start(tmp_path / "models", *FLAGS, "--memory-limit", "500MB")
    for name in ("a", "b", "c", "a"):
        answer = server.post(f"/models/{name}/predict", {"x": [[1, 2]]})
        assert answer.status_code == 200, answer.text
        # Two of them fit, three do not.
        assert 1 <= len(workers(server)) <= 2
    loaded = {row["name"] for row in server.get("/api/v1/models").json()["models"] if row["state"] == "ready"}
    assert "a" in loaded and "b" not in loaded
