"""The tracking server that the tests of MLflow's REST interface talk to.

Salver on SQLite and on PostgreSQL; or, where SALVER_TEST_MLFLOW_URL names a server that runs already
(MLflow's own, for one), only that. Nothing here imports mlflow: most test runs do without it.
"""

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import requests
from harness import PATIENCE_S, Server

GIVEN = os.environ.get("SALVER_TEST_MLFLOW_URL", "").rstrip("/")
BACKENDS = ["given"] if GIVEN else ["sqlite", "postgres"]
API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"

# A failure shows at once, and nothing is sent to anybody else.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(PATIENCE_S)
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"


class Tracking:
    """The server's address, and requests that no client has touched."""

    def __init__(self, url: str, is_salver: bool):
        self.url = url
        self.is_salver = is_salver
        self.session = requests.Session()
        self._numbers = itertools.count(1)
        self._run = uuid.uuid4().hex[:8]

    def name(self, what: str) -> str:
        """A name that nothing else has, also on a server that has seen these tests before."""
        return f"{what}-{self._run}-{next(self._numbers)}"

    def send(self, method: str, path: str, **options) -> requests.Response:
        """Any request; the path counts from the root."""
        return self.session.request(method, self.url + path, timeout=PATIENCE_S, **options)

    def call(self, method: str, path: str, body: object = None, api: str = API) -> requests.Response:
        """One call of the interface: a query for GET, else a JSON body."""
        if method == "GET":
            return self.send(method, f"{api}/{path}", params=body)
        return self.send(method, f"{api}/{path}", json={} if body is None else body)

    def ok(self, method: str, path: str, body: object = None) -> dict:
        """The answer of a call that must succeed."""
        answer = self.call(method, path, body)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        assert answer.headers["content-type"].startswith("application/json")
        got = answer.json()
        assert isinstance(got, dict)
        return got

    def experiment(self, what: str = "experiment", **fields) -> str:
        return self.ok("POST", "experiments/create", {"name": self.name(what), **fields})["experiment_id"]

    def run(self, experiment: str, **fields) -> str:
        body = {"experiment_id": experiment, "start_time": 1, **fields}
        return self.ok("POST", "runs/create", body)["run"]["info"]["run_id"]

    def model(self, what: str = "model", **fields) -> str:
        name = self.name(what)
        self.ok("POST", "registered-models/create", {"name": name, **fields})
        return name


def refused(answer: requests.Response, status: int, *codes: str) -> dict:
    """Checks that a call was refused in MLflow's shape, with one of these codes."""
    assert answer.status_code == status, f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text}"
    error = answer.json()
    assert error["error_code"] in codes, error
    assert error["message"]
    return error


def missing(name: str, reason: str):
    """Skips loudly, or fails where nothing may be missing."""
    text = f"SKIPPED: {name}: {reason}"
    if os.environ.get("SALVER_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{name} is required here (SALVER_REQUIRE_SERVICES=1): {reason}", pytrace=False)
    pytest.skip(text)


class MlflowServer:
    """MLflow's own server, on a free port and a folder of its own; it hands out the files itself."""

    def __init__(self, folder: Path):
        for package in ("alembic", "flask", "graphene", "sqlalchemy"):
            if importlib.util.find_spec(package) is None:
                missing("MLflow's own server", f"no Python package {package}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "log"
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", 1,
            "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
            "--artifacts-destination", folder / "artifacts", "--serve-artifacts",
        ]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                list(map(str, command)), cwd=folder, env=environment | {"MLFLOW_DISABLE_TELEMETRY": "true"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        end = time.monotonic() + 2 * PATIENCE_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                pytest.fail(f"MLflow's server does not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=PATIENCE_S).status_code == 200
        except requests.ConnectionError:
            return False

    def stop(self) -> None:
        """Ends it with the processes that it has started, which are its group."""
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        try:
            self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Postgres:
    """A cluster of our own on a free port. It refuses to run as root, so root lends it another user."""

    def __init__(self, folder: Path, binaries: Path):
        self.binaries = binaries
        self.user = None
        folder.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            self.user = next((n for n in ("postgres", "nobody") if _has_user(n)), None)
            if self.user is None:
                raise RuntimeError("no user to run it as")
            shutil.chown(folder, self.user)
        self.folder = folder / "cluster"
        make = ("initdb", "-D", self.folder, "-U", "salver", "-A", "trust", "-E", "UTF8", "--no-sync")
        try:
            # Not the order of bytes: an order that relies on it by chance must fail here.
            self._call(*make, "--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8")
        except RuntimeError:
            self._call(*make)  # before PostgreSQL 15, or built without ICU
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # No Unix socket: its usual folder belongs to a cluster of the system.
        self.settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        self._start()

    def database(self) -> str:
        """The address of a database that is new."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "salver", name)
        return f"postgres://salver@127.0.0.1:{self.port}/{name}"

    def kill(self) -> None:
        """SIGKILL for the process that the others belong to; they notice by themselves."""
        os.kill(int((self.folder / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def start_again(self) -> None:
        """After `kill`: as soon as the last of the old processes has let go of the memory that they share."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._start()
            except RuntimeError:
                assert time.monotonic() < end, (self.folder / "log").read_text()[-4000:]
                time.sleep(0.1)

    def stop(self) -> None:
        self._call("pg_ctl", "-D", self.folder, "-w", "-m", "immediate", "stop")

    def _start(self) -> None:
        self._call("pg_ctl", "-D", self.folder, "-w", "-t", str(PATIENCE_S), "-l", self.folder / "log", "-o", self.settings, "start")

    def _call(self, program: str, *args: object) -> None:
        command = [str(self.binaries / program), *map(str, args)]
        # Files, not pipes: the server that pg_ctl starts would hold a pipe open.
        done = subprocess.run(command, user=self.user, group=_group(self.user), extra_groups=[] if self.user else None,
                              cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=2 * PATIENCE_S, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _group(user: str | None) -> int | None:
    return pwd.getpwnam(user).pw_gid if user else None


def _binaries() -> Path | None:
    """The newest PostgreSQL of the Debian layout, or the one in the path."""
    found = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda p: int(p.parent.name) if p.parent.name.isdigit() else 0)
    program = shutil.which("initdb")
    return Path(program).resolve().parent if program else None


@pytest.fixture(scope="session")
def postgres():
    binaries = _binaries()
    if binaries is None:
        missing("postgres", "no initdb in /usr/lib/postgresql/*/bin or the path (Debian: apt-get install postgresql)")
    # Not pytest's own folder: its parents are closed to other users.
    folder = Path("/tmp") / f"salver-postgres-{uuid.uuid4().hex[:8]}"
    cluster = None
    try:
        try:
            cluster = Postgres(folder, binaries)
        except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
            missing("postgres", str(error))
        yield cluster
    finally:
        if cluster:
            cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", params=BACKENDS)
def tracking(request, tmp_path_factory):
    """The server under test, with nothing in it when a module begins (except one that was given)."""
    if request.param == "given":
        yield Tracking(GIVEN, is_salver=False)
        return
    server = Server(tmp_path_factory.mktemp("tracking"), *_options(request))
    yield Tracking(server.url, is_salver=True)
    if server.process.poll() is None:
        server.stop()


def _options(request) -> list[object]:
    """The arguments of `salver serve` for the backend that the fixture is made for."""
    database = ["--database", request.getfixturevalue("postgres").database()] if request.param == "postgres" else []
    return ["--grpc", "off", *database]


@pytest.fixture(params=BACKENDS)
def restart(request, tmp_path):
    """restart(): a server of one test's own, started anew on what the one before has left."""
    if request.param == "given":
        pytest.skip("a server that was given is not restarted")
    options, running = _options(request), []

    def anew() -> Tracking:
        while running:
            running.pop().stop()
        running.append(Server(tmp_path, *options))
        return Tracking(running[0].url, is_salver=True)

    yield anew
    for server in running:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="module")
def client(tracking):
    """The unmodified client, for its own calls and for the fluent ones."""
    import mlflow

    mlflow.set_tracking_uri(tracking.url)
    mlflow.set_registry_uri(tracking.url)
    yield mlflow.MlflowClient(tracking.url, tracking.url)
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)
