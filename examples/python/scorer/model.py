"""Scores loan applications by a points table, and refuses what cannot be an application.

`predict` gets the rows of several callers at once and answers all of them with a few calls of numpy.
"""

import json
from pathlib import Path

import numpy as np
from salver import InvalidInput


class Scorer:
    inputs = {"income": ("FP64", [-1]), "debt": ("FP64", [-1]), "employment": ("STRING", [-1])}
    outputs = {"score": ("FP64", [-1]), "decision": ("STRING", [-1])}

    def load(self, context):
        """Reads the table; `context.settings` are those of [python.settings] in model.toml."""
        self.points = json.loads((Path(context.folder) / "points.json").read_text())
        self.threshold = float(context.settings["threshold"])

    def predict(self, batch):
        income, debt = batch["income"], batch["debt"]
        if (income < 0).any() or (debt < 0).any():
            # The caller gets this text with status 400; others in the batch get their answers.
            raise InvalidInput("income and debt must not be below 0")
        points = np.array([self.points.get(kind, 0) for kind in batch["employment"]])
        score = 100 * np.clip(1 - debt / np.maximum(income, 1), 0, 1) + points
        return {"score": score, "decision": np.where(score >= self.threshold, "accept", "look again")}
