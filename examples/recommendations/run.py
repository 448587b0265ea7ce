#!/usr/bin/env python3
"""The whole example in one command: makes an environment under target/, trains the model, serves it, asks.

`--stay` leaves the server running, for questions of your own: `python3 ask.py --server ADDRESS 3 4 5`.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "target"
WORK = TARGET / "examples-recommendations"


def environment(chosen: "str | None") -> Path:
    """The interpreter of a virtual environment with the packages of the example."""
    folder = Path(chosen or WORK / "environment").resolve()
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        print(f"making {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-r", str(HERE / "requirements.txt")], check=True)
    return interpreter


def salver(chosen: "str | None") -> str:
    """The program: the one that was named, the newest that was built here, or that of the PATH."""
    built = sorted(TARGET.glob("*/salver"), key=lambda path: path.stat().st_mtime)
    found = chosen or os.environ.get("SALVER_BIN") or (str(built[-1]) if built else shutil.which("salver"))
    if not found:
        sys.exit("there is no salver: cargo build --release, or name it with --salver")
    return found


def serve(program: str, folder: Path) -> "tuple[subprocess.Popen, str]":
    """The server and its address, once the model is there."""
    shutil.rmtree(WORK / "data", ignore_errors=True)
    command = [program, "serve", str(folder), "--http", "127.0.0.1:0", "--grpc", "off", "--data", str(WORK / "data")]
    log = WORK / "server.log"
    print(f"{' '.join(command)} 2> {log}", flush=True)
    with log.open("w") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    for line in server.stdout:
        found = re.match(r"http listening on (\S+)", line)
        if found:
            return server, f"http://{found[1]}"
    sys.exit(f"the server ended with {server.wait()}:\n{log.read_text()}")


def wait_until_ready(address: str) -> None:
    """Models load while the server listens already."""
    while True:
        with urllib.request.urlopen(f"{address}/models") as reply:
            state = {model["name"]: model for model in json.load(reply)["models"]}.get("recommendations", {})
        if state.get("state") == "ready":
            return
        if state.get("state") == "failed":
            sys.exit(f"the model is not served: {state['reason']}")
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", help="a virtual environment to use or make, instead of one under target/")
    parser.add_argument("--salver", help="the program; default: what was built here, else that of the PATH")
    parser.add_argument("--stay", action="store_true", help="leave the server running until Ctrl-C")
    options = parser.parse_args()
    program = salver(options.salver)
    interpreter = environment(options.env)
    folder = WORK / "recommendations"
    subprocess.run([str(interpreter), str(HERE / "train.py"), str(folder)], check=True)
    server, address = serve(program, folder)
    try:
        wait_until_ready(address)
        subprocess.run([sys.executable, str(HERE / "ask.py"), "--server", address], check=True)
        if options.stay:
            server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


if __name__ == "__main__":
    main()
