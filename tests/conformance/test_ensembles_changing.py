"""Ensembles whose models come, go and change, are slow, or fail; many callers at once, and files that are refused."""

import asyncio
import json
import threading
from collections import Counter

import aiohttp
import numpy as np
import pytest
import requests
import tritonclient.grpc as grpc_client
from harness import PATIENCE_S, Server
from pipelines import PAIR, PARTS, ask, f32, graph, infer, node, parts, put, read, reason, replace, same, steps, tensor
from test_cli import salver
from test_ensembles import CHAIN
from tritonclient.utils import InferenceServerException
from workers import FLAGS, eventually, model

POLL = ("--model-control", "poll", "--poll-interval-ms", "20")
X = f32([1, 2])

HELD = '''
import pathlib
import time

HERE = pathlib.Path(__file__).parent


class Held:
    """Answers once the file `go` is there, except for what the warm-up asks; what begins is noted."""

    inputs = {"x": ("FP32", [-1, 2])}
    outputs = {"y": ("FP32", [-1, 2])}

    def predict(self, batch):
        if (abs(batch["x"]) < 1).all():
            return {"y": batch["x"]}
        (HERE / "begun").touch()
        while not (HERE / "go").exists():
            time.sleep(0.005)
        if (batch["x"] < 0).any():
            raise ValueError("negative")
        return {"y": batch["x"] * 2}
'''

SLOW = {
    "plain": '[[step]]\nname = "h"\nmodel = "held"\n[[step]]\nmodel = "inc"\ninputs = { x = "h.y" }\n',
    "outer": '[[step]]\nname = "o"\nmodel = "plain"\n',
    "limited": '[[step]]\nname = "h"\nmodel = "held"\ntimeout_ms = 50\n',
    "limited_outer": '[[step]]\nname = "o"\nmodel = "plain"\ntimeout_ms = 50\n',
    "saved": '[[step]]\nname = "h"\nmodel = "held"\ntimeout_ms = 50\nfallback = "inc"\n',
    "saved_twice": '[[step]]\nname = "h"\nmodel = "limited"\nfallback = "saved"\n',
    "skipped": """
[[step]]
name       = "h"
model      = "held"
timeout_ms = 50
on_failure = "skip"
[[step]]
model  = "inc"
inputs = { x = "h.y" }
[[output]]
name = "y"
from = ["inc.y", -1]
""",
    "each": '[[step]]\nname = "h"\nmodel = "held"\neach = "x"\ninputs = { x = "items" }\nfallback = "inc"\n',
}


@pytest.fixture(scope="module")
def slow(start, tmp_path_factory):
    """Ensembles of a model that answers when it is let go, and its folder."""
    folder = parts(tmp_path_factory.mktemp("slow"), "inc")
    held = model(folder / "held", HELD, "[instances]\ncount = 1\n[batching]\nmax_rows = 1\n")
    for name, text in SLOW.items():
        put(folder, name, text)
    server = start(folder, *FLAGS)
    yield server, held
    (held / "go").touch()


@pytest.fixture
def stuck(slow):
    server, held = slow
    for name in ("go", "begun"):
        (held / name).unlink(missing_ok=True)
    yield server
    (held / "go").touch()
    server.until(lambda: in_flight(server, "held") == 0, "idle")


@pytest.fixture
def free(slow):
    server, held = slow
    (held / "go").touch()
    return server


def in_flight(server, name):
    found = server.get("/api/v1/models").json()["models"]
    return next(one["resident"]["in_flight"] for one in found if one["name"] == name)


def check_failed(answer, status, part):
    assert (answer.status_code, part in answer.text) == (status, True), answer.text


# Slow and failing steps


def test_a_step_has_a_time_of_its_own(stuck):
    check_failed(infer(stuck, "limited", x=X), 504, "step 'h': model 'held' did not answer within 50 ms")
    check_failed(infer(stuck, "limited_outer", x=X), 504, "step 'o': model 'plain' did not answer within 50 ms")


def test_a_fallback_answers_for_a_slow_model_and_a_skipped_step_for_nobody(stuck):
    before = steps(stuck, "saved")["h"]
    same(ask(stuck, "saved", x=X), {"y": X + 1})
    same(ask(stuck, "saved_twice", x=X), {"y": X + 1})
    same(ask(stuck, "skipped", x=X), {"y": f32([-1, -1])})
    after = steps(stuck, "saved")["h"]
    assert (after["fallbacks"] - before["fallbacks"], after["failed"] - before["failed"]) == (2, 0)
    assert steps(stuck, "skipped")["inc"]["skipped"] > 0


@pytest.mark.parametrize("name", ["plain", "outer"])
def test_a_deadline_passes_through_all_steps(stuck, name):
    answer = infer(stuck, name, headers={"x-salver-timeout-ms": "60"}, x=X)
    check_failed(answer, 504, "step 'h'")
    given = grpc_client.InferInput("x", [1, 2], "FP32")
    given.set_data_from_numpy(X)
    with pytest.raises(InferenceServerException) as caught:
        grpc_client.InferenceServerClient(stuck.grpc).infer(name, [given], client_timeout=0.1)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    stuck.until(lambda: in_flight(stuck, name) == 0, "left by the caller")


def test_a_fallback_does_not_outlive_the_request(stuck):
    answer = infer(stuck, "each", headers={"x-salver-timeout-ms": "60"}, items=X)
    assert answer.status_code == 504, answer.text


def test_a_caller_that_leaves_takes_its_steps_along(stuck, slow):
    body = json.dumps({"inputs": [tensor("x", X)]}).encode()
    connection = stuck.connect()
    head = f"POST /v2/models/outer/infer HTTP/1.1\r\nHost: {stuck.http}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    eventually((slow[1] / "begun").exists, "the step began")
    assert in_flight(stuck, "outer") == in_flight(stuck, "plain") == 1
    connection.close()
    stuck.until(lambda: in_flight(stuck, "outer") == in_flight(stuck, "plain") == 0, "left by the caller")


def test_a_job_that_is_cancelled_leaves_its_steps(stuck, slow):
    job = stuck.post("/models/plain/jobs", {"x": X.tolist()}).json()["status_url"]
    eventually((slow[1] / "begun").exists, "the step began")
    assert requests.delete(stuck.url + job, timeout=PATIENCE_S).json()["status"] == "cancelled"
    stuck.until(lambda: in_flight(stuck, "plain") == 0, "left by the job")


@pytest.mark.announced_errors("predict raised ValueError: negative")
def test_a_step_that_fails_is_named_falls_back_or_is_skipped(free):
    check_failed(infer(free, "outer", x=-X), 500, "step 'o': step 'h': model 'held' version 1: predict raised ValueError: negative")
    free.until(lambda: any("predict raised ValueError" in line for line in free.errors()), "heard in the log")
    same(ask(free, "saved", x=-X), {"y": 1 - X})
    same(ask(free, "skipped", x=-X), {"y": f32([-1, -1])})
    same(ask(free, "skipped", x=X), {"y": 2 * X + 1})
    items = f32([1, 2], [-3, 4], [5, 6])
    same(ask(free, "each", items=items), {"y": items + 1})
    same(ask(free, "each", items=abs(items)), {"y": 2 * abs(items)})


# Versions and changes


class Versions:
    """A model of three versions, one of them with a label."""

    def __init__(self, folder):
        self.folder = folder
        for version in (1, 2, 3):
            own = folder / "many" / str(version)
            own.mkdir(parents=True)
            made = graph([node("Add", "x k", "y")], {"x": PAIR}, {"y": PAIR}, k=f32(100 * version))
            (own / "model.onnx").write_bytes(made)
        self.serve(1, 1, 2, 3)

    def serve(self, stable, *versions):
        which = " ".join(f"versions: {version}" for version in versions)
        replace(self.folder / "models.config", (
            f'model_config_list {{ config {{ name: "many" base_path: "{self.folder}/many" model_platform: "onnx" '
            f'model_version_policy {{ specific {{ {which} }} }} version_labels {{ key: "stable" value: {stable} }} }} }}'
        ))  # fmt: skip


def test_steps_name_versions_and_labels_and_follow_them(start, tmp_path):
    folder, versions = tmp_path / "models", Versions(tmp_path)
    for name, called in (("first", "many/1"), ("second", "many/2"), ("stable", "many@stable"), ("latest", "many")):
        cache = "" if name == "first" else "[cache]\n"
        put(folder, name, f'[[step]]\nname = "a"\nmodel = "{called}"\n{cache}')
    server = start(folder, tmp_path / "models.config", *POLL)
    added = lambda name: (ask(server, name, x=X)["y"] - X).ravel().tolist()[0]
    assert [added(name) for name in ("first", "second", "stable", "latest")] == [100, 200, 100, 300]
    versions.serve(3, 1, 2, 3)
    server.until(lambda: added("stable") == 300, "led by the label")
    versions.serve(2, 2)
    server.until(lambda: infer(server, "first", x=X).status_code == 503, "without its model")
    check_failed(infer(server, "first", x=X), 503, "step 'a': Request for unknown model: 'many' version 1 is not found")
    server.until(lambda: [added(name) for name in ("second", "stable", "latest")] == [200, 200, 200], "served by version 2")


def times(factor):
    return graph([node("Mul", "x k", "y")], {"x": PAIR}, {"y": PAIR}, k=f32(factor))


def test_a_cached_ensemble_answers_anew_when_a_model_of_it_is_replaced(start, tmp_path):
    folder = parts(tmp_path / "models", "inc", "double")
    put(folder, "e", CHAIN + "[cache]\n")
    server = start(folder, *POLL)
    same(ask(server, "e", x=X), {"y": 2 * (X + 1)})
    assert infer(server, "e", x=X).headers["x-salver-cache"] == "hit"
    for factor in range(10, 20):
        replace(folder / "double" / "model.onnx", times(factor))
        server.until(lambda: (ask(server, "double", x=X)["y"] == factor * X).all(), "replaced")  # noqa: B023
        server.until(lambda: (ask(server, "e", x=X)["y"] == factor * (X + 1)).all(), "answered anew")  # noqa: B023
    put(folder, "e", '[[step]]\nmodel = "inc"\n[cache]\n')
    server.until(lambda: (ask(server, "e", x=X)["y"] == X + 1).all(), "changed itself")


def test_a_model_that_leaves_is_named_and_comes_back(start, tmp_path):
    folder = parts(tmp_path / "models", "inc", "double")
    put(folder, "e", CHAIN)
    server = start(folder, *POLL)
    same(ask(server, "e", x=X), {"y": 2 * (X + 1)})
    (folder / "double").rename(tmp_path / "away")
    server.until(lambda: infer(server, "e", x=X).status_code == 503, "without its model")
    check_failed(infer(server, "e", x=X), 503, "step 'second'")
    put(folder, "double", PARTS["negate"])
    server.until(lambda: infer(server, "e", x=X).status_code == 200, "complete again")
    same(ask(server, "e", x=X), {"y": -X - 1})


@pytest.mark.announced_errors("step 'second' calls model 'double'")
def test_an_ensemble_that_lacks_a_model_comes_up_with_it(start, tmp_path):
    folder = parts(tmp_path / "models", "inc")
    put(folder, "e", CHAIN)
    server = start(folder, *POLL, ready=False)
    server.until(lambda: reason(server, "e"), "refused")
    assert "step 'second' calls model 'double'" in reason(server, "e") and "'double' is not found" in reason(server, "e")
    check_failed(infer(server, "e", x=X), 503, "step 'second' calls model 'double'")
    parts(folder, "double")
    server.until(lambda: infer(server, "e", x=X).status_code == 200, "complete")


def test_no_request_fails_while_models_and_ensembles_are_replaced(start, tmp_path):
    folder = parts(tmp_path / "models", "inc", "double")
    put(folder, "inner", CHAIN)
    put(folder, "e", '[[step]]\nmodel = "inner"\n')
    server = start(folder, *POLL)
    seen, stop = Counter(), threading.Event()

    def load():
        with requests.Session() as session:
            body = {"inputs": [tensor("x", X)]}
            while not stop.is_set():
                answer = session.post(f"{server.url}/v2/models/e/infer", json=body, timeout=PATIENCE_S)
                seen[answer.status_code if answer.status_code == 200 else answer.text] += 1

    callers = [threading.Thread(target=load) for _ in range(4)]
    for caller in callers:
        caller.start()
    try:
        for factor in range(3, 11):
            replace(folder / "double" / "model.onnx", times(factor))
            replace(folder / "inner" / "model.toml", f"{CHAIN}# {factor}\n")
            replace(folder / "e" / "model.toml", f'[[step]]\nmodel = "inner"\n# {factor}\n')
            server.until(lambda: (ask(server, "e", x=X)["y"] == factor * (X + 1)).all(), "replaced")  # noqa: B023
    finally:
        stop.set()
        for caller in callers:
            caller.join(PATIENCE_S)
    assert list(seen) == [200], seen


def test_loading_an_ensemble_loads_its_models(start, tmp_path):
    folder = parts(tmp_path / "models", "inc", "double", "negate")
    put(folder, "inner", CHAIN)
    put(folder, "e", '[[step]]\nmodel = "inner"\n')
    server = start(folder, "--model-control", "explicit")
    serving = lambda: {
        entry["name"] for entry in server.post("/v2/repository/index", {}).json() if entry.get("state") == "READY"
    }
    change = lambda name, verb: server.post(f"/v2/repository/models/{name}/{verb}", {})
    assert serving() == set()
    assert change("e", "load").status_code == 200
    assert serving() == {"e", "inner", "inc", "double"}
    same(ask(server, "e", x=X), {"y": 2 * (X + 1)})
    assert change("double", "unload").status_code == 200
    check_failed(infer(server, "e", x=X), 503, "step 'inner': step 'second'")
    assert change("double", "load").status_code == 200
    same(ask(server, "e", x=X), {"y": 2 * (X + 1)})
    assert change("e", "unload").status_code == 200
    server.until(lambda: "e" not in serving(), "unloaded")
    same(ask(server, "inner", x=X), {"y": 2 * (X + 1)})
    assert change("e", "load").status_code == 200
    same(ask(server, "e", x=X), {"y": 2 * (X + 1)})


def test_under_a_memory_limit_steps_are_loaded_when_they_are_asked(start, tmp_path):
    folder = parts(tmp_path / "models")
    put(folder, "e", CHAIN)
    put(folder, "outer", '[[step]]\nmodel = "e"\n')
    server = start(folder, "--memory-limit", "1GiB")
    assert not [entry for entry in server.post("/v2/repository/index", {}).json() if entry.get("state") == "READY"]
    for name in ("outer", "e", "outer"):
        same(ask(server, name, x=X), {"y": 2 * (X + 1)})


# Many, and large


def test_a_thousand_callers_at_once_have_their_own_answers(start, tmp_path):
    folder = parts(tmp_path / "models", "inc", "double")
    put(folder, "inner", CHAIN)
    put(folder, "e", '[[step]]\nmodel = "inner"\n')
    server = start(folder, "--max-queue", "2000")

    async def all_of_them():
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(number):
                body = {"inputs": [tensor("x", f32([number, -number]))]}
                async with session.post(f"{server.url}/v2/models/e/infer", json=body) as answer:
                    told = await answer.json()
                    return told["outputs"][0]["data"] if answer.status == 200 else told

            return await asyncio.gather(*[one(number) for number in range(1000)])

    assert asyncio.run(all_of_them()) == [[2 * (number + 1), 2 * (1 - number)] for number in range(1000)]


def test_as_many_steps_as_there_may_be(start, tmp_path):
    folder = parts(tmp_path / "models", "inc")
    call = lambda idx, source: f'[[step]]\nname = "s{idx}"\nmodel = "inc"\ninputs = {{ x = "{source}" }}\n'
    put(folder, "long", call(0, "x") + "".join(call(idx, f"s{idx - 1}.y") for idx in range(1, 256)))
    wide = "".join(call(idx, "x") for idx in range(256))
    put(folder, "wide", wide + "".join(f'[[output]]\nname = "y{idx}"\nfrom = "s{idx}.y"\n' for idx in range(256)))
    put(folder, "deep0", '[[step]]\nmodel = "inc"\n')
    for depth in range(1, 16):
        put(folder, f"deep{depth}", f'[[step]]\nmodel = "deep{depth - 1}"\n')
    server = start(folder)
    same(ask(server, "long", x=X), {"y": X + 256})
    same(ask(server, "wide", x=X), {f"y{idx}": X + 1 for idx in range(256)})
    same(ask(server, "deep15", x=X), {"y": X + 1})


# Files that are refused


def step(name, called, **keys):
    return f'[[step]]\nname = "{name}"\nmodel = "{called}"\n' + "".join(f"{key} = {value}\n" for key, value in keys.items())


def output(name, source):
    return f'[[output]]\nname = "{name}"\nfrom = {source}\n'


REFUSED = {
    "missing": (step("a", "inc") + step("b", "nobody"), ["step 'b' calls model 'nobody'", "is not found"]),
    "missing-version": (step("a", "inc/7"), ["step 'a' calls model 'inc/7'", "version 7 is not found"]),
    "missing-label": (step("a", "inc@prod"), ["step 'a' calls model 'inc@prod'", "label 'prod' is not found"]),
    "missing-fallback": (step("a", "inc", fallback='"nobody"'), ["step 'a' calls model 'nobody'"]),
    "cycle": (
        step("a", "inc", inputs='{ x = "c.y" }') + step("b", "inc", inputs='{ x = "a.y" }') + step("c", "inc", inputs='{ x = "b.y" }'),
        ["in a circle", "'a' reads from 'c' reads from 'b' reads from 'a'"],
    ),
    "own-cycle": (step("a", "inc", inputs='{ x = "a.y" }'), ["'a' reads from 'a'"]),
    "condition-cycle": (
        step("a", "score", when='"b.g"') + step("b", "flag", when='"a.s > 0"') + output("y", '["a.s", 0]'), ["in a circle"],
    ),
    "round-one": (step("a", "round-two"), ["'round-one'", "'round-two'", "in a circle"]),
    "round-two": (step("a", "round-one"), ["'round-one'", "'round-two'", "in a circle"]),
    "self": (step("a", "self"), ["'self' calls 'self'"]),
    "no-input": (step("a", "inc", inputs='{ z = "x" }'), ["step 'a' gives 'z' to model 'inc'", "its inputs are 'x'"]),
    "no-output": (
        step("a", "inc") + step("b", "inc", inputs='{ x = "a.z" }'),
        ["input 'x' of step 'b' (model 'inc')", "output 'z' of step 'a'", "its outputs are 'y'"],
    ),
    "no-step": (step("a", "inc") + step("b", "inc", inputs='{ x = "c.y" }'), ["line 7", "'c.y' is an output of no step", "'a', 'b'"]),
    "no-list": (step("a", "inc", each='"q"'), ["step 'a' gives 'q' to model 'inc'"]),
    "type": (
        step("a", "inc") + step("b", "count", inputs='{ n = "a.y" }'),
        ["output 'y' of step 'a' (model 'inc') is FP32", "input 'n' of step 'b' (model 'count') takes INT64"],
    ),
    "shape": (
        step("a", "score") + step("b", "inc", inputs='{ x = "a.s" }'),
        ["output 's' of step 'a' (model 'score') has shape [-1, 1]", "input 'x' of step 'b' (model 'inc') takes [-1, 2]"],
    ),
    "rank": (step("a", "spread") + step("b", "inc", inputs='{ x = "a.items" }'), ["[-1, 3, 2]", "[-1, 2]", "step 'a'", "step 'b'"]),
    "no-list-given": (step("a", "score") + step("b", "inc", inputs='{ x = "a.s" }', each='"x"'), ["step 'a'", "step 'b'"]),
    "two-readers": (step("a", "inc") + step("b", "count", inputs='{ n = "x" }'), ["step 'a'", "is FP32", "step 'b'", "takes INT64"]),
    "two-outputs": (step("a", "inc") + step("b", "double", inputs='{ x = "x" }'), ["output 'y'", "[[output]]"]),
    "two-sources": (
        step("a", "inc") + step("b", "halves") + step("c", "lookup", inputs='{ x = "x" }') + step("d", "fold", inputs='{ items = "y" }')
        + step("e", "tag", inputs='{ w = "y" }'),
        ["FP32", "BYTES", "step 'd'", "step 'e'"],
    ),
    "not-always": (
        step("a", "score") + step("b", "inc", inputs='{ x = "x" }', when='"a.s < 0"') + output("y", '"b.y"'),
        ["output 'y'", "step 'b' has a condition"],
    ),
    "neither": (
        step("a", "score") + step("b", "inc", inputs='{ x = "x" }', when='"a.s < 0"')
        + step("c", "inc", inputs='{ x = "x" }', when='"a.s >= 0"') + output("y", '["b.y", "c.y"]'),
        ["output 'y'", "step 'c' has a condition", "`not` that condition"],
    ),
    "maybe-skipped": (step("a", "inc", on_failure='"skip"'), ["output 'y'", "step 'a' may be skipped"]),
    "maybe-absent": (step("a", "lookup", present='"found"'), ["output 'y'", "step 'a' may have no answer"]),
    "wide-condition": (step("a", "inc") + step("b", "inc", inputs='{ x = "x" }', when='"a.y < 0"'), ["condition of step 'b'", "[-1, 2]"]),
    "text-condition": (
        step("a", "score") + step("b", "inc", inputs='{ x = "x" }', when="\"a.s == 't'\""), ["step 'b'", "FP32", "the text 't'"],
    ),
    "bad-condition": (step("a", "score", when='"x = 1"'), ["line 4", "step.when", "write == or !="]),
    "real-for-whole": (step("a", "count", inputs="{ n = 1.5 }"), ["input 'n' of step 'a' (model 'count') is INT64", "1.5"]),
    "text-for-number": (step("a", "inc", inputs='{ x = { text = "t" } }'), ["is FP32", "the text 't'"]),
    "number-for-flag": (step("a", "flag", inputs="{ f = 1 }"), ["is BOOL", "1"]),
    "present-type": (step("a", "score", present='"s"'), ["`present` of step 'a' must be a BOOL output", "FP32"]),
    "present-name": (step("a", "score", present='"t"'), ["`present` of step 'a'", "'t'", "its outputs are 's'"]),
    "fallback-output": (step("a", "inc", fallback='"score"'), ["fallback 'score' of step 'a'", "no output 'y'"]),
    "fallback-rows": (step("a", "inc", fallback='"whole"'), ["fallback 'whole' of step 'a'", "takes rows"]),
    "same-step": (step("a", "inc") * 2, ["line 5", "step.name", "'a'"]),
    "dotted-step": (step("a.b", "inc"), ["line 2", "step.name", "'a.b'"]),
    "same-output": (step("a", "inc") + output("y", '"a.y"') * 2, ["output.name", "'y'"]),
    "unknown-key": (step("a", "inc", whenn='"x"'), ["line 4", "unknown field `whenn`"]),
    "no-source": (step("a", "inc", inputs="{ x = [] }"), ["line 4", "at least one value"]),
    "no-time": (step("a", "inc", timeout_ms="0"), ["line 4", "timeout_ms", "from 1 to 3600000"]),
    "bad-model": (step("a", "inc/x"), ["line 3", "step.model", "'x'"]),
    "no-steps": ('engine = "ensemble"\n', ["line 1", "at least one [[step]]"]),
    "other-engine": ('engine = "onnx"\n' + step("a", "inc"), ["line 2", 'engine = "ensemble"']),
    "with-artifact": ('artifact = "model.onnx"\n' + step("a", "inc"), ["artifact", "leave it out"]),
    "with-instances": (step("a", "inc") + "[instances]\ncount = 2\n", ["[instances]"]),
    "too-many": ("".join(step(f"s{idx}", "inc", inputs='{ x = "x" }') for idx in range(257)), ["at most 256", "257"]),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    folder = parts(tmp_path_factory.mktemp("refused"))
    put(folder, "whole", graph([node("Neg", "x", "y")], {"x": (1, [2])}, {"y": (1, [2])}))
    for name, (text, _) in REFUSED.items():
        put(folder, name, text)
    return {one["model"]: one for one in json.loads(salver("check", folder, "--json", code=1).stdout)}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_with_both_ends_named(refused, name):
    found = refused[name]
    assert found["state"] == "failed", found
    assert [part for part in REFUSED[name][1] if part not in found["reason"]] == [], found["reason"]


def test_what_stands_beside_refused_files_serves(refused):
    assert {name for name, one in refused.items() if one["state"] == "ready"} == {*PARTS, "whole"}


@pytest.mark.announced_errors("model failed to load", "model cannot be read")
def test_a_server_of_refused_files_answers_why(start, tmp_path):
    folder = parts(tmp_path / "models", "inc")
    put(folder, "round-one", REFUSED["round-one"][0])
    put(folder, "round-two", REFUSED["round-two"][0])
    put(folder, "e", step("a", "inc") + step("b", "nobody"))
    server: Server = start(folder, ready=False)
    for name, part in (("round-one", "in a circle"), ("round-two", "in a circle"), ("e", "step 'b' calls model 'nobody'")):
        server.until(lambda: reason(server, name), "refused")  # noqa: B023
        check_failed(infer(server, name, x=X), 503, part)
    same(read(infer(server, "inc", x=X)), {"y": X + 1})
    assert server.get("/v2/health/live").status_code == 200
    assert np.isfinite(ask(server, "inc", x=X)["y"]).all()
