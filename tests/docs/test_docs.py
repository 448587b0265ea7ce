"""Runs the commands of README.md and docs/*.md, and checks the outputs shown there.

A shell block after `<!-- run -->` is run from the repository's root with `salver` on the PATH and
must succeed. A text or JSON block right after it is its output: equal up to digits, identifiers
and white space (`SALVER_DOCS_UPDATE=1` writes the real output in). A block after `<!-- serve -->`
is one `salver serve …` command that runs in the background, on free ports, for the rest of the
page; the documented ports 8080 and 8081 are replaced by the real ones.
"""

import os
import pathlib
import re
import shlex
import signal
import subprocess
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("SALVER_BIN", ROOT / "target/debug/salver"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"<!-- (?P<kind>run|serve) -->\n```sh\n(?P<code>.*?)```\n(?:\n<!-- output -->\n```(?P<lang>\w*)\n(?P<output>.*?)```\n)?",
    re.S,
)


class Server:
    """One background server of a page."""

    def __init__(self, command, folder):
        words = shlex.split(command.strip())
        assert words[:2] == ["salver", "serve"], command
        self.errors = open(pathlib.Path(folder) / "server.log", "w+")
        arguments = [str(BINARY), *words[1:], "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data", folder]
        self.process = subprocess.Popen(
            arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        self.ports = {}
        while len(self.ports) < 2:
            line = self.process.stdout.readline()
            assert line, f"the server ended: {self.log()}"
            found = re.match(r"(http|grpc) listening on .*:(\d+)$", line.strip())
            if found:
                self.ports[found[1]] = found[2]
        self.wait_until_ready()

    def wait_until_ready(self):
        url = f"http://127.0.0.1:{self.ports['http']}/v2/health/ready"
        check = ["curl", "-sf", "--retry", "50", "--retry-delay", "0", "--retry-all-errors", "-o", "/dev/null", url]
        subprocess.run(check, check=True)

    def log(self):
        self.errors.seek(0)
        return self.errors.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=60) == 0, self.log()


def execute(code, ports, folder):
    code = code.replace(":8080", f":{ports.get('http', '8080')}").replace(":8081", f":{ports.get('grpc', '8081')}")
    bin_folder = pathlib.Path(folder) / "bin"
    bin_folder.mkdir(exist_ok=True)
    link = bin_folder / "salver"
    if not link.exists():
        link.symlink_to(BINARY)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "SALVER_SERVER": f"http://127.0.0.1:{ports.get('http', '8080')}",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def shape_of(text):
    """What must stay equal: words and structure, not figures, ids or column widths."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text)
    text = re.sub(r"-?\d+(\.\d+)?(e-?\d+)?( ?(ns|µs|us|ms|s|MiB|KiB|kB|MB|GB)\b)?", "N", text)
    text = re.sub(r"[─━═╌┄-]{3,}", "---", text)
    return re.sub(r"\s+", " ", text).strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_as_shown(page):
    text = page.read_text()
    updated, server = text, None
    with tempfile.TemporaryDirectory() as folder:
        try:
            for block in BLOCK.finditer(text):
                code, output = block["code"], block["output"]
                if block["kind"] == "serve":
                    if server:
                        server.stop()
                    server = Server(code, folder)
                    continue
                done = execute(code, server.ports if server else {}, folder)
                assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
                if output is None:
                    continue
                shown = done.stdout
                for name, port in (server.ports if server else {}).items():
                    shown = shown.replace(f":{port}", {"http": ":8080", "grpc": ":8081"}[name])
                if os.environ.get("SALVER_DOCS_UPDATE"):
                    updated = updated.replace(f"```{block['lang']}\n{output}```", f"```{block['lang']}\n{shown.rstrip()}\n```", 1)
                else:
                    assert shape_of(shown) == shape_of(output), code
        finally:
            if server:
                server.stop()
    if updated != text:
        page.write_text(updated)
