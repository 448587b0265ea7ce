"""Texts of all kinds, small models of texts, and what they should answer by Python's own tools."""

import functools
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from harness import REPO, session
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SEED = 18
SPECIAL = [
    "", " ", "\n\t  ", "a", "I", ".", "?!?!", "Hello, world!", "HELLO WORLD", "don't can't won't it's",
    "👍", "👩‍👩‍👧‍👧 and 🏳️‍🌈", "🇩🇪🇫🇷", "😀" * 50, "naïve café Ångström", "e\u0301e\u0301 o\u0308", "\u0301\u0301",
    "Привет, мир! Как дела?", "Съешь же ещё этих мягких французских булок", "你好，世界", "我爱北京天安门" * 20,
    "日本語のテキストです。", "ひらがなカタカナ漢字", "안녕하세요 세계", "สวัสดีชาวโลก", "नमस्ते दुनिया", "مرحبا بالعالم",
    "שלום עולם", "Γειά σου Κόσμε", "x\u0000y", "\u0007\u001b[31mred\u001b[0m", "zero\u200bwidth\u200djoiner\ufeff",
    "tab\tnew\nline\r\nreturn\rend", "a\u00a0b\u2003c\u3000d", "[CLS] [SEP] [PAD] [MASK] [UNK]", "<s></s><mask><unk>",
    "x" * 99, "x" * 100, "x" * 101, "x" * 4096, "word " * 5000, "long, " * 20000, "слово " * 3000, "字" * 3000,
    "https://example.org/a/b?c=d&e=f#g", "user@example.org", "3.14159 1,000,000 0x1F 1e-10", "C++ C# F# .NET",
    "ﬁ ﬂ ² ³ ½ ™ ①", "ﷺ", "ｆｕｌｌ ｗｉｄｔｈ", "İstanbul ıI ß ẞ ǅ", "\U0001f468\U0001f3fd", "\ud7ff\ue000\ufffd",
    "a" + "\u0300" * 200, "-" * 300, "_" * 300, "7" * 300, " lead", "trail ", "a  b   c", "##ing ##s",
]  # fmt: skip
PIECES = [
    "the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs", "embedding", "unbelievable", "Tokenization",
    "antidisestablishmentarianism", ",", ".", "!", "-", "'s", " ", "  ", "\n", "é", "Ünïcödé", "мир", "данные", "数据",
    "模型", "モデル", "데이터", "🙂", "👍🏽", "2026", "3.5%", "foo_bar", "x=y", "\u0301", "\t", "ﬁ", "©", "…", "“quoted”",
]  # fmt: skip


@functools.cache
def all_texts(count: int = 200) -> list[str]:
    """The same texts every time: those above, then random ones of any length."""
    draw = random.Random(SEED)
    texts = list(SPECIAL)
    while len(texts) < count:
        pieces = draw.choices(PIECES, k=draw.choice([1, 3, 8, 20, 60, 200, 700]))
        texts.append(draw.choice([" ", "", " ", " "]).join(pieces))
    return texts


# Tokenizers


def word_piece() -> Tokenizer:
    """As BERT's, uncased."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=800, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(PIECES * 3, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def byte_pairs() -> Tokenizer:
    """As RoBERTa's: byte pairs with their spaces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=special, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator([" ".join(PIECES)] * 3, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def unigram() -> Tokenizer:
    """As XLM-R's: pieces of text with their spaces as a sign, nothing around them."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=250, special_tokens=["<unk>", "<pad>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(PIECES)] * 3, trainer)
    return tokenizer


TOKENIZERS = {"word_piece": word_piece, "byte_pairs": byte_pairs, "unigram": unigram}


# Models


def ids(*names: str, tokens: object = "tokens") -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", tokens]) for name in names]


def floats(name: str, *shape: object) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def model(nodes: list, inputs: list, outputs: list, **constants: np.ndarray) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "texts", inputs, outputs, initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def echo(length: int) -> onnx.ModelProto:
    """Gives back what it takes: the numbers of tokens, the mask, the types, one behind the other."""
    names = ["input_ids", "attention_mask", "token_type_ids"]
    nodes = [
        helper.make_node("Concat", names, ["all"], axis=1),
        helper.make_node("Cast", ["all"], ["sentence_embedding"], to=TensorProto.FLOAT),
    ]
    return model(nodes, ids(*names, tokens=length), [floats("sentence_embedding", "texts", 3 * length)])


def table(vocabulary: int, classes: int) -> np.ndarray:
    return np.random.default_rng(SEED).normal(scale=3, size=(vocabulary, classes)).astype(np.float32)


def of_tokens(weights: np.ndarray, output: str = "logits") -> onnx.ModelProto:
    """Scores of each token by its number alone; the mask is taken and not looked at."""
    nodes = [
        helper.make_node("Gather", ["weights", "input_ids"], ["found"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["mask"]),
        helper.make_node("Cast", ["mask"], ["factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["found", "factor"], [output]),
    ]
    outputs = [floats(output, "texts", "tokens", weights.shape[1])]
    return model(nodes, ids("input_ids", "attention_mask"), outputs, weights=weights, last=np.array([2], np.int64))


def of_texts(weights: np.ndarray) -> onnx.ModelProto:
    """Scores of each text: the sum of those of its tokens."""
    made = of_tokens(weights, "by_token")
    graph = made.graph
    graph.node.append(helper.make_node("ReduceSum", ["by_token", "middle"], ["logits"], keepdims=0))
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "middle"))
    del graph.output[:]
    graph.output.append(floats("logits", "texts", weights.shape[1]))
    onnx.checker.check_model(made, full_check=True)
    return made


def folder(path: Path, tokenizer: Tokenizer, made: onnx.ModelProto, settings: str) -> Path:
    """A model's folder as people lay it out."""
    path.mkdir(parents=True)
    tokenizer.save(str(path / "tokenizer.json"))
    onnx.save(made, path / "model.onnx")
    (path / "model.toml").write_text(settings)
    return path


def minilm() -> Path:
    """The real sentence encoder; fetched and made once."""
    path = REPO / "target" / "models" / "minilm"
    if not (path / "model.onnx").exists():
        script = REPO / "examples" / "text" / "encoder.py"
        subprocess.run([sys.executable, script, "--out", path], check=True, timeout=600)
    return path


# What they should answer


def encode(path: Path, texts: list[str], limit: int | None) -> list:
    """What `tokenizers` makes of texts, without padding."""
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if limit is not None:
        tokenizer.enable_truncation(limit)
    return [tokenizer.encode(text) for text in texts]


def run(path: Path, encoding) -> np.ndarray:
    """The first output of a model for one text alone."""
    opened = session(path / "model.onnx")
    values = {
        "input_ids": encoding.ids,
        "attention_mask": encoding.attention_mask,
        "token_type_ids": encoding.type_ids,
    }
    feeds = {i.name: np.array([values[i.name]], np.int64) for i in opened.get_inputs()}
    return opened.run(None, feeds)[0][0]


def embed(path: Path, texts: list[str], limit: int | None) -> np.ndarray:
    """Means of the vectors of tokens, of length one."""
    means = np.array([run(path, encoding).mean(0) for encoding in encode(path, texts, limit)])
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def simple_entities(text: str, encoding, logits: np.ndarray, labels: list[str]) -> list[dict]:
    """As Hugging Face's TokenClassificationPipeline with aggregation_strategy="simple"."""

    def tag(label: str) -> tuple[str, str]:
        return (label[0], label[2:]) if label[:2] in ("B-", "I-") else ("I", label)

    scores = softmax(logits.astype(np.float64))
    groups: list[list[tuple[str, float, int, int]]] = []
    for row, special, (start, end) in zip(scores, encoding.special_tokens_mask, encoding.offsets, strict=True):
        if special:
            continue
        entity = (labels[row.argmax()], float(row.max()), start, end)
        (mark, name), last = tag(entity[0]), groups[-1][-1] if groups else None
        if last and tag(last[0])[1] == name and mark != "B":
            groups[-1].append(entity)
        else:
            groups.append([entity])
    found = [
        {
            "entity": group[0][0].split("-", 1)[-1],
            "score": float(np.mean([score for _, score, _, _ in group])),
            "start": group[0][2],
            "end": group[-1][3],
            "text": text[group[0][2] : group[-1][3]],
        }
        for group in groups
    ]
    return [entity for entity in found if entity["entity"] != "O"]


def request(**inputs: list) -> dict:
    """A request of the v2 protocol; an input is a list of texts, or of lists of them."""
    tensors = []
    for name, rows in inputs.items():
        shape = [len(rows)] if not rows or isinstance(rows[0], str) else [len(rows), len(rows[0])]
        data = rows if len(shape) == 1 else [value for row in rows for value in row]
        tensors.append({"name": name, "datatype": "BYTES", "shape": shape, "data": data})
    return {"inputs": tensors}


def outputs(answer) -> dict[str, np.ndarray]:
    assert answer.status_code == 200, answer.text[:2000]
    return {o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in json.loads(answer.content)["outputs"]}
