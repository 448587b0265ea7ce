#!/usr/bin/env python3
"""Write the models at the edges of what the engine handles. Needs `onnx` and `numpy`, as tests/models does."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def info(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def write(name, nodes, inputs, outputs, constants=(), domains=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
    imports = [helper.make_opsetid("", 17)] + [helper.make_opsetid(domain, 1) for domain in domains]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    model.producer_name = "make.py"
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


x = info("x", FLOAT, ["batch", 2])
y = info("y", FLOAT, ["batch", 2])
table = numpy_helper.from_array(np.array([10, 20, 30], np.float32), "table")

# Fails for indices beyond the table.
write("gather", [helper.make_node("Gather", ["table", "index"], ["value"])],
      [info("index", INT64, ["batch"])], [info("value", FLOAT, ["batch"])], [table])
# An output that is a constant, and one that is an input as it came.
write("constant_output", [helper.make_node("Identity", ["x"], ["y"])], [x], [y, info("table", FLOAT, [3]), x], [table])
# Values that no request can carry.
sequence = helper.make_tensor_sequence_value_info("x", FLOAT, ["n"])
write("sequence_input", [helper.make_node("SequenceLength", ["x"], ["y"])], [sequence], [info("y", INT64, [])])
nested = helper.make_value_info(
    "s", helper.make_sequence_type_proto(helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, [1]))))
write("nested_sequence_input", [helper.make_node("Identity", ["x"], ["y"])], [x, nested], [y])
write("sequence_output", [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("SequenceConstruct", ["x"], ["s"])],
      [x], [y, helper.make_tensor_sequence_value_info("s", FLOAT, None)])
# An operator that nobody has.
write("unknown_operator", [helper.make_node("Frobnicate", ["x"], ["y"])], [x], [y])
# Weights in a file outside of the model's folder.
outside = TensorProto(name="outside", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
for key, value in (("location", "../outside.data"), ("offset", "0"), ("length", "8")):
    outside.external_data.add(key=key, value=value)
write("external_outside", [helper.make_node("Add", ["x", "outside"], ["y"])], [x], [y], [outside])
(HERE.parent / "outside.data").write_bytes(np.array([1, 2], np.float32).tobytes())
# Weights in a file beside the model.
beside = TensorProto(name="beside", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
for key, value in (("location", "external.onnx.data"), ("offset", "0"), ("length", "8")):
    beside.external_data.add(key=key, value=value)
write("external", [helper.make_node("Add", ["x", "beside"], ["y"])], [x], [y], [beside])
(HERE / "external.onnx.data").write_bytes(np.array([1, 2], np.float32).tobytes())
# Adds one to x, n times: as long a run as a test wants.
step = helper.make_graph(
    [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["value", "one"], ["next"])], "step",
    [info("idx", INT64, []), info("go", TensorProto.BOOL, []), info("value", FLOAT, ["batch", 2])],
    [info("go_on", TensorProto.BOOL, []), info("next", FLOAT, ["batch", 2])])
constants = [numpy_helper.from_array(np.array(True), "always"), numpy_helper.from_array(np.array(1, np.float32), "one")]
write("loop", [helper.make_node("Loop", ["n", "always", "x"], ["y"], body=step)],
      [info("n", INT64, [1]), x], [y], constants)
