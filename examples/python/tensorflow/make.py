"""Trains a small net on scikit-learn's iris data, and exports it as a SavedModel."""

import sys
from pathlib import Path

import keras
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

keras.utils.set_random_seed(7)
x_train, x_test, y_train, y_test = train_test_split(*load_iris(return_X_y=True), test_size=0.3, random_state=7)
scale = keras.layers.Normalization()
scale.adapt(x_train)
model = keras.Sequential([
    keras.Input((4,), name="measures"), scale, keras.layers.Dense(16, "relu"), keras.layers.Dense(3, "softmax"),
])  # fmt: skip
model.compile(optimizer=keras.optimizers.Adam(0.02), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x_train, y_train, epochs=60, verbose=0)
print(f"held-out accuracy {model.evaluate(x_test, y_test, verbose=0)[1]:.4f}")
model.export(str(Path(sys.argv[1]) / "saved"), verbose=False)
