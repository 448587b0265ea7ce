#!/usr/bin/env python3
"""Shows a model in Python from beginning to end: `python3 examples/python/run.py sklearn`.

Makes an environment under target/ with what the example needs, makes the model, serves it, asks it
one question and prints the answer. `--stay` leaves the server running, for questions of your own.
"""

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import one_command

WORK = one_command.TARGET / "examples-python"
NAMES = sorted(path.parent.name for path in HERE.glob("*/question.json"))


def make(name: str, interpreter: Path) -> Path:
    """The folder of the model, with everything that is served."""
    folder = WORK / name / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in ("model.toml", "model.py"):
        if (HERE / name / file).exists():
            shutil.copy(HERE / name / file, folder)
    if (HERE / name / "make.py").exists():
        subprocess.run([str(interpreter), str(HERE / name / "make.py"), str(folder)], check=True)
    return folder


def serve_command(program: str, folder: Path, interpreter: Path) -> "list[str]":
    """What starts the server."""
    command = [program, "serve", str(folder), "--allow-python", "--python", str(interpreter), "--python-requirements", "ignore"]
    return [*command, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data", str(WORK / folder.name / "data")]


def log_of(name: str) -> Path:
    return WORK / name / "server.log"


def ask(address: str, name: str) -> dict:
    """The answer to the example's question; models load while the server listens already."""
    while True:
        try:
            return call(f"{address}/models/{name}/predict", (HERE / name / "question.json").read_bytes())
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            if error.code != 503 or is_failed(address, name):
                sys.exit(f"{error.code}: {text}\nthe log is {log_of(name)}")


def is_failed(address: str, name: str) -> bool:
    """Whether the model will not be there, however long one waits."""
    models = call(f"{address}/models")["models"]
    return any(model["name"] == name and model["state"] == "failed" for model in models)


def call(address: str, body: "bytes | None" = None) -> dict:
    request = urllib.request.Request(address, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def main() -> None:
    parser = one_command.parser(__doc__)
    parser.add_argument("name", choices=NAMES)
    options = parser.parse_args()
    name = options.name
    program = one_command.salver(options.salver)
    interpreter = one_command.environment(Path(options.env or WORK / name / "environment"), HERE / name / "requirements.txt")
    command = serve_command(program, make(name, interpreter), interpreter)
    with one_command.serving(command, log_of(name)) as (server, address):
        answer = ask(address, name)
        question = (HERE / name / "question.json").read_text().strip()
        print(f"curl {address}/models/{name}/predict -d '{question}'")
        print(json.dumps(answer))
        if options.stay:
            one_command.stay(server, address)


if __name__ == "__main__":
    main()
