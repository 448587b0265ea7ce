#!/usr/bin/env python3
"""Asks for recommendations, and shows what comes at once and what a job computes first."""

import argparse
import json
import sys
import time
import urllib.request

SHOWN = 3  # films of each user


def call(url: str, body: "dict | None" = None) -> "tuple[int, dict, dict, float]":
    """Status, headers, reply and how many milliseconds that took."""
    began = time.perf_counter()
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"}), timeout=60) as reply:
        read = reply.read()
    return reply.status, dict(reply.headers), json.loads(read), (time.perf_counter() - began) * 1000


def ask(server: str, user: int) -> None:
    """Asks once; where the answer is left to a job, waits for it and shows what it computed."""
    status, headers, reply, took = call(f"{server}/models/recommendations/predict", {"user": user})
    if status == 200:
        print(f"user {user}: 200, cache {headers['x-salver-cache']}, {took:.1f} ms")
        return show(reply["predictions"][0])
    print(f"user {user}: 202, job {reply['id']} is {reply['status']}, {took:.1f} ms")
    _, _, job, took = call(f"{server}{reply['status_url']}?wait=30s")
    print(f"  the job is {job['status']} after {took:.1f} ms of waiting")
    if job["status"] == "done":
        show(job["result"]["predictions"][0])
    else:
        print(f"  {job['reason']}")


def show(prediction: dict) -> None:
    for title, score in list(zip(prediction["title"], prediction["score"], strict=True))[:SHOWN]:
        print(f"  {score:6.3f}  {title}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("users", nargs="*", type=int, default=[17, 17, 1234, 17, 1234, 99999])
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    for user in options.users:
        ask(options.server, user)


if __name__ == "__main__":
    sys.exit(main())
