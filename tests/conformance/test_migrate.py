"""`salver migrate`: a report agrees with what the server then does with the same repository."""

import json
import shutil
import subprocess

import onnx
import pytest
from harness import BINARY, MODELS
from onnx import TensorProto, helper

TRITON = MODELS / "triton"
GRAPH = TRITON / "identity_fp32" / "1" / "model.onnx"

CONFIGS = {
    "plain": "max_batch_size: 8",
    "named": 'name: "named"\nbackend: "onnxruntime"\nplatform: "onnxruntime_onnx"',
    "misnamed": 'name: "other"',
    "python": 'backend: "python"',
    "torch": 'platform: "pytorch_libtorch"',
    "unknown_field": "max_batch_sise: 8",
    "broken_text": "input [ {",
    "negative": "max_batch_size: -1",
    "wrong_input": 'max_batch_size: 8 input { name: "NOBODY" data_type: TYPE_FP32 dims: 1 }',
    "wrong_type": 'max_batch_size: 8 input { name: "INPUT0" data_type: TYPE_INT32 dims: -1 }',
    "wrong_rank": 'max_batch_size: 8 input { name: "INPUT0" data_type: TYPE_FP32 dims: [ 1, 2, 3 ] }',
    "ensemble": 'platform: "ensemble" ensemble_scheduling { step { model_name: "a" model_version: -1 } }',
    "ignored": 'max_batch_size: 8 metric_tags { key: "a" value: "b" } optimization { graph { level: 1 } }',
    "other_file": 'default_model_filename: "net.onnx"',
    "escaping": 'default_model_filename: "../../plain/1/model.onnx"',
    "labels_gone": 'output { name: "OUTPUT0" label_filename: "labels.txt" }',
    "batched": "max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 4, 16 ] }",
    "policy": "version_policy { specific { versions: [ 7 ] } }",
    "warmup": 'model_warmup { name: "w" batch_size: 1 inputs { key: "INPUT0" value { dims: 1 } } }',
    "accelerated": 'optimization { execution_accelerators { cpu_execution_accelerator { name: "dnnl" } } }',
}


def report(kind, path):
    done = subprocess.run([BINARY, "migrate", kind, path, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["serves"] else 1)
    return found


def verdicts(found):
    return {model["name"]: model["serves"] for model in found["models"]}


def states(server):
    """What the server made of each model: whether a version of it serves, and its reasons."""
    entries = server.post("/v2/repository/index").json()
    names = {entry["name"] for entry in entries}
    return {name: any(e["name"] == name and e.get("state") == "READY" for e in entries) for name in names}


def serve(start, *paths):
    server = start(*paths, "--log-level", "off", ready=False)
    busy = ("LOADING", "")
    server.until(
        lambda: all(e.get("state", "") not in busy for e in server.post("/v2/repository/index").json() or [{}]), "loaded"
    )
    return server


def external(location):
    weights = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("Add", ["INPUT0", "W"], ["OUTPUT0"])], "g",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, [None, 4])], [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A repository with every kind of trouble, and some without."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, config in CONFIGS.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config + "\n")
        shutil.copy(GRAPH, folder / name / "1" / "model.onnx")
    for name, file in [("plan", "model.plan"), ("script", "model.py"), ("trace", "model.pt")]:
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "1" / file).write_bytes(b"x")
    for name, location in [("weights_gone", "weights.bin"), ("weights_outside", "../../plain/config.pbtxt")]:
        (folder / name / "1").mkdir(parents=True)
        onnx.save(external(location), folder / name / "1" / "model.onnx")
    (folder / "no_config" / "1").mkdir(parents=True)
    shutil.copy(GRAPH, folder / "no_config" / "1" / "model.onnx")
    (folder / "no_version").mkdir()
    (folder / "no_version" / "config.pbtxt").write_text("")
    return folder


def test_a_report_agrees_with_the_server(mixed, start):
    found = verdicts(report("triton", mixed))
    server = serve(start, mixed)
    assert found == states(server)
    assert found["plain"] and found["no_config"] and not found["wrong_rank"] and not found["weights_gone"]
    server.stop()


@pytest.mark.parametrize("folder", [TRITON, MODELS / "broken" / "triton"])
def test_reports_on_the_test_models_agree_with_the_server(folder, start):
    found = verdicts(report("triton", folder))
    server = serve(start, folder)
    assert found == states(server)
    server.stop()


def test_lines_are_those_of_the_file(mixed):
    notes = {model["name"]: model["notes"] for model in report("triton", mixed)["models"]}
    refused = [note for note in notes["misnamed"] if note["status"] == "refused"]
    assert [(note["file"], note["line"], note["what"]) for note in refused] == [("misnamed/config.pbtxt", 1, "name")]
    ways = {"python": "--allow-python", "torch": "torch.onnx"}
    for name, way in ways.items():
        assert any(way in note["todo"] for note in notes[name] if note["status"] == "refused"), notes[name]
    assert {note["what"] for note in notes["ignored"] if note["status"] == "ignored"} == {
        "metric_tags", "optimization: graph",
    }
    assert any(note["file"] == "plan/1/model.plan" for note in notes["plan"])


def test_folders_of_tf_serving_serve_as_reported(start, tmp_path):
    shutil.copytree(MODELS / "tfserving", tmp_path / "models", ignore=shutil.ignore_patterns("*.template"))
    (tmp_path / "models" / "saved" / "1").mkdir(parents=True)
    (tmp_path / "models" / "saved" / "1" / "saved_model.pb").write_bytes(b"x")
    found = report("tfserving", tmp_path / "models")
    server = serve(start, *found["serve"])
    assert verdicts(found) == states(server)
    assert verdicts(found)["half_plus_two"] and not verdicts(found)["saved"]
    server.stop()


def test_a_models_config_serves_as_reported(start, tmp_path):
    path = tmp_path / "models.config"
    entry = 'config {{ name: "{}" base_path: "{}" {} }}'
    base = MODELS / "tfserving" / "half_plus_two"
    good = [entry.format("half", base, ""), entry.format("gone", tmp_path / "gone", "")]
    path.write_text("model_config_list {\n" + "\n".join(good) + "\n}\n")
    found = report("tfserving", path)
    server = serve(start, path)
    assert verdicts(found) == states(server) == {"half": True, "gone": False}
    server.stop()
    path.write_text("model_config_list {\n" + "\n".join([*good, entry.format("tf", base, 'model_platform: "tensorflow"')]) + "\n}\n")
    found = report("tfserving", path)
    (note,) = [model["notes"][0] for model in found["models"] if model["name"] == "tf"]
    assert (note["line"], note["status"]) == (4, "refused") and "does not start" in note["why"]
    with pytest.raises(RuntimeError):
        start(path)


def test_a_report_reads_well(mixed):
    done = subprocess.run([BINARY, "migrate", "triton", mixed], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr == ""
    assert "misnamed/config.pbtxt:1" in done.stdout and "salver serve" in done.stdout
    assert "plain/config.pbtxt:1" not in done.stdout
    everything = subprocess.run([BINARY, "migrate", "triton", mixed, "--all"], capture_output=True, text=True, check=False)
    assert "plain/config.pbtxt:1" in everything.stdout


@pytest.mark.parametrize("words", [("triton", "nowhere"), ("tfserving", "nowhere"), ("triton", ".")])
def test_what_is_no_repository_is_said(words, tmp_path):
    done = subprocess.run([BINARY, "migrate", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stdout == ""
