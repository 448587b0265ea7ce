#!/usr/bin/env python3
"""Asks what sentences are about: some of its own, then those that the model was not trained on."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from client import predict

HERE = Path(__file__).resolve().parent
HELD_BACK = 10  # the last of each topic: make.py
TEXTS = [
    "Will there be snow tonight?", "Fry the onions in olive oil.", "She scored in the last minute!",
    "Is this seat in the first carriage free?", "The rain stopped before the match.",
]


def held_back() -> "list[tuple[str, str]]":
    """Topics and sentences."""
    rows = [line.split("\t") for line in (HERE / "sentences.tsv").read_text().splitlines()[1:]]
    of = {topic: [sentence for other, sentence in rows if other == topic] for topic, _ in rows}
    return [(topic, sentence) for topic, sentences in of.items() for sentence in sentences[-HELD_BACK:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("texts", nargs="*", default=TEXTS)
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    for text, answer in zip(options.texts, predict(options.server, "texts", {"text": options.texts}), strict=True):
        print(f"{answer['score']:6.3f}  {answer['topic']:9} {text}")
    topics, sentences = zip(*held_back(), strict=True)
    found = [answer["topic"] for answer in predict(options.server, "texts", {"text": sentences})]
    right = sum(one == other for one, other in zip(found, topics, strict=True))
    print(f"of {len(topics)} sentences that were held back, {right} are right")


if __name__ == "__main__":
    main()
