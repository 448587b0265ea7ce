"""Iris through MLflow's scoring protocol: a table as JSON and as CSV.

The routes name no model: the server answers with the one that --default-model names.
"""

import os

import requests

SERVER = os.environ.get("SALVER_SERVER", "http://127.0.0.1:8080")
URL = f"{SERVER}/invocations"

columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
flowers = [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]

table = {"dataframe_split": {"columns": columns, "data": flowers}}
as_json = requests.post(URL, json=table, timeout=5)

lines = [",".join(columns), *(",".join(map(str, flower)) for flower in flowers)]
as_csv = requests.post(URL, data="\n".join(lines), headers={"Content-Type": "text/csv"}, timeout=5)

for name, answer in (("json", as_json), ("csv", as_csv)):
    answer.raise_for_status()
    for prediction in answer.json()["predictions"]:
        print(name, [round(value, 2) for value in prediction["probabilities"]])
