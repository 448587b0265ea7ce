#!/usr/bin/env python3
"""The whole example in one command: makes an environment under target/, trains the model, serves it, asks.

`--stay` leaves the server running, for questions of your own: `python3 ask.py --server ADDRESS 3 4 5`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import one_command

WORK = one_command.TARGET / "examples-recommendations"


def main() -> None:
    options = one_command.parser(__doc__).parse_args()
    program = one_command.salver(options.salver)
    interpreter = one_command.environment(Path(options.env or WORK / "environment"), HERE / "requirements.txt")
    folder = WORK / "recommendations"
    subprocess.run([str(interpreter), str(HERE / "train.py"), str(folder)], check=True)
    shutil.rmtree(WORK / "data", ignore_errors=True)
    command = [program, "serve", str(folder), "--http", "127.0.0.1:0", "--grpc", "off", "--data", str(WORK / "data")]
    with one_command.serving(command, WORK / "server.log") as (server, address):
        one_command.wait_until_ready(address)
        subprocess.run([sys.executable, str(HERE / "ask.py"), "--server", address], check=True)
        if options.stay:
            one_command.stay(server, address)


if __name__ == "__main__":
    main()
