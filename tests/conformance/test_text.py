"""Models of texts: tokens as of Python's `tokenizers`, answers as of ONNX Runtime and numpy."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import texts
from harness import Server
from tokenizers import Tokenizer

LENGTH = 128
LIMIT = 48
CLASSES = ["calm", "angry", "glad"]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]
NEWS = ["The striker scored twice in the final.", "Parliament passed the budget.", "Rain all week, says the forecast."]
TOPICS = ["sports", "politics", "weather", "спорт"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """By name: for each tokenizer a model that echoes, and one for each task."""
    base = tmp_path_factory.mktemp("texts")
    made = {}
    for name, make in texts.TOKENIZERS.items():
        tokenizer = make()
        made[name] = texts.folder(base / name, tokenizer, texts.echo(LENGTH), 'task = "text-embedding"\n')
    tokenizer = texts.word_piece()
    size = tokenizer.get_vocab_size()
    limit = f"\n[text]\nmax_length = {LIMIT}\n"
    for name, task, model, labels in [
        ("classes", "text-classification", texts.of_texts(texts.table(size, 3) / 10), CLASSES),
        ("tags", "token-classification", texts.of_tokens(texts.table(size, 6)), TAGS),
    ]:
        settings = f'task = "{task}"\nlabels = {json.dumps(labels)}\n{limit}'
        made[name] = texts.folder(base / name, tokenizer, model, settings)
    return made


@pytest.fixture(scope="module")
def server(start, models) -> Server:
    return start(*models.values())


@pytest.fixture(scope="module")
def encoder(start) -> Server:
    return start(texts.minilm())


def ask(server: Server, model: str, **inputs: list) -> dict[str, np.ndarray]:
    return texts.outputs(server.post(f"/v2/models/{model}/infer", texts.request(**inputs)))


@pytest.mark.parametrize("name", texts.TOKENIZERS)
def test_tokens_are_those_of_the_python_library(server, models, name):
    given = texts.all_texts()
    assert len(given) == 200
    expected = texts.encode(models[name], given, LENGTH)
    whole = texts.encode(models[name], given, None)
    got = ask(server, name, text=given)
    pad = Tokenizer.from_file(str(models[name] / "tokenizer.json"))
    pad = next(i for i in map(pad.token_to_id, ("[PAD]", "<pad>")) if i is not None)
    for text, row, encoding, all_, tokens, cut in zip(
        given, got["embedding"], expected, whole, got["tokens"], got["truncated"], strict=True
    ):
        ids, mask, types = row.astype(int).reshape(3, LENGTH).tolist()
        count = len(encoding.ids)
        label = repr(text[:60])
        # What nobody says anything about: a text of no token at all is one of padding.
        seen = max(count, 1)
        assert ids == encoding.ids + [pad] * (LENGTH - count), label
        assert mask == [1] * seen + [0] * (LENGTH - seen), label
        assert types[:count] == encoding.type_ids, label
        assert (tokens, cut) == (count, len(all_.ids) > LENGTH), label


def test_vectors_of_the_real_encoder(encoder):
    given = texts.all_texts()
    expected = texts.embed(texts.minilm(), given, 256)
    # Uneven pieces at the same time, so that requests share batches.
    pieces = [given[start : start + size] for start, size in cuts(len(given))]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda piece: ask(encoder, "minilm", text=piece), pieces))
    vectors = np.concatenate([part["embedding"] for part in got])
    np.testing.assert_allclose(vectors, expected, atol=1e-4, rtol=0)
    counts = [len(encoding.ids) for encoding in texts.encode(texts.minilm(), given, 256)]
    assert np.concatenate([part["tokens"] for part in got]).tolist() == counts


def cuts(rows: int):
    """Pieces of 1, 2, 3, ... rows."""
    start, size = 0, 1
    while start < rows:
        yield start, size
        start, size = start + size, size + 1


def test_what_means_the_same_is_near(encoder):
    given = ["That is a happy person", "That is a very happy person", "Today is a sunny day"]
    vectors = ask(encoder, "minilm", text=given)["embedding"]
    assert vectors[0] @ vectors[1] == pytest.approx(0.9429, abs=1e-3)
    assert vectors[0] @ vectors[2] == pytest.approx(0.2569, abs=1e-3)


def test_labels_of_texts(server, models):
    given = texts.all_texts()
    expected = np.array([texts.run(models["classes"], e) for e in texts.encode(models["classes"], given, LIMIT)])
    scores = texts.softmax(expected)
    got = ask(server, "classes", text=given)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_allclose(got["score"], np.take_along_axis(scores, order, 1), atol=1e-4)
    clear = np.diff(np.take_along_axis(-scores, order, 1), axis=1).min(axis=1) > 1e-4
    assert clear.sum() > 150
    assert (got["label"][clear] == np.array(CLASSES)[order][clear]).all()


def test_entities_are_those_of_hugging_face(server, models):
    given = texts.all_texts()
    got = ask(server, "tags", text=given)["entities"]
    total = 0
    for text, encoding, found in zip(given, texts.encode(models["tags"], given, LIMIT), got, strict=True):
        expected = texts.simple_entities(text, encoding, texts.run(models["tags"], encoding), TAGS)
        found = json.loads(found)
        total += len(found)
        places = [(e["entity"], e["start"], e["end"], e["text"]) for e in found]
        assert places == [(e["entity"], e["start"], e["end"], e["text"]) for e in expected], repr(text[:60])
        np.testing.assert_allclose([e["score"] for e in found], [e["score"] for e in expected], atol=1e-5)
    assert total > 1000


def test_any_labels(start, tmp_path):
    path = texts.minilm()
    shown = tmp_path / "topics"
    shown.mkdir()
    for name in ("model.onnx", "tokenizer.json"):
        shutil.copy(path / name, shown)
    settings = ['task = "zero-shot"', f"labels = {json.dumps(TOPICS[:2])}", "[text]", "max_length = 256"]
    settings += ['template = "This text is about {}."', "scale = 20.0"]
    (shown / "model.toml").write_text("\n".join(settings))
    server = start(shown)
    news = texts.embed(path, NEWS, 256)

    def check(got, labels):
        topics = texts.embed(path, [f"This text is about {label}." for label in labels], 256)
        scores = texts.softmax(20 * news @ topics.T)
        order = np.argsort(-scores, axis=1)
        assert got["label"].tolist() == np.array(labels)[order].tolist()
        np.testing.assert_allclose(got["score"], np.take_along_axis(scores, order, 1), atol=1e-3)

    for labels in (TOPICS, TOPICS[::-1], TOPICS[1:]):
        check(ask(server, "topics", text=NEWS, labels=[labels] * len(NEWS)), labels)
    check(ask(server, "topics", text=NEWS), TOPICS[:2])


def test_a_request_at_fault_says_where(server):
    url = "/v2/models/classes/infer"
    for bad, status, message in [
        ("x" * 4097, 413, "row 1, 'text': the word at character 0 has more than 4096 characters"),
        ("y " * (1 << 19) + "z", 413, "row 1, 'text': the text has 1048577 bytes, at most 1048576 are allowed"),
    ]:
        answer = server.post(url, texts.request(text=["good", bad]))
        assert (answer.status_code, message in answer.text) == (status, True), answer.text[:500]
    head = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 7}}]}
    body = json.dumps(head).encode()
    answer = server.post(
        url, data=body + b"\x03\0\0\0a\xffb", headers={"Inference-Header-Content-Length": str(len(body))}
    )
    assert (answer.status_code, "row 0, 'text': the text is not UTF-8 at byte 1" in answer.text) == (400, True)


@pytest.mark.announced_errors("not_a_fit")
def test_a_tokenizer_that_does_not_fit_is_found_at_load(start, tmp_path):
    tokenizer = texts.word_piece()
    small = texts.of_texts(texts.table(tokenizer.get_vocab_size() // 2, 3))
    path = texts.folder(tmp_path / "not_a_fit", tokenizer, small, 'task = "text-classification"\n')
    server = start(path, ready=False)

    server.until(lambda: index(server), "listed with its reason")
    (reason,) = index(server)
    assert reason.startswith("the task does not fit the model: its example does not run"), reason


def index(server: Server) -> list[str]:
    """Why models do not serve."""
    return [model["reason"] for model in server.post("/v2/repository/index", {}).json() if model.get("reason")]
