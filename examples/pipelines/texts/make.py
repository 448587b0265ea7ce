#!/usr/bin/env python3
"""Trains a classifier of sentences with plain numpy, and writes its tokenizer, encoder and head.

`python make.py FOLDER`. The encoder is the mean of word vectors, and one layer behind it. Of the sentences
in sentences.tsv the last quarter of each topic is held back: words, weights and settings come from the rest.
"""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import graphs
from adam import Adam

HERE = Path(__file__).resolve().parent
TOPICS = ["weather", "cooking", "football", "railway"]
TRAINED, WIDTH, STEPS, RATE, DECAY, DROPPED = 30, 16, 300, 0.02, 1e-3, 0.3
PAD, UNKNOWN = 0, 1


def sentences() -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """What is learned from, and what is held back."""
    with (HERE / "sentences.tsv").open(newline="") as file:
        rows = [(row["sentence"], TOPICS.index(row["topic"])) for row in csv.DictReader(file, delimiter="\t")]
    by_topic = [[row for row in rows if row[1] == topic] for topic in range(len(TOPICS))]
    return sum((of[:TRAINED] for of in by_topic), []), sum((of[TRAINED:] for of in by_topic), [])


def words(text: str) -> list[str]:
    """As the tokenizer splits: small letters, and runs of letters or of signs."""
    return re.findall(r"\w+|[^\w\s]+", text.lower())


def tokenizer(vocabulary: dict[str, int]) -> dict:
    """The file that Hugging Face's tokenizers read."""
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": id_, "content": word, **special} for word, id_ in vocabulary.items() if id_ <= UNKNOWN],
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }


def bags(rows: list[tuple[str, int]], vocabulary: dict[str, int]) -> np.ndarray:
    """How often each word stands in each sentence."""
    counts = np.zeros((len(rows), len(vocabulary)))
    for row, (text, _) in enumerate(rows):
        for word in words(text):
            counts[row, vocabulary.get(word, UNKNOWN)] += 1
    return counts


def forward(weights: dict[str, np.ndarray], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    means = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mean = means @ weights["vectors"]
    embedding = np.tanh(mean @ weights["layer"] + weights["layer_bias"])
    return means, mean, embedding


def train(counts: np.ndarray, topics: np.ndarray) -> dict[str, np.ndarray]:
    """Adam on the cross entropy; words are left out by chance, so that none is relied on."""
    random = np.random.default_rng(7)
    weights = {
        "vectors": random.normal(size=(counts.shape[1], WIDTH)),
        "layer": random.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH), "layer_bias": np.zeros(WIDTH),
        "head": random.normal(size=(WIDTH, len(TOPICS))) / np.sqrt(WIDTH), "head_bias": np.zeros(len(TOPICS)),
    }
    adam = Adam(weights, RATE, DECAY)
    wanted = np.eye(len(TOPICS))[topics]
    for _ in range(STEPS):
        adam.step(gradient(weights, counts * (random.random(counts.shape) > DROPPED), wanted))
    return weights


def gradient(weights: dict[str, np.ndarray], counts: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    means, mean, embedding = forward(weights, counts)
    scores = embedding @ weights["head"] + weights["head_bias"]
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    at_scores = (chances / chances.sum(axis=1, keepdims=True) - wanted) / len(wanted)
    at_layer = at_scores @ weights["head"].T * (1 - embedding**2)
    return {
        "vectors": means.T @ (at_layer @ weights["layer"].T),
        "layer": mean.T @ at_layer, "layer_bias": at_layer.sum(axis=0),
        "head": embedding.T @ at_scores, "head_bias": at_scores.sum(axis=0),
    }


def write_models(folder: Path, weights: dict[str, np.ndarray]) -> None:
    small = {name: value.astype(np.float32) for name, value in weights.items()}
    graphs.write(
        folder / "encoder" / "model.onnx",
        [
            ("Gather", ["vectors", "input_ids"], ["all"]),
            ("Cast", ["attention_mask"], ["counts"], {"to": graphs.TYPES["float"]}),
            ("Unsqueeze", ["counts", "last"], ["weight"]),
            ("Mul", ["all", "weight"], ["words"]),
            ("ReduceSum", ["words", "tokens"], ["sum"], {"keepdims": 0}),
            ("ReduceSum", ["counts", "tokens"], ["count"], {"keepdims": 1}),
            ("Div", ["sum", "count"], ["mean"]),
            ("Gemm", ["mean", "layer", "layer_bias"], ["shifted"]),
            ("Tanh", ["shifted"], ["embedding"]),
        ],
        [(name, "int64", ["texts", "tokens"]) for name in ("input_ids", "attention_mask")],
        [("embedding", "float", ["texts", WIDTH])],
        {**{name: small[name] for name in ("vectors", "layer", "layer_bias")}, "last": np.array([2]), "tokens": np.array([1])},
    )
    graphs.write(
        folder / "head" / "model.onnx",
        [
            ("Gemm", ["embedding", "head", "head_bias"], ["shifted"]),
            ("Softmax", ["shifted"], ["scores"], {"axis": 1}),
            ("ReduceMax", ["scores", "classes"], ["score"], {"keepdims": 1}),
            ("ArgMax", ["scores"], ["best"], {"axis": 1, "keepdims": 1}),
            ("Gather", ["names", "best"], ["topic"]),
        ],
        [("embedding", "float", ["texts", WIDTH])],
        [("topic", "string", ["texts", 1]), ("score", "float", ["texts", 1])],
        {**{name: small[name] for name in ("head", "head_bias")}, "classes": np.array([1]), "names": np.array(TOPICS, object)},
    )


def main() -> None:
    folder = Path(sys.argv[1])
    trained, held_back = sentences()
    known = sorted({word for text, _ in trained for word in words(text)})
    vocabulary = {"[PAD]": PAD, "[UNK]": UNKNOWN, **{word: place for place, word in enumerate(known, start=2)}}
    weights = train(bags(trained, vocabulary), np.array([topic for _, topic in trained]))
    write_models(folder, weights)
    (folder / "tokens" / "tokenizer.json").write_text(json.dumps(tokenizer(vocabulary), indent=1))
    scores = forward(weights, bags(held_back, vocabulary))[2] @ weights["head"] + weights["head_bias"]
    right = int((scores.argmax(axis=1) == [topic for _, topic in held_back]).sum())
    print(f"{len(vocabulary)} words from {len(trained)} sentences; of {len(held_back)} held back, {right} are right")


if __name__ == "__main__":
    main()
