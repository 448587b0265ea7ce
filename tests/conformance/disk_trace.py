"""What a process does to a folder, call by call: recorded by strace, read back as events.

Nothing is guessed: a call that changes a file in a way not modelled here ends in an error, and so does
data that strace cut off. Files of shared memory (SQLite's -shm) are left out: they hold nothing that
outlives the processes that map them.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness import PATIENCE_S

_OPENING = "open openat openat2 creat"
_NAMING = "rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir truncate"
_WRITING = "write pwrite64 writev pwritev pwritev2 ftruncate fallocate lseek copy_file_range sendfile splice mmap"
_SYNCING = "fsync fdatasync sync_file_range sync syncfs"
_OTHERS = "close dup dup2 dup3 sendto sendmsg io_uring_setup"
CALLS = " ".join([_OPENING, _NAMING, _WRITING, _SYNCING, _OTHERS]).split()

_FD = re.compile(r"(\d+)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+)(.*)", re.S)


@dataclass(frozen=True)
class Event:
    """One call that came to its end, or the begin of a call that sends bytes to a client."""

    # "make", "mkdir", "write", "truncate", "sync", "rename", "link", "unlink", "rmdir" or "send".
    kind: str
    path: str = ""
    to: str = ""
    data: bytes = b""
    offset: int = 0

    def __repr__(self) -> str:
        size = f" {len(self.data)} bytes at {self.offset}" if self.kind == "write" else ""
        return f"{self.kind} {self.path}{size}{' to ' + self.to if self.to else ''}"


def why_not() -> str | None:
    """Says why nothing can be traced here, if so."""
    if shutil.which("strace") is None:
        return "no strace in the path (Debian: apt-get install strace)"
    with tempfile.TemporaryDirectory() as folder:
        command = [*tracer(Path(folder) / "trace"), "true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        return f"strace may not trace: {done.stderr.strip()}" if done.returncode else None


def tracer(to: Path) -> list[str]:
    """What stands before a command so that its calls are written to a file.

    The command stays the child of whoever starts it; strace is only beside it (-D).
    """
    options = ["-f", "-D", "-q", "-y", "-xx", "-s", str(64 << 20), "--seccomp-bpf", "-e", "signal=kill"]
    return ["strace", *options, "-e", f"trace={','.join(CALLS)}", "-o", str(to)]


def finished(trace: Path, pid: int) -> str:
    """Waits until the end of a process that has ended is in its trace."""
    end = time.monotonic() + PATIENCE_S
    while True:
        text = trace.read_text("ascii") if trace.exists() else ""
        if re.search(rf"^{pid} +\+\+\+ (exited|killed)", text, re.M):
            return text
        assert time.monotonic() < end, f"{trace} has no end"
        time.sleep(0.01)


def events(text: str, root: Path) -> list[Event]:
    """The events of one traced process that concern `root`, in the order in which the kernel was done with
    them; what is sent to clients counts from its begin, since it may arrive before the call returns."""
    return _Reader(str(root)).read(text)


class _Reader:
    def __init__(self, root: str):
        self.root = root
        self.events: list[Event] = []
        # By file descriptor; threads share them.
        self.flags: dict[int, str] = {}
        self.position: dict[int, int] = {}

    def read(self, text: str) -> list[Event]:
        begun: dict[str, str] = {}
        for line in text.splitlines():
            match = _LINE.match(line)
            pid, rest = match[1], match[2]
            if rest.startswith("+++"):
                continue
            if rest.endswith(" <unfinished ...>"):
                begun[pid] = rest.removesuffix(" <unfinished ...>")
                self._note_sending(begun[pid])
                continue
            if rest.startswith("<... "):
                rest = begun.pop(pid) + rest.split(" resumed>", 1)[1]
            else:
                self._note_sending(rest)
            call = _CALL.fullmatch(rest)
            if call is None:
                assert "= ?" in rest, f"not understood: {rest[:300]}"
                continue  # The process ended within the call.
            name, arguments, result = call[1], call[2], int(call[3], 0)
            if result >= 0:
                getattr(self, f"_{name}", self._other)(name, arguments, result)
        return self.events

    def _note_sending(self, call: str) -> None:
        """An answer on its way to a client: a call on a socket whose data begins like one."""
        name, _, arguments = call.partition("(")
        if name in ("write", "writev", "sendto", "sendmsg"):
            fd = _FD.match(arguments)
            if fd and _plain(fd[2]).startswith("socket:"):
                data = b"".join(_bytes(text) for text in _TEXT.finditer(arguments))
                self.events.append(Event("send", data=data))

    def _add(self, kind: str, path: str, **more) -> None:
        if not path.endswith("-shm"):
            self.events.append(Event(kind, path, **more))

    def _inside(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root + "/")

    def _file(self, arguments: str) -> tuple[int, str] | None:
        """The descriptor that is the first argument, if it leads to a file below the root that still has a name."""
        fd = _FD.match(arguments)
        if fd is None or fd[3] or not self._inside(_plain(fd[2])):
            return None
        return int(fd[1]), _plain(fd[2])

    def _paths(self, arguments: str) -> list[str]:
        """Every path among the arguments, each from where it counts."""
        found, base = [], None
        for part in re.finditer(rf"(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{{2}})*)>|{_TEXT.pattern}", arguments):
            if part[2] is None:
                base = _plain(part[1])
            else:
                found.append(os.path.normpath(os.path.join(base or "/", _plain(part[2]))))
        return found

    # One method for each call that is modelled.

    def _openat(self, name: str, arguments: str, result: int) -> None:
        path = self._paths(arguments)[-1]
        flags = arguments.rsplit('", ', 1)[1].split(", ")[0]
        self.flags[result], self.position[result] = flags, 0
        if not self._inside(path) or "O_CREAT" not in flags and "O_TRUNC" not in flags:
            return
        assert "O_TMPFILE" not in flags, arguments
        if "O_CREAT" in flags:
            self._add("make", path)
        if "O_TRUNC" in flags:
            self._add("truncate", path, offset=0)

    _open = _openat

    def _close(self, name: str, arguments: str, result: int) -> None:
        fd = int(arguments.split("<")[0])
        self.flags.pop(fd, None), self.position.pop(fd, None)

    def _lseek(self, name: str, arguments: str, result: int) -> None:
        self.position[int(arguments.split("<")[0])] = result

    def _write(self, name: str, arguments: str, result: int) -> None:
        if (file := self._file(arguments)) is None:
            return
        fd, path = file
        # Reads would move the position too, and they are not recorded.
        assert name == "pwrite64" or "O_APPEND" not in self.flags[fd], f"not modelled: {name} {path} {self.flags[fd]}"
        data = _bytes(_TEXT.search(arguments))[:result]
        if name == "pwrite64":
            offset = int(arguments.rsplit(", ", 1)[1])
        else:
            offset, self.position[fd] = self.position[fd], self.position[fd] + result
        self._add("write", path, data=data, offset=offset)

    _pwrite64 = _write

    def _ftruncate(self, name: str, arguments: str, result: int) -> None:
        if file := self._file(arguments):
            self._add("truncate", file[1], offset=int(arguments.rsplit(", ", 1)[1]))

    def _fsync(self, name: str, arguments: str, result: int) -> None:
        if file := self._file(arguments):
            self._add("sync", file[1])

    _fdatasync = _fsync

    def _rename(self, name: str, arguments: str, result: int) -> None:
        one, other = self._paths(arguments)
        if not self._inside(one) and not self._inside(other):
            return
        assert self._inside(one) and self._inside(other) and "RENAME_EXCHANGE" not in arguments, arguments
        self._add("link" if name.startswith("link") else "rename", one, to=other)

    _renameat = _renameat2 = _link = _linkat = _rename

    def _unlink(self, name: str, arguments: str, result: int) -> None:
        (path,) = self._paths(arguments)
        if self._inside(path):
            self._add("rmdir" if name == "rmdir" or "AT_REMOVEDIR" in arguments else "unlink", path)

    _unlinkat = _rmdir = _unlink

    def _mkdir(self, name: str, arguments: str, result: int) -> None:
        (path,) = self._paths(arguments)
        if self._inside(path):
            self._add("mkdir", path)

    _mkdirat = _mkdir

    def _other(self, name: str, arguments: str, result: int) -> None:
        """What is not modelled must not touch the folder, unless it changes nothing."""
        touched = [_plain(fd[2]) for fd in _FD.finditer(arguments)]
        if name in (*_OPENING.split(), *_NAMING.split()):
            touched += self._paths(arguments)
        changes = name != "mmap" or ("MAP_SHARED" in arguments and "PROT_WRITE" in arguments)
        inside = [path for path in touched if self._inside(path) and not path.endswith("-shm")]
        assert not (changes and inside), f"not modelled: {name} on {inside}"
        assert name not in ("io_uring_setup", "sync", "syncfs"), f"not modelled: {name}"


def _plain(text: str) -> str:
    return bytes.fromhex(text.replace("\\x", "")).decode()


def _bytes(text: re.Match) -> bytes:
    assert not text[2], "strace cut off what was written"
    return bytes.fromhex(text[1].replace("\\x", ""))
