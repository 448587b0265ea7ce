"""HTTP/2 frames written by hand, for what no client library would send.

Just enough of RFC 9113 and RFC 7541: header fields go out as plain literals, and of what comes back
only the frames are told apart, and the few statuses that HPACK gives an index of their own.
"""

import socket
import struct
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

ACK = END_STREAM = 0x1
END_HEADERS = 0x4

# Error codes
PROTOCOL_ERROR, STREAM_CLOSED, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 1, 5, 7, 8, 11

# Settings
INITIAL_WINDOW_SIZE = 4

STATUS = {0x88: 200, 0x8C: 400, 0x8D: 404, 0x8E: 500}


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def integer(value: int, bits: int = 7) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([value])
    out, value = bytearray([most]), value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def block(fields) -> bytes:
    """A header block of literals without indexing; names and values go out exactly as they are."""
    parts = (text if isinstance(text, bytes) else text.encode("latin-1") for pair in fields for text in pair)
    texts = [integer(len(part)) + part for part in parts]
    return b"".join(b"\0" + name + value for name, value in zip(texts[::2], texts[1::2], strict=True))


def headers(stream: int, fields, flags: int = END_HEADERS | END_STREAM) -> bytes:
    return frame(HEADERS, flags, stream, block(fields))


def reset(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in pairs))


def hello(*pairs: tuple[int, int]) -> bytes:
    return PREFACE + settings(*pairs)


@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM and GOAWAY."""
        at = 4 if self.kind == GOAWAY else 0
        return struct.unpack_from(">I", self.payload, at)[0]

    @property
    def status(self) -> int | None:
        """The status of HEADERS, where HPACK has an index for it."""
        return STATUS.get(self.payload[0])


class Reader:
    """The frames that come from a socket, until it is closed from the other side."""

    def __init__(self, connection: socket.socket):
        self.connection, self.buffer = connection, bytearray()

    def __iter__(self):
        while (found := self.next()) is not None:
            yield found

    def next(self) -> Frame | None:
        head = self._take(9)
        if head is None:
            return None
        length = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = self._take(length)
        return None if payload is None else Frame(kind, flags, stream & 0x7FFFFFFF, payload)

    def _take(self, count: int) -> bytes | None:
        while len(self.buffer) < count:
            try:
                data = self.connection.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self.buffer += data
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken
