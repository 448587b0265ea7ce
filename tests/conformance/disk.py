"""A folder on a disk that may lose what nobody has synced: calls are replayed, and at each moment it says
what a crash could leave.

The rules are those of POSIX, which promise less than most file systems keep: bytes of a file last once
the file was synced, a name lasts once its folder was, and what was not synced may be there in any part.
"""

import posixpath
import random
from dataclasses import dataclass, field

from disk_trace import Event

SECTOR = 512

# A folder's files by their path from its root; a folder in it is a path that ends with a slash.
Image = dict[str, bytes]


@dataclass(eq=False)
class File:
    """Its bytes, those that are safe, and what came since: (number of the event, offset, bytes or None to cut)."""

    data: bytearray = field(default_factory=bytearray)
    safe: bytes = b""
    unsafe: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    # `data`, until the next write.
    frozen: bytes | None = b""

    def now(self) -> bytes:
        if self.frozen is None:
            self.frozen = bytes(self.data)
        return self.frozen

    def change(self, number: int, offset: int, data: bytes | None) -> None:
        _apply(self.data, offset, data)
        self.unsafe.append((number, offset, data))
        self.frozen = None

    def sync(self) -> None:
        self.safe, self.unsafe = self.now(), []


@dataclass(eq=False)
class Folder:
    """Its entries, those that are safe, and what came since: (number of the event, name, entry or None)."""

    entries: dict[str, "File | Folder"] = field(default_factory=dict)
    safe: dict[str, "File | Folder"] = field(default_factory=dict)
    unsafe: list[tuple[int, str, "File | Folder | None"]] = field(default_factory=list)

    def change(self, number: int, name: str, entry: "File | Folder | None") -> None:
        _set(self.entries, name, entry)
        self.unsafe.append((number, name, entry))

    def sync(self) -> None:
        self.safe, self.unsafe = dict(self.entries), []


class Disk:
    """What is below `root`, which is there from the beginning and stays."""

    def __init__(self, root: str):
        self.root = root
        self.top = Folder()
        self.n_events = 0

    def apply(self, event: Event) -> bool:
        """Replays one event; whether it changed anything that a crash could tell."""
        self.n_events += 1
        number = self.n_events
        match event.kind:
            case "make":
                folder, name = self._place(event.path)
                if name in folder.entries:
                    return False
                folder.change(number, name, File())
            case "mkdir":
                folder, name = self._place(event.path)
                folder.change(number, name, Folder())
            case "write":
                self._find(event.path).change(number, event.offset, event.data)
            case "truncate":
                self._find(event.path).change(number, event.offset, None)
            case "sync":
                self._find(event.path).sync()
            case "rename" | "link":
                (source, one), (target, other) = self._place(event.path), self._place(event.to)
                target.change(number, other, source.entries[one])
                if event.kind == "rename":
                    source.change(number, one, None)
            case "unlink" | "rmdir":
                folder, name = self._place(event.path)
                folder.change(number, name, None)
            case _:
                return False
        return True

    # What may be there after a crash

    def kept(self) -> Image:
        """The process ended: all that the kernel took is there."""
        return _image(self.top, lambda folder: folder.entries, File.now)

    def synced(self) -> Image:
        """The power went, and nothing was written early."""
        return _image(self.top, lambda folder: folder.safe, lambda file: file.safe)

    def named(self) -> Image:
        """The power went; names were written early, bytes were not."""
        return _image(self.top, lambda folder: folder.entries, lambda file: file.safe)

    def torn(self, seed: object) -> Image:
        """The power went; of what was not synced, some is there, writes also in part."""
        chance = lambda number: random.Random(f"{seed}/{number}")  # noqa: E731

        def entries(folder: Folder) -> dict:
            kept = dict(folder.safe)
            for number, name, entry in folder.unsafe:
                # The same for both folders of a rename.
                if chance(number).random() < 0.5:
                    _set(kept, name, entry)
            return kept

        def data(file: File) -> bytes:
            kept = bytearray(file.safe)
            for number, offset, data in file.unsafe:
                rng = chance(number)
                if rng.random() < 0.5:
                    if data and rng.random() < 0.25:
                        data = data[: rng.randrange(0, len(data), SECTOR)]
                    _apply(kept, offset, data)
            return bytes(kept)

        return _image(self.top, entries, data)

    def _place(self, path: str) -> tuple[Folder, str]:
        parent, name = posixpath.split(path)
        return self._find(parent), name

    def _find(self, path: str) -> "File | Folder":
        found = self.top
        for part in posixpath.relpath(path, self.root).split("/"):
            if part != ".":
                found = found.entries[part]
        return found


def _set(entries: dict, name: str, entry: "File | Folder | None") -> None:
    if entry is None:
        entries.pop(name, None)
    else:
        entries[name] = entry


def _apply(data: bytearray, offset: int, new: bytes | None) -> None:
    if new is None:
        del data[offset:]
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    if new is not None:
        data[offset : offset + len(new)] = new


def _image(top: Folder, entries, data) -> Image:
    image: Image = {}

    def walk(folder: Folder, prefix: str) -> None:
        for name, entry in entries(folder).items():
            if isinstance(entry, Folder):
                image[f"{prefix}{name}/"] = b""
                walk(entry, f"{prefix}{name}/")
            else:
                image[prefix + name] = data(entry)

    walk(top, "")
    return image
