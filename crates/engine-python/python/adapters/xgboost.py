"""Runs a booster that XGBoost saved (`.ubj`, `.json`, `.model`).

The input is `X`, FP32 as in XGBoost itself; NaN is a missing value. Chances of several classes are
called `probabilities`, everything else `prediction`. A model that was stopped early answers with its
best iteration, as XGBClassifier and XGBRegressor do.
"""

import json

import numpy as np
from salver import InvalidInput


class Adapter:
    """A booster."""

    def load(self, context):
        self.xgboost = needed("xgboost", "xgboost")
        self.booster = self.xgboost.Booster()
        self.booster.load_model(str(context.artifact))
        self.booster.set_param({"nthread": context.threads, "device": context.device})
        learner = json.loads(self.booster.save_config())["learner"]
        # Without trees there is nothing to run in place.
        self.in_place = learner["gradient_booster"]["name"] != "gblinear"
        best = self.booster.attr("best_iteration")
        self.iterations = (0, int(best) + 1) if best is not None else (0, 0)
        self.inputs = {"X": ("FP32", [-1, self.booster.num_features()])}
        if context.inputs:
            self.check_inputs(context.inputs)
        width = self.inputs[next(iter(self.inputs))][1][1]
        trial = self.run(np.zeros((2, width), np.float32))
        name = "probabilities" if learner["objective"]["name"] == "multi:softprob" else "prediction"
        self.outputs = {name: ("FP32", [-1, *trial.shape[1:]])}
        if context.outputs:
            self.check_outputs(context.outputs)

    def predict(self, batch):
        rows = next(iter(batch.values()))
        try:
            answer = self.run(rows)
        except self.xgboost.core.XGBoostError as error:
            if "inf" in str(error):
                raise InvalidInput(f"the rows hold infinite values, which XGBoost refuses: {first_line(error)}") from error
            raise
        (name, (kind, _)) = next(iter(self.outputs.items()))
        return {name: answer.astype("float64" if kind == "FP64" else "float32", copy=False)}

    def run(self, rows):
        if self.in_place:
            answer = self.booster.inplace_predict(rows, iteration_range=self.iterations, validate_features=False)
        else:
            table = self.xgboost.DMatrix(rows)
            answer = self.booster.predict(table, iteration_range=self.iterations, validate_features=False)
        return np.asarray(answer)

    def check_inputs(self, declared):
        (name, (kind, shape)), width = next(iter(declared.items())), self.booster.num_features()
        if len(declared) > 1 or kind not in ("FP32", "FP64") or list(shape) not in ([-1, width], [-1, -1]):
            raise ValueError(f"model.toml declares {declared}; this model takes one input, FP32 [-1, {width}]")
        self.inputs = {name: (kind, [-1, width])}

    def check_outputs(self, declared):
        found = next(iter(self.outputs.values()))
        (name, (kind, shape)) = next(iter(declared.items()))
        if len(declared) > 1 or kind not in ("FP32", "FP64") or list(shape) != found[1]:
            raise ValueError(f"model.toml declares {declared}; this model gives one output, FP32 {found[1]}")
        self.outputs = {name: (kind, list(shape))}


def needed(module, package):
    """The module, or what to do where it is missing."""
    try:
        return __import__(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        message = f"the package {package} is not installed in this environment: pip install {package}"
        raise ModuleNotFoundError(message, name=module) from None


def first_line(error):
    return (str(error).splitlines() or [""])[0]
