"""Pictures with handwritten digits somewhere on them, put together from those of examples/demo/digits."""

import csv
import random
from pathlib import Path

HELD_OUT = Path(__file__).resolve().parents[2] / "demo" / "digits" / "held_out.csv"
HEIGHT, WIDTH, SIDE, MOST, GAP = 40, 72, 8, 6, 2
SEED_OF_TRAINING, SEED_OF_ASKING = 1, 5


def written() -> "tuple[list[tuple[list, int]], list[tuple[list, int]]]":
    """Two halves of what the classifier never saw: to train the detector with, and to ask for.

    Each is 8 lines of 8 pixels, from 0 to 16, and the digit.
    """
    with HELD_OUT.open(newline="") as file:
        rows = [[int(value) for value in row] for row in list(csv.reader(file))[1:]]
    digits = [([row[top : top + SIDE] for top in range(0, SIDE * SIDE, SIDE)], row[-1]) for row in rows]
    return digits[::2], digits[1::2]


def canvas(digits: "list[tuple[list, int]]", chance: random.Random) -> "tuple[list, list]":
    """Lines of pixels from 0 to 255, and the digits: left, top, and which. They do not touch each other."""
    lines = [[0] * WIDTH for _ in range(HEIGHT)]
    placed: list = []
    for _ in range(chance.randint(1, MOST)):
        left, top = chance.randrange(WIDTH - SIDE + 1), chance.randrange(HEIGHT - SIDE + 1)
        if any(max(abs(left - x), abs(top - y)) < SIDE + GAP for x, y, _ in placed):
            continue
        picture, digit = chance.choice(digits)
        for y, line in enumerate(picture):
            lines[top + y][left : left + SIDE] = [round(value * 255 / 16) for value in line]
        placed.append((left, top, digit))
    return lines, placed


def some(digits: "list[tuple[list, int]]", count: int, seed: int) -> "list[tuple[list, list]]":
    chance = random.Random(seed)
    return [canvas(digits, chance) for _ in range(count)]
