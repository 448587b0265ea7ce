"""TF Serving's messages and stubs: the published package where it is installed, else made from `proto/`.

`tensorflow-serving-api` needs the messages of TensorFlow, which come with nothing smaller than TensorFlow
itself (600 MB). Both are used without importing TensorFlow. `SALVER_TEST_TFSERVING_STUBS=proto` leaves the
package alone.
"""

import importlib
import importlib.util
import os
import sys
import tempfile
import types
from pathlib import Path

from grpc_tools import protoc
from harness import REPO

PROTO = REPO / "proto"
PUBLISHED = (
    os.environ.get("SALVER_TEST_TFSERVING_STUBS") != "proto"
    and importlib.util.find_spec("tensorflow_serving") is not None
    and importlib.util.find_spec("tensorflow") is not None
)
APIS = ("classification", "get_model_metadata", "get_model_status", "inference", "model", "model_management", "predict",
        "regression")


def published() -> types.SimpleNamespace:
    """The package's modules, with TensorFlow's messages but without TensorFlow."""
    root = Path(importlib.util.find_spec("tensorflow").origin).parent
    for name, folder in (("tensorflow", root), ("tensorflow.core", root / "core")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    messages = {}
    modules = [importlib.import_module(f"tensorflow_serving.apis.{name}_pb2") for name in APIS]
    modules += [importlib.import_module(f"tensorflow.core.{name}_pb2") for name in (
        "framework.tensor", "framework.tensor_shape", "framework.types", "example.example", "example.feature")]
    for module in modules:
        messages.update({n: getattr(module, n) for n in vars(module) if not n.startswith("_")})
    prediction = importlib.import_module("tensorflow_serving.apis.prediction_service_pb2_grpc")
    models = importlib.import_module("tensorflow_serving.apis.model_service_pb2_grpc")
    return types.SimpleNamespace(
        **messages, PredictionServiceStub=prediction.PredictionServiceStub, ModelServiceStub=models.ModelServiceStub
    )


def generated() -> types.SimpleNamespace:
    """Modules made from the files in `proto/`."""
    folder = tempfile.mkdtemp(prefix="tfserving-stubs-")
    files = ["tensorflow.proto", "tensorflow_serving.proto", "model_server_config.proto"]
    flags = [f"-I{PROTO}", f"-I{Path(protoc.__file__).parent / '_proto'}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(["protoc", *flags, *files]) == 0
    sys.path.insert(0, folder)
    try:
        modules = [importlib.import_module(name) for name in ("tensorflow_pb2", "tensorflow_serving_pb2", "tensorflow_serving_pb2_grpc")]
    finally:
        sys.path.remove(folder)
    everything = {}
    for module in modules:
        everything.update({n: getattr(module, n) for n in vars(module) if not n.startswith("_")})
    return types.SimpleNamespace(**everything)


def descriptors() -> dict[str, object]:
    """The messages and enums of `proto/`, by full name, as descriptor protos."""
    from google.protobuf import descriptor_pb2

    with tempfile.NamedTemporaryFile(suffix=".bin") as out:
        flags = [f"-I{PROTO}", f"-I{Path(protoc.__file__).parent / '_proto'}", f"--descriptor_set_out={out.name}"]
        files = ["tensorflow.proto", "tensorflow_serving.proto", "model_server_config.proto"]
        assert protoc.main(["protoc", *flags, *files]) == 0
        every = descriptor_pb2.FileDescriptorSet.FromString(Path(out.name).read_bytes())
    return {f"{file.package}.{message.name}": message for file in every.file for message in [*file.message_type, *file.enum_type]}


tf = published() if PUBLISHED else generated()
