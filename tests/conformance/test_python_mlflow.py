"""The adapter for MLflow's `pyfunc`, against MLflow's own answers."""

import numpy as np
import pytest
from python_adapters import InvalidInput, ask, framework, load

mlflow = framework("mlflow")
framework("sklearn")
pandas = framework("pandas")
import mlflow.pyfunc  # noqa: E402
import mlflow.sklearn  # noqa: E402
from mlflow.models import infer_signature  # noqa: E402
from mlflow.types import ColSpec, Schema, TensorSpec  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402

IRIS = load_iris(as_frame=True)
SPECIES = IRIS.target_names[IRIS.target]


@pytest.fixture
def saved(tmp_path):
    """saved(function of the input, signature): the folder of a model that calls it."""

    def save(function, signature=None, name="model", **options):
        class Model(mlflow.pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):
                return function(model_input)

        mlflow.pyfunc.save_model(tmp_path / name, python_model=Model(), signature=signature, pip_requirements=[], **options)
        return tmp_path / name

    return save


def signature(inputs, outputs=None):
    return mlflow.models.ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs) if outputs else None)


def tensor(kind: str, shape, name=None) -> TensorSpec:
    return TensorSpec(np.dtype(kind), shape, name)


def test_a_table_of_columns_with_its_own_flavour(tmp_path):
    model = LogisticRegression(max_iter=500).fit(IRIS.data, SPECIES)
    mlflow.sklearn.save_model(
        model, tmp_path / "m", signature=infer_signature(IRIS.data, model.predict(IRIS.data)), pip_requirements=[], serialization_format="cloudpickle"
    )
    adapter = load("mlflow", tmp_path / "m")
    assert adapter.inputs == {name: ("FP64", [-1], False) for name in IRIS.data}
    assert adapter.outputs == {"predictions": ("STRING", [-1])}
    rows = IRIS.data[::11]
    answer = ask(adapter, **{name: rows[name].to_numpy() for name in rows})
    assert list(answer["predictions"]) == list(mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(rows))


def test_each_type_of_column_arrives_as_it_was_trained(saved):
    kinds = {
        "flag": "boolean", "small": "integer", "large": "long", "short": "float", "number": "double", "name": "string",
        "raw": "binary", "day": "datetime",
    }  # fmt: skip

    def describe(table):
        kinds = [",".join(f"{name}={values.dtype}" for name, values in table.items())] * len(table)
        return pandas.DataFrame({
            "kinds": kinds, "year": table["day"].dt.year, "size": [len(raw) for raw in table["raw"]],
            "joined": table["name"] + "!",
        })  # fmt: skip

    adapter = load("mlflow", saved(describe, signature([ColSpec(kind, name) for name, kind in kinds.items()])))
    assert adapter.inputs["day"] == ("STRING", [-1], False)
    answer = ask(
        adapter, flag=[True, False], small=[1, 2], large=[2**60, 2], short=[0.5, 1.5], number=[0.1, 0.2], name=["ä", "b"],
        raw=[b"\x00\xff", b""], day=["2024-05-31T23:59:59", "2025-01-01T01:00:00+02:00"],
    )  # fmt: skip
    assert answer["kinds"][0].startswith("flag=bool,small=int32,large=int64,short=float32,number=float64,name=")
    assert answer["kinds"][0].endswith("day=datetime64[ns]")
    assert list(answer["year"]) == [2024, 2024]  # the second is still last year in UTC
    assert list(answer["size"]) == [2, 0]
    assert list(answer["joined"]) == ["ä!", "b!"]
    with pytest.raises(InvalidInput, match="`day`: expected times in ISO 8601"):
        ask(adapter, flag=[True], small=[1], large=[1], short=[1], number=[1], name=["a"], raw=[b""], day=["yesterday"])


def test_a_column_that_may_be_missing_is_missing_for_the_model_too(saved):
    columns = [ColSpec("double", "x"), ColSpec("double", "y", required=False)]
    adapter = load("mlflow", saved(lambda table: table["x"] + table.get("y", 100.0), signature(columns)))
    assert adapter.inputs == {"x": ("FP64", [-1], False), "y": ("FP64", [-1], True)}
    assert ask(adapter, x=[1, 2], y=[1, 1])["predictions"].tolist() == [2, 3]
    assert ask(adapter, x=[1, 2])["predictions"].tolist() == [101, 102]


def test_one_tensor_is_an_array(saved):
    adapter = load("mlflow", saved(lambda x: x.sum(axis=(1, 2)), signature([tensor("float32", (-1, 2, 3))])))
    assert adapter.inputs == {"input": ("FP32", [-1, 2, 3])}
    assert adapter.outputs == {"predictions": ("FP32", [-1])}
    values = np.arange(24, dtype="float32").reshape(4, 2, 3)
    np.testing.assert_array_equal(ask(adapter, input=values)["predictions"], values.sum(axis=(1, 2)))


def test_named_tensors_are_a_dict_and_come_back_as_one(saved):
    inputs = signature([tensor("int64", (-1,), "a"), tensor("float64", (-1, 2), "b")])
    adapter = load("mlflow", saved(lambda x: {"sum": x["a"] + x["b"][:, 0], "all": x["b"] * 2}, inputs))
    assert adapter.outputs == {"sum": ("FP64", [-1]), "all": ("FP64", [-1, 2])}
    answer = ask(adapter, a=[1, 2], b=[[1.5, 2], [3, 4]])
    assert answer["sum"].tolist() == [2.5, 5.0]
    assert answer["all"].tolist() == [[3, 4], [6, 8]]


def test_texts_without_a_column_s_name(saved):
    adapter = load("mlflow", saved(lambda table: [text.upper() for text in table.iloc[:, 0]], signature([ColSpec("string")])))
    (name,) = adapter.inputs
    assert adapter.inputs == {name: ("STRING", [-1], False)}
    assert list(ask(adapter, **{name: ["a", "ß"]})["predictions"]) == ["A", "SS"]


def test_columns_without_names_are_numbered(saved):
    columns = [ColSpec("double"), ColSpec("string")]
    adapter = load("mlflow", saved(lambda table: [f"{a}{b}" for a, b in zip(table[0], table[1])], signature(columns)))
    assert adapter.inputs == {"0": ("FP64", [-1], False), "1": ("STRING", [-1], False)}
    assert ask(adapter, **{"0": [1, 2], "1": ["a", "b"]})["predictions"].tolist() == ["1.0a", "2.0b"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda table: table["x"], {"predictions": [1.0, 2.0]}),
        (lambda table: table["x"].tolist(), {"predictions": [1.0, 2.0]}),
        (lambda table: table["x"].to_numpy().reshape(-1, 1), {"predictions": [[1.0], [2.0]]}),
        (lambda table: table.rename(columns={"x": 0}), {"predictions": [1.0, 2.0]}),
        (lambda table: table, {"x": [1.0, 2.0]}),
        (lambda table: [{"twice": 2 * x, "word": str(x)} for x in table["x"]], {"twice": [2.0, 4.0], "word": ["1.0", "2.0"]}),
        (lambda table: table["x"].astype("Float64").where(table["x"] != 1), {"predictions": [np.nan, 2.0]}),
        (lambda table: [None if x == 1 else "b" for x in table["x"]], {"predictions": ["", "b"]}),
        (lambda table: pandas.to_datetime(["2024-01-01"] * len(table)), {"predictions": ["2024-01-01"] * 2}),
    ],
    ids=["series", "list", "column", "unnamed", "table", "records", "missing numbers", "missing texts", "times"],
)
def test_whatever_comes_back_gets_a_name(saved, function, expected):
    # A made-up row does not show a text where it gives nothing.
    declared = {"predictions": ("STRING", [-1])} if "" in expected.get("predictions", []) else {}
    adapter = load("mlflow", saved(function, signature([ColSpec("double", "x")])), outputs=declared)
    answer = ask(adapter, x=[1.0, 2.0])
    assert set(answer) == set(expected)
    for name, values in expected.items():
        if answer[name].dtype == object:
            assert [text[:10] for text in answer[name]] == values
        else:
            np.testing.assert_array_equal(answer[name], values)


def test_the_saved_example_shows_the_outputs(saved):
    def only_known(table):
        if not set(table["city"]) <= {"Rome", "Oslo"}:
            raise KeyError("no such city")
        return table["city"].map({"Rome": 1.0, "Oslo": 2.0}).to_numpy()

    example = pandas.DataFrame({"city": ["Rome"]})
    adapter = load("mlflow", saved(only_known, signature([ColSpec("string", "city")]), input_example=example))
    assert adapter.outputs == {"predictions": ("FP64", [-1])}
    assert list(ask(adapter, city=["Oslo", "Rome"])["predictions"]) == [2.0, 1.0]
    without = saved(only_known, signature([ColSpec("string", "city")]), name="without")
    with pytest.raises(ValueError, match=r'no such city.*model.toml: output = \[\{ name = "predictions"'):
        load("mlflow", without)


def test_declared_outputs_take_apart_and_rename(saved):
    inputs = signature([ColSpec("double", "x")])
    folder = saved(lambda table: np.column_stack([table["x"], -table["x"]]), inputs)
    adapter = load("mlflow", folder, outputs={"up": ("FP32", [-1]), "down": ("FP64", [-1, 1])})
    answer = ask(adapter, x=[1, 2])
    assert (answer["up"].tolist(), answer["down"].tolist()) == ([1, 2], [[-1], [-2]])
    wrong = load("mlflow", folder, outputs={name: ("FP32", [-1]) for name in "abc"})
    with pytest.raises(ValueError, match="the model gave predictions; declared are a, b, c"):
        wrong.predict({"x": np.ones(1)})


def test_an_answer_that_is_not_one_for_each_row_is_refused(saved):
    adapter = load("mlflow", saved(lambda table: [1.0], signature([ColSpec("double", "x")])))
    with pytest.raises(ValueError, match="the model gave 1 rows for 2 rows"):
        adapter.predict({"x": np.ones(2)})


def test_without_a_signature_the_columns_are_those_of_model_toml(saved):
    folder = saved(lambda table: table["a"] + table["b"])
    with pytest.raises(ValueError, match=r"without a signature.*model.toml: input = \["):
        load("mlflow", folder)
    adapter = load("mlflow", folder, inputs={"a": ("FP64", [-1]), "b": ("INT64", [-1])})
    assert ask(adapter, a=[1.5], b=[2])["predictions"].tolist() == [3.5]


def test_a_matrix_may_stand_for_all_columns(saved):
    inputs = signature([ColSpec("double", "a"), ColSpec("double", "b")])
    folder = saved(lambda table: table["a"] - table["b"], inputs)
    adapter = load("mlflow", folder, inputs={"X": ("FP64", [-1, 2])})
    assert ask(adapter, X=[[3, 1], [5, 1]])["predictions"].tolist() == [2, 4]
    with pytest.raises(ValueError, match=r"declares the inputs \['c'\], the model's signature has \['a', 'b'\]"):
        load("mlflow", folder, inputs={"c": ("FP64", [-1])})


def test_a_missing_package_is_named(tmp_path):
    model = LinearRegression().fit([[1.0]], [1.0])
    mlflow.sklearn.save_model(model, tmp_path / "m", signature=infer_signature(np.ones((1, 1))), pip_requirements=[], serialization_format="cloudpickle")
    manifest = tmp_path / "m" / "MLmodel"
    manifest.write_text(manifest.read_text().replace("loader_module: mlflow.sklearn", "loader_module: no_such_package"))
    with pytest.raises(ModuleNotFoundError, match="the model needs the package no_such_package, which is not installed"):
        load("mlflow", tmp_path / "m")
