#!/usr/bin/env python3
"""Make picture files of held-out digits, and measure the digits model on them.

The model is that of ../digits, trained there by train.py. Writes model.onnx (a copy), model.toml,
one PNG for each digit and the figures in README.md beside this file, and prints the accuracy.
"""

import csv
import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

HERE = Path(__file__).resolve().parent
DIGITS = HERE.parent / "digits"
sys.path.insert(0, str(HERE.parent))
from readme import write_figures

SIDE = 64
FULL_INK = 16


def draw(pixels: np.ndarray) -> Image.Image:
    """8x8 pixels of ink as a larger picture: dark on white, smooth."""
    tones = 255 - np.round(pixels * (255 / FULL_INK)).astype(np.uint8)
    return Image.fromarray(tones).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def read(picture: Image.Image) -> np.ndarray:
    """A picture as the model takes it: what [image] in model.toml says."""
    tones = np.asarray(picture.convert("L").resize((8, 8), Image.Resampling.LANCZOS))
    return (255 - tones.astype(np.float32)) * np.float32(FULL_INK / 255)


def main() -> None:
    with open(DIGITS / "held_out.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    truths = np.array([int(row[-1]) for row in rows])
    pictures = [draw(np.array(row[:-1], np.float32).reshape(8, 8)) for row in rows]

    shutil.copyfile(DIGITS / "model.onnx", HERE / "model.onnx")
    session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])
    inputs = np.stack([read(picture) for picture in pictures])[:, None]
    answers = session.run(["probabilities"], {"image": inputs})[0].argmax(axis=1)
    right = int((answers == truths).sum())
    accuracy = right / len(truths)

    for digit in range(10):
        pictures[int(np.flatnonzero(truths == digit)[0])].save(HERE / f"{digit}.png", optimize=True)

    labels = ", ".join(f'"{digit}"' for digit in range(10))
    (HERE / "model.toml").write_text(
        f"""# Written by draw.py.
name     = "digit-pictures"
version  = 1
artifact = "model.onnx"
task     = "image-classification"
labels   = [{labels}]

# Dark strokes on white paper become ink from 0 to {FULL_INK} on 8x8 pixels.
[image]
resize  = [8, 8]
filter  = "lanczos"
colours = "grey"
invert  = true
rescale = {FULL_INK / 255}
scores  = "as-is"
top_k   = 3

# Share of the {len(truths)} held-out digits, enlarged to {SIDE}x{SIDE} pixels, that the model gets right.
[metrics]
accuracy = {accuracy:.4f}
"""
    )
    write_figures(
        HERE / "README.md",
        [
            f"- held-out accuracy on pictures of {SIDE}x{SIDE} pixels: **{accuracy:.4f}** "
            f"({right} of {len(truths)})",
            f"- the PNG files here: {sum(path.stat().st_size for path in HERE.glob('*.png')):,} bytes together",
        ],
    )
    print(f"held-out accuracy {accuracy:.4f} ({right} of {len(truths)})")


if __name__ == "__main__":
    main()
