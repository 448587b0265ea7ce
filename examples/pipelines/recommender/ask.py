#!/usr/bin/env python3
"""Asks for recommendations, and shows what comes at once and what a job computes first."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from client import call

SHOWN = 3  # films of each user


def ask(server: str, user: int) -> None:
    status, headers, reply, took = call(f"{server}/models/recommender/predict", {"user": user})
    if status == 200:
        print(f"user {user}: 200, cache {headers['x-salver-cache']}, {took:.1f} ms")
        return show(reply["predictions"][0])
    print(f"user {user}: {status}, job {reply['id']}, {took:.1f} ms")
    _, _, job, took = call(f"{server}{reply['status_url']}?wait=30s")
    print(f"  the job is {job['status']} after {took:.1f} ms of waiting")
    if job["status"] != "done":
        sys.exit(job["reason"])
    show(job["result"]["predictions"][0])


def show(prediction: dict) -> None:
    if not prediction["known"]:
        print("  nothing is known of this user: what is popular")
    for title, score in list(zip(prediction["title"], prediction["score"], strict=True))[:SHOWN]:
        print(f"  {score:6.3f}  {title}" if prediction["known"] else f"          {title}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("users", nargs="*", type=int, default=[17, 17, 345, 99999, 99999])
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    for user in options.users:
        ask(options.server, user)


if __name__ == "__main__":
    main()
