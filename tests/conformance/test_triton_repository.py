"""A repository that was made for Triton: served without a changed byte, and reported on as it is served."""

import hashlib
import json
import shutil
import subprocess

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from harness import BINARY, MODELS, assert_same, ort
from onnx import TensorProto, helper, numpy_helper
from tritonclient.utils import InferenceServerException

FLOAT = TensorProto.FLOAT
FLAT = (FLOAT, ["batch", 4])


def graph(nodes, inputs, outputs, **constants):
    """nodes: operator, inputs, outputs; inputs and outputs: name -> (type, shape)."""
    made = helper.make_graph(
        [helper.make_node(*node) for node in nodes], "g",
        [helper.make_tensor_value_info(name, *tensor) for name, tensor in inputs.items()],
        [helper.make_tensor_value_info(name, *tensor) for name, tensor in outputs.items()],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def plus(amount):
    return graph([("Add", ["x", "c"], ["y"])], {"x": FLAT}, {"y": FLAT}, c=amount)


TWO = graph([("Sub", ["x", "y"], ["z"])], {"x": FLAT, "y": FLAT}, {"z": FLAT})
# `bias` has a value of its own, which a request may replace.
BIASED = graph([("Add", ["x", "bias"], ["y"])], {"x": FLAT, "bias": (FLOAT, [1])}, {"y": FLAT}, bias=[10])
ROWS = graph([("Abs", ["x"], ["y"])], {"x": (FLOAT, ["batch", "length"])}, {"y": (FLOAT, ["batch", "length"])})
FIXED = graph([("Abs", ["x"], ["y"])], {"x": (FLOAT, [2, 4])}, {"y": (FLOAT, [2, 4])})
FLATTENED = graph([("Abs", ["x"], ["y"])], {"x": (FLOAT, ["all"])}, {"y": (FLOAT, ["all"])})

PLATFORM = 'platform: "onnxruntime_onnx"\n'
XY = """input [
  {
    name: "x"
    data_type: TYPE_FP32
    dims: [ 4 ]
  }
]
output [
  {
    name: "y"
    data_type: TYPE_FP32
    dims: [ 4 ]
  }
]
"""
FREE = XY.replace("dims: [ 4 ]", "dims: [ -1 ]")
RAGGED = FREE.replace("    dims", "    allow_ragged_batch: true\n    dims", 1)

# By name: the configuration, and the graph of each version. What it says of priorities, warm-up and so on
# is put as Triton's documentation does.
SERVED = {
    "priorities": ("""name: "priorities"
platform: "onnxruntime_onnx"
max_batch_size: 16
input [
  {
    name: "x"
    data_type: TYPE_FP32
    dims: [ 4 ]
  },
  {
    name: "y"
    data_type: TYPE_FP32
    dims: [ 4 ]
  }
]
output [
  {
    name: "z"
    data_type: TYPE_FP32
    dims: [ 4 ]
  }
]
instance_group [
  {
    count: 2
    kind: KIND_CPU
  }
]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
  preserve_ordering: true
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy {
    timeout_action: DELAY
    default_timeout_microseconds: 10000000
    allow_timeout_override: true
    max_queue_size: 100
  }
  priority_queue_policy [
    {
      key: 1
      value: {
        timeout_action: REJECT
        default_timeout_microseconds: 5000000
      }
    }
  ]
}
""", {1: TWO}),
    "ragged": (PLATFORM + "max_batch_size: 8\n" + RAGGED + """dynamic_batching { }
batch_output [
  {
    target_name: "y"
    kind: BATCH_SCATTER_WITH_INPUT_SHAPE
    source_input: "x"
  }
]
""", {1: FLATTENED}),
    "warmed": (PLATFORM + "max_batch_size: 8\n" + XY + """model_warmup [
  {
    name: "zeros"
    batch_size: 1
    inputs {
      key: "x"
      value: {
        data_type: TYPE_FP32
        dims: [ 4 ]
        zero_data: true
      }
    }
  },
  {
    name: "random"
    batch_size: 4
    count: 2
    inputs { key: "x" value: { data_type: TYPE_FP32 dims: [ 4 ] random_data: true } }
  },
  {
    name: "recorded"
    batch_size: 2
    inputs { key: "x" value: { data_type: TYPE_FP32 dims: [ 4 ] input_data_file: "raw_x" } }
  }
]
""", {1: plus(1)}),
    "specific": (PLATFORM + "max_batch_size: 8\n" + XY + "version_policy: { specific { versions: [ 1, 3 ] } }\n",
                 {1: plus(1), 2: plus(2), 3: plus(3)}),
    "every": (PLATFORM + "max_batch_size: 8\n" + XY + "version_policy: { all { } }\n", {4: plus(4), 5: plus(5)}),
    "latest": (PLATFORM + "max_batch_size: 8\n" + XY + "version_policy: { latest { num_versions: 2 } }\n",
               {6: plus(6), 7: plus(7), 8: plus(8)}),
    "cached": ('backend: "onnxruntime"\nmax_batch_size: 8\n' + XY + "response_cache {\n  enable: true\n}\n", {1: plus(1)}),
    "derived": (None, {1: plus(9)}),
    "tagged": (PLATFORM + "max_batch_size: 8\n" + XY + """optimization {
  graph { level: 1 }
  input_pinned_memory { enable: false }
}
metric_tags { key: "team" value: "search" }
parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
parameters { key: "execution_mode" value: { string_value: "0" } }
cc_model_filenames { key: "8.0" value: "model.onnx" }
default_model_filename: "net.onnx"
model_transaction_policy { decoupled: false }
""", {1: plus(5)}),
}
COPIED = {
    "triton": ["labelled", "reshaped", "identity_bytes", "no_batch"],
    "sequences": ["sum_direct", "sum_oldest", "controls_number"],
}

# By name: configuration, the graph or the files of its version, and what is refused in which line.
ITERATIVE = (MODELS / "sequences" / "sum_oldest" / "config.pbtxt").read_text().replace(
    "sequence_batching {", "sequence_batching {\n  iterative_sequence: true"
)  # fmt: skip
REFUSED = {
    "plan": ('name: "plan"\nplatform: "tensorrt_plan"\nmax_batch_size: 8\n' + XY, {"model.plan": b"x"}, "tensorrt_plan"),
    "script": ('name: "script"\nbackend: "python"\nmax_batch_size: 8\n' + XY, {"model.py": b"x"}, 'backend: "python"'),
    "saved": ('platform: "tensorflow_savedmodel"\n' + XY, {"model.savedmodel/saved_model.pb": b"x"}, "tensorflow_savedmodel"),
    "torch": (XY + 'platform: "pytorch_libtorch"\n', {"model.pt": b"x"}, "pytorch_libtorch"),
    "iterative": (ITERATIVE, MODELS / "sequences" / "sum_oldest" / "1" / "model.onnx", "iterative_sequence"),
    "misspelt": (PLATFORM + XY + "max_batch_sise: 8\n", plus(1), "max_batch_sise"),
    "bounded": (PLATFORM + "max_batch_size: 8\n" + FREE + """batch_input [
  {
    kind: BATCH_ACCUMULATED_ELEMENT_COUNT
    target_name: "INDEX"
    data_type: TYPE_FP32
    source_input: "x"
  }
]
""", ROWS, 'source_input: "x"'),
    "flattened": (PLATFORM + "max_batch_size: 8\n" + RAGGED, FLATTENED, None),
    "decoupled": (PLATFORM + "max_batch_size: 8\n" + XY + "model_transaction_policy {\n  decoupled: true\n}\n",
                  plus(1), "decoupled: true"),
    "remembered": (ITERATIVE.replace("  iterative_sequence: true\n", "") + "response_cache { enable: true }\n",
                   MODELS / "sequences" / "sum_oldest" / "1" / "model.onnx", "response_cache"),
    "levels": (PLATFORM + "max_batch_size: 8\n" + XY
               + "dynamic_batching {\n  priority_levels: 2\n  default_priority_level: 5\n}\n", plus(1), "default_priority_level"),
    "no_states": ((MODELS / "sequences" / "sum_direct" / "config.pbtxt").read_text(),
                  MODELS / "sequences" / "sum_direct" / "1" / "model.onnx", None),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton") / "model_repository"
    for kind, names in COPIED.items():
        for name in names:
            shutil.copytree(MODELS / kind / name, folder / name)
    for name, (config, versions) in SERVED.items():
        for version, made in versions.items():
            (folder / name / str(version)).mkdir(parents=True)
            onnx.save(made, folder / name / str(version) / ("net.onnx" if name == "tagged" else "model.onnx"))
        if config is not None:
            (folder / name / "config.pbtxt").write_text(config)
    (folder / "warmed" / "warmup").mkdir()
    (folder / "warmed" / "warmup" / "raw_x").write_bytes(np.arange(4, dtype="<f4").tobytes())
    (folder / "tagged" / "README.md").write_text("notes")
    for name, (config, version, _) in REFUSED.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config)
        if isinstance(version, dict):
            for file, content in version.items():
                (folder / name / "1" / file).parent.mkdir(exist_ok=True)
                (folder / name / "1" / file).write_bytes(content)
        elif isinstance(version, onnx.ModelProto):
            onnx.save(version, folder / name / "1" / "model.onnx")
        else:
            shutil.copy(version, folder / name / "1" / "model.onnx")
    return folder


def state_of(folder):
    """All that is in a folder: names, kinds, times of change and content."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, path.lstat().st_mtime_ns, content)
    return found


def migrate(kind, path):
    done = subprocess.run([BINARY, "migrate", kind, path, "--all", "--json"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["serves"] else 1)
    return found


def serve(start, *paths):
    server = start(*paths, "--log-level", "off", ready=False)
    busy = ("LOADING", "")
    server.until(
        lambda: all(e.get("state", "") not in busy for e in server.post("/v2/repository/index").json() or [{}]), "loaded"
    )
    return server


@pytest.fixture(scope="module")
def before(repository):
    return state_of(repository)


@pytest.fixture(scope="module")
def found(repository, before):
    return migrate("triton", repository)


@pytest.fixture(scope="module")
def server(repository, before, start):
    return serve(start, repository)


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request, server):
    module, address = (http_client, server.http) if request.param == "http" else (grpc_client, server.grpc)
    with module.InferenceServerClient(address) as connection:
        yield module, connection


TYPES = {"float32": "FP32", "int32": "INT32", "object": "BYTES"}


def ask(client, model, outputs=None, version="", **inputs):
    module, connection = client
    options = {name: inputs.pop(name) for name in list(inputs) if name.startswith(("sequence_", "priority", "timeout"))}
    tensors = [module.InferInput(k, v.shape, TYPES[str(v.dtype)]).set_data_from_numpy(v) for k, v in inputs.items()]
    wanted = [module.InferRequestedOutput(name, class_count=count) for name, count in (outputs or {}).items()]
    return connection.infer(model, tensors, outputs=wanted or None, model_version=version, **options)


def rows(*shape):
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def test_what_is_reported_to_serve_is_what_serves(found, server):
    reported = {model["name"]: model["serves"] for model in found["models"]}
    entries = server.post("/v2/repository/index").json()
    serving: dict[str, set[int]] = {}
    for entry in entries:
        if entry.get("state") == "READY":
            serving.setdefault(entry["name"], set()).add(int(entry["version"]))
    expected = {*SERVED, *(name for names in COPIED.values() for name in names)}
    assert serving.keys() == expected
    assert reported == {name: name in expected for name in [*expected, *REFUSED]}
    versions = {model["name"]: {v["version"] for v in model["versions"]} for model in found["models"] if model["serves"]}
    assert versions == serving
    assert serving["specific"] == {1, 3} and serving["every"] == {4, 5} and serving["latest"] == {7, 8}
    assert not found["serves"] and found["notes"] == []


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_that_of_the_server(found, server, name):
    config, _, marker = REFUSED[name]
    entries = [entry for entry in server.post("/v2/repository/index").json() if entry["name"] == name]
    assert entries and all(entry.get("state") == "UNAVAILABLE" for entry in entries)
    reason = entries[0]["reason"]
    (model,) = [model for model in found["models"] if model["name"] == name]
    refused = [note for note in model["notes"] if note["status"] == "refused"]
    assert any(note["why"] in reason for note in refused), (reason, refused)
    if marker is not None:
        line = config[: config.index(marker)].count("\n") + 1
        (note,) = [note for note in refused if note["file"] == f"{name}/config.pbtxt" and note["line"] == line]
        # The server names what it met first, which here is the only thing, or the platform.
        assert note["why"] in reason and f"line {line}: " in reason and "config.pbtxt" in reason


@pytest.mark.parametrize("name, word", [
    ("plan", "tensorrt"), ("script", "--allow-python"), ("saved", "tf2onnx"), ("torch", "torch.onnx"),
    ("decoupled", "model in Python"),
])  # fmt: skip
def test_there_is_a_way_out(found, name, word):
    (model,) = [model for model in found["models"] if model["name"] == name]
    assert any(word in note["todo"] for note in model["notes"] if note["status"] == "refused")


NOTED = {
    "priorities": {("serves", "dynamic_batching"), ("serves", "instance_group"), ("serves", "max_batch_size")},
    "ragged": {("serves", "input: x"), ("serves", "dynamic_batching"), ("serves", "batch_output")},
    "warmed": {
        ("serves", "model_warmup: zeros"), ("serves", "model_warmup: random"), ("serves", "model_warmup: recorded"),
        ("serves", "warm-up data"),
    },
    "specific": {("serves", "version_policy"), ("ignored", "version")},
    "every": {("serves", "version_policy")},
    "latest": {("serves", "version_policy"), ("ignored", "version")},
    "cached": {("serves", "response_cache"), ("serves", "backend")},
    "derived": {("serves", "graph")},
    "tagged": {
        ("ignored", "metric_tags"), ("ignored", "optimization: graph"), ("ignored", "optimization: input_pinned_memory"),
        ("ignored", "cc_model_filenames"), ("ignored", "parameters: execution_mode"), ("ignored", "file"),
        ("serves", "parameters: intra_op_thread_count"), ("serves", "default_model_filename"),
        ("serves", "model_transaction_policy"),
    },
    "labelled": {("serves", "labels"), ("serves", "output: SCORES")},
    "reshaped": {("serves", "input: INPUT0"), ("serves", "output: OUTPUT0")},
    "sum_direct": {("serves", "sequence_batching"), ("serves", "initial states")},
    "sum_oldest": {("serves", "sequence_batching")},
    "controls_number": {("serves", "sequence_batching")},
}  # fmt: skip


@pytest.mark.parametrize("name", NOTED)
def test_each_line_is_reported_as_it_acts(found, repository, name):
    (model,) = [model for model in found["models"] if model["name"] == name]
    said = {(note["status"], note["what"]) for note in model["notes"]}
    assert NOTED[name] <= said, sorted(said)
    # Nothing else is passed over, refused or lacks something.
    ordinary = {(status, what) for status, what in said if status != "serves"}
    assert ordinary == {(status, what) for status, what in NOTED[name] if status != "serves"}
    for note in model["notes"]:
        if note["line"] is not None:
            # The line of a field, or of the brace that opens an element; the name stands before or behind that.
            lines = (repository / note["file"]).read_text().splitlines()
            near = lines[max(note["line"] - 2, 0) : note["line"] + 1]
            assert any(note["what"].split(": ")[-1] in text for text in near), note


WARMUP = 'model_warmup {{\n  name: "w" batch_size: {} inputs {{ key: "{}" value {{ data_type: {} dims: [ {} ] {} }} }}\n}}\n'
WARMUPS = {
    "good": (8, "x", "TYPE_FP32", 4, "zero_data: true"),
    "another_input": (1, "nobody", "TYPE_FP32", 4, "zero_data: true"),
    "another_type": (1, "x", "TYPE_INT32", 4, "zero_data: true"),
    "another_shape": (1, "x", "TYPE_FP32", 3, "random_data: true"),
    "too_many_rows": (9, "x", "TYPE_FP32", 4, "random_data: true"),
    "no_file": (1, "x", "TYPE_FP32", 4, 'input_data_file: "gone"'),
    "short_file": (1, "x", "TYPE_FP32", 4, 'input_data_file: "short"'),
}


@pytest.fixture(scope="module")
def warmups(tmp_path_factory, start):
    """What a report says of requests to warm up with, and the states of the models that have them."""
    folder = tmp_path_factory.mktemp("warmups")
    for name, values in WARMUPS.items():
        for inner in ("1", "warmup"):
            (folder / name / inner).mkdir(parents=True)
        onnx.save(plus(1), folder / name / "1" / "model.onnx")
        (folder / name / "config.pbtxt").write_text("max_batch_size: 8\n" + XY + WARMUP.format(*values))
        (folder / name / "warmup" / "short").write_bytes(b"abc")
    server = serve(start, folder)
    states = {entry["name"]: entry for entry in server.post("/v2/repository/index").json()}
    server.stop()
    return {model["name"]: model for model in migrate("triton", folder)["models"]}, states


@pytest.mark.parametrize("name", WARMUPS)
def test_requests_to_warm_up_with_that_do_not_fit_are_reported(warmups, name):
    found, states = warmups
    assert (states[name]["state"] == "READY") == (name == "good"), states[name]
    assert found[name]["serves"] == (name == "good"), found[name]["notes"]
    refused = [note["why"] for note in found[name]["notes"] if note["status"] == "refused"]
    assert len(refused) == (name != "good")
    assert all(why in states[name]["reason"] for why in refused), (refused, states[name])


@pytest.mark.parametrize("declared", ["", XY, XY[: XY.index("output")], XY[XY.index("output") :]])
def test_a_batch_size_that_the_graph_cannot_have(start, tmp_path, declared):
    (tmp_path / "fixed" / "1").mkdir(parents=True)
    onnx.save(FIXED, tmp_path / "fixed" / "1" / "model.onnx")
    (tmp_path / "fixed" / "config.pbtxt").write_text("max_batch_size: 8\n" + declared)
    (model,) = migrate("triton", tmp_path)["models"]
    server = serve(start, tmp_path)
    (entry,) = server.post("/v2/repository/index").json()
    assert entry["state"] == "UNAVAILABLE" and "max_batch_size is 8" in entry["reason"], entry
    (why,) = [note["why"] for note in model["notes"] if note["status"] == "refused"]
    assert why in entry["reason"]
    server.stop()


def test_files_that_nothing_refers_to_are_no_states(tmp_path):
    for inner in ("1", "initial_state", "warmup"):
        (tmp_path / "plain" / inner).mkdir(parents=True)
        (tmp_path / "plain" / inner / "x").write_bytes(b"x")
    onnx.save(plus(1), tmp_path / "plain" / "1" / "model.onnx")
    (tmp_path / "plain" / "config.pbtxt").write_text("max_batch_size: 8\n")
    (model,) = migrate("triton", tmp_path)["models"]
    said = {(note["status"], note["file"]) for note in model["notes"]}
    assert {("ignored", "plain/initial_state"), ("ignored", "plain/warmup")} <= said


def test_what_needs_a_gpu_is_said(tmp_path):
    (tmp_path / "gpu" / "1").mkdir(parents=True)
    onnx.save(plus(1), tmp_path / "gpu" / "1" / "model.onnx")
    config = PLATFORM + "max_batch_size: 8\n" + XY + """instance_group [
  {
    count: 1
    kind: KIND_GPU
    gpus: [ 0 ]
  }
]
optimization { execution_accelerators {
  gpu_execution_accelerator : [ {
    name : "tensorrt"
    parameters { key: "precision_mode" value: "FP16" }
  } ]
} }
"""
    (tmp_path / "gpu" / "config.pbtxt").write_text(config)
    (model,) = migrate("triton", tmp_path)["models"]
    needs = {(note["what"], note["line"]) for note in model["notes"] if note["status"] == "needs"}
    lines = config.splitlines()
    assert needs == {
        ("instance_group", lines.index("instance_group [") + 2),
        ("optimization: execution_accelerators", lines.index("optimization { execution_accelerators {") + 1),
    }


def test_priorities_and_timeouts(client):
    x, y = rows(3, 4), rows(3, 4) * 2
    for options in ({}, {"priority": 1}, {"priority": 3, "timeout": 1_000_000}, {"timeout": 5_000_000}):
        assert_same(ask(client, "priorities", x=x, y=y, **options).as_numpy("z"), x - y)
    with pytest.raises(InferenceServerException, match="batch-size must be <= 16"):
        ask(client, "priorities", x=rows(17, 4), y=rows(17, 4))


def test_the_configuration_is_shown_as_written(server):
    with http_client.InferenceServerClient(server.http) as connection:
        batching = connection.get_model_config("priorities")["dynamic_batching"]
        assert batching["preferred_batch_size"] == [4, 8] and batching["preserve_ordering"] is True
        assert (batching["priority_levels"], batching["default_priority_level"]) == (3, 2)
        assert batching["default_queue_policy"]["timeout_action"] == "DELAY"
        assert batching["priority_queue_policy"]["1"]["default_timeout_microseconds"] == 5_000_000
        assert connection.get_model_config("ragged")["input"][0]["allow_ragged_batch"] is True
        assert connection.get_model_config("derived")["max_batch_size"] == 4
        assert connection.get_model_config("tagged")["parameters"]["execution_mode"] == {"string_value": "0"}
        warmup = connection.get_model_config("warmed")["model_warmup"]
        assert [entry["name"] for entry in warmup] == ["zeros", "random", "recorded"]


def test_an_optional_input_is_one_that_the_graph_has_a_value_for(start, tmp_path):
    config = PLATFORM + """max_batch_size: 0
input [
  { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] },
  { name: "bias" data_type: TYPE_FP32 dims: [ 1 ] optional: true }
]
output { name: "y" data_type: TYPE_FP32 dims: [ -1, 4 ] }
"""
    (tmp_path / "biased" / "1").mkdir(parents=True)
    (tmp_path / "biased" / "config.pbtxt").write_text(config)
    onnx.save(BIASED, tmp_path / "biased" / "1" / "model.onnx")
    (model,) = migrate("triton", tmp_path)["models"]
    server = serve(start, tmp_path)
    assert model["serves"] and not [note for note in model["notes"] if note["status"] != "serves"], model["notes"]
    x, bias = rows(2, 4), np.array([2], np.float32)
    for module, address in ((http_client, server.http), (grpc_client, server.grpc)):
        with module.InferenceServerClient(address) as connection:
            client = (module, connection)
            assert_same(ask(client, "biased", x=x).as_numpy("y"), x + np.float32(10))
            assert_same(ask(client, "biased", x=x, bias=bias).as_numpy("y"), x + bias)
            with pytest.raises(InferenceServerException, match="'x'"):
                ask(client, "biased", bias=bias)
    shown = server.get("/v2/models/biased/config").json()
    assert [entry["optional"] for entry in shown["input"]] == [False, True]
    server.stop()


def test_rows_of_any_length(client):
    for length in (1, 3, 7):
        x = rows(2, length)
        assert_same(ask(client, "ragged", x=x).as_numpy("y"), np.abs(x))


def test_warm_up_is_not_counted(client, server):
    x = rows(2, 4)
    assert_same(ask(client, "warmed", x=x).as_numpy("y"), x + np.float32(1))
    stats = server.get("/v2/models/warmed/stats").json()["model_stats"][0]
    assert stats["inference_count"] == 2 * stats["inference_stats"]["success"]["count"]


@pytest.mark.parametrize("name, versions", [("specific", [1, 3]), ("every", [4, 5]), ("latest", [7, 8])])
def test_versions(client, name, versions):
    x = rows(1, 4)
    for version in versions:
        assert_same(ask(client, name, x=x, version=str(version)).as_numpy("y"), x + np.float32(version))
    assert_same(ask(client, name, x=x).as_numpy("y"), x + np.float32(versions[-1]))
    for left_out in {1, 2, 3, 4, 5, 6, 7, 8} - set(versions):
        with pytest.raises(InferenceServerException, match=f"version {left_out} is not found"):
            ask(client, name, x=x, version=str(left_out))


def test_answers_are_kept(client, server):
    def hits():
        (entry,) = server.get("/v2/models/cached/stats").json()["model_stats"]
        return entry["inference_stats"]["cache_hit"]["count"]

    x = np.full((1, 4), [http_client, grpc_client].index(client[0]), np.float32)
    before = hits()
    for _ in range(3):
        assert_same(ask(client, "cached", x=x).as_numpy("y"), x + np.float32(1))
    assert hits() == before + 2


def test_what_stands_in_no_configuration(client):
    x = rows(4, 4)
    assert_same(ask(client, "derived", x=x).as_numpy("y"), x + np.float32(9))
    assert_same(ask(client, "tagged", x=x).as_numpy("y"), x + np.float32(5))


def test_labels_shapes_and_texts(client):
    scores = np.array([[0.5, 3, -1], [9, 1, 2]], np.float32)
    labels = (MODELS / "triton" / "labelled" / "labels.txt").read_text().splitlines()
    got = ask(client, "labelled", {"SCORES": 1}, INPUT0=scores).as_numpy("SCORES")
    assert [value.decode().split(":")[1:] for value in got.reshape(-1)] == [["1", labels[1]], ["0", labels[0]]]
    x = rows(3, 1)
    expected = ort("triton/reshaped/1/model.onnx", INPUT0=x.reshape(-1))["OUTPUT0"]
    assert_same(ask(client, "reshaped", INPUT0=x).as_numpy("OUTPUT0"), expected.reshape(-1, 1))
    texts = np.array([["a", "", "grüße"]], object)
    assert_same(ask(client, "identity_bytes", INPUT0=texts).as_numpy("OUTPUT0"), texts)
    x = rows(2, 3)
    assert_same(ask(client, "no_batch", INPUT0=x).as_numpy("OUTPUT0"), ort("triton/no_batch/1/model.onnx", INPUT0=x)["OUTPUT0"])


@pytest.mark.parametrize("name, begins_at", [("sum_direct", 100), ("sum_oldest", 0)])
def test_sequences(client, name, begins_at):
    total = begins_at
    for step, value in enumerate((1, 20, 300)):
        flags = {"sequence_id": 5, "sequence_start": step == 0, "sequence_end": step == 2}
        total += value
        assert ask(client, name, INPUT=np.array([[value]], np.int32), **flags).as_numpy("SUM").item() == total


def test_no_byte_has_changed(repository, before, found, server):
    assert found and server.get("/v2/health/live").status_code == 200
    assert state_of(repository) == before


def test_a_models_config_of_tf_serving(start, tmp_path):
    models = tmp_path / "models"
    for version in (1, 2, 3):
        shutil.copytree(MODELS / "tfserving" / "half_plus_two" / "1", models / "half" / f"{version:08}")
    shutil.copytree(MODELS / "tfserving" / "axpy", models / "axpy")
    (models / "flowers" / "1" / "variables").mkdir(parents=True)
    (models / "flowers" / "1" / "saved_model.pb").write_bytes(b"x")
    config = f"""model_config_list {{
  config {{
    name: "newest"
    base_path: "{models}/half"
    model_version_policy {{ latest {{ num_versions: 2 }} }}
  }}
  config {{
    name: "chosen"
    base_path: "{models}/half"
    model_platform: "onnx"
    model_version_policy {{ specific {{ versions: 1 versions: 3 }} }}
    version_labels {{ key: "stable" value: 1 }}
    version_labels {{ key: "canary" value: 3 }}
  }}
  config {{
    name: "all"
    base_path: "{models}/half"
    model_version_policy {{ all {{ }} }}
    logging_config {{ sampling_config {{ sampling_rate: 0.1 }} }}
  }}
  config {{
    name: "axpy"
    base_path: "{models}/axpy"
  }}
  config {{
    name: "flowers"
    base_path: "{models}/flowers"
  }}
}}
"""
    path = tmp_path / "models.config"
    path.write_text(config)
    before = state_of(tmp_path)
    found = migrate("tfserving", path)
    server = serve(start, *found["serve"])
    versions = {model["name"]: [v["version"] for v in model["versions"]] for model in found["models"]}
    assert {name: sorted(numbers) for name, numbers in versions.items() if numbers} == {
        "newest": [2, 3], "chosen": [1, 3], "all": [1, 2, 3], "axpy": [1],
    }  # fmt: skip
    for model in found["models"]:
        assert model["serves"] == (model["name"] != "flowers")
        for number in versions[model["name"]]:
            status = server.get(f"/v1/models/{model['name']}/versions/{number}").json()["model_version_status"]
            assert [(entry["version"], entry["state"]) for entry in status] == [(str(number), "AVAILABLE")]
    for model, number in [("newest", 1), ("chosen", 2)]:
        assert server.get(f"/v1/models/{model}/versions/{number}").status_code == 404
    for label in ("stable", "canary"):
        answer = server.post(f"/v1/models/chosen/labels/{label}:predict", {"instances": [2.0]})
        assert answer.json() == {"predictions": [3.0]}
    assert server.post("/v1/models/flowers:predict", {"instances": [2.0]}).status_code in (404, 503)
    notes = {model["name"]: {(n["status"], n["what"], n["line"]) for n in model["notes"]} for model in found["models"]}
    lines = config.splitlines()
    logging = next(number for number, line in enumerate(lines, 1) if "logging_config" in line)
    assert ("ignored", "logging_config", logging) in notes["all"]
    assert ("ignored", "version", None) in notes["newest"] and ("ignored", "version", None) in notes["chosen"]
    assert ("refused", "a TensorFlow SavedModel", None) in notes["flowers"]
    assert not any(status in ("refused", "needs") for name in notes if name != "flowers" for status, *_ in notes[name])
    server.stop()
    assert state_of(tmp_path) == before
