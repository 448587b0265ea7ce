"""The attack table: what is sent, and what kind of answer is right.

Bodies that are large are functions, so that they exist only while they are sent.
"""

import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass

V2 = "/v2/models/identity_fp32/infer"
V1 = "/v1/models/identity_fp32:predict"
INVOCATIONS = "/invocations"
PLAIN = "/models/identity_fp32/predict"
INT32 = "/v2/models/identity_int32/infer"
BYTES = "/v2/models/identity_bytes/infer"

LIMIT = 64 << 20


@dataclass(frozen=True)
class Attack:
    id: str
    path: str
    body: bytes | Callable[[], bytes] = b""
    headers: tuple = ()
    method: str = "POST"
    # 0 stands for a connection that is closed without an answer, where HTTP itself is broken.
    status: tuple[int, ...] = (400,)

    def bytes(self) -> bytes:
        return self.body() if callable(self.body) else self.body


def tensor(data, shape, datatype="FP32", **more) -> bytes:
    one = {"name": "INPUT0", "shape": shape, "datatype": datatype, "data": data}
    return json.dumps({"inputs": [one], **more}).encode()


def around(path: str, value: bytes) -> bytes:
    """A body that fits the protocol of `path`, with `value` as its data."""
    return {
        V2: b'{"inputs":[{"name":"INPUT0","shape":[1,1],"datatype":"FP32","data":[' + value + b"]}]}",
        V1: b'{"instances":[[' + value + b"]]}",
        INVOCATIONS: b'{"instances":[[' + value + b"]]}",
        PLAIN: b"[[" + value + b"]]",
    }[path]


def each(name: str, value: bytes, paths=(V2, V1, INVOCATIONS, PLAIN), status=(400,)) -> list[Attack]:
    names = {V2: "v2", V1: "v1", INVOCATIONS: "invocations", PLAIN: "plain"}
    return [
        Attack(f"{name}, {names[path]}", path, around(path, value), JSON, status=status) for path in paths
    ]


def binary(head: dict, blobs: bytes, length=None) -> tuple[bytes, tuple]:
    text = json.dumps(head).encode()
    return text + blobs, (("Inference-Header-Content-Length", len(text) if length is None else length),)


def blob_head(size, shape, datatype="FP32", name="INPUT0"):
    return {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}


def with_binary(id: str, heads: list[dict], blobs: bytes, length=None, path=V2) -> Attack:
    body, headers = binary({"inputs": heads}, blobs, length)
    return Attack(id, path, body, headers)


def one_byte_chunks(body: bytes) -> bytes:
    return b"".join(b"1\r\n" + body[i : i + 1] + b"\r\n" for i in range(len(body))) + b"0\r\n\r\n"


JSON = (("Content-Type", "application/json"),)
GZIP = (*JSON, ("Content-Encoding", "gzip"))
DEFLATE = (*JSON, ("Content-Encoding", "deflate"))
CHUNKED = (*JSON, ("Transfer-Encoding", "chunked"))
GOOD = tensor([1.0], [1, 1])

ATTACKS = [
    # Shapes and sizes
    Attack("shape product wraps 64 bits", V2, tensor([1, 2], [2**4, 2**60 + 2])),
    Attack("claims 10^11 elements, sends two", V2, tensor([1, 2], [1, 100_000_000_000])),
    Attack("claims 2^63 elements", V2, tensor([1], [1, 2**63 - 1])),
    Attack("dimension beyond 64 bits", V2, tensor([1], [1, 2**64])),
    Attack("negative dimension", V2, tensor([1], [1, -1])),
    Attack("batch of 10^9 empty rows", V2, tensor([], [10**9, 0])),
    Attack("claims 10^11 texts", BYTES, tensor(["a"], [1, 100_000_000_000], "BYTES")),
    Attack("rank 100,000", V2, tensor([1], [1] * 100_000)),
    Attack("wrong shape", V2, tensor([1, 2, 3], [1, 2])),
    Attack("wrong datatype", V2, tensor([1], [1, 1], "INT32")),
    Attack("unknown datatype", V2, tensor([1], [1, 1], "FLOAT")),
    Attack("wrong name", V2, GOOD.replace(b"INPUT0", b"INPUT9")),
    Attack("batch above the limit", V2, tensor([1] * 9, [9, 1])),
    # Binary headers
    with_binary("blob shorter than told", [blob_head(16, [1, 4])], b"\0" * 8),
    with_binary("blob longer than told", [blob_head(16, [1, 4])], b"\0" * 32),
    with_binary("header longer than the body", [blob_head(4, [1, 1])], b"\0" * 4, 10**9),
    with_binary("negative header", [blob_head(4, [1, 1])], b"\0" * 4, -1),
    with_binary("header that is no number", [blob_head(4, [1, 1])], b"\0" * 4, "0x10"),
    with_binary("header beyond 64 bits", [blob_head(4, [1, 1])], b"\0" * 4, 2**64 + 10),
    with_binary("header inside a character", [blob_head(4, [1, 1], name="ü")], b"\0" * 4, 24),
    with_binary("size wraps to the blob's", [blob_head(128, [2**4, 2**60 + 2])], b"\0" * 128),
    with_binary("sum of sizes wraps", [blob_head(2**63, [1, 1]), blob_head(2**63 + 4, [1, 1])], b"\0" * 4),
    with_binary("negative size", [blob_head(-4, [1, 1])], b"\0" * 4),
    with_binary("text longer than the blob", [blob_head(8, [1, 1], "BYTES")], b"\xff\xff\xff\xffabcd", path=BYTES),
    with_binary("10^11 texts in four bytes", [blob_head(4, [1, 10**11], "BYTES")], b"\0" * 4, path=BYTES),
    Attack("truncated json before blobs", V2, GOOD[:20] + b"\0" * 16,
           (("Inference-Header-Content-Length", 20),)),
    # JSON
    *each("100,000 lists deep", b"[" * 100_000 + b"]" * 100_000),
    *each("100,000 lists never closed", b"[" * 100_000),
    *each("100,000 objects deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    Attack("nothing but 100,000 brackets", V2, b"[" * 100_000, JSON),
    *each("invalid utf-8", b'"\xff\xfe"'),
    *each("truncated utf-8", b'"\xe6\x97"'),
    *each("1e999", b"1e999"),
    *each("10^6 digits", b"9" * 1_000_000),
    *each("trailing comma", b"1,"),
    *each("hexadecimal", b"0x10"),
    *each("minus nan", b"-NaN"),
    Attack("nan as a dimension", V2, GOOD.replace(b"[1, 1]", b"[1, NaN]"), JSON),
    Attack("nan for an integer", INT32, tensor([1], [1, 1], "INT32").replace(b"[1]", b"[NaN]"), JSON),
    Attack("infinity as id", V2, GOOD[:-1] + b', "id": Infinity}', JSON),
    Attack("duplicate inputs", V2, GOOD[:-1] + b', "inputs": []}', JSON),
    Attack("duplicate shape", V2, GOOD.replace(b'"data"', b'"shape": [1, 1], "data"'), JSON),
    Attack("duplicate instances", V1, b'{"instances": [1.0], "instances": [2.0]}', JSON),
    Attack("duplicate frame", INVOCATIONS, b'{"inputs": [1.0], "inputs": [2.0]}', JSON),
    Attack("text after the end", V2, GOOD + b"x", JSON),
    Attack("two documents", V2, GOOD + GOOD, JSON),
    Attack("lone surrogate as name", V2, GOOD.replace(b"INPUT0", b"\\ud800"), JSON),
    Attack("nul in an input's name", V2, GOOD.replace(b"INPUT0", b"INPUT0\\u0000"), JSON),
    Attack("10^5 outputs", V2, tensor([1], [1, 1], outputs=[{"name": "OUTPUT0"}] * 100_000), JSON,
           status=(400, 413)),
    Attack("10^5 inputs", V2, json.dumps({"inputs": json.loads(GOOD)["inputs"] * 100_000}).encode(), JSON,
           status=(400, 413)),
    Attack("10^5 parameters", V2,
           tensor([1], [1, 1], parameters={f"p{i}" + "x" * 200: i for i in range(100_000)}), JSON,
           status=(400, 413)),
    Attack("name of a megabyte", V2, GOOD.replace(b"INPUT0", b"x" * 1_000_000), JSON),
    # Compression and size
    Attack("gzip bomb", V2, lambda: gzip.compress(b" " * (400 << 20), 1), GZIP, status=(400, 413)),
    Attack("gzip bomb of good json", V2, lambda: gzip.compress(GOOD + b" " * (100 << 20), 1), GZIP,
           status=(400, 413)),
    Attack("deflate bomb", INVOCATIONS, lambda: zlib.compress(b" " * (400 << 20), 1), DEFLATE, status=(400, 413)),
    Attack("gzip that is none", V2, GOOD, GZIP),
    Attack("gzip cut short", V2, gzip.compress(GOOD)[:-4], GZIP),
    Attack("gzip with bytes after it", V2, gzip.compress(GOOD) + b"x" * 100, GZIP, status=(200, 400)),
    Attack("unknown encoding", V2, GOOD, (*JSON, ("Content-Encoding", "zstd")), status=(415,)),
    Attack("two encodings", V2, gzip.compress(gzip.compress(GOOD)), (*JSON, ("Content-Encoding", "gzip, gzip")),
           status=(400, 415)),
    Attack("a declared length above the limit", V2, b"", (*JSON, ("Content-Length", LIMIT + 1)), status=(413,)),
    Attack("a declared length of 2^63", V2, b"", (*JSON, ("Content-Length", 2**63)), status=(400, 413)),
    Attack("a body above the limit in chunks", V2,
           lambda: (b"100000\r\n" + b" " * (1 << 20) + b"\r\n") * 65 + b"0\r\n\r\n", CHUNKED, status=(413,)),
    Attack("100,000 chunks of one byte", V2, lambda: one_byte_chunks(GOOD + b" " * 100_000), CHUNKED,
           status=(200, 400, 413)),
    Attack("chunk size beyond 64 bits", V2, b"fffffffffffffffff\r\n" + GOOD, CHUNKED, status=(0, 400)),
    Attack("chunk size that is none", V2, b"zz\r\n" + GOOD, CHUNKED, status=(0, 400)),
    # Names and paths
    *[
        Attack(f"path {path}", path, GOOD, JSON, status=(400, 404))
        for path in (
            "/v2/models/../infer", "/v2/models/%2e%2e/infer", "/v2/models/..%2f..%2fetc%2fpasswd/infer",
            "/v2/models/%252e%252e%252fetc/infer", "/v2/models/identity_fp32%2F1/infer",
            "/v2/models/identity_fp32%00/infer", "/v2/models/..%5c..%5cx/infer", "/v2/models/%ff%fe/infer",
            "/v2/models/identity_fp32/versions/../infer", "/v2/models/identity_fp32/versions/%2e%2e/infer",
            "/v2/models/identity_fp32/versions/1%2F../infer", "/v2/models/identity_fp32/versions/-1/infer",
            "/v2/models/identity_fp32/versions/1e0/infer", "/v2/models//infer",
            "/v1/models/..%2f..%2fetc:predict", "/v1/models/../../etc/passwd:predict",
            "/v1/models/identity_fp32/labels/..%2f..:predict", "/models/..%2f..%2fetc/predict",
            "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/v2/models/" + "x" * 300 + "/infer",
        )
    ],
    *[
        Attack(f"repository {name}", f"/v2/repository/models/{name}/load", b"{}", JSON, status=(400, 404, 503))
        for name in ("..", "%2e%2e", "..%2f..%2fetc", "%2Fetc", "a%00b", "..%5cx")
    ],
    Attack("path of 9 KiB", "/" + "x" * 9216, method="GET", status=(414,)),
    Attack("path of 100 KiB", "/" + "x" * 102_400, method="GET", status=(414, 431)),
    Attack("headers of 40 KiB", "/v2", headers=(("X-Large", "x" * 40_960),), method="GET", status=(431,)),
    Attack("200 headers", "/v2", headers=tuple((f"X-{i}", "1") for i in range(200)), method="GET", status=(431,)),
    Attack("nul in a header", "/v2", headers=(("X-Nul", "a\x00b"),), method="GET", status=(0, 400)),
    # Framing
    Attack("length and chunks together", V2, b"0\r\n\r\n", (("Content-Length", 5), ("Transfer-Encoding", "chunked")),
           status=(0, 400)),
    Attack("two lengths", V2, GOOD, (("Content-Length", len(GOOD)), ("Content-Length", 5)), status=(0, 400)),
    Attack("a list of lengths", V2, GOOD, (("Content-Length", f"{len(GOOD)}, 5"),), status=(0, 400)),
    Attack("length with a sign", V2, GOOD, (("Content-Length", f"+{len(GOOD)}"),), status=(0, 400)),
    Attack("length in hexadecimal", V2, GOOD, (("Content-Length", "0x10"),), status=(0, 400)),
    Attack("unknown transfer coding", V2, GOOD, (("Transfer-Encoding", "xchunked"),), status=(0, 400, 501)),
    Attack("two transfer codings", V2, one_byte_chunks(GOOD),
           (("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "identity")), status=(0, 400, 501)),
    Attack("a method that is none", "/v2", method="GE\x01T", status=(0, 400)),
    Attack("a method nobody knows", V2, method="BREW", status=(405,)),
]
