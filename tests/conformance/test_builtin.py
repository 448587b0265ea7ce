"""Built-in functions through unmodified clients: alone, together with others, and with what cannot be."""

import io
import json
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import texts
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from harness import BINARY, PATIENCE_S
from PIL import Image
from tokenizers import Tokenizer
from tritonclient.utils import InferenceServerException

SEED = 31
LENGTH = 24
LABELS = ["cat", "dog", "owl", "eel"]
STEPS = {
    "tokens": f'[builtin]\nfunction = "tokenize"\nmax_length = {LENGTH}\ntoken_type_ids = true\n',
    "longest": f'[builtin]\nfunction = "tokenize"\nmax_length = {LENGTH}\npad = "longest"\n',
    "strict": f'[builtin]\nfunction = "tokenize"\nmax_length = {LENGTH}\noverlong = "refuse"\n',
    "pixels": '[builtin]\nfunction = "image"\n',
    "resized": '[builtin]\nfunction = "image"\nsize = [20, 30]\n',
    "crops": '[builtin]\nfunction = "crop"\nsize = [12, 9]\nlayout = "nhwc"\n',
    "normalised": (
        '[builtin]\nfunction = "crop"\nsize = [12, 9]\nrelative = true\ndtype = "FP32"\nrescale = 0.5\n'
        "mean = [1, 2, 3]\nstd = [4, 5, 6]\n[batching]\nmax_rows = 8\n"
    ),
    "best": '[builtin]\nfunction = "top-k"\nk = 5\nids = "INT64"\n',
    "named": '[builtin]\nfunction = "top-k"\nk = 2\nids = "BYTES"\n',
    "labels": f'labels = {json.dumps(LABELS)}\n[builtin]\nfunction = "labels"\n',
    "each": f'labels = {json.dumps(LABELS)}\n[builtin]\nfunction = "labels"\nscores = "sigmoid"\nk = 4\n',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("builtin")
    for name, manifest in STEPS.items():
        (base / name).mkdir()
        (base / name / "model.toml").write_text(f'engine = "builtin"\n{manifest}')
        if "tokenize" in manifest:
            texts.word_piece().save(str(base / name / "tokenizer.json"))
    return base


@pytest.fixture(scope="module")
def server(start, folder):
    return start(folder)


@pytest.fixture(params=["http", "grpc"])
def client(request, server):
    module = {"http": http_client, "grpc": grpc_client}[request.param]
    address = server.http if module is http_client else server.grpc
    with module.InferenceServerClient(address) as connection:
        yield Client(module, connection)


class Client:
    """Arrays in, arrays out."""

    TYPES = {"f": "FP32", "l": "INT64", "B": "UINT8", "O": "BYTES"}

    def __init__(self, module, connection):
        self.module, self.connection = module, connection

    def ask(self, model, **arrays):
        inputs = []
        for name, array in arrays.items():
            array = np.asarray(array)
            given = self.module.InferInput(name, list(array.shape), self.TYPES[array.dtype.char])
            given.set_data_from_numpy(array)
            inputs.append(given)
        result = self.connection.infer(model, inputs)
        shown = result.get_response()
        outputs = shown["outputs"] if isinstance(shown, dict) else shown.outputs
        names = [output["name"] if isinstance(output, dict) else output.name for output in outputs]
        return {name: result.as_numpy(name) for name in names}


def words(*values):
    return np.array([value if isinstance(value, bytes) else value.encode() for value in values], object)


def floats(values):
    return np.array(values, np.float32)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def noise(rng, *shape):
    return rng.integers(0, 256, shape, np.uint8)


# Tokens


def test_tokens_are_those_of_the_python_library(folder, client):
    given = texts.all_texts()
    tokenizer = Tokenizer.from_file(str(folder / "tokens" / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH, pad_id=tokenizer.token_to_id("[PAD]"))
    got = client.ask("tokens", text=words(*given))
    expected = tokenizer.encode_batch(given)
    assert list(got) == ["input_ids", "attention_mask", "token_type_ids"]
    np.testing.assert_array_equal(got["input_ids"], [encoding.ids for encoding in expected])
    np.testing.assert_array_equal(got["attention_mask"], [encoding.attention_mask for encoding in expected])
    np.testing.assert_array_equal(got["token_type_ids"], [encoding.type_ids for encoding in expected])


def test_a_request_is_as_long_as_its_own_longest_text(folder, server):
    tokenizer = Tokenizer.from_file(str(folder / "longest" / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"))
    groups = [["fox"], ["the quick brown fox", "fox", ""], ["lazy dogs " * 40, "!"]]

    def check(group):
        got = client.ask("longest", text=words(*group))
        expected = tokenizer.encode_batch(group)
        np.testing.assert_array_equal(got["input_ids"], [encoding.ids for encoding in expected])
        np.testing.assert_array_equal(got["attention_mask"], [encoding.attention_mask for encoding in expected])

    # The client over HTTP is not made for several threads.
    with grpc_client.InferenceServerClient(server.grpc) as connection, ThreadPoolExecutor(8) as pool:
        client = Client(grpc_client, connection)
        list(pool.map(check, groups * 20))


# Pictures


def test_pixels_are_those_of_the_file(client):
    rng = np.random.default_rng(SEED)
    pictures = noise(rng, 2, 15, 22, 3)
    got = client.ask("pixels", image=words(*[png(picture) for picture in pictures]))
    np.testing.assert_array_equal(got["image"], pictures)
    shapes = [(15, 22), (40, 60), (20, 30)]
    pictures = [noise(rng, *shape, 3) for shape in shapes]
    got = client.ask("resized", image=words(*[png(picture) for picture in pictures]))
    assert got["image"].shape == (3, 20, 30, 3)
    expected = [np.asarray(Image.fromarray(picture).resize((30, 20), Image.BILINEAR)) for picture in pictures]
    assert np.abs(got["image"].astype(int) - np.stack(expected).astype(int)).max() <= 1


def pillow(channel, size, box):
    """Pillow's resampling in FP32, of one channel."""
    height, width = size
    return np.asarray(Image.fromarray(channel.astype(np.float32), "F").resize((width, height), Image.BILINEAR, box=box))


def test_crops_are_those_of_pillow(client):
    rng = np.random.default_rng(SEED)
    pictures = noise(rng, 2, 37, 53, 3)
    corners = np.sort(rng.uniform(0, 1, (2, 6, 2, 2)), axis=2)
    corners[..., 1, :] += 0.02
    boxes = (corners.clip(0, 1) * [53, 37]).reshape(2, 6, 4).astype(np.float32)
    boxes[0, 0] = [0, 0, 53, 37]
    got = client.ask("crops", image=pictures, boxes=boxes)["crops"]
    assert got.shape == (2, 6, 12, 9, 3)
    for row, idx, channel in np.ndindex(2, 6, 3):
        expected = pillow(pictures[row, ..., channel], (12, 9), tuple(map(float, boxes[row, idx])))
        np.testing.assert_allclose(got[row, idx, ..., channel], expected, atol=0.01)


def test_crops_are_clipped_and_normalised(client):
    rng = np.random.default_rng(SEED)
    picture = rng.normal(0, 50, (1, 12, 9, 3)).astype(np.float32)
    nan = float("nan")
    boxes = floats([[[0, 0, 1, 1], [-3, -1, 2, 9], [0.5, 0.5, 0.5, 1], [nan, 0, 1, 1], [1, 1, 2, 2]]])
    got = client.ask("normalised", image=picture, boxes=boxes)["crops"]
    assert got.shape == (1, 5, 3, 12, 9)
    whole = ((picture[0] * 0.5 - [1, 2, 3]) / [4, 5, 6]).transpose(2, 0, 1)
    np.testing.assert_allclose(got[0, 0], whole, atol=1e-4)
    np.testing.assert_array_equal(got[0, 1], got[0, 0])
    assert not got[0, 2:].any()


# Scores


def test_the_best_are_those_of_a_stable_sort(client):
    rng = np.random.default_rng(SEED)
    scores = rng.integers(-9, 9, (7, 40)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = float("nan")
    scores[0, :] = float("nan")
    ids = rng.integers(-(2**63), 2**63, scores.shape, np.int64)
    got = client.ask("best", scores=scores, ids=ids)
    places = np.argsort(-scores, axis=1, kind="stable")[:, :5]  # NaN comes last there too
    np.testing.assert_array_equal(got["top_indices"], places)
    np.testing.assert_array_equal(got["top_scores"], np.take_along_axis(scores, places, 1))
    np.testing.assert_array_equal(got["top_ids"], np.take_along_axis(ids, places, 1))


def test_labels_are_those_of_softmax(client):
    rng = np.random.default_rng(SEED)
    scores = rng.normal(0, 3, (9, 4)).astype(np.float32)
    powers = np.exp(scores.astype(np.float64))
    expected = powers / powers.sum(axis=1, keepdims=True)
    got = client.ask("labels", scores=scores)
    places = expected.argmax(axis=1)
    assert got["label"].tolist() == [[LABELS[place].encode()] for place in places]
    np.testing.assert_array_equal(got["index"], places[:, None])
    np.testing.assert_allclose(got["score"][:, 0], expected.max(axis=1), rtol=1e-5)
    got = client.ask("each", scores=scores)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.testing.assert_array_equal(got["index"], order)
    single = 1 / (1 + np.exp(-scores))
    np.testing.assert_allclose(got["score"], np.take_along_axis(single, order, 1), rtol=1e-5)


def test_requests_side_by_side_get_what_they_get_alone(server):
    """Batches are made of whatever is there; nobody sees that."""
    draw = random.Random(SEED)
    rng = np.random.default_rng(SEED)
    requests = []
    for _ in range(300):
        rows, width = draw.randint(1, 4), draw.choice([2, 3, 50])
        scores = rng.integers(0, 5, (rows, width)).astype(np.float32)
        names = np.array([[f"film {draw.randrange(99)}".encode() for _ in range(width)] for _ in range(rows)], object)
        requests.append(("named", {"scores": scores, "ids": names}))
        requests.append(("labels", {"scores": rng.normal(0, 1, (rows, 4)).astype(np.float32)}))
        requests.append(("tokens", {"text": words(*draw.sample(texts.all_texts()[:40], rows))}))
        requests.append(("resized", {"image": words(*[png(noise(rng, 5, 6, 3)) for _ in range(rows)])}))

    with grpc_client.InferenceServerClient(server.grpc) as connection:
        client = Client(grpc_client, connection)
        alone = [client.ask(model, **inputs) for model, inputs in requests]
        with ThreadPoolExecutor(24) as pool:
            together = list(pool.map(lambda request: client.ask(request[0], **request[1]), requests))
    for expected, got in zip(alone, together, strict=True):
        for name, values in expected.items():
            np.testing.assert_array_equal(got[name], values)


# What cannot be


@pytest.mark.parametrize(
    ("model", "inputs", "expected"),
    [
        ("best", {"scores": floats([[1, 2, 3]]), "ids": np.array([[1, 2, 3]])}, "has 3 values a row, but the model answers the best 5"),
        ("best", {"scores": floats([[1] * 6]), "ids": np.array([[1] * 5])}, "'ids' has 5 values a row, but input 'scores' has 6"),
        ("best", {"scores": floats([[1] * 6])}, "expected input 'ids'"),
        ("best", {"scores": floats([1, 2, 3]), "ids": np.array([[1, 2, 3]])}, "unexpected shape for input 'scores'"),
        ("labels", {"scores": floats([[1, 2, 3]])}, "unexpected shape for input 'scores'"),
        ("labels", {"scores": np.array([[1, 2, 3, 4]])}, "data-type is 'INT64'"),
        ("tokens", {"text": words(b"caf\xe9")}, "input 'text', row 0: the text is not UTF-8 at byte 3"),
        ("pixels", {"image": words(b"GIF89a")}, "input 'image', row 0: expected a picture as JPEG, PNG or WebP"),
        ("crops", {"image": np.zeros((1, 4, 4, 4), np.uint8), "boxes": floats([[[0, 0, 1, 1]]])}, "unexpected shape for input 'image'"),
        ("crops", {"image": np.zeros((2, 4, 4, 3), np.uint8), "boxes": floats([[[0, 0, 1, 1]]])}, "batch size"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_the_requests_fault(client, model, inputs, expected):
    with pytest.raises(InferenceServerException) as caught:
        client.ask(model, **inputs)
    assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    assert expected in caught.value.message()


def test_what_is_too_large_is_said_to_be(server):
    def send(model, **inputs):
        return server.post(f"/models/{model}/predict", inputs)

    answer = send("strict", text=["fox " * 30])
    assert answer.status_code == 413 and "more than 24 tokens" in answer.json()["error"]["message"], answer.text
    boxes = [[[0, 0, 1, 1]] * 500_000]
    answer = send("crops", image=[[[[1, 2, 3]]]], boxes=boxes)
    assert answer.status_code == 413 and "512 MiB" in answer.json()["error"]["message"], answer.text


def test_one_bad_request_harms_no_other(server):
    good = words("the quick brown fox")
    with grpc_client.InferenceServerClient(server.grpc) as connection:
        client = Client(grpc_client, connection)
        expected = client.ask("tokens", text=good)["input_ids"]

        def ask(idx):
            if idx % 3:
                return client.ask("tokens", text=good)["input_ids"]
            with pytest.raises(InferenceServerException, match="not UTF-8"):
                client.ask("tokens", text=words(b"\xff"))
            return expected

        with ThreadPoolExecutor(16) as pool:
            for got in pool.map(ask, range(300)):
                np.testing.assert_array_equal(got, expected)


def test_each_function_is_a_model_like_any_other(server):
    shown = server.get("/v2/models/best").json()
    assert (shown["platform"], shown["versions"]) == ("salver_builtin", ["1"])
    assert shown["inputs"] == [
        {"name": "scores", "datatype": "FP32", "shape": [-1, -1]},
        {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
    ]
    assert 'ml_inference_duration_seconds_count{model="best"' in server.get("/metrics").text
    assert not [record for record in server.records() if record.get("level") == "WARN"]


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ('[builtin]\nfunction = "crop"', "line 2: builtin.function: \"crop\" needs size = [height, width] beside it"),
        ('[builtin]\nfunction = "tokenize"', "builtin.tokenizer: "),
        ('[builtin]\nfunction = "image"\n[instances]\ndevice = "cuda:0"', "the engine 'builtin' runs on 'cpu' only"),
        ('[builtin]\nfunction = "top-k"\nk = 2\nsize = [1, 1]', "line 4: builtin.size: belongs to the function crop and image"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_its_line(tmp_path, manifest, expected):
    (tmp_path / "step").mkdir()
    (tmp_path / "step" / "model.toml").write_text(manifest)
    command = [BINARY, "check", tmp_path, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    (model,) = json.loads(done.stdout)
    assert done.returncode == 1 and model["state"] == "failed"
    assert expected in model["reason"]
