"""Runs the commands of README.md and docs/*.md, and holds what the pages say against the program.

A shell block after `<!-- run -->` is run from the repository's root with `salver` on the PATH and
must succeed. A text or JSON block right after it is its output: words must be equal, figures equal
up to rounding, identifiers, times and durations may be any (`SALVER_DOCS_UPDATE=1` writes the real output
in). A block after `<!-- serve -->` is one `salver serve …` command that runs in the background, on
free ports, until the next one or the end of the page; the documented ports 8080 and 8081 are
replaced by the real ones. A block after `<!-- file PATH -->` shows that file.
"""

import html
import json
import math
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("SALVER_BIN", ROOT / "target/debug/salver"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted(path for path in (ROOT / "examples/clients").iterdir() if path.suffix in (".py", ".sh"))
UPDATE = bool(os.environ.get("SALVER_DOCS_UPDATE"))
BLOCK = re.compile(
    r"<!-- (?P<kind>run|serve|file (?P<path>\S+)) -->\n```\w+\n(?P<code>.*?)```\n"
    r"(?:\n<!-- output -->\n```\w*\n(?P<output>.*?)```\n)?",
    re.S,
)
PLACES = ("SALVER_CACHE", "SALVER_SERVER")  # where things are; other variables would be settings


def environment(**more):
    """The environment without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SALVER_") or name in PLACES}
    return {**kept, **more}


class Server:
    """One background server."""

    def __init__(self, arguments, folder):
        self.errors = open(pathlib.Path(folder) / "server.log", "w+")
        self.process = subprocess.Popen(
            [BINARY, "serve", *arguments, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data", folder],
            cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=self.errors, text=True,
        )
        try:
            self.ports = {}
            while len(self.ports) < 2:
                line = self.process.stdout.readline()
                assert line, f"the server ended: {self.log()}"
                found = re.match(r"(http|grpc) listening on .*:(\d+)$", line.strip())
                if found:
                    self.ports[found[1]] = found[2]
            self.url = f"http://127.0.0.1:{self.ports['http']}"
            self.wait_until_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def wait_until_ready(self):
        check = ["curl", "-sf", "--retry", "50", "--retry-delay", "0", "--retry-all-errors", "-o", "/dev/null"]
        done = subprocess.run([*check, f"{self.url}/v2/health/ready"])
        assert done.returncode == 0, self.log()

    def log(self):
        self.errors.seek(0)
        return self.errors.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(timeout=60) == 0, self.log()
        finally:
            self.process.kill()
            self.errors.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The server that the examples are for."""
    arguments = ["examples/demo/iris", "examples/demo/digits", "--default-model", "iris"]
    server = Server(arguments, tmp_path_factory.mktemp("demo"))
    yield server
    server.stop()


def execute(code, server, folder):
    """Runs a block in a shell and returns its output with the documented ports."""
    names = {"8080": server.ports["http"], "8081": server.ports["grpc"]} if server else {}
    for documented, real in names.items():
        code = re.sub(rf":{documented}\b", f":{real}", code)
    bin_folder = pathlib.Path(folder) / "bin"
    bin_folder.mkdir(exist_ok=True)
    link = bin_folder / "salver"
    if not link.exists():
        link.symlink_to(BINARY)
    path = f"{bin_folder}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = environment(PATH=path, COLUMNS="100", NO_COLOR="1", PYTHONDONTWRITEBYTECODE="1")
    if server:
        variables["SALVER_SERVER"] = server.url
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    shown = done.stdout
    for documented, real in names.items():
        shown = re.sub(rf":{real}\b", f":{documented}", shown)
    return shown.rstrip() + "\n"


NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.])")


def words_and_numbers(text):
    """What two outputs are compared by: words without column widths, and the numbers between them."""
    text = re.sub(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "ID", text)
    text = re.sub(r"\b\d{4}-\d\d-\d\dT[\d:.]+Z", "WHEN", text)
    text = re.sub(r"\d+(\.\d+)? ?(ns|µs|us|ms|s)\b", "TIME", text)
    text = re.sub(r"[─━═╌┄-]{3,}", "---", text)
    text = re.sub(r"\s+", " ", text).strip()
    return NUMBER.sub("N", text), [float(number) for number in NUMBER.findall(text)]


def check_output(shown, documented, code):
    (words, numbers), (expected, figures) = words_and_numbers(shown), words_and_numbers(documented)
    assert words == expected, code
    for number, figure in zip(numbers, figures, strict=True):
        assert math.isclose(number, figure, rel_tol=1e-2, abs_tol=1e-5), f"{number} is not {figure}: {code}\n{shown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_as_shown(page):
    text = page.read_text()
    updated, written, server = [], 0, None

    def replace(block, group, new):
        nonlocal written
        updated.append(text[written : block.start(group)] + new)
        written = block.end(group)

    with tempfile.TemporaryDirectory() as folder:
        try:
            for block in BLOCK.finditer(text):
                code, output = block["code"], block["output"]
                if block["path"]:
                    real = (ROOT / block["path"]).read_text()
                    replace(block, "code", real)
                    assert UPDATE or code == real, f"{block['path']} differs from what {page.name} shows"
                elif block["kind"] == "serve":
                    words = shlex.split(code)
                    assert words[:2] == ["salver", "serve"], code
                    if server:
                        server.stop()
                    server = Server(words[2:], folder)
                else:
                    shown = execute(code, server, folder)
                    if output is None:
                        continue
                    replace(block, "output", shown)
                    if not UPDATE:
                        check_output(shown, output, code)
        finally:
            if server:
                server.stop()
    if UPDATE:
        page.write_text("".join(updated) + text[written:])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs_and_recognises_the_flowers(example, demo):
    command = [sys.executable, example] if example.suffix == ".py" else [example]
    variables = environment(SALVER_SERVER=demo.url, PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    expected = {"triton_http.py": r"digit 1 with"}.get(example.name, r"0\.9[78]")
    assert re.search(expected, done.stdout), done.stdout


def test_every_example_is_described():
    described = (ROOT / "examples/clients/README.md").read_text()
    assert EXAMPLES and all(f"`{example.name}`" in described for example in EXAMPLES)


def test_the_page_for_browsers_shows_commands_that_work(tmp_path):
    server = Server(["examples/demo/iris", "tests/models/triton", "tests/models/sklearn"], tmp_path)
    try:
        page = requests.get(server.url, headers={"Accept": "text/html"}, timeout=10).text
        commands = [html.unescape(command) for command in re.findall(r"<pre><code>(.*?)</code></pre>", page)]
        models = requests.get(f"{server.url}/models", timeout=10).json()["models"]
        assert len(commands) == len(models) > 10
        for command in commands:
            answer = json.loads(execute(f"{command} -sS", server, tmp_path))
            assert "predictions" in answer or "outputs" in answer, f"{command}\n{answer}"
    finally:
        server.stop()


def test_every_metric_is_documented_and_no_other(tmp_path):
    shutil.copytree(ROOT / "examples/demo/iris", tmp_path / "iris")
    with open(tmp_path / "iris/model.toml", "a") as manifest:
        manifest.write("\n[cache]\nttl_s = 60\n")  # Some metrics are those of a cached model.
    features = re.search(r"```toml\n(engine = .*?)```", (ROOT / "docs/features.md").read_text(), re.S)[1]
    (tmp_path / "users").mkdir()
    (tmp_path / "users/model.toml").write_text(features)  # Others are those of a model that looks features up.
    (tmp_path / "writer").mkdir()
    remote = 'engine = "http"\n[remote]\napi = "openai-chat"\nurl = "http://127.0.0.1:1/v1"\n'
    (tmp_path / "writer/model.toml").write_text(remote)  # And those of a model that another server answers for.
    models = [tmp_path / name for name in ("iris", "users", "writer")]
    server = Server([*models, "--feature-store", "redis://127.0.0.1:1", "--remote-allow", "127.0.0.1"], tmp_path)
    try:
        text = requests.get(f"{server.url}/metrics", timeout=10).text
    finally:
        server.stop()
    documented = set(re.findall(r"^\| `((?:ml|salver|process)_\w+)", (ROOT / "docs/operations.md").read_text(), re.M))
    types = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)
    assert documented == {name + ("_total" if kind == "counter" else "") for name, kind in types}


def test_the_table_of_limits_is_the_programs_own():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (ROOT / "docs/configuration.md").read_text(), re.M)
    done = subprocess.run([BINARY, "config"], env=environment(), cwd=ROOT, capture_output=True, text=True, check=True)
    settings = dict(line.split()[:2] for line in done.stdout.splitlines() if len(line.split()) == 3)
    assert rows and {name: settings[name] for name, _ in rows} == dict(rows)
    limits = settings.keys() & {name for name in settings if re.search("limit|max_|timeout|rate|grace", name)}
    assert limits - {"max_queue"} <= dict(rows).keys() | {"max_queue"}, "a limit is missing in docs/configuration.md"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "examples/clients/README.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page):
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing
