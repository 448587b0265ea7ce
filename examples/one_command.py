"""What the examples of one command share: an environment, the program, and a server for as long as one asks it."""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "target"


def parser(doc: str) -> argparse.ArgumentParser:
    """The options that all of them have."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--env", help="a virtual environment to use or make, instead of one under target/")
    made.add_argument("--salver", help="the program; default: what was built here, else that of the PATH")
    made.add_argument("--stay", action="store_true", help="leave the server running until Ctrl-C")
    return made


def environment(folder: Path, requirements: Path) -> Path:
    """The interpreter of a virtual environment with the packages of the example."""
    folder = folder.resolve()
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        print(f"making {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-r", str(requirements)], check=True)
    return interpreter


def salver(chosen: "str | None") -> str:
    """The program: the one that was named, the newest that was built here, or that of the PATH."""
    built = sorted(TARGET.glob("*/salver"), key=lambda path: path.stat().st_mtime)
    found = chosen or os.environ.get("SALVER_BIN") or (str(built[-1]) if built else shutil.which("salver"))
    if not found:
        sys.exit("there is no salver: cargo build --release, or name it with --salver")
    return found


@contextlib.contextmanager
def serving(command: "list[str]", log: Path, extra: "dict[str, str] | None" = None) -> "Iterator[tuple[subprocess.Popen, str]]":
    """The server and its address, until it listens no more. `extra` are environment variables of its own."""
    print(f"{' '.join(command)} 2> {log}", flush=True)
    with log.open("w") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **(extra or {})})
    try:
        yield server, address_of(server, log)
    except KeyboardInterrupt:
        pass
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def address_of(server: subprocess.Popen, log: Path) -> str:
    for line in server.stdout:
        found = re.match(r"http listening on (\S+)", line)
        if found:
            return f"http://{found[1]}"
    sys.exit(f"the server ended with {server.wait()}:\n{log.read_text()}")


def wait_until_ready(address: str) -> None:
    """Models load while the server listens already."""
    while True:
        with urllib.request.urlopen(f"{address}/models", timeout=60) as reply:
            models = json.load(reply)["models"]
        for model in models:
            if model["state"] == "failed":
                sys.exit(f"model {model['name']} is not served: {model['reason']}")
        if models and all(model["state"] == "ready" for model in models):
            return
        time.sleep(0.05)


def stay(server: subprocess.Popen, address: str) -> None:
    """Leaves the server running for as long as somebody wants it."""
    print(f"the server stays at {address}; Ctrl-C ends it", flush=True)
    server.wait()
