"""One call over HTTP, in the standard library."""

import json
import time
import urllib.request


def call(url: str, body: "dict | None" = None) -> "tuple[int, dict, dict, float]":
    """Status, headers, reply and how many milliseconds that took."""
    began = time.perf_counter()
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"}), timeout=60) as reply:
        read = reply.read()
    return reply.status, dict(reply.headers), json.loads(read), (time.perf_counter() - began) * 1000


def predict(server: str, model: str, body: dict) -> "list[dict]":
    """The answers, one for each row."""
    return call(f"{server}/models/{model}/predict", body)[2]["predictions"]
