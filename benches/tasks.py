#!/usr/bin/env python3
"""Texts to vectors and pictures to labels, end to end.

    tasks.py text | mixed | picture

text: texts of one length, against the raw engine on their tokens. mixed: texts of many lengths, with
buckets and padded to the longest of a batch. picture: a JPEG to its label, against its parts.
"""

import argparse
import io
import json
import pathlib
import random
import re
import subprocess
import sys

import common
from common import ROOT, Caller, Failed, Salver, Spread, ask, bench, note

common.use_environment()

import numpy as np
from PIL import Image

CONNECTIONS = 32
# Words that the encoder's vocabulary has as one token each.
WORDS = (
    "the house is old and its garden was full of trees that nobody had cut for many years so we took our time to "
    "walk through it while the sun went down behind the river and birds sang"
).split()
TOKENS = 32


def encoder():
    """The folder of the sentence encoder, made where it is not there."""
    folder = ROOT / "target/models/minilm"
    common.record(["examples/text/encoder.py", "--out", folder.relative_to(ROOT)])
    if not (folder / "model.onnx").exists():
        note("fetching and making the sentence encoder")
        python = common.environment("text-venv", ROOT / "examples/text/requirements.txt")
        script = [python, ROOT / "examples/text/encoder.py", "--out", folder]
        subprocess.run([str(part) for part in script], check=True, stdout=sys.stderr)
    return folder


def sentence(words, seed):
    """That many words, each one token."""
    choose = random.Random(seed)
    return " ".join(choose.choice(WORDS) for _ in range(words))


def written(name, content):
    file = common.scratch("tasks-" + name.replace(".", "-")) / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def asked(server, model, *arguments):
    """One run of the load tool against a model's `predict`."""
    url = f"{server.url}/models/{model}/predict"
    run = bench("--url", url, "--connections", CONNECTIONS, *arguments)["runs"][0]
    if run["errors"]:
        raise Failed(f"{run['errors']} calls failed: {run['first_error']}")
    return run


def text(pairs, window):
    """Vectors of texts of one length over REST, against the engine alone with as many tokens."""
    folder = encoder()
    body = json.dumps({"text": sentence(TOKENS - 2, 7)})
    file = written("body.json", body)
    raw_load = ["--raw", folder, "--length", TOKENS]
    sweep = bench(*raw_load, *window)
    best = sweep["best"]
    cell = ["--shapes", f"{best['instances']}x{best['threads']}", "--batches", best["batch"]]
    raws, served = [], []
    with Salver(folder) as server:
        status, reply = ask(server.port, "POST", "/models/minilm/predict", body)
        if status != 200 or json.loads(reply)["predictions"][0]["tokens"] != TOKENS:
            raise Failed(f"expected {TOKENS} tokens, the answer is {reply[-200:]}")

        def raw():
            raws.append(bench(*raw_load, *cell, *window)["best"]["rows_per_second"])

        def whole():
            served.append(asked(server, "minilm", "--input", file, *window))

        for idx in range(pairs):
            note(f"text: pair {idx + 1} of {pairs}")
            for one in (raw, whole) if idx % 2 == 0 else (whole, raw):
                one()
        stages = stage_means(server)
    return {
        "ratio": Spread([run["per_second"] / rate for run, rate in zip(served, raws)]),
        "raw": Spread(raws),
        "served": Spread([run["per_second"] for run in served]),
        "p50_ms": Spread([run["p50_ms"] for run in served]),
        "p99_over_p50": Spread([run["p99_over_p50"] for run in served]),
        "cell": f"{cell[1]}, {best['batch']} row(s) a run",
        "stages": stages,
    }


def lengths(count):
    """Words of each text: most are short and some are long, as in reviews or questions."""
    drawn = np.random.default_rng(11).lognormal(3.2, 0.9, count)
    return np.clip(drawn, 1, 250).astype(int)


def mixed(pairs, window):
    """Texts of many lengths: batches by length, against batches of whatever waits."""
    folder = encoder()
    words = lengths(512)
    texts = [json.dumps({"text": sentence(count, seed)}) for seed, count in enumerate(words)]
    file = written("texts.jsonl", "\n".join(texts))
    padded = common.scratch("tasks-padded") / "minilm"
    subprocess.run(["cp", "-r", str(folder), str(padded)], check=True)
    inputs = "{ input_ids = 0, attention_mask = 0, token_type_ids = 0 }"
    (padded / "model.toml").write_text(
        f'task = "text-embedding"\n[text]\nnormalize = true\n[batching.padding]\ninputs = {inputs}\nbuckets = [512]\n'
    )
    runs = {"buckets": [], "longest": []}
    with Salver(folder) as by_length, Salver(padded) as to_longest:
        servers = {"buckets": by_length, "longest": to_longest}
        for idx in range(pairs):
            note(f"mixed: pair {idx + 1} of {pairs}")
            for name in sorted(servers, reverse=idx % 2 == 1):
                runs[name].append(asked(servers[name], "minilm", "--input", file, *window))
        padding = {name: padding_of(server) for name, server in servers.items()}
    rates = {name: [run["per_second"] for run in of] for name, of in runs.items()}
    return {
        "ratio": Spread([one / other for one, other in zip(rates["buckets"], rates["longest"])]),
        **{name: Spread(of) for name, of in rates.items()},
        "padding": padding,
        "words": f"{words.min()} to {words.max()} words, median {int(np.median(words))}, mean {words.mean():.0f}",
    }


def picture(pairs, window, kind):
    """A JPEG of 500x375 to its label with every core busy, against what its parts take one by one."""
    folder = {"resnet50": resnet, "tiny": stand_in}[kind]()
    file = written("photo.jpg", photo())
    alone, whole = [], []
    with Salver(folder) as server:
        for idx in range(pairs):
            note(f"picture, {kind}: pair {idx + 1} of {pairs}")

            def parts():
                before = stage_sums(server)
                url = f"{server.url}/models/{folder.name}/predict"
                bench("--url", url, "--connections", 1, "--input", file, *window)
                after = stage_sums(server)
                alone.append({name: mean(before[name], after[name]) for name in ("preprocess", "infer")})

            def all_at_once():
                whole.append(asked(server, folder.name, "--input", file, *window)["per_second"])

            for one in (parts, all_at_once) if idx % 2 == 0 else (all_at_once, parts):
                one()
    cores = len(__import__("os").sched_getaffinity(0))
    return {
        "ratio": Spread([rate * sum(of.values()) / cores for rate, of in zip(whole, alone)]),
        "served": Spread(whole),
        "preprocess_ms": Spread([of["preprocess"] * 1000 for of in alone]),
        "infer_ms": Spread([of["infer"] * 1000 for of in alone]),
    }


def photo():
    """A picture with as much detail as a photo: smooth shapes and some noise, always the same."""
    chance = np.random.default_rng(3)
    small = chance.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = np.clip(smooth + chance.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noisy).save(out, "JPEG", quality=85)
    return out.getvalue()


IMAGENET = """\
task = "image-classification"
[image]
resize = 256
crop   = 224
mean   = [0.485, 0.456, 0.406]
std    = [0.229, 0.224, 0.225]
"""


def resnet():
    folder = common.scratch("tasks-resnet") / "resnet50"
    subprocess.run(["cp", "-r", str(common.models("resnet50")), str(folder)], check=True)
    (folder / "model.toml").write_text(IMAGENET)
    return folder


def stand_in():
    """A graph that does next to nothing with pictures of 224x224: the mean of each channel."""
    from onnx import TensorProto, helper, save

    folder = common.scratch("tasks-tiny") / "tiny"
    folder.mkdir()
    node = helper.make_node("ReduceMean", ["pixels"], ["scores"], axes=[2, 3], keepdims=0)
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 224, 224])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph([node], "tiny", [pixels], [scores])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), folder / "model.onnx")
    (folder / "model.toml").write_text(IMAGENET)
    return folder


def metrics(server):
    return ask(server.port, "GET", "/metrics")[1].decode()


def stage_sums(server):
    """Seconds and number of each stage so far."""
    found = re.findall(r'salver_stage_duration_seconds_(sum|count)\{[^}]*stage="(\w+)"\} (\S+)', metrics(server))
    sums = {}
    for what, stage, value in found:
        sums.setdefault(stage, {})[what] = float(value)
    return sums


def mean(before, after):
    return (after["sum"] - before["sum"]) / max(after["count"] - before["count"], 1)


def stage_means(server):
    return {stage: of["sum"] / max(of["count"], 1) * 1000 for stage, of in stage_sums(server).items()}


def padding_of(server):
    """The share of padded elements."""
    said = metrics(server)
    total = {
        name: sum(float(value) for value in re.findall(rf"^{name}_total\S* (\S+)$", said, re.M))
        for name in ("salver_batch_elements", "salver_batch_padded_elements")
    }
    return total["salver_batch_padded_elements"] / max(total["salver_batch_elements"], 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["text", "mixed", "picture"])
    options = parser.parse_args()
    window = ["--duration", "3s", "--warmup", "1s"]
    figures = {
        "text": lambda: text(3, window),
        "mixed": lambda: mixed(3, window),
        "picture": lambda: {kind: picture(3, window, kind) for kind in ("resnet50", "tiny")},
    }[options.what]()
    print(json.dumps(figures, indent=2, default=lambda spread: spread.text(3)))


if __name__ == "__main__":
    main()
