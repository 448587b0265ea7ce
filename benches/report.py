#!/usr/bin/env python3
"""Measures what docs/performance.md reports, row by row, and writes target/bench-report.md.

    report.py [--quick] [--list] [ROW…]

Without a ROW all are measured, which takes about three hours; nothing else should run on the machine
meanwhile. Rows that were measured before stay in the report until they are measured again.
--quick shortens everything to see that it works; its figures mean nothing.

SALVER_BIN names another binary than target/release/salver.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

import common
from common import IRIS, ROOT, Caller, Failed, Salver, Spread, bench, memory, note

common.use_environment()

sys.path.insert(0, str(ROOT / "benches/peers"))

import ensembles
import jobs
import many
import peers
import registry
import remote
import shm
import soak
import swap
import tasks
import workers

REPORT, PARTS = ROOT / "target/bench-report.md", ROOT / "target/bench-report"

# No ratio to a yardstick that is an upper bound can be above this; more is noise in the yardstick.
CEILING = 1.03

# Cores that others may use meanwhile, of all there are, before figures are worth nothing.
QUIET = 0.1


class Settings:
    """How long to measure."""

    def __init__(self, quick):
        self.quick = quick
        self.pairs, self.long_pairs = (2, 2) if quick else (9, 7)
        self.duration, self.warmup = ("300ms", "100ms") if quick else ("3s", "500ms")
        # Runs of slow models take seconds; a window has to hold many of them.
        self.long_duration, self.long_warmup = ("2s", "500ms") if quick else ("8s", "2s")

    def window(self):
        return ["--duration", self.duration, "--warmup", self.warmup]

    def long_window(self):
        return ["--duration", self.long_duration, "--warmup", self.long_warmup]


class Row:
    """What a row says: figures, each with its goal where there is one."""

    def __init__(self):
        self.lines, self.notes = [], []

    def figure(self, name, text, goal="", met=None):
        """Adds a figure; `met` says whether it reaches the goal."""
        self.lines.append((name, text, goal, {None: "", True: "yes", False: "**no**"}[met]))

    def at_least(self, name, spread, goal, digits=3, ceiling=None):
        """Adds a figure that should be high; beyond `ceiling` it cannot be right and counts as not reached."""
        text, met = spread.text(digits), spread.median >= goal
        if ceiling is not None and spread.median > ceiling:
            text, met = f"{text}: **cannot be**, the yardstick was disturbed", False
        self.figure(name, text, f"at least {goal}", met)

    def at_most(self, name, value, goal, unit="", digits=2):
        text = value.text(digits) if isinstance(value, Spread) else f"{value:,.{digits}f}"
        median = value.median if isinstance(value, Spread) else value
        self.figure(name, f"{text}{unit}", f"at most {goal}{unit}", median <= goal)

    def markdown(self):
        lines = ["| figure | measured | goal | reached |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(line)} |" for line in self.lines]
        return "\n".join([*(lines if self.lines else []), *(f"\n{text}" for text in self.notes)])


# --- Close to the raw engine --------------------------------------------------------------------


def against_raw(model, settings, protocol):
    """A model at 32 connections against the best that the engine alone reaches, in turn."""
    folder, row = common.models(model), Row()
    sweep = bench("--raw", folder, *settings.long_window())
    best = sweep["best"]
    cell = ["--shapes", f"{best['instances']}x{best['threads']}", "--batches", best["batch"]]
    raws, served = [], []
    with Salver(folder) as server:
        load = ["--server", server.url, "--model", model, "--protocol", protocol, "--connections", 32]

        def raw():
            raws.append(bench("--raw", folder, *cell, *settings.long_window())["best"])

        def over_sockets():
            begin, used = time.monotonic(), common.cpu_seconds(server.pid)
            run = bench(*load, *settings.long_window())["runs"][0]
            run["cores_used"] = (common.cpu_seconds(server.pid) - used) / (time.monotonic() - begin)
            served.append(run)

        for idx in range(settings.long_pairs):
            note(f"{model}: pair {idx + 1} of {settings.long_pairs}")
            for one in (raw, over_sockets) if idx % 2 == 0 else (over_sockets, raw):
                one()
    ratios = Spread([run["per_second"] / best["rows_per_second"] for run, best in zip(served, raws)])
    row.at_least(f"served over {protocol}, 32 connections / raw engine", ratios, 0.95, ceiling=CEILING)
    row.at_most("p99 / p50 there", Spread([run["p99_over_p50"] for run in served]), 1.7)
    rates = Spread([best["rows_per_second"] for best in raws])
    row.figure("raw, rows/s", f"{rates.text(1)} with {cell[1]}, {best['batch']} row(s) a run")
    row.figure("served, rows/s", Spread([run["per_second"] for run in served]).text(1))
    for name in ("p50_ms", "p99_ms"):
        row.figure(name.replace("_ms", ", ms"), Spread([run[name] for run in served]).text(1))
    # Of little use alone, but not moved by what else runs: where it disagrees with the ratio above,
    # one of the two did not get its share of the machine.
    of_raw = [best["cores_used"] / best["rows_per_second"] * 1000 for best in raws]
    of_served = [run["cores_used"] / run["per_second"] * 1000 for run in served]
    row.figure("raw: cores used; processor ms a row", f"{cores(raws)}; {Spread(of_raw).median:.2f}")
    row.figure("served: cores used; processor ms a row", f"{cores(served)}; {Spread(of_served).median:.2f}")
    cells = "; ".join(
        f"{cell['instances']}x{cell['threads']} batch {cell['batch']}: {cell['rows_per_second']:.1f}"
        for cell in sweep["cells"]
    )
    row.notes.append(f"The sweep of the raw engine, in rows/s: {cells}.")
    return row


def cores(runs):
    return Spread([run["cores_used"] for run in runs]).text(2)


def transformer(settings):
    """A transformer of MiniLM's shape, 64 tokens, against the raw engine"""
    return against_raw("transformer", settings, "http-json")


def resnet50(settings):
    """ResNet-50 against the raw engine"""
    return against_raw("resnet50", settings, "http-binary")


def weights(settings):
    """One copy of the weights, whatever the number of instances"""
    folder, row, held = common.models("transformer"), Row(), {}
    size = (folder / "model.onnx").stat().st_size / 1e6
    for count in (1, 2, 4):
        settings_of_model = f"\n[instances]\ncount = {count}\nthreads = 1\n"
        model = common.variant(folder, f"weights-{count}", settings_of_model)
        with Salver(model) as server:
            load = ["--server", server.url, "--model", "transformer", "--connections", 2 * count]
            bench(*load, *settings.long_window())
            held[count] = memory(server.pid)["resident"]
        row.figure(f"resident after load, {count} instance(s)", f"{held[count]:.0f} MB")
    more = (held[4] - held[1]) / 3
    row.at_most(f"each further instance (the weights are {size:.0f} MB)", more, round(size / 2), " MB", digits=0)
    return row


# --- A tiny model: the server is what is measured -----------------------------------------------


def against_constant(settings, protocol, goal):
    row = Row()
    with Salver(IRIS, "--bench") as server:
        load = ["--server", server.url, "--model", "iris", "--protocol", protocol, "--connections", 64]
        report = bench(*load, "--pairs", settings.pairs, *settings.window())
    runs = report["runs"]
    for constant, name in ((True, "constant"), (False, "iris")):
        of = [run for run in runs if run["is_constant"] == constant]
        text = f"{Spread([run['per_second'] for run in of]).text(0)} requests/s"
        text += f"; p50 {Spread([run['p50_ms'] for run in of]).median:.2f} ms"
        text += f", p99 {Spread([run['p99_ms'] for run in of]).median:.2f} ms"
        row.figure(name, text)
    row.at_least("iris / constant", ratio_of(runs), goal, ceiling=CEILING)
    share = Spread([run["generator_cores"] for run in runs]).median
    row.notes.append(f"The load generator itself used {share:.2f} cores of the same machine.")
    return row


def ratio_of(runs):
    models = [run["per_second"] for run in runs if not run["is_constant"]]
    constants = [run["per_second"] for run in runs if run["is_constant"]]
    return Spread([model / constant for model, constant in zip(models, constants)])


def rest(settings):
    """iris over REST JSON against the constant route, 64 connections"""
    return against_constant(settings, "http-json", 0.8)


def grpc(settings):
    """iris over gRPC against ServerLive with the same message, 64 calls at a time"""
    return against_constant(settings, "grpc", 0.65)


def tfserving(settings):
    """TF Serving's Predict against the Open Inference Protocol, both over gRPC"""
    row = Row()
    loads = (("iris", 64, []), ("axpy", 4, ["--rows", 50_000]))
    with Salver(IRIS, ROOT / "tests/models/tfserving/axpy") as server:
        for model, connections, more in loads:
            load = ["--server", server.url, "--model", model, "--connections", connections, *more, *settings.window()]
            rates = {"grpc": [], "tfserving-grpc": []}
            for idx in range(settings.pairs):
                for protocol in list(rates)[:: 1 if idx % 2 == 0 else -1]:
                    run = bench(*load, "--protocol", protocol)["runs"][0]
                    rates[protocol].append(run["per_second"])
            what = f"{model}, {connections} calls at a time{', 600 KB in and 800 KB out' if more else ''}"
            pairs = zip(rates["tfserving-grpc"], rates["grpc"], strict=True)
            row.at_least(f"Predict / ModelInfer, {what}", Spread([ours / oip for ours, oip in pairs]), 0.9)
            for protocol, of in rates.items():
                row.figure(f"{protocol}, requests/s, {what}", Spread(of).text(0))
    return row


def tail(settings):
    """iris at 70 % of its peak rate, 64 connections"""
    row = Row()
    share, worst = common.stalls()
    row.figure("the machine itself, idle: time in which nothing ran", f"{share:.2%}, up to {worst * 1000:.1f} ms at a time")
    with Salver(IRIS, "--bench") as server:
        for protocol in ("http-json", "grpc"):
            load = ["--server", server.url, "--model", "iris", "--protocol", protocol, "--connections", 64]
            measure = [*load, "--rate-of-peak", 0.7, *settings.window()]
            runs = [bench(*measure)["runs"] for _ in range(settings.pairs)]
            at_rate = [run for _, run in runs]
            # Where the rate was more than the server could do, everybody waits alike and the ratio is
            # small: only where every run kept up does it count. Answers that come after the end of
            # the window lower the rate, so this allows for 30 ms of them.
            kept_up = sum(run["per_second"] >= 0.99 * run["rate"] for run in at_rate)
            all_did, ratio = kept_up == len(runs), Spread([run["p99_over_p50"] for run in at_rate])
            row.figure(f"p99 / p50, {protocol}", ratio.text(2), "at most 5", all_did and ratio.median <= 5)
            row.figure(f"runs that kept up, {protocol}", f"{kept_up} of {len(runs)}", "all", all_did)
            row.figure(f"peak, requests/s, {protocol}", Spread([peak["per_second"] for peak, _ in runs]).text(0))
            row.figure(f"p50 at the peak, ms, {protocol}", Spread([peak["p50_ms"] for peak, _ in runs]).text(3))
            row.figure(f"p50, ms, {protocol}", Spread([run["p50_ms"] for run in at_rate]).text(3))
            row.figure(f"p99, ms, {protocol}", Spread([run["p99_ms"] for run in at_rate]).text(3))
            # The same rate without a model: what the machine and the load generator make of it.
            rate = Spread([peak["per_second"] for peak, _ in runs]).median * 0.7
            constant = [*load, "--constant", "--rate", round(rate), *settings.window()]
            bare = [bench(*constant)["runs"][0] for _ in range(settings.long_pairs)]
            row.figure(f"the constant answer at that rate, {protocol}: p99 / p50", Spread([run["p99_over_p50"] for run in bare]).text(2))
            row.figure(f"the constant answer at that rate, {protocol}: p99, ms", Spread([run["p99_ms"] for run in bare]).text(3))
    return row


def lone(settings):
    """What `infer` adds in process for a caller that is alone"""
    row = Row()
    raw = ["--raw", IRIS, "--shapes", "1x1", "--batches", 1, *settings.window()]
    through = ["--in-process", IRIS, "--connections", 1, *settings.window()]
    pairs = [(bench(*raw)["best"]["p50_ms"], bench(*through)["runs"][0]["p50_ms"]) for _ in range(settings.pairs)]
    added = [(whole - engine) * 1000 for engine, whole in pairs]
    row.at_most("median of `infer` less median of `Instance::run`", Spread(added), 50, " µs", digits=1)
    row.figure("`Instance::run` alone, µs", Spread([engine * 1000 for engine, _ in pairs]).text(1))
    row.figure("`infer`, µs", Spread([whole * 1000 for _, whole in pairs]).text(1))
    return row


def cache(settings):
    """A hit of the response cache against the constant route, 64 connections"""
    row = Row()
    model = common.variant(IRIS, "cache", "\n[cache]\nttl_s = 3600\n")
    body = json.dumps({"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]})
    with Salver(model, "--bench") as server:
        caller = Caller(server.url)
        replies = [caller.post("/v2/models/iris/infer", body) for _ in range(2)]
        caller.close()
        if (said := replies[1][1].get("x-salver-cache")) != "hit":
            raise Failed(f"the second answer to the same question does not come from the cache: x-salver-cache: {said}")
        load = ["--server", server.url, "--model", "iris", "--connections", 64]
        for protocol, goal in (("http-json", 0.75), ("grpc", None)):
            measure = [*load, "--protocol", protocol, "--pairs", settings.pairs, *settings.window()]
            ratio = ratio_of(bench(*measure)["runs"])
            if goal:
                row.at_least(f"hit / constant, {protocol}", ratio, goal, ceiling=CEILING)
            else:
                row.figure(f"hit / constant, {protocol}", ratio.text())
        run = bench(*load, "--vary", *settings.window())["runs"][0]
        row.figure("misses only (other values each time), requests/s", f"{run['per_second']:,.0f}")
    return row


def forms(settings):
    """iris and digits in every form, at 1, 16 and 64 connections"""
    row, lines = Row(), ["| model | how | connections | requests/s | p50 ms | p99 ms |", "|---|---|---|---|---|---|"]
    with Salver(IRIS, ROOT / "examples/demo/digits") as server:
        for model in ("iris", "digits"):
            for protocol in ("http-json", "http-binary", "grpc"):
                for connections in (1, 16, 64):
                    load = ["--server", server.url, "--model", model, "--connections", connections]
                    run = bench(*load, "--protocol", protocol, *settings.window())["runs"][0]
                    figures = f"{run['per_second']:,.0f} | {run['p50_ms']:.2f} | {run['p99_ms']:.2f}"
                    lines.append(f"| {model} | {protocol} | {connections} | {figures} |")
    row.notes.append("\n".join(lines))
    return row


# --- Loads that last ----------------------------------------------------------------------------


def many_models(settings):
    """300 models of 12.6 MB under a memory limit that holds 20"""
    row = Row()
    size = {"count": 30, "hold": 5, "passes": 2} if settings.quick else {}
    common.record(["benches/many.py"])
    figures = many.measure(**size)
    right = figures["right"] == figures["requests"]
    row.figure("answers that are right", f"{figures['right']} of {figures['requests']}", "all", right)
    over = figures["over_limit"] * 100
    row.at_most("highest memory over the limit", over, 15, " %", digits=1)
    row.figure("limit; highest memory", f"{figures['limit_mb']:.0f} MB; {figures['peak_mb']:.0f} MB")
    row.figure(
        "requests/s; p50; p99", f"{figures['per_second']:.1f}; {figures['p50_ms']:.0f} ms; {figures['p99_ms']:.0f} ms"
    )
    row.notes += [f"{n} times: {what}" for what, n in figures["others"].items()]
    return row


def swaps(settings):
    """A new version every second under full load"""
    row = Row()
    common.record(["benches/swap.py"])
    figures = swap.measure(seconds=5 if settings.quick else 60)
    text = f"{figures['failed']} of {figures['requests']:,} requests, {figures['checked']:,} of them compared"
    row.figure("failed or misrouted", text, "0", figures["failed"] == 0)
    everyone = figures["newest_version_seen"] == figures["swaps"] + 1
    row.figure("versions swapped", str(figures["swaps"]), "each answers", everyone)
    row.figure("load; requests/s", f"{figures['load_ms_median']:.0f} ms; {figures['per_second']:,.0f}")
    row.figure("p50; p99", f"{figures['p50_ms']:.1f} ms; {figures['p99_ms']:.1f} ms")
    row.notes += [f"{n} times: {what}" for what, n in figures["others"].items()]
    if figures["first_error"]:
        row.notes.append(f"The first call that failed: {figures['first_error']}")
    return row


def promises(settings):
    """What swaps, bad versions, overload and outages must not do: the tests of it at full size"""
    row = Row()
    for name in ("P1", "P2", "P4", "P5", "P22", "P23"):
        command = ["benches/promises.sh", *(["--quick"] if settings.quick else []), name]
        common.record(command)
        tested = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        if tested.returncode != 0:
            raise Failed(f"{' '.join(command)}: {tested.stdout[-2000:]}")
        row.notes += tested.stdout.splitlines()
    return row


def soaking(settings):
    """Ten minutes of mixed load: is memory flat?"""
    row = Row()
    common.record(["benches/soak.py"])
    figures = soak.measure(minutes=0.2 if settings.quick else 10)
    row.figure("failed", f"{figures['failed']} of {figures['requests']:,}", "0", figures["failed"] == 0)
    # 5 % of what is held: beyond the noise of allocators, below any leak that matters.
    limit = figures["mean_mb"] * 0.05
    row.at_most("second half: highest over mean", figures["max_over_mean_mb"], round(limit, 1), " MB", digits=1)
    row.figure("second half: mean", f"{figures['mean_mb']:.0f} MB")
    row.figure("second half: slope", f"{figures['slope_mb_per_hour']:+.1f} MB per hour")
    row.notes += [f"{n} times: {what}" for what, n in figures["surprises"].items()]
    return row


def start(settings):
    """Start to first prediction, idle memory"""
    row, runs = Row(), 3 if settings.quick else 15
    command = [ROOT / "benches/startup.py", common.BINARY, runs]
    common.record(command)
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(done.stderr.strip())
    for line in done.stdout.splitlines():
        row.figure(*line.split(": ", 1))
    return row


def others(settings):
    """Other model servers with the same models"""
    row, skipped, rows = Row(), [], []
    common.record(["benches/peers/peers.py"])
    for model in peers.MODELS.values():
        slow = model.name == "transformer"
        duration, warmup = (settings.long_duration if slow else settings.duration), "1s"
        of_model, out = peers.measure(model, peers.PEERS.values(), settings.long_pairs, duration, warmup)
        rows += of_model
        skipped += [(model.name, *entry) for entry in out]
    row.notes.append(peers.table(rows, skipped))
    for entry in (entry for entry in rows if entry["ratio"]):
        goal = 7 if entry["model"] == "iris" else 1
        row.at_least(f"{entry['model']}: Salver / {entry['server']}", entry["ratio"], goal, digits=2)
    if skipped:
        row.figure("peers skipped", ", ".join(f"{name} ({model})" for model, name, _ in skipped), "none", False)
    return row


# --- Texts and pictures -------------------------------------------------------------------------


def embedding(settings):
    """Texts of 32 tokens to vectors, end to end, against the raw engine on their tokens"""
    row = Row()
    common.record(["benches/tasks.py", "text"])
    figures = tasks.text(settings.long_pairs, settings.long_window())
    row.at_least("served / raw engine, 32 connections", figures["ratio"], 0.9, ceiling=CEILING)
    row.figure("raw, rows/s", f"{figures['raw'].text(1)} with {figures['cell']}")
    row.figure("served, texts/s", figures["served"].text(1))
    row.figure("p50, ms; p99 / p50", f"{figures['p50_ms'].text(1)}; {figures['p99_over_p50'].text(2)}")
    stages = "; ".join(f"{name} {ms:.3f} ms" for name, ms in figures["stages"].items())
    row.notes.append(f"Means of the stages: {stages}.")
    return row


def buckets(settings):
    """Texts of many lengths: batches by length against batches padded to their longest text"""
    row = Row()
    common.record(["benches/tasks.py", "mixed"])
    figures = tasks.mixed(settings.long_pairs, settings.long_window())
    row.at_least("buckets / padded to the longest, 32 connections", figures["ratio"], 1.3, digits=2)
    row.figure("buckets, texts/s", figures["buckets"].text(1))
    row.figure("padded to the longest, texts/s", figures["longest"].text(1))
    padding = figures["padding"]
    row.figure("of what the engine sees, padding", f"{padding['buckets']:.0%} with buckets, {padding['longest']:.0%} without")
    row.notes.append(f"512 texts of {figures['words']}, in turn.")
    return row


def pictures(settings):
    """A JPEG of 500x375 to its label against the sum of its parts"""
    row = Row()
    common.record(["benches/tasks.py", "picture"])
    for kind, name in (("resnet50", "ResNet-50"), ("tiny", "a graph that takes the mean of each channel")):
        figures = tasks.picture(settings.long_pairs, settings.long_window(), kind)
        # The second says what the server itself costs: next to nothing is left for the engine.
        share = f"{name}: served x (sum of the parts) / cores"
        if kind == "resnet50":
            row.at_least(share, figures["ratio"], 0.85)
        else:
            row.figure(share, figures["ratio"].text(3))
        row.figure(f"{name}: served, pictures/s", figures["served"].text(1))
        text = f"{figures['preprocess_ms'].text(2)}; {figures['infer_ms'].text(2)}"
        row.figure(f"{name}: one picture at a time, ms: decode, resize and normalise; engine", text)
    return row


def shared_memory(settings):
    """Tensors of 600 kB in and out: system shared memory against binary bodies over loopback"""
    row = Row()
    common.record(["benches/shm.py"])
    for connections, of in shm.measure(settings.long_pairs, settings.window()).items():
        row.at_least(f"{connections} connection(s): shared memory / binary body", of["ratio"], 1.3, digits=2)
        for way in ("shared", "binary"):
            text = f"{of[way].text(0)}; {of[f'{way}_p50_ms'].text(2)}"
            row.figure(f"{connections} connection(s), {way}: requests/s; p50, ms", text)
    return row


# --- Jobs ---------------------------------------------------------------------------------------


def jobs_against_celery(settings):
    """Jobs of a tiny model, from the first submission to the last stored result, against Celery with Redis"""
    row = Row()
    common.record(["benches/jobs.py", "peers"])
    figures, skipped = jobs.against_celery(settings.long_pairs, 1 if settings.quick else 5)
    for name, of in figures.items():
        if "ratio" in of:
            row.at_least(f"{name}: Salver / Celery", of["ratio"], 10, digits=1)
        text = f"{of['rate'].text(0)}; submitting {of['submit_rate'].text(0)}"
        row.figure(f"{name}: jobs/s", text)
    for name, why in skipped.items():
        row.figure(name, f"SKIPPED: {why}", "none", False)
    return row


def jobs_idle(settings):
    """From the submission of a job to its result, on an idle queue"""
    row = Row()
    common.record(["benches/jobs.py", "idle"])
    times = jobs.on_idle(30 if settings.quick else 1_000)
    row.at_most("submission to result, SQLite: median, ms", times.median, 15, digits=1)
    row.figure("quartiles; p99, ms", f"{times.lower:.1f} to {times.upper:.1f}; {times.at(0.99):.1f} (n={times.n})")
    return row


def jobs_million(settings):
    """A queue of a million jobs"""
    row = Row()
    common.record(["benches/jobs.py", "million"])
    of = jobs.with_a_million(20_000 if settings.quick else 1_000_000, 1 if settings.quick else 5)
    row.figure("queued jobs; time to fill, s", f"{of['jobs']:,}; {of['fill_seconds']:,.0f}")
    for what in ("submit", "take"):
        row.at_most(f"{what}: cost beside a short queue", of[f"{what}_cost"], 2)
        row.figure(f"{what}: jobs/s on a short queue; on the long one", f"{of['short'][what]:,.0f}; {of['long'][what]:,.0f}")
    row.at_most("resident memory of the server with all of them queued", of["resident_mb"], 300, " MB", digits=0)
    row.figure("its peak; on disk", f"{of['peak_mb']:,.0f} MB; {of['disk_mb']:,.0f} MB")
    return row


# --- Models in Python ---------------------------------------------------------------------------


def python_echo(settings):
    """A class in Python behind Salver and behind FastAPI, two processes each"""
    row = Row()
    common.record(["benches/workers.py", "echo"])
    for name, figures in workers.echo(settings.pairs, ["--duration", settings.duration]).items():
        if "tutorial" in name:
            row.at_least(f"{name}: Salver / FastAPI", figures["ratio"], 5, digits=1)
        else:
            row.figure(f"{name}: Salver / FastAPI", figures["ratio"].text(2))
        row.figure(f"{name}: requests/s", f"{figures['salver'].text(0)}; FastAPI {figures['fastapi'].text(0)}")
    return row


def python_restart(settings):
    """From the end of a worker to the next answer"""
    row = Row()
    common.record(["benches/workers.py", "restart"])
    for name, figures in workers.restart(settings.pairs).items():
        row.at_most(f"{name}: beyond the import, ms", figures["beyond_ms"], 100, digits=0)
        text = f"{figures['restart_ms'].text(0)}; import alone {figures['import_ms'].text(0)}"
        row.figure(f"{name}: killed to answered, ms", text)
    return row


# --- The model registry -------------------------------------------------------------------------


def registry_at_size(settings):
    """The model registry with 10,000 versions and a million metric points, on SQLite"""
    row = Row()
    common.record(["benches/registry.py", "registry"])
    figures = registry.at_size(settings.quick)
    for call in figures["calls"]:
        times, goal = call["ms"], call["goal_ms"]
        text = f"{times.median:.2f} ms (p99 {times.at(0.99):.2f} ms, n={times.n}, {call['bytes'] / 1000:,.1f} kB each)"
        reaches = () if goal is None else (f"under {goal} ms", times.median < goal)
        row.figure(f"{call['name']}: median", text, *reaches)
    row.figure("filled with", f"{figures['versions']:,} versions and {figures['points']:,} points in {figures['fill_seconds']:.0f} s")
    text = f"{figures['points_per_second']:,.0f} points/s; {figures['versions_per_second']:,.0f} versions/s"
    row.figure(f"filling, {registry.N_WRITERS} connections", text)
    row.figure("afterwards: on disk; resident", f"{figures['data_mb']:.0f} MB; {figures['resident_mb']:.0f} MB")
    row.notes.append("One call at a time over one connection, the time of the caller's Python included (about 0.05 ms).")
    return row


def artifact(settings):
    """A file of 500 MB up and down: memory"""
    row = Row()
    common.record(["benches/registry.py", "artifact"])
    figures = registry.large_file(settings.quick)
    for name in ("upload", "download"):
        over = Spread(figures[f"{name}_over_idle_mb"])
        # The worst of the rounds: a median would hide what grows.
        text, goal = f"{over.max:.0f} MB (rounds: {', '.join(f'{mb:.0f}' for mb in figures[f'{name}_over_idle_mb'])})", 100
        row.figure(f"{name} of {figures['megabytes']} MB: most memory over idle", text, f"at most {goal} MB", over.max <= goal)
    row.figure("the kernel's highest, of all rounds, over idle", f"{figures['peak_over_idle_mb']:.0f} MB")
    row.figure("idle", f"{figures['idle_mb']:.0f} MB")
    for name in ("upload", "download"):
        row.figure(f"{name}, MB/s", Spread(figures[f"{name}_mb_per_second"]).text(0))
    return row


def replay(settings):
    """What MLflow's client sends, against MLflow's own server"""
    row = Row()
    common.record(["benches/registry.py", "replay"])
    figures = registry.replays(settings.quick, settings.long_pairs)
    for connections, goal in ((1, 3), (4, None)):
        of, what = figures[f"connections_{connections}"], f"{connections} connection(s)"
        name = f"{what}: MLflow's time / Salver's ({of['workers']} worker(s) of MLflow)"
        if goal:
            row.at_least(name, of["ratio"], goal, digits=2)
        else:
            row.figure(name, of["ratio"].text(2))
        row.figure(f"{what}: Salver, requests/s", of["salver_per_second"].text(0))
        row.figure(f"{what}: MLflow, requests/s", of["mlflow_per_second"].text(0))
    lines = ["| over one connection | calls | Salver, ms each | MLflow, ms each | ratio |", "|---|---|---|---|---|"]
    for kind in figures["connections_1"]["kinds"]:
        times = f"{kind['salver_ms']:.2f} | {kind['mlflow_ms']:.2f} | {kind['ratio']:.1f}"
        lines.append(f"| `{kind['kind']}` | {kind['calls']} | {times} |")
    row.notes += [f"{figures['calls']:,} requests a connection, each answer compared with the recorded one.", "\n".join(lines)]
    return row


def ensemble(settings):
    """An ensemble of three steps against the slowest of them, asked alone, 32 connections"""
    row, found = Row(), ensembles.against_slowest(settings)
    row.at_least("ensemble / its slowest step", found["ratio"], 0.9, ceiling=CEILING)
    row.figure("the ensemble, requests/s", found["pipeline"].text(1))
    row.figure("its slowest step alone, requests/s", found["transformer"].text(1))
    row.figure("p99 / p50 of the ensemble", found["p99_over_p50"].text(2))
    row.notes.append("Both answer the vector of 384 values as JSON, the ensemble a name besides.")
    return row


def step(settings):
    """What a step without work adds, in process, for a caller that is alone"""
    row, found = Row(), ensembles.each_step(settings)
    row.at_most("each step of a chain of 5, over a chain of 1", found["added"], 20, " µs", digits=1)
    for name, what in (("pass", "the model that each step calls, asked directly"), ("one", "a chain of 1"), ("five", "a chain of 5")):
        row.figure(f"{what}, µs", found[name].text(1))
    return row


def remote_calls(settings):
    """1,000 slow calls of another server under way: memory and threads"""
    row = Row()
    common.record(["benches/remote.py"])
    figures = remote.measure(100 if settings.quick else 1000)
    what = f"{figures['calls']:,} calls under way: memory over that of as many open connections of callers"
    row.at_most(what, figures["over_connections_mb"], 50, " MB", digits=1)
    row.figure("those connections: memory over idle", f"{figures['connections_mb']:.1f} MB")
    row.figure("both together: memory over idle", f"{figures['over_idle_mb']:.1f} MB")
    more = figures["busy_threads"] - figures["idle_threads"]
    row.at_most("more threads than idle", more, 0, digits=0)
    row.figure("idle: memory; threads", f"{figures['idle_mb']:.1f} MB; {figures['idle_threads']}")
    return row


ROWS = {
    "transformer": transformer,
    "resnet50": resnet50,
    "weights": weights,
    "rest": rest,
    "grpc": grpc,
    "tfserving": tfserving,
    "tail": tail,
    "lone": lone,
    "cache": cache,
    "many": many_models,
    "swap": swaps,
    "promises": promises,
    "soak": soaking,
    "peers": others,
    "forms": forms,
    "embedding": embedding,
    "buckets": buckets,
    "pictures": pictures,
    "shm": shared_memory,
    "python": python_echo,
    "restart": python_restart,
    "jobs": jobs_against_celery,
    "jobs-idle": jobs_idle,
    "jobs-million": jobs_million,
    "ensemble": ensemble,
    "step": step,
    "remote": remote_calls,
    "start": start,
    "registry": registry_at_size,
    "artifact": artifact,
    "replay": replay,
}


# --- The report ---------------------------------------------------------------------------------


def machine():
    with contextlib.suppress(OSError):
        cpus = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in cpus if line.startswith("model name")), "")
        system = f"{platform.system()} {platform.release()}"
        return f"{len(os.sched_getaffinity(0))} cores of {model or platform.machine()}, {system}"
    return platform.platform()


def revision():
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown revision"


def section(name, settings):
    """Measures a row; its part of the report, and whether it is whole."""
    common.commands.clear()
    begin, title, others_used = time.monotonic(), ROWS[name].__doc__.strip(), common.Others()
    try:
        content, is_whole = ROWS[name](settings).markdown(), True
    except (Failed, OSError, subprocess.SubprocessError) as failure:
        content, is_whole = f"**NOT MEASURED**: {failure}", False
        note(f"{name}: {failure}")
    quick = " **Shortened: these figures mean nothing.**" if settings.quick else ""
    if (busy := others_used.cores()) > QUIET:
        warning = f"**The machine was not quiet: other processes used {busy:.2f} cores. These figures mean nothing.**"
        note(f"{name}: {warning}")
        content, is_whole = f"{warning}\n\n{content}", False
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    took = (time.monotonic() - begin) / 60
    commands = "\n".join(common.commands)
    text = (
        f"## {title}\n\n{content}\n\n`benches/report.sh {name}`, {when}, {revision()}, {took:.1f} minutes.{quick} "
        f"It runs:\n\n```sh\n{commands}\n```\n"
    )
    return text, is_whole


def write_report():
    """Puts the parts together, in the order of the rows."""
    parts = [PARTS / f"{name}.md" for name in ROWS]
    head = (
        f"# Measured figures\n\nMachine: {machine()}. Server and load generator share it; nothing is pinned. "
        "A spread is over interleaved runs.\n"
    )
    REPORT.write_text("\n".join([head, *(part.read_text() for part in parts if part.exists())]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"any of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="shorten everything; the figures mean nothing")
    parser.add_argument("--list", action="store_true", help="say what the rows are, and end")
    options = parser.parse_args()
    for unknown in (name for name in options.rows if name not in ROWS):
        parser.error(f"unknown row '{unknown}'; there are {', '.join(ROWS)}")
    if options.list:
        return print("\n".join(f"{name:12} {row.__doc__.strip()}" for name, row in ROWS.items()))
    PARTS.mkdir(parents=True, exist_ok=True)
    incomplete = []
    for name in options.rows or ROWS:
        note(f"== {name}: {ROWS[name].__doc__.strip()}")
        text, is_whole = section(name, Settings(options.quick))
        (PARTS / f"{name}.md").write_text(text)
        write_report()
        print(text, flush=True)
        if not is_whole:
            incomplete.append(name)
    print(f"{REPORT.relative_to(ROOT)} is written", flush=True)
    if incomplete:
        sys.exit(f"error: not measured, or not on a quiet machine: {', '.join(incomplete)}")


if __name__ == "__main__":
    main()
