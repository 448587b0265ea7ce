"""Trains a pipeline on scikit-learn's iris data, and saves it as people do."""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

data = load_iris()
species = data.target_names[data.target]
x_train, x_test, y_train, y_test = train_test_split(data.data, species, test_size=0.3, stratify=species, random_state=7)
model = make_pipeline(StandardScaler(), RandomForestClassifier(random_state=7)).fit(x_train, y_train)
print(f"held-out accuracy {model.score(x_test, y_test):.4f}")
joblib.dump(model, Path(sys.argv[1]) / "model.joblib")
