"""Writes graphs as ONNX."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {"float": TensorProto.FLOAT, "int64": TensorProto.INT64, "uint8": TensorProto.UINT8, "string": TensorProto.STRING}

# The name, type and shape of an input or output.
Value = tuple[str, str, list]


def write(path: Path, nodes: list[tuple], inputs: list[Value], outputs: list[Value], constants: dict[str, np.ndarray]) -> None:
    """Each node is its operator, what it reads, what it makes, and its attributes if it has any."""
    made = [helper.make_node(one[0], one[1], one[2], name=one[2][0], **(one[3] if len(one) > 3 else {})) for one in nodes]
    values = [[helper.make_tensor_value_info(name, TYPES[kind], shape) for name, kind, shape in side] for side in (inputs, outputs)]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(made, path.parent.name, *values, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
