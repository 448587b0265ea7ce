#!/usr/bin/env python3
"""Tensors of 600 kB in and out: through system shared memory against binary bodies over loopback.

    shm.py [--pairs N]

The model gives its input back, so that what is measured is the way there and back. Both sides are
asked by `salver bench` with as many connections; each shared-memory request of a round has regions of
its own.
"""

import argparse
import contextlib
import json
import os
import pathlib

import common
from common import Failed, Salver, Spread, ask, bench, note

common.use_environment()

SHAPE = [1, 3, 224, 224]
BYTES = 4 * 3 * 224 * 224
CONNECTIONS = (1, 16)


def mirror():
    """A graph that gives pictures of 224x224 back as they are."""
    from onnx import TensorProto, helper, save

    file = common.scratch("shm-mirror") / "mirror.onnx"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *SHAPE[1:]]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "mirror", ends[:1], ends[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)
    return file


@contextlib.contextmanager
def objects(count):
    """Shared memory objects with an input in each and room for an output behind it."""
    paths = [pathlib.Path(f"/dev/shm/salver-bench-{os.getpid()}-{idx}") for idx in range(count)]
    try:
        for path in paths:
            path.write_bytes(os.urandom(BYTES // 2) + bytes(BYTES - BYTES // 2) + bytes(BYTES))
        yield paths
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def register(server, paths):
    """Registers each object under its name; the bodies that use them, a line each."""
    lines = []
    for path in paths:
        body = json.dumps({"key": path.name, "byte_size": 2 * BYTES})
        status, said = ask(server.port, "POST", f"/v2/systemsharedmemory/region/{path.name}/register", body)
        if status != 200:
            raise Failed(f"{path} was not registered: {said!r}")
        place = {"shared_memory_region": path.name, "shared_memory_byte_size": BYTES}
        given = {"name": "x", "datatype": "FP32", "shape": SHAPE, "parameters": place}
        wanted = {"name": "y", "parameters": {**place, "shared_memory_offset": BYTES}}
        lines.append(json.dumps({"inputs": [given], "outputs": [wanted]}))
    return lines


def check(server, lines, paths):
    """What comes back is what went in."""
    for line, path in zip(lines, paths):
        status, said = ask(server.port, "POST", "/v2/models/mirror/infer", line)
        content = path.read_bytes()
        if status != 200 or content[:BYTES] != content[BYTES:]:
            raise Failed(f"shared memory was not answered: {said[-200:]!r}")


def measure(pairs, window):
    """For each number of connections: requests a second on both ways, in turn, and their ratio."""
    found = {}
    with Salver(mirror(), "--allow-client-shm") as server, objects(max(CONNECTIONS)) as paths:
        lines = register(server, paths)
        check(server, lines, paths)
        for connections in CONNECTIONS:
            file = common.scratch(f"shm-bodies-{connections}") / "bodies.jsonl"
            file.write_text("\n".join(lines[:connections]))
            url = f"{server.url}/v2/models/mirror/infer"
            ways = {
                "shared": ["--url", url, "--input", file],
                "binary": ["--server", server.url, "--model", "mirror", "--protocol", "http-binary"],
            }
            runs = {name: [] for name in ways}
            for idx in range(pairs):
                note(f"shm, {connections} connection(s): pair {idx + 1} of {pairs}")
                for name in sorted(ways, reverse=idx % 2 == 1):
                    run = bench(*ways[name], "--connections", connections, *window)["runs"][0]
                    if run["errors"]:
                        raise Failed(f"{run['errors']} calls failed: {run['first_error']}")
                    runs[name].append(run)
            rates = {name: [run["per_second"] for run in of] for name, of in runs.items()}
            found[connections] = {
                "ratio": Spread([one / other for one, other in zip(rates["shared"], rates["binary"])]),
                **{name: Spread(of) for name, of in rates.items()},
                **{f"{name}_p50_ms": Spread([run["p50_ms"] for run in of]) for name, of in runs.items()},
            }
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    figures = measure(options.pairs, ["--duration", "3s", "--warmup", "500ms"])
    print(json.dumps(figures, indent=2, default=lambda spread: spread.text(3)))


if __name__ == "__main__":
    main()
