"""The graph of an ensemble: over HTTP, as a picture, and `salver graph`."""

import json
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from harness import BINARY, PATIENCE_S
from onnx import TensorProto, helper
from test_cli import salver

SVG = "{http://www.w3.org/2000/svg}"

# Rows of a high mean are doubled, the others negated; beside that, each item of a list is doubled.
ENSEMBLE = """
engine = "ensemble"

[[step]]
name   = "score"
model  = "mean"

[[step]]
name       = "high"
model      = "double"
inputs     = { x = "x" }
when       = "score.s >= 0.5"
fallback   = "negate/1"
timeout_ms = 60000

[[step]]
name       = "low"
model      = "negate"
inputs     = { x = "x" }
when       = "not score.s >= 0.5"
on_failure = "skip"

[[step]]
name   = "parts"
model  = "double"
inputs = { x = "items" }
each   = "x"

[[step]]
name   = "join"
model  = "sum"
inputs = { a = ["high.y", "low.y", 0.0], b = "x" }

[[output]]
name = "y"
from = "join.y"

[[output]]
name = "parts"
from = "parts.y"
"""


def write_model(folder, op, inputs, output, **attributes):
    """A model of one operator over rows of four numbers."""
    (name, width), rows = output, lambda width: ["N", width]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [name], **attributes)],
        folder.name,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, rows(4)) for n in dict.fromkeys(inputs)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, rows(width))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "model.toml").write_text(f'name = "{folder.name}"\nartifact = "model.onnx"\n')


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "mean", "ReduceMean", ["x"], ("s", 1), axes=[1])
    write_model(folder / "double", "Add", ["x", "x"], ("y", 4))
    write_model(folder / "negate", "Neg", ["x"], ("y", 4))
    write_model(folder / "sum", "Add", ["a", "b"], ("y", 4))
    (folder / "pipeline").mkdir()
    (folder / "pipeline" / "model.toml").write_text(ENSEMBLE)
    return start(folder)


def ask(server, *rows):
    """Rows of four equal numbers, each with a list of two items; answers are checked."""
    tensor = lambda name, shape, data: {"name": name, "datatype": "FP32", "shape": shape, "data": data}
    inputs = [
        tensor("x", [len(rows), 4], [value for value in rows for _ in range(4)]),
        tensor("items", [len(rows), 2, 4], [value for value in rows for _ in range(8)]),
    ]
    answer = server.post("/v2/models/pipeline/infer", {"inputs": inputs})
    assert answer.status_code == 200, answer.text
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs["y"] == [3 * value if value >= 0.5 else 0 for value in rows for _ in range(4)]
    assert outputs["parts"] == [2 * value for value in rows for _ in range(8)]


def graph(server, path="pipeline"):
    answer = server.get(f"/api/v1/models/{path}/graph")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def steps_of(shown):
    return {step["name"]: step for step in shown["steps"]}


def runs(server):
    return {name: step["statistics"]["runs"] for name, step in steps_of(graph(server)).items()}


def command(server, *words, **options):
    return salver("graph", *words, "--server", server.url, **options)


def test_a_graph_tells_the_steps_and_what_they_read(server):
    shown = graph(server)
    assert (shown["name"], shown["version"], sorted(shown["inputs"])) == ("pipeline", 1, ["items", "x"])
    steps = steps_of(shown)
    high = steps["high"]
    assert (high["model"], high["fallback"], high["timeout_ms"]) == ("double", "negate/1", 60000)
    assert (high["when"], high["after"], high["on_failure"]) == ("score.s >= 0.5", ["score"], "fail")
    assert high["inputs"] == [{"name": "x", "from": ["x"]}]
    assert steps["low"]["on_failure"] == "skip"
    assert [name for name, step in steps.items() if step["each"]] == ["parts"]
    assert steps["join"]["inputs"][0] == {"name": "a", "from": ["high.y", "low.y", "0"]}
    assert sorted(steps["join"]["after"]) == ["high", "low"]
    assert [step["name"] for step in shown["steps"]].index("join") > 2
    assert {output["name"]: output["from"] for output in shown["outputs"]} == {"y": ["join.y"], "parts": ["parts.y"]}
    assert graph(server, "pipeline/versions/1") | {"steps": []} == shown | {"steps": []}


def test_counts_grow_with_requests(server):
    before = steps_of(graph(server))
    ask(server, 1.0)
    ask(server, 1.0, 0.0)
    ask(server, 0.25)
    after = steps_of(graph(server))
    grown = lambda key: {name: after[name]["statistics"][key] - before[name]["statistics"][key] for name in after}
    assert grown("runs") == {"score": 3, "high": 2, "low": 2, "parts": 3, "join": 3}
    assert grown("skipped") == {"score": 0, "high": 1, "low": 1, "parts": 0, "join": 0}
    assert set(grown("failed").values()) == set(grown("fallbacks").values()) == {0}
    assert all(took > 0 for took in grown("total_ms").values())


@pytest.mark.parametrize("asked", [{"params": {"format": "svg"}}, {"headers": {"Accept": "image/svg+xml"}}])
def test_a_picture_is_xml_that_names_everything(server, asked):
    answer = server.get("/api/v1/models/pipeline/graph", **asked)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    check_picture(answer.content)


def check_picture(data):
    root = ElementTree.fromstring(data)
    assert root.tag == SVG + "svg" and float(root.get("width")) > 100
    texts = [text.text for text in root.iter(SVG + "text")]
    for name in ("score", "high", "low", "parts", "join", "double", "when score.s >= 0.5", "each item of a list",
                 "within 60000 ms", "else negate/1", "else nothing", "inputs", "items", "outputs", "y → a"):
        assert name in texts, (name, texts)
    assert not list(root.iter(SVG + "script"))
    assert not [name for element in root.iter() for name in element.attrib if name.startswith("on") or "href" in name]


@pytest.mark.parametrize(("path", "status", "reason"), [
    ("double/graph", 400, "model 'double' is no ensemble"),
    ("nobody/graph", 404, "'nobody'"),
    ("pipeline/versions/7/graph", 404, "7"),
    ("pipeline/graph?format=png", 400, "expected json or svg"),
    ("pipeline/graph?form=svg", 400, "unknown parameter 'form'"),
])
def test_what_has_no_graph_is_refused(server, path, status, reason):
    answer = server.get(f"/api/v1/models/{path}")
    assert (answer.status_code, reason in answer.json()["error"]) == (status, True), answer.text


def test_the_command_draws_levels_with_counts(server):
    ask(server, 1.0)
    lines = command(server, "pipeline", "--total").stdout.splitlines()
    assert lines[0] == "pipeline/1 · 5 steps · since it was loaded"
    assert max(map(len, lines)) <= 100
    tops = [line for line in lines if "┌" in line]
    levels = [[word for word in line.split() if word.isalpha()] for line in tops]
    assert [sorted(level) for level in levels] == [["parts", "score"], ["high", "low"], ["join"]]
    assert any("a ← high.y, low.y, 0" in line for line in lines)
    assert any("runs · " in line for line in lines)
    assert lines[-2:] == ["  y ← join.y", "  parts ← parts.y"]


def test_the_command_measures_what_happens_between_two_looks(server):
    before = runs(server)
    measuring = subprocess.Popen(
        [BINARY, "graph", "pipeline", "--watch", "--json", "--interval", "100ms", "--server", server.url],
        stdout=subprocess.PIPE, text=True,
    )
    try:
        first = json.loads(measuring.stdout.readline())
        assert first["steps"][0]["interval"]["seconds"] > 0
        ask(server, 1.0)
        counted = 0
        while not counted:
            steps = steps_of(json.loads(measuring.stdout.readline()))
            counted = steps["high"]["interval"]["runs"]
        assert (counted, steps["low"]["interval"]["runs"], steps["low"]["interval"]["mean_ms"]) == (1, 0, None)
        assert steps["high"]["interval"]["mean_ms"] > 0 and steps["high"]["interval"]["runs_per_s"] > 0
        assert steps["high"]["statistics"]["runs"] == before["high"] + 1
    finally:
        measuring.kill()
        measuring.wait(timeout=PATIENCE_S)


def test_once_is_one_drawing_of_one_interval(server):
    out = command(server, "pipeline", "--interval", "100ms").stdout
    assert out.count("5 steps · the last 0.") == 1 and "idle · " in out
    shown = json.loads(command(server, "pipeline/1", "--interval", "100ms", "--json").stdout)
    assert shown["steps"][0]["interval"]["runs"] == 0


def test_the_command_writes_the_picture(server, tmp_path):
    file = tmp_path / "graph.svg"
    assert command(server, "pipeline", "--total", "--svg", file).stdout == ""
    check_picture(file.read_bytes())
    assert list(tmp_path.iterdir()) == [file]
    check_picture(command(server, "pipeline", "--interval", "100ms", "--svg", "-").stdout)


def test_the_command_says_what_is_wrong(server):
    for words, reason in [
        (["double", "--total"], "model 'double' is no ensemble"),
        (["nobody"], "nobody"),
        (["a b"], "a b"),
        (["pipeline", "--total", "--svg", "/nowhere/graph.svg"], "/nowhere/graph.svg"),
    ]:
        refused = command(server, *words, code=1)
        assert refused.stderr.startswith("error: ") and reason in refused.stderr and not refused.stdout
    assert "--total" in command(server, "pipeline", "--total", "--watch", code=2).stderr
    nobody = salver("graph", "pipeline", "--server", "http://127.0.0.1:1", code=1)
    assert "127.0.0.1:1" in nobody.stderr


def test_help_teaches():
    told = salver("graph", "--help").stdout
    for part in ("Examples:", "--watch", "--total", "--svg <FILE>", "idle", "side by side"):
        assert part in told, told
