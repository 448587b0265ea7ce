#!/usr/bin/env python3
"""Train the digits demo model, a small CNN, with numpy and write it as ONNX.

Plain numpy (im2col, Adam) keeps the needs of this script small: no deep-learning
framework has to be installed to make the model again. Writes model.onnx,
model.toml, held_out.csv and the figures in README.md beside this file, and
prints the held-out accuracy.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from readme import write_figures

SEED = 7
EPOCHS = 40
BATCH = 32
LEARNING_RATE = 2e-3
CHANNELS = (8, 16)


def im2col(x: np.ndarray) -> np.ndarray:
    """[n,c,h,w] to [n*h*w, c*9]: the 3x3 neighbourhood of every pixel, zero-padded."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, c * 9)


def col2im(columns: np.ndarray, shape: tuple[int, int, int, int]) -> np.ndarray:
    """The transpose of im2col: adds every neighbourhood back to its pixels."""
    n, c, h, w = shape
    windows = columns.reshape(n, h, w, c, 3, 3).transpose(0, 3, 1, 2, 4, 5)
    padded = np.zeros((n, c, h + 2, w + 2), columns.dtype)
    for row in range(3):
        for column in range(3):
            padded[:, :, row : row + h, column : column + w] += windows[..., row, column]
    return padded[:, :, 1:-1, 1:-1]


class Net:
    """conv 3x3 - relu - conv 3x3 - relu - maxpool 2x2 - linear - softmax."""

    def __init__(self, rng: np.random.Generator):
        first, second = CHANNELS

        def init(shape: tuple[int, ...], fan_in: int) -> np.ndarray:
            return (rng.standard_normal(shape) * np.sqrt(2.0 / fan_in)).astype(np.float32)

        self.p = {
            "conv1_w": init((first, 1, 3, 3), 9),
            "conv1_b": np.zeros(first, np.float32),
            "conv2_w": init((second, first, 3, 3), first * 9),
            "conv2_b": np.zeros(second, np.float32),
            "fc_w": init((second * 16, 10), second * 16),
            "fc_b": np.zeros(10, np.float32),
        }

    def conv(self, x: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        weight, bias = self.p[name + "_w"], self.p[name + "_b"]
        columns = im2col(x)
        out = columns @ weight.reshape(len(weight), -1).T + bias
        n, _, h, w = x.shape
        return out.reshape(n, h, w, -1).transpose(0, 3, 1, 2), columns

    def forward(self, pixels: np.ndarray) -> tuple[np.ndarray, tuple]:
        x = pixels / np.float32(16)
        z1, c1 = self.conv(x, "conv1")
        a1 = np.maximum(z1, 0)
        z2, c2 = self.conv(a1, "conv2")
        a2 = np.maximum(z2, 0)
        n, channels, h, w = a2.shape
        cells = a2.reshape(n, channels, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5)
        cells = cells.reshape(n, channels, h // 2, w // 2, 4)
        winner = cells.argmax(axis=-1)
        pooled = np.take_along_axis(cells, winner[..., None], -1)[..., 0].reshape(n, -1)
        logits = pooled @ self.p["fc_w"] + self.p["fc_b"]
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        return probabilities, (a1, c1, a2, c2, winner, pooled, z1, z2)

    def gradients(self, pixels: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        probabilities, (a1, c1, a2, c2, winner, pooled, z1, z2) = self.forward(pixels)
        n, channels, h, w = a2.shape
        grad = {}
        d = probabilities.copy()
        d[np.arange(n), labels] -= 1
        d /= n
        grad["fc_w"], grad["fc_b"] = pooled.T @ d, d.sum(axis=0)
        d = (d @ self.p["fc_w"].T).reshape(n, channels, h // 2, w // 2)
        cells = np.zeros((*d.shape, 4), np.float32)
        np.put_along_axis(cells, winner[..., None], d[..., None], -1)
        d = cells.reshape(n, channels, h // 2, w // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5)
        d = d.reshape(a2.shape) * (z2 > 0)
        flat = d.transpose(0, 2, 3, 1).reshape(-1, channels)
        grad["conv2_w"] = (flat.T @ c2).reshape(self.p["conv2_w"].shape)
        grad["conv2_b"] = flat.sum(axis=0)
        d = col2im(flat @ self.p["conv2_w"].reshape(channels, -1), a1.shape) * (z1 > 0)
        flat = d.transpose(0, 2, 3, 1).reshape(-1, a1.shape[1])
        grad["conv1_w"] = (flat.T @ c1).reshape(self.p["conv1_w"].shape)
        grad["conv1_b"] = flat.sum(axis=0)
        return grad


def shifted_by_one(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every picture moved by at most one pixel each way, empty pixels behind it."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.empty_like(images)
    for i, (dy, dx) in enumerate(rng.integers(0, 3, size=(len(images), 2))):
        out[i] = padded[i, :, dy : dy + 8, dx : dx + 8]
    return out


def train(x: np.ndarray, y: np.ndarray) -> Net:
    rng = np.random.default_rng(SEED)
    net = Net(rng)
    mean = {k: np.zeros_like(v) for k, v in net.p.items()}
    square = {k: np.zeros_like(v) for k, v in net.p.items()}
    step, steps = 0, EPOCHS * -(-len(x) // BATCH)
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            take = order[start : start + BATCH]
            # Half of the pictures are moved, so that the net has to find the digit.
            images = x[take].copy()
            moved = rng.random(len(take)) < 0.5
            images[moved] = shifted_by_one(images[moved], rng)
            step += 1
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            for name, g in net.gradients(images, y[take]).items():
                mean[name] = 0.9 * mean[name] + 0.1 * g
                square[name] = 0.999 * square[name] + 0.001 * g * g
                m = mean[name] / (1 - 0.9**step)
                s = square[name] / (1 - 0.999**step)
                net.p[name] -= (rate * m / (np.sqrt(s) + 1e-8)).astype(np.float32)
    return net


def to_onnx(net: Net) -> onnx.ModelProto:
    constants = {"full_scale": np.array([16], np.float32), **net.p}
    constants["rows"] = np.array([-1, CHANNELS[1] * 16], np.int64)
    pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Div", ["image", "full_scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "conv1_w", "conv1_b"], ["z1"], **pads),
        helper.make_node("Relu", ["z1"], ["a1"]),
        helper.make_node("Conv", ["a1", "conv2_w", "conv2_b"], ["z2"], **pads),
        helper.make_node("Relu", ["z2"], ["a2"]),
        helper.make_node("MaxPool", ["a2"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["pool", "rows"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc_w", "fc_b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "examples/demo/digits/train.py"
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    data = load_digits()
    images = data.images.astype(np.float32)[:, None]
    x_train, x_test, y_train, y_test = train_test_split(
        images, data.target, test_size=0.25, stratify=data.target, random_state=SEED
    )
    net = train(x_train, y_train)
    expected, _ = net.forward(x_test)

    (HERE / "model.onnx").write_bytes(to_onnx(net).SerializeToString(deterministic=True))

    # The written file, not the Python object, is what gets measured.
    session = onnxruntime.InferenceSession(
        str(HERE / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    got = session.run(["probabilities"], {"image": x_test})[0]
    worst = float(np.abs(got - expected).max())
    if worst > 1e-4:
        sys.exit(f"the ONNX file differs from the trained net by {worst}")
    right = int((got.argmax(axis=1) == y_test).sum())
    accuracy = right / len(y_test)

    with open(HERE / "held_out.csv", "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([*(f"p{i}" for i in range(64)), "digit"])
        for image, digit in zip(x_test, y_test, strict=True):
            out.writerow([*image.reshape(-1).astype(int), int(digit)])

    labels = ", ".join(f'"{digit}"' for digit in range(10))
    (HERE / "model.toml").write_text(
        f"""# Written by train.py.
name     = "digits"
version  = 1
artifact = "model.onnx"
task     = "tensor"
labels   = [{labels}]

# Share of the {len(y_test)} held-out pictures (held_out.csv) that the model gets right.
[metrics]
accuracy = {accuracy:.4f}
"""
    )
    parameters = sum(value.size for value in net.p.values())
    write_figures(
        HERE / "README.md",
        [
            f"- training pictures: {len(y_train)}; held-out pictures: {len(y_test)} (`held_out.csv`)",
            f"- held-out accuracy: **{accuracy:.4f}** ({right} of {len(y_test)})",
            f"- parameters: {parameters:,}",
            f"- size of `model.onnx`: {(HERE / 'model.onnx').stat().st_size:,} bytes",
        ],
    )
    print(f"held-out accuracy {accuracy:.4f} ({right} of {len(y_test)}), "
          f"largest difference from the trained net {worst:.1e}")


if __name__ == "__main__":
    main()
