"""Every example of a model in Python, by its one command, against the real binary.

What the conformance environment has runs with it; the large frameworks run with the interpreter that
`SALVER_TEST_FRAMEWORKS` names, which must be that of a virtual environment.
"""

import json
import os
import subprocess
import sys

import pytest
from harness import BINARY, REPO
from test_python_frameworks import INTERPRETER, missing

RUN = REPO / "examples" / "python" / "run.py"
HERE = {
    "echo": lambda answer: answer == [{"x": [1.5, 2.5, 3.5], "text": "hello"}],
    "scorer": lambda answer: [row["decision"] for row in answer] == ["accept", "look again"],
    "sklearn": lambda answer: [row["label"] for row in answer] == ["setosa", "virginica"],
    "mlflow": lambda answer: 150 < answer[0]["predictions"] < 250,
}
LARGE = {
    "xgboost": lambda answer: max(answer[0]["probabilities"]) == answer[0]["probabilities"][3],
    "torch": lambda answer: max(answer[0]["output"]) == answer[0]["output"][3],
    "tensorflow": lambda answer: max(answer[0]["output_0"]) == answer[0]["output_0"][0],
    "transformers": lambda answer: [row["label"] for row in answer] == ["positive", "negative"],
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*HERE, *LARGE])
def test_example(name):
    if name in LARGE:
        missing(name)
    interpreter = INTERPRETER if name in LARGE else sys.executable
    found = subprocess.run([interpreter, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SALVER_")}
    command = [sys.executable, str(RUN), name, "--env", found.stdout.strip(), "--salver", str(BINARY)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert run.returncode == 0, run.stdout + run.stderr
    answer = json.loads(run.stdout.splitlines()[-1])["predictions"]
    assert (HERE | LARGE)[name](answer), answer


def test_none_is_left_out():
    folders = {path.name for path in RUN.parent.iterdir() if path.is_dir()}
    assert folders == set(HERE) | set(LARGE)
    text = (RUN.parents[1] / "README.md").read_text()
    assert all(f"`python3 examples/python/run.py {name}`" in text for name in folders)
