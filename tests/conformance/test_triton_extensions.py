"""Triton's extensions: classification, generate, trace and log settings, request parameters.

With the unmodified tritonclient over HTTP and gRPC, synchronous and asyncio, and with raw requests for what
it does not send.
"""

import asyncio
import json
import re
import shutil
import threading

import numpy as np
import pytest
import requests
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from harness import MODELS, PATIENCE_S
from tritonclient.grpc import aio as grpc_aio
from tritonclient.grpc import service_pb2
from tritonclient.http import aio as http_aio
from tritonclient.utils import InferenceServerException

CLIENTS = {"http": http_client, "grpc": grpc_client}


@pytest.fixture(scope="module", params=["http", "grpc"])
def form(request):
    return request.param


@pytest.fixture(scope="module")
def own(start):
    """A server whose settings these tests may change."""
    return start(MODELS / "triton")


def connected(server, form):
    return CLIENTS[form].InferenceServerClient(getattr(server, form))


@pytest.fixture(scope="module")
def client(own, form):
    with connected(own, form) as connection:
        yield connection


def tensor(form, name, datatype, value):
    return CLIENTS[form].InferInput(name, list(value.shape), datatype).set_data_from_numpy(value)


def infer_body(*rows, name="INPUT0", datatype="FP32", **more):
    data = np.array(rows)
    tensor = {"name": name, "shape": list(data.shape), "datatype": datatype, "data": data.reshape(-1).tolist()}
    return {"inputs": [tensor], **more}


# Classification

SCORES = np.array([[0.25, 5.0, -1.0], [3.0, 1.0, 2.0]], np.float32)
BEST = [
    ["5.000000:1:bee", "0.250000:0:ant", "-1.000000:2:cat"],
    ["3.000000:0:ant", "2.000000:2:cat", "1.000000:1:bee"],
]


def texts(result, name):
    return [[item.decode() for item in row] for row in result.as_numpy(name)]


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_the_best_classes_come_back_with_their_labels(client, form, count):
    wanted = CLIENTS[form].InferRequestedOutput("SCORES", class_count=count)
    result = client.infer("labelled", [tensor(form, "INPUT0", "FP32", SCORES)], outputs=[wanted])
    assert texts(result, "SCORES") == [row[:count] for row in BEST]


def test_classes_come_back_as_json_too(own):
    with http_client.InferenceServerClient(own.http) as http:
        wanted = http_client.InferRequestedOutput("SCORES", binary_data=False, class_count=2)
        result = http.infer("labelled", [tensor("http", "INPUT0", "FP32", SCORES)], outputs=[wanted])
    output = result.get_response()["outputs"][0]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == [text for row in BEST for text in row[:2]]


def test_integers_without_labels_are_written_plain(client, form):
    first = np.arange(16, dtype=np.int32).reshape(1, 16)
    inputs = [tensor(form, "INPUT0", "INT32", first), tensor(form, "INPUT1", "INT32", np.ones_like(first))]
    wanted = [
        CLIENTS[form].InferRequestedOutput("OUTPUT0", class_count=2),
        CLIENTS[form].InferRequestedOutput("OUTPUT1"),
    ]
    result = client.infer("add_sub_int32", inputs, outputs=wanted)
    assert texts(result, "OUTPUT0") == [["16:15", "15:14"]]
    assert result.as_numpy("OUTPUT1").tolist() == (first - 1).tolist(), "the other output keeps its values"


def test_a_model_without_a_batch_dimension_has_one_list_of_classes(client, form):
    value = np.array([[1, 2, 3], [6, 5, 4]], np.float32)
    wanted = CLIENTS[form].InferRequestedOutput("OUTPUT0", class_count=2)
    result = client.infer("no_batch", [tensor(form, "INPUT0", "FP32", value)], outputs=[wanted])
    got = result.as_numpy("OUTPUT0")
    assert got.shape == (2,)
    assert [item.decode().split(":")[1] for item in got] == ["5", "4"]


def test_what_holds_no_numbers_has_no_classes(client, form):
    value = np.array([["a", "b"]], object)
    wanted = CLIENTS[form].InferRequestedOutput("OUTPUT0", class_count=1)
    with pytest.raises(InferenceServerException, match="OUTPUT0.*identity_bytes.*numbers") as caught:
        client.infer("identity_bytes", [tensor(form, "INPUT0", "BYTES", value)], outputs=[wanted])
    assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")


@pytest.mark.parametrize("value", [-1, 1.5, "2", True])
def test_a_wrong_number_of_classes_is_refused(own, value):
    outputs = [{"name": "SCORES", "parameters": {"classification": value}}]
    answer = own.post("/v2/models/labelled/infer", infer_body([1, 2, 3], outputs=outputs))
    assert answer.status_code == 400
    assert "classification" in answer.json()["error"] and "SCORES" in answer.json()["error"]
    message = service_pb2.ModelInferRequest(model_name="labelled")
    message.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    parameter = message.outputs.add(name="SCORES").parameters["classification"]
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    setattr(parameter, kinds[type(value)], value)
    with grpc_client.InferenceServerClient(own.grpc) as grpc, pytest.raises(Exception, match="classification"):
        grpc._client_stub.ModelInfer(message, timeout=PATIENCE_S)


def test_no_classes_asked_for_are_the_values(own):
    outputs = [{"name": "SCORES", "parameters": {"classification": 0}}]
    answer = own.post("/v2/models/labelled/infer", infer_body([1, 2, 3], outputs=outputs)).json()
    assert answer["outputs"][0]["data"] == [1.0, 2.0, 3.0]


def test_the_asyncio_clients_classify(own):
    async def calls():
        for aio, form in ((http_aio, "http"), (grpc_aio, "grpc")):
            async with aio.InferenceServerClient(getattr(own, form)) as client:
                wanted = CLIENTS[form].InferRequestedOutput("SCORES", class_count=1)
                result = await client.infer("labelled", [tensor(form, "INPUT0", "FP32", SCORES)], outputs=[wanted])
                assert texts(result, "SCORES") == [row[:1] for row in BEST]

    asyncio.run(calls())


def test_classes_come_back_over_a_stream(own):
    answers = []
    done = threading.Event()

    def note(result, error):
        answers.append((result, error))
        done.set()

    with grpc_client.InferenceServerClient(own.grpc) as client:
        client.start_stream(note)
        wanted = grpc_client.InferRequestedOutput("SCORES", class_count=1)
        client.async_stream_infer("labelled", [tensor("grpc", "INPUT0", "FP32", SCORES)], outputs=[wanted])
        assert done.wait(PATIENCE_S)
        client.stop_stream()
    (result, error), = answers
    assert error is None and texts(result, "SCORES") == [row[:1] for row in BEST]


# Generate

GENERATE = ["generate", "generate_stream"]


def generated(answer):
    """The objects of a good answer: one of JSON, or one for each event."""
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == "application/json":
        return [answer.json()]
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = answer.content.decode().split("\n\n")
    assert events.pop() == "", "the last event ends with a blank line too"
    assert all(re.fullmatch(r"data: [^\n]+", event) for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


@pytest.mark.parametrize("route", GENERATE)
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_inputs_and_outputs_go_by_name(own, route, version):
    body = {"id": "é-7", "INPUT0": list(range(16)), "INPUT1": [1] * 16}
    (answer,) = generated(own.post(f"/v2/models/add_sub_int32{version}/{route}", body))
    assert answer == {
        "id": "é-7", "model_name": "add_sub_int32", "model_version": "1",
        "OUTPUT0": [x + 1 for x in range(16)], "OUTPUT1": [x - 1 for x in range(16)],
    }


@pytest.mark.parametrize("route", GENERATE)
@pytest.mark.parametrize(
    "model, value", [("identity_fp32", 1.5), ("identity_bytes", 'a "text"\nof two lines'), ("identity_int64", 2**62)]
)
def test_one_element_is_a_bare_value(own, route, model, value):
    (answer,) = generated(own.post(f"/v2/models/{model}/{route}", {"INPUT0": value}))
    assert answer == {"model_name": model, "model_version": "1", "OUTPUT0": value}


def test_a_list_fills_the_shape_from_its_inner_end(own):
    (answer,) = generated(own.post("/v2/models/labelled/generate", {"INPUT0": [1, 2, 3, 4, 5, 6]}))
    assert answer["SCORES"] == [1, 2, 3, 4, 5, 6], "two rows of three"
    refused = own.post("/v2/models/labelled/generate", {"INPUT0": [1, 2, 3, 4]})
    assert refused.status_code == 400 and "INPUT0" in refused.json()["error"]


@pytest.mark.parametrize("route", GENERATE)
def test_other_keys_are_parameters(own, route):
    body = {"INPUT0": "x", "temperature": 0.5, "stream": False, "parameters": {"priority": 1, "timeout": 5, "name": "n"}}
    (answer,) = generated(own.post(f"/v2/models/identity_bytes/{route}", body))
    assert answer["OUTPUT0"] == "x"
    (nested,) = generated(own.post(f"/v2/models/identity_bytes/{route}", {"parameters": {"INPUT0": "in there"}}))
    assert nested["OUTPUT0"] == "in there"


@pytest.mark.parametrize("route", GENERATE)
@pytest.mark.parametrize(
    "model, body, status, named",
    [
        ("nobody", {"x": 1}, 404, "nobody"),
        ("identity_fp32", {}, 400, "INPUT0"),
        ("identity_fp32", {"INPUT0": "text"}, 400, "INPUT0"),
        ("identity_fp32", {"INPUT0": None}, 400, "INPUT0"),
        ("identity_fp32", {"INPUT0": 1, "other": [1]}, 400, "other"),
        ("identity_fp32", {"INPUT0": 1, "other": {}}, 400, "other"),
        ("identity_fp32", {"INPUT0": 1, "priority": -1}, 400, "priority"),
        ("identity_fp32", {"INPUT0": 1, "triton_x": 1}, 400, "triton_x"),
        ("identity_fp32", {"INPUT0": 1, "parameters": 3}, 400, "parameters"),
        ("identity_fp32", {"INPUT0": 1, "id": 3}, 400, "id"),
        ("identity_fp32", [1], 400, ""),
        ("identity_fp16", {"INPUT0": 1}, 400, "FP16"),
    ],
)
def test_what_fails_before_the_first_event_is_a_plain_error(own, route, model, body, status, named):
    answer = own.post(f"/v2/models/{model}/{route}", body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert named in answer.json()["error"]


@pytest.mark.parametrize("route", GENERATE)
def test_a_coded_body_and_another_method_are_refused(own, route):
    path = f"/v2/models/identity_fp32/{route}"
    for coding in ("gzip", "deflate", "br"):
        answer = own.post(path, {"INPUT0": 1}, headers={"Content-Encoding": coding})
        assert 400 <= answer.status_code < 500 and "Content-Encoding" in answer.json()["error"]
    assert own.post(path, {"INPUT0": 1}, headers={"Content-Encoding": "identity"}).status_code == 200
    assert own.get(path).status_code == 405
    assert own.get(path).json()["error"]


def test_a_stream_keeps_its_connection_and_is_never_compressed(own):
    with requests.Session() as session:
        for number in range(3):
            headers = {"Accept-Encoding": "gzip"}
            url = f"{own.url}/v2/models/identity_int32/generate_stream"
            answer = session.post(url, json={"INPUT0": number}, headers=headers, timeout=PATIENCE_S)
            assert "content-encoding" not in answer.headers
            assert generated(answer)[0]["OUTPUT0"] == number


# Trace settings

STARTED_WITH = {
    "trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0", "trace_file": "",
    "trace_mode": "triton",
}


def plain(settings):
    """Trace settings of either client as the HTTP one gives them."""
    if isinstance(settings, dict):
        return settings
    values = {name: list(setting.value) for name, setting in settings.settings.items()}
    return {name: value if name == "trace_level" else value[0] for name, value in values.items()}


@pytest.fixture
def untraced(own):
    yield own
    nothing = dict.fromkeys(STARTED_WITH)
    for path in ("/v2/trace/setting", *(f"/v2/models/{model}/trace/setting" for model in ("identity_fp32", "slow"))):
        assert own.post(path, nothing).status_code == 200


def traces(server):
    return [record for record in server.records() if record.get("message") == "request traced"]


def traced(server, ids):
    """The trace lines of requests with these ids, once a line that was logged after them is there."""
    marker = f"marker-{len(server.stderr)}"
    server.post("/v2/models/identity_fp64/trace/setting", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    server.post("/v2/models/identity_fp64/infer", infer_body([1.0], datatype="FP64"), headers={"x-request-id": marker})
    server.post("/v2/models/identity_fp64/trace/setting", {"trace_level": None, "trace_rate": None})
    server.until(lambda: any(marker in line for line in server.stderr), "logged the marker")
    return [record for record in traces(server) if record["request_id"] in ids]


def ask(server, ids, model="identity_fp32"):
    for name in ids:
        headers = {"x-request-id": name}
        assert server.post(f"/v2/models/{model}/infer", infer_body([1.0]), headers=headers).status_code == 200


def test_a_server_traces_nothing_at_first(client, untraced):
    assert plain(client.get_trace_settings()) == STARTED_WITH
    assert plain(client.get_trace_settings(model_name="slow")) == STARTED_WITH


def test_settings_of_a_model_cover_those_of_the_server(client, untraced):
    everywhere = {"trace_rate": "7", "log_frequency": "3"}
    assert plain(client.update_trace_settings(settings=everywhere)) == STARTED_WITH | everywhere
    its_own = {"trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": "5", "trace_count": "9"}
    expected = STARTED_WITH | everywhere | its_own
    assert plain(client.update_trace_settings(model_name="slow", settings=its_own)) == expected
    assert plain(client.get_trace_settings(model_name="slow")) == expected
    assert plain(client.get_trace_settings(model_name="identity_fp32")) == STARTED_WITH | everywhere
    cleared = client.update_trace_settings(model_name="slow", settings={"trace_rate": None, "trace_level": None})
    assert plain(cleared) == STARTED_WITH | everywhere | {"trace_count": "9"}
    assert plain(client.update_trace_settings(settings={"trace_rate": None})) == STARTED_WITH | {"log_frequency": "3"}


def test_each_nth_request_of_a_model_is_logged_with_its_timings(untraced):
    settings = {"trace_level": ["TIMESTAMPS"], "trace_rate": "3", "trace_count": "2"}
    answer = untraced.post("/v2/models/identity_fp32/trace/setting", settings)
    assert answer.json() == STARTED_WITH | settings
    ids = [f"nth-{number}" for number in range(1, 13)]
    ask(untraced, ids)
    ask(untraced, ["of-another"], model="slow")
    lines = traced(untraced, [*ids, "of-another"])
    assert [line["request_id"] for line in lines] == ["nth-3", "nth-6"], "two of each third, and no more"
    for line in lines:
        assert (line["model"], line["version"], line["batch_rows"]) == ("identity_fp32", 1, 1)
        stages = ("queue", "compute_input", "compute_infer", "compute_output")
        assert sum(line[f"{stage}_ns"] for stage in stages) <= line["total_ns"]
        assert line["compute_infer_ns"] > 0
        assert "outputs" not in line
    assert untraced.get("/v2/models/identity_fp32/trace/setting").json()["trace_count"] == "0"


def test_tensors_are_traced_without_their_content(untraced):
    untraced.post("/v2/trace/setting", {"trace_level": ["TENSORS"], "trace_rate": "1"})
    body = infer_body(["a secret"], datatype="BYTES")
    assert body["inputs"][0]["shape"] == [1, 1]
    assert untraced.post("/v2/models/identity_bytes/infer", body, headers={"x-request-id": "tensors"}).ok
    untraced.post("/v2/trace/setting", {"trace_level": None})
    (line,) = traced(untraced, ["tensors"])
    assert (line["inputs"], line["outputs"]) == ("INPUT0 BYTES [1,1]", "OUTPUT0 BYTES [1,1]")
    assert "queue_ns" not in line
    assert not any("secret" in text for text in untraced.stderr)


def test_grpc_streams_generate_and_failures_are_traced(untraced):
    untraced.post("/v2/models/identity_fp32/trace/setting", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    headers = {"x-request-id": "generated"}
    assert untraced.post("/v2/models/identity_fp32/generate_stream", {"INPUT0": 1}, headers=headers).ok
    wrong = infer_body([1.0], name="NONE")
    assert untraced.post("/v2/models/identity_fp32/infer", wrong, headers={"x-request-id": "failed"}).status_code == 400
    with grpc_client.InferenceServerClient(untraced.grpc) as grpc:
        value = tensor("grpc", "INPUT0", "FP32", np.ones((1, 1), np.float32))
        grpc.infer("identity_fp32", [value], headers={"x-request-id": "called"})
    lines = {line["request_id"]: line for line in traced(untraced, ["generated", "failed", "called"])}
    assert set(lines) == {"generated", "failed", "called"}
    assert "NONE" in lines["failed"]["error"]


@pytest.mark.parametrize(
    "settings, status",
    [
        ({"trace_rate": "x"}, 400), ({"trace_rate": "-1"}, 400), ({"trace_rate": str(2**64)}, 400),
        ({"trace_rate": ""}, 400), ({"trace_rate": True}, 400), ({"trace_rate": ["1"]}, 400),
        ({"trace_count": "1.5"}, 400), ({"trace_count": str(2**63)}, 400), ({"trace_count": "-2"}, 400),
        ({"trace_level": "TIMESTAMPS"}, 400), ({"trace_level": [1]}, 400), ({"trace_level": ["LOUD"]}, 400),
        ({"trace_level": ["OFF", "TIMESTAMPS"]}, 400), ({"log_frequency": {}}, 400),
        ({"trace_file": "/tmp/trace.json"}, 501), ({"trace_mode": "opentelemetry"}, 501),
        ({"trace_rate": "5", "trace_file": "/tmp/trace.json"}, 501),
        ({"unknown": {"a": 1}}, 200), ({"trace_file": "", "trace_mode": "triton"}, 200), ({}, 200),
    ],
)
def test_wrong_trace_settings_change_nothing(untraced, settings, status):
    for path in ("/v2/trace/setting", "/v2/models/slow/trace/setting"):
        answer = untraced.post(path, settings)
        assert answer.status_code == status, answer.text
        if status != 200:
            assert any(name in answer.json()["error"] for name in settings)
        assert untraced.get(path).json() == STARTED_WITH


def test_wrong_trace_settings_are_refused_over_grpc(untraced):
    with grpc_client.InferenceServerClient(untraced.grpc) as grpc:
        for settings, status in [
            ({"trace_rate": "x"}, "INVALID_ARGUMENT"), ({"trace_rate": ["1", "2"]}, "INVALID_ARGUMENT"),
            ({"trace_level": ["LOUD"]}, "INVALID_ARGUMENT"), ({"trace_file": "/tmp/x"}, "UNIMPLEMENTED"),
        ]:
            with pytest.raises(InferenceServerException, match=next(iter(settings))) as caught:
                grpc.update_trace_settings(settings=settings)
            assert caught.value.status() == f"StatusCode.{status}"
        assert plain(grpc.get_trace_settings()) == STARTED_WITH


def test_an_unknown_model_has_no_trace_settings(client, own):
    for call in (client.get_trace_settings, client.update_trace_settings):
        with pytest.raises(InferenceServerException, match="nobody") as caught:
            call(model_name="nobody")
        assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")


def test_the_asyncio_clients_read_and_change_settings(untraced):
    async def calls():
        for aio, form in ((http_aio, "http"), (grpc_aio, "grpc")):
            async with aio.InferenceServerClient(getattr(untraced, form)) as client:
                changed = await client.update_trace_settings(settings={"trace_rate": "11"})
                assert plain(changed)["trace_rate"] == "11"
                assert plain(await client.get_trace_settings(model_name="slow"))["trace_rate"] == "11"
                await client.update_trace_settings(settings={"trace_rate": None})
                assert logging(await client.update_log_settings({"log_verbose_level": 0})) == LOGGED_AT_FIRST
                assert logging(await client.get_log_settings()) == LOGGED_AT_FIRST

    asyncio.run(calls())


# Log settings

LOGGED_AT_FIRST = {
    "log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0,
    "log_format": "default",
}


def logging(settings):
    """Log settings of either client as the HTTP one gives them."""
    if isinstance(settings, dict):
        return settings
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in settings.settings.items()}


@pytest.fixture(scope="module")
def loud(start):
    """A server that warns of every inference, and whose log these tests may change."""
    return start(MODELS / "triton" / "identity_fp32", "--slow-ms", "0")


@pytest.fixture
def quiet_again(loud):
    yield loud
    assert loud.post("/v2/logging", LOGGED_AT_FIRST).status_code == 200


def levels_of(server, name):
    """The levels at which a request with this id is mentioned, once a later trace line is there."""
    server.post("/v2/models/identity_fp32/trace/setting", {"trace_level": ["TIMESTAMPS"], "trace_rate": "2"})
    ask(server, [name, f"{name}-end"])
    server.post("/v2/models/identity_fp32/trace/setting", dict.fromkeys(STARTED_WITH))
    server.until(lambda: any(line["request_id"] == f"{name}-end" for line in traces(server)), "traced")
    return {record["level"] for record in server.records() if record.get("request_id") == name}


def test_log_settings_act_at_once(loud, quiet_again, form):
    with connected(loud, form) as client:
        assert logging(client.get_log_settings()) == LOGGED_AT_FIRST
        assert levels_of(loud, f"{form}-first") == {"WARN"}
        assert logging(client.update_log_settings({"log_verbose_level": 1})) == LOGGED_AT_FIRST | {"log_verbose_level": 1}
        assert levels_of(loud, f"{form}-verbose") == {"WARN", "DEBUG"}
        changed = {"log_verbose_level": 0, "log_warning": False}
        assert logging(client.update_log_settings(changed)) == LOGGED_AT_FIRST | changed
        assert levels_of(loud, f"{form}-silent") == set()
        client.update_log_settings({"log_warning": True})
        assert levels_of(loud, f"{form}-again") == {"WARN"}


def test_all_settings_are_taken_back_as_they_were_read(loud, quiet_again, form):
    with connected(loud, form) as client:
        other = {"log_info": False, "log_error": False, "log_format": "ISO8601"}
        assert logging(client.update_log_settings(other)) == LOGGED_AT_FIRST | other
        assert logging(client.update_log_settings(LOGGED_AT_FIRST)) == LOGGED_AT_FIRST
        assert logging(client.update_log_settings({"log_info": None, "unknown": True})) == LOGGED_AT_FIRST


@pytest.mark.parametrize(
    "settings, status",
    [
        ({"log_info": 1}, 400), ({"log_warning": "true"}, 400), ({"log_error": []}, 400),
        ({"log_verbose_level": -1}, 400), ({"log_verbose_level": 2**32}, 400), ({"log_verbose_level": 10**30}, 400),
        ({"log_verbose_level": 1.0}, 400), ({"log_verbose_level": True}, 400), ({"log_verbose_level": "1"}, 400),
        ({"log_format": "iso8601"}, 400), ({"log_format": 1}, 400), ({"log_file": 1}, 400),
        ({"log_file": "/tmp/log"}, 501), ({"log_info": False, "log_file": "/tmp/log"}, 501),
        ([], 400),
    ],
)
def test_wrong_log_settings_change_nothing(loud, settings, status):
    answer = loud.post("/v2/logging", settings)
    assert answer.status_code == status, answer.text
    assert not settings or any(name in answer.json()["error"] for name in settings)
    assert loud.get("/v2/logging").json() == LOGGED_AT_FIRST


def test_wrong_log_settings_are_refused_over_grpc(loud):
    with grpc_client.InferenceServerClient(loud.grpc) as grpc:
        for settings, status in [
            ({"log_file": "/tmp/log"}, "UNIMPLEMENTED"), ({"log_format": "other"}, "INVALID_ARGUMENT"),
        ]:
            with pytest.raises(InferenceServerException, match=next(iter(settings))) as caught:
                grpc.update_log_settings(settings)
            assert caught.value.status() == f"StatusCode.{status}"
        message = service_pb2.LogSettingsRequest()
        message.settings["log_info"].string_param = "yes"
        with pytest.raises(Exception, match="log_info"):
            grpc._client_stub.LogSettings(message, timeout=PATIENCE_S)
        assert logging(grpc.get_log_settings()) == LOGGED_AT_FIRST


def test_a_server_that_starts_silent_can_be_made_to_speak(start):
    server = start(MODELS / "triton" / "identity_fp32", "--slow-ms", "0", "--log-level", "error")
    assert server.get("/v2/logging").json() == LOGGED_AT_FIRST | {"log_info": False, "log_warning": False}
    assert levels_of(server, "before") == set()
    assert server.post("/v2/logging", {"log_warning": True}).json()["log_warning"]
    assert levels_of(server, "after") == {"WARN"}
    server.stop()


# Request parameters

RESERVED = [
    ("sequence_id", 1.5), ("sequence_id", True), ("sequence_id", -1), ("sequence_start", 1), ("sequence_end", "yes"),
    ("priority", -1), ("priority", "high"), ("priority", 1.5), ("priority", True), ("timeout", -1),
    ("timeout", "1000"), ("timeout", 0.5), ("headers", 1), ("binary_data_output", 1), ("binary_data_output", "true"),
    ("triton_anything", "x"), ("triton_enable_empty_final_response", "true"),
]


def set_parameter(parameter, value):
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    setattr(parameter, kinds[type(value)], value)


@pytest.mark.parametrize("name, value", RESERVED)
def test_reserved_parameters_have_types(own, name, value):
    answer = own.post("/v2/models/identity_fp32/infer", infer_body([1.0], parameters={name: value}))
    assert answer.status_code == 400 and name in answer.json()["error"]
    message = service_pb2.ModelInferRequest(model_name="identity_fp32")
    message.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1)
    set_parameter(message.parameters[name], value)
    with grpc_client.InferenceServerClient(own.grpc) as grpc, pytest.raises(Exception, match=name) as caught:
        grpc._client_stub.ModelInfer(message, timeout=PATIENCE_S)
    assert "INVALID_ARGUMENT" in str(caught.value)


def test_parameters_of_the_right_type_pass(client, form):
    value = tensor(form, "INPUT0", "FP32", np.ones((1, 1), np.float32))
    custom = {"text": "x", "count": 3, "flag": True, "headers": "x-a"}
    result = client.infer("identity_fp32", [value], priority=2, timeout=5_000_000, parameters=custom)
    assert result.as_numpy("OUTPUT0").tolist() == [[1.0]]
    with pytest.raises(InferenceServerException):
        client.infer("identity_fp32", [value], parameters={"triton_x": 1})


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_only_scalars_are_parameters(own, value):
    answer = own.post("/v2/models/identity_fp32/infer", infer_body([1.0], parameters={"p": value}))
    assert answer.status_code == 400 and "'p'" in answer.json()["error"]


@pytest.mark.parametrize("value", [1, "true"])
def test_an_output_parameter_of_the_wrong_type_is_refused(own, value):
    outputs = [{"name": "OUTPUT0", "parameters": {"binary_data": value}}]
    answer = own.post("/v2/models/identity_fp32/infer", infer_body([1.0], outputs=outputs))
    assert answer.status_code == 400
    assert "binary_data" in answer.json()["error"] and "OUTPUT0" in answer.json()["error"]


# Schedule policy: one request runs some tens of milliseconds, so those behind it wait.


def queued(folder, batching):
    path = folder / "repository" / "slow"
    shutil.copytree(MODELS / "triton" / "slow", path)
    config = (path / "config.pbtxt").read_text()
    (path / "config.pbtxt").write_text(re.sub(r"dynamic_batching \{ \}", batching, config))
    return path.parent


def crowd(server, count, **parameters):
    """Asks for the slow model many times at once; the answers."""
    answers = [None] * count

    def one(idx):
        answers[idx] = server.post("/v2/models/slow/infer", infer_body([1.0], parameters=parameters))

    threads = [threading.Thread(target=one, args=(idx,)) for idx in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    return answers


def policy(action="REJECT", default=0, override="true", most=0):
    return f"""dynamic_batching {{ default_queue_policy {{
      timeout_action: {action} default_timeout_microseconds: {default}
      allow_timeout_override: {override} max_queue_size: {most} }} }}"""


@pytest.mark.parametrize(
    "settings, timeout, may_expire",
    [
        ({"default": 60_000_000}, 1, True),
        ({"default": 1}, None, True),
        ({"default": 1}, 60_000_000, True),
        ({"default": 60_000_000, "override": "false"}, 1, False),
        ({"default": 0}, 1, False),
        ({"default": 60_000_000, "action": "DELAY"}, 1, False),
        ({"default": 60_000_000}, 0, False),
    ],
    ids=["shorter", "the model's", "longer", "no override", "no default", "delay", "zero"],
)
def test_a_request_may_shorten_its_wait_as_the_model_allows(start, tmp_path, settings, timeout, may_expire):
    server = start(queued(tmp_path, policy(**settings)))
    answers = crowd(server, 24, **({} if timeout is None else {"timeout": timeout}))
    statuses = {answer.status_code for answer in answers}
    assert statuses == ({200, 503} if may_expire else {200}) or (may_expire and statuses == {503})
    for answer in answers:
        if answer.status_code == 503:
            assert "Request timeout expired" in answer.json()["error"]
    server.stop()


def test_an_expired_wait_is_unavailable_over_grpc(start, tmp_path):
    server = start(queued(tmp_path, policy(default=60_000_000)))
    done = threading.Event()
    errors = []

    def note(result, error):
        errors.append(error)
        if len(errors) == 24:
            done.set()

    with grpc_client.InferenceServerClient(server.grpc) as grpc:
        value = tensor("grpc", "INPUT0", "FP32", np.ones((1, 1), np.float32))
        for _ in range(24):
            grpc.async_infer("slow", [value], note, timeout=1)
        assert done.wait(PATIENCE_S)
    refused = [error for error in errors if error is not None]
    assert refused and all(error.status() == "StatusCode.UNAVAILABLE" for error in refused)
    assert all("Request timeout expired" in error.message() for error in refused)
    server.stop()


def test_a_full_queue_says_so(start, tmp_path):
    server = start(queued(tmp_path, policy(most=1)))
    answers = crowd(server, 24)
    assert {answer.status_code for answer in answers} == {200, 503}
    refused = [answer for answer in answers if answer.status_code == 503]
    assert all("Exceeds maximum queue size" in answer.json()["error"] for answer in refused)
    assert server.post("/v2/models/slow/infer", infer_body([1.0])).status_code == 200
    server.stop()


def test_priorities_beyond_the_levels_are_the_default_one(start, tmp_path):
    levels = """dynamic_batching { priority_levels: 2 default_priority_level: 2
      priority_queue_policy { key: 1 value { max_queue_size: 1 } } }"""
    server = start(queued(tmp_path, levels))
    for priority in (0, 2, 3, 2**63 - 1):
        answers = crowd(server, 12, priority=priority)
        assert {answer.status_code for answer in answers} == {200}, priority
    assert 503 in {answer.status_code for answer in crowd(server, 24, priority=1)}, "level 1 has a bound of its own"
    server.stop()


# Server metadata

OFFERED = {
    "binary_tensor_data", "classification", "logging", "model_configuration", "model_repository", "parameters",
    "schedule_policy", "statistics", "trace",
}


def test_the_extensions_that_are_offered_are_named(client):
    metadata = client.get_server_metadata()
    named = metadata["extensions"] if isinstance(metadata, dict) else list(metadata.extensions)
    assert set(named) >= OFFERED
    assert len(set(named)) == len(named)
