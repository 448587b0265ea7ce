"""Ensembles: against the slowest of their steps, and what a step without work adds."""

import shutil

import common
from common import Salver, Spread, bench, note

# Three steps, of which the first does nearly all the work.
PIPELINE = """engine = "ensemble"

[[step]]
model = "transformer"

[[step]]
model = "head"

[[step]]
model = "names"

# What the slowest step alone answers is answered here as well.
[[output]]
name = "embedding"
from = "transformer.embedding"

[[output]]
name = "label"
from = "names.label"
"""
NAMES = """engine = "builtin"
labels = ["negative", "neutral", "positive"]

[builtin]
function = "labels"
"""
CONNECTIONS = 32
STEPS = 5


def chain(count):
    """Steps that each pass on what they get."""
    steps = [
        f'[[step]]\nname = "s{idx}"\nmodel = "pass"\ninputs = {{ x = "{"x" if idx == 0 else f"s{idx - 1}.y"}" }}\n'
        for idx in range(count)
    ]
    return "\n".join(['engine = "ensemble"\n', *steps])


def repository(name, models, manifests):
    """A folder with these models of make.py's, and others that are a model.toml each."""
    folder = common.scratch(name)
    for model in models:
        shutil.copytree(common.models(model), folder / model)
    for model, text in manifests.items():
        (folder / model).mkdir()
        (folder / model / "model.toml").write_text(text)
    return folder


def against_slowest(settings):
    """The pipeline's throughput over that of its slowest step, asked alone: pairs in turn."""
    folder = repository("pipeline", ["transformer", "head"], {"names": NAMES, "pipeline": PIPELINE})
    rates = {"transformer": [], "pipeline": []}
    with Salver(folder) as server:
        load = ["--server", server.url, "--connections", CONNECTIONS, *settings.long_window()]
        for idx in range(settings.long_pairs):
            note(f"ensemble: pair {idx + 1} of {settings.long_pairs}")
            for model in list(rates)[:: 1 if idx % 2 == 0 else -1]:
                rates[model].append(bench(*load, "--model", model)["runs"][0])
    pairs = zip(rates["pipeline"], rates["transformer"], strict=True)
    return {
        "ratio": Spread([ours["per_second"] / alone["per_second"] for ours, alone in pairs]),
        **{model: Spread([run["per_second"] for run in runs]) for model, runs in rates.items()},
        "p99_over_p50": Spread([run["p99_over_p50"] for run in rates["pipeline"]]),
    }


def each_step(settings):
    """In process, one caller: the median time of chains of 1 and of 5 steps, in microseconds, and what each
    of the four more adds."""
    names = {1: "one", STEPS: "five"}
    folder = repository("chains", ["pass"], {name: chain(count) for count, name in names.items()})
    load = ["--connections", 1, *settings.window()]

    def median(model):
        return bench("--in-process", folder / model, *load)["runs"][0]["p50_ms"] * 1000

    found = [(median("pass"), median(names[1]), median(names[STEPS])) for _ in range(settings.pairs)]
    return {
        "pass": Spread([alone for alone, _, _ in found]),
        "one": Spread([one for _, one, _ in found]),
        "five": Spread([five for _, _, five in found]),
        "added": Spread([(five - one) / (STEPS - 1) for _, one, five in found]),
    }
