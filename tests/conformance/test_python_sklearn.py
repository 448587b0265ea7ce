"""The adapter for scikit-learn, against scikit-learn's own answers."""

import pickle
import warnings

import numpy as np
import pytest
from python_adapters import InvalidInput, ask, framework, load

framework("sklearn")
import joblib  # noqa: E402 (comes with scikit-learn)
from sklearn.cluster import KMeans  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.datasets import load_diabetes, load_iris  # noqa: E402
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor  # noqa: E402
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.multioutput import MultiOutputClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402

IRIS, DIABETES = load_iris(), load_diabetes()
SPECIES = IRIS.target_names[IRIS.target]


@pytest.fixture
def saved(tmp_path):
    """saved(model): the file that joblib makes of it."""

    def save(model, name: str = "model.joblib"):
        joblib.dump(model, tmp_path / name)
        return tmp_path / name

    return save


def test_a_classifier_answers_labels_and_probabilities_of_float64(saved):
    model = make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=3)).fit(IRIS.data, SPECIES)
    adapter = load("sklearn", saved(model))
    assert adapter.inputs == {"X": ("FP64", [-1, 4])}
    assert adapter.outputs == {"label": ("STRING", [-1]), "probabilities": ("FP32", [-1, 3])}
    answer = ask(adapter, X=IRIS.data[::7])
    assert list(answer["label"]) == list(model.predict(IRIS.data[::7]))
    np.testing.assert_array_equal(answer["probabilities"], model.predict_proba(IRIS.data[::7]).astype("float32"))


def test_values_on_a_tree_s_threshold_keep_their_side(saved):
    # 0.1 * 3 and 0.3 are two numbers of float64 and one of float32.
    rows = np.array([[0.3], [0.1 * 3]])
    model = make_pipeline(StandardScaler(with_mean=False, with_std=False), LinearRegression()).fit(rows, [0.0, 1e9])
    answer = ask(load("sklearn", saved(model)), X=rows)
    np.testing.assert_array_equal(answer["prediction"], model.predict(rows))


def test_labels_that_are_numbers_stay_numbers(saved):
    model = LogisticRegression(max_iter=500).fit(IRIS.data, IRIS.target)
    adapter = load("sklearn", saved(model))
    assert adapter.outputs["label"] == ("INT64", [-1])
    assert list(ask(adapter, 1e-6, X=IRIS.data[:9])["label"]) == list(model.predict(IRIS.data[:9]))


def test_a_classifier_without_chances_answers_labels(saved):
    model = LinearSVC(random_state=1).fit(IRIS.data, SPECIES)
    adapter = load("sklearn", saved(model))
    assert list(adapter.outputs) == ["label"]
    assert list(ask(adapter, X=IRIS.data[::9])["label"]) == list(model.predict(IRIS.data[::9]))


@pytest.mark.parametrize(
    ("model", "target"),
    [
        (RandomForestRegressor(10, random_state=1), DIABETES.target),
        (Ridge(), np.column_stack([DIABETES.target, DIABETES.target**2])),
        (KMeans(3, random_state=1, n_init=1), None),
        (IsolationForest(random_state=1), None),
        (MultiOutputClassifier(LogisticRegression(max_iter=200)), np.column_stack([DIABETES.target > 100, DIABETES.target > 200])),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_predicts_is_served_as_it_predicts(saved, model, target):
    model.fit(DIABETES.data, target)
    adapter = load("sklearn", saved(model))
    (name,) = adapter.outputs
    expected = model.predict(DIABETES.data[::40])
    answer = ask(adapter, 1e-12, X=DIABETES.data[::40])[name]
    assert adapter.outputs[name][1] == [-1, *expected.shape[1:]]
    np.testing.assert_allclose(answer, expected, rtol=1e-12)


def test_a_pipeline_that_only_transforms_has_one_output(saved):
    model = make_pipeline(StandardScaler()).fit(IRIS.data)
    answer = ask(load("sklearn", saved(model)), X=IRIS.data[:5])
    np.testing.assert_array_equal(answer["output"], model.transform(IRIS.data[:5]))


def test_texts_go_into_a_vectorizer(saved):
    texts = ["good and nice", "bad and ugly", "very good", "so bad"] * 3
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["up", "down", "up", "down"] * 3)
    adapter = load("sklearn", saved(model))
    assert adapter.inputs == {"text": ("STRING", [-1])}
    assert list(ask(adapter, text=["good", "ugly", "nothing known"])["label"]) == list(
        model.predict(["good", "ugly", "nothing known"])
    )


@pytest.mark.parametrize("name", ["model.pkl", "compressed.pkl", "model.pickle"])
def test_pickles_are_read_whoever_wrote_them(tmp_path, name):
    model = LinearRegression().fit(DIABETES.data, DIABETES.target)
    path = tmp_path / name
    if name == "compressed.pkl":
        joblib.dump(model, path, compress=3)
    else:
        path.write_bytes(pickle.dumps(model))
    expected = model.predict(DIABETES.data[:3])
    np.testing.assert_allclose(ask(load("sklearn", path), 1e-12, X=DIABETES.data[:3])["prediction"], expected)


def test_skops_asks_for_types_that_it_does_not_know(tmp_path):
    io = framework("skops.io")
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(DIABETES.data, DIABETES.target)
    io.dump(model, tmp_path / "known.skops")
    expected = model.predict(DIABETES.data[:3])
    answer = ask(load("sklearn", tmp_path / "known.skops"), 1e-12, X=DIABETES.data[:3])
    np.testing.assert_allclose(answer["prediction"], expected)
    # A function of numpy is not among the types that skops trusts.
    from sklearn.preprocessing import FunctionTransformer

    io.dump(make_pipeline(FunctionTransformer(np.lib.scimath.sqrt), LinearRegression()).fit([[1.0], [4.0]], [1, 2]), tmp_path / "other.skops")
    with pytest.raises(ValueError, match=r'\[python.settings\] in model.toml: trusted = "numpy.lib') as caught:
        load("sklearn", tmp_path / "other.skops")
    named = str(caught.value).split('trusted = "')[1].rstrip('"')
    adapter = load("sklearn", tmp_path / "other.skops", settings={"trusted": named})
    np.testing.assert_allclose(ask(adapter, 1e-12, X=[[9.0]])["prediction"], [3.0])


def people():
    """A small table with numbers and texts."""
    pandas = framework("pandas")
    return pandas.DataFrame({
        "age": [20.0, 30.0, 40.0, 50.0, 25.0, 35.0], "city": ["Rome", "Oslo", "Oslo", "Rome", "Rome", "Oslo"],
        "income": [1.0, 2.0, 3.0, 4.0, 1.5, 2.5],
    })  # fmt: skip


def mixed(encoder):
    columns = ColumnTransformer([("numbers", StandardScaler(), ["age", "income"]), ("texts", encoder, ["city"])])
    return make_pipeline(columns, LogisticRegression()).fit(people(), ["a", "b", "b", "a", "a", "b"])


@pytest.mark.parametrize(
    "encoder",
    [OneHotEncoder(), OneHotEncoder(handle_unknown="ignore"), make_pipeline(OrdinalEncoder())],
    ids=["strict", "lenient", "nested"],
)
def test_columns_of_texts_are_found_by_their_encoder(saved, encoder):
    model = mixed(encoder)
    adapter = load("sklearn", saved(model))
    assert adapter.inputs == {"age": ("FP64", [-1]), "city": ("STRING", [-1]), "income": ("FP64", [-1])}
    table = people()
    answer = ask(adapter, 1e-6, **{name: table[name].to_numpy() for name in table})
    assert list(answer["label"]) == list(model.predict(table))
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(table), rtol=1e-6)


@pytest.mark.parametrize("shape", [[-1], [-1, 1]])
@pytest.mark.parametrize("text", ["STRING", "BYTES"])
def test_declared_columns_may_come_in_any_order_and_form(saved, shape, text):
    model, table = mixed(OneHotEncoder()), people()
    declared = {"income": ("FP32", shape), "city": (text, shape), "age": ("INT64", shape)}
    adapter = load("sklearn", saved(model), inputs=declared)
    cities = [city.encode() if text == "BYTES" else city for city in table["city"]]
    columns = {"income": table["income"], "city": cities, "age": table["age"]}
    batch = {name: np.array(list(values), dtype=object).reshape(-1, *shape[1:]) for name, values in columns.items()}
    assert list(ask(adapter, 1e-6, **batch)["label"]) == list(model.predict(table))


def test_declared_columns_go_in_as_the_model_was_trained(saved):
    table = people()[["age", "income"]]
    model = LinearRegression().fit(table, [1.0, 2.0, 3.0, 4.0, 5.0, 7.0])
    adapter = load("sklearn", saved(model), inputs={"income": ("FP64", [-1]), "age": ("FP64", [-1])})
    answer = ask(adapter, 1e-12, age=table["age"], income=table["income"])
    np.testing.assert_allclose(answer["prediction"], model.predict(table))


def test_a_table_of_numbers_gets_its_column_names_back(saved):
    table = people()[["age", "income"]]
    # Takes its columns by name, so an array without names would fail.
    columns = ColumnTransformer([("age", StandardScaler(), ["age"]), ("income", "passthrough", ["income"])])
    model = make_pipeline(columns, LinearRegression()).fit(table, [1.0, 2.0, 3.0, 4.0, 5.0, 7.0])
    adapter = load("sklearn", saved(model))
    assert adapter.inputs == {"X": ("FP64", [-1, 2])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = ask(adapter, 1e-12, X=table.to_numpy())
    np.testing.assert_allclose(answer["prediction"], model.predict(table))


def test_declared_outputs_choose_and_set_the_type(saved):
    model = LogisticRegression(max_iter=500).fit(IRIS.data, SPECIES)
    adapter = load("sklearn", saved(model), outputs={"probabilities": ("FP64", [-1, 3])})
    answer = ask(adapter, 1e-12, X=IRIS.data[:5])
    np.testing.assert_array_equal(answer["probabilities"], model.predict_proba(IRIS.data[:5]))


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"outputs": {"score": ("FP32", [-1])}}, "output `score` of model.toml: this model has label, probabilities"),
        ({"outputs": {"label": ("FP32", [-1])}}, "output `label` of model.toml: expected dtype STRING, got FP32"),
        ({"outputs": {"label": ("STRING", [-1, 1])}}, r"expected shape \[-1\], got \[-1, 1\]"),
        ({"device": "cuda:0"}, "scikit-learn runs on the CPU"),
    ],
)
def test_declarations_that_cannot_be_are_refused(saved, declared, expected):
    with pytest.raises(ValueError, match=expected):
        load("sklearn", saved(LogisticRegression(max_iter=500).fit(IRIS.data, SPECIES)), **declared)


def test_columns_that_the_model_does_not_have_are_named(saved):
    with pytest.raises(ValueError, match=r"no inputs \['city', 'income'\] and unknown ones \['town'\]"):
        load("sklearn", saved(mixed(OneHotEncoder())), inputs={"age": ("FP64", [-1]), "town": ("STRING", [-1])})


def test_what_cannot_be_found_out_is_asked_for_with_its_lines(saved):
    from sklearn.preprocessing import FunctionTransformer

    model = make_pipeline(FunctionTransformer(np.asarray), LinearRegression())
    model.fit(DIABETES.data, DIABETES.target)
    model.steps[0] = ("ask", FunctionTransformer(np.asarray))  # knows no columns, as saved by an old version
    with pytest.raises(ValueError, match=r'top of model.toml: input = \[\{ name = "NAME", dtype = "FP64", shape = \[-1\] \}\]'):
        load("sklearn", saved(model))


def test_values_that_the_model_refuses_are_the_caller_s_fault(saved):
    adapter = load("sklearn", saved(LogisticRegression(max_iter=500).fit(IRIS.data, SPECIES)))
    with pytest.raises(InvalidInput, match="NaN"):
        adapter.predict({"X": np.full((1, 4), np.nan)})
    strict = load("sklearn", saved(mixed(OneHotEncoder())))
    with pytest.raises(InvalidInput, match="unknown categor"):
        strict.predict({"age": np.ones(1), "income": np.ones(1), "city": np.array(["Paris"], dtype=object)})


def test_another_version_is_a_warning_that_can_be_read(saved, monkeypatch):
    from sklearn import base, exceptions

    model = LinearRegression().fit(DIABETES.data, DIABETES.target)
    monkeypatch.setattr(base, "__version__", "0.1.0")
    path = saved(model)
    monkeypatch.undo()
    warnings.simplefilter("error")
    with pytest.warns(exceptions.InconsistentVersionWarning, match="0.1.0"):
        adapter = load("sklearn", path)
    ask(adapter, 1e-12, X=DIABETES.data[:2])


def test_no_step_starts_more_threads_than_the_worker_may(saved):
    forest = RandomForestClassifier(3, n_jobs=-1, random_state=1)
    search = GridSearchCV(make_pipeline(StandardScaler(), forest), {"randomforestclassifier__max_depth": [2]}, n_jobs=1)
    adapter = load("sklearn", saved(search.fit(IRIS.data, SPECIES)), threads=2)
    assert adapter.model.best_estimator_.steps[1][1].n_jobs == 2


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("model.txt", None, "expected one of .joblib, .pkl, .pickle, .skops"),
        ("model.pkl", {"weights": [1]}, "holds a dict, which has neither `predict` nor `transform`"),
    ],
)
def test_files_that_are_no_model_are_refused_in_words(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=expected):
        load("sklearn", tmp_path / name)
