#!/usr/bin/env python3
"""Trains a detector of digits with plain numpy, and writes the graphs around the classifier.

`python make.py FOLDER`. The detector is two convolutions: what a small net, trained on windows of 10x10
pixels, says of every place of a picture; then local maxima, and the best eight of them.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
import canvases
import graphs
from adam import Adam
from canvases import HEIGHT, SIDE, WIDTH

BORDER, FILTERS, EPOCHS, BATCH, RATE, DECAY, PICTURES = 1, 48, 16, 512, 0.003, 1e-4, 800
WINDOW, BEST, SURE = SIDE + 2 * BORDER, 8, 0.5
CLASSIFIER = HERE.parents[1] / "demo" / "digits"


def windows(lines: list) -> np.ndarray:
    """Every window of a picture: [top, left, WINDOW * WINDOW]."""
    padded = np.pad(np.asarray(lines, np.float32) / 255, BORDER)
    return np.lib.stride_tricks.sliding_window_view(padded, (WINDOW, WINDOW)).reshape(HEIGHT - SIDE + 1, WIDTH - SIDE + 1, -1)


def examples() -> tuple[np.ndarray, np.ndarray]:
    """Windows, and whether there is a digit exactly in their middle. Few of those that are empty."""
    random = np.random.default_rng(3)
    rows, truths = [], []
    for lines, placed in canvases.some(canvases.written()[0], PICTURES, canvases.SEED_OF_TRAINING):
        seen = windows(lines)
        truth = np.zeros(seen.shape[:2], bool)
        for left, top, _ in placed:
            truth[top, left] = True
        chosen = truth | ((seen.max(axis=2) > 0) & (random.random(truth.shape) < 0.15)) | (random.random(truth.shape) < 0.01)
        rows.append(seen[chosen])
        truths.append(truth[chosen])
    return np.concatenate(rows), np.concatenate(truths).astype(np.float32)


def train(rows: np.ndarray, truths: np.ndarray) -> dict[str, np.ndarray]:
    """Adam on the cross entropy; the few windows that hold a digit count ten times."""
    random = np.random.default_rng(7)
    weights = {
        "filters": random.normal(size=(rows.shape[1], FILTERS)) / WINDOW, "filters_bias": np.zeros(FILTERS),
        "sum": random.normal(size=FILTERS) / np.sqrt(FILTERS), "sum_bias": np.zeros(1),
    }
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    adam = Adam(weights, RATE, DECAY)
    for _ in range(EPOCHS):
        order = random.permutation(len(rows))
        for at in range(0, len(rows), BATCH):
            some = order[at : at + BATCH]
            adam.step(gradient(weights, rows[some], truths[some]))
    return weights


def gradient(weights: dict[str, np.ndarray], rows: np.ndarray, truths: np.ndarray) -> dict[str, np.ndarray]:
    hidden = np.maximum(rows @ weights["filters"] + weights["filters_bias"], 0)
    chances = 1 / (1 + np.exp(-np.clip(hidden @ weights["sum"] + weights["sum_bias"], -30, 30)))
    at_sum = (chances - truths) * (1 + 9 * truths) / len(truths)
    at_filters = np.outer(at_sum, weights["sum"]) * (hidden > 0)
    return {
        "filters": rows.T @ at_filters, "filters_bias": at_filters.sum(axis=0),
        "sum": hidden.T @ at_sum, "sum_bias": at_sum.sum(keepdims=True),
    }


def write_detector(folder: Path, weights: dict[str, np.ndarray]) -> None:
    """Chances at every place → those that are the highest around → the best → boxes; empty where it is not sure."""
    filters = weights["filters"].T.reshape(FILTERS, 1, WINDOW, WINDOW)
    around = {"kernel_shape": [SIDE + 1] * 2, "pads": [SIDE // 2] * 4}
    graphs.write(
        folder / "detector" / "model.onnx",
        [
            ("Slice", ["image", "first", "second", "channels"], ["red"]),
            ("Cast", ["red"], ["pixels"], {"to": graphs.TYPES["float"]}),
            ("Transpose", ["pixels"], ["plane"], {"perm": [0, 3, 1, 2]}),
            ("Div", ["plane", "full"], ["ink"]),
            ("Conv", ["ink", "filters", "filters_bias"], ["seen"], {"pads": [BORDER] * 4}),
            ("Relu", ["seen"], ["hidden"]),
            ("Conv", ["hidden", "sum", "sum_bias"], ["summed"]),
            ("Sigmoid", ["summed"], ["chances"]),
            ("MaxPool", ["chances"], ["highest"], around),
            ("Equal", ["chances", "highest"], ["is_highest"]),
            ("Where", ["is_highest", "chances", "nothing"], ["peaks"]),
            ("Reshape", ["peaks", "flat"], ["row"]),
            ("TopK", ["row", "best"], ["detection", "place"], {"axis": 1}),
            ("Mod", ["place", "columns"], ["left"]),
            ("Div", ["place", "columns"], ["top"]),
            ("Add", ["left", "side"], ["right"]),
            ("Add", ["top", "side"], ["bottom"]),
            *(("Unsqueeze", [edge, "last"], [f"{edge}_column"]) for edge in ("left", "top", "right", "bottom")),
            ("Concat", [f"{edge}_column" for edge in ("left", "top", "right", "bottom")], ["edges"], {"axis": 2}),
            ("Cast", ["edges"], ["all_boxes"], {"to": graphs.TYPES["float"]}),
            ("GreaterOrEqual", ["detection", "sure"], ["is_sure"]),
            ("Unsqueeze", ["is_sure", "last"], ["is_box"]),
            ("Where", ["is_box", "all_boxes", "nothing"], ["boxes"]),
        ],
        [("image", "uint8", ["pictures", HEIGHT, WIDTH, 3])],
        [("boxes", "float", ["pictures", BEST, 4]), ("detection", "float", ["pictures", BEST])],
        {
            "first": np.array([0]), "second": np.array([1]), "channels": np.array([3]), "full": np.float32(255),
            "filters": filters, "filters_bias": weights["filters_bias"],
            "sum": weights["sum"].reshape(1, FILTERS, 1, 1), "sum_bias": weights["sum_bias"], "nothing": np.float32(0),
            "flat": np.array([0, -1]), "best": np.array([BEST]), "columns": np.array(WIDTH - SIDE + 1),
            "side": np.array(SIDE), "last": np.array([2]), "sure": np.float32(SURE),
        },
    )


def write_small_steps(folder: Path) -> None:
    graphs.write(
        folder / "grey" / "model.onnx",
        [("ReduceMean", ["colour", "channels"], ["image"], {"keepdims": 1})],
        [("colour", "float", ["crops", 3, SIDE, SIDE])],
        [("image", "float", ["crops", 1, SIDE, SIDE])],
        {"channels": np.array([1])},
    )
    graphs.write(
        folder / "answer" / "model.onnx",
        [
            ("GreaterOrEqual", ["detection", "sure"], ["is_sure"]),
            ("Squeeze", ["label", "last"], ["digits"]),
            ("Where", ["is_sure", "digits", "none"], ["digit"]),
        ],
        [("detection", "float", ["pictures", BEST]), ("label", "string", ["pictures", BEST, 1])],
        [("digit", "string", ["pictures", BEST])],
        {"sure": np.float32(SURE), "last": np.array([2]), "none": np.array("none", object)},
    )


def main() -> None:
    folder = Path(sys.argv[1])
    rows, truths = examples()
    weights = train(rows, truths)
    write_detector(folder, weights)
    write_small_steps(folder)
    (folder / "digits").mkdir()
    for file in ("model.onnx", "model.toml"):
        shutil.copy(CLASSIFIER / file, folder / "digits")
    print(f"a detector from {len(rows):,} windows, {int(truths.sum()):,} of them with a digit")


if __name__ == "__main__":
    main()
