"""Runs what PyTorch saved: an exported program (`.pt2`), TorchScript, or a whole module.

An exported program says what it takes. TorchScript says names only, so model.toml has to say types
and shapes. A pickled module can run anything while it is read: it needs `unpickle = "true"`.
What comes out is found by trying with zeros: outputs of a dict have its names, others are called
`output`, or `output_0`, `output_1`, …
"""

import zipfile

import numpy as np

TYPES = {
    "BOOL": "bool", "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64", "UINT8": "uint8",
    "FP16": "float16", "BF16": "bfloat16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip


class Adapter:
    """A module behind named inputs and outputs."""

    def load(self, context):
        self.torch = torch = needed("torch", "torch")
        torch.set_num_threads(context.threads)
        if context.device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"device {context.device!r}: this PyTorch ({torch.__version__}) finds no CUDA device")
        self.device = torch.device(context.device)
        path = str(context.artifact)
        form = form_of(path)
        self.inputs = {name: (kind, list(shape)) for name, (kind, shape) in context.inputs.items()}
        if form == "program":
            self.read_program(path)
        else:
            self.read_module(path, form, context.settings)
        for name, (kind, _) in self.inputs.items():
            if kind not in TYPES:
                raise ValueError(f"input `{name}` is {kind}; PyTorch takes {', '.join(TYPES)}")
        self.outputs = {name: (kind, list(shape)) for name, (kind, shape) in context.outputs.items()}
        if not self.outputs:
            self.outputs = self.find_outputs()

    def predict(self, batch):
        arguments = [self.tensor(batch[name], kind) for name, (kind, _) in self.inputs.items()]
        found = self.call(arguments)
        if not set(self.outputs) <= set(found):
            if len(found) != len(self.outputs):
                raise ValueError(f"the model gave {', '.join(found)}; declared are {', '.join(self.outputs)}")
            found = dict(zip(self.outputs, found.values()))
        return {name: self.array(found[name], kind) for name, (kind, _) in self.outputs.items()}

    def read_program(self, path):
        """An exported program: its graph has types and shapes of the inputs."""
        torch = self.torch
        program = torch.export.load(path)
        if self.device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, self.device)
        self.module = program.module()
        values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        found = {}
        for name in program.graph_signature.user_inputs:
            value = values.get(name)
            if not isinstance(value, torch.Tensor):
                raise ValueError(f"the argument `{name}` is no tensor; export the model with tensors only")
            shape = [size if isinstance(size, int) else -1 for size in value.shape]
            found[name] = (wire_type(torch, value.dtype), shape)
        if self.inputs and len(self.inputs) != len(found):
            raise ValueError(f"model.toml declares the inputs {list(self.inputs)}, the program takes {list(found)}")
        self.inputs = self.inputs or found

    def read_module(self, path, form, settings):
        """TorchScript, or a pickled module where that was allowed."""
        torch = self.torch
        if form == "script":
            self.module = torch.jit.load(path, map_location=self.device)
            schema = self.module.forward.schema
            taken = [argument.name for argument in schema.arguments[1:] if not argument.has_default_value()]
        else:
            self.module, taken = self.unpickled(path, settings), ["x"]
        self.module.eval()
        if not self.inputs:
            each = ", ".join(f'{{ name = "{name}", dtype = "FP32", shape = [-1, 4] }}' for name in taken)
            raise ValueError(
                "the file does not say what the model takes. Write it, with types and shapes of your own in the order "
                f"of `forward`, at the top of model.toml: input = [{each}]"
            )
        if form == "script" and not len(taken) <= len(self.inputs) < len(schema.arguments):
            raise ValueError(f"model.toml declares the inputs {list(self.inputs)}, `forward` takes {taken}")

    def unpickled(self, path, settings):
        torch = self.torch
        if settings.get("unpickle") != "true":
            raise ValueError(
                "the file is a pickle, which can run any code while it is read. Save the model with torch.export "
                '(.pt2); or, if you trust whoever made the file, write unpickle = "true" under [python.settings]'
            )
        found = torch.load(path, map_location=self.device, weights_only=False)
        if not isinstance(found, torch.nn.Module):
            raise ValueError(
                f"the file holds a {type(found).__name__}, such as the weights of a model, and no module: "
                "save the whole model with torch.export, or write a class that loads the weights into one"
            )
        return found

    def call(self, arguments):
        """The outputs by name."""
        with self.torch.inference_mode():
            result = self.module(*arguments)
        if isinstance(result, self.torch.Tensor):
            return {"output": result}
        if isinstance(result, (list, tuple)):
            result = {f"output_{idx}": value for idx, value in enumerate(result)}
        if not isinstance(result, dict) or not all(isinstance(value, self.torch.Tensor) for value in result.values()):
            raise TypeError(f"the model gave a {type(result).__name__}; expected tensors, or a list or dict of them")
        return dict(result)

    def find_outputs(self):
        """Types and shapes, of zeros of two sizes: what changes with the size is free."""
        try:
            small, large = self.call(self.zeros(2)), self.call(self.zeros(3))
        except Exception as error:  # The model's own code: anything may come.
            raise ValueError(
                f"the model fails on zeros ({type(error).__name__}: {first_line(error)}). If the inputs in model.toml "
                "are right and zeros cannot be, say what the model gives at the top of it: "
                'output = [{ name = "output", dtype = "FP32", shape = [-1, 3] }]'
            ) from error
        found = {}
        for name, value in small.items():
            sizes = zip(value.shape, large[name].shape)
            shape = [size if size == other else -1 for size, other in sizes]
            found[name] = (wire_type(self.torch, value.dtype), shape)
        return found

    def zeros(self, size):
        shapes = [[size if extent < 0 else extent for extent in shape] for _, shape in self.inputs.values()]
        kinds = [getattr(self.torch, TYPES[kind]) for kind, _ in self.inputs.values()]
        pairs = zip(shapes, kinds)
        return [self.torch.zeros(shape, dtype=kind, device=self.device) for shape, kind in pairs]

    def tensor(self, array, kind):
        # Memory that may only be read is copied: the model could write to it.
        tensor = self.torch.from_numpy(array if array.flags.writeable else array.copy())
        if kind == "BF16":  # numpy has none: it comes as the bits.
            tensor = tensor.view(self.torch.bfloat16)
        return tensor.to(self.device)

    def array(self, tensor, kind):
        tensor = tensor.detach().to("cpu", getattr(self.torch, TYPES.get(kind, kind)))
        return tensor.view(self.torch.int16).numpy().view("<u2") if kind == "BF16" else tensor.numpy()


def form_of(path):
    """What the file is, by what lies in it; its ending says little."""
    if not zipfile.is_zipfile(path):
        return "pickle"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("archive_format") for name in names):
        return "program"
    if any(name.endswith("/constants.pkl") for name in names):
        return "script"
    return "pickle"


def wire_type(torch, dtype):
    for wire, name in TYPES.items():
        if dtype == getattr(torch, name):
            return wire
    raise ValueError(f"the model has a tensor of {dtype}; types here are {', '.join(TYPES)}")


def needed(module, package):
    """The module, or what to do where it is missing."""
    try:
        return __import__(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        message = f"the package {package} is not installed in this environment: pip install {package}"
        raise ModuleNotFoundError(message, name=module) from None


def first_line(error):
    return (str(error).splitlines() or [""])[0]
