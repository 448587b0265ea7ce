"""The v2 REST protocol as bytes on the wire: what no client library sends, but some program will."""

import gzip
import json
import struct
import zlib

import numpy as np
import pytest
from harness import read_answer

INFER = "/v2/models/{}/infer"
FOUR = struct.pack("<4f", 1, 2, 3, 4)


def infer(server, model, inputs, **members):
    return server.post(INFER.format(model), {"inputs": inputs, **members})


def one(data, shape=None, datatype="FP32", name="INPUT0"):
    return [{"name": name, "shape": shape or [1, len(data)], "datatype": datatype, "data": data}]


def binary(server, path, head: dict, blobs: bytes, length=None, extra=()):
    text = json.dumps(head).encode()
    headers = [("Inference-Header-Content-Length", len(text) if length is None else length), *extra]
    return server.request("POST", path, headers, text + blobs)


def assert_refused(answer, *texts, status=(400,)):
    """An error object as JSON, with these texts in it."""
    code = getattr(answer, "status", None) or answer.status_code
    assert code in status, answer.text
    headers = {k.lower(): v for k, v in answer.headers.items()}
    assert headers["content-type"].startswith("application/json")
    message = answer.json()["error"]
    assert message
    for text in texts:
        assert text in message


# Health and metadata


@pytest.mark.parametrize(
    "path, body",
    [("/v2/health/live", {"live": True}), ("/v2/health/ready", {"ready": True}),
     ("/v2/models/add_sub_fp32/ready", {"name": "add_sub_fp32", "ready": True})],
)
def test_health_answers_carry_a_body_that_kserve_can_parse(triton, path, body):
    answer = triton.get(path)
    assert answer.status_code == 200
    assert answer.json().items() >= body.items()


def test_a_model_that_is_not_there_is_not_ready_rather_than_not_found(triton):
    assert triton.get("/v2/models/nobody/ready").status_code == 400
    assert triton.get("/v2/models/two_versions/versions/9/ready").status_code == 400


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_server_metadata_with_and_without_a_trailing_slash(triton, path):
    assert {"name", "version", "extensions"} <= triton.get(path).json().keys()


def test_head_is_allowed_on_health(triton):
    answer = triton.request("HEAD", "/v2/health/live")
    assert (answer.status, answer.body) == (200, b"")


def test_the_model_list_of_kserve(triton):
    assert "add_sub_fp32" in triton.get("/v2/models").json()["models"]


@pytest.mark.parametrize(
    "path, status",
    [
        ("/v2/models/nobody", 404), ("/v2/models/nobody/config", 404), ("/v2/models/nobody/stats", 400),
        ("/v2/models/two_versions/versions/0", 404), ("/v2/models/two_versions/versions/3", 404),
        ("/v2/models/two_versions/versions/one", 404),
        ("/v2/models/two_versions/versions/99999999999999999999", 400),
        ("/v2/nothing", 404), ("/nothing/at/all", 404),
    ],
)
def test_what_is_not_there_says_so_as_an_error_object(triton, path, status):
    assert_refused(triton.get(path), status=(status,))


def test_the_wrong_method_is_405(triton):
    assert_refused(triton.get(INFER.format("add_sub_fp32")), status=(405,))
    assert_refused(triton.post("/v2/health/live", {}), status=(405,))


def test_versions_have_metadata_of_their_own(triton):
    for version in "12":
        answer = triton.get(f"/v2/models/two_versions/versions/{version}").json()
        assert answer["name"] == "two_versions"
        assert sorted(answer["versions"]) == ["1", "2"]


def test_model_names_in_paths_are_percent_decoded(triton):
    assert triton.request("GET", "/v2/models/add%5Fsub_fp32").json()["name"] == "add_sub_fp32"


# JSON inference


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[[1], [2], [3], [4]]]])
def test_data_is_flat_or_nested_to_any_depth(triton, data):
    answer = infer(triton, "identity_fp32", one(data, [2, 2]))
    assert answer.status_code == 200, answer.text
    output, = answer.json()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("OUTPUT0", "FP32", [2, 2])
    assert output["data"] == [1, 2, 3, 4]


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_the_content_type_of_a_request_does_not_matter(triton, content_type):
    headers = [("Content-Type", content_type)] if content_type else []
    body = json.dumps({"inputs": one([1.5])}).encode()
    answer = triton.request("POST", INFER.format("identity_fp32"), headers, body)
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")


def test_the_id_comes_back_only_when_given_and_verbatim(triton):
    assert "id" not in infer(triton, "identity_fp32", one([1])).json()
    for text in ("x" * 1024, "grüße 日本 \U0001f600 \"\\ \t"):
        assert infer(triton, "identity_fp32", one([1]), id=text).json()["id"] == text


def test_unknown_members_and_scalar_parameters_are_ignored(triton):
    answer = infer(
        triton, "identity_fp32", one([1]), surprise={"a": [1]},
        parameters={"mine": "x", "other": 1.5, "third": True, "sequence_id": 3},
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("outputs", [[], None])
def test_no_outputs_means_all_of_them(triton, outputs):
    members = {} if outputs is None else {"outputs": outputs}
    inputs = one([0] * 16) + one([1] * 16, name="INPUT1")
    answer = infer(triton, "add_sub_fp32", inputs, **members).json()
    assert sorted(o["name"] for o in answer["outputs"]) == ["OUTPUT0", "OUTPUT1"]


def test_an_output_asked_for_twice_is_served_once(triton):
    answer = infer(triton, "identity_fp32", one([1]), outputs=[{"name": "OUTPUT0"}] * 2)
    assert len(answer.json()["outputs"]) == 1


def test_64_bit_integers_keep_every_bit(triton):
    for short, datatype, values in (
        ("int64", "INT64", [-(2**63), 2**63 - 1, 2**53 + 1]),
        ("uint64", "UINT64", [0, 2**64 - 1, 2**53 + 1]),
    ):
        answer = infer(triton, f"identity_{short}", one(values, datatype=datatype))
        assert answer.json()["outputs"][0]["data"] == values


def test_a_float_reads_back_as_the_same_float(triton):
    values = [0.1, 1 / 3, 1e-45, 3.4028234663852886e38, 16777217.0]
    got = infer(triton, "identity_fp32", one(values)).json()["outputs"][0]["data"]
    np.testing.assert_array_equal(np.array(got, np.float32), np.array(values, np.float32))


def test_not_a_number_and_infinity_are_tokens_both_ways(triton):
    body = b'{"inputs":[{"name":"INPUT0","shape":[1,4],"datatype":"FP32","data":[NaN,Infinity,-Infinity,1e39]}]}'
    answer = triton.request("POST", INFER.format("identity_fp32"), (), body)
    assert answer.status == 200, answer.text
    data = answer.json()["outputs"][0]["data"]
    assert np.isnan(data[0]) and data[1:] == [float("inf"), float("-inf"), float("inf")]


def test_floats_accept_integers_and_texts_keep_nul_and_emptiness(triton):
    assert infer(triton, "identity_fp64", one([1, 2.5], datatype="FP64")).json()["outputs"][0]["data"] == [1, 2.5]
    texts = ["", "a\u0000b", "grüße"]
    answer = infer(triton, "identity_bytes", one(texts, datatype="BYTES"))
    assert answer.json()["outputs"][0]["data"] == texts


@pytest.mark.parametrize(
    "short, datatype, value",
    [
        ("bool", "BOOL", 1), ("bool", "BOOL", "true"), ("bool", "BOOL", None),
        ("int32", "INT32", 1.0), ("int32", "INT32", 1.5), ("int32", "INT32", "1"),
        ("int32", "INT32", True), ("int32", "INT32", None), ("int32", "INT32", {}),
        ("int8", "INT8", 200), ("int8", "INT8", -129), ("uint8", "UINT8", 256), ("uint8", "UINT8", -1),
        ("int16", "INT16", 32768), ("uint16", "UINT16", 65536), ("int32", "INT32", 2**31),
        ("uint32", "UINT32", 2**32), ("int64", "INT64", 2**63), ("uint64", "UINT64", 2**64),
        ("uint64", "UINT64", -1), ("fp32", "FP32", "NaN"), ("fp32", "FP32", True), ("fp32", "FP32", None),
        ("fp64", "FP64", "1"), ("bytes", "BYTES", 1), ("bytes", "BYTES", None),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_range_is_refused(triton, short, datatype, value):
    answer = infer(triton, f"identity_{short}", one([value], datatype=datatype))
    assert_refused(answer, "INPUT0")


@pytest.mark.parametrize("short, datatype", [("fp16", "FP16"), ("bf16", "BF16")])
def test_half_precision_has_no_json_form(triton, short, datatype):
    assert_refused(infer(triton, f"identity_{short}", one([1.0], datatype=datatype)), "INPUT0")
    head = {"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": datatype,
                        "parameters": {"binary_data_size": 2}}]}
    answer = binary(triton, INFER.format(f"identity_{short}"), head, b"\x00\x3c")
    assert_refused(answer, "binary")


def test_bytes_that_are_no_text_are_never_written_into_json(triton):
    head = {"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "BYTES",
                        "parameters": {"binary_data_size": 5}}]}
    answer = binary(triton, INFER.format("identity_bytes"), head, b"\x01\0\0\0\xff")
    answer.body.decode("utf-8")
    assert answer.status in (200, 400)
    if answer.status == 400:
        assert_refused(answer, "binary")


@pytest.mark.parametrize(
    "request_body, text",
    [
        ({}, "inputs"), ({"inputs": {}}, "inputs"), ({"inputs": "x"}, "inputs"), ([], ""),
        ({"inputs": []}, "INPUT0"),
        ({"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "FP32"}]}, "INPUT0"),
        ({"inputs": [{"shape": [1, 1], "datatype": "FP32", "data": [1]}]}, "name"),
        ({"inputs": [{"name": "INPUT0", "datatype": "FP32", "data": [1]}]}, "INPUT0"),
        ({"inputs": [{"name": "INPUT0", "shape": [1, 1], "data": [1]}]}, "INPUT0"),
        ({"inputs": one([1], [1, -1])}, "INPUT0"),
        ({"inputs": one([1], [1.0, 1])}, "INPUT0"),
        ({"inputs": one([1], ["1", 1])}, "INPUT0"),
        ({"inputs": one([1], [0, 1])}, ""),
        ({"inputs": one([1, 2], [1, 3])}, "INPUT0"),
        ({"inputs": one([1, 2, 3], [1, 2])}, "INPUT0"),
        ({"inputs": one([1], [1])}, "INPUT0"),
        ({"inputs": one([1], datatype="FP33")}, "INPUT0"),
        ({"inputs": one([1], datatype="fp32")}, "INPUT0"),
        ({"inputs": one([1]) + one([1])}, "INPUT0"),
        ({"inputs": one([1]), "id": 7}, "id"),
        ({"inputs": one([1]), "parameters": {"x": [1]}}, "x"),
        ({"inputs": one([1]), "parameters": {"x": {}}}, "x"),
        ({"inputs": one([1]), "outputs": [{"name": "NONE"}]}, "NONE"),
        ({"inputs": one([1]), "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": "yes"}}]}, "binary_data"),
        ({"inputs": one([1]), "parameters": {"binary_data_output": "yes"}}, "binary_data_output"),
        (
            {"inputs": [{"name": "INPUT0", "shape": [1, 1], "datatype": "FP32", "data": [1],
                         "parameters": {"binary_data_size": 4}}]},
            "INPUT0",
        ),
    ],
)
def test_requests_that_are_not_well_formed_name_the_fault(triton, request_body, text):
    assert_refused(triton.post(INFER.format("identity_fp32"), request_body), text)


# Binary tensors


def head_for(size, shape, datatype="FP32", **members):
    return {"inputs": [{"name": "INPUT0", "shape": shape, "datatype": datatype,
                        "parameters": {"binary_data_size": size}}], **members}


def split(answer):
    """The JSON part and the blobs of a reply."""
    length = int(answer.headers["inference-header-content-length"])
    assert answer.headers["content-type"] == "application/octet-stream"
    return json.loads(answer.body[:length]), answer.body[length:]


def test_the_request_flag_makes_every_output_binary(triton):
    head = head_for(16, [1, 4], parameters={"binary_data_output": True})
    reply, blobs = split(binary(triton, INFER.format("identity_fp32"), head, FOUR))
    assert reply["outputs"][0]["parameters"]["binary_data_size"] == 16
    assert "data" not in reply["outputs"][0]
    assert blobs == FOUR


def test_an_outputs_own_flag_wins(triton):
    head = head_for(16, [1, 4], parameters={"binary_data_output": True},
                    outputs=[{"name": "OUTPUT0", "parameters": {"binary_data": False}}])
    answer = binary(triton, INFER.format("identity_fp32"), head, FOUR)
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["outputs"][0]["data"] == [1, 2, 3, 4]


def test_any_non_zero_byte_is_true(triton):
    answer = binary(triton, INFER.format("identity_bool"), head_for(3, [1, 3], "BOOL"), b"\x00\x01\x02")
    assert answer.json()["outputs"][0]["data"] == [False, True, True]


def test_empty_tensors_pass_both_ways(triton):
    answer = infer(triton, "identity_fp32", one([], [1, 0]))
    assert answer.json()["outputs"][0] | {"parameters": None} == {
        "name": "OUTPUT0", "datatype": "FP32", "shape": [1, 0], "data": [], "parameters": None,
    }


def test_a_raw_body_is_the_only_input(triton):
    answer = triton.request(
        "POST", INFER.format("identity_fp32"), [("Inference-Header-Content-Length", 0)], FOUR
    )
    reply, blobs = split(answer)
    assert reply["outputs"][0]["shape"] == [1, 4]
    assert blobs == FOUR


@pytest.mark.parametrize("model", ["add_sub_fp32", "dynamic_shape", "identity_bytes"])
def test_a_raw_body_is_refused_where_it_cannot_be_read(triton, model):
    """Two inputs, two free dimensions, BYTES of unknown count."""
    answer = triton.request("POST", INFER.format(model), [("Inference-Header-Content-Length", 0)], FOUR)
    assert_refused(answer)


@pytest.mark.parametrize(
    "head, blobs, length",
    [
        (head_for(16, [1, 4]), FOUR[:-1], None),
        (head_for(16, [1, 4]), FOUR + b"x", None),
        (head_for(12, [1, 4]), FOUR[:12], None),
        (head_for(20, [1, 4]), FOUR + b"\0\0\0\0", None),
        (head_for(-16, [1, 4]), FOUR, None),
        (head_for(2**64 + 16, [1, 4]), FOUR, None),
        (head_for("16", [1, 4]), FOUR, None),
        (head_for(16, [1, 4]), FOUR, -1),
        (head_for(16, [1, 4]), FOUR, 10**6),
        (head_for(16, [1, 4]), FOUR, "abc"),
        (head_for(16, [1, 4]), FOUR, 2**64 + 3),
        (head_for(16, [1, 4]), FOUR, ""),
        (head_for(128, [2**4, 2**60 + 2]), b"\0" * 128, None),
        (head_for(0, [1, 2**62]), b"", None),
    ],
    ids=["short", "left over", "less than shape", "more than shape", "negative size", "huge size", "size as text",
         "negative length", "length past end", "length no number", "length past 64 bits", "length empty",
         "shape product wraps", "byte size wraps to 0"],
)
def test_binary_headers_that_lie_are_refused(triton, head, blobs, length):
    assert_refused(binary(triton, INFER.format("identity_fp32"), head, blobs, length))


@pytest.mark.parametrize(
    "blob", [b"\x05\0\0\0ab", b"\xff\xff\xff\xff", b"\x01\0", b"\x01\0\0\0a\x01\0\0\0b", b""],
    ids=["past the end", "4 GiB", "half a prefix", "two elements", "no element"],
)
def test_bytes_elements_that_lie_are_refused(triton, blob):
    head = head_for(len(blob), [1, 1], "BYTES")
    assert_refused(binary(triton, INFER.format("identity_bytes"), head, blob))


def test_two_headers_that_differ_are_refused(triton):
    head = head_for(16, [1, 4])
    answer = binary(triton, INFER.format("identity_fp32"), head, FOUR,
                    extra=[("Inference-Header-Content-Length", 5)])
    assert_refused(answer)


def test_binary_inputs_without_the_header_are_refused(triton):
    body = json.dumps(head_for(16, [1, 4])).encode() + FOUR
    assert_refused(triton.request("POST", INFER.format("identity_fp32"), (), body))
    assert_refused(triton.post(INFER.format("identity_fp32"), head_for(16, [1, 4])))


def test_an_empty_body_is_refused(triton):
    assert_refused(triton.request("POST", INFER.format("identity_fp32")))


# HTTP


def test_the_best_encoding_the_client_accepts_is_used(triton):
    body = json.dumps({"inputs": one([1, 2, 3, 4])}).encode()
    for accept, encoding in (
        ("gzip", "gzip"), ("deflate", "deflate"), ("gzip, deflate", "gzip"),
        ("gzip;q=0.2, deflate;q=0.8", "deflate"), ("gzip;q=0, identity", None), ("br", None), ("", None),
    ):
        answer = triton.request("POST", INFER.format("identity_fp32"), [("Accept-Encoding", accept)], body)
        assert answer.status == 200
        assert answer.headers.get("content-encoding") == encoding, accept
        plain = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[encoding](answer.body)
        assert json.loads(plain)["outputs"][0]["data"] == [1, 2, 3, 4]


def test_error_replies_are_not_compressed(triton):
    answer = triton.request("POST", INFER.format("identity_fp32"), [("Accept-Encoding", "gzip")], b"{}")
    assert "content-encoding" not in answer.headers
    assert_refused(answer)


def test_the_header_of_a_compressed_body_counts_decompressed_bytes(triton):
    text = json.dumps(head_for(16, [1, 4])).encode()
    for name, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        answer = triton.request(
            "POST", INFER.format("identity_fp32"),
            [("Content-Encoding", name), ("Inference-Header-Content-Length", len(text))], pack(text + FOUR),
        )
        assert answer.json()["outputs"][0]["data"] == [1, 2, 3, 4]


def test_encodings_that_are_unknown_or_broken_are_refused(triton):
    body = json.dumps({"inputs": one([1])}).encode()
    path = INFER.format("identity_fp32")
    assert triton.request("POST", path, [("Content-Encoding", "identity")], body).status == 200
    assert_refused(triton.request("POST", path, [("Content-Encoding", "br")], body), status=(415,))
    assert_refused(triton.request("POST", path, [("Content-Encoding", "gzip")], body))
    cut = gzip.compress(body)[:-6]
    assert_refused(triton.request("POST", path, [("Content-Encoding", "gzip")], cut))


def test_a_connection_survives_an_error_reply(triton):
    bad, good = b"{}", json.dumps({"inputs": one([5])}).encode()
    path = INFER.format("identity_fp32")
    with triton.connect() as connection:
        for body, status in ((bad, 400), (good, 200), (bad, 400), (good, 200)):
            connection.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
            assert read_answer(connection).status == status


def test_pipelined_requests_are_all_answered_in_order(triton):
    requests = b""
    for i in range(10):
        body = json.dumps({"id": str(i), "inputs": one([i])}).encode()
        requests += (
            f"POST {INFER.format('identity_fp32')} HTTP/1.1\r\nHost: localhost\r\n"
            f"Connection: {'close' if i == 9 else 'keep-alive'}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
    with triton.connect() as connection:
        connection.sendall(requests)
        everything = b""
        while chunk := connection.recv(65536):
            everything += chunk
    bodies = [
        json.loads(part[: part.rindex(b"}") + 1])
        for part in everything.split(b"\r\n\r\n")[1:]
    ]
    assert [b["id"] for b in bodies] == [str(i) for i in range(10)]


def test_chunked_bodies_and_expect_continue_work(triton):
    body = json.dumps({"inputs": one([1, 2])}).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:7], body[7:30], body[30:])) + b"0\r\n\r\n"
    path = INFER.format("identity_fp32")
    answer = triton.request("POST", path, [("Transfer-Encoding", "chunked")], chunks)
    assert answer.json()["outputs"][0]["data"] == [1, 2]
    with triton.connect() as connection:
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert read_answer(connection).json()["outputs"][0]["data"] == [1, 2]
