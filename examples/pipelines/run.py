#!/usr/bin/env python3
"""One pipeline from beginning to end, in one command: `python3 examples/pipelines/run.py digits`.

Makes an environment under target/, trains and writes the models, serves them, asks and prints the answers.
`--stay` leaves the server running, for questions of your own: `python3 NAME/ask.py --server ADDRESS`.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import one_command
import store

WORK = one_command.TARGET / "examples-pipelines"
NAMES = sorted(path.parent.name for path in HERE.glob("*/make.py"))


def make(name: str, interpreter: Path) -> Path:
    """The folder with all models of the pipeline."""
    folder = WORK / name / "models"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / name / "models", folder)
    subprocess.run([str(interpreter), str(HERE / name / "make.py"), str(folder)], check=True)
    return folder


def main() -> None:
    parser = one_command.parser(__doc__)
    parser.add_argument("name", choices=NAMES)
    options = parser.parse_args()
    work = WORK / options.name
    program = one_command.salver(options.salver)
    needs_store = (HERE / options.name / "models" / "users").exists()
    if needs_store:
        store.check_installed()
    interpreter = one_command.environment(Path(options.env or WORK / "environment"), HERE / "requirements.txt")
    folder = make(options.name, interpreter)
    shutil.rmtree(work / "data", ignore_errors=True)
    command = [program, "serve", str(folder), "--http", "127.0.0.1:0", "--grpc", "off", "--data", str(work / "data")]
    with contextlib.ExitStack() as opened:
        if needs_store:
            redis = opened.enter_context(store.running(Path(opened.enter_context(tempfile.TemporaryDirectory()))))
            store.load(redis, work / "models" / "features.jsonl")
            command += ["--feature-store", redis]
        server, address = opened.enter_context(one_command.serving(command, work / "server.log"))
        one_command.wait_until_ready(address)
        subprocess.run([sys.executable, str(HERE / options.name / "ask.py"), "--server", address], check=True)
        if options.stay:
            one_command.stay(server, address)


if __name__ == "__main__":
    main()
