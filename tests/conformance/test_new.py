"""`salver new` for each task: the folder passes the check, serves, and answers its own example."""

import subprocess

import pytest
from harness import BINARY

TASKS = [
    "tensor", "tabular", "text-classification", "text-embedding", "token-classification", "zero-shot",
    "image-classification",
]
BODIES = {
    "tensor": ([[1.0, 2.0]], ["9.0"]),
    "tabular": ({"age": 31, "visits": 20, "plan": "pro"}, ['"label":"stays"']),
    "text-classification": ({"text": "This is great, it works!"}, ['"label":"positive"']),
    "text-embedding": ({"text": ["The band was great.", "The team won."]}, ['"embedding":[']),
    "token-classification": ({"text": "Ada Lovelace was in London."}, ['"Ada Lovelace"', '"LOC"']),
    "zero-shot": ({"text": "a song", "labels": ["sports", "music", "good"]}, ['"label":"music"']),
}


def salver(*args) -> str:
    done = subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def server(start, folder):
    for task in TASKS:
        said = salver("new", folder / task, "--task", task)
        assert f"/models/{task}/predict" in said, said
        assert "1 of 1 load." in salver("check", folder / task)
    return start(folder)


@pytest.mark.parametrize("task", TASKS)
def test_the_example_that_a_model_shows_is_answered(server, task):
    described = server.get(f"/models/{task}").json()
    assert described["task"] == task
    answer = server.post(f"/models/{task}/predict", described["example"])
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 1, answer.text


@pytest.mark.parametrize("task", BODIES)
def test_the_stand_in_says_something_sensible(server, task):
    body, parts = BODIES[task]
    answer = server.post(f"/models/{task}/predict", body)
    assert answer.status_code == 200, answer.text
    for part in parts:
        assert part in answer.text, answer.text


def test_a_picture_is_taken_as_it_is(server, folder):
    picture = (folder / "image-classification" / "picture.png").read_bytes()
    headers = [("content-type", "image/png")]
    answer = server.request("POST", "/models/image-classification/predict", headers, picture)
    assert answer.status == 200 and '"label":"red"' in answer.text, answer.text
