#!/usr/bin/env python3
"""Train the iris demo model and write it as ONNX in standard operators.

Writes model.onnx, model.toml, held_out.csv and the figures in README.md beside
this file, and prints the held-out accuracy. Same input, same output: the split
and the solver have no free randomness.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from readme import write_figures

SEED = 7
COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


def to_onnx(scaler: StandardScaler, classifier: LogisticRegression) -> onnx.ModelProto:
    """(X - mean) / scale, a linear layer and a softmax: the whole pipeline."""
    constants = {
        "mean": scaler.mean_.astype(np.float32),
        "scale": scaler.scale_.astype(np.float32),
        "weight": np.ascontiguousarray(classifier.coef_.T).astype(np.float32),
        "bias": classifier.intercept_.astype(np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["X", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "iris",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "examples/demo/iris/train.py"
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    data = load_iris()
    species = [str(name) for name in data.target_names]
    x_train, x_test, y_train, y_test = train_test_split(
        data.data, data.target, test_size=0.3, stratify=data.target, random_state=SEED
    )
    scaler = StandardScaler().fit(x_train)
    classifier = LogisticRegression(max_iter=1000).fit(scaler.transform(x_train), y_train)
    expected = classifier.predict_proba(scaler.transform(x_test))

    model = to_onnx(scaler, classifier)
    (HERE / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))

    # The written file, not the Python object, is what gets measured.
    session = onnxruntime.InferenceSession(
        str(HERE / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    got = session.run(["probabilities"], {"X": x_test.astype(np.float32)})[0]
    worst = float(np.abs(got - expected).max())
    if worst > 1e-5:
        sys.exit(f"the ONNX file differs from scikit-learn by {worst}")
    right = int((got.argmax(axis=1) == y_test).sum())
    accuracy = right / len(y_test)

    with open(HERE / "held_out.csv", "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([*COLUMNS, "species"])
        for row, label in zip(x_test, y_test, strict=True):
            out.writerow([*(f"{value:g}" for value in row), species[label]])

    labels = ", ".join(f'"{name}"' for name in species)
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    (HERE / "model.toml").write_text(
        f"""# Written by train.py.
name     = "iris"
version  = 1
artifact = "model.onnx"
task     = "tabular"
labels   = [{labels}]

[[input]]
name    = "X"
columns = [{columns}]

# Share of the {len(y_test)} held-out rows (held_out.csv) that the model gets right.
[metrics]
accuracy = {accuracy:.4f}
"""
    )
    write_figures(
        HERE / "README.md",
        [
            f"- training rows: {len(y_train)}; held-out rows: {len(y_test)} (`held_out.csv`)",
            f"- held-out accuracy: **{accuracy:.4f}** ({right} of {len(y_test)})",
            f"- size of `model.onnx`: {(HERE / 'model.onnx').stat().st_size:,} bytes",
        ],
    )
    print(f"held-out accuracy {accuracy:.4f} ({right} of {len(y_test)}), "
          f"largest difference from scikit-learn {worst:.1e}")


if __name__ == "__main__":
    main()
