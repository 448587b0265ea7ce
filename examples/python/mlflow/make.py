"""Trains a regressor on scikit-learn's diabetes data, and saves it with MLflow and its signature."""

import sys
from pathlib import Path

import mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split

data = load_diabetes(as_frame=True)
table = data.data[["age", "bmi", "bp"]]
x_train, x_test, y_train, y_test = train_test_split(table, data.target, test_size=0.3, random_state=7)
model = Ridge(alpha=0.1).fit(x_train, y_train)
print(f"held-out R2 {model.score(x_test, y_test):.4f}")
signature = infer_signature(x_train, model.predict(x_train))
mlflow.sklearn.save_model(
    model, Path(sys.argv[1]) / "saved", signature=signature, serialization_format="cloudpickle",
    pip_requirements=["mlflow-skinny", "scikit-learn", "pandas"],
)
