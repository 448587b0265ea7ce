"""kill -9 while clients push, promote and set aliases: what was answered with 200 is there afterwards.

One data folder lives through all kills. After each the server starts on what the one before has left;
then every version that it knows, acknowledged or not, must be whole, every acknowledged one must be
the one that was made, and stage and alias must be where the last answer put them, or where a call that
got no answer would have. SALVER_CRASH_RUNS sets the number of kills (default 10, a full check is 50),
SALVER_CRASH_SEED the seed from which each moment is drawn.
"""

import os
import random
import threading
import time

import pytest
import requests
from harness import MODELS, PATIENCE_S, Server, model_file
from mlflow_server import API, ARTIFACTS

RUNS = int(os.environ.get("SALVER_CRASH_RUNS", "10"))
SEED = int(os.environ.get("SALVER_CRASH_SEED", "16"))
NAMES = ["iris", "lily"]
MODEL = MODELS / model_file("identity_fp32")
# More than one part of an upload.
LARGE = 9 << 20


class Known:
    """What the clients were told, and what they asked for without hearing the end of it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acknowledged = 0
        self.problems: list[str] = []
        # By path: what was sent there, each path once.
        self.sent: dict[str, bytes] = {}
        self.stored: set[str] = set()
        # By model and version: the run that it was made of.
        self.versions: dict[tuple[str, int], str] = {}
        # By model: what may be there.
        self.production: dict[str, set[int]] = {name: {0} for name in NAMES}
        self.champion: dict[str, set[int]] = {name: {0} for name in NAMES}

    def made(self, name: str) -> list[int]:
        with self.lock:
            return [version for (model, version) in self.versions if model == name]


class Client:
    """Calls one after the other until the server is gone."""

    def __init__(
        self, url: str, known: Known, work, name: str, seed: float, enough: threading.Event, quota: int, least: int
    ):
        self.url, self.known, self.work, self.name = url, known, work, name
        self.rng = random.Random(seed)
        self.session = requests.Session()
        self.enough, self.quota, self.least = enough, quota, least
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        try:
            while True:
                self.work(self)
        except requests.RequestException:
            pass  # The server was killed.
        except Exception as error:
            with self.known.lock:
                self.known.problems.append(repr(error))
        finally:
            self.session.close()
            if self.known.problems:
                self.enough.set()

    def send(self, method: str, path: str, **options) -> dict:
        answer = self.session.request(method, self.url + path, timeout=PATIENCE_S, **options)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        body = answer.json() if answer.content else {}
        with self.known.lock:
            self.known.acknowledged += 1
            if self.known.acknowledged >= self.quota and len(self.known.versions) >= self.least:
                self.enough.set()
        return body

    def push(self) -> None:
        """A run, two files and a version of them."""
        run = self.send("POST", f"{API}/runs/create", json={"experiment_id": "0"})["run"]["info"]
        folder = run["artifact_uri"].removeprefix("mlflow-artifacts:/") + "/model"
        size = LARGE if self.rng.random() < 0.03 else self.rng.randrange(100_000)
        # What is in production is loaded, so it has to be a model; the other file tells versions apart.
        for file, content in (("model.onnx", MODEL.read_bytes()), ("data/notes", self.rng.randbytes(size))):
            path = f"{folder}/{file}"
            with self.known.lock:
                self.known.sent[path] = content
            self.send("PUT", f"{ARTIFACTS}/{path}", data=content)
            with self.known.lock:
                self.known.stored.add(path)
        body = {"name": self.name, "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
        made = self.send("POST", f"{API}/model-versions/create", json=body)["model_version"]
        with self.known.lock:
            self.known.versions[self.name, int(made["version"])] = run["run_id"]

    def promote(self) -> None:
        def call(version):
            body = {"name": self.name, "version": version, "stage": "Production", "archive_existing_versions": True}
            self.send("POST", f"{API}/model-versions/transition-stage", json=body)

        self.move(self.known.production, call)

    def crown(self) -> None:
        def call(version):
            body = {"name": self.name, "alias": "champion", "version": version}
            self.send("POST", f"{API}/registered-models/alias", json=body)

        self.move(self.known.champion, call)

    def move(self, places: dict[str, set[int]], call) -> None:
        versions = self.known.made(self.name)
        if not versions:
            time.sleep(0.001)
            return
        version = self.rng.choice(versions)
        places[self.name].add(version)
        call(str(version))
        places[self.name] = {version}


def check(server: Server, known: Known, everything: bool, seen: set[tuple[str, int]]) -> None:
    """Compares what is there with what is known; what was `seen` already is read again only at the end."""
    session = requests.Session()

    def get(path: str, /, **query) -> requests.Response:
        return session.get(server.url + path, params=query, timeout=PATIENCE_S)

    def ok(path: str, /, **query) -> dict:
        answer = get(path, **query)
        assert answer.status_code == 200, f"{path} {query}: {answer.status_code} {answer.text}"
        return answer.json()

    def files_below(folder: str) -> set[str]:
        found = set()
        for file in ok(ARTIFACTS, path=folder).get("files", []):
            path = f"{folder}/{file['path']}"
            found |= files_below(path) if file["is_dir"] else {path}
        return found

    for name in NAMES:
        there = ok(f"{API}/model-versions/search", filter=f"name = '{name}'")
        versions = {int(version["version"]): version for version in there.get("model_versions", [])}
        missing = set(known.made(name)) - versions.keys()
        assert not missing, f"{name}: versions {missing} were acknowledged and are gone"
        for number, version in versions.items():
            made_of = known.versions.get((name, number))
            assert made_of in (None, version["run_id"]), f"{name}/{number} was made of another run"
            if (name, number) in seen and not everything:
                continue
            seen.add((name, number))
            uri = ok(f"{API}/model-versions/get-download-uri", name=name, version=str(number))["artifact_uri"]
            folder = uri.removeprefix("mlflow-artifacts:/")
            assert files_below(folder) == {f"{folder}/model.onnx", f"{folder}/data/notes"}, f"{name}/{number}"
            for path in files_below(folder):
                answer = get(f"{ARTIFACTS}/{path}")
                assert answer.status_code == 200 and answer.content == known.sent[path], f"{name}/{number}: {path}"
        in_production = {number for number, version in versions.items() if version["current_stage"] == "Production"}
        assert (in_production or {0}) <= known.production[name] and len(in_production) <= 1, (
            f"{name}: {in_production} in production, expected one of {known.production[name]}"
        )
        answer = get(f"{API}/registered-models/alias", name=name, alias="champion")
        champion = int(answer.json()["model_version"]["version"]) if answer.status_code == 200 else 0
        assert champion in known.champion[name], f"{name}: the champion is {champion}, expected one of {known.champion[name]}"
        # From here on it is certain.
        known.production[name], known.champion[name] = in_production or {0}, {champion}
    for path in sorted(known.stored):
        answer = get(f"{ARTIFACTS}/{path}")
        assert answer.status_code == 200 and answer.content == known.sent[path], f"{path} was acknowledged"
    known.stored.clear()
    session.close()


@pytest.fixture
def start(tmp_path):
    """start(): a server on what the one before has left; none stays, however the test ends."""
    started: list[Server] = []

    def anew() -> Server:
        started.append(Server(tmp_path, "--grpc", "off"))
        return started[-1]

    yield anew
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.wait()


def test_what_was_acknowledged_survives_a_kill(start):
    rng, known, seen = random.Random(SEED), Known(), set()
    server = start()
    for name in NAMES:
        assert server.post(f"{API}/registered-models/create", {"name": name}).status_code == 200
    for run in range(RUNS):
        enough, quota = threading.Event(), known.acknowledged + rng.randrange(1, 60)
        clients = [
            # The quick calls alone must not use the quota up: a version comes with each kill.
            Client(server.url, known, work, name, rng.random(), enough, quota, least=run + 1)
            for name in NAMES
            for work in (Client.push, Client.promote, Client.crown)
        ]
        assert enough.wait(PATIENCE_S), f"kill {run}: only {known.acknowledged} calls were answered\n{server.log()[-4000:]}"
        # Within a call rather than right behind an answer.
        time.sleep(rng.uniform(0, 0.02))
        server.process.kill()
        server.wait()
        for client in clients:
            client.thread.join(PATIENCE_S)
            assert not client.thread.is_alive(), f"kill {run}: a client waits for a server that is gone"
        assert not known.problems, f"kill {run}: {known.problems}"
        assert not server.errors(), f"kill {run}: {server.errors()}"
        server = start()
        check(server, known, run == RUNS - 1, seen)
    assert not server.errors()
    server.stop()
    assert len(known.versions) >= RUNS, f"only {len(known.versions)} versions were pushed"
