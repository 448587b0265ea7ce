"""Ensembles of Triton's: `ensemble_scheduling` in a config.pbtxt, as it was written there."""

import json
import subprocess

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from harness import BINARY, assert_same
from test_triton_repository import FREE, PLATFORM, TWO, XY, ask, plus, rows
from tritonclient.utils import InferenceServerException

ENSEMBLE = 'platform: "ensemble"\n'
EIGHT = "max_batch_size: 8\n"


def step(model, inputs, outputs, version=-1):
    def maps(field, names):
        return "".join(f'      {field} {{\n        key: "{key}"\n        value: "{value}"\n      }}\n' for key, value in names.items())

    return (
        f'    {{\n      model_name: "{model}"\n      model_version: {version}\n'
        f'{maps("input_map", inputs)}{maps("output_map", outputs)}    }}'
    )


def ensemble(*steps):
    return "ensemble_scheduling {\n  step [\n" + ",\n".join(steps) + "\n  ]\n}\n"


def tensors(field, dims="4", kind="TYPE_FP32", **names):
    one = '{{ name: "{}" data_type: {} dims: [ {} ] }}'
    return f"{field} [ " + ", ".join(one.format(name, kind, own or dims) for name, own in names.items()) + " ]\n"


MEMBERS = {
    "plus": (PLATFORM + EIGHT + XY + "version_policy { all { } }\n", {1: plus(1), 2: plus(2)}),
    "minus": (PLATFORM + EIGHT, {1: TWO}),
    "small": (PLATFORM + "max_batch_size: 4\n" + XY, {1: plus(5)}),
    "whole": (PLATFORM + "max_batch_size: 0\n" + XY.replace("dims: [ 4 ]", "dims: [ -1, 4 ]"), {1: plus(6)}),
}
# x -> plus -> plus (its first version) -> minus, which also reads what came of the first step.
GRAPH = ensemble(
    step("minus", {"x": "twice", "y": "once"}, {"z": "difference"}),
    step("plus", {"x": "IN"}, {"y": "once"}),
    step("plus", {"x": "once"}, {"y": "twice"}, version=1),
)
SERVED = {
    "graph": ENSEMBLE + EIGHT + tensors("input", IN="") + tensors("output", difference="", twice="") + GRAPH,
    # Whatever has no batch dimension of its own shows that of its models.
    "flat": ENSEMBLE + tensors("input", x="-1, 4") + tensors("output", y="-1, 4") + ensemble(step("plus", {"x": "x"}, {"y": "y"})),
    "over_whole": ENSEMBLE + XY.replace("dims: [ 4 ]", "dims: [ -1, 4 ]") + ensemble(step("whole", {"x": "x"}, {"y": "y"})),
    "open": ENSEMBLE + EIGHT + FREE + ensemble(step("plus", {"x": "x"}, {"y": "y"})),
    "outer": ENSEMBLE + "max_batch_size: 4\n" + tensors("input", a="") + tensors("output", b="")
    + ensemble(step("graph", {"IN": "a"}, {"twice": "c"}), step("small", {"x": "c"}, {"y": "b"})),
    "cached": ENSEMBLE + EIGHT + XY + "response_cache { enable: true }\n" + ensemble(step("plus", {"x": "x"}, {"y": "y"})),
    "labelled": ENSEMBLE + EIGHT + tensors("input", x="") + 'output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "names" }\n'
    + ensemble(step("plus", {"x": "x"}, {"y": "y"})),
    "versions": ENSEMBLE + EIGHT + XY + "version_policy { all { } }\n" + ensemble(step("plus", {"x": "x"}, {"y": "y"})),
}
ONE = ensemble(step("plus", {"x": "x"}, {"y": "y"}))
# Configuration, the line that is blamed (none: no single one), and a part of the message.
REFUSED = {
    "unread": (ENSEMBLE + EIGHT + tensors("input", x="", extra="") + tensors("output", y="") + ONE, 'input [ { name: "x"', "input 'extra' is in no input_map"),
    "unwritten": (ENSEMBLE + EIGHT + XY.replace('"y"', '"nobody"') + ONE, None, "output 'nobody' is in no output_map"),
    "from_nowhere": (ENSEMBLE + EIGHT + XY + ensemble(step("plus", {"x": "x"}, {"y": "y"}), step("plus", {"x": "z"}, {"y": "w"})), 'input_map {\n        key: "x"\n        value: "z"', "reads input 'x' from 'z'"),
    "written_twice": (ENSEMBLE + EIGHT + XY + ensemble(step("plus", {"x": "x"}, {"y": "y"}), step("plus", {"x": "x"}, {"y": "y"}, version=1)), None, "each value is written once"),
    "no_version": (ENSEMBLE + EIGHT + XY + ensemble(step("plus", {"x": "x"}, {"y": "y"}, version=0)), "model_version: 0", "model_version must be -1"),
    "other_version": (ENSEMBLE + EIGHT + XY + ensemble(step("plus", {"x": "x"}, {"y": "y"}, version=9)), None, "step 'plus' calls model 'plus/9'"),
    "no_model": (ENSEMBLE + EIGHT + XY + ensemble(step("gone", {"x": "x"}, {"y": "y"})), None, "step 'gone' calls model 'gone'"),
    "over_refused": (ENSEMBLE + EIGHT + XY + ensemble(step("unread", {"x": "x"}, {"y": "y"})), None, "step 'unread' calls model 'unread'"),
    "no_input": (ENSEMBLE + EIGHT + XY + ensemble(step("plus", {"odd": "x"}, {"y": "y"})), None, "gives 'odd' to model 'plus'"),
    "no_output": (ENSEMBLE + EIGHT + XY + ensemble(step("plus", {"x": "x"}, {"odd": "y"})), None, "model 'plus' has no such output"),
    "half_fed": (ENSEMBLE + EIGHT + XY + ensemble(step("minus", {"x": "x"}, {"z": "y"})), None, "input 'y' of step 'minus' (model 'minus') is not in its input_map"),
    "other_type": (ENSEMBLE + EIGHT + tensors("input", kind="TYPE_INT32", x="") + tensors("output", y="") + ONE, None, "input 'x' is declared as INT32"),
    "other_shape": (ENSEMBLE + EIGHT + tensors("input", x="5") + tensors("output", y="") + ONE, None, "input 'x' is declared with shape"),
    "too_many_rows": (ENSEMBLE + EIGHT + XY + ensemble(step("small", {"x": "x"}, {"y": "y"})), None, "takes at most 4 rows"),
    "no_rows": (ENSEMBLE + EIGHT + XY + ensemble(step("whole", {"x": "x"}, {"y": "y"})), None, "takes no batches"),
    "round": (ENSEMBLE + EIGHT + XY + ensemble(step("minus", {"x": "x", "y": "b"}, {"z": "a"}), step("plus", {"x": "a"}, {"y": "b"}), step("plus", {"x": "a"}, {"y": "y"})), None, "in a circle"),
    "itself": (ENSEMBLE + EIGHT + XY + ensemble(step("itself", {"x": "x"}, {"y": "y"})), None, "in a circle"),
    "with_groups": (ENSEMBLE + EIGHT + XY + ONE + "instance_group { count: 2 }\n", "instance_group", "instance_group has to be left out"),
    "other_platform": (PLATFORM + EIGHT + XY + ONE, "platform", "platform must be 'ensemble'"),
    "no_steps": (ENSEMBLE + EIGHT + XY, "platform", "needs ensemble_scheduling"),
}  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensembles") / "repository"
    for name, (config, versions) in MEMBERS.items():
        for version, made in versions.items():
            (folder / name / str(version)).mkdir(parents=True)
            onnx.save(made, folder / name / str(version) / "model.onnx")
        (folder / name / "config.pbtxt").write_text(config)
    for name, config in [*SERVED.items(), *((name, config) for name, (config, _, _) in REFUSED.items())]:
        # Triton wants a version folder, though an ensemble has nothing to put there. Git keeps none without files.
        (folder / name / ("" if name == "flat" else "1")).mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config)
    (folder / "versions" / "4").mkdir()
    (folder / "graph" / "1" / ".gitkeep").touch()
    (folder / "labelled" / "names").write_text("a\nb\nc\nd\n")
    return folder


@pytest.fixture(scope="module")
def server(repository, start):
    server = start(repository, "--log-level", "off", ready=False)
    busy = ("LOADING", "")
    server.until(lambda: all(e.get("state", "") not in busy for e in index(server) or [{}]), "loaded")
    return server


def index(server):
    return server.post("/v2/repository/index").json()


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request, server):
    module, address = (http_client, server.http) if request.param == "http" else (grpc_client, server.grpc)
    with module.InferenceServerClient(address) as connection:
        yield module, connection


@pytest.fixture(scope="module")
def report(repository):
    done = subprocess.run([BINARY, "migrate", "triton", repository, "--all", "--json"], capture_output=True, text=True, check=False)
    return {model["name"]: model for model in json.loads(done.stdout)["models"]}


def test_what_is_reported_to_serve_serves(server, report):
    ready = {entry["name"] for entry in index(server) if entry.get("state") == "READY"}
    assert ready == {*MEMBERS, *SERVED}
    assert {name for name, model in report.items() if model["serves"]} == ready


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_name(server, report, repository, name):
    config, marker, message = REFUSED[name]
    (entry,) = [entry for entry in index(server) if entry["name"] == name]
    assert entry.get("state") == "UNAVAILABLE" and message in entry["reason"], entry
    refused = [note for note in report[name]["notes"] if note["status"] == "refused"]
    assert any(message in note["why"] for note in refused), refused
    if marker is not None:
        line = config[: config.index(marker)].count("\n") + 1
        assert f"line {line}: " in entry["reason"], entry
        assert any(note["line"] == line for note in refused), refused


def test_steps_find_each_other_by_the_names_of_values(client):
    x = rows(3, 4)
    answer = ask(client, "graph", IN=x)
    once = x + np.float32(2)
    twice = once + np.float32(1)
    assert_same(answer.as_numpy("twice"), twice)
    assert_same(answer.as_numpy("difference"), twice - once)
    only = ask(client, "graph", {"twice": 0}, IN=x)
    assert_same(only.as_numpy("twice"), twice)
    assert only.as_numpy("difference") is None


def test_shapes_are_those_that_were_declared(client):
    x = rows(5, 4)
    assert_same(ask(client, "flat", x=x).as_numpy("y"), x + np.float32(2))
    assert_same(ask(client, "over_whole", x=x).as_numpy("y"), x + np.float32(6))
    assert_same(ask(client, "open", x=x).as_numpy("y"), x + np.float32(2))
    with pytest.raises(InferenceServerException, match="x"):
        ask(client, "open", x=rows(5, 3))
    with pytest.raises(InferenceServerException, match="9"):
        ask(client, "graph", IN=rows(9, 4))


def test_ensembles_call_ensembles(client):
    x = rows(4, 4)
    assert_same(ask(client, "outer", a=x).as_numpy("b"), x + np.float32(2) + np.float32(1) + np.float32(5))


def test_versions_are_the_folders(client, server):
    x = rows(1, 4)
    for version in ("1", "4"):
        answer = ask(client, "versions", version=version, x=x)
        assert_same(answer.as_numpy("y"), x + np.float32(2))
    with pytest.raises(InferenceServerException):
        ask(client, "versions", version="2", x=x)
    assert [entry["version"] for entry in index(server) if entry["name"] == "flat"] == ["1"]


def test_labels_and_the_cache_are_the_ensembles_own(client, server):
    x = np.array([[0, 3, 1, 2]], np.float32) + np.float32(client[0] is grpc_client)
    got = ask(client, "labelled", {"y": 1}, x=x).as_numpy("y").reshape(-1)
    assert [value.decode().split(":")[1:] for value in got] == [["1", "b"]]

    def hits():
        stats = server.get("/v2/models/cached/stats").json()["model_stats"][0]["inference_stats"]
        return stats.get("cache_hit", {"count": 0})["count"]

    before = hits()
    for _ in range(3):
        assert_same(ask(client, "cached", x=x).as_numpy("y"), x + np.float32(2))
    assert hits() == before + 2


def test_the_configuration_is_shown_as_it_was_written(client):
    _, connection = client
    if client[0] is http_client:
        config = connection.get_model_config("graph")
    else:
        config = connection.get_model_config("graph", as_json=True)["config"]
    assert config["platform"] == "ensemble" and config.get("backend", "") == "" and int(config["max_batch_size"]) == 8
    steps = config["ensemble_scheduling"]["step"]
    found = [(s["model_name"], int(s["model_version"]), s["input_map"], s["output_map"]) for s in steps]
    assert found == [
        ("minus", -1, {"x": "twice", "y": "once"}, {"z": "difference"}),
        ("plus", -1, {"x": "IN"}, {"y": "once"}),
        ("plus", 1, {"x": "once"}, {"y": "twice"}),
    ]  # fmt: skip
    assert "dynamic_batching" not in config
    metadata = connection.get_model_metadata("graph") if client[0] is http_client else connection.get_model_metadata("graph", as_json=True)
    assert metadata["platform"] == "ensemble"
    assert [[int(extent) for extent in tensor["shape"]] for tensor in metadata["inputs"]] == [[-1, 4]]


def test_every_model_counts_its_own(client, server):
    def count(name):
        return sum(entry["inference_count"] for entry in server.get(f"/v2/models/{name}/stats").json()["model_stats"])

    before = {name: count(name) for name in ("graph", "plus", "minus")}
    ask(client, "graph", IN=rows(2, 4))
    assert {name: count(name) - before[name] for name in before} == {"graph": 2, "plus": 4, "minus": 2}


def test_each_line_is_reported(report):
    said = {(note["status"], note["what"]) for note in report["graph"]["notes"]}
    assert said == {
        ("serves", "platform"), ("serves", "max_batch_size"), ("serves", "input: IN"), ("serves", "output: difference"),
        ("serves", "output: twice"), ("serves", "ensemble_scheduling"),
    }  # fmt: skip
    assert ("serves", "labels") in {(note["status"], note["what"]) for note in report["labelled"]["notes"]}


def test_a_configuration_may_be_sent_with_a_load(server, start, repository):
    own = start(repository, "--log-level", "off", "--model-control", "explicit", "--load-model", "minus")
    config = {
        "platform": "ensemble", "max_batch_size": 8,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}],
        "output": [{"name": "w", "data_type": "TYPE_FP32", "dims": [4]}],
        "ensemble_scheduling": {"step": [
            {"model_name": "minus", "model_version": -1, "input_map": {"x": "x", "y": "x"}, "output_map": {"z": "w"}},
        ]},
    }  # fmt: skip
    with http_client.InferenceServerClient(own.http) as connection:
        connection.load_model("open", config=json.dumps(config))
        tensor = http_client.InferInput("x", [2, 4], "FP32").set_data_from_numpy(rows(2, 4))
        assert_same(connection.infer("open", [tensor]).as_numpy("w"), np.zeros((2, 4), np.float32))
        config["ensemble_scheduling"]["step"][0]["model_version"] = 0
        with pytest.raises(InferenceServerException, match="model_version must be -1"):
            connection.load_model("open", config=json.dumps(config))
        assert_same(connection.infer("open", [tensor]).as_numpy("w"), np.zeros((2, 4), np.float32))
