"""Puts measured figures between the two marks of a README."""

from pathlib import Path

BEGIN = "<!-- figures: written by train.py -->"
END = "<!-- end of figures -->"


def write_figures(path: Path, lines: list[str]) -> None:
    text = path.read_text()
    head, rest = text.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    path.write_text(head + BEGIN + "\n" + "\n".join(lines) + "\n" + END + tail)
