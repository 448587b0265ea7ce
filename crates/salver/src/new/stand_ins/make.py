#!/usr/bin/env python3
"""Write the models that `salver new` starts with: a few kilobytes that answer something sensible.

They are in the binary, so that a new folder serves at once; people put their own model in their
place. Running this twice writes the same bytes. Needs `onnx` and `numpy` (tests/models/requirements.txt).
"""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
OPSET, IR = 17, 8
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64

# Words of the text models. Each column is one thing a word may be about.
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
PRAISE = ["good", "great", "love", "like", "nice", "fine", "happy", "best", "works", "fast"]
BLAME = ["bad", "poor", "hate", "sad", "slow", "worst", "broken", "late", "ugly", "lost"]
SPORTS = ["sports", "goal", "match", "team", "won", "coach", "league", "ball"]
MUSIC = ["music", "song", "band", "album", "concert", "guitar", "melody", "choir"]
PEOPLE = {"ada": "B-PER", "grace": "B-PER", "alan": "B-PER", "lovelace": "I-PER", "hopper": "I-PER", "turing": "I-PER"}
PLACES = {"london": "B-LOC", "paris": "B-LOC", "berlin": "B-LOC", "york": "I-LOC", "new": "B-LOC"}
OTHER = ["the", "a", "is", "was", "in", "and", "not", "it", "this", "text", "about", "very", "for", "of", ".", ",", "!"]
WORDS = SPECIAL + PRAISE + BLAME + SPORTS + MUSIC + list(PEOPLE) + list(PLACES) + OTHER
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, **attributes)


def f32(values) -> np.ndarray:
    return np.array(values, np.float32)


def write_model(task, nodes, inputs, outputs, constants) -> None:
    """inputs and outputs: name -> (ONNX type, shape); constants: name -> array."""
    graph = helper.make_graph(
        nodes,
        task,
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    model.producer_name = "salver new"
    onnx.checker.check_model(model, full_check=True)
    (HERE / f"{task}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def about(groups) -> np.ndarray:
    """One row for each word, one column for each group: 1 where the word is in it."""
    return f32([[float(word in group) for group in groups] for word in WORDS])


TOKENS = {"input_ids": (INT64, ["batch", "sequence"]), "attention_mask": (INT64, ["batch", "sequence"])}
# The rows of the words, zero where there is padding.
LOOK_UP = [
    node("Gather", ["words", "input_ids"], ["looked_up"]),
    node("Cast", ["attention_mask"], ["mask"], to=FLOAT),
    node("Unsqueeze", ["mask", "last"], ["column"]),
]
LAST = {"last": np.array([-1], np.int64)}


def tensor() -> None:
    write_model(
        "tensor",
        [node("MatMul", ["x", "weights"], ["product"]), node("Add", ["product", "bias"], ["y"])],
        {"x": (FLOAT, ["batch", 2])},
        {"y": (FLOAT, ["batch", 1])},
        {"weights": f32([[2], [3]]), "bias": f32([1])},
    )


def tabular() -> None:
    # age, visits, newsletter, and basic, plus, pro: whether a customer stays or leaves.
    weights = f32([[0.01, -0.01], [0.2, -0.2], [0.5, -0.5], [-0.6, 0.6], [0.3, -0.3], [0.8, -0.8]])
    write_model(
        "tabular",
        [
            node("MatMul", ["X", "weights"], ["product"]),
            node("Add", ["product", "bias"], ["logits"]),
            node("Softmax", ["logits"], ["probabilities"], axis=-1),
        ],
        {"X": (FLOAT, ["batch", 6])},
        {"probabilities": (FLOAT, ["batch", 2])},
        {"weights": weights, "bias": f32([-0.9, 0.9])},
    )


def text_classification() -> None:
    write_model(
        "text-classification",
        LOOK_UP
        + [
            node("Mul", ["looked_up", "column"], ["counted"]),
            node("ReduceSum", ["counted", "second"], ["logits"], keepdims=0),
        ],
        TOKENS,
        {"logits": (FLOAT, ["batch", 2])},
        {"words": about([BLAME, PRAISE]) * 2, "second": np.array([1], np.int64), **LAST},
    )


def embedding(task) -> None:
    # A little of everything in every word, so that no text has the length zero.
    words = about([SPORTS, MUSIC, PRAISE, BLAME]) + f32(0.05)
    write_model(
        task,
        LOOK_UP + [node("Mul", ["looked_up", "column"], ["last_hidden_state"])],
        TOKENS,
        {"last_hidden_state": (FLOAT, ["batch", "sequence", 4])},
        {"words": words, **LAST},
    )


def token_classification() -> None:
    tags = {**PEOPLE, **PLACES}
    words = f32([[4.0 * float(tags.get(word, "O") == tag) for tag in TAGS] for word in WORDS])
    write_model(
        "token-classification",
        LOOK_UP + [node("Mul", ["looked_up", "column"], ["logits"])],
        TOKENS,
        {"logits": (FLOAT, ["batch", "sequence", len(TAGS)])},
        {"words": words, **LAST},
    )


def image_classification() -> None:
    # The colour that there is most of.
    write_model(
        "image-classification",
        [
            node("ReduceMean", ["pixel_values"], ["means"], axes=[2, 3], keepdims=0),
            node("Mul", ["means", "scale"], ["logits"]),
        ],
        {"pixel_values": (FLOAT, ["batch", 3, 32, 32])},
        {"logits": (FLOAT, ["batch", 3])},
        {"scale": f32([5])},
    )


def tokenizer() -> None:
    special = [
        {
            "id": WORDS.index(word),
            "content": word,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for word in SPECIAL
    ]
    cls, text, sep = (
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    )
    ids = {word: {"id": word, "ids": [WORDS.index(word)], "tokens": [word]} for word in ("[CLS]", "[SEP]")}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, text, sep],
            "pair": [cls, text, sep, {"Sequence": {"id": "B", "type_id": 1}}, sep],
            "special_tokens": ids,
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(WORDS)},
            "unk_token": "[UNK]",
        },
    }
    (HERE / "tokenizer.json").write_text(json.dumps(content, indent=1) + "\n")


def picture() -> None:
    """A reddish square of 48x48 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([200, 60, 40] * 48) for _ in range(48))
    header = struct.pack(">IIBBBBB", 48, 48, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    (HERE / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


if __name__ == "__main__":
    assert len(WORDS) == len(set(WORDS))
    tensor()
    tabular()
    text_classification()
    embedding("text-embedding")
    embedding("zero-shot")
    token_classification()
    image_classification()
    tokenizer()
    picture()
