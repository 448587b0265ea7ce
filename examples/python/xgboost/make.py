"""Trains boosted trees on scikit-learn's digits, and saves the booster."""

import sys
from pathlib import Path

import xgboost
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

x_train, x_test, y_train, y_test = train_test_split(*load_digits(return_X_y=True), test_size=0.3, random_state=7)
model = xgboost.XGBClassifier(n_estimators=60, max_depth=4, random_state=7).fit(x_train, y_train)
print(f"held-out accuracy {model.score(x_test, y_test):.4f}")
model.save_model(Path(sys.argv[1]) / "model.ubj")
