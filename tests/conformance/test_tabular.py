"""Tables against scikit-learn: a pipeline that skl2onnx exported, with an input for each column.

`customers.json` has rows and what scikit-learn itself says of them; tests/models/make.py wrote both.
"""

import json
import math
import shutil

import numpy as np
import pytest
import tritonclient.http as triton_http
from harness import MODELS

SKLEARN = MODELS / "sklearn"
CASES = json.loads((SKLEARN / "customers.json").read_text())
MANIFEST = """
task = "tabular"

[[column]]
name    = "age"
type    = "float"
missing = nan             # the pipeline fills it in

[[column]]
name = "visits"
type = "int"

[[column]]
name       = "plan"
type       = "category"
categories = ["basic", "plus", "pro"]
encoding   = "text"
"""
PASSING = MANIFEST + 'unknown = "pass"\n'


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    for name, manifest in (("customers", PASSING), ("strict", MANIFEST)):
        (root / name).mkdir()
        shutil.copy(SKLEARN / "customers.onnx", root / name / "model.onnx")
        (root / name / "model.toml").write_text(manifest)
    return start(root)


def column(name, values, dtype, datatype):
    data = triton_http.InferInput(name, [len(values)], datatype)
    data.set_data_from_numpy(np.array(values, dtype))
    return data


def inputs(rows):
    return [
        column("age", [math.nan if row["age"] is None else row["age"] for row in rows], np.float64, "FP64"),
        column("visits", [row["visits"] for row in rows], np.int64, "INT64"),
        column("plan", [row["plan"].encode() for row in rows], np.object_, "BYTES"),
    ]


def infer(server, model, columns):
    with triton_http.InferenceServerClient(server.http) as client:
        answer = client.infer(model, columns)
    labels = [label.decode() for label in answer.as_numpy("label")]
    return labels, answer.as_numpy("probabilities")


def test_rows_are_answered_as_scikit_learn_answers(server):
    assert any(case["age"] is None for case in CASES) and any(case["plan"] == "gold" for case in CASES)
    labels, probabilities = infer(server, "customers", inputs(CASES))
    assert labels == [case["label"] for case in CASES]
    np.testing.assert_allclose(probabilities, [case["probabilities"] for case in CASES], atol=2e-5)


def test_a_row_alone_is_answered_as_among_others(server):
    for case in CASES:
        labels, probabilities = infer(server, "customers", inputs([case]))
        assert labels == [case["label"]]
        np.testing.assert_allclose(probabilities, [case["probabilities"]], atol=2e-5)


def test_many_rows_come_back_in_their_order(server):
    """More rows than one batch holds."""
    many = CASES * 200
    labels, probabilities = infer(server, "customers", inputs(many))
    assert labels == [case["label"] for case in many]
    np.testing.assert_allclose(probabilities, [case["probabilities"] for case in many], atol=2e-5)


def test_a_column_that_may_be_missing_may_be_left_out(server):
    without = [case for case in CASES if case["age"] is None]
    labels, _ = infer(server, "customers", inputs(without)[1:])
    assert labels == [case["label"] for case in without]


def test_the_plain_way_takes_rows(server):
    case = next(case for case in CASES if case["age"] is not None)
    row = {key: case[key] for key in ("age", "visits", "plan")}
    answer = server.post("/models/customers/predict", row)
    assert answer.status_code == 200 and case["label"] in answer.text, answer.text


@pytest.mark.parametrize(
    "change, parts",
    [
        ({"plan": "gold"}, ["row 1, 'plan'", "'gold' is no known category", "'basic', 'plus', 'pro'"]),
        ({"plan": ""}, ["row 1, 'plan'", "missing or empty"]),
        ({"age": 1e39}, ["row 1, 'age'", "does not fit into FP32"]),
    ],
)
def test_what_is_wrong_names_its_row_and_column(server, change, parts):
    rows = [{**CASES[0]}, {**CASES[1], **change}]
    with pytest.raises(triton_http.InferenceServerException) as raised:
        infer(server, "strict", inputs(rows))
    for part in parts:
        assert part in str(raised.value), part


def test_a_column_that_must_be_there_is_named(server):
    with pytest.raises(triton_http.InferenceServerException, match="'visits'.*missing"):
        infer(server, "customers", [entry for entry in inputs(CASES) if entry.name() != "visits"])
