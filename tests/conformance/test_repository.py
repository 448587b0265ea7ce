"""Models that come and go: the repository extension under explicit control, polling, broken models."""

import json
import shutil

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from harness import MODELS
from tritonclient.utils import InferenceServerException


@pytest.fixture(params=["http", "grpc"])
def explicit(request, start, repository):
    """A server under explicit control, its repository, and a client for it."""
    folder = repository("add_sub_fp32", "identity_fp32", "two_versions", "no_batch")
    server = start(folder, "--model-control", "explicit", "--load-model", "identity_fp32")
    kind = httpclient if request.param == "http" else grpcclient
    with kind.InferenceServerClient(server.http if request.param == "http" else server.grpc) as client:
        yield server, folder, client
    server.stop()


def index(server):
    found = server.post("/v2/repository/index", {}).json()
    return {(entry["name"], entry.get("version", "")): entry for entry in found}


def double(server, value=3.0, name="identity_fp32"):
    body = {"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "FP32", "data": [value]}]}
    return server.post(f"/v2/models/{name}/infer", body)


def four(server, version=None):
    where = f"/versions/{version}" if version else ""
    body = {"inputs": [{"name": "INPUT0", "shape": [1, 4], "datatype": "FP32", "data": [0] * 4}]}
    return server.post(f"/v2/models/two_versions{where}/infer", body)


def test_only_what_is_asked_for_is_loaded_and_the_rest_is_listed_by_name(explicit):
    server, _, client = explicit
    found = index(server)
    assert found["identity_fp32", "1"]["state"] == "READY"
    assert found["add_sub_fp32", ""] == {"name": "add_sub_fp32"}
    assert not client.is_model_ready("add_sub_fp32")
    ready = server.post("/v2/repository/index", {"ready": True}).json()
    assert [entry["name"] for entry in ready] == ["identity_fp32"]
    empty_body = server.request("POST", "/v2/repository/index")
    assert empty_body.status == 200 and len(empty_body.json()) >= 4


def test_load_returns_when_loaded_and_unload_ends_service(explicit):
    server, _, client = explicit
    client.load_model("two_versions")
    assert client.is_model_ready("two_versions", "1") and client.is_model_ready("two_versions", "2")
    assert four(server).json()["outputs"][0]["data"] == [2] * 4
    client.unload_model("two_versions")
    server.until(lambda: four(server).status_code != 200, "unloaded")
    answer = four(server)
    assert answer.status_code == 404
    assert "'two_versions'" in answer.json()["error"] and "has no available versions" in answer.json()["error"]
    assert not client.is_model_ready("two_versions")
    server.until(lambda: index(server)["two_versions", "2"]["state"] == "UNAVAILABLE", "unavailable")
    assert client.is_server_ready()
    client.load_model("two_versions")
    assert four(server, 1).json()["outputs"][0]["data"] == [1] * 4


def test_an_unknown_model_cannot_be_loaded_but_its_unload_is_no_error(explicit):
    _, _, client = explicit
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("nobody")
    assert caught.value.status() in ("404", "StatusCode.NOT_FOUND")
    assert "failed to load 'nobody'" in caught.value.message()
    client.unload_model("nobody")
    assert client.is_server_ready()


@pytest.mark.parametrize("name", ["../add_sub_fp32", "..", ".", "a/b", "/etc", "a\\b", ""])
def test_names_never_leave_the_repository(explicit, name):
    server, _, client = explicit
    with pytest.raises(InferenceServerException) as caught:
        client.load_model(name)
    assert caught.value.status() in ("400", "404", "405", "StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND")
    assert double(server).status_code == 200


@pytest.mark.announced_errors("identity_fp32")
def test_a_reload_that_fails_keeps_the_old_version(explicit):
    server, folder, client = explicit
    (folder / "identity_fp32" / "1" / "model.onnx").write_bytes(b"no model")
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("identity_fp32")
    assert "identity_fp32" in caught.value.message()
    assert double(server).json()["outputs"][0]["data"] == [3.0]
    assert client.is_server_ready()


def test_a_reload_takes_what_changed_in_the_folder(explicit):
    server, folder, client = explicit
    client.load_model("two_versions")
    shutil.copytree(folder / "two_versions" / "2", folder / "two_versions" / "5")
    shutil.rmtree(folder / "two_versions" / "1")
    client.load_model("two_versions")
    assert client.is_model_ready("two_versions", "5")
    server.until(lambda: four(server, 1).status_code == 404, "without version 1")
    assert four(server).headers["x-salver-model-version"] == "5"


def test_a_new_folder_can_be_loaded(explicit):
    _, folder, client = explicit
    shutil.copytree(MODELS / "triton" / "identity_int32", folder / "identity_int32")
    client.load_model("identity_int32")
    assert client.is_model_ready("identity_int32")


def test_a_star_loads_every_model(start, repository):
    server = start(
        repository("add_sub_fp32", "no_batch"), "--model-control", "explicit", "--load-model", "*"
    )
    assert {key[0] for key, entry in index(server).items() if entry.get("state") == "READY"} == {
        "add_sub_fp32", "no_batch",
    }


def test_loads_and_unloads_at_once_leave_a_working_server(explicit):
    from concurrent.futures import ThreadPoolExecutor

    server, _, _ = explicit

    def one(i):
        what = "load" if i % 2 else "unload"
        return server.post(f"/v2/repository/models/two_versions/{what}").status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(64))) <= {200, 503}
    assert server.post("/v2/repository/models/two_versions/load").status_code == 200
    assert four(server).status_code == 200


def test_reloads_under_load_lose_no_request(start, repository):
    import threading

    folder = repository("two_versions")
    server = start(folder, "--model-control", "explicit", "--load-model", "two_versions")
    stop = threading.Event()
    wrong: list[str] = []
    answered = [0] * 4

    def ask(i):
        while not stop.is_set():
            answer = four(server)
            if answer.status_code != 200 or answer.json()["outputs"][0]["data"] != [2] * 4:
                wrong.append(f"{answer.status_code} {answer.text[:200]}")
            answered[i] += 1

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            seen = sum(answered)
            assert server.post("/v2/repository/models/two_versions/load").status_code == 200
            server.until(lambda seen=seen: sum(answered) > seen + 4, "answering after a reload")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_polling_follows_the_folders(start, repository):
    folder = repository("identity_fp32")
    server = start(folder, "--model-control", "poll", "--poll-interval-ms", "50")

    def state(name, version):
        return index(server).get((name, version), {}).get("state")

    shutil.copytree(MODELS / "triton" / "two_versions", folder.parent / "new")
    (folder.parent / "new").rename(folder / "two_versions")
    server.until(lambda: state("two_versions", "2") == "READY", "aware of the new folder")
    assert four(server, 1).json()["outputs"][0]["data"] == [1] * 4
    shutil.rmtree(folder / "two_versions" / "1")
    server.until(lambda: four(server, 1).status_code == 404, "without version 1")
    assert four(server, 2).status_code == 200
    shutil.rmtree(folder / "two_versions")
    server.until(lambda: four(server).status_code == 404, "without the model")
    assert double(server).status_code == 200


BROKEN = {
    "unknown_field": "max_batch_sise", "wrong_platform": "tensorrt_plan", "wrong_name": "another",
    "wrong_input": "INPUT1", "wrong_type": "INPUT0", "wrong_rank": "INPUT0", "not_text_format": "",
    "sequence": "sequence_batching", "no_version": "",
}


@pytest.fixture(scope="module")
def broken(start):
    server = start(MODELS / "broken" / "triton", ready=False)

    def loaded():
        entries = index(server)  # one look: two would see different moments
        states = {entry.get("state") for entry in entries.values()}
        return len(entries) == len(BROKEN) + 1 and not states & {"LOADING", None}

    server.until(loaded, "done with loading")
    return server


@pytest.mark.announced_errors(*BROKEN)
@pytest.mark.parametrize("name", BROKEN)
def test_a_model_that_does_not_load_shows_its_reason(broken, name):
    entry, = [e for (n, _), e in index(broken).items() if n == name]
    assert entry["state"] == "UNAVAILABLE"
    assert entry["reason"]
    assert BROKEN[name] in entry["reason"]
    assert "Result::unwrap" not in json.dumps(entry)


@pytest.mark.announced_errors(*BROKEN)
def test_the_others_serve_and_the_server_says_that_it_is_not_ready(broken):
    values = np.zeros(16).tolist()
    body = {"inputs": [
        {"name": n, "shape": [1, 16], "datatype": "FP32", "data": values} for n in ("INPUT0", "INPUT1")
    ]}
    assert broken.post("/v2/models/good/infer", body).status_code == 200
    assert broken.get("/v2/health/live").status_code == 200
    assert broken.get("/v2/health/ready").status_code in (400, 503)


@pytest.mark.announced_errors("truncated", "empty", "not_onnx")
@pytest.mark.parametrize("name", ["truncated", "empty", "not_onnx"])
def test_a_bare_file_that_is_no_model_shows_its_reason(start, name):
    server = start(MODELS / "broken" / f"{name}.onnx", MODELS / "triton" / "identity_fp32", ready=False)
    server.until(lambda: any(n == name and e.get("state") == "UNAVAILABLE" for (n, _), e in index(server).items()),
                 "done with loading")
    entry, = [e for (n, _), e in index(server).items() if n == name]
    assert entry["reason"]
    server.until(lambda: double(server).status_code == 200, "serving the other model")
    server.stop()


@pytest.mark.announced_errors("iris_zipmap")
def test_a_model_with_an_output_that_is_no_tensor_serves_or_says_why_not(start):
    server = start(MODELS / "sklearn" / "iris_zipmap.onnx", ready=False)

    def entry():
        return next((e for (n, _), e in index(server).items() if n == "iris_zipmap"), {})

    server.until(lambda: entry().get("state") in ("READY", "UNAVAILABLE"), "done with loading")
    if entry()["state"] == "READY":
        body = {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}
        answer = server.post("/v2/models/iris_zipmap/infer", body)
        assert answer.status_code == 200, answer.text
        assert {o["name"]: o["data"] for o in answer.json()["outputs"]}["output_label"] == [0]
    else:
        assert "output_probability" in entry()["reason"]
    server.stop()
