#!/usr/bin/env python3
"""Shows a model in Python from beginning to end: `python3 examples/python/run.py sklearn`.

Makes an environment under target/ with what the example needs, makes the model, serves it, asks it
one question and prints the answer. `--stay` leaves the server running, for questions of your own.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "target"
NAMES = sorted(path.parent.name for path in HERE.glob("*/question.json"))


def environment(name: str, chosen: "str | None") -> Path:
    """The interpreter of a virtual environment with the packages of the example."""
    folder = Path(chosen or TARGET / "examples-python" / name / "environment").resolve()
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        print(f"making {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    needs = HERE / name / "requirements.txt"
    install = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(needs)]
    subprocess.run(install, check=True)
    return interpreter


def make(name: str, interpreter: Path) -> Path:
    """The folder of the model, with everything that is served."""
    folder = TARGET / "examples-python" / name / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in ("model.toml", "model.py"):
        if (HERE / name / file).exists():
            shutil.copy(HERE / name / file, folder)
    if (HERE / name / "make.py").exists():
        subprocess.run([str(interpreter), str(HERE / name / "make.py"), str(folder)], check=True)
    return folder


def salver(chosen: "str | None") -> str:
    """The program: the one that was named, the newest that was built here, or that of the PATH."""
    built = sorted(TARGET.glob("*/salver"), key=lambda path: path.stat().st_mtime)
    found = chosen or os.environ.get("SALVER_BIN") or (str(built[-1]) if built else shutil.which("salver"))
    if not found:
        sys.exit("there is no salver: cargo build --release, or name it with --salver")
    return found


def serve(program: str, folder: Path, interpreter: Path) -> "tuple[subprocess.Popen, str]":
    """The server and its address, once the model is there."""
    data = TARGET / "examples-python" / folder.name / "data"
    command = [program, "serve", str(folder), "--allow-python", "--python", str(interpreter), "--python-requirements", "ignore"]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--data", str(data)]
    log = log_of(folder.name)
    print(f"{' '.join(command)} 2> {log}", flush=True)
    with log.open("w") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    for line in server.stdout:
        found = re.match(r"http listening on (\S+)", line)
        if found:
            return server, f"http://{found[1]}"
    sys.exit(f"the server ended with {server.wait()}:\n{log.read_text()}")


def log_of(name: str) -> Path:
    return TARGET / "examples-python" / name / "server.log"


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--env", help="a virtual environment to use or make, instead of one under target/")
    parser.add_argument("--salver", help="the program; default: what was built here, else that of the PATH")
    parser.add_argument("--stay", action="store_true", help="leave the server running until Ctrl-C")
    options = parser.parse_args()
    program = salver(options.salver)
    interpreter = environment(options.name, options.env)
    server, address = serve(program, make(options.name, interpreter), interpreter)
    try:
        answer = ask(address, options.name)
        question = (HERE / options.name / "question.json").read_text().strip()
        print(f"curl {address}/models/{options.name}/predict -d '{question}'")
        print(json.dumps(answer))
        if options.stay:
            server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


if __name__ == "__main__":
    main()
