"""MLflow's scoring protocol: /invocations in every form, and the routes around it."""

import json

import numpy as np
import pytest
from harness import DEMO, MODELS, ort

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3], [5.9, 3.0, 4.2, 1.5]]
LABELS = ["setosa", "virginica", "versicolor"]


@pytest.fixture(scope="module")
def half(start):
    """A model with one number for each row: half of x, plus three."""
    return start(MODELS / "tfserving" / "half_plus_two", "--default-model", "half_plus_two")


@pytest.fixture(scope="module")
def iris_ml(start):
    """A model without columns: one input takes the whole frame."""
    return start(MODELS / "sklearn" / "iris_ml.onnx", "--default-model", "iris_ml")


def invoke(server, body, content_type="application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = [("Content-Type", content_type)] if content_type is not None else []
    return server.request("POST", "/invocations", headers, data)


def predictions(answer):
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    return answer.json()["predictions"]


def probabilities(rows):
    return ort(DEMO / "iris" / "model.onnx", X=np.array(rows, np.float32))["probabilities"]


def assert_iris(answer, rows=ROWS):
    """One record for each row, with ONNX Runtime's probabilities and the right label."""
    got = predictions(answer)
    assert len(got) == len(rows)
    for record, expected, label in zip(got, probabilities(rows), LABELS, strict=True):
        assert close_to(record, expected), record
        texts = [value for value in record.values() if isinstance(value, str)]
        assert texts in ([], [label])


def close_to(record, expected) -> bool:
    """The probabilities are there, as a list or by label, whatever the output is called."""
    for value in record.values():
        numbers = list(value.values()) if isinstance(value, dict) else value
        if isinstance(numbers, list) and len(numbers) == len(expected) \
                and np.allclose(sorted(numbers), sorted(expected), rtol=1e-4, atol=1e-5):
            return True
        if isinstance(numbers, float) and np.isclose(numbers, max(expected), rtol=1e-4, atol=1e-5):
            return True
    return False


def records(rows=ROWS, columns=COLUMNS):
    return [dict(zip(columns, row, strict=True)) for row in rows]


CSV = ",".join(COLUMNS) + "\n" + "\n".join(",".join(str(v) for v in row) for row in ROWS) + "\n"

FORMS = {
    "split": {"dataframe_split": {"columns": COLUMNS, "data": ROWS}},
    "split with index": {"dataframe_split": {"columns": COLUMNS, "data": ROWS, "index": [7, 8, 9]}},
    "records": {"dataframe_records": records()},
    "instances of objects": {"instances": records()},
    "inputs by column": {"inputs": {c: [row[i] for row in ROWS] for i, c in enumerate(COLUMNS)}},
    "with params": {"dataframe_records": records(), "params": {"temperature": 0.5}},
    "other order": {
        "dataframe_split": {"columns": COLUMNS[::-1], "data": [row[::-1] for row in ROWS]}
    },
    "extra column": {
        "dataframe_split": {"columns": ["id", *COLUMNS], "data": [["x", *row] for row in ROWS]}
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_json_form_gives_the_predictions_of_onnx_runtime(demo, form):
    assert_iris(invoke(demo, FORMS[form]))


@pytest.mark.parametrize(
    "text",
    [CSV, CSV.replace("\n", "\r\n"), CSV.rstrip("\n"), CSV.replace("5.1", '"5.1"'),
     "id," + CSV.replace("\n", "\nx,", 3)],
    ids=["lf", "crlf", "no last newline", "quoted", "extra column"],
)
def test_csv_gives_the_predictions_of_onnx_runtime(demo, text):
    assert_iris(invoke(demo, text.encode(), "text/csv"))


def test_csv_columns_in_any_order(demo):
    lines = [line.split(",")[::-1] for line in CSV.strip().split("\n")]
    assert_iris(invoke(demo, "\n".join(",".join(line) for line in lines).encode(), "text/csv"))


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_lists_of_rows_feed_a_model_with_one_input(iris_ml, key):
    got = predictions(invoke(iris_ml, {key: ROWS}))
    expected = ort("sklearn/iris_ml.onnx", X=np.array(ROWS, np.float32))
    assert [record["label"] for record in got] == expected["label"].tolist()


def test_a_frame_feeds_a_single_input_as_a_whole(iris_ml):
    got = predictions(invoke(iris_ml, {"dataframe_split": {"columns": list("abcd"), "data": ROWS}}))
    expected = ort("sklearn/iris_ml.onnx", X=np.array(ROWS, np.float32))
    assert [record["label"] for record in got] == expected["label"].tolist()


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["x"], "data": [[24], [60.0]]}},
        {"dataframe_records": [{"x": 24}, {"x": 60}]},
        {"instances": [{"x": 24}, {"x": 60}]},
        {"inputs": {"x": [24, 60]}},
    ],
)
def test_a_named_number_for_each_row_comes_back_as_bare_values_in_records(half, body):
    assert predictions(invoke(half, body)) == [{"y": 15.0}, {"y": 33.0}]


def test_null_and_nan_become_nan(half):
    answer = invoke(half, b'{"dataframe_records": [{"x": null}, {"x": NaN}, {"x": 4}]}')
    got = [record["y"] for record in predictions(answer)]
    assert np.isnan(got[0]) and np.isnan(got[1]) and got[2] == 5.0


def test_no_rows_give_no_predictions(half):
    assert predictions(invoke(half, {"dataframe_split": {"columns": ["x"], "data": []}})) == []


@pytest.mark.parametrize(
    "body, texts",
    [
        (b"", []), (b"{", []), (b"[1, 2]", []), (b"5", []), ({}, []), ({"rows": []}, []),
        ({"instances": [1], "inputs": [1]}, []),
        ({"dataframe_split": {"columns": COLUMNS, "data": ROWS}, "dataframe_records": records()}, []),
        ({"dataframe_split": []}, []),
        ({"dataframe_split": {"columns": COLUMNS}}, []),
        ({"dataframe_split": {"columns": COLUMNS, "data": [[1, 2, 3, 4, 5]]}}, []),
        ({"dataframe_split": {"columns": COLUMNS, "data": [[1, 2, 3]]}}, []),
        ({"dataframe_split": {"columns": COLUMNS[:3], "data": [r[:3] for r in ROWS]}}, ["petal_width"]),
        ({"dataframe_records": {"a": 1}}, []),
        ({"dataframe_records": [{**records()[0], "petal_width": "wide"}]}, ["petal_width"]),
        ({"dataframe_records": records(), "params": []}, []),
    ],
)
def test_what_does_not_fit_is_refused_in_mlflows_shape(demo, body, texts):
    answer = invoke(demo, body)
    assert answer.status == 400, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    error = answer.json()
    assert error["error_code"] == "BAD_REQUEST"
    assert error["message"]
    assert "stack_trace" not in error
    for text in texts:
        assert text in error["message"]


@pytest.mark.parametrize(
    "text", ["", 'sepal_length\n"5.1\n', CSV.replace("petal_width", "width")],
    ids=["empty", "quote never closed", "missing column"],
)
def test_csv_that_does_not_fit_is_refused(demo, text):
    answer = invoke(demo, text.encode(), "text/csv")
    assert answer.status == 400, answer.text
    assert answer.json()["error_code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/xml", "application/json; charset=latin-1",
     "application/json; version=2", "application/x-python-pickle"],
)
def test_other_content_types_are_415_in_plain_text(demo, content_type):
    answer = invoke(demo, FORMS["split"], content_type)
    assert answer.status == 415, answer.text
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/json;charset=UTF-8"])
def test_utf8_may_be_named(demo, content_type):
    assert_iris(invoke(demo, FORMS["split"], content_type))


def test_health_ping_and_version(demo):
    ping = demo.get("/ping")
    assert (ping.status_code, ping.text) == (200, "\n")
    health = demo.get("/health")
    assert (health.status_code, health.text.strip()) == (200, "OK")
    version = demo.get("/version")
    assert version.status_code == 200
    parts = version.text.strip().split(".")
    assert int(parts[0]) >= 3 and len(parts) == 3
    assert demo.get("/invocations").status_code == 405
