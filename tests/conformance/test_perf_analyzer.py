"""perf_analyzer, Triton's own load tool, as a client: what it sends is answered and counted."""

import json

import perf_analyzer
import pytest
from harness import MODELS
from perf_analyzer import REQUESTS
from workers import FLAGS, model

pytestmark = pytest.mark.tool_may_hang

ROW = [float(value) for value in range(16)]
OVER = ["http", "grpc"]
STREAM = ("grpc", ("--streaming",))
JSON = ("--input-tensor-format", "json", "--output-tensor-format", "json")
# The tool sends one more request of a sequence that is not over after the last one that it counts.
WHOLE = ("--sequence-length", 5, "--sequence-length-variation", 0)

COUNTER = """
class Counter:
    inputs = {"n": ("INT32", [1])}
    outputs = {"i": ("INT32", [1])}

    def predict(self, batch):
        for i in range(int(batch["n"][0])):
            yield {"i": [i]}
"""


@pytest.fixture(scope="module")
def server(start):
    perf_analyzer.program()
    return start(
        MODELS / "triton", MODELS / "sequences", MODELS / "tfserving" / "half_plus_two", MODELS / "tfserving" / "axpy",
        "--allow-client-shm", "--triton-metrics",
    )


def counted(server, name):
    """Requests that went well, requests that failed, rows and executions, of all versions together."""
    found = server.get(f"/v2/models/{name}/stats").json()["model_stats"]
    requests = [entry["inference_stats"] for entry in found]
    return (
        sum(entry["success"]["count"] for entry in requests), sum(entry["fail"]["count"] for entry in requests),
        sum(entry["inference_count"] for entry in found), sum(entry["execution_count"] for entry in found),
    )


@pytest.fixture
def measure(server, tmp_path):
    """measure(model, *options): a run that goes well, and of which tool and server count the same."""

    def run(name, *args, requests=REQUESTS, rows=1, **options):
        before = counted(server, name)
        outcome = perf_analyzer.run(tmp_path, server, name, *args, requests=requests, **options)
        assert outcome.code == 0 and not outcome.complaints(), outcome.text
        success, fail, inferences, executions = (now - then for now, then in zip(counted(server, name), before, strict=True))
        assert (success, fail, inferences) == (requests, 0, requests * rows), outcome.text
        assert 0 < executions <= requests
        assert outcome.count("Request count") == requests
        if "Server:" in outcome.text:
            # What it read of the statistics; the first requests may be done before it looks for the first time.
            assert 0 < outcome.count("Successful request count") <= requests
            assert 0 < outcome.count("Inference count") <= requests * rows
            assert 0 < outcome.count("Execution count") <= executions
        (line,) = outcome.table
        assert float(line["Inferences/Second"]) > 0
        return outcome

    return run


@pytest.mark.parametrize("over, args", [
    ("http", ()), ("http", ("--async", "--concurrency-range", 4)), ("http", ("--sync", "--concurrency-range", 4)),
    ("http", JSON), ("http", ("--request-rate-range", REQUESTS)),
    ("grpc", ()), ("grpc", ("--async", "--concurrency-range", 4)), ("grpc", ("--streaming", "--concurrency-range", 4)),
    ("grpc", ("--grpc-compression-algorithm", "gzip")), ("grpc", ("--grpc-compression-algorithm", "deflate")),
    ("grpc", ("--request-parameter", "note:7:int")),
])  # fmt: skip
def test_requests_are_answered_and_counted(measure, over, args):
    outcome = measure("add_sub_fp32", *args, over=over)
    assert "Server:" in outcome.text
    assert {"Concurrency", "Request Rate"} & outcome.table[0].keys()
    assert {"Server Queue", "Server Compute Infer", "p99 latency"} <= outcome.table[0].keys()


def test_grpc_on_the_port_of_http(server, measure, monkeypatch):
    monkeypatch.setitem(server.listeners, "grpc", server.listeners["http"])
    measure("add_sub_fp32", over="grpc")


def test_windows_of_a_count(server, tmp_path):
    before = counted(server, "add_sub_fp32")
    windows = ("--measurement-mode", "count_windows", "--measurement-request-count", REQUESTS, "-s", 100_000, "-r", 4)
    outcome = perf_analyzer.run(tmp_path, server, "add_sub_fp32", *windows, requests=0)
    assert outcome.code == 0, outcome.text
    success, fail = (now - then for now, then in zip(counted(server, "add_sub_fp32")[:2], before[:2], strict=True))
    assert fail == 0 and success >= outcome.count("Request count") >= REQUESTS


@pytest.mark.parametrize("over", OVER)
def test_batches(measure, over):
    measure("add_sub_fp32", "-b", 8, over=over, rows=8)
    measure("reshaped", "-b", 3, over=over, rows=3)


@pytest.mark.parametrize("over", OVER)
def test_what_a_model_cannot_take_is_seen_before_a_request(server, tmp_path, over):
    outcome = perf_analyzer.run(tmp_path, server, "no_batch", "-b", 2, over=over)
    assert outcome.code and "the model does not support batching" in outcome.text, outcome.text
    outcome = perf_analyzer.run(tmp_path, server, "nobody", over=over)
    assert outcome.code and "Request for unknown model: 'nobody' is not found" in outcome.text


@pytest.mark.parametrize("over", OVER)
def test_a_version_by_its_number(server, measure, over):
    def requests():
        entries = server.get("/v2/models/two_versions/stats").json()["model_stats"]
        return {entry["version"]: entry["inference_stats"]["success"]["count"] for entry in entries}

    before = requests()
    measure("two_versions", "-x", 1, over=over)
    assert requests() == before | {"1": before["1"] + REQUESTS}
    measure("two_versions", over=over)
    assert requests() == {"1": before["1"] + REQUESTS, "2": before["2"] + REQUESTS}


@pytest.mark.parametrize("over, args", [("http", ()), ("http", JSON), ("grpc", ()), STREAM])
@pytest.mark.parametrize("form", [("--string-length", 40), ("--string-data", "grüße")])
def test_texts(measure, over, args, form):
    measure("identity_bytes", "--shape", "INPUT0:3", *form, *args, over=over)


def data(folder, steps, expected):
    path = folder / "data.json"
    path.write_text(json.dumps({"data": steps, "validation_data": expected}))
    return path


@pytest.mark.parametrize("over, args", [("http", ()), ("http", ("--async",)), ("grpc", ()), ("grpc", ("--async",)), STREAM])
def test_answers_are_those_of_the_data(server, measure, tmp_path, over, args):
    steps = [{"INPUT0": ROW, "INPUT1": [7.0] * 16}, {"INPUT0": [0.5] * 16, "INPUT1": ROW}]
    sums = [[a + b for a, b in zip(step["INPUT0"], step["INPUT1"], strict=True)] for step in steps]
    differences = [[a - b for a, b in zip(step["INPUT0"], step["INPUT1"], strict=True)] for step in steps]
    expected = [{"OUTPUT0": a, "OUTPUT1": b} for a, b in zip(sums, differences, strict=True)]
    measure("add_sub_fp32", "--input-data", data(tmp_path, steps, expected), *args, over=over)
    # The tool looks at what it gets: it ends where one number is another.
    expected[1]["OUTPUT1"][15] += 1
    outcome = perf_analyzer.run(
        tmp_path, server, "add_sub_fp32", "--input-data", data(tmp_path, steps, expected), *args, over=over
    )
    assert outcome.code and "Output doesn't match expected output" in outcome.text, outcome.text


@pytest.mark.parametrize("over, args", [("http", ()), ("grpc", ()), STREAM])
def test_shared_memory(server, measure, over, args):
    shared = ("--shared-memory", "system", *args)
    measure("add_sub_fp32", *shared, over=over)
    measure("add_sub_fp32", *shared, "-b", 4, over=over, rows=4)
    texts = ("--shape", "INPUT0:3", "--string-data", "text", "--output-shared-memory-size", 1024)
    measure("identity_bytes", *shared, *texts, over=over)
    assert server.get("/v2/systemsharedmemory/status").json() == []


@pytest.mark.parametrize("name", ["sum_oldest", "sum_direct", "controls_number"])
@pytest.mark.parametrize("over, args", [("http", ("--async",)), ("http", ("--sync",)), ("grpc", ("--sync",)), STREAM])
def test_sequences(measure, name, over, args):
    outcome = measure(name, *WHOLE, *args, "--concurrency-range", 4, "--sequence-id-range", "500:600", over=over)
    assert outcome.count("Sequence count") == REQUESTS // 5


@pytest.mark.parametrize("name, begins_at", [("sum_oldest", 0), ("sum_direct", 100)])
@pytest.mark.parametrize("over, args", [("http", ("--async",)), ("grpc", ("--sync",)), STREAM])
def test_sums_of_sequences(server, measure, tmp_path, name, begins_at, over, args):
    steps = [[{"INPUT": [value]} for value in (1, 10, 100, 1000, 10000)]]
    expected = [[{"SUM": [begins_at + value]} for value in (1, 11, 111, 1111, 11111)]]
    measure(name, "--input-data", data(tmp_path, steps, expected), "--concurrency-range", 2, *args, over=over)
    expected[0][4]["SUM"][0] += 1
    wrong = ("--input-data", data(tmp_path, steps, expected), *args)
    outcome = perf_analyzer.run(tmp_path, server, name, *wrong, over=over)
    assert outcome.code and "Output doesn't match expected output" in outcome.text, outcome.text


@pytest.mark.parametrize("name", ["sum_oldest", "sum_direct"])
def test_a_number_of_sequences_at_a_rate(server, tmp_path, name):
    before = counted(server, name)
    rate = ("--streaming", "--request-rate-range", REQUESTS, "--num-of-sequences", 3, *WHOLE)
    outcome = perf_analyzer.run(tmp_path, server, name, *rate, "--serial-sequences", over="grpc")
    assert outcome.code == 0 and not outcome.complaints(), outcome.text
    success, fail, *_ = (now - then for now, then in zip(counted(server, name), before, strict=True))
    assert fail == 0 and success >= outcome.count("Request count") >= REQUESTS


def test_metrics(server, tmp_path):
    def requests():
        lines = server.get("/metrics").text.splitlines()
        name = 'nv_inference_request_success{model="add_sub_int32",version="1"} '
        return sum(int(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = requests()
    server_metrics = ("--collect-metrics", "--metrics-url", f"{server.http}/metrics", "--verbose-csv")
    outcome = perf_analyzer.run(tmp_path, server, "add_sub_int32", *server_metrics)
    # Those of a GPU are not there, as on a Triton without one, and the tool goes on.
    missing = ["utilization", "power_usage", "memory_used_bytes", "memory_total_bytes"]
    assert outcome.complaints() == [f"WARNING: Unable to parse 'nv_gpu_{name}' metric." for name in missing]
    assert outcome.code == 0 and "Avg GPU Utilization" in outcome.table[0]
    assert requests() == before + REQUESTS


@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("level", ["TIMESTAMPS", "TENSORS"])
def test_traces(server, measure, over, level):
    def traces():
        return [r for r in server.records() if r.get("message") == "request traced" and r["model"] == "identity_int32"]

    before = len(traces())
    settings = ("--trace-level", level, "--trace-rate", 2, "--trace-count", 6, "--log-frequency", 3)
    try:
        measure("identity_int32", "--shape", "INPUT0:4", *settings, over=over)
        shown = server.get("/v2/trace/setting").json()
    finally:
        server.post("/v2/trace/setting", dict.fromkeys(["trace_level", "trace_rate", "trace_count", "log_frequency"]))
    assert (shown["trace_level"], shown["trace_rate"], shown["log_frequency"]) == ([level], "2", "3")
    assert shown["trace_count"] == "0", "what is left of it"
    server.until(lambda: len(traces()) >= before + 6, "traced")
    assert len(traces()) == before + 6


@pytest.mark.parametrize("name, shapes, rows", [
    ("half_plus_two", ("--shape", "x:1"), 1), ("half_plus_two", ("--shape", "x:1", "-b", 3), 3),
    ("half_plus_two", ("--shape", "x:1", "--grpc-compression-algorithm", "gzip"), 1),
    ("half_plus_two", ("--shape", "x:1", "--concurrency-range", 3), 1), ("axpy", ("--shape", "a:1", "--shape", "b:1,2"), 1),
])  # fmt: skip
def test_tf_servings_service(server, measure, name, shapes, rows):
    measure(name, "--service-kind", "tfserving", *shapes, over="grpc", rows=rows)


def test_tf_servings_signatures_are_known(server, tmp_path):
    named = ("--service-kind", "tfserving", "--shape", "x:1", "--model-signature-name")
    assert perf_analyzer.run(tmp_path, server, "half_plus_two", *named, "serving_default", over="grpc").code == 0
    outcome = perf_analyzer.run(tmp_path, server, "half_plus_two", *named, "other", over="grpc")
    assert outcome.code and 'Failed to find signature_name "other"' in outcome.text


def test_a_decoupled_model(start, tmp_path):
    perf_analyzer.program()
    server = start(model(tmp_path / "counter", COUNTER, "[instances]\ncount = 1\n"), *FLAGS)
    (tmp_path / "data.json").write_text(json.dumps({"data": [{"n": [3]}]}))
    export = tmp_path / "profile.json"
    args = ("--streaming", "--input-data", tmp_path / "data.json", "--profile-export-file", export)
    outcome = perf_analyzer.run(tmp_path, server, "counter", *args, over="grpc")
    assert outcome.code == 0 and not outcome.complaints() and "Detected decoupled model" in outcome.text, outcome.text
    assert 0 < outcome.count("Successful request count") <= REQUESTS
    (experiment,) = json.loads(export.read_text())["experiments"]
    # Three answers and the empty one behind them.
    assert [len(request["response_timestamps"]) for request in experiment["requests"]] == [4] * REQUESTS
