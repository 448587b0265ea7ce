"""Servers for the tests, and the rule that none of them may log an unannounced error."""

import shutil
from pathlib import Path

import pytest
from harness import DEMO, MODELS, RUNNING, Server
from mlflow_server import client, postgres, restart, tracking  # noqa: F401 (fixtures)
from perf_analyzer import Hung
from redis_server import redis  # noqa: F401 (fixture)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """start(*arguments of `salver serve`): a server that stops with the test or the module that started it."""
    yield from launcher(tmp_path_factory)


@pytest.fixture(scope="session")
def start_for_all(tmp_path_factory):
    """Like `start`, for servers that many modules ask: they stop at the end of the session."""
    yield from launcher(tmp_path_factory)


def launcher(tmp_path_factory):
    started: list[Server] = []

    def launch(*args: object, **options) -> Server:
        server = Server(tmp_path_factory.mktemp("server"), *args, **options)
        started.append(server)
        return server

    yield launch
    problems = []
    for server in started:
        if server.process.poll() is None:
            try:
                server.stop()
            except AssertionError as error:
                problems.append(str(error))
        elif server in RUNNING:
            problems.append(f"the server died with {server.process.returncode}\n{server.log()[-4000:]}")
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="session")
def triton(start_for_all) -> Server:
    """The Triton repository, as it was made for Triton."""
    return start_for_all(MODELS / "triton")


@pytest.fixture(scope="session")
def tfserving(start_for_all, tmp_path_factory) -> Server:
    """TF Serving's folders through a models.config."""
    return start_for_all(tf_config(tmp_path_factory.mktemp("tfserving")))


@pytest.fixture(scope="session")
def demo(start_for_all) -> Server:
    """The two demo models and the bare scikit-learn files; iris answers the routes without a name."""
    return start_for_all(
        DEMO / "iris", DEMO / "digits",
        MODELS / "sklearn" / "iris_ml.onnx", MODELS / "sklearn" / "strings.onnx",
        "--default-model", "iris",
    )


@pytest.fixture
def repository(tmp_path):
    """repository("a", "b"): a folder with copies of these models of the Triton repository."""

    def copy(*names: str) -> Path:
        for name in names:
            shutil.copytree(MODELS / "triton" / name, tmp_path / "repository" / name)
        return tmp_path / "repository"

    return copy


def tf_config(folder: Path) -> Path:
    text = (MODELS / "tfserving" / "models.config.template").read_text()
    path = folder / "models.config"
    path.write_text(text.replace("@BASE@", str(MODELS / "tfserving")))
    return path


def pytest_pyfunc_call(pyfuncitem):
    """A test of a tool that hangs now and then, by its own fault, is run again."""
    if pyfuncitem.get_closest_marker("tool_may_hang") is None:
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    for attempts_left in (2, 1, 0):
        try:
            pyfuncitem.obj(**arguments)
            return True
        except Hung:
            if not attempts_left:
                raise


@pytest.fixture(autouse=True)
def no_unannounced_errors(request):
    """A test fails when a server logs an ERROR, panics or dies meanwhile."""
    before = {id(server): len(server.errors()) for server in RUNNING}
    yield
    try:
        look_at_logs(request, before)
    finally:
        # What a test started itself, and no fixture of a wider scope, is over with the test: servers that
        # only wait cost each later test some of the machine.
        for server in [server for server in RUNNING if id(server) not in before]:
            server.stop()


def look_at_logs(request, before):
    marker = request.node.get_closest_marker("announced_errors")
    announced = marker.args if marker else ()
    for server in list(RUNNING):
        new = server.errors()[before.get(id(server), 0) :]
        surprising = [line for line in new if not any(text in line for text in announced)]
        died = server.process.poll() is not None
        if died:
            RUNNING.remove(server)  # reported once
        assert not surprising, "the server logged:\n" + "\n".join(surprising)
        assert not died, f"the server died with {server.process.returncode}\n{server.log()[-4000:]}"

