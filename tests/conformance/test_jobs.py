"""Jobs: submitted with the bodies of predictions, worked on beside the server, asked for by their id."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import tritonclient.http as triton
from harness import MODELS, PATIENCE_S
from workers import FLAGS, model

HELD = '''
import pathlib
import time

HERE = pathlib.Path(__file__).parent


class Held:
    """Answers once the file `go` is there, except for what the warm-up asks; what begins is noted."""

    inputs = {"x": ("FP32", [-1, 1])}
    outputs = {"y": ("FP32", [-1, 1])}

    def predict(self, batch):
        if (abs(batch["x"]) < 1).all():
            return {"y": batch["x"]}
        with (HERE / "begun").open("a") as file:
            file.write("\\n".join(str(int(x)) for x in batch["x"].ravel()) + "\\n")
        while not (HERE / "go").exists():
            time.sleep(0.005)
        if (batch["x"] < 0).any():
            raise ValueError("negative")
        return {"y": batch["x"] * 2}
'''


@pytest.fixture(scope="module")
def server(start):
    return start(MODELS / "tfserving" / "half_plus_two", MODELS / "triton" / "identity_fp32", MODELS / "sklearn" / "iris_ml.onnx")


class Held:
    """A model that answers when it is let go, and its server."""

    def __init__(self, start, folder, *args):
        self.folder = model(folder / "held", HELD, "[instances]\ncount = 1\n[batching]\nmax_rows = 1\n")
        self.server = start(self.folder, *FLAGS, *args)

    def begun(self):
        file = self.folder / "begun"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def go(self):
        (self.folder / "go").touch()

    def submit(self, value, **query):
        return submit(self.server, "held", {"x": [[value]]}, **query)


@pytest.fixture
def held(start, tmp_path):
    made = []

    def make(*args):
        made.append(Held(start, tmp_path, *args))
        return made[-1]

    yield make
    for one in made:
        one.go()


def post(server, path, body, **options):
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return requests.post(f"{server.url}{path}", data=data, timeout=PATIENCE_S, **options)


def submit(server, name, body, headers=None, **query):
    reply = post(server, f"/models/{name}/jobs", body, params=query, headers=headers)
    assert reply.status_code == 202, reply.text
    assert reply.json()["status_url"] == f"/api/v1/jobs/{reply.json()['id']}"
    return reply.json()["id"]


def status(server, job, **query):
    return requests.get(f"{server.url}/api/v1/jobs/{job}", params=query, timeout=PATIENCE_S)


def ended(server, job):
    reply = status(server, job, wait="60s")
    assert reply.status_code == 200, reply.text
    assert reply.json()["status"] in ("done", "failed", "cancelled"), reply.text
    return reply.json()


def test_a_job_answers_what_a_prediction_answers(server):
    body = {"x": [1.0, 2.0, 5.0]}
    job = ended(server, submit(server, "half_plus_two", body))
    direct = post(server, "/models/half_plus_two/predict", body)
    assert (job["status"], job["result"]) == ("done", direct.json())
    assert (job["progress"], job["attempts"], job["model"]) == ({"done": 1, "total": 1}, 1, "half_plus_two")
    assert job["created_ms"] <= job["started_ms"] <= job["ended_ms"] < job["expires_ms"]
    assert [event["text"].split()[0] for event in job["history"]][0] == "submitted"
    reply = requests.get(f"{server.url}{job['result_url']}", timeout=PATIENCE_S)
    assert (reply.content, reply.headers["content-type"]) == (direct.content, direct.headers["content-type"])


def test_a_version_and_the_open_inference_protocol(server):
    body = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}
    for path in ("/v2/models/half_plus_two/jobs", "/v2/models/half_plus_two/versions/2/jobs"):
        reply = post(server, path, body)
        assert reply.status_code == 202, reply.text
        result = ended(server, reply.json()["id"])["result"]
        assert (result["model_version"], result["outputs"][0]["data"]) == ("2", [3.5, 4.0])
    assert post(server, "/models/half_plus_two/versions/2/jobs", {"x": [1]}).status_code == 202


def test_tensors_as_bytes_come_back_as_bytes(server):
    value = np.arange(16, dtype=np.float32).reshape(1, 16)
    given = triton.InferInput("INPUT0", value.shape, "FP32").set_data_from_numpy(value)
    body, header_len = triton.InferenceServerClient.generate_request_body([given])
    reply = post(server, "/v2/models/identity_fp32/jobs", bytes(body), headers={"Inference-Header-Content-Length": str(header_len)})
    job = ended(server, reply.json()["id"])
    assert "result" not in job
    reply = requests.get(f"{server.url}{job['result_url']}", timeout=PATIENCE_S)
    length = int(reply.headers["inference-header-content-length"])
    result = triton.InferenceServerClient.parse_response_body(reply.content, header_length=length)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), value)


def test_many_requests_in_one_job_are_answered_in_their_order(server):
    lines = "\n".join(json.dumps({"x": [float(number)]}) for number in range(200))
    job = submit(server, "half_plus_two", lines, headers={"Content-Type": "application/x-ndjson"})
    assert ended(server, job)["progress"] == {"done": 200, "total": 200}
    reply = requests.get(f"{server.url}/api/v1/jobs/{job}/result", timeout=PATIENCE_S)
    assert reply.headers["content-type"] == "application/x-ndjson"
    answers = [json.loads(line) for line in reply.text.splitlines()]
    single = post(server, "/models/half_plus_two/predict", {"x": [7.0]}).json()
    assert len(answers) == 200 and answers[7] == single


@pytest.mark.parametrize(
    ("path", "body", "headers", "code", "text"),
    [
        ("/models/nobody/jobs", {"x": [1]}, {}, 404, "nobody"),
        ("/models/half_plus_two/versions/9/jobs", {"x": [1]}, {}, 404, "9"),
        ("/models/half_plus_two/jobs", "{", {}, 400, ""),
        ("/models/half_plus_two/jobs", {"y": [1]}, {}, 400, "x"),
        ("/models/half_plus_two/jobs", "", {"Content-Type": "application/x-ndjson"}, 400, "line"),
        ("/models/half_plus_two/jobs", '{"x":[1]}\n{"z":[1]}', {"Content-Type": "application/x-ndjson"}, 400, "request 2"),
        ("/models/half_plus_two/jobs?priority=0", {"x": [1]}, {}, 400, "priority"),
        ("/models/half_plus_two/jobs?delay=soon", {"x": [1]}, {}, 400, "delay"),
        ("/models/half_plus_two/jobs?time_limit=2days", {"x": [1]}, {}, 400, "time_limit"),
        ("/models/half_plus_two/jobs?prioritty=1", {"x": [1]}, {}, 400, "prioritty"),
        ("/models/half_plus_two/jobs", {"x": [1]}, {"Idempotency-Key": "k" * 300}, 400, "Idempotency-Key"),
    ],
)
def test_what_is_wrong_is_refused_at_once(server, path, body, headers, code, text):
    reply = post(server, path, body, headers=headers)
    assert reply.status_code == code, reply.text
    assert text in reply.text


def test_what_is_not_there_is_404(server):
    for job in ("0" * 32, "nonsense", "0" * 31 + "%2F"):
        assert status(server, job).status_code == 404
    assert requests.delete(f"{server.url}/api/v1/jobs/{'0' * 32}", timeout=PATIENCE_S).status_code == 404
    assert requests.get(f"{server.url}/api/v1/jobs/{'0' * 32}/result", timeout=PATIENCE_S).status_code == 404


def test_a_hundred_submissions_with_one_key_are_one_job(server):
    key = {"Idempotency-Key": "the only one"}
    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(lambda _: submit(server, "half_plus_two", {"x": [3.0]}, headers=key), range(100)))
    assert len(ids) == 1
    reply = post(server, "/models/half_plus_two/jobs", {"x": [4.0]}, headers=key)
    assert reply.status_code == 422 and ids.pop() in reply.text


def test_a_status_is_waited_for(held):
    held = held()
    job = held.submit(1)
    assert status(held.server, job, wait="50ms").json()["status"] in ("queued", "running")
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(status(held.server, job, wait="60s").json()))
    waiting.start()
    held.go()
    waiting.join(PATIENCE_S)
    assert (answers[0]["status"], answers[0]["result"]) == ("done", ended(held.server, job)["result"])


def test_the_first_priority_goes_first_and_a_scheduled_job_waits(held):
    held = held("--job-workers", "1")
    first = held.submit(1)
    held.server.until(lambda: held.begun() == [1], "busy")
    later = held.submit(9, delay="1h")
    jobs = [held.submit(2, priority=9), held.submit(3), held.submit(4, priority=1), held.submit(5, priority=1)]
    held.go()
    for job in [first, *jobs]:
        assert ended(held.server, job)["status"] == "done"
    assert held.begun() == [1, 4, 5, 3, 2]
    scheduled = status(held.server, later).json()
    assert scheduled["status"] == "queued" and scheduled["not_before_ms"] > scheduled["created_ms"]
    due = held.submit(6, delay="100ms")
    assert ended(held.server, due)["status"] == "done"


def test_a_job_is_cancelled_before_it_runs_and_while_it_does(held):
    held = held("--job-workers", "1", "--job-lease-ms", "1000")
    running = held.submit(1)
    held.server.until(lambda: held.begun() == [1], "busy")
    waiting = held.submit(2)
    for job in (waiting, running):
        reply = requests.delete(f"{held.server.url}/api/v1/jobs/{job}", timeout=PATIENCE_S)
        assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
        assert requests.get(f"{held.server.url}/api/v1/jobs/{job}/result", timeout=PATIENCE_S).status_code == 409
    held.go()
    done = held.submit(3)
    assert ended(held.server, done)["status"] == "done"
    assert 2 not in held.begun()
    assert requests.delete(f"{held.server.url}/api/v1/jobs/{done}", timeout=PATIENCE_S).status_code == 409
    assert status(held.server, running).json()["status"] == "cancelled"


@pytest.mark.announced_errors("negative", "request failed")
def test_trouble_is_tried_again_and_told(held):
    held = held()
    held.go()
    job = ended(held.server, held.submit(-1, retries=1))
    # A ValueError may be the model's fault as well as the caller's.
    assert job["status"] == "failed" and "negative" in job["reason"]
    reply = requests.post(f"{held.server.url}/api/v1/jobs/{job['id']}/replay", timeout=PATIENCE_S)
    assert reply.status_code == 202 and reply.json()["replay_of"] == job["id"]
    assert ended(held.server, reply.json()["id"])["status"] == "failed"
    done = held.submit(1)
    ended(held.server, done)
    assert requests.post(f"{held.server.url}/api/v1/jobs/{done}/replay", timeout=PATIENCE_S).status_code == 409


def test_a_time_limit_ends_a_run(held):
    held = held()
    job = ended(held.server, held.submit(1, time_limit="100ms", retries=0))
    assert job["status"] == "failed" and "time" in job["reason"]


def test_progress_is_told_as_events(held):
    held = held("--job-lease-ms", "1000")
    lines = "\n".join(json.dumps({"x": [[float(number)]]}) for number in range(1, 4))
    job = submit(held.server, "held", lines, headers={"Content-Type": "application/x-ndjson"})
    with requests.get(f"{held.server.url}/api/v1/jobs/{job}/events", stream=True, timeout=PATIENCE_S) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = []
        for line in reply.iter_lines(decode_unicode=True):
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
                held.go()
    assert events[-1]["status"] == "done" and events[-1]["progress"] == {"done": 3, "total": 3}
    assert len(events) > 1


def test_results_expire_and_say_so(server):
    job = submit(server, "half_plus_two", {"x": [1.0]}, result_ttl="1ms")
    ended_at = status(server, job, wait="60s")
    server.until(lambda: status(server, job).status_code == 410, "expired")
    assert ended_at.status_code in (200, 410)
    for path in (f"/api/v1/jobs/{job}", f"/api/v1/jobs/{job}/result"):
        reply = requests.get(f"{server.url}{path}", timeout=PATIENCE_S)
        assert reply.status_code == 410 and "expired" in reply.text


def test_what_is_kept_for_no_day_is_forgotten_when_its_answer_goes(start):
    server = start(MODELS / "tfserving" / "half_plus_two", "--job-keep-days", "0")
    job = submit(server, "half_plus_two", {"x": [1.0]}, result_ttl="1ms")
    server.until(lambda: status(server, job).status_code == 404, "forgotten")
    kept = submit(server, "half_plus_two", {"x": [1.0]})
    assert ended(server, kept)["status"] == "done"


def test_jobs_are_listed_in_pages_and_removed(held):
    held = held("--job-workers", "1")
    ids = [held.submit(number) for number in range(1, 6)]

    def listed(**query):
        return requests.get(f"{held.server.url}/api/v1/jobs", params=query, timeout=PATIENCE_S).json()

    page = listed(limit=2)
    seen = [job["id"] for job in page["jobs"]]
    while page["next_page_token"]:
        page = listed(limit=2, page_token=page["next_page_token"])
        seen += [job["id"] for job in page["jobs"]]
    assert seen == ids[::-1]
    held.go()
    for job in ids:
        ended(held.server, job)
    assert {job["id"] for job in listed(status="done")["jobs"]} == set(ids)
    assert listed(status="failed,dead")["jobs"] == [] and listed(model="other")["jobs"] == []
    refused = requests.post(f"{held.server.url}/api/v1/jobs/purge", params={"status": "running"}, timeout=PATIENCE_S)
    assert refused.status_code == 400
    purged = requests.post(f"{held.server.url}/api/v1/jobs/purge", params={"status": "done"}, timeout=PATIENCE_S)
    assert purged.json() == {"purged": 5} and status(held.server, ids[0]).status_code == 404


def test_the_queue_is_paused_drained_and_opened(held):
    held = held()
    held.go()

    def gate(verb):
        return requests.post(f"{held.server.url}/api/v1/jobs/queue/{verb}", timeout=PATIENCE_S)

    assert gate("pause").json()["gate"] == "paused"
    job = held.submit(1)
    assert status(held.server, job, wait="300ms").json()["status"] == "queued"
    assert gate("resume").json()["gate"] == "open"
    assert ended(held.server, job)["status"] == "done"
    gate("drain")
    assert post(held.server, "/models/held/jobs", {"x": [[1]]}).status_code == 503
    gate("resume")
    assert ended(held.server, held.submit(2))["status"] == "done"
    assert gate("open-sesame").status_code == 400


def test_more_than_may_wait_is_refused(held):
    held = held("--job-workers", "1", "--max-jobs", "3")
    for number in range(1, 4):
        held.submit(number)
    refused = post(held.server, "/models/held/jobs", {"x": [[9]]})
    assert refused.status_code == 429 and "retry-after" in refused.headers


def test_figures_are_shown(held):
    held = held("--job-workers", "1")
    first, _ = held.submit(1), held.submit(2)

    def shown():
        text = held.server.get("/metrics").text
        return 'salver_jobs{state="queued"} 1' in text and 'salver_jobs{state="running"} 1' in text

    held.server.until(shown, "counted")
    held.go()
    ended(held.server, first)
    held.server.until(lambda: 'salver_job_runs_total{outcome="done"} 2' in held.server.get("/metrics").text, "counted")


def test_without_a_queue_there_are_no_jobs(start):
    server = start(MODELS / "tfserving" / "half_plus_two", "--jobs=false")
    assert post(server, "/models/half_plus_two/jobs", {"x": [1]}).status_code == 501
    assert requests.get(f"{server.url}/api/v1/jobs", timeout=PATIENCE_S).status_code == 501
