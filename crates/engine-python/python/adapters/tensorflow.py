"""Runs a TensorFlow SavedModel: one of its signatures, `serving_default` unless the setting
`signature` names another. The signature has names, types and shapes of inputs and outputs; texts are
BYTES, as they are in TensorFlow.
"""

import os

TYPES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "string": "BYTES",
}  # fmt: skip


class Adapter:
    """A signature of a SavedModel."""

    def load(self, context):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        self.tensorflow = tf = needed("tensorflow", "tensorflow")
        tf.config.threading.set_intra_op_parallelism_threads(context.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self.device = self.choose_device(context.device)
        folder = str(context.artifact)
        folder = folder if os.path.isdir(folder) else os.path.dirname(folder)
        if not os.path.isfile(os.path.join(folder, "saved_model.pb")):
            raise ValueError("there is no saved_model.pb: expected a folder that tf.saved_model.save made")
        with tf.device(self.device):
            self.model = tf.saved_model.load(folder)  # Holds the variables of its functions.
        wanted = context.settings.get("signature", "serving_default")
        if wanted not in self.model.signatures:
            there = ", ".join(self.model.signatures) or "none"
            raise ValueError(
                f"the SavedModel has no signature `{wanted}`, but: {there}. Name one under [python.settings] "
                "in model.toml (signature = \"…\"), or save the model with one (model.export, tf.saved_model.save)"
            )
        self.function = self.model.signatures[wanted]
        self.specs = self.function.structured_input_signature[1]
        self.inputs = specs("input", self.specs, context.inputs)
        self.outputs = specs("output", self.function.structured_outputs, context.outputs)

    def predict(self, batch):
        tf = self.tensorflow
        with tf.device(self.device):
            given = {name: tf.constant(plain(batch[name]), spec.dtype) for name, spec in self.specs.items()}
            found = self.function(**given)
        return {name: found[name].numpy() for name in self.outputs}

    def choose_device(self, device):
        tf = self.tensorflow
        if not device.startswith("cuda"):
            tf.config.set_visible_devices([], "GPU")
            return "/CPU:0"
        index = int(device.partition(":")[2] or 0)
        devices = tf.config.list_physical_devices("GPU")
        if index >= len(devices):
            raise ValueError(f"device {device!r}: this TensorFlow ({tf.__version__}) finds {len(devices)} GPUs")
        tf.config.set_visible_devices(devices[index], "GPU")
        # Otherwise the first worker would take all of its memory.
        tf.config.experimental.set_memory_growth(devices[index], True)
        return "/GPU:0"


def specs(what, signature, declared):
    """Types and shapes; where the signature leaves a shape open, model.toml has to have it."""
    found = {}
    unknown = [name for name in declared if name not in signature]
    if unknown:
        raise ValueError(f"model.toml declares the {what}s {unknown}; the signature has {list(signature)}")
    wanted = declared if declared and what == "output" else signature
    for name in wanted:
        spec = signature[name]
        kind = TYPES.get(spec.dtype.name)
        if kind is None:
            raise ValueError(f"{what} `{name}` is {spec.dtype.name}; types here are {', '.join(TYPES)}")
        if name in declared:
            found[name] = (declared[name][0], list(declared[name][1]))
        elif spec.shape.rank is None:
            raise ValueError(
                f"the signature leaves the shape of {what} `{name}` open. Say it at the top of model.toml: "
                f'{what} = [{{ name = "{name}", dtype = "{kind}", shape = [-1] }}]'
            )
        else:
            found[name] = (kind, [-1 if extent is None else extent for extent in spec.shape.as_list()])
    return found


def plain(array):
    """Texts as a list: TensorFlow makes bytes of `str` as well."""
    return array.tolist() if array.dtype == object else array


def needed(module, package):
    """The module, or what to do where it is missing."""
    try:
        return __import__(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        message = f"the package {package} is not installed in this environment: pip install {package}"
        raise ModuleNotFoundError(message, name=module) from None
