"""Hostile requests to the routes of jobs, and a thousand who wait for one: a clear refusal, and nothing is left."""

import gzip
import json
import re
import resource

import pytest
import requests
from harness import MODELS, PATIENCE_S, read_answer
from test_jobs import ended, post, status, submit
from test_jobs_crash import queue  # noqa: F401 (fixture)
from test_jobs_crash_points import values_of
from workers import eventually, open_files

MODEL = MODELS / "tfserving" / "half_plus_two"
JOBS = "/models/half_plus_two/jobs"
GOOD = b'{"x": [1.0]}'
LINE = b'{"x": [1]}\n'
LINES = ("Content-Type", "application/x-ndjson")
GZIP = ("Content-Encoding", "gzip")
DEEP = b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}"
WATCHERS = 1000


@pytest.fixture(scope="module")
def server(start):
    """Nobody works on its jobs, so they stay as they are."""
    return start(MODEL, "--job-workers", "0")


@pytest.fixture(scope="module")
def waiting(server):
    return submit(server, "half_plus_two", {"x": [1.0]})


def refused(answer, code, *texts):
    assert answer.status == code, (answer.status, answer.text[:500], answer.error)
    assert answer.headers["content-type"] == "application/json", answer.text
    error = answer.json()["error"]
    message = error if isinstance(error, str) else error["message"]
    for text in texts:
        assert text in message
    assert len(answer.body) < 2000


@pytest.mark.parametrize(
    ("headers", "body", "code", "text"),
    [
        ([LINES], lambda: LINE * 100_001, 413, "100000 lines"),
        ([LINES], lambda: b"\n" * 200_000, 400, "there is none"),
        ([LINES], lambda: LINE * 5000 + b'{"x": ["a"]}\n' + LINE * 100, 400, "request 5001"),
        ([LINES], lambda: LINE * 3 + b"\xff\xfe\n", 400, "request 4"),
        ([LINES], lambda: LINE + DEEP, 400, "request 2: JSON nests deeper"),
        ([], lambda: DEEP, 400, "nests deeper"),
        ([], lambda: b"[" * 1_000_000, 400, "nests deeper"),
        ([], lambda: b"", 400, "at byte 0"),
        ([GZIP], lambda: gzip.compress(b" " * (300 << 20), 1), 413, "decompresses to more"),
        ([GZIP, LINES], lambda: gzip.compress(b"\n" * (300 << 20), 1), 413, "decompresses to more"),
        ([GZIP], lambda: GOOD, 400, "gzip"),
        ([("Content-Encoding", "br")], lambda: GOOD, 415, "Content-Encoding"),
        ([("Idempotency-Key", "\xe9")], lambda: GOOD, 400, "Idempotency-Key"),
        ([("Idempotency-Key", "\xff\xfe")], lambda: GOOD, 400, "Idempotency-Key"),
        ([("Idempotency-Key", "")], lambda: GOOD, 400, "Idempotency-Key"),
        ([("Idempotency-Key", "   ")], lambda: GOOD, 400, "Idempotency-Key"),
        ([("Idempotency-Key", "k" * 256)], lambda: GOOD, 400, "255"),
    ],
)
def test_a_body_or_a_key_that_cannot_be_is_refused(server, headers, body, code, text):
    refused(server.request("POST", JOBS, headers, body()), code, text)


@pytest.mark.parametrize(
    "query",
    [
        "priority=10", "priority=-1", "priority=1.5", "priority=", "priority=%00",
        "delay=-1s", "delay=1", "delay=366days", "delay=99999999999999999999s", "delay=",
        # No run ends in no time: such a job could only fail.
        "time_limit=0s", "time_limit=-1s", "result_ttl=31days", "retries=-1", "retries=101", "retries=18446744073709551616",
        "%ff=1", "a" * 5000 + "=1",
    ],
)
def test_an_option_that_cannot_be_is_refused_by_its_name(server, query):
    name = query.split("=")[0]
    known = name in ("priority", "delay", "time_limit", "retries", "result_ttl")
    refused(server.request("POST", f"{JOBS}?{query}", [], GOOD), 400, f"'{name}'" if known else "unknown parameter")


def test_tensors_as_bytes_that_cannot_be_are_refused(server):
    length = "Inference-Header-Content-Length"
    for headers, code, text in (
        ([(length, "500")], 400, length), ([(length, "-1")], 400, length), ([(length, "5"), LINES], 400, "line"),
    ):
        refused(server.request("POST", f"/v2{JOBS}", headers, GOOD), code, text)
    place = {"shared_memory_region": "a", "shared_memory_byte_size": 4}
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "parameters": place}]}
    refused(server.request("POST", f"/v2{JOBS}", [], json.dumps(body).encode()), 501, "shared memory")


@pytest.mark.parametrize("wait", ["301s", "-1s", "x", "", "10"])
def test_a_wait_that_cannot_be_is_refused(server, waiting, wait):
    refused(server.request("GET", f"/api/v1/jobs/{waiting}?wait={wait}"), 400, "'wait'")


def test_what_is_asked_too_early_says_when(server, waiting):
    early = server.request("GET", f"/api/v1/jobs/{waiting}/result")
    refused(early, 503, "has no answer yet", "queued")
    assert int(early.headers["retry-after"]) >= 1
    refused(server.request("POST", f"/api/v1/jobs/{waiting}/replay"), 409, "queued")
    assert status(server, waiting).json()["status"] == "queued"


ROUTES = [("GET", ""), ("GET", "/result"), ("GET", "/events"), ("DELETE", ""), ("POST", "/replay")]


@pytest.mark.parametrize(("method", "suffix"), ROUTES)
def test_what_is_no_id_is_nobodys(server, waiting, method, suffix):
    with_dashes = "-".join([waiting[:8], waiting[8:12], waiting[12:16], waiting[16:20], waiting[20:]])
    wrongs = ["0" * 31, "0" * 33, "g" * 32, waiting.upper(), with_dashes, "%00" * 32, "..%2f..%2fetc", "%27%20or%201=1", "x" * 1000]
    for wrong in wrongs:
        refused(server.request(method, f"/api/v1/jobs/{wrong}{suffix}"), 404, "32 hexadecimal digits")
    assert status(server, waiting).json()["status"] == "queued"


@pytest.mark.parametrize(("method", "suffix"), ROUTES)
def test_an_id_that_is_no_text_is_refused_as_json(server, method, suffix):
    answer = server.request(method, f"/api/v1/jobs/{'%ff' * 32}{suffix}")
    assert answer.status in (400, 404)
    refused(answer, answer.status)


@pytest.mark.parametrize("query", [
    "page_token=garbage", "page_token=", "page_token=-1", "page_token=99999999999999999999", "page_token=1%27%20OR%201=1",
    "limit=0", "limit=1001", "limit=x", "status=", "status=queued,nope", "older_than=x", "bogus=1",
])  # fmt: skip
def test_a_list_that_cannot_be_is_refused(server, query):
    refused(server.request("GET", f"/api/v1/jobs?{query}"), 400)


@pytest.mark.parametrize("query", ["status=running", "status=scheduled", "status=nope", "older_than=-1s", "bogus=1", "older_then=1h"])
def test_a_purge_that_cannot_be_removes_nothing(server, waiting, query):
    refused(server.request("POST", f"/api/v1/jobs/purge?{query}"), 400)
    assert status(server, waiting).status_code == 200


def test_any_name_of_a_model_may_be_asked_for(start, queue):  # noqa: F811
    """Whatever text it is: what the database cannot keep, no job has."""
    server = start(MODEL, "--queue", queue)
    job = submit(server, "half_plus_two", {"x": [1.0]})
    ended(server, job)
    for name in ("a%00b", "%ff", "%27", "%25", "_", "", "x" * 4000, "%F0%9F%90%98", "half_plus_two%00"):
        for method, path in (("GET", f"/api/v1/jobs?model={name}"), ("POST", f"/api/v1/jobs/purge?model={name}")):
            answer = server.request(method, path)
            assert answer.status in (200, 400), (path, answer.text)
            assert answer.status == 400 or answer.json() in ({"jobs": [], "next_page_token": None}, {"purged": 0}), path
    assert status(server, job).status_code == 200
    server.stop()


def test_most_lines_that_may_be_are_taken_packed_or_not(start):
    server = start(MODEL)
    lines = b"".join(b'{"x": [%d]}\n' % number for number in range(100_000))
    for headers, body in (({}, lines), ({"Content-Encoding": "gzip"}, gzip.compress(lines, 1))):
        reply = post(server, JOBS, body, headers={"Content-Type": "application/x-ndjson", **headers})
        assert reply.status_code == 202, reply.text
        job = ended(server, reply.json()["id"])
        assert (job["status"], job["progress"]) == ("done", {"done": 100_000, "total": 100_000})
        result = requests.get(f"{server.url}{job['result_url']}", timeout=PATIENCE_S).content
        assert values_of(result) == tuple(number / 2 + 3 for number in range(100_000))
    server.stop()


@pytest.fixture
def many_files():
    """As many open files as a thousand clients need, here and in servers that are started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * WATCHERS if hard == resource.RLIM_INFINITY else min(hard, 4 * WATCHERS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_who_wait_cost_little_and_leave_nothing(start, many_files):
    server = start(MODEL, "--job-workers", "0")
    # All its connections to the database have been made.
    job = submit(server, "half_plus_two", {"x": [1.0]})
    clients = []

    def wait(number):
        path = f"{job}?wait=300s" if number % 2 else f"{job}/events"
        clients.append(server.connect())
        clients[-1].sendall(f"GET /api/v1/jobs/{path} HTTP/1.1\r\nHost: {server.http}\r\n\r\n".encode())

    def files():
        shown = re.search(r"^process_open_fds (\d+)$", server.get("/metrics").text, re.M)
        assert shown and abs(int(shown[1]) - len(open_files(server))) < 10
        return int(shown[1])

    def sockets():
        return sum(name.startswith("socket:") for name in open_files(server))

    idle = sockets()
    for number in range(50):
        wait(number)
    eventually(lambda: sockets() >= 50, "the first ones wait")
    before, memory = files(), server.rss_kib()
    for number in range(50, WATCHERS):
        wait(number)
    eventually(lambda: sockets() >= WATCHERS, "a thousand wait")
    # Others are served meanwhile, and each who waits costs some kilobytes.
    others = [submit(server, "half_plus_two", {"x": [float(number)]}) for number in range(20)]
    assert post(server, "/models/half_plus_two/predict", {"x": [1.0]}).status_code == 200
    assert server.rss_kib() - memory < 100 * WATCHERS
    gone, stay = clients[: WATCHERS // 2], clients[WATCHERS // 2 :]
    for client in gone:
        client.close()
    eventually(lambda: sockets() <= idle + len(stay), "those who left are forgotten")
    # Those who stayed hear how it ends.
    assert requests.delete(f"{server.url}/api/v1/jobs/{job}", timeout=PATIENCE_S).status_code == 200
    for client in stay:
        answer = read_answer(client, "GET")
        assert answer.status == 200 and "cancelled" in answer.text, answer.text
        client.close()
    eventually(lambda: sockets() <= idle, "all are forgotten")
    # The database's own connections came meanwhile.
    assert files() <= before
    assert all(status(server, other).json()["status"] == "queued" for other in others)
    server.stop()
