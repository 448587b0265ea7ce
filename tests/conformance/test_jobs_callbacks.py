"""Callbacks of jobs: a receiver of our own, the real binary, and what must not be reached; quotas of callers."""

import http.server
import json
import queue
import re
import socket
import subprocess
import threading

import pytest
import requests
from harness import BINARY, MODELS, PATIENCE_S, REPO
from test_jobs import ended, held, post, status, submit  # noqa: F401

MODEL = MODELS / "tfserving" / "half_plus_two"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = {"x": [1.0]}


def documented_verify():
    """The snippet of the docs, as a reader would take it."""
    blocks = re.findall(r"```python\n(.*?)```", (REPO / "docs" / "jobs.md").read_text(), re.S)
    scope = {}
    exec(next(block for block in blocks if "def verify" in block), scope)
    return scope["verify"]


class Receiver:
    """Listens on a port of its own; answers with what `answers` holds, then with 200."""

    def __init__(self, port=0):
        self.received, self.answers = queue.Queue(), queue.Queue()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.received.put((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                try:
                    code, headers = receiver.answers.get_nowait()
                except queue.Empty:
                    code, headers = 200, {}
                if code is None:
                    return  # the connection ends without an answer
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook?token=t0ken"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def next(self):
        path, headers, body = self.received.get(timeout=PATIENCE_S)
        assert documented_verify()(SECRET, headers, body)
        assert headers["content-type"] == "application/json" and path == "/hook?token=t0ken"
        return headers, json.loads(body)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def server(start):
    return start(MODEL, "--callback-allow", "127.0.0.0/8", "--callback-retry-ms", "1", env={"SALVER_CALLBACK_SECRET": SECRET})


def lines(server, job):
    return [event["text"] for event in status(server, job).json()["history"] if event["text"].startswith("callback")]


def told(server, job, *expected):
    server.until(lambda: len(lines(server, job)) >= len(expected), f"told: {expected}")
    found = lines(server, job)
    assert len(found) == len(expected) and all(text in line for text, line in zip(expected, found)), found


def test_the_end_of_a_job_is_told(server, receiver):
    job = submit(server, "half_plus_two", BODY, callback_url=receiver.url)
    headers, event = receiver.next()
    shown = ended(server, job)
    assert (event["version"], event["type"], headers["webhook-id"]) == (1, "job.done", job)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["timestamp"])
    assert event["data"] == {name: value for name, value in shown.items() if name not in ("history", "result")}
    told(server, job, "callback: 200")
    result = requests.get(f"{server.url}{event['data']['result_url']}", timeout=PATIENCE_S)
    assert result.json() == shown["result"]
    server.until(lambda: 'salver_job_callbacks_total{outcome="sent"} 1' in server.get("/metrics").text, "counted")
    assert "t0ken" not in server.log() and "MfKQ9" not in server.log()


def test_a_forged_or_old_message_is_not_taken_for_one(server, receiver):
    submit(server, "half_plus_two", BODY, callback_url=receiver.url)
    _, headers, body = receiver.received.get(timeout=PATIENCE_S)
    verify = documented_verify()
    assert verify(SECRET, headers, body)
    assert not verify(SECRET, headers, body + b" ")
    assert not verify(SECRET, {**headers, "webhook-id": "other"}, body)
    assert not verify("whsec_" + "A" * 32, headers, body)
    assert not verify(SECRET, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 301)}, body)


def test_what_does_not_arrive_is_sent_again(server, receiver):
    receiver.answers.put((500, {}))
    receiver.answers.put((None, {}))
    job = submit(server, "half_plus_two", BODY, callback_url=receiver.url)
    ids = {receiver.next()[0]["webhook-id"] for _ in range(3)}
    assert ids == {job}
    told(server, job, "callback: 500; again in 1ms", "again in 6ms", "callback: 200")


def test_a_receiver_that_is_not_there_yet_is_told_later(start, receiver):
    server = start(MODEL, "--callback-allow", "127.0.0.1", "--callback-secret", SECRET, "--callback-retry-ms", "100")
    receiver.close()
    job = submit(server, "half_plus_two", BODY, callback_url=receiver.url)
    server.until(lambda: lines(server, job), "tried")
    assert "refused" in lines(server, job)[0] and "again in 100ms" in lines(server, job)[0]
    later = Receiver(receiver.port)
    assert later.next()[1]["data"]["id"] == job
    later.close()


def test_who_answers_410_gets_no_more(server, receiver):
    receiver.answers.put((410, {}))
    job = submit(server, "half_plus_two", BODY, callback_url=receiver.url)
    told(server, job, "callback: 410; it is not sent again")
    other = submit(server, "half_plus_two", BODY, callback_url=receiver.url)
    assert [receiver.next()[1]["data"]["id"] for _ in range(2)] == [job, other]


def test_redirects_are_not_followed(server, receiver):
    for target in (f"http://127.0.0.1:{receiver.port}/elsewhere", "http://169.254.169.254/latest/meta-data"):
        receiver.answers.put((302, {"location": target}))
        receiver.answers.put((307, {"location": target}))
    job = submit(server, "half_plus_two", BODY, callback_url=receiver.url)
    for _ in range(5):
        receiver.next()  # nothing but the hook itself was asked
    told(server, job, *["no redirect is followed"] * 4, "callback: 200")


@pytest.mark.announced_errors("negative", "request failed")
def test_other_ends_are_told_too(held, receiver):  # noqa: F811
    held = held("--job-workers", "1", "--callback-allow", "127.0.0.1", "--callback-secret", SECRET)
    held.submit(1)
    held.server.until(lambda: held.begun() == [1], "busy")
    job = held.submit(2, callback_url=receiver.url)
    requests.delete(f"{held.server.url}/api/v1/jobs/{job}", timeout=PATIENCE_S)
    event = receiver.next()[1]
    assert (event["type"], event["data"]["id"], "result_url" in event["data"]) == ("job.cancelled", job, False)
    held.go()
    held.submit(-1, retries=0, callback_url=receiver.url)
    event = receiver.next()[1]
    assert event["type"] == "job.failed" and "negative" in event["data"]["reason"]


def test_a_server_that_dies_between_the_end_and_the_message_sends_it_later(start, tmp_path, receiver):
    shared = f"sqlite://{tmp_path / 'jobs.db'}"
    telling = ("--queue", shared, "--callback-allow", "127.0.0.1", "--job-workers", "0")
    secret = {"SALVER_CALLBACK_SECRET": SECRET}
    server = start(MODEL, *telling, env=secret)
    job = submit(server, "half_plus_two", BODY, callback_url=receiver.url)
    server.kill()
    # This one works, and has nothing to sign with.
    worker = start(MODEL, "--queue", shared)
    assert ended(worker, job)["status"] == "done"
    assert receiver.received.empty() and not lines(worker, job)
    start(MODEL, *telling, env=secret)
    assert receiver.next()[1]["data"]["id"] == job
    told(worker, job, "callback: 200")


def test_a_server_that_dies_with_a_message_under_way_sends_it_again(start, tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE_S)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/hook?token=t0ken"
    args = (MODEL, "--queue", f"sqlite://{tmp_path / 'jobs.db'}", "--callback-allow", "127.0.0.1", "--callback-secret", SECRET,
            "--callback-timeout-ms", "1000")
    server = start(*args)
    job = submit(server, "half_plus_two", BODY, callback_url=url)
    connection, _ = listener.accept()
    server.kill()
    connection.close()
    port = listener.getsockname()[1]
    listener.close()
    receiver = Receiver(port)
    start(*args)
    assert receiver.next()[1]["data"]["id"] == job
    receiver.close()


@pytest.mark.parametrize("url", [
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://127.1:{port}/", "http://2130706433:{port}/",
    "http://0x7f.1:{port}/", "http://0177.0.0.1:{port}/", "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
    "http://0:{port}/", "http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "http://192.168.0.1/",
    "http://172.16.0.1/", "http://100.64.0.1/", "http://[fd00::1]/", "http://[fe80::1]/", "http://[2002:7f00:1::]/",
    "http://[64:ff9b::7f00:1]/", "http://ok\\@127.0.0.1:{port}/", "http://user:pw@example.com/", "ftp://example.com/",
    "file:///etc/passwd", "example.com", "http://", "",
])
def test_private_addresses_are_refused(guarded, receiver, url):
    reply = post(guarded, "/models/half_plus_two/jobs", BODY, params={"callback_url": url.format(port=receiver.port)})
    assert reply.status_code == 400 and "callback_url" in reply.text, reply.text
    assert receiver.received.empty()


@pytest.fixture(scope="module")
def guarded(start):
    return start(MODEL, "--callback-retry-ms", "1", env={"SALVER_CALLBACK_SECRET": SECRET})


def test_a_name_that_leads_inside_is_found_out_when_it_is_used(guarded, receiver):
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        pytest.skip(f"the name of this machine, {name}, leads nowhere")
    job = submit(guarded, "half_plus_two", BODY, callback_url=f"http://{name}:{receiver.port}/")
    # Each attempt asks anew where the name leads, and finds the same.
    guarded.until(lambda: len(lines(guarded, job)) > 2, "tried")
    assert all("not public" in line and "127." not in line for line in lines(guarded, job))
    assert receiver.received.empty()
    guarded.until(lambda: re.search(r'callbacks_total{outcome="failed"} [1-9]', guarded.get("/metrics").text), "counted")


def test_without_a_secret_nobody_can_be_told(start):
    server = start(MODEL)
    reply = post(server, "/models/half_plus_two/jobs", BODY, params={"callback_url": "https://example.com/"})
    assert reply.status_code == 400 and "SALVER_CALLBACK_SECRET" in reply.text, reply.text


def test_a_bad_setting_is_refused_at_the_start_and_a_secret_is_not_shown():
    def run(*words):
        return subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=PATIENCE_S)

    short = run("serve", str(MODEL), "--callback-secret", "sh0rt", "--http", "127.0.0.1:0", "--grpc", "off")
    assert short.returncode != 0 and "openssl rand" in short.stderr and "sh0rt" not in short.stderr
    net = run("serve", str(MODEL), "--callback-allow", "10.0.0.0/40")
    assert net.returncode != 0 and "10.0.0.0/8" in net.stderr
    shown = run("config", "--callback-secret", SECRET)
    assert "callback_secret" in shown.stdout and SECRET not in shown.stdout + shown.stderr


def test_the_command_line_names_who_is_told(server, receiver):
    command = [BINARY, "jobs", "submit", "half_plus_two", json.dumps(BODY), "--callback-url", receiver.url, "--server", server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert receiver.next()[1]["data"]["id"] == done.stdout.strip()


# Callers


def names(name):
    return {"X-User": name}


def test_each_caller_has_so_many_jobs(held):  # noqa: F811
    held = held("--job-workers", "1", "--max-jobs-per-caller", "2", "--caller-header", "X-User")
    path, body = "/models/held/jobs", {"x": [[1]]}
    jobs = [submit(held.server, "held", body, headers=names("ann")) for _ in range(2)]
    refused = post(held.server, path, body, headers=names("ann"))
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0 and "caller" in refused.text
    submit(held.server, "held", body, headers=names("bob"))
    for _ in range(2):
        submit(held.server, "held", body)  # by the address
    assert post(held.server, path, body).status_code == 429
    assert post(held.server, path, body, headers={"X-User": "a" * 300}).status_code == 400
    requests.delete(f"{held.server.url}/api/v1/jobs/{jobs[1]}", timeout=PATIENCE_S)
    submit(held.server, "held", body, headers=names("ann"))


def test_keys_are_a_callers_own_where_it_is_named(start):
    named = start(MODEL, "--caller-header", "x-user")
    key = {"Idempotency-Key": "k"}
    ann, bob = (submit(named, "half_plus_two", BODY, headers={**key, **names(name)}) for name in ("ann", "bob"))
    assert ann != bob
    assert submit(named, "half_plus_two", BODY, headers={**key, **names("ann")}) == ann


def test_states_are_asked_for_by_the_words_of_replies(held):  # noqa: F811
    held = held("--job-workers", "1")
    running = held.submit(1)
    held.server.until(lambda: held.begun() == [1], "busy")
    waiting, later = held.submit(2), held.submit(3, delay="1h")

    def listed(states):
        reply = requests.get(f"{held.server.url}/api/v1/jobs", params={"status": states}, timeout=PATIENCE_S)
        return [job["id"] for job in reply.json()["jobs"]]

    assert (listed("queued"), listed("scheduled"), listed("running")) == ([later, waiting], [later], [running])
    assert listed("queued,scheduled,running") == [later, waiting, running] and listed("failed,dead") == []
