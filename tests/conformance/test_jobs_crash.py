"""Jobs survive: servers and workers are killed at random, and every job ends once with its right answer."""

import json
import os
import random
import threading
import time

import pytest
import requests
from harness import MODELS, PATIENCE_S, Server

JOBS = int(os.environ.get("SALVER_JOB_CRASH_JOBS", 300))
KILLS = int(os.environ.get("SALVER_JOB_CRASH_KILLS", 6))
SEED = int(os.environ.get("SALVER_CRASH_SEED", 16))
MODEL = MODELS / "tfserving" / "half_plus_two"


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def queue(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite://{tmp_path / 'jobs.db'}"
    if request.param == "postgres":
        return request.getfixturevalue("postgres").database()
    return request.getfixturevalue("redis").queue()


class Fleet:
    """A server that takes jobs in and workers that share its queue; any of them may be killed."""

    def __init__(self, folder, queue, workers):
        self.folder, self.queue = folder, queue
        self.command = [["serve", "--job-workers", "0"]] + [["worker"]] * workers
        self.running = [None] * len(self.command)
        for place in range(len(self.command)):
            self.begin(place)

    def begin(self, place):
        verb, *more = self.command[place]
        self.running[place] = Server(
            self.folder / str(place), MODEL, "--queue", self.queue, "--job-lease-ms", "1500", *more, verb=verb
        )

    def kill(self, place):
        server = self.running[place]
        server.kill()
        self.begin(place)

    @property
    def url(self):
        return self.running[0].url

    def stop(self):
        for server in self.running:
            server.stop()


def ask(fleet, method, path, **options):
    """Asks until the server answers: it may be killed meanwhile, and comes back elsewhere."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            reply = requests.request(method, f"{fleet.url}{path}", timeout=5, **options)
            if reply.status_code != 503:
                return reply
        except requests.RequestException:
            pass
        assert time.monotonic() < end, f"{method} {path} was never answered"
        time.sleep(0.02)


@pytest.mark.timeout(1800)
def test_every_job_ends_once_whoever_is_killed(queue, tmp_path):
    fleet = Fleet(tmp_path, queue, workers=3)
    every_job_ends_once(fleet, [lambda place=place: fleet.kill(place) for place in range(len(fleet.command))])


@pytest.mark.timeout(1800)
def test_every_job_ends_once_where_redis_is_killed_too(redis, tmp_path):
    fleet = Fleet(tmp_path, redis.queue(), workers=3)

    def kill_redis():
        redis.kill()
        # Somebody asks meanwhile, and is told that it is not there.
        reply = requests.get(f"{fleet.url}/api/v1/jobs/queue", timeout=PATIENCE_S)
        assert reply.status_code == 503, reply.text
        redis.start()

    every_job_ends_once(fleet, [kill_redis, kill_redis, lambda: fleet.kill(0), lambda: fleet.kill(1)])


def every_job_ends_once(fleet, kills):
    random_kills = random.Random(SEED)
    expected, over = {}, threading.Event()

    def submit():
        for number in range(JOBS):
            # A repeated submission is the same job, also where the first answer got lost.
            reply = ask(
                fleet, "POST", "/models/half_plus_two/jobs", data=json.dumps({"x": [float(number)]}),
                headers={"Idempotency-Key": f"job-{number}"}, params={"retries": 100},
            )
            assert reply.status_code == 202, reply.text
            expected[reply.json()["id"]] = number / 2 + 3
        over.set()

    submitter = threading.Thread(target=submit)
    submitter.start()
    killed = 0
    while killed < KILLS or not over.is_set():
        # So many have ended between two kills, so that both happen at every stage.
        before = done(fleet)
        until(lambda: done(fleet) >= min(before + 5, JOBS) or over.is_set())
        if killed < KILLS:
            random_kills.choice(kills)()
            killed += 1
    submitter.join(PATIENCE_S)
    assert len(expected) == JOBS, "each submission made one job"
    for job, value in expected.items():
        end = time.monotonic() + 4 * PATIENCE_S
        status = {}
        while status.get("status") != "done":
            assert time.monotonic() < end, status
            status = ask(fleet, "GET", f"/api/v1/jobs/{job}", params={"wait": "2s"}).json()
            assert status["status"] in ("queued", "running", "done"), status
        assert list(status["result"].values())[-1] == [value] or value in flat(status["result"]), status
        assert sum(event["text"].startswith("done") for event in status["history"]) == 1, status["history"]
    stats = ask(fleet, "GET", "/api/v1/jobs/queue").json()
    assert (stats["queued"], stats["running"], stats["dead"]) == (0, 0, 0)
    fleet.stop()


def flat(value):
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in flat(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in flat(inner)]
    return [value]


def done(fleet):
    page = ask(fleet, "GET", "/api/v1/jobs", params={"status": "done", "limit": 1000}).json()
    return len(page["jobs"])


def until(condition):
    end = time.monotonic() + 4 * PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
