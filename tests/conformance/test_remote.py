"""Models that other servers answer for: a fake of OpenAI's, and Salver itself; what goes wrong there, and what
must not be reached."""

import json
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest
import requests
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from harness import BINARY, MODELS, PATIENCE_S
from openai_server import KEY, OpenAiServer, vector

LOCAL = ("--remote-allow", "127.0.0.1")
# What 429 is in the Open Inference Protocol, as in Triton.
TOO_MANY = 503


def model(folder, name, text):
    (folder / name).mkdir(parents=True)
    (folder / name / "model.toml").write_text(text)
    return folder / name


def remote(url, api="openai-chat", more=""):
    return f'engine = "http"\n[remote]\napi = "{api}"\nurl = "{url}"\nkey_env = "TEST_KEY"\n{more}\n'


@pytest.fixture
def upstream():
    server = OpenAiServer()
    yield server
    server.close()


@pytest.fixture
def serve(start, tmp_path, upstream):
    """serve(more settings of the chat model): a server with a chat and an embeddings model."""

    def launch(more="", *flags, url=None, **options):
        url = url or upstream.url
        folders = [
            model(tmp_path, "writer", remote(url, more=f'model = "gpt"\n{more}')),
            model(tmp_path, "vectors", remote(url, "openai-embeddings", "dimensions = 3")),
        ]
        return start(*folders, *(flags or LOCAL), env={"TEST_KEY": KEY}, **options)

    return launch


def ask(server, text="hello", path="/v2/models/writer/infer", name="prompt", headers=None, **parameters):
    values = text if isinstance(text, list) else [text]
    tensor = {"name": name, "datatype": "BYTES", "shape": [len(values), 1], "data": values}
    return server.post(path, {"inputs": [tensor], "parameters": parameters}, headers=headers or {})


def outputs(answer):
    assert answer.status_code == 200, answer.text
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def test_each_row_is_a_call_and_comes_back_in_order(serve, upstream):
    server = serve('system = "Turn it round."\nheaders = { "X-Team" = "ml" }')
    texts = [f"text {n}" for n in range(100)]
    found = outputs(ask(server, texts, temperature=0.5, stop='["x", "y"]', priority=0))
    assert found["text"] == [text[::-1] for text in texts]
    assert found["finish_reason"] == ["stop"] * 100
    assert found["prompt_tokens"] == [len(text) for text in texts]
    assert found["completion_tokens"] == [2] * 100
    sent = [json.loads(body) for body in upstream.bodies]
    assert {(body["model"], body["temperature"], tuple(body["stop"])) for body in sent} == {("gpt", 0.5, ("x", "y"))}
    assert all(body["messages"][0] == {"role": "system", "content": "Turn it round."} for body in sent)
    assert all(set(body) == {"model", "messages", "temperature", "stop"} for body in sent)
    assert {headers["x-team"] for headers in upstream.headers} == {"ml"}


def test_conversations_are_passed_on(serve, upstream):
    server = serve()
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "ü"}]
    assert outputs(ask(server, json.dumps(messages), name="messages"))["text"] == ["ü"]
    assert json.loads(upstream.bodies[0])["messages"] == messages
    for wrong in ("nonsense", "[]", "{}", "[1]"):
        answer = ask(server, wrong, name="messages")
        assert answer.status_code == 400 and "messages" in answer.text
    both = {"inputs": [
        {"name": name, "datatype": "BYTES", "shape": [1, 1], "data": ["[]"]} for name in ("prompt", "messages")
    ]}
    for body in (both, {"inputs": []}):
        answer = server.post("/v2/models/writer/infer", body)
        assert answer.status_code == 400, answer.text
    assert upstream.n_calls == 1


def test_openais_client_works_against_it(serve, upstream):
    server = serve()
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-callers-own", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="writer", messages=[{"role": "user", "content": "abc"}], temperature=0, max_tokens=5, stop=["."], user="u"
        )
        assert answer.choices[0].message.content == "cba" and answer.choices[0].finish_reason == "stop"
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 1, 4)
        sent = json.loads(upstream.bodies[0])
        assert (sent["temperature"], sent["max_tokens"], sent["stop"]) == (0, 5, ["."])
        found = client.embeddings.create(model="vectors", input=["a", "banana"])
        assert [entry.embedding for entry in found.data] == [vector("a"), vector("banana")]
        for change, field in (
            ({"stream": True}, "stream"), ({"n": 2}, "n"), ({"tools": [{"type": "function"}]}, "tools"),
            ({"messages": []}, "messages"), ({"temperature": "hot"}, "temperature"), ({"model": "vectors"}, "model"),
        ):
            wanted = {"model": "writer", "messages": [{"role": "user", "content": "x"}]} | change
            with pytest.raises(openai.BadRequestError) as refused:
                client.chat.completions.create(**wanted)
            assert refused.value.param == field, refused.value
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "x"}])
    assert {headers["authorization"] for headers in upstream.headers} == {f"Bearer {KEY}"}


def test_embeddings_of_many_texts_take_one_call_for_2048(serve, upstream):
    server = serve()
    texts = [f"{'a' * (n % 7)}{n}" for n in range(2100)]
    found = outputs(ask(server, texts, "/v2/models/vectors/infer", "text"))["embedding"]
    np.testing.assert_array_equal(np.array(found).reshape(-1, 3), [vector(text) for text in texts])
    assert sorted(len(json.loads(body)["input"]) for body in upstream.bodies) == [52, 2048]
    empty = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [0, 1], "data": []}]}
    assert server.post("/v2/models/vectors/infer", empty).json()["outputs"][0]["shape"] == [0, 3]


def test_tritons_clients_are_answered(serve, upstream):
    server = serve('price_per_call = "0.001"')
    for module, address in ((http_client, server.http), (grpc_client, server.grpc)):
        with module.InferenceServerClient(address) as client:
            tensor = module.InferInput("prompt", [2, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[b"abc"], [b"d"]], dtype=object))
            answer = client.infer("writer", [tensor])
            assert answer.as_numpy("text").tolist() == [[b"cba"], [b"d"]]
            assert answer.as_numpy("prompt_tokens").tolist() == [[3], [1]]


def test_only_what_is_meant_goes_out(serve, upstream):
    server = serve()
    own = {"Authorization": "Bearer callers-secret", "Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "X-Own": "y",
           "x-request-id": "callers-id", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    assert ask(server, headers=own).status_code == 200
    (headers,) = upstream.headers
    assert set(headers) == {"host", "accept", "authorization", "content-length", "content-type", "user-agent"}
    assert headers["authorization"] == f"Bearer {KEY}" and headers["user-agent"].startswith("salver/")


@pytest.mark.announced_errors("")
@pytest.mark.parametrize(
    ("fault", "status", "expected", "calls"),
    [
        ((400, {"error": {"message": "too long\x1b[31m"}}), 400, "too long\\u{1b}[31m", 1),
        ((401, {"error": {"message": f"bad key {KEY}"}}), 500, "TEST_KEY", 1),
        ((403, {}), 500, "TEST_KEY", 1),
        ((404, {"error": "gone"}), 503, "no model 'gpt'", 1),
        ((418, {}), 500, "418", 1),
        ((302, {}, {"location": "http://169.254.169.254/"}), 500, "redirect", 1),
        ((429, {"error": {"message": "slow down"}}), TOO_MANY, "slow down", 3),
        ((500, {"error": {"message": f"oops {KEY}"}}), 503, "oops ***", 1),
        ((503, b"<html>" + b"x" * 100_000), 503, "503", 3),
        ("drop", 503, "connection ended", 1),
        ("truncated", 503, "connection ended", 1),
        ("nonsense", 500, "not JSON", 1),
        ("garbage", 500, "no choices", 1),
        ((200, {"choices": [{"message": {"content": 5}}]}), 500, "no message", 1),
    ],
)
def test_what_goes_wrong_there_is_told_as_what_it_is(serve, upstream, fault, status, expected, calls):
    server = serve()
    upstream.script.extend([fault] * calls)
    answer = ask(server)
    assert answer.status_code == status and expected in answer.json()["error"], answer.text
    assert ("retry-after" in answer.headers) == (expected == "slow down")
    assert len(answer.text) < 3000 and upstream.n_calls == calls
    assert KEY not in answer.text + server.log()
    assert outputs(ask(server))["text"] == ["olleh"]


def test_a_pause_that_is_asked_for_is_kept(serve, upstream):
    server = serve()
    upstream.script.extend([(429, {}, {"retry-after-ms": "20"}), (503, {})])
    assert outputs(ask(server))["text"] == ["olleh"]
    assert upstream.n_calls == 3
    # Nobody waits for one that is longer than the request has.
    upstream.script.append((429, {}, {"retry-after": "50"}))
    answer = ask(server, headers={"x-salver-timeout-ms": "20000"})
    assert (answer.status_code, answer.headers["retry-after"]) == (TOO_MANY, "50")
    assert upstream.n_calls == 4


@pytest.mark.announced_errors("max_answer_mb")
def test_an_answer_that_is_too_large_is_not_read(serve, upstream):
    server = serve("max_answer_mb = 1")
    upstream.script.append((200, b"x" * (3 << 20)))
    answer = ask(server)
    assert answer.status_code == 500 and "more than 1 MiB (max_answer_mb)" in answer.text


def test_who_does_not_answer_is_waited_for_no_longer_than_allowed(serve, upstream):
    server = serve("timeout_ms = 200")
    upstream.script.extend(["hang", "hang"])
    answer = ask(server)
    assert answer.status_code == 504 and "200 ms (timeout_ms)" in answer.text
    answer = ask(server, headers={"x-salver-timeout-ms": "50"})
    assert answer.status_code == 504 and "deadline" in answer.text
    assert outputs(ask(server))["text"] == ["olleh"]


def metric(server, name, **labels):
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    lines = re.findall(rf"^{name}{{(.*)}} (\S+)$", server.get("/metrics").text, re.M)
    return sum(float(value) for found, value in lines if wanted <= set(found.split(",")))


def test_a_server_that_is_down_is_left_alone_and_found_again(serve, upstream):
    server = serve("retries = 0")
    upstream.script.extend([(500, {})] * 5)
    assert [ask(server).status_code for _ in range(5)] == [503] * 5
    refused = ask(server)
    assert refused.status_code == 503 and "left alone" in refused.text and refused.headers["retry-after"] == "1"
    assert upstream.n_calls == 5
    assert metric(server, "salver_remote_circuit_open", model="writer") == 1
    # The other model of the same server has a circuit of its own.
    assert ask(server, "x", "/v2/models/vectors/infer", "text").status_code == 200
    server.until(lambda: ask(server).status_code == 200, "well again")
    assert metric(server, "salver_remote_circuit_open", model="writer") == 0
    assert metric(server, "salver_remote_requests_total", model="writer", outcome="unavailable") == 5


def test_retries_never_amplify(serve, upstream):
    """P19: attempts are at most 1.2 of the calls and ten for each second that has begun."""
    server = serve("retries = 5\nmax_concurrency = 16")
    upstream.decide = lambda number, request: (429, {}, {"retry-after-ms": "1"})
    n_calls, began = 400, time.monotonic()
    # Side by side: each call that is tried again waits a moment first.
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda _: ask(server, ["x"]), range(n_calls)))
    took_s = time.monotonic() - began
    assert {answer.status_code for answer in answers} == {TOO_MANY}
    assert n_calls < upstream.n_calls <= 1.2 * n_calls + 10 * (took_s + 1)


def test_calls_wait_in_line_and_in_bounds(serve, upstream):
    server = serve("max_concurrency = 3\nmax_in_flight = 8")
    upstream.decide = lambda number, request: "hang" if not upstream.gate.is_set() else None
    upstream.gate.clear()
    answers, threads = [], []
    for _ in range(12):
        thread = threading.Thread(target=lambda: answers.append(ask(server)))
        thread.start()
        threads.append(thread)
    server.until(lambda: len(answers) == 4, "full")
    assert [answer.status_code for answer in answers] == [TOO_MANY] * 4
    server.until(lambda: metric(server, "salver_remote_in_flight", model="writer") == 3, "busy")
    assert upstream.most_in_flight == 3
    upstream.gate.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(answers) == 12
    assert metric(server, "salver_remote_in_flight", model="writer") == 0


# What must not be reached


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data", "http://2852039166/", "http://localhost:{port}/v1", "http://127.1:{port}/",
        "http://2130706433:{port}/", "http://0177.0.0.1:{port}/", "http://0x7f.1:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::1]:{port}/", "http://0:{port}/", "http://allowed.example@127.0.0.1:{port}/",
        "http://allowed.example\\\\@127.0.0.1:{port}/", "http://LOCALHOST.:{port}/", "https://allowed.example.evil/",
    ],
)
def test_nothing_is_reached_that_is_not_listed(tmp_path, upstream, url):
    folder = model(tmp_path, "m", remote(url.replace("{port}", str(upstream.port))))
    command = [BINARY, "check", folder, "--remote-allow", "allowed.example,10.0.0.0/8,127.0.0.1:1"]
    done = subprocess.run(command, env={"TEST_KEY": KEY}, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1, done.stdout
    assert upstream.n_calls == 0
    assert "--remote-allow" in done.stdout or "backslash" in done.stdout or "password" in done.stdout, done.stdout


def test_the_setting_is_named(tmp_path, upstream):
    folder = model(tmp_path, "m", remote(upstream.url))
    check = lambda *flags, env: subprocess.run(  # noqa: E731
        [BINARY, "check", folder, *flags], env=env, capture_output=True, text=True, timeout=PATIENCE_S
    )
    done = check(env={"TEST_KEY": KEY})
    assert done.returncode == 1 and f"--remote-allow 127.0.0.1:{upstream.port}" in " ".join(done.stdout.split())
    done = check(*LOCAL, env={})
    assert done.returncode == 1 and "TEST_KEY holds no key" in " ".join(done.stdout.split())
    done = check("--remote-allow", f"127.0.0.1:{upstream.port}", env={"TEST_KEY": KEY})
    assert done.returncode == 0, done.stdout
    assert KEY not in done.stdout + done.stderr
    done = check(env={"TEST_KEY": KEY, "SALVER_REMOTE_ALLOW": "127.0.0.0/8"})
    assert done.returncode == 0, done.stdout


@pytest.mark.announced_errors("redirect")
def test_a_redirect_leads_nowhere(serve, upstream):
    other = OpenAiServer()
    upstream.decide = lambda number, request: (307, {}, {"location": f"{other.url}/chat/completions"})
    server = serve()
    assert ask(server).status_code == 500 and other.n_calls == 0
    other.close()


# Salver behind Salver


@pytest.fixture
def behind(start):
    return start(MODELS / "tfserving" / "half_plus_two")


def test_salver_asks_salver(start, tmp_path, behind):
    host, port = behind.listeners["http"]
    url = f"http://{host}:{port}"
    toml = f'[remote]\napi = "oip-v2"\nurl = "{url}"\nmodel = "half_plus_two"\n'
    metadata = behind.get("/v2/models/half_plus_two").json()
    version = metadata["versions"][-1]
    front = start(
        model(tmp_path, "near", toml), model(tmp_path, "exact", toml + f'version = "{version}"\n'), *LOCAL, ready=True
    )
    seen = front.get("/v2/models/near").json()
    assert (seen["inputs"], seen["outputs"]) == (metadata["inputs"], metadata["outputs"])
    (spec,) = metadata["inputs"]
    body = {"inputs": [{"name": spec["name"], "datatype": spec["datatype"], "shape": [3], "data": [1, 2, 5]}]}
    expected = behind.post("/v2/models/half_plus_two/infer", body).json()["outputs"]
    for name in ("near", "exact"):
        assert front.post(f"/v2/models/{name}/infer", body).json()["outputs"] == expected
    wrong = {"inputs": [body["inputs"][0] | {"datatype": "INT32"}]}
    assert front.post("/v2/models/near/infer", wrong).status_code == 400
    behind.stop()
    answer = front.post("/v2/models/near/infer", body)
    assert answer.status_code == 503 and f"{host}:{port}" in answer.text
