"""What ensembles answer, over every protocol: the same as their steps, called one by one."""

import json
import queue
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from harness import MODELS, PATIENCE_S
from pipelines import EXPECTED, WHOLE, ask, f32, graph, infer, node, parts, put, read, rows, same, steps, tensor
from test_cli import salver
from tritonclient.utils import InferenceServerException

SEED = 9

CHAIN = """
[[step]]
name   = "first"
model  = "inc"

[[step]]
name   = "second"
model  = "double"
inputs = { x = "first.y" }
"""

# What `grow` has seen is twice as long as what only `keep` has.
UNEVEN = """
[[step]]
name   = "gate"
model  = "total"
[[step]]
model  = "grow"
when   = "gate.t > 0"
[[step]]
model  = "keep"
"""

ENSEMBLES = {
    "chain": f'engine = "ensemble"\nlabels = ["left", "right"]\n{CHAIN}',
    # What reads comes before what is read, and one input feeds two steps.
    "join": """
[[step]]
model  = "sum"
inputs = { a = "low.y", b = "high.y" }
[[step]]
name   = "low"
model  = "negate"
inputs = { x = "first.y" }
[[step]]
name   = "high"
model  = "double"
inputs = { x = "first.y" }
[[step]]
name   = "first"
model  = "inc"
inputs = { x = "x" }
[[output]]
name = "joined"
from = "sum.y"
[[output]]
name = "again"
from = "sum.y"
[[output]]
name = "given"
from = "x"
""",
    # Rows go one of four ways; what did not run leads to other steps and to conditions.
    "ways": """
[[step]]
model  = "score"
[[step]]
name   = "low"
model  = "negate"
inputs = { x = "x" }
when   = "score.s < 0 and not score.s <= -100"
[[step]]
name   = "middle"
model  = "double"
inputs = { x = "x" }
when   = "(score.s >= 0) and (score.s < 10.5)"
[[step]]
name   = "more"
model  = "inc"
inputs = { x = "middle.y" }
when   = "score.s != 4"
[[output]]
name = "y"
from = ["more.y", "low.y", "middle.y", "x"]
[[output]]
name = "s"
from = "score.s"
""",
    "constants": """
[[step]]
model  = "flag"
[[step]]
model  = "tag"
when   = "flag.g"
[[step]]
model  = "count"
when   = "flag.g == true"
[[step]]
name   = "shifted"
model  = "sum"
inputs = { a = "x", b = 0.5 }
when   = "not flag.g != true"
[[output]]
name = "v"
from = ["tag.v", { text = 'none "ü"' }]
[[output]]
name = "m"
from = ["count.m", -9223372036854775808]
[[output]]
name = "y"
from = ["shifted.y", 7]
[[output]]
name = "g"
from = "flag.g"
""",
    # Opposite conditions: nothing to fall back on is needed.
    "either": """
[[step]]
model  = "score"
[[step]]
name   = "low"
model  = "inc"
inputs = { x = "x" }
when   = "score.s < 0"
[[step]]
name   = "high"
model  = "double"
inputs = { x = "x" }
when   = "not score.s < 0"
[[step]]
name   = "higher"
model  = "double"
inputs = { x = "high.y" }
[[output]]
name = "y"
from = ["low.y", "higher.y"]
""",
    "found": """
[[step]]
model   = "lookup"
present = "found"
[[step]]
model   = "double"
inputs  = { x = "lookup.y" }
[[output]]
name = "y"
from = ["double.y", "x"]
""",
    "words": """
[[step]]
model = "tag"
[[step]]
name   = "yes"
model  = "inc"
inputs = { x = "x" }
when   = "tag.v == 'ja' or w == \\"日本 (x)\\""
[[output]]
name = "v"
from = "tag.v"
[[output]]
name = "y"
from = ["yes.y", "x"]
""",
    # A list in each row.
    "lists": """
[[step]]
model  = "score"
[[step]]
name   = "each"
model  = "double"
inputs = { x = "items" }
each   = "x"
[[step]]
model  = "fold"
inputs = { items = "each.y" }
[[output]]
name = "doubled"
from = "each.y"
[[output]]
name = "y"
from = "fold.y"
[[output]]
name = "s"
from = "score.s"
""",
    # The whole request is a list; the model takes one item at a time.
    "items": '[[step]]\nname = "each"\nmodel = "whole"\ninputs = { x = "items" }\neach = ["x"]\n',
    # Two lists, or one that everything else goes along with.
    "pairs": '[[step]]\nmodel = "sum"\ninputs = { a = "p", b = "q" }\neach = ["a", "b"]\n',
    "along": """
[[step]]
model  = "score"
inputs = { x = "q" }
[[step]]
model  = "sum"
inputs = { a = "p", b = "q" }
each   = "a"
[[output]]
name = "y"
from = "sum.y"
""",
    "outer": """
[[step]]
model  = "chain"
[[step]]
model  = "ways"
inputs = { x = "chain.y" }
""",
    # Rows of one request come back in different lengths.
    "uneven": f"""{UNEVEN}
[[output]]
name = "y"
from = ["grow.y", "keep.y"]
""",
    "uneven_inside": f"""{UNEVEN}
[[step]]
model  = "total"
inputs = {{ x = ["grow.y", "keep.y"] }}
[[output]]
name = "t"
from = "total.t"
""",
    "nothing": '[[step]]\nmodel = "inc"\ninputs = { x = 1 }\n',
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = parts(tmp_path_factory.mktemp("models"))
    put(folder, "whole", WHOLE)
    free = rows("K")
    put(folder, "grow", graph([node("Concat", "x x", "y", axis=1)], {"x": free}, {"y": rows("L")}))
    put(folder, "keep", graph([node("Identity", "x", "y")], {"x": free}, {"y": free}))
    put(folder, "total", graph([node("ReduceSum", "x last", "t", keepdims=1)], {"x": free}, {"t": rows(1)}, last=[1]))
    for name, text in ENSEMBLES.items():
        put(folder, name, text)
    return folder


@pytest.fixture(scope="module")
def server(start, models):
    return start(models)


def batch(random, n_rows):
    return random.integers(-60, 60, (n_rows, 2)).astype(np.float32)


def one_by_one(server, x):
    """What `ways` says, by requests to the models that it calls, each for one row."""
    answers = []
    for row in x:
        row = row[None]
        s = ask(server, "score", x=row)["s"]
        score = s.item()
        if score < 0:
            y = ask(server, "negate", x=row)["y"] if score > -100 else row
        elif score < 10.5:
            y = ask(server, "double", x=row)["y"]
            y = ask(server, "inc", x=y)["y"] if score != 4 else y
        else:
            y = row
        answers.append((y, s))
    y, s = zip(*answers, strict=True)
    return {"y": np.concatenate(y), "s": np.concatenate(s)}


def test_a_chain_answers_what_its_steps_answer(server):
    random = np.random.default_rng(SEED)
    for n_rows in (1, 2, 7, 64, 65, 1000):
        x = batch(random, n_rows)
        same(ask(server, "chain", x=x), ask(server, "double", x=ask(server, "inc", x=x)["y"]))
        same(ask(server, "chain", x=x), {"y": 2 * (x + 1)})


def test_branches_join_whatever_the_order_in_the_file(server):
    x = f32([1, 2], [-3, 0.5])
    same(ask(server, "join", x=x), {"joined": x + 1, "again": x + 1, "given": x})


def test_rows_of_one_request_go_their_own_ways(server):
    x = f32([1, 2], [-1, -2], [2, 2], [60, 1], [-60, -60], [5.5, 5])
    expected = f32([3, 5], [1, 2], [4, 4], [60, 1], [-60, -60], [5.5, 5])
    same(ask(server, "ways", x=x), {"y": expected, "s": x.sum(1, keepdims=True)})
    same(ask(server, "ways", x=x), one_by_one(server, x))


def test_many_at_once_are_answered_as_each_alone(server):
    random = np.random.default_rng(SEED)
    batches = [batch(random, int(n)) for n in random.integers(1, 9, 40)]
    expected = [one_by_one(server, x) for x in batches]
    names = ["ways", "chain", "outer"] * 40
    inputs = [x for x in batches for _ in range(3)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda name, x: ask(server, name, x=x), names, inputs))
    for idx, x in enumerate(batches):
        same(answers[3 * idx], expected[idx])
        same(answers[3 * idx + 1], {"y": 2 * (x + 1)})
        same(answers[3 * idx + 2], ask(server, "ways", x=2 * (x + 1)))


def test_constants_stand_in_for_what_did_not_run(server):
    for flags in ([True, False, True], [False] * 3, [True] * 3):
        g = np.array(flags)[:, None]
        w, n = np.array([["a"], [""], ["ß"]], object), np.array([[1], [2**62], [-5]])
        x = f32([1, 2], [3, 4], [5, 6])
        same(ask(server, "constants", f=g, w=w, n=n, x=x), {
            "v": np.where(g, w, 'none "ü"'), "m": np.where(g, n, -(2**63)),
            "y": np.where(g, x + f32(0.5), f32(7)), "g": g,
        })  # fmt: skip


def test_of_opposite_conditions_one_holds_for_each_row(server):
    x = f32([1, 2], [-3, 1], [np.nan, 6], [0, 0])
    expected = np.where(x.sum(1, keepdims=True) < 0, x + 1, 4 * x)
    same(ask(server, "either", x=x), {"y": expected})
    for row, value in zip(x, expected, strict=True):
        same(ask(server, "either", x=row[None]), {"y": value[None]})


def test_rows_without_an_answer_take_the_next_source(server):
    x = f32([1, 2], [-3, 1], [5, 6])
    expected = np.where(x.sum(1, keepdims=True) > 0, 2 * (x + 10), x)
    same(ask(server, "found", x=x), {"y": expected})
    same(ask(server, "found", x=-abs(x)), {"y": -abs(x)})


def test_rows_of_different_lengths_do_not_share_an_answer(server):
    long, short = f32([1, 2]), f32([-1, 0])
    both = np.concatenate([long, short])
    for name, output, expected, said in (
        ("uneven", "y", (f32([1, 2, 1, 2]), short), "rows of 'y'"),
        ("uneven_inside", "t", (f32([6]), f32([-1])), "step 'total': rows of 'x'"),
    ):
        for x, value in zip((long, short), expected, strict=True):
            same(ask(server, name, x=x), {output: value})
            same(ask(server, name, x=np.repeat(x, 2, 0)), {output: np.repeat(value, 2, 0)})
        answer = infer(server, name, x=both)
        assert answer.status_code == 400, answer.text
        assert f"{said} have different shapes, [1,4] and [1,2]" in answer.json()["error"]
        assert "send fewer rows in a request" in answer.json()["error"]


def test_texts_go_through_and_decide(server):
    w = np.array([["ja"], ["nein"], ["日本 (x)"], ["ja "]], object)
    x = f32(*[[1, 2]] * 4)
    same(ask(server, "words", w=w, x=x), {"v": w, "y": x + f32([1], [0], [1], [0])})


@pytest.mark.parametrize("n_items", [0, 1, 3, 200])
def test_a_step_runs_for_each_item_of_a_list(server, n_items):
    random = np.random.default_rng(SEED + n_items)
    items = random.integers(-9, 9, (3, n_items, 2)).astype(np.float32)
    x = batch(random, 3)
    same(ask(server, "lists", items=items, x=x), {
        "doubled": 2 * items, "y": (2 * items).sum(1), "s": x.sum(1, keepdims=True),
    })  # fmt: skip
    one_each = [ask(server, "double", x=row)["y"] for row in items]
    same({"y": ask(server, "lists", items=items, x=x)["doubled"]}, {"y": np.stack(one_each)})
    same(ask(server, "items", items=items[0]), {"y": items[0] + 1})
    same(ask(server, "pairs", p=items[0], q=items[1]), {"y": items[0] + items[1]})
    same(ask(server, "along", p=items, q=x), {"y": items + x[:, None]})


def test_items_for_a_model_that_takes_one_are_called_one_by_one(server):
    item = ask(server, "whole", x=f32(4, 5))
    same(item, {"y": f32(5, 6)})
    same(ask(server, "items", items=f32([4, 5])), {"y": item["y"][None]})


def test_an_ensemble_of_ensembles_answers_the_same(server):
    x = batch(np.random.default_rng(SEED), 50)
    same(ask(server, "outer", x=x), ask(server, "ways", x=ask(server, "chain", x=x)["y"]))


def test_an_ensemble_may_need_no_input(server):
    answer = server.post("/v2/models/nothing/infer", {"inputs": []})
    same(read(answer), {"y": f32([2, 2])})


@pytest.mark.parametrize("name", ["inc", "chain"])
def test_no_rows_are_answered_with_no_rows(server, name):
    same(ask(server, name, x=np.zeros((0, 2), np.float32)), {"y": np.zeros((0, 2), np.float32)})


def test_the_answers_of_every_protocol_are_the_same(server):
    x = f32([1, 2], [3, 4])
    y = (2 * (x + 1)).tolist()
    for body in ({"inputs": x.tolist()}, {"instances": x.tolist()}):
        assert server.post("/v1/models/chain:predict", body).json() in ({"outputs": y}, {"predictions": y})
    http, grpc = http_client.InferenceServerClient(server.http), grpc_client.InferenceServerClient(server.grpc)
    for client, module in ((http, http_client), (grpc, grpc_client)):
        given = module.InferInput("x", [2, 2], "FP32")
        given.set_data_from_numpy(x)
        assert client.infer("chain", [given]).as_numpy("y").tolist() == y
        some = client.infer("ways", [given], outputs=[module.InferRequestedOutput("s")])
        assert some.as_numpy("s").tolist() == [[3], [7]] and some.as_numpy("y") is None
        words = module.InferInput("w", [2, 1], "BYTES")
        words.set_data_from_numpy(np.array([["ja"], ["no"]], object))
        answer = client.infer("words", [words, given])
        assert answer.as_numpy("v").tolist() == [[b"ja"], [b"no"]]
        assert answer.as_numpy("y").tolist() == [[2, 3], [3, 4]]
    plain = server.post("/models/ways/predict", {"x": x.tolist()}).json()
    assert plain["predictions"] == [{"y": [3, 5], "s": 3}, {"y": [7, 9], "s": 7}]
    classes = http_client.InferRequestedOutput("y", class_count=1)
    given = http_client.InferInput("x", [2, 2], "FP32")
    given.set_data_from_numpy(x)
    assert http.infer("chain", [given], outputs=[classes]).as_numpy("y").tolist() == [[b"6.000000:1:right"], [b"10.000000:1:right"]]


def test_a_job_answers_what_a_request_answers(server):
    x = f32([1, 2], [-1, -2])
    job = server.post("/models/ways/jobs", {"x": x.tolist()})
    assert job.status_code == 202, job.text
    done = server.get(job.json()["status_url"], params={"wait": "30s"}).json()
    assert done["status"] == "done"
    assert done["result"] == server.post("/models/ways/predict", {"x": x.tolist()}).json()


def test_metadata_tells_what_flows_in_and_out(server):
    told = server.get("/v2/models/words").json()
    assert (told["platform"], told["versions"]) == ("ensemble", ["1"])
    shapes = lambda side: {one["name"]: (one["datatype"], one["shape"]) for one in told[side]}
    assert shapes("inputs") == {"w": ("BYTES", [-1, 1]), "x": ("FP32", [-1, 2])}
    assert shapes("outputs") == {"v": ("BYTES", [-1, 1]), "y": ("FP32", [-1, 2])}
    lists = server.get("/v2/models/lists").json()
    assert {"name": "items", "datatype": "FP32", "shape": [-1, -1, 2]} in lists["inputs"]
    config = server.get("/v2/models/chain/config").json()
    assert [(one["name"], one["data_type"], one["dims"]) for one in config["input"]] == [("x", "TYPE_FP32", [2])]
    grpc = grpc_client.InferenceServerClient(server.grpc)
    assert grpc.is_model_ready("chain") and grpc.get_model_metadata("outer").platform == "ensemble"


def test_requests_are_counted_for_the_ensemble_and_each_step(server):
    def counted():
        names = ("outer", "chain", "inc", "score")
        stats = [server.get(f"/v2/models/{name}/stats").json()["model_stats"][0] for name in names]
        return np.array([stat["inference_count"] for stat in stats])

    def metric():
        return [
            float(line.split()[-1]) for line in server.get("/metrics").text.splitlines()
            if line.startswith('ml_inference_total{') and 'model="outer"' in line and 'status="success"' in line
        ]

    before, seen, ran = counted(), metric(), steps(server, "outer")
    ask(server, "outer", x=f32([1, 2], [3, 4]))
    ask(server, "outer", x=f32([-1, -2]))
    # One of the rows is small enough for `more`, which calls `inc` once again.
    assert (counted() - before).tolist() == [3, 3, 4, 3]
    assert metric() == [seen[0] + 2]
    after = steps(server, "outer")
    assert {name: after[name]["runs"] - ran[name]["runs"] for name in after} == {"chain": 2, "ways": 2}


@pytest.mark.parametrize(
    ("name", "inputs", "part"),
    [
        ("chain", {"x": np.zeros((1, 3), np.float32)}, "unexpected shape for input 'x' for model 'chain'. Expected [-1,2], got [1,3]"),
        ("chain", {"x": np.zeros((1, 2), np.int64)}, "'INT64', but model 'chain' expects 'FP32'"),
        ("chain", {"y": np.zeros((1, 2), np.float32)}, "its inputs are 'x'"),
        ("words", {"x": np.zeros((1, 2), np.float32)}, "expected input 'w' (BYTES [-1,1]) for model 'words'"),
        ("words", {"x": np.zeros((2, 2), np.float32), "w": np.array([["a"]], object)}, "has batch size"),
        ("lists", {"x": np.zeros((2, 2), np.float32), "items": np.zeros((1, 3, 2), np.float32)}, "has batch size"),
        ("lists", {"x": np.zeros((2, 2), np.float32), "items": np.zeros((2, 3, 3), np.float32)}, "Expected [-1,-1,2], got [2,3,3]"),
        ("items", {"items": np.zeros((2, 3), np.float32)}, "Expected [-1,2], got [2,3]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_any_step_runs(server, name, inputs, part):
    before = steps(server, name)
    answer = infer(server, name, **inputs)
    assert (answer.status_code, part in answer.json()["error"]) == (400, True), answer.text
    assert steps(server, name) == before


def test_outputs_that_are_not_there_are_named(server):
    body = {"inputs": [tensor("x", f32([1, 2]))], "outputs": [{"name": "z"}]}
    answer = server.post("/v2/models/chain/infer", body)
    assert answer.status_code == 400 and "'z' for model 'chain'; its outputs are 'y'" in answer.text
    grpc = grpc_client.InferenceServerClient(server.grpc)
    given = grpc_client.InferInput("x", [1, 3], "FP32")
    given.set_data_from_numpy(f32([1, 2, 3]))
    with pytest.raises(InferenceServerException) as caught:
        grpc.infer("chain", [given])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_parameters_of_a_request_reach_no_step_as_a_fault(server):
    for parameters in ({"priority": 1}, {"sequence_id": 7, "sequence_start": True}, {"own": "value"}):
        answer = infer(server, "chain", x=f32([1, 2]), parameters=parameters)
        same(read(answer), {"y": f32([4, 6])})


def test_the_commands_know_ensembles(server, models):
    told = salver("predict", "chain", "--input", "[[1, 2]]", "--server", server.url).stdout
    assert json.loads(told)["predictions"][0]["scores"] == {"left": 4, "right": 6}
    listed = {line.split()[0] for line in salver("models", "--server", server.url).stdout.splitlines() if "ready" in line}
    assert set(ENSEMBLES) <= listed
    checked = json.loads(salver("check", models, "--json").stdout)
    assert {one["model"]: one["state"] for one in checked} == dict.fromkeys(listed, "ready")
    measured = salver("bench", "--server", server.url, "--model", "chain", "--duration", "300ms", "--warmup", "50ms", "-c", "4")
    assert "chain http-json" in measured.stdout and measured.stdout.split()[-2] == "0", measured.stdout


def test_equality_holds_over_random_chains(start, tmp_path):
    random = np.random.default_rng(SEED)
    single = ["inc", "double", "negate"]
    folder, chosen = parts(tmp_path / "models"), {}
    for idx in range(12):
        names = [single[pick] for pick in random.integers(0, 3, random.integers(1, 9))]
        before = ["x"] + [f"s{place}.y" for place in range(len(names))]
        text = [f'[[step]]\nname = "s{place}"\nmodel = "{name}"\ninputs = {{ x = "{before[place]}" }}\n' for place, name in enumerate(names)]
        put(folder, f"random{idx}", "".join(text))
        chosen[f"random{idx}"] = names
    server = start(folder)
    for name, calls in chosen.items():
        x = batch(random, int(random.integers(1, 20)))
        y, expected = x, x
        for call in calls:
            y, expected = ask(server, call, x=y)["y"], EXPECTED[call](expected)
        same(ask(server, name, x=x), {"y": y})
        same(ask(server, name, x=x), {"y": expected})


def test_items_go_to_a_model_as_many_at_a_time_as_it_takes(start, tmp_path):
    folder = parts(tmp_path / "models", "inc")
    few = put(folder, "few", graph([node("Neg", "x", "y")], {"x": rows(2)}, {"y": rows(2)}))
    (few / "model.toml").write_text("[batching]\nmax_rows = 3\n")
    put(folder, "e", '[[step]]\nmodel = "few"\neach = "x"\ninputs = { x = "items" }\n')
    items = np.arange(20, dtype=np.float32).reshape(10, 2)
    same(ask(start(folder), "e", items=items), {"y": -items})


def test_a_sequence_goes_through_the_steps_that_keep_one(start, tmp_path):
    folder = tmp_path / "models"
    put(folder, "e", '[[step]]\nname = "a"\nmodel = "sum_oldest"\n[[step]]\nname = "b"\nmodel = "sum_direct"\n'
        '[[output]]\nname = "one"\nfrom = "a.SUM"\n[[output]]\nname = "other"\nfrom = "b.SUM"\n')  # fmt: skip
    server = start(folder, MODELS / "sequences")
    client = grpc_client.InferenceServerClient(server.grpc)

    def add(value, sequence, first=False, last=False):
        given = grpc_client.InferInput("INPUT", [1, 1], "INT32").set_data_from_numpy(np.array([[value]], np.int32))
        answer = client.infer("e", [given], sequence_id=sequence, sequence_start=first, sequence_end=last)
        return answer.as_numpy("one").item(), answer.as_numpy("other").item()

    alone = [add(value, 7, value == 1, value == 3) for value in (1, 2, 3)]
    mixed = [add(value, sequence, value == 1, value == 3) for value in (1, 2, 3) for sequence in (8, 9)]
    assert [one for one, _ in alone] == [1, 3, 6]
    assert mixed[0::2] == mixed[1::2] == alone


def test_a_stream_answers_what_a_request_answers(server):
    answers = queue.Queue()
    client = grpc_client.InferenceServerClient(server.grpc)
    client.start_stream(lambda result, error: answers.put((result, error)))
    given = grpc_client.InferInput("x", [1, 2], "FP32").set_data_from_numpy(f32([1, 2]))
    for name, expected in (("chain", [[4, 6]]), ("ways", [[3, 5]])):
        client.async_stream_infer(name, [given])
        result, error = answers.get(timeout=PATIENCE_S)
        assert error is None and result.as_numpy("y").tolist() == expected
    client.stop_stream()


def test_predict_finds_beside_an_ensemble_what_it_calls(models, server):
    # `outer` calls `chain` and `ways`, which call the others.
    x = [3.0, -1.0]
    done = salver("predict", models / "outer", "-i", json.dumps({"x": [x]}), "--json")
    expected = ask(server, "outer", x=f32(x))
    (found,) = json.loads(done.stdout)["predictions"]
    assert {name: np.ravel(value).tolist() for name, value in found.items()} == {
        name: value.ravel().tolist() for name, value in expected.items()
    }  # fmt: skip
    odd = salver("predict", models / "outer" / ".." / "nobody", "-i", "[]", code=None)
    assert odd.returncode != 0 and "nobody" in odd.stderr
