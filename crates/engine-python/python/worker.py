"""The program of a worker: loads one model and answers batches.

It comes over the socket and runs before anything of the model does. Packets are described in
`wire.rs`; numbers are little-endian. Nothing is ever unpickled here.
"""

import sys

SOCKET = s  # noqa: F821 (from the line that started this)
del globals()["s"]


def restrict(server, data_limit):
    """Ends with the server, leaves no core files, is the first to go when memory runs out."""
    import os
    import resource

    try:
        import ctypes

        PR_SET_PDEATHSIG, SIGKILL = 1, 9
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        print("this Python has no ctypes: the worker may outlive a server that is killed", file=sys.stderr)
    if os.getppid() != server:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if data_limit:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = data_limit if hard == resource.RLIM_INFINITY else min(data_limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass


class Fields:
    """Reads a packet from the server."""

    def __init__(self, packet):
        self.packet, self.at = packet, 0

    def number(self, size, signed=False):
        self.at += size
        return int.from_bytes(self.packet[self.at - size : self.at], "little", signed=signed)

    def text(self):
        size = self.number(4)
        self.at += size
        return self.packet[self.at - size : self.at].decode()

    def tensors(self):
        found = {}
        for _ in range(self.number(2)):
            name, code, optional = self.text(), self.number(1), self.number(1)
            shape = [self.number(8, signed=True) for _ in range(self.number(1))]
            found[name] = (code, shape, bool(optional))
        return found


class Context:
    """What a model may ask about where it runs."""

    def __init__(self, setup):
        self.model, self.version = setup["model"], setup["version"]
        self.folder, self.artifact = setup["folder"], setup["artifact"]
        self.device, self.threads = setup["device"], setup["threads"]
        self.settings = setup["settings"]
        self.inputs = {name: (NAMES[code], shape) for name, (code, shape, _) in setup["inputs"].items()}
        self.outputs = {name: (NAMES[code], shape) for name, (code, shape, _) in setup["outputs"].items()}


class InvalidInput(Exception):
    """Raised by a model whose caller sent something wrong: the caller is told, with status 400."""


class Stopped(Exception):
    """The model cannot be loaded; the text says why."""


# In the order of the server's types; the last is BYTES that are `str`.
NAMES = [
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "BF16", "FP32", "FP64",
    "BYTES", "STRING",
]  # fmt: skip
NUMPY = ["?", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f2", "<u2", "<f4", "<f8"]
BF16, BYTES, STRING = 10, 13, 14
OTHER_NAMES = {
    "bool": 0, "int8": 1, "int16": 2, "int32": 3, "int64": 4, "uint8": 5, "uint16": 6, "uint32": 7, "uint64": 8,
    "float16": 9, "bfloat16": 10, "float32": 11, "float64": 12, "bytes": 13, "str": 14, "int": 4, "float": 12,
    "object": 14,
}  # fmt: skip


def setup():
    """Reads what to load."""
    fields = Fields(SOCKET.recv(1 << 18))
    assert fields.number(1) == 1
    found = {"server": fields.number(4), "version": fields.number(8)}
    found.update(threads=fields.number(4), data_limit=fields.number(8))
    for name in ("model", "folder", "artifact", "device", "class", "adapter"):
        found[name] = fields.text()
    found["settings"] = {fields.text(): fields.text() for _ in range(fields.number(2))}
    found["inputs"], found["outputs"] = fields.tensors(), fields.tensors()
    return found


def import_file(path, name):
    """Imports the model's file; what lies beside it can be imported from it."""
    import importlib.util

    if not os.path.isfile(path):
        raise Stopped(f"there is no file {os.path.basename(path)} in the model's folder")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise Stopped(f"{os.path.basename(path)} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find_class(module, name, file):
    """Returns the class called `name`, or the only one that can predict."""
    if name:
        found = getattr(module, name, None)
        if not isinstance(found, type):
            raise Stopped(f"{file} has no class {name}")
        if not callable(getattr(found, "predict", None)):
            raise Stopped(f"the class {name} in {file} has no method predict(self, batch)")
        return found
    own = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
    own = [value for value in own if callable(getattr(value, "predict", None))]
    if len(own) == 1:
        return own[0]
    if not own:
        raise Stopped(f"{file} has no class with a method predict(self, batch)")
    names = ", ".join(value.__name__ for value in own)
    raise Stopped(f"{file} has several classes with predict: {names}; name one with class = \"...\" in [python]")


def make(setup):
    """Makes the object that answers."""
    import types

    salver = types.ModuleType("salver", "What the server offers to the code of a model.")
    salver.InvalidInput = InvalidInput
    sys.modules["salver"] = salver
    salver.context = context = Context(setup)
    sys.path.insert(0, setup["folder"])
    if setup["adapter"]:
        module = types.ModuleType("salver_adapter")
        sys.modules["salver_adapter"] = module
        exec(compile(setup["adapter"], "<adapter>", "exec"), module.__dict__)
        found = module.Adapter()
    else:
        path = setup["artifact"]
        file = os.path.basename(path)
        name = os.path.splitext(file)[0]
        found = find_class(import_file(path, name if name.isidentifier() else "model"), setup["class"], file)()
    if callable(getattr(found, "load", None)):
        wants = inspect.signature(found.load).parameters
        found.load(context) if wants else found.load()
    return found


def declared(setup, model, what):
    """Returns name, code, shape and whether it may be missing, of all inputs or outputs."""
    if setup[what]:
        return [(name, *spec) for name, spec in setup[what].items()]
    given = getattr(model, what, None)
    if not isinstance(given, dict) or not given:
        one = what[:-1]
        raise Stopped(
            f"nothing says what the model {'takes' if one == 'input' else 'gives'}: write it into the class, as in "
            f'{what} = {{"x": ("FP32", [-1, 4])}}, or as [[{one}]] with name, dtype and shape into model.toml'
        )
    return [declared_one(what, name, spec) for name, spec in given.items()]


def declared_one(what, name, spec):
    try:
        dtype, shape = spec[0], spec[1]
        optional = bool(spec[2]) if len(spec) > 2 else False
        text = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
        code = NAMES.index(text) if text in NAMES else OTHER_NAMES[text]
        shape = [-1 if extent in (None, -1) else int(extent) for extent in shape]
        assert isinstance(name, str) and name and all(extent >= -1 for extent in shape)
        return name, code, shape, optional
    except (TypeError, ValueError, KeyError, AssertionError, IndexError):
        raise Stopped(
            f'{what}[{name!r}] is {spec!r}; expected a type and a shape, as in ("FP32", [-1, 4]); types are '
            + ", ".join(NAMES)
        ) from None


def put_text(text, limit=8000):
    data = text.encode("utf-8", "replace")[-limit:]
    return len(data).to_bytes(4, "little") + data


def put_specs(specs):
    packet = len(specs).to_bytes(2, "little")
    for name, code, shape, optional in specs:
        packet += put_text(name) + bytes([code, optional, len(shape)])
        packet += b"".join(extent.to_bytes(8, "little", signed=True) for extent in shape)
    return packet


def traceback_of(error):
    """Returns the lines of the model's own code."""
    import traceback

    kept = traceback.TracebackException.from_exception(error)
    while kept.stack and kept.stack[0].filename.startswith("<"):
        kept.stack.pop(0)
    return "".join(kept.format())


def fail(text):
    SOCKET.send(b"\x02" + put_text(text.strip()))
    sys.exit(1)


def main():
    global os, inspect, np, struct
    import inspect
    import os
    import struct

    asked = setup()
    restrict(asked["server"], asked["data_limit"])
    try:
        import faulthandler

        import numpy as np
    except ImportError as error:
        fail(f"the worker needs numpy, which {sys.executable} does not have ({error}): install it there, or name "
             "another interpreter")
    faulthandler.enable()
    try:
        model = make(asked)
        inputs, outputs = declared(asked, model, "inputs"), declared(asked, model, "outputs")
    except Stopped as reason:
        fail(str(reason))
    except (Exception, SystemExit) as error:
        text = traceback_of(error)
        print(text, file=sys.stderr)
        # What matters is at the end.
        fail("\n".join(text.strip().splitlines()[-6:]))
    probe = np.frombuffer(b"salver:)", dtype="<u1")
    address = probe.__array_interface__["data"][0]
    is_decoupled = inspect.isgeneratorfunction(model.predict)
    SOCKET.send(
        b"\x01" + put_specs(inputs) + put_specs(outputs) + address.to_bytes(8, "little") + bytes([is_decoupled])
    )
    Server(model, inputs, outputs).serve()


class Server:
    """Answers batches until the socket is closed."""

    def __init__(self, model, inputs, outputs):
        self.predict = model.predict
        self.is_decoupled = inspect.isgeneratorfunction(model.predict)
        self.inputs = [(name, code) for name, code, _, _ in inputs]
        self.outputs = [(name, code) for name, code, _, _ in outputs]
        self.packet = bytearray(1 << 18)
        self.memory = self.room = None
        self.is_direct = True
        self.pid = os.getpid()
        # A copy of this process has no part in the conversation.
        os.register_at_fork(after_in_child=SOCKET.close)

    def receive(self):
        """Returns the length of the next packet, and the file that came with it."""
        import socket

        size, with_it, _, _ = SOCKET.recvmsg_into([self.packet], 32)
        for level, kind, data in with_it:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                return size, int.from_bytes(data[:4], sys.byteorder)
        return size, None

    def map(self, file):
        import mmap

        try:
            return mmap.mmap(file, int.from_bytes(self.packet[1:9], "little"))
        finally:
            os.close(file)

    def serve(self):
        held = None  # The server reads the last answer until the next packet is there.
        while True:
            size, file = self.receive()
            if size == 0:
                return
            kind = self.packet[0]
            if kind == 5:
                held = None
                held = self.stream() if self.is_decoupled else self.answer()
            elif kind == 3:
                self.memory = self.map(file)
            elif kind == 4:
                self.room = self.map(file)
            elif kind == 2:
                self.is_direct = bool(self.packet[1])

    def batch(self):
        """Returns views of the inputs."""
        packet, at, batch = self.packet, 11, {}
        for _ in range(packet[9] | packet[10] << 8):
            idx, rank = packet[at] | packet[at + 1] << 8, packet[at + 2]
            offset, size, *shape = struct.unpack_from(f"<{rank + 2}Q", packet, at + 3)
            at += 19 + 8 * rank
            name, code = self.inputs[idx]
            if code >= BYTES:
                batch[name] = self.elements(name, code, offset, size, shape)
            else:
                batch[name] = np.ndarray(shape, NUMPY[code], self.memory, offset)
        return batch

    def elements(self, name, code, offset, size, shape):
        data = self.memory[offset : offset + size]
        found, at = [], 0
        while at < size:
            start = at + 4
            at = start + int.from_bytes(data[at:start], "little")
            found.append(data[start:at])
        if code == STRING:
            try:
                found = [element.decode() for element in found]
            except UnicodeDecodeError as error:
                raise InvalidInput(f"input '{name}': expected text in UTF-8: {error}") from None
        array = np.empty(len(found), dtype=object)
        array[:] = found
        return array.reshape(shape)

    def answer(self):
        """Runs a batch and says where its outputs lie, or what went wrong."""
        number = bytes(self.packet[1:9])
        return self.guarded(number, lambda: self.say(number, self.predict(self.batch())))

    def stream(self):
        """Runs a generator: an answer whenever the server asks for the next one."""
        number = bytes(self.packet[1:9])

        def run():
            answers = self.predict(self.batch())
            try:
                for answer in answers:
                    held = self.say(number, answer)  # The server reads it until the next packet is there.
                    if not self.goes_on(number):
                        break
                    del held
            finally:
                answers.close()
            SOCKET.send(b"\x06" + number)

        return self.guarded(number, run)

    def goes_on(self, number):
        """Waits until the server asks for the next answer; false: it wants no more."""
        size, _ = self.receive()
        if size == 0:
            sys.exit(0)
        assert bytes(self.packet[1:9]) == number
        return self.packet[0] == 6

    def say(self, number, result):
        """Says where the outputs lie that `predict` gave, and returns them."""
        outputs = self.encode(result)
        if os.getpid() != self.pid:
            os._exit(0)
        if not self.is_direct:
            outputs = self.hand_over(number, outputs)
        packet = [b"\x03", number, len(outputs).to_bytes(2, "little")]
        for code, shape, address, size, _ in outputs:
            rank = len(shape)
            packet.append(struct.pack(f"<BB{rank + 2}Q", min(code, BYTES), rank, address, size, *shape))
        SOCKET.send(b"".join(packet))
        return outputs

    def guarded(self, number, run):
        """Says what went wrong, if anything did."""
        try:
            return run()
        except SystemExit as end:
            # Asked for by the model: nothing of it runs any more.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        except BaseException as error:
            if os.getpid() != self.pid:
                os._exit(1)
            self.fault(number, error)
        return None

    def fault(self, number, error):
        is_input = type(error).__name__ == "InvalidInput"
        if is_input:
            text = str(error)
        else:
            print(traceback_of(error), file=sys.stderr)
            text = f"predict raised {type(error).__name__}: {str(error)[:500]}"
        SOCKET.send(b"\x04" + number + bytes([is_input]) + put_text(text))

    def encode(self, result):
        """Returns code, shape, address, size and owner of each output."""
        if not isinstance(result, dict):
            # A list may also be the rows of the only output.
            several = isinstance(result, tuple) or (isinstance(result, list) and len(self.outputs) > 1)
            result = result if several else [result]
            if len(result) != len(self.outputs):
                raise TypeError(f"predict returned {len(result)} outputs, expected {len(self.outputs)}")
            result = {name: value for (name, _), value in zip(self.outputs, result)}
        found = []
        for name, code in self.outputs:
            if name not in result:
                raise TypeError(f"predict returned no output '{name}', but {', '.join(map(repr, result)) or 'nothing'}")
            array = packed(name, code, result[name]) if code >= BYTES else numbers(name, code, result[name])
            shape, array = array if code >= BYTES else (array.shape, array)
            found.append((code, shape, array.__array_interface__["data"][0], array.nbytes, array))
        return found

    def hand_over(self, number, outputs):
        """Copies the outputs to where the server can read them."""
        placed, end = [], 0
        for code, shape, _, size, array in outputs:
            placed.append((code, shape, end, size, array))
            end += -(-size // 64) * 64
        if self.room is None or len(self.room) < end:
            SOCKET.send(b"\x05" + number + end.to_bytes(8, "little"))
            size, file = self.receive()
            if size == 0:
                sys.exit(0)
            self.room = self.map(file)
        for _, _, offset, size, array in placed:
            np.frombuffer(self.room, "<u1", size, offset)[:] = array.reshape(-1).view("<u1")
        return placed


def numbers(name, code, value):
    array = np.asarray(value)
    wanted = np.dtype(NUMPY[code])
    if array.dtype != wanted:
        if code == BF16 and array.dtype.itemsize == 2:
            array = array.view(wanted)
        elif array.dtype == object or not np.can_cast(array.dtype, wanted, "same_kind"):
            raise TypeError(f"output '{name}': expected {NAMES[code]}, got an array of {array.dtype}")
        else:
            cast = array.astype(wanted)
            if wanted.kind in "iu" and (cast != array).any():
                raise OverflowError(f"output '{name}': a number does not fit into {NAMES[code]}")
            array = cast
    return array if array.flags.c_contiguous else array.copy()


def packed(name, code, value):
    """Returns the shape of a text output, and its elements behind their lengths."""
    array = np.asarray(value)
    parts = []
    for element in array.ravel().tolist():
        if isinstance(element, str):
            element = element.encode()
        elif not isinstance(element, (bytes, bytearray)):
            if code == BYTES:
                raise TypeError(f"output '{name}': expected bytes or str, got {type(element).__name__}")
            element = str(element).encode()
        parts.append(len(element).to_bytes(4, "little"))
        parts.append(element)
    return array.shape, np.frombuffer(b"".join(parts), dtype="<u1")


main()
