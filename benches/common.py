"""What the measurements share: a server as a child process, `salver bench`, memory, spreads.

Ports are free ones, everything that is written lies in a temporary folder, and a child that dies
or an answer that fails ends the measurement with what was said.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
IRIS = ROOT / "examples/demo/iris"

# What is shown in place of long paths, so that commands can be read and repeated from the root.
BINARY = pathlib.Path(os.environ.get("SALVER_BIN", ROOT / "target/release/salver"))


# Commands that were run, as people would type them, each once. The report prints them.
commands = []


def show(command):
    """A command line as a person would type it in the repository's root."""
    text = shlex.join(str(part) for part in command)
    text = text.replace(str(BINARY), "salver").replace(f"{ROOT}/", "")
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8080", text)


def record(command):
    """Notes a command for the report."""
    if (shown := show(command)) not in commands:
        commands.append(shown)


# Reads the clock for five seconds and prints the gaps of more than 0.2 ms.
SPIN = """
import time
end = time.perf_counter() + 5
last, gaps = time.perf_counter(), []
while last < end:
    now = time.perf_counter()
    if now - last > 2e-4:
        gaps.append(now - last)
    last = now
print(sum(gaps) / 5, max(gaps, default=0))
"""


def stalls():
    """How much of its time an idle machine does not run what is ready, and for how long at most."""
    spins = [subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) for _ in range(os.cpu_count())]
    found = [tuple(float(part) for part in spin.communicate()[0].split()) for spin in spins]
    return sum(share for share, _ in found) / len(found), max(worst for _, worst in found)


class Failed(Exception):
    """A measurement that cannot be trusted or made."""


# --- The server ---------------------------------------------------------------------------------


class Process:
    """A child process that is stopped at the end; its output goes to a file that failures quote."""

    def __init__(self, command, **options):
        self.command = [str(part) for part in command]
        self.folder = tempfile.TemporaryDirectory(prefix="salver-bench-")
        self.log = pathlib.Path(self.folder.name, "log")
        with self.log.open("w") as log:
            self.child = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **options
            )
        self.pid = self.child.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                pass
        # Workers that outlive the one that started them belong to its session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.child.wait()
        with contextlib.suppress(OSError):
            self.folder.cleanup()

    def said(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:])

    def wait(self, is_there, what, seconds=120):
        """Waits until `is_there` returns something, and returns that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.child.poll() is not None:
                raise Failed(f"{show(self.command)} ended with status {self.child.returncode}:\n{self.said()}")
            if found := is_there():
                return found
            time.sleep(0.02)
        raise Failed(f"{show(self.command)}: {what} not there after {seconds} s:\n{self.said()}")


class Salver(Process):
    """`salver serve` on free ports, ready when entered."""

    def __init__(self, *arguments, ready=True):
        self.data = tempfile.TemporaryDirectory(prefix="salver-data-")
        record([BINARY, "serve", *arguments])
        ports = ["--http", "127.0.0.1:0", "--grpc", "off"]
        super().__init__([BINARY, "serve", *arguments, *ports, "--data", self.data.name, "--log-level", "warn"])
        try:
            self.port = self.wait(self.find_port, "the line with its port")
            if ready:
                self.wait(lambda: status_of(self.port, "/v2/health/ready") == 200, "readiness")
        except BaseException:
            self.stop()
            raise

    def find_port(self):
        match = re.search(r"http listening on .*:(\d+)", self.log.read_text(errors="replace"))
        return match and int(match[1])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self):
        super().stop()
        self.data.cleanup()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status_of(port, path):
    """The status of a GET, or None where nobody answers."""
    try:
        return ask(port, "GET", path)[0]
    except (OSError, http.client.HTTPException):
        return None


def ask(port, method, path, body=None, timeout=60):
    """One request on a connection of its own: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


class Caller:
    """A connection that stays open, for many requests of one thread."""

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url)
        self.connection = None

    def post(self, path, body, headers=None):
        """Status, headers and body of one request. Broken connections are errors, not retried."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=120)
        try:
            self.connection.request("POST", path, body, {"content-type": "application/json", **(headers or {})})
            reply = self.connection.getresponse()
            return reply.status, reply.headers, reply.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


# --- The load generator -------------------------------------------------------------------------


def bench(*arguments, errors=False):
    """Runs `salver bench … --json` and returns what it prints. Calls that failed make it fail,
    unless they are to be counted by the caller (`errors`)."""
    command = [str(part) for part in (BINARY, "bench", *arguments)]
    record(command)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    if done.returncode != 0 and not (errors and done.stdout):
        raise Failed(f"{show(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


# --- Memory -------------------------------------------------------------------------------------


def memory(pid):
    """Resident memory of a process, its peak, and the part that is its own, in MB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    kilobytes = {key: int(value) for key, value in re.findall(r"(\w+):\s+(\d+) kB", status)}
    return {
        "resident": kilobytes["VmRSS"] * 1024 / 1e6,
        "peak": kilobytes["VmHWM"] * 1024 / 1e6,
        "own": kilobytes["RssAnon"] * 1024 / 1e6,
    }


class MemoryLog:
    """Samples the resident memory of a process in a thread: (seconds since the start, MB)."""

    def __init__(self, pid, interval=0.25):
        self.pid, self.interval, self.samples = pid, interval, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.begin = time.monotonic()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def run(self):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError):
            while not self.over.wait(self.interval):
                self.samples.append((time.monotonic() - self.begin, memory(self.pid)["resident"]))


# --- Processor time -----------------------------------------------------------------------------

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """Processor time that a process has used so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Others:
    """How many cores everybody else used between two moments: what the machine was busy with, less
    what this script and its children took. Children count once they have ended."""

    def __init__(self):
        self.begin, self.busy, self.own = time.monotonic(), self.machine(), self.ours()

    @staticmethod
    def machine():
        """Seconds in which a core worked, or was taken away by the host."""
        user, nice, system, _idle, _wait, irq, soft, steal = map(
            int, pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        )
        return (user + nice + system + irq + soft + steal) / TICKS

    @staticmethod
    def ours():
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in used)

    def cores(self):
        seconds = max(time.monotonic() - self.begin, 1e-9)
        return max(0.0, (self.machine() - self.busy - (self.ours() - self.own)) / seconds)


# --- Figures ------------------------------------------------------------------------------------


class Spread:
    """Median, quartiles and range of some values."""

    def __init__(self, values):
        if not values:
            raise Failed("nothing was measured")
        self.values = sorted(values)
        self.n, self.min, self.max = len(values), min(values), max(values)
        self.median = statistics.median(values)
        self.lower, self.upper = self.at(0.25), self.at(0.75)

    def at(self, quantile):
        place = quantile * (self.n - 1)
        below, above = self.values[int(place)], self.values[min(int(place) + 1, self.n - 1)]
        return below + (above - below) * (place % 1)

    def text(self, digits=3):
        def number(value):
            return f"{value:,.{digits}f}"

        if self.n == 1:
            return number(self.median)
        return (
            f"{number(self.median)} (quartiles {number(self.lower)} to {number(self.upper)}, "
            f"range {number(self.min)} to {number(self.max)}, n={self.n})"
        )


def note(text):
    """Says on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)


# --- Files --------------------------------------------------------------------------------------


def environment(name, requirements):
    """The interpreter of a virtual environment under target/, made anew when its pins change."""
    folder = ROOT / "target" / name
    interpreter, complete = folder / "bin/python", folder / "complete"
    pins = requirements.read_text()
    if not (complete.exists() and complete.read_text() == pins):
        note(f"making {folder.relative_to(ROOT)} of {requirements.relative_to(ROOT)}")
        install = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
        for command in ([sys.executable, "-m", "venv", "--clear", folder], install):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Failed(f"{show(command)}:\n{done.stderr.strip()[-2000:]}")
        complete.write_text(pins)
    return interpreter


def use_environment():
    """Runs this script again in the environment with NumPy and ONNX Runtime, unless it is there."""
    interpreter = environment("bench-venv", ROOT / "benches/models/requirements.txt")
    if pathlib.Path(sys.prefix).resolve() != interpreter.parent.parent.resolve():
        os.execv(interpreter, [str(interpreter), *sys.argv])


def models(kind, count=None):
    """The folder of the models of one kind (`many`: of `count` or more), made where it is not there."""
    folder = ROOT / "target/bench-models" / kind
    made = [ROOT / "benches/models/make.py", kind, *(["--count", count] if count else [])]
    record(made)
    if kind == "many":
        file = folder.with_suffix(".json")
        is_there = file.exists() and len(json.loads(file.read_text())["y"]) >= count
    else:
        is_there = (folder / "model.onnx").exists()
    if not is_there:
        note(f"making {folder.relative_to(ROOT)}")
        subprocess.run([sys.executable, *map(str, made)], check=True, stdout=sys.stderr)
    return folder


def scratch(name):
    """An empty folder under target/."""
    folder = ROOT / "target/bench-work" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def variant(model, name, settings):
    """A copy of a model's folder with other settings in its model.toml."""
    folder = scratch(name) / model.name
    shutil.copytree(model, folder)
    with (folder / "model.toml").open("a") as file:
        file.write(settings)
    return folder
