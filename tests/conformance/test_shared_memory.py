"""System shared memory through tritonclient over HTTP, gRPC and asyncio, and what an owner can do to break it."""

import asyncio
import contextlib
import itertools
import json
import os
import queue
import threading

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.utils.shared_memory as shm
from harness import MODELS, PATIENCE_S, assert_same, model_file, ort
from tensors import SAMPLES, pair
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

CLIENTS = {"http": tritonclient.http, "grpc": tritonclient.grpc}
COUNTER = itertools.count()


@pytest.fixture(scope="module")
def server(start):
    return start(MODELS / "triton", "--allow-client-shm")


def connect(server, protocol):
    address = {"http": server.http, "grpc": server.grpc}[protocol]
    return CLIENTS[protocol].InferenceServerClient(address)


@pytest.fixture(params=CLIENTS)
def protocol(request):
    return request.param


@pytest.fixture
def client(server, protocol):
    with connect(server, protocol) as connection:
        yield connection
        connection.unregister_system_shared_memory()


@pytest.fixture
def region(client):
    """region(bytes): a registered region of its own, as its handle and its name."""
    with contextlib.ExitStack() as stack:

        def make(size, register=True, **options):
            name = f"salver_test_{os.getpid()}_{next(COUNTER)}"
            handle = shm.create_shared_memory_region(name, f"/{name}", size, create_only=True)
            stack.callback(shm.destroy_shared_memory_region, handle)
            if register:
                client.register_system_shared_memory(name, f"/{name}", options.get("byte_size", size), options.get("offset", 0))
            return handle, name

        yield make


def object_file(name):
    return f"/dev/shm/{name}"


def tensor(module, name, datatype, shape):
    return module.InferInput(name, list(shape), datatype)


def packed(datatype, value):
    """The value as it stands in shared memory."""
    if datatype != "BYTES":
        return value
    return np.frombuffer(serialize_byte_tensor(value).item(), np.uint8)


def status(client):
    found = client.get_system_shared_memory_status(as_json=True) if "grpc" in type(client).__module__ else None
    if found is not None:
        return {name: (entry["key"], int(entry["byte_size"])) for name, entry in found.get("regions", {}).items()}
    return {entry["name"]: (entry["key"], entry["byte_size"]) for entry in client.get_system_shared_memory_status()}


def refused(call, *fragments):
    with pytest.raises(InferenceServerException) as caught:
        call()
    for fragment in fragments:
        assert fragment in str(caught.value), str(caught.value)
    assert "/dev/shm" not in str(caught.value) and "/proc" not in str(caught.value)
    return caught.value.status()


BAD_INPUT = ("400", "StatusCode.INVALID_ARGUMENT")
UNKNOWN = ("404", "StatusCode.NOT_FOUND")


# What works


@pytest.mark.parametrize("short", SAMPLES)
def test_every_type_goes_both_ways(client, protocol, region, short):
    module, (datatype, value) = CLIENTS[protocol], SAMPLES[short]
    model, content = f"identity_{short}", packed(*SAMPLES[short])
    (source, into), (target, out) = region(content.nbytes + 64), region(content.nbytes + 128)
    shm.set_shared_memory_region(source, [content.reshape(-1)], offset=64)
    given = tensor(module, "INPUT0", datatype, value.shape)
    given.set_shared_memory(into, content.nbytes, 64)
    wanted = module.InferRequestedOutput("OUTPUT0")
    wanted.set_shared_memory(out, content.nbytes + 64, 64)
    result = client.infer(model, [given], outputs=[wanted])
    output = result.get_output("OUTPUT0")
    shape = output["shape"] if protocol == "http" else list(output.shape)
    if protocol == "http":
        assert set(output) == {"name", "datatype", "shape"}
    else:
        assert result.get_response().raw_output_contents == [b""]
    expected = ort(model_file(model), INPUT0=value)["OUTPUT0"]
    dtype = np.object_ if datatype == "BYTES" else value.dtype
    got = shm.get_contents_as_numpy(target, dtype, shape, 64)
    assert_same(got, expected)
    assert bytes(target._mpsm_handle.buf[:64]) == bytes(64)


def test_tensors_elsewhere_and_in_shared_memory_are_mixed(client, protocol, region):
    module, (first, second) = CLIENTS[protocol], pair(np.float32)
    (source, name), (target, out) = region(first.nbytes), region(first.nbytes)
    shm.set_shared_memory_region(source, [first])
    for in_memory, in_body in ((0, 1), (1, 0)):
        given = [tensor(module, f"INPUT{idx}", "FP32", first.shape) for idx in (0, 1)]
        given[in_memory].set_shared_memory(name, first.nbytes)
        given[in_body].set_data_from_numpy(second)
        outputs = [module.InferRequestedOutput("OUTPUT0"), module.InferRequestedOutput("OUTPUT1")]
        outputs[0].set_shared_memory(out, first.nbytes)
        result = client.infer("add_sub_fp32", given, outputs=outputs)
        given_values = (first, second) if in_memory == 0 else (second, first)
        assert_same(shm.get_contents_as_numpy(target, np.float32, first.shape), given_values[0] + given_values[1])
        assert_same(result.as_numpy("OUTPUT1"), given_values[0] - given_values[1])


def test_regions_are_registered_listed_and_taken_back(client, protocol, region):
    (_, first), (_, second) = region(64), region(128, byte_size=32, offset=96)
    assert status(client) == {first: (f"/{first}", 64), second: (f"/{second}", 32)}
    one = client.get_system_shared_memory_status(second)
    entry = one[0] if protocol == "http" else one.regions[second]
    offset = entry["offset"] if protocol == "http" else entry.offset
    assert offset == 96
    again = lambda: client.register_system_shared_memory(first, f"/{first}", 64)  # noqa: E731
    assert refused(again, f"shared memory region '{first}' already in manager") in ("400", "StatusCode.ALREADY_EXISTS")
    client.unregister_system_shared_memory("nobody")
    client.unregister_system_shared_memory(first)
    assert set(status(client)) == {second}
    gone = lambda: client.get_system_shared_memory_status(first)  # noqa: E731
    assert refused(gone, f"Unable to find system shared memory region: '{first}'") in UNKNOWN
    client.register_system_shared_memory(first, f"/{first}", 64)
    client.unregister_system_shared_memory()
    assert status(client) == {}


def test_both_protocols_see_the_same_regions(server, client, region):
    _, name = region(64)
    for protocol in CLIENTS:
        with connect(server, protocol) as other:
            assert set(status(other)) == {name}


def test_asyncio_clients(server, client, protocol, region):
    first, second = pair(np.int32)
    (source, into), (target, out) = region(2 * first.nbytes), region(2 * first.nbytes)
    shm.set_shared_memory_region(source, [first, second])
    module = CLIENTS[protocol]
    aio = {"http": tritonclient.http.aio, "grpc": tritonclient.grpc.aio}[protocol]

    async def run():
        async with aio.InferenceServerClient(server.http) as other:
            regions = await other.get_system_shared_memory_status()
            assert len(regions if protocol == "http" else regions.regions) == 2
            given, wanted = [], []
            for idx in (0, 1):
                given.append(tensor(module, f"INPUT{idx}", "INT32", first.shape))
                given[idx].set_shared_memory(into, first.nbytes, idx * first.nbytes)
                wanted.append(module.InferRequestedOutput(f"OUTPUT{idx}"))
                wanted[idx].set_shared_memory(out, first.nbytes, idx * first.nbytes)
            await asyncio.gather(*(other.infer("add_sub_int32", given, outputs=wanted) for _ in range(16)))

    asyncio.run(run())
    assert_same(shm.get_contents_as_numpy(target, np.int32, first.shape), first + second)
    assert_same(shm.get_contents_as_numpy(target, np.int32, first.shape, first.nbytes), first - second)


@pytest.mark.parametrize("protocol", ["grpc"])
@pytest.mark.parametrize("value", [SAMPLES["fp32"][1], np.arange(4e6, dtype=np.float32).reshape(4, -1)], ids=["small", "large"])
def test_streams(client, region, value):
    (source, into), (target, out) = region(value.nbytes), region(value.nbytes)
    shm.set_shared_memory_region(source, [value])
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for name in (into, "nobody", into):
        given = tensor(tritonclient.grpc, "INPUT0", "FP32", value.shape)
        given.set_shared_memory(name, value.nbytes)
        wanted = tritonclient.grpc.InferRequestedOutput("OUTPUT0")
        wanted.set_shared_memory(out, value.nbytes)
        client.async_stream_infer("identity_fp32", [given], outputs=[wanted], request_id=name)
    replies = [answers.get(timeout=PATIENCE_S) for _ in range(3)]
    client.stop_stream()
    assert [error is None for _, error in replies] == [True, False, True]
    assert "Unable to find shared memory region: 'nobody'" in str(replies[1][1])
    assert replies[2][0].get_response().raw_output_contents == [b""]
    assert_same(shm.get_contents_as_numpy(target, np.float32, value.shape), value)


def test_large_tensors(client, protocol, region):
    """More than a megabyte is copied and written away from the threads of the sockets."""
    module = CLIENTS[protocol]
    value = np.random.default_rng(5).random((4, 1_000_000), np.float32)
    (source, into), (target, out) = region(value.nbytes), region(value.nbytes)
    shm.set_shared_memory_region(source, [value])
    given = tensor(module, "INPUT0", "FP32", value.shape)
    given.set_shared_memory(into, value.nbytes)
    wanted = module.InferRequestedOutput("OUTPUT0")
    wanted.set_shared_memory(out, value.nbytes)
    client.infer("identity_fp32", [given], outputs=[wanted])
    assert_same(shm.get_contents_as_numpy(target, np.float32, value.shape), value)


# Off by default


def test_it_is_off_unless_allowed(triton, protocol):
    with connect(triton, protocol) as client:
        metadata = client.get_server_metadata()
        extensions = metadata["extensions"] if protocol == "http" else list(metadata.extensions)
        assert "system_shared_memory" not in extensions
        given = tensor(CLIENTS[protocol], "INPUT0", "FP32", [1, 1])
        given.set_shared_memory("r", 4)
        wanted = CLIENTS[protocol].InferRequestedOutput("OUTPUT0")
        wanted.set_shared_memory("r", 4)
        plain = tensor(CLIENTS[protocol], "INPUT0", "FP32", [1, 1]).set_data_from_numpy(np.ones((1, 1), np.float32))
        for call in (
            client.get_system_shared_memory_status,
            lambda: client.get_system_shared_memory_status("r"),
            lambda: client.register_system_shared_memory("r", "/r", 64),
            client.unregister_system_shared_memory,
            lambda: client.unregister_system_shared_memory("r"),
            lambda: client.infer("identity_fp32", [given]),
            lambda: client.infer("identity_fp32", [plain], outputs=[wanted]),
        ):
            assert refused(call, "--allow-client-shm") in ("501", "StatusCode.UNIMPLEMENTED")


def test_it_is_listed_where_it_is_allowed(client, protocol):
    metadata = client.get_server_metadata()
    extensions = metadata["extensions"] if protocol == "http" else list(metadata.extensions)
    assert "system_shared_memory" in extensions and "cuda_shared_memory" not in extensions


# Attacks


@contextlib.contextmanager
def entry(make):
    """Something in /dev/shm that is removed at the end."""
    path = object_file(f"salver_test_{os.getpid()}_{next(COUNTER)}")
    make(path)
    try:
        yield os.path.basename(path)
    finally:
        (os.rmdir if os.path.isdir(path) and not os.path.islink(path) else os.unlink)(path)


@pytest.mark.parametrize(
    "kind, make",
    [
        ("link to a file", lambda path: os.symlink("/etc/hostname", path)),
        ("link to memory without a name", lambda path: os.symlink("/proc/self/fd/0", path)),
        ("folder", os.mkdir),
        ("pipe", os.mkfifo),
    ],
)
def test_a_key_leads_to_an_object_only(client, kind, make):
    with entry(make) as key:
        code = refused(lambda: client.register_system_shared_memory("r", f"/{key}", 1), "shared memory region 'r'")
        assert code in BAD_INPUT
    assert status(client) == {}


def test_keys_never_leave_the_folder(client, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(bytes(64))
    up = "../" * 8
    reserved = "triton_python_backend_shm_region_1"
    for key in (
        str(outside), f"{up}{outside}", f"/{up}{outside}", "/etc/passwd", "..", ".", "/", "", "a/b", "/./a", "no such object",
        reserved, f"/{reserved}", f"//{reserved}", "k" * 256, "k" * 100_000,
    ):
        code = refused(lambda: client.register_system_shared_memory("r", key, 1), "shared memory region 'r'")
        assert code in BAD_INPUT, key
    assert status(client) == {}


def test_regions_are_within_their_object(client, protocol, region):
    _, name = region(64, register=False)
    # The client's library refuses what does not fit 63 bits over gRPC.
    for offset, size in ((0, 65), (1, 64), (64, 1), (65, 0), (0, 0), (32, 2**64 - 32), (2**64 - 1, 1), (2**63, 2**63)):
        call = lambda: client.register_system_shared_memory("r", f"/{name}", size, offset)  # noqa: E731
        assert refused(call, "failed to register shared memory region", "invalid args") in BAD_INPUT
    assert status(client) == {}


def test_windows_are_within_their_region(client, protocol, region):
    module, value = CLIENTS[protocol], np.ones((1, 16), np.float32)
    (_, into), (_, out) = region(64), region(64)

    def infer(given=(into, 64, 0), wanted=(out, 64, 0)):
        tensor_in, tensor_out = tensor(module, "INPUT0", "FP32", value.shape), module.InferRequestedOutput("OUTPUT0")
        tensor_in.set_shared_memory(*given)
        tensor_out.set_shared_memory(*wanted)
        return client.infer("identity_fp32", [tensor_in], outputs=[tensor_out])

    infer()
    wrapping = [((into, 64, 2**64 - 32), "overflow"), ((into, 2**64 - 32, 32), "overflow")]
    cases = [
        ((into, 64, 64), "Invalid offset for shared memory region"),
        ((into, 64, 1), "Invalid offset + byte size for shared memory region"),
        ((into, 64, 2**62), "Invalid offset for shared memory region"),
        (("nobody", 64, 0), "Unable to find shared memory region: 'nobody'"),
    ]
    for window, fragment in cases + (wrapping if protocol == "http" else []):
        code = UNKNOWN if window[0] == "nobody" else BAD_INPUT
        assert refused(lambda: infer(given=window), fragment) in code
        assert refused(lambda: infer(wanted=(out if window[0] == into else "nobody", *window[1:])), fragment) in code
    for size in (0, 63, 65, 128):
        assert refused(lambda: infer(given=(into, size, 0)), "input byte size mismatch for input 'INPUT0'") in BAD_INPUT
    small = "output 'OUTPUT0' (63 bytes) should be at least 64 bytes"
    assert refused(lambda: infer(wanted=(out, 63, 0)), small) in BAD_INPUT
    infer()


def post_infer(server, given, outputs=()):
    body = json.dumps({"inputs": [given], "outputs": list(outputs)}).encode()
    return server.request("POST", "/v2/models/identity_bytes/infer", body=body)


def test_texts_are_read_from_the_copy(server, client, region):
    handle, name = region(16)
    place = {"shared_memory_region": name, "shared_memory_byte_size": 16}
    given = {"name": "INPUT0", "datatype": "BYTES", "shape": [1, 2], "parameters": place}
    for content in (b"\xff\xff\xff\xff" + bytes(12), b"\x0d\0\0\0" + bytes(12), b"\x0b\0\0\0" + bytes(12), b"\0\0\0\0" * 4):
        handle._mpsm_handle.buf[:16] = content
        answer = post_infer(server, given)
        assert answer.status == 400 and b"INPUT0" in answer.body, answer.body
    handle._mpsm_handle.buf[:16] = b"\x04\0\0\0abcd\x04\0\0\0efgh"
    assert post_infer(server, given).json()["outputs"][0]["data"] == ["abcd", "efgh"]


def test_wrong_requests_are_refused(server, client, region):
    _, name = region(64)
    base = {"shared_memory_region": name, "shared_memory_byte_size": 64}
    for parameters in (
        {"shared_memory_region": name},
        {**base, "shared_memory_byte_size": -1},
        {**base, "shared_memory_byte_size": "64"},
        {**base, "shared_memory_byte_size": 64.0},
        {**base, "shared_memory_byte_size": 2**64},
        {**base, "shared_memory_offset": -1},
        {**base, "shared_memory_region": 7},
        {**base, "shared_memory_region": ""},
        {**base, "binary_data_size": 64},
    ):
        given = {"name": "INPUT0", "datatype": "BYTES", "shape": [1, 2], "parameters": parameters}
        assert post_infer(server, given).status == 400, parameters
    both = {"name": "INPUT0", "datatype": "BYTES", "shape": [1, 1], "data": ["a"], "parameters": base}
    assert post_infer(server, both).status == 400
    for body in (b"", b"{}", b'{"key": "/a"}', b'{"byte_size": 1}', b'{"key": 1, "byte_size": 1}', b'{"key": "/a", "byte_size": "1"}'):
        assert server.request("POST", "/v2/systemsharedmemory/region/r/register", body=body).status == 400, body
    assert server.request("POST", f"/v2/systemsharedmemory/region/{'r' * 200}/register", body=b"{}").status == 400
    assert server.request("GET", "/v2/systemsharedmemory/region/r/register").status == 405
    assert server.request("GET", "/v2/systemsharedmemory/more").status == 404


def test_a_request_takes_no_more_than_a_body_may(server, client, region):
    """A few bytes of request cannot make the server copy without end."""
    handle, name = region(1, register=False)
    os.truncate(object_file(name), 2**33)  # sparse: it takes no memory
    client.register_system_shared_memory(name, f"/{name}", 2**33)
    place = {"shared_memory_region": name, "shared_memory_byte_size": 2**33}
    given = {"name": "INPUT0", "datatype": "BYTES", "shape": [1, 2], "parameters": place}
    answer = post_infer(server, given)
    assert answer.status == 413, answer.body
    place["shared_memory_byte_size"] = 2**25
    body = json.dumps({"inputs": [{**given, "name": f"INPUT{idx}"} for idx in range(3)]}).encode()
    assert server.request("POST", "/v2/models/identity_bytes/infer", body=body).status == 413


def mirrored(client, protocol, name, size, offset=0):
    """Asks for a window of float32 to be read from a region, and written to it again."""
    module = CLIENTS[protocol]
    given, wanted = tensor(module, "INPUT0", "FP32", (1, size // 4)), module.InferRequestedOutput("OUTPUT0")
    given.set_shared_memory(name, size, offset)
    wanted.set_shared_memory(name, size, offset)
    return client.infer("identity_fp32", [given], outputs=[wanted])


def test_holes_are_zeros_and_take_no_memory_to_read(client, protocol, region):
    size = 1 << 20
    (_, into), (_, out) = region(1, register=False), region(size)
    os.truncate(object_file(into), size)
    client.register_system_shared_memory(into, f"/{into}", size)
    module = CLIENTS[protocol]
    given, wanted = tensor(module, "INPUT0", "FP32", (1, size // 4)), module.InferRequestedOutput("OUTPUT0")
    given.set_shared_memory(into, size)
    wanted.set_shared_memory(out, size)
    for content in (bytes(size), b"\1" * 4096 + bytes(size - 4096)):
        with open(object_file(out), "r+b") as file:
            file.write(b"\xff" * size)
        client.infer("identity_fp32", [given], outputs=[wanted])
        assert open(object_file(out), "rb").read() == content
        assert os.stat(object_file(into)).st_blocks * 512 <= 4096
        with open(object_file(into), "r+b") as file:
            file.write(b"\1" * 4096)


def test_what_was_truncated_and_made_longer_again_is_as_good_as_new(client, protocol, region):
    size = 1 << 18
    _, name = region(size)
    for round in range(1, 4):
        content = np.full(size // 4, round, np.float32).tobytes()
        with open(object_file(name), "r+b") as file:
            file.write(content)
        mirrored(client, protocol, name, size)
        assert open(object_file(name), "rb").read() == content
        os.truncate(object_file(name), 4096 * (round - 1))
        with pytest.raises(InferenceServerException, match="was truncated since it was registered"):
            mirrored(client, protocol, name, size)
        os.truncate(object_file(name), size)


def test_memory_of_clients_is_not_taken_for_that_of_models(start):
    """What is mapped is resident in the process, but no model has to leave for it."""
    server = start(MODELS / "triton", "--allow-client-shm", "--memory-limit", "4GB")
    window, size, name = 16 << 20, 256 << 20, f"salver_test_{os.getpid()}_{next(COUNTER)}"
    handle = shm.create_shared_memory_region(name, f"/{name}", size, create_only=True)
    try:
        with open(object_file(name), "r+b") as file:
            for _ in range(size // window):
                file.write(bytes(window))
        with connect(server, "grpc") as client:
            client.register_system_shared_memory(name, f"/{name}", size)
            for offset in range(0, size, window):
                mirrored(client, "grpc", name, window, offset)
        counted = server.get("/api/v1/models").json()["memory"]["resident_bytes"]
        assert server.rss_kib() * 1024 - counted >= 0.9 * size
    finally:
        shm.destroy_shared_memory_region(handle)


def test_an_owner_that_truncates_meanwhile_harms_nobody(server, client, protocol, region):
    module, value = CLIENTS[protocol], np.ones((1, 65536), np.float32)
    (_, into), (_, out) = region(value.nbytes), region(value.nbytes)
    (_, whole) = region(value.nbytes)
    stop, turns = threading.Event(), itertools.count()

    def truncate():
        while not stop.is_set():
            for name in (into, out):
                os.truncate(object_file(name), (0, 4096, value.nbytes, value.nbytes)[next(turns) % 4])

    def infer(connection, source, target):
        given, wanted = tensor(module, "INPUT0", "FP32", value.shape), module.InferRequestedOutput("OUTPUT0")
        given.set_shared_memory(source, value.nbytes)
        wanted.set_shared_memory(target, value.nbytes)
        return connection.infer("identity_fp32", [given], outputs=[wanted])

    owner = threading.Thread(target=truncate)
    owner.start()
    seen = {True: 0, False: 0}
    try:
        with connect(server, protocol) as connection:
            while not (seen[True] and seen[False] >= 20) and sum(seen.values()) < 2000:
                try:
                    infer(connection, into, out)
                    seen[True] += 1
                except InferenceServerException as error:
                    assert "was truncated since it was registered" in str(error), error
                    seen[False] += 1
                infer(connection, whole, whole)
    finally:
        stop.set()
        owner.join()
    assert seen[False], "the region was never seen truncated"


def test_unregistering_under_load_harms_nobody(server, client, protocol, region):
    module, (first, second) = CLIENTS[protocol], pair(np.float32)
    handle, name = region(2 * first.nbytes)
    target, out = region(2 * first.nbytes)
    shm.set_shared_memory_region(handle, [first, second])
    stop, failures = threading.Event(), []

    def load():
        with connect(server, protocol) as connection:
            while not stop.is_set():
                given, wanted = [], module.InferRequestedOutput("OUTPUT0")
                for idx in (0, 1):
                    given.append(tensor(module, f"INPUT{idx}", "FP32", first.shape))
                    given[idx].set_shared_memory(name, first.nbytes, idx * first.nbytes)
                wanted.set_shared_memory(out, first.nbytes)
                try:
                    connection.infer("add_sub_fp32", given, outputs=[wanted])
                except InferenceServerException as error:
                    if "Unable to find shared memory region" not in str(error):
                        failures.append(str(error))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(200):
        if turn % 2:
            client.unregister_system_shared_memory()
        else:
            client.unregister_system_shared_memory(name)
            client.unregister_system_shared_memory(out)
        client.register_system_shared_memory(name, f"/{name}", 2 * first.nbytes)
        client.register_system_shared_memory(out, f"/{out}", 2 * first.nbytes)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]
    assert_same(shm.get_contents_as_numpy(target, np.float32, first.shape), first + second)


def test_a_limit_on_the_size_of_files_ends_no_server(start):
    """Writing beyond RLIMIT_FSIZE kills a process: such regions are refused."""
    server = start(MODELS / "triton" / "identity_fp32", "--allow-client-shm", "--registry=false", under=["prlimit", "--fsize=4194304"])
    with connect(server, "http") as client, entry(lambda path: open(path, "wb").truncate(8 << 20)) as key:
        refused(lambda: client.register_system_shared_memory("r", f"/{key}", 8 << 20), "invalid args")
        client.register_system_shared_memory("r", f"/{key}", 4 << 20)
