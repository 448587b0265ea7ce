"""The plain way for people: POST /models/NAME/predict, and what describes a model."""

import csv
import io
import json

import numpy as np
import pytest
from harness import DEMO, ort

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3], [5.9, 3.0, 4.2, 1.5]]
LABELS = ["setosa", "virginica", "versicolor"]
PREDICT = "/models/{}/predict"


def flowers(rows=ROWS):
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def leaves(value):
    """Every text and number of a JSON value, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for part in value for leaf in leaves(part)]
    return [value]


def labels(answer, known=("setosa", "versicolor", "virginica")):
    """The labels of an answer that stand as values (not as names of scores)."""
    assert answer.status_code == 200, answer.text
    return [leaf for leaf in leaves(answer.json()) if leaf in known]


def contains(answer, expected) -> bool:
    """Each expected number stands somewhere in the answer."""
    assert answer.status_code == 200, answer.text
    numbers = [n for n in leaves(answer.json()) if isinstance(n, (int, float)) and not isinstance(n, bool)]
    return all(any(np.isclose(n, e, rtol=1e-4, atol=1e-6) for n in numbers) for e in expected)


def digits(count=3):
    with open(DEMO / "digits" / "held_out.csv", newline="") as file:
        rows = [[int(v) for v in row] for row in list(csv.reader(file))[1 : count + 1]]
    images = np.array([row[:64] for row in rows], np.float32).reshape(-1, 1, 8, 8)
    return images, [row[64] for row in rows]


def test_a_row_object_gets_a_label(demo):
    answer = demo.post(PREDICT.format("iris"), flowers()[0])
    assert labels(answer) == ["setosa"]


def test_a_list_of_rows_gets_a_label_each_in_order(demo):
    answer = demo.post(PREDICT.format("iris"), flowers())
    assert labels(answer) == LABELS
    expected = ort(DEMO / "iris" / "model.onnx", X=np.array(ROWS, np.float32))["probabilities"]
    assert contains(answer, expected.max(axis=1))


def test_a_version_may_be_named(demo):
    answer = demo.post("/models/iris/versions/1/predict", flowers())
    assert labels(answer) == LABELS
    assert answer.headers["x-salver-model-version"] == "1"
    assert demo.post("/models/iris/versions/2/predict", flowers()).status_code == 404


def test_all_held_out_flowers_reach_the_accuracy_that_model_toml_states(demo):
    with open(DEMO / "iris" / "held_out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    truth = [row.pop("species") for row in rows]
    answer = demo.post(PREDICT.format("iris"), [{k: float(v) for k, v in row.items()} for row in rows])
    right = sum(a == b for a, b in zip(labels(answer), truth, strict=True))
    assert f"accuracy = {right / len(truth):.4f}" in (DEMO / "iris" / "model.toml").read_text()


def test_nested_lists_feed_a_tensor_model(demo):
    images, _ = digits()
    answer = demo.post(PREDICT.format("digits"), images.tolist())
    expected = ort(DEMO / "digits" / "model.onnx", image=images)["probabilities"]
    assert contains(answer, expected.max(axis=1))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", "<i8", "|u1"])
def test_an_npy_body_feeds_a_tensor_model(demo, order, dtype):
    images, truth = digits()
    array = np.array(images, dtype=dtype, order=order)
    buffer = io.BytesIO()
    np.save(buffer, array)
    answer = demo.post(
        PREDICT.format("digits"), data=buffer.getvalue(),
        headers={"Content-Type": "application/x-npy"},
    )
    expected = ort(DEMO / "digits" / "model.onnx", image=images)["probabilities"]
    assert expected.argmax(axis=1).tolist() == truth
    assert contains(answer, expected.max(axis=1))


@pytest.mark.parametrize(
    "body, texts",
    [
        ({}, []), (5, []), ("x", []), (None, []),
        ({k: v for k, v in flowers()[0].items() if k != "petal_width"}, ["petal_width"]),
        ({**flowers()[0], "petal_width": "wide"}, ["petal_width"]),
        ({**flowers()[0], "petal_width": True}, ["petal_width"]),
        ([flowers()[0], 5], []),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_name(demo, body, texts):
    answer = demo.post(PREDICT.format("iris"), data=json.dumps(body).encode(),
                       headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    for text in texts:
        assert text in json.dumps(answer.json()["error"])


@pytest.mark.parametrize(
    "body", [[[[1, 2], [3]]], [], [[1, 2, 3]], {"unknown": [[1]]}, [[["a"] * 8] * 8]],
)
def test_tensors_that_do_not_fit_are_refused(demo, body):
    answer = demo.post(PREDICT.format("digits"), body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    "body",
    [
        b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{}", b"\x93NUMPY\x09\x00\x02\x00{}",
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 8, 8), }\n", b"\0" * 255),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (16, 1152921504606846978), }\n", b"\0" * 128),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1, 8, 8), }\n", b"\x80\x04N."),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 64), }\n", b"\0" * 256),
        npy("__import__('os').system('true')\n"),
        npy("{'descr': '<f4'" + "(" * 30000),
    ],
    ids=["cut", "length past end", "unknown version", "data too short", "overflow", "pickled objects",
         "negative", "code", "nesting"],
)
def test_npy_bodies_that_lie_are_refused(demo, body):
    answer = demo.post(PREDICT.format("digits"), data=body, headers={"Content-Type": "application/x-npy"})
    assert answer.status_code == 400, answer.text


def test_an_unknown_model_is_not_found_and_get_is_the_wrong_method(demo):
    answer = demo.post(PREDICT.format("nobody"), flowers())
    assert answer.status_code == 404
    assert "nobody" in answer.text
    assert demo.get(PREDICT.format("iris")).status_code == 405


def test_a_model_describes_itself(demo):
    answer = demo.get("/models/iris")
    assert answer.status_code == 200
    for column in COLUMNS:
        assert column in answer.text
    assert demo.get("/models/nobody").status_code == 404


def test_text_in_and_text_out(demo):
    answer = demo.post(PREDICT.format("strings"), ["cat", "stone"])
    assert answer.status_code == 200, answer.text
    assert [leaf for leaf in leaves(answer.json()) if leaf in ("feline", "unknown")] == ["feline", "unknown"]
