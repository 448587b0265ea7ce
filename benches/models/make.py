#!/usr/bin/env python3
"""Writes the models that the benchmarks serve: real architectures, random weights from fixed seeds.

    make.py [--out DIR] [--count N] [transformer] [resnet50] [head] [pass] [many]

transformer  an encoder of MiniLM-L6's shape (6 layers of width 384), mean-pooled over the mask
resnet50     ResNet-50 v1.5, batch normalisation folded into the convolutions
head         a linear classifier over the transformer's vectors
pass         answers what it is sent, four values a row
many         N small networks of 12.6 MB each, no two alike, and expected.json with the answer of
             each to one input

Running it twice writes the same bytes. ONNX Runtime runs every model once: an output that is not
finite, or for `many` not what NumPy computes, ends the script with an error.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parent.parent.parent
OPSET, IR = 17, 8
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
KINDS = ["transformer", "resnet50", "head", "pass", "many"]

# How far ONNX Runtime's answers may lie from NumPy's; answers are about 1 in size.
TOLERANCE = 1e-3


class Graph:
    """Collects nodes and weights; `op` returns the name of the result."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def op(self, kind, *inputs, output=None, **attributes):
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, array):
        name = f"weight_{len(self.weights)}"
        onnx_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.weights.append(helper.make_tensor(name, onnx_type, array.shape, array.tobytes(), raw=True))
        return name

    def normal(self, shape, deviation):
        return self.weight(self.random.standard_normal(shape, dtype=np.float32) * np.float32(deviation))

    def constant(self, values, dtype=np.int64):
        return self.weight(np.array(values, dtype=dtype))

    def write(self, folder, inputs, outputs):
        """inputs and outputs: name -> (ONNX type, shape). Returns the model's file."""
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            folder.name,
            [value(name, *spec) for name, spec in inputs.items()],
            [value(name, *spec) for name, spec in outputs.items()],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        model.producer_name = "benches/models/make.py"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.toml").write_text('task = "tensor"\n')
        file, unfinished = folder / "model.onnx", folder / "model.onnx.part"
        unfinished.write_bytes(model.SerializeToString(deterministic=True))
        unfinished.replace(file)
        return file


def transformer(folder):
    layers, width, heads, inner, vocabulary, positions = 6, 384, 12, 1536, 30522, 512
    g = Graph(seed=6)

    def norm(x):
        scale, bias = g.weight(np.ones(width, np.float32)), g.weight(np.zeros(width, np.float32))
        return g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-12)

    def dense(x, n_in, n_out):
        product = g.op("MatMul", x, g.normal((n_in, n_out), n_in**-0.5))
        return g.op("Add", product, g.normal((n_out,), 0.02))

    def split(x, order):
        return g.op("Transpose", g.op("Reshape", x, g.constant([0, 0, heads, width // heads])), perm=order)

    def attention(x, bias):
        query, key, value = (dense(x, width, width) for _ in range(3))
        scores = g.op("MatMul", split(query, [0, 2, 1, 3]), split(key, [0, 2, 3, 1]))
        scaled = g.op("Div", scores, g.constant((width // heads) ** 0.5, np.float32))
        mixed = g.op("MatMul", g.op("Softmax", g.op("Add", scaled, bias), axis=-1), split(value, [0, 2, 1, 3]))
        joined = g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), g.constant([0, 0, width]))
        return dense(joined, width, width)

    def gelu(x):
        erf = g.op("Erf", g.op("Div", x, g.constant(2**0.5, np.float32)))
        return g.op("Mul", g.op("Mul", x, g.op("Add", erf, g.constant(1, np.float32))), g.constant(0.5, np.float32))

    length = g.op("Slice", g.op("Shape", "input_ids"), g.constant([1]), g.constant([2]))
    places = g.op("Slice", g.normal((positions, width), 0.02), g.constant([0]), length, g.constant([0]))
    words = g.op("Gather", g.normal((vocabulary, width), 0.02), "input_ids")
    x = norm(g.op("Add", words, places))
    mask = g.op("Cast", "attention_mask", to=FLOAT)
    hidden = g.op("Sub", g.constant(1, np.float32), g.op("Unsqueeze", mask, g.constant([1, 2])))
    bias = g.op("Mul", hidden, g.constant(-10_000, np.float32))
    for _ in range(layers):
        x = norm(g.op("Add", x, attention(x, bias)))
        x = norm(g.op("Add", x, dense(gelu(dense(x, width, inner)), inner, width)))
    weights = g.op("Unsqueeze", mask, g.constant([2]))
    total = g.op("ReduceSum", g.op("Mul", x, weights), g.constant([1]), keepdims=0)
    count = g.op("Max", g.op("ReduceSum", mask, g.constant([1]), keepdims=1), g.constant([1e-9], np.float32))
    g.op("Div", total, count, output="embedding")

    tokens = (INT64, ["batch", "length"])
    inputs = {"input_ids": tokens, "attention_mask": tokens}
    file = g.write(folder, inputs, {"embedding": (FLOAT, ["batch", width])})
    ids = (np.arange(128).reshape(2, 64) * 37 % vocabulary).astype(np.int64)
    answer = run(file, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    shorter = run(file, {"input_ids": ids, "attention_mask": (ids % 2).astype(np.int64)})
    if np.allclose(answer, shorter):
        raise SystemExit(f"{file}: the mask changes nothing")
    return file


def resnet50(folder):
    g = Graph(seed=50)

    def conv(x, n_in, n_out, size, stride=1, gain=1.0):
        # He's initialisation keeps the activations' scale from layer to layer.
        kernel = g.normal((n_out, n_in, size, size), gain * (2 / (n_in * size * size)) ** 0.5)
        bias = g.normal((n_out,), 0.02)
        pads = [size // 2] * 4
        return g.op("Conv", x, kernel, bias, kernel_shape=[size, size], strides=[stride, stride], pads=pads)

    def bottleneck(x, n_in, n_mid, stride):
        n_out = 4 * n_mid
        y = g.op("Relu", conv(x, n_in, n_mid, 1))
        y = g.op("Relu", conv(y, n_mid, n_mid, 3, stride))  # version 1.5: the 3x3 convolution strides
        y = conv(y, n_mid, n_out, 1, gain=0.3)
        same = n_in == n_out and stride == 1
        short = x if same else conv(x, n_in, n_out, 1, stride, gain=0.7)
        return g.op("Relu", g.op("Add", y, short)), n_out

    x = g.op("Relu", conv("image", 3, 64, 7, 2))
    x = g.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, blocks in enumerate([3, 4, 6, 3]):
        for block in range(blocks):
            x, channels = bottleneck(x, channels, 64 << stage, 2 if stage > 0 and block == 0 else 1)
    flat = g.op("Flatten", g.op("GlobalAveragePool", x), axis=1)
    g.op("Gemm", flat, g.normal((channels, 1000), channels**-0.5), g.normal((1000,), 0.02), output="logits")

    file = g.write(folder, {"image": (FLOAT, ["batch", 3, 224, 224])}, {"logits": (FLOAT, ["batch", 1000])})
    images = np.random.default_rng(1).standard_normal((2, 3, 224, 224), dtype=np.float32)
    answer = run(file, {"image": images})
    if np.allclose(answer[0], answer[1]):
        raise SystemExit(f"{file}: two images get the same answer")
    return file


def head(folder):
    n_in, n_out = 384, 3
    g = Graph(seed=3)
    product = g.op("MatMul", "embedding", g.normal((n_in, n_out), n_in**-0.5))
    g.op("Softmax", g.op("Add", product, g.normal((n_out,), 0.02)), output="scores", axis=-1)
    file = g.write(folder, {"embedding": (FLOAT, ["batch", n_in])}, {"scores": (FLOAT, ["batch", n_out])})
    run(file, {"embedding": np.ones((2, n_in), np.float32)})
    return file


def pass_on(folder):
    g = Graph(seed=0)
    g.op("Identity", "x", output="y")
    row = (FLOAT, ["batch", 4])
    file = g.write(folder, {"x": row}, {"y": row})
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    if not np.array_equal(run(file, {"x": x}), x):
        raise SystemExit(f"{file}: it does not answer what it is sent")
    return file


def many(folder, count):
    n_in, n_mid, n_out = 1024, 2048, 512
    x = np.random.default_rng(0).standard_normal((1, n_in), dtype=np.float32).round(4)
    answers, size = {}, 0
    for idx in range(count):
        g = Graph(seed=1000 + idx)
        weight = g.random.standard_normal
        first = weight((n_in, n_mid), dtype=np.float32) * np.float32((2 / n_in) ** 0.5)
        second = weight((n_mid, n_out), dtype=np.float32) * np.float32((1 / n_mid) ** 0.5)
        bias = weight((n_out,), dtype=np.float32)
        middle = g.op("Relu", g.op("MatMul", "x", g.weight(first)))
        g.op("Add", g.op("MatMul", middle, g.weight(second)), g.weight(bias), output="y")
        name = f"many-{idx:03}"
        file = g.write(folder / name, {"x": (FLOAT, ["batch", n_in])}, {"y": (FLOAT, ["batch", n_out])})
        expected = np.maximum(x @ first, 0) @ second + bias
        if not np.allclose(run(file, {"x": x}), expected, atol=TOLERANCE):
            raise SystemExit(f"{file}: ONNX Runtime and NumPy disagree")
        answers[name] = [round(float(value), 5) for value in expected[0]]
        size += file.stat().st_size
    # Beside the folder, which holds nothing but models. Written last: where it is, all models are.
    text = json.dumps({"tolerance": TOLERANCE, "x": x[0].tolist(), "y": answers})
    folder.with_suffix(".json").write_text(text)
    return size


def run(file, inputs):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, inputs)
    if not np.isfinite(output).all():
        raise SystemExit(f"{file}: the output is not finite")
    return output


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"any of {', '.join(KINDS)}; default: all")
    parser.add_argument("--out", type=Path, default=ROOT / "target/bench-models", help="default: target/bench-models")
    parser.add_argument("--count", type=int, default=300, help="models of `many`; default: 300")
    options = parser.parse_args()
    for unknown in set(options.kinds) - set(KINDS):
        parser.error(f"unknown kind '{unknown}'; there are {', '.join(KINDS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for kind in options.kinds or KINDS:
        if kind == "many":
            size = many(options.out / "many", options.count)
            print(f"{options.out / 'many'}: {options.count} models, {size / 1e6:.0f} MB", flush=True)
        else:
            file = {"transformer": transformer, "resnet50": resnet50, "head": head, "pass": pass_on}[kind](options.out / kind)
            print(f"{file}: {file.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
