"""The pipelines of `examples/pipelines`: each by its one command, as its README shows it, and step by step.

An ensemble must answer exactly what its models answer to a client that calls them one after the other.
"""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from harness import BINARY, REPO

EXAMPLES = REPO / "examples"
PIPELINES = EXAMPLES / "pipelines"
NAMES = ("recommender", "texts", "digits")
TYPES = {"FP32": np.float32, "INT64": np.int64, "UINT8": np.uint8, "BOOL": np.bool_}


@pytest.fixture(scope="module", params=NAMES)
def pipeline(request):
    """The name of a pipeline, and what its one command prints. Its models are left under target/."""
    if request.param == "recommender":
        request.getfixturevalue("redis")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SALVER_")}
    command = [sys.executable, str(PIPELINES / "run.py"), request.param, "--env", sys.prefix, "--salver", str(BINARY)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert run.returncode == 0, run.stdout + run.stderr
    return request.param, run.stdout


@pytest.fixture(scope="module")
def served(pipeline, start, request):
    """The name of a pipeline, and a server with its models."""
    name, _ = pipeline
    folder, options = REPO / "target" / "examples-pipelines" / name / "models", []
    if name == "recommender":
        address = f"redis://127.0.0.1:{request.getfixturevalue('redis').port}"
        with_modules("store").load(address, folder / "features.jsonl")
        options = ["--feature-store", address]
    return name, start(folder, *options)


def with_modules(name, *folders):
    """A module of the examples."""
    places = [str(PIPELINES), *map(str, folders)]
    sys.path[:0] = places
    try:
        return __import__(name)
    finally:
        del sys.path[: len(places)]


def infer(server, model, **inputs):
    """The outputs of a model, as arrays. The cache is not asked."""
    tensors = [tensor(name, value) for name, value in inputs.items()]
    reply = server.post(f"/v2/models/{model}/infer", {"inputs": tensors}, headers={"x-salver-cache": "bypass"})
    assert reply.status_code == 200, reply.text
    return {one["name"]: array(one) for one in reply.json()["outputs"]}


def tensor(name, value):
    value = np.asarray(value)
    datatype = next((datatype for datatype, dtype in TYPES.items() if value.dtype == dtype), "BYTES")
    return {"name": name, "shape": list(value.shape), "datatype": datatype, "data": value.ravel().tolist()}


def array(output):
    return np.array(output["data"], TYPES.get(output["datatype"], object)).reshape(output["shape"])


def flat(items):
    """The items of all rows, as rows."""
    return items.reshape(-1, *items.shape[2:])


def steps_of_recommender(server):
    users = np.array([[17], [345], [99999], [0]], np.int64)
    rows = infer(server, "users", user=users)
    known = rows["found"].ravel()
    assert known.tolist() == [True, True, False, True]
    scores = infer(server, "scores", taste=rows["taste"][known], seen=rows["seen"][known])["scores"]
    best = infer(server, "best", scores=scores)
    popular = infer(server, "popular", list=np.array([["all"]], object))["films"]
    films = np.repeat(popular, len(users), axis=0)
    films[known] = best["top_indices"]
    score = np.zeros(films.shape, np.float32)
    score[known] = best["top_scores"]
    title = infer(server, "titles", films=films)["title"]
    return {"user": users}, {"title": title, "film": films, "score": score, "known": known}


def steps_of_texts(server):
    sentences = (PIPELINES / "texts" / "sentences.tsv").read_text().splitlines()[1:]
    texts = np.array([line.split("\t")[1] for line in sentences] + ["", "Ice, ice and äöü"], object)
    tokens = infer(server, "tokens", text=texts)
    embedding = infer(server, "encoder", **tokens)["embedding"]
    return {"text": texts}, {**infer(server, "head", embedding=embedding), "embedding": embedding}


def steps_of_digits(server):
    canvases = with_modules("canvases", PIPELINES / "digits")
    asked = canvases.some(canvases.written()[1], 5, canvases.SEED_OF_ASKING)
    image = np.repeat(np.array([lines for lines, _ in asked], np.uint8)[..., None], 3, axis=3)
    found = infer(server, "detector", image=image)
    crops = infer(server, "crops", image=image, boxes=found["boxes"])["crops"]
    grey = infer(server, "grey", colour=flat(crops))["image"]
    probabilities = infer(server, "digits", image=grey)["probabilities"]
    labels = infer(server, "labels", scores=probabilities)
    label, score = (labels[name].reshape(len(image), -1, 1) for name in ("label", "score"))
    digit = infer(server, "answer", detection=found["detection"], label=label)["digit"]
    assert "none" in digit and len(set(digit.ravel())) > 5
    return {"image": image}, {"digit": digit, "detection": found["detection"], "score": score, "box": found["boxes"]}


STEPS = {"recommender": steps_of_recommender, "texts": steps_of_texts, "digits": steps_of_digits}
ENSEMBLES = {"recommender": "recommender", "texts": "texts", "digits": "page"}


@pytest.mark.timeout(900)
def test_the_ensemble_answers_what_its_steps_answer_one_by_one(served):
    name, server = served
    inputs, expected = STEPS[name](server)
    answer = infer(server, ENSEMBLES[name], **inputs)
    assert answer.keys() == expected.keys()
    for output, value in expected.items():
        assert answer[output].dtype == value.dtype, output
        assert answer[output].ravel().tolist() == value.ravel().tolist(), output
    # Each row by itself is answered as it is among others.
    for row in range(3):
        alone = infer(server, ENSEMBLES[name], **{key: value[row : row + 1] for key, value in inputs.items()})
        for output, value in answer.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(alone[output][0], value[row], rtol=1e-5, atol=1e-6)
            else:
                assert np.array_equal(alone[output][0], value[row]), output


def shape_of(text):
    """What is printed, without what differs from run to run or, by rounding, from processor to processor."""
    text = re.sub(r"\b[0-9a-f]{32}\b", "ID", text)
    text = re.sub(r"\d+\.\d ms", "TIME", text)
    text = re.sub(r"(?m)^  .{6}  The .+$", "FILM", text)
    text = re.sub(r"(?m)^\S+ serve .*$", "SERVE", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", text)
    text = re.sub(r"\d+ (are right|found where)", r"N \1", text)
    return re.sub(r"\d\.\d+", "N", text).strip()


@pytest.mark.timeout(900)
def test_its_one_command_prints_what_the_readme_shows(pipeline):
    name, printed = pipeline
    readme = (PIPELINES / "README.md").read_text()
    section = readme.split(f"\n## {name}\n")[1].split("\n## ")[0]
    shown = re.search(r"```text\n(.*?)```", section, re.S)[1]
    assert shape_of(printed) == shape_of(shown)
    if name == "texts":
        assert all(int(right) >= 36 for right in re.findall(r"(\d+) are right", printed)), printed
    if name == "digits":
        assert all(float(share) > 0.9 for share in re.findall(r"(\d\.\d{3}) found", printed)), printed
    if name == "recommender":
        learned, popular = map(float, re.findall(r"0\.\d{3}", printed.splitlines()[0]))
        assert learned > 2 * popular
        films = [re.findall(r"The .+", block) for block in printed.split("user ")[1:]]
        assert len(films) == 5 and films[0] == films[1] != films[2] != films[3] == films[4]


def test_none_is_left_out():
    assert {path.parent.name for path in PIPELINES.glob("*/make.py")} == set(NAMES)
    text = (EXAMPLES / "README.md").read_text()
    assert all(f"`python3 examples/pipelines/run.py {name}`" in text for name in NAMES)
