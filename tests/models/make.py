#!/usr/bin/env python3
"""Write the small models that the tests serve. Running it twice writes the same bytes.

README.md in this folder says what each model is for.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
OPSET, IR = 17, 8

# Short name (also the end of the model's name): ONNX type, name in config.pbtxt.
DTYPES = {
    "bool": (TensorProto.BOOL, "TYPE_BOOL"),
    "int8": (TensorProto.INT8, "TYPE_INT8"),
    "int16": (TensorProto.INT16, "TYPE_INT16"),
    "int32": (TensorProto.INT32, "TYPE_INT32"),
    "int64": (TensorProto.INT64, "TYPE_INT64"),
    "uint8": (TensorProto.UINT8, "TYPE_UINT8"),
    "uint16": (TensorProto.UINT16, "TYPE_UINT16"),
    "uint32": (TensorProto.UINT32, "TYPE_UINT32"),
    "uint64": (TensorProto.UINT64, "TYPE_UINT64"),
    "fp16": (TensorProto.FLOAT16, "TYPE_FP16"),
    "bf16": (TensorProto.BFLOAT16, "TYPE_BF16"),
    "fp32": (TensorProto.FLOAT, "TYPE_FP32"),
    "fp64": (TensorProto.DOUBLE, "TYPE_FP64"),
    "bytes": (TensorProto.STRING, "TYPE_STRING"),
}
FLOAT = TensorProto.FLOAT


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_model(path, nodes, inputs, outputs, constants=None) -> None:
    """inputs and outputs: name -> (ONNX type, shape); constants: name -> array."""
    graph = helper.make_graph(
        nodes,
        path.parent.parent.name,
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, t, s) for n, (t, s) in outputs.items()],
        [numpy_helper.from_array(v, n) for n, v in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    model.producer_name = "tests/models/make.py"
    onnx.checker.check_model(model, full_check=True)
    write(path, model.SerializeToString(deterministic=True))


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, **attributes)


def f32(*values) -> np.ndarray:
    return np.array(values if len(values) != 1 else values[0], np.float32)


def triton(root: Path) -> None:
    for short in ("int32", "fp32"):
        onnx_type, config_type = DTYPES[short]
        name = f"add_sub_{short}"
        tensor = (onnx_type, ["batch", 16])
        write_model(
            root / name / "1" / "model.onnx",
            [
                node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
                node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
            ],
            {"INPUT0": tensor, "INPUT1": tensor},
            {"OUTPUT0": tensor, "OUTPUT1": tensor},
        )
        write(
            root / name / "config.pbtxt",
            f"""# Sum and difference of two vectors, in the list form of the text format.
name: "{name}"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  {{
    name: "INPUT0"
    data_type: {config_type}
    dims: [ 16 ]
  }},
  {{
    name: "INPUT1"
    data_type: {config_type}
    dims: [ 16 ]
  }}
]
output [
  {{
    name: "OUTPUT0"   # the sum
    data_type: {config_type}
    dims: [ 16 ]
  }},
  {{
    name: "OUTPUT1"   # the difference
    data_type: {config_type}
    dims: [ 16 ]
  }}
]
instance_group [
  {{
    count: 1
    kind: KIND_CPU
  }}
]
dynamic_batching {{ }}
""",
        )

    for short, (onnx_type, config_type) in DTYPES.items():
        name = f"identity_{short}"
        tensor = (onnx_type, ["batch", "n"])
        write_model(
            root / name / "1" / "model.onnx",
            [node("Identity", ["INPUT0"], ["OUTPUT0"])],
            {"INPUT0": tensor},
            {"OUTPUT0": tensor},
        )
        write(
            root / name / "config.pbtxt",
            f"""name: '{name}'
backend: "onnx" "runtime"  # adjacent strings are one string
max_batch_size: 8
input {{ name: "INPUT0", data_type: {config_type}, dims: -1 }}
output {{ name: "OUTPUT0"; data_type: {config_type}; dims: [ -1 ] }}
""",
        )

    write_model(
        root / "dynamic_shape" / "1" / "model.onnx",
        [
            node("Transpose", ["INPUT0"], ["OUTPUT0"], perm=[0, 2, 1]),
            node("ReduceSum", ["INPUT0", "last"], ["OUTPUT1"], keepdims=0),
        ],
        {"INPUT0": (FLOAT, ["batch", "rows", "columns"])},
        {
            "OUTPUT0": (FLOAT, ["batch", "columns", "rows"]),
            "OUTPUT1": (FLOAT, ["batch", "rows"]),
        },
        {"last": np.array([2], np.int64)},
    )
    write(
        root / "dynamic_shape" / "config.pbtxt",
        """name: "dynamic_shape"
backend: "onnxruntime"
max_batch_size: 8
input: { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1, -1 ] }
# The same field twice is a list of two.
output: { name: "OUTPUT0" data_type: TYPE_FP32 dims: -1 dims: -1 }
output: { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ -1 ] }
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
}
""",
    )

    write_model(
        root / "no_batch" / "1" / "model.onnx",
        [node("Add", ["INPUT0", "step"], ["OUTPUT0"])],
        {"INPUT0": (FLOAT, [2, 3])},
        {"OUTPUT0": (FLOAT, [2, 3])},
        {"step": f32([[1, 2, 3], [4, 5, 6]])},
    )
    write(
        root / "no_batch" / "config.pbtxt",
        """# max_batch_size 0: dims are the whole shape.
name: "no_batch"
platform: "onnxruntime_onnx"
max_batch_size: 0
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 2, 3 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 2, 3 ] } ]
""",
    )

    for version in (1, 2):
        write_model(
            root / "two_versions" / str(version) / "model.onnx",
            [node("Add", ["INPUT0", "step"], ["OUTPUT0"])],
            {"INPUT0": (FLOAT, ["batch", 4])},
            {"OUTPUT0": (FLOAT, ["batch", 4])},
            {"step": f32([version])},
        )
    write(
        root / "two_versions" / "config.pbtxt",
        """name: "two_versions"
platform: "onnxruntime_onnx"
max_batch_size: 8
version_policy: { all { } }
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] } ]
""",
    )

    write_model(
        root / "auto_config" / "1" / "model.onnx",
        [node("Mul", ["x", "two"], ["y"])],
        {"x": (FLOAT, ["batch", 3])},
        {"y": (FLOAT, ["batch", 3])},
        {"two": f32([2])},
    )

    write_model(
        root / "labelled" / "1" / "model.onnx",
        [node("Identity", ["INPUT0"], ["SCORES"])],
        {"INPUT0": (FLOAT, ["batch", 3])},
        {"SCORES": (FLOAT, ["batch", 3])},
    )
    write(
        root / "labelled" / "config.pbtxt",
        """name: "labelled"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [
  {
    name: "SCORES"
    data_type: TYPE_FP32
    dims: [ 3 ]
    label_filename: "labels.txt"
  }
]
parameters: { key: "intra_op_thread_count" value: { string_value: "1" } }
""",
    )
    write(root / "labelled" / "labels.txt", "ant\nbee\ncat\n")

    write_model(
        root / "reshaped" / "1" / "model.onnx",
        [node("Mul", ["INPUT0", "three"], ["OUTPUT0"])],
        {"INPUT0": (FLOAT, ["batch"])},
        {"OUTPUT0": (FLOAT, ["batch"])},
        {"three": f32([3])},
    )
    write(
        root / "reshaped" / "config.pbtxt",
        """# On the wire [N,1], in the graph [N].
name: "reshaped"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } } ]
""",
    )

    slow(root / "slow")


def slow(folder: Path) -> None:
    """INPUT0 comes back unchanged after many products of 256x256 matrices.

    The matrix of 1/256 everywhere is its own square, exactly, so the answer needs
    no tolerance; it depends on the input through a Clip, so that no optimiser can
    work it out beforehand.
    """
    size, steps = 256, 160
    body = helper.make_graph(
        [
            node("MatMul", ["before", "matrix"], ["after"]),
            node("Identity", ["go"], ["go_on"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", FLOAT, [size, size]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", FLOAT, [size, size]),
        ],
    )
    write_model(
        folder / "1" / "model.onnx",
        [
            node("ReduceMax", ["INPUT0"], ["largest"], keepdims=0),
            node("Clip", ["largest", "one", "one"], ["seed"]),
            node("ConstantOfShape", ["side"], ["ones"], value=helper.make_tensor("v", FLOAT, [1], [1.0])),
            node("Mul", ["ones", "share"], ["constant"]),
            node("Mul", ["constant", "seed"], ["matrix"]),
            node("Loop", ["steps", "yes", "matrix"], ["power"], body=body),
            node("ReduceMean", ["power"], ["mean"], keepdims=0),
            node("Div", ["mean", "share"], ["unit"]),
            node("Mul", ["INPUT0", "unit"], ["OUTPUT0"]),
        ],
        {"INPUT0": (FLOAT, ["batch", 1])},
        {"OUTPUT0": (FLOAT, ["batch", 1])},
        {
            "one": np.array(1, np.float32),
            "share": np.array(1 / size, np.float32),
            "side": np.array([size, size], np.int64),
            "steps": np.array(steps, np.int64),
            "yes": np.array(True),
        },
    )
    write(
        folder / "config.pbtxt",
        """# Some tens of milliseconds a call, whatever the batch.
name: "slow"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
dynamic_batching { }
""",
    )


CONTROLS = """  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
    { name: "END" control [ { kind: CONTROL_SEQUENCE_END fp32_false_true: [ -1, 1 ] } ] },
    { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ] } ] },
    { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_%s } ] }
  ]
"""


def sequences(root: Path) -> None:
    """Stateful models: sums whose state the server keeps, and what the control inputs say."""
    int32, boolean, whole, text = (TensorProto.INT32, TensorProto.BOOL, TensorProto.UINT64, TensorProto.STRING)
    one = ["batch", 1]
    head = """platform: "onnxruntime_onnx"
max_batch_size: %d
input [ { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
    sums = [node("Add", ["INPUT", "SUM_IN"], ["SUM"]), node("Identity", ["SUM"], ["SUM_OUT"])]
    sum_in, sum_out = {"INPUT": (int32, one), "SUM_IN": (int32, one)}, {"SUM": (int32, one), "SUM_OUT": (int32, one)}
    state = """  state [
    {
      input_name: "SUM_IN" output_name: "SUM_OUT" data_type: TYPE_INT32 dims: [ 1 ]
      use_same_buffer_for_input_output: true
%s    }
  ]
"""
    first = '      initial_state { name: "hundred" data_type: TYPE_INT32 dims: [ 1 ] data_file: "hundred" }\n'
    output = 'output [ { name: "SUM" data_type: TYPE_INT32 dims: [ 1 ] } ]\n'
    for name, strategy, initial in (
        ("sum_oldest", "oldest { max_candidate_sequences: 64 }", ""), ("sum_direct", "direct { }", first),
    ):
        write_model(root / name / "1" / "model.onnx", sums, sum_in, sum_out)
        idle = "  max_sequence_idle_microseconds: 60000000\n"
        batching = "sequence_batching {\n  " + strategy + "\n" + idle + state % initial + "}\n"
        write(root / name / "config.pbtxt", head % 8 + output + batching)
    write(root / "sum_direct" / "initial_state" / "hundred", np.array([100], "<i4").tobytes())

    # Rests for a second, and has two rows.
    write_model(root / "sum_short" / "1" / "model.onnx", sums, sum_in, sum_out)
    write(root / "sum_short" / "config.pbtxt", head % 2 + output + "sequence_batching {\n" + state % "" + "}\n")

    for short, kind, config in (("number", whole, "UINT64"), ("text", text, "STRING")):
        name = f"controls_{short}"
        write_model(
            root / name / "1" / "model.onnx",
            [
                node("Identity", ["START"], ["STARTED"]), node("Identity", ["END"], ["ENDED"]),
                node("Identity", ["READY"], ["WAS_READY"]), node("Identity", ["CORRID"], ["ID"]),
                node("Identity", ["INPUT"], ["OUTPUT"]),
            ],
            {
                "INPUT": (int32, one), "START": (int32, one), "END": (FLOAT, one), "READY": (boolean, one),
                "CORRID": (kind, one),
            },
            {
                "OUTPUT": (int32, one), "STARTED": (int32, one), "ENDED": (FLOAT, one), "WAS_READY": (boolean, one),
                "ID": (kind, one),
            },
        )
        strategy = "  max_sequence_idle_microseconds: 60000000\n" + CONTROLS % config
        write(root / name / "config.pbtxt", head % 4 + "sequence_batching {\n" + strategy + "}\n")


def ragged(root: Path) -> None:
    """Models that take the elements of all requests one after the other, and what tells them apart."""
    int32, number = TensorProto.INT32, "TYPE_INT32"
    head = """platform: "onnxruntime_onnx"
max_batch_size: 8
dynamic_batching { }
"""
    values = 'input [ { name: "VALUES" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true } ]\n'
    flat = (FLOAT, ["all"])
    made = """batch_input [
  {
    kind: %s
    target_name: "%s"
    data_type: %s
    source_input: "VALUES"
  }
]
"""
    scatter = """batch_output [
  {
    target_name: "%s"
    kind: BATCH_SCATTER_WITH_INPUT_SHAPE
    source_input: "VALUES"
  }
]
"""

    # The sum up to where a request ends, less that up to where it begins; and all values doubled, cut
    # back to the requests.
    name = "ragged_sums"
    write_model(
        root / name / "1" / "model.onnx",
        [
            node("CumSum", ["VALUES", "axis"], ["sums"]),
            node("Concat", ["zero", "sums"], ["upto"], axis=0),
            node("Gather", ["upto", "BOUNDS"], ["at"]),
            node("Slice", ["at", "one", "last", "axes"], ["ends"]),
            node("Slice", ["at", "none", "minus", "axes"], ["starts"]),
            node("Sub", ["ends", "starts"], ["totals"]),
            node("Unsqueeze", ["totals", "one"], ["TOTAL"]),
            node("Mul", ["VALUES", "two"], ["DOUBLED"]),
        ],
        {"VALUES": flat, "BOUNDS": (int32, ["bounds"])},
        {"TOTAL": (FLOAT, ["batch", 1]), "DOUBLED": flat},
        {
            "axis": np.array(0, np.int64), "zero": f32([0.0]), "one": np.array([1], np.int64),
            "none": np.array([0], np.int64), "minus": np.array([-1], np.int64), "two": f32([2.0]),
            "last": np.array([2**31], np.int64), "axes": np.array([0], np.int64),
        },
    )
    write(
        root / name / "config.pbtxt",
        "# Sums of requests of any length, and their values doubled.\n"
        + head + values
        + 'output [\n  { name: "TOTAL" data_type: TYPE_FP32 dims: [ 1 ] },\n'
        '  { name: "DOUBLED" data_type: TYPE_FP32 dims: [ -1 ] }\n]\n'
        + made % ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", "BOUNDS", number) + scatter % "DOUBLED",
    )

    # What the graph was told, one row for each request.
    kinds = {
        "count": ("BATCH_ELEMENT_COUNT", number, int32),
        "count_fp32": ("BATCH_ELEMENT_COUNT", "TYPE_FP32", FLOAT),
        "ends": ("BATCH_ACCUMULATED_ELEMENT_COUNT", number, int32),
        "ends_fp32": ("BATCH_ACCUMULATED_ELEMENT_COUNT", "TYPE_FP32", FLOAT),
    }
    for short, (kind, config_type, onnx_type) in kinds.items():
        name = f"ragged_{short}"
        write_model(
            root / name / "1" / "model.onnx",
            [
                node("Unsqueeze", ["MADE", "one"], ["TOLD"]),
                node("Identity", ["VALUES"], ["SAME"]),
            ],
            {"MADE": (onnx_type, ["requests"]), "VALUES": flat},
            {"TOLD": (onnx_type, ["batch", 1]), "SAME": flat},
            {"one": np.array([1], np.int64)},
        )
        write(
            root / name / "config.pbtxt",
            head + values
            + f'output [ {{ name: "TOLD" data_type: {config_type} dims: [ 1 ] }},\n'
            '         { name: "SAME" data_type: TYPE_FP32 dims: [ -1 ] } ]\n'
            + made % (kind, "MADE", config_type) + scatter % "SAME",
        )

    # Each row as long as the longest request of its batch; rows of different shapes, whose shapes come
    # with them; and an input beside them that is batched along rows as always.
    name = "ragged_shapes"
    write_model(
        root / name / "1" / "model.onnx",
        [
            node("Shape", ["LONGEST"], ["longest"]),
            node("Mul", ["SCALE", "zero"], ["zeros"]),
            node("Cast", ["longest"], ["longest_32"], to=int32),
            node("Cast", ["zeros"], ["zeros_32"], to=int32),
            node("Add", ["zeros_32", "longest_32"], ["LONG"]),
            node("Identity", ["ITEMS"], ["ITEM"]),
            node("Reshape", ["FLATTENED", "pairs"], ["PAIR"]),
            node("Mul", ["SCALE", "two"], ["SCALED"]),
            node("Identity", ["WORDS"], ["SAME"]),
        ],
        {
            "SCALE": (FLOAT, ["batch", 1]), "WORDS": (TensorProto.STRING, ["all"]), "ITEMS": (int32, ["batch", 2]),
            "FLATTENED": (int32, ["both"]), "LONGEST": (FLOAT, ["longest"]),
        },
        {
            "LONG": (int32, ["batch", 1]), "ITEM": (int32, ["batch", 2]), "PAIR": (int32, ["batch", 2]),
            "SCALED": (FLOAT, ["batch", 1]), "SAME": (TensorProto.STRING, ["all"]),
        },
        {"zero": f32([0.0]), "two": f32([2.0]), "pairs": np.array([-1, 2], np.int64)},
    )
    blocks = [
        ("BATCH_ITEM_SHAPE", "ITEMS", number), ("BATCH_ITEM_SHAPE_FLATTEN", "FLATTENED", number),
        ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", "LONGEST", "TYPE_FP32"),
    ]
    batch_inputs = "".join(
        f'batch_input {{ kind: {kind} target_name: "{target}" data_type: {config_type} source_input: "WORDS" }}\n'
        for kind, target, config_type in blocks
    )
    outputs = "".join(
        f'output {{ name: "{output}" data_type: {config_type} dims: [ {dims} ] }}\n'
        for output, config_type, dims in (
            ("LONG", number, "1"), ("ITEM", number, "2"), ("PAIR", number, "2"), ("SCALED", "TYPE_FP32", "1"),
            ("SAME", "TYPE_STRING", "-1, -1"),
        )
    )
    write(
        root / name / "config.pbtxt",
        head
        + 'input { name: "WORDS" data_type: TYPE_STRING dims: [ -1, -1 ] allow_ragged_batch: true }\n'
        'input { name: "SCALE" data_type: TYPE_FP32 dims: [ 1 ] }\n' + outputs + batch_inputs
        + 'batch_output { target_name: "SAME" source_input: "WORDS" }\n',
    )


def tfserving(root: Path) -> None:
    for version, add in ((1, 2), (2, 3)):
        write_model(
            root / "half_plus_two" / str(version) / "model.onnx",
            [node("Mul", ["x", "half"], ["h"]), node("Add", ["h", "add"], ["y"])],
            {"x": (FLOAT, ["batch"])},
            {"y": (FLOAT, ["batch"])},
            {"half": f32([0.5]), "add": f32([add])},
        )
    write_model(
        root / "axpy" / "1" / "model.onnx",
        [
            node("Unsqueeze", ["a", "axis"], ["column"]),
            node("Add", ["column", "b"], ["sum"]),
            node("Sub", ["column", "b"], ["diff"]),
        ],
        {"a": (FLOAT, ["batch"]), "b": (FLOAT, ["batch", 2])},
        {"sum": (FLOAT, ["batch", 2]), "diff": (FLOAT, ["batch", 2])},
        {"axis": np.array([1], np.int64)},
    )
    write_model(
        root / "text_bytes" / "1" / "model.onnx",
        [
            node("Identity", ["text"], ["plain"]),
            node("Identity", ["text"], ["raw_bytes"]),
        ],
        {"text": (TensorProto.STRING, ["batch"])},
        {"plain": (TensorProto.STRING, ["batch"]), "raw_bytes": (TensorProto.STRING, ["batch"])},
    )
    write(
        root / "models.config.template",
        """# @BASE@ stands for the absolute path of this folder.
model_config_list {
  config {
    name: "half_plus_two"
    base_path: "@BASE@/half_plus_two"
    model_platform: "onnx"
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "stable" value: 1 }
    version_labels { key: "canary" value: 2 }
  }
  config {
    name: "axpy"
    base_path: "@BASE@/axpy"
  }
  config {
    name: "text_bytes"
    base_path: "@BASE@/text_bytes"
    model_version_policy { latest { num_versions: 1 } }
  }
}
""",
    )


def sklearn_files(root: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_iris()
    x = data.data.astype(np.float32)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    pipeline.fit(x, data.target)
    for name, options in (("iris_ml", {"zipmap": False}), ("iris_zipmap", {})):
        model = to_onnx(
            pipeline, x[:1], name=name, target_opset={"": OPSET, "ai.onnx.ml": 3},
            options={id(pipeline): options} if options else None,
        )
        model.ir_version = IR
        write(root / f"{name}.onnx", in_order(model).SerializeToString(deterministic=True))
    customers(root)

    graph = helper.make_graph(
        [
            node(
                "LabelEncoder", ["word"], ["kind"], domain="ai.onnx.ml",
                keys_strings=["cat", "dog", "grüße"], values_strings=["feline", "canine", "greeting"],
                default_string="unknown",
            )
        ],
        "strings",
        [helper.make_tensor_value_info("word", TensorProto.STRING, ["batch"])],
        [helper.make_tensor_value_info("kind", TensorProto.STRING, ["batch"])],
    )
    model = helper.make_model(
        graph, ir_version=IR,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)],
    )
    model.producer_name = "tests/models/make.py"
    onnx.checker.check_model(model, full_check=True)
    write(root / "strings.onnx", model.SerializeToString(deterministic=True))


def in_order(model):
    """The converter's order of domains changes from run to run."""
    domains = sorted(model.opset_import, key=lambda entry: entry.domain)
    del model.opset_import[:]
    model.opset_import.extend(domains)
    return model


def customers(root: Path) -> None:
    """A pipeline with an input for each column, and what scikit-learn itself says of some rows."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    random = np.random.default_rng(7)
    plans = ["basic", "plus", "pro"]

    def rows(count: int):
        age = random.uniform(18, 80, count).astype(np.float32).astype(object)
        age[random.random(count) < 0.2] = np.nan
        plan = random.choice(plans, count).astype(object)
        return np.stack([age, random.integers(0, 30, count).astype(object), plan], axis=1)

    known = rows(400)
    stays = [visits + 10 * plans.index(plan) + random.normal(0, 8) > 22 for _, visits, plan in known]
    columns = ColumnTransformer([
        ("age", make_pipeline(SimpleImputer(), StandardScaler()), [0]),
        ("visits", StandardScaler(), [1]),
        ("plan", OneHotEncoder(handle_unknown="ignore"), [2]),
    ])
    pipeline = make_pipeline(columns, LogisticRegression())
    pipeline.fit(known, np.where(stays, "stays", "leaves"))
    one = [None, 1]
    inputs = [("age", FloatTensorType(one)), ("visits", Int64TensorType(one)), ("plan", StringTensorType(one))]
    model = to_onnx(
        pipeline, initial_types=inputs, name="customers", target_opset={"": OPSET, "ai.onnx.ml": 3},
        options={id(pipeline): {"zipmap": False}},
    )
    model.ir_version = IR
    write(root / "customers.onnx", in_order(model).SerializeToString(deterministic=True))
    new = rows(12)
    new[3, 2] = "gold"  # a category that the encoder has never seen
    cases = [
        {
            "age": None if np.isnan(age) else float(age), "visits": int(visits), "plan": plan,
            "label": str(label), "probabilities": [round(float(value), 6) for value in probabilities],
        }
        for (age, visits, plan), label, probabilities in zip(new, pipeline.predict(new), pipeline.predict_proba(new))
    ]
    write(root / "customers.json", json.dumps(cases, indent=1) + "\n")


def broken(root: Path) -> None:
    whole = (HERE / "triton" / "add_sub_fp32" / "1" / "model.onnx").read_bytes()
    write(root / "truncated.onnx", whole[: len(whole) * 2 // 3])
    write(root / "empty.onnx", b"")
    write(root / "not_onnx.onnx", "This is a text, not a model.\n")
    tensors = """max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 16 ] },
        { name: "INPUT1" data_type: TYPE_FP32 dims: [ 16 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 16 ] } ]
"""
    configs = {
        "unknown_field": 'platform: "onnxruntime_onnx"\n' + tensors + "max_batch_sise: 4\n",
        "wrong_platform": 'platform: "tensorrt_plan"\n' + tensors,
        "wrong_name": 'name: "another"\nplatform: "onnxruntime_onnx"\n' + tensors,
        "wrong_input": 'platform: "onnxruntime_onnx"\n' + tensors.replace("INPUT1", "INPUT9"),
        "wrong_type": 'platform: "onnxruntime_onnx"\n' + tensors.replace("FP32", "INT64"),
        "wrong_rank": 'platform: "onnxruntime_onnx"\n' + tensors.replace("[ 16 ]", "[ 4, 4 ]"),
        "not_text_format": "input [ { name: \n",
        "sequence": 'platform: "onnxruntime_onnx"\n' + tensors + "sequence_batching { iterative_sequence: true }\n",
    }
    for name, config in configs.items():
        write(root / "triton" / name / "config.pbtxt", config)
        write(root / "triton" / name / "1" / "model.onnx", whole)
    write(root / "triton" / "no_version" / "config.pbtxt",
          'platform: "onnxruntime_onnx"\n' + tensors)
    # One good model among the broken ones: it must serve all the same.
    write(root / "triton" / "good" / "config.pbtxt", 'platform: "onnxruntime_onnx"\n' + tensors)
    write(root / "triton" / "good" / "1" / "model.onnx", whole)


def main() -> None:
    for folder, make in (
        ("triton", triton), ("sequences", sequences), ("ragged", ragged), ("tfserving", tfserving),
        ("sklearn", sklearn_files), ("broken", broken),
    ):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        make(HERE / folder)


if __name__ == "__main__":
    main()
