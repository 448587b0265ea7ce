"""Iris through TensorFlow Serving's REST API: row form and column form."""

import os

import requests

SERVER = os.environ.get("SALVER_SERVER", "http://127.0.0.1:8080")
URL = f"{SERVER}/v1/models/iris"

version = requests.get(URL, timeout=5).json()["model_version_status"][0]
print("version", version["version"], version["state"])

flowers = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]
for body, key in (({"instances": flowers}, "predictions"), ({"inputs": {"X": flowers}}, "outputs")):
    answer = requests.post(f"{URL}:predict", json=body, timeout=5)
    answer.raise_for_status()
    for probabilities in answer.json()[key]:
        print(key, [round(value, 2) for value in probabilities])
