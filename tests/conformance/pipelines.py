"""Small models to make ensembles of, and clients that ask for tensors by name."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
WIRE = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "int32": "INT32", "bool": "BOOL", "object": "BYTES"}
NUMPY = {wire: name for name, wire in WIRE.items()}


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def graph(nodes, inputs, outputs, **constants) -> bytes:
    """inputs and outputs: name -> (ONNX type, shape)."""
    infos = lambda tensors: [helper.make_tensor_value_info(n, t, s) for n, (t, s) in tensors.items()]
    fixed = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "part", infos(inputs), infos(outputs), fixed)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def rows(*shape, dtype=FLOAT):
    return dtype, ["N", *shape]


PAIR, ONE = rows(2), rows(1)


def f32(*values):
    return np.array(values, np.float32)


# What each part computes stands in EXPECTED, in numpy.
PARTS = {
    "inc": graph([node("Add", "x one", "y")], {"x": PAIR}, {"y": PAIR}, one=f32(1)),
    "double": graph([node("Add", "x x", "y")], {"x": PAIR}, {"y": PAIR}),
    "negate": graph([node("Neg", "x", "y")], {"x": PAIR}, {"y": PAIR}),
    "sum": graph([node("Add", "a b", "y")], {"a": PAIR, "b": PAIR}, {"y": PAIR}),
    "score": graph([node("ReduceSum", "x last", "s", keepdims=1)], {"x": PAIR}, {"s": ONE}, last=[1]),
    "halves": graph([node("Split", "x", "left right", axis=1)], {"x": PAIR}, {"left": ONE, "right": ONE}),
    "tag": graph([node("Identity", "w", "v")], {"w": rows(1, dtype=STRING)}, {"v": rows(1, dtype=STRING)}),
    "count": graph([node("Identity", "n", "m")], {"n": rows(1, dtype=INT)}, {"m": rows(1, dtype=INT)}),
    "flag": graph([node("Identity", "f", "g")], {"f": rows(1, dtype=BOOL)}, {"g": rows(1, dtype=BOOL)}),
    # An answer for rows of a positive sum only.
    "lookup": graph(
        [node("ReduceSum", "x last", "s", keepdims=1), node("Greater", "s zero", "found"), node("Add", "x ten", "y")],
        {"x": PAIR}, {"y": PAIR, "found": rows(1, dtype=BOOL)}, last=[1], zero=f32(0), ten=f32(10),
    ),
    # A row more often than once, and the mean of a list.
    "spread": graph(
        [node("Unsqueeze", "x middle", "u"), node("Concat", "u u u", "items", axis=1)],
        {"x": PAIR}, {"items": rows(3, 2)}, middle=[1],
    ),
    "fold": graph([node("ReduceSum", "items middle", "y", keepdims=0)], {"items": rows("K", 2)}, {"y": PAIR}, middle=[1]),
}
# Its answer has no rows: the sum of all of them stays within the request.
WHOLE = graph([node("Add", "x one", "y")], {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}, one=f32(1))

EXPECTED = {
    "inc": lambda x: x + 1,
    "double": lambda x: x + x,
    "negate": lambda x: -x,
    "lookup": lambda x: x + 10,
    "score": lambda x: x.sum(1, keepdims=True),
}


def put(folder, name, model: bytes | str, toml=""):
    """A folder with a graph, or with nothing but a model.toml."""
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    if isinstance(model, bytes):
        replace(own / "model.onnx", model)
    replace(own / "model.toml", toml if isinstance(model, bytes) else model)
    return own


def replace(path, content: bytes | str):
    """At once, so that nobody reads half of a file."""
    new = path.with_name(f".{path.name}")
    new.write_bytes(content.encode() if isinstance(content, str) else content)
    new.rename(path)


def parts(folder, *names):
    for name in names or PARTS:
        put(folder, name, PARTS[name])
    return folder


def tensor(name, value, wire=None):
    value = np.asarray(value)
    data = [v.decode() if isinstance(v, bytes) else v for v in value.ravel().tolist()]
    return {"name": name, "datatype": wire or WIRE[str(value.dtype)], "shape": list(value.shape), "data": data}


def infer(server, model, headers=None, path="/infer", parameters=None, **inputs):
    body = {"inputs": [tensor(name, value) for name, value in inputs.items()]}
    if parameters:
        body["parameters"] = parameters
    return server.post(f"/v2/models/{model}{path}", body, headers=headers or {})


def read(answer):
    """The outputs of an answer of the inference protocol, by name."""
    assert answer.status_code == 200, answer.text
    return {
        output["name"]: np.array(output["data"], NUMPY[output["datatype"]]).reshape(output["shape"])
        for output in answer.json()["outputs"]
    }


def ask(server, model, **inputs):
    return read(infer(server, model, **inputs))


def ask_version(server, model, version, **inputs):
    return read(infer(server, model, path=f"/versions/{version}/infer", **inputs))


def reason(server, model):
    """Why a model does not serve; nothing while it is on its way, or if it serves."""
    index = server.post("/v2/repository/index", {}).json()
    return next((entry.get("reason", "") for entry in index if entry["name"] == model), "")


def steps(server, model):
    """What each step of an ensemble did so far."""
    shown = server.get(f"/api/v1/models/{model}/graph").json()
    return {step["name"]: step["statistics"] for step in shown["steps"]}


def same(got, expected):
    """Names, types, shapes and values."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        value = np.asarray(value)
        assert (got[name].shape, got[name].dtype.kind) == (value.shape, value.dtype.kind), (name, got[name], value)
        np.testing.assert_array_equal(got[name], value, err_msg=name)
