"""The adapter for XGBoost, against its own answers."""

import numpy as np
import pytest
from python_adapters import InvalidInput, ask, framework, load

xgboost = framework("xgboost")
framework("sklearn")
from sklearn.datasets import load_diabetes, load_iris  # noqa: E402

IRIS, DIABETES = load_iris(), load_diabetes()


@pytest.fixture(params=["model.ubj", "model.json"])
def saved(request, tmp_path):
    """saved(model): the file that XGBoost makes of it."""

    def save(model):
        model.save_model(tmp_path / request.param)
        return tmp_path / request.param

    return save


def test_several_classes_have_probabilities(saved):
    model = xgboost.XGBClassifier(n_estimators=8, max_depth=3, random_state=1).fit(IRIS.data, IRIS.target)
    adapter = load("xgboost", saved(model))
    assert adapter.inputs == {"X": ("FP32", [-1, 4])}
    assert adapter.outputs == {"probabilities": ("FP32", [-1, 3])}
    answer = ask(adapter, X=IRIS.data[::13])
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(IRIS.data[::13]), rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "target", "expected"),
    [
        (xgboost.XGBRegressor(n_estimators=8), DIABETES.target, "predict"),
        (xgboost.XGBRegressor(n_estimators=8, booster="gblinear"), DIABETES.target, "predict"),
        (xgboost.XGBRegressor(n_estimators=8), np.column_stack([DIABETES.target, -DIABETES.target]), "predict"),
        (xgboost.XGBClassifier(n_estimators=8), DIABETES.target > 100, "predict_proba"),
    ],
    ids=["trees", "linear", "two targets", "two classes"],
)
def test_one_number_or_several_are_a_prediction(saved, model, target, expected):
    model.fit(DIABETES.data, target)
    rows = DIABETES.data[::50].astype("float32")
    rows[0, 0] = np.nan  # a missing value
    wanted = getattr(model, expected)(rows)
    wanted = wanted[:, 1] if expected == "predict_proba" else wanted
    answer = ask(load("xgboost", saved(model)), X=rows)
    np.testing.assert_allclose(answer["prediction"], wanted, rtol=1e-6)


def test_a_model_that_was_stopped_early_answers_with_its_best_iteration(saved):
    model = xgboost.XGBRegressor(n_estimators=200, early_stopping_rounds=5, learning_rate=0.9)
    model.fit(DIABETES.data[::2], DIABETES.target[::2], eval_set=[(DIABETES.data[1::2], DIABETES.target[1::2])], verbose=False)
    assert model.best_iteration < model.get_booster().num_boosted_rounds() - 1
    answer = ask(load("xgboost", saved(model)), X=DIABETES.data[:5])
    np.testing.assert_allclose(answer["prediction"], model.predict(DIABETES.data[:5].astype("float32")), rtol=1e-6)


def test_columns_of_training_need_no_names(saved):
    pandas = framework("pandas")
    table = pandas.DataFrame(IRIS.data, columns=IRIS.feature_names)
    model = xgboost.XGBRegressor(n_estimators=3).fit(table, IRIS.target)
    answer = ask(load("xgboost", saved(model)), X=IRIS.data[:5])
    np.testing.assert_allclose(answer["prediction"], model.predict(table[:5]), rtol=1e-6)


def test_infinite_values_that_a_model_refuses_are_the_caller_s_fault(saved):
    infinite = {"X": np.full((1, 4), np.inf, np.float32)}
    linear = load("xgboost", saved(xgboost.XGBRegressor(n_estimators=2, booster="gblinear").fit(IRIS.data, IRIS.target)))
    with pytest.raises(InvalidInput, match="infinite values"):
        linear.predict(infinite)
    trees = xgboost.XGBRegressor(n_estimators=2).fit(IRIS.data, IRIS.target)
    assert load("xgboost", saved(trees)).predict(infinite)["prediction"] == trees.predict(infinite["X"])


@pytest.mark.parametrize(
    "declared",
    [{"inputs": {"X": ("FP32", [-1, 5])}}, {"inputs": {"X": ("STRING", [-1, 4])}}, {"outputs": {"y": ("FP32", [-1, 3])}}],
)
def test_declarations_that_cannot_be_are_refused(saved, declared):
    path = saved(xgboost.XGBRegressor(n_estimators=2).fit(IRIS.data, IRIS.target))
    with pytest.raises(ValueError, match=r"model.toml declares .*; this model (takes one input|gives one output), FP32 \[-1"):
        load("xgboost", path, **declared)
