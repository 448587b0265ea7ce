"""The recommendations example: its graph against numpy, and its one command against the real binary and the README."""

import os
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from harness import BINARY, REPO

EXAMPLE = REPO / "examples" / "recommendations"


def shape_of(text):
    """What is printed, without what differs from run to run: ids, times, places, and titles of near ties."""
    text = re.sub(r"\b[0-9a-f]{32}\b", "ID", text)
    text = re.sub(r"\d+\.\d ms", "TIME", text)
    text = re.sub(r"(?m)^  +\d\.\d{3}  The .+$", "FILM", text)
    text = re.sub(r"(?m)^\S*target/\S+ serve .*$", "SERVE", text)
    text = re.sub(r"(?m)^\S*(target/examples-recommendations/recommendations:)", r"\1", text)
    text = re.sub(r"job ID is (queued|running|done|failed)", "job ID", text)
    return re.sub(r"\d\.\d+", "N", text).strip()


@pytest.fixture(scope="module")
def trained():
    sys.path.insert(0, str(EXAMPLE))
    try:
        import train
    finally:
        sys.path.pop(0)
    return train, *train.train()


@pytest.mark.timeout(600)
def test_the_graph_answers_what_numpy_answers(trained):
    train, users, items, seen, titles, metrics = trained
    made = train.graph(users, items, seen, titles)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    some = np.arange(0, train.USERS, 7)
    title, item, score = session.run(["title", "item", "score"], {"user": some})
    best, scores = train.best_of(users[some], items, seen[some])
    np.testing.assert_allclose(score, scores, rtol=1e-4)
    # Where two films are nearly equal, either may come first.
    own = np.take_along_axis(users[some] @ items.T, item, axis=1)
    np.testing.assert_allclose(own, scores, rtol=1e-4)
    assert (item == best).mean() > 0.99
    assert [[titles[idx] for idx in row] for row in item] == title.tolist()
    assert not any(np.intersect1d(mine, had).size for mine, had in zip(item, seen[some], strict=True))
    assert metrics["precision_at_10"] > 2 * metrics["precision_at_10_of_popular"]


@pytest.mark.timeout(900)
def test_its_one_command_prints_what_the_readme_shows():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SALVER_")}
    command = [sys.executable, str(EXAMPLE / "run.py"), "--env", sys.prefix, "--salver", str(BINARY)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert run.returncode == 0, run.stdout + run.stderr
    shown = re.search(r"```text\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.S)[1]
    name = BINARY.name
    assert shape_of(run.stdout.replace(str(BINARY), f"target/debug/{name}")) == shape_of(shown)
    first = [block for block in run.stdout.split("user ") if block.startswith("17:")]
    films = [re.findall(r"The .+", block) for block in first]
    assert len(films) == 3 and films[0] == films[1] == films[2] and len(films[0]) == 3
