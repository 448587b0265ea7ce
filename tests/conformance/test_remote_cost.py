"""What remote calls cost: the sum of the headers is the metric is what the other server charges, to the last
digit, whatever goes wrong between."""

import concurrent.futures
import json
import random
import threading
from decimal import Decimal

import grpc
import pytest
import requests
import tritonclient.grpc as grpc_client
from harness import PATIENCE_S
from openai_server import KEY, OpenAiServer, Prices
from test_remote import LOCAL, ask, model, remote

PRICES = {"per_call": "0.000123456789", "per_1k_input": "0.00015", "per_1k_output": "0.000637"}
TOML = "\n".join(
    f'price_{name}{"_tokens" if "1k" in name else ""} = "{price}"' for name, price in PRICES.items()
)
N_CALLS = 10_000
FAULTS = [
    (0.04, (503, {"error": "busy"})), (0.04, (429, {}, {"retry-after-ms": "1"})), (0.02, (500, {})), (0.02, (400, {})),
    (0.02, "drop"), (0.02, "truncated"), (0.02, "garbage"), (0.02, "nonsense"),
]


def decide(seed):
    """Faults by chance, the same each time."""
    rng, lock = random.Random(seed), threading.Lock()

    def pick(number, request):
        with lock:
            chance = rng.random()
        for share, fault in FAULTS:
            chance -= share
            if chance < 0:
                return fault
        return None

    return pick


def charged(server):
    lines = server.get("/metrics").text.splitlines()
    found = [line.split()[-1] for line in lines if line.startswith("salver_remote_cost_total{")]
    return sum(map(Decimal, found))


@pytest.fixture
def upstream():
    server = OpenAiServer(Prices(**PRICES))
    yield server
    server.close()


def launch(start, folder, upstream):
    toml = remote(upstream.url, more=f"{TOML}\nmax_concurrency = 32")
    return start(model(folder, "writer", toml), *LOCAL, env={"TEST_KEY": KEY})


@pytest.mark.announced_errors("")
@pytest.mark.timeout(600)
def test_the_cost_adds_up(start, tmp_path, upstream):
    upstream.decide = decide(20260101)
    server = launch(start, tmp_path, upstream)
    local = threading.local()

    def call(n):
        if not hasattr(local, "session"):
            local.session = requests.Session()
        tensor = {"name": "prompt", "datatype": "BYTES", "shape": [1, 1], "data": ["word " * (n % 13) + str(n)]}
        url = f"{server.url}/v2/models/writer/infer"
        answer = local.session.post(url, json.dumps({"inputs": [tensor]}), timeout=PATIENCE_S)
        return answer.status_code, Decimal(answer.headers.get("x-salver-cost", "0"))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(call, range(N_CALLS)))
    statuses = {status for status, _ in answers}
    assert {200, 400, 500, 503} <= statuses <= {200, 400, 429, 500, 503}, statuses
    # Failures cost something too, where they were charged for.
    assert any(cost > 0 for status, cost in answers if status == 500)
    total = sum(cost for _, cost in answers)
    assert total == upstream.charged > 0
    assert charged(server) == total
    assert upstream.n_calls > N_CALLS / 10  # while the circuit is open, nothing is asked


@pytest.mark.announced_errors("no choices")
def test_every_protocol_tells_it(start, tmp_path, upstream):
    server = launch(start, tmp_path, upstream)
    message = [{"role": "user", "content": "hello"}]
    price = upstream.prices.of({"prompt_tokens": 5, "completion_tokens": 1})
    for path, body in (
        ("/v2/models/writer/generate", {"prompt": "hello"}),
        ("/models/writer/predict", {"prompt": ["hello"]}),
        ("/v1/chat/completions", {"model": "writer", "messages": message}),
    ):
        answer = server.post(path, body)
        assert answer.status_code == 200, (path, answer.text)
        assert Decimal(answer.headers["x-salver-cost"]) == price, path
    assert Decimal(ask(server, ["hello"] * 3).headers["x-salver-cost"]) == 3 * price
    stub = grpc_client.service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(server.grpc))
    request = grpc_client.service_pb2.ModelInferRequest(model_name="writer")
    tensor = request.inputs.add(name="prompt", datatype="BYTES", shape=[1, 1])
    tensor.contents.bytes_contents.append(b"hello")
    _, call = stub.ModelInfer.with_call(request)
    assert Decimal(dict(call.initial_metadata())["x-salver-cost"]) == price
    upstream.script.append("garbage")
    with pytest.raises(grpc.RpcError) as failed:
        stub.ModelInfer(request)
    found = dict([*failed.value.initial_metadata(), *failed.value.trailing_metadata()])
    assert Decimal(found["x-salver-cost"]) == price
    assert charged(server) == upstream.charged


def test_a_row_that_fails_does_not_hide_what_the_others_cost(start, tmp_path, upstream):
    server = launch(start, tmp_path, upstream)
    upstream.decide = lambda number, request: (400, {}) if request["messages"][-1]["content"] == "bad" else None
    answer = ask(server, ["good"] * 20 + ["bad"] + ["good"] * 20)
    assert answer.status_code == 400
    assert Decimal(answer.headers["x-salver-cost"]) == upstream.charged == charged(server)


def test_what_is_cached_costs_nothing_and_parameters_are_part_of_the_question(start, tmp_path, upstream):
    toml = remote(upstream.url, more=f"{TOML}\n[cache]\n")
    server = start(model(tmp_path, "writer", toml), *LOCAL, env={"TEST_KEY": KEY})
    answers = [ask(server, temperature=value) for value in (0.5, 0.5, 0.25)]
    assert [answer.headers["x-salver-cache"] for answer in answers] == ["miss", "hit", "miss"]
    assert ["x-salver-cost" in answer.headers for answer in answers] == [True, False, True]
    assert upstream.n_calls == 2
