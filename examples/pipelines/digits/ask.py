#!/usr/bin/env python3
"""Asks what digits there are in pictures: shows one, then counts over many."""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
import canvases
from client import predict

AT_ONCE = 20  # pictures in one request


def pictures(lines: list) -> list:
    """Grey pixels, as red, green and blue."""
    return [[[value] * 3 for value in line] for line in lines]


def draw(lines: list) -> None:
    """Two lines of pixels in each line of text."""
    for upper, lower in zip(lines[::2], lines[1::2], strict=True):
        print("".join(" ▀▄█"[(one > 100) + 2 * (other > 100)] for one, other in zip(upper, lower, strict=True)).rstrip())


def found(answer: dict) -> "list[tuple[int, int, str, float]]":
    """Left, top, digit and how sure the detector is: of what is a digit."""
    all_boxes = zip(answer["box"], answer["digit"], answer["detection"], strict=True)
    return sorted((int(box[0]), int(box[1]), digit, sure) for box, digit, sure in all_boxes if digit != "none")


def count(asked: list, answers: "list[dict]") -> None:
    n_digits = n_found = n_read = n_none = 0
    for (_, placed), answer in zip(asked, answers, strict=True):
        boxes = {(left, top): digit for left, top, digit, _ in found(answer)}
        hits = [(boxes[left, top], str(digit)) for left, top, digit in placed if (left, top) in boxes]
        n_digits += len(placed)
        n_found += len(hits)
        n_read += sum(read == digit for read, digit in hits)
        n_none += len(boxes) - len(hits)
    print(f"{len(asked)} pictures, {n_digits} digits: {n_found / n_digits:.3f} found in their place, "
          f"{n_read / n_digits:.3f} found and read; {n_none} found where none is")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=100)
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    asked = canvases.some(canvases.written()[1], options.count, canvases.SEED_OF_ASKING)
    answers: list = []
    for at in range(0, len(asked), AT_ONCE):
        body = {"image": [pictures(lines) for lines, _ in asked[at : at + AT_ONCE]]}
        answers += predict(options.server, "page", body)
    (lines, _), answer = max(zip(asked, answers, strict=True), key=lambda one: len(one[0][1]))
    draw(lines)
    for left, top, digit, sure in found(answer):
        print(f"{digit} at {left}, {top} ({sure:.2f})")
    print(f"the other {answer['digit'].count('none')} of {len(answer['digit'])} places: none")
    count(asked, answers)


if __name__ == "__main__":
    main()
