"""Runs the adapters of the engine `python` without a server, as its worker does.

An adapter sees its context, the module `salver` and batches that are views over memory of others;
what it answers must have the types and shapes that it announced, and be the same for each row alone.
"""

import importlib
import importlib.util
import os
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

ADAPTERS = Path(__file__).resolve().parents[2] / "crates" / "engine-python" / "python" / "adapters"
NUMPY = {
    "BOOL": "bool", "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "FP16": "float16", "FP32": "float32", "FP64": "float64", "STRING": "object", "BYTES": "object",
}  # fmt: skip


class InvalidInput(Exception):
    """Stands for the worker's own."""


@dataclass
class Context:
    """What a worker tells of a model."""

    artifact: str
    device: str = "cpu"
    threads: int = 1
    settings: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, tuple[str, list[int]]] = field(default_factory=dict)
    outputs: dict[str, tuple[str, list[int]]] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return self.artifact if os.path.isdir(self.artifact) else os.path.dirname(self.artifact)


def framework(name: str):
    """The framework, or a loud skip; a failure where SALVER_REQUIRE_FRAMEWORKS=1."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("SALVER_REQUIRE_FRAMEWORKS") == "1":
            pytest.fail(f"{name} is required here (SALVER_REQUIRE_FRAMEWORKS=1): {error}", pytrace=False)
        pytest.skip(f"SKIPPED: {name}: {error}", allow_module_level=True)


def load(name: str, artifact: Path, **context):
    """The adapter, with this model loaded."""
    module = types.ModuleType("salver")
    module.InvalidInput = InvalidInput
    sys.modules["salver"] = module
    spec = importlib.util.spec_from_file_location(f"adapter_{name}", ADAPTERS / f"{name}.py")
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    adapter = code.Adapter()
    adapter.load(Context(str(artifact), **context))
    return adapter


def ask(adapter, tolerance: float = 0.0, **batch) -> dict[str, np.ndarray]:
    """The answer to all rows, which must be the announced kind and the same for each row alone."""
    arrays = {name: np.asarray(values, NUMPY[adapter.inputs[name][0]]) for name, values in batch.items()}
    rows = len(next(iter(arrays.values())))
    answer = checked(adapter, arrays)
    for row in range(rows):
        alone = checked(adapter, {name: values[row : row + 1] for name, values in arrays.items()})
        for name, values in alone.items():
            if values.dtype == object or tolerance == 0.0:
                np.testing.assert_array_equal(values[0], answer[name][row], f"row {row} of `{name}`")
            else:
                np.testing.assert_allclose(values[0], answer[name][row], rtol=tolerance, atol=tolerance)
    return answer


def checked(adapter, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One call with views that nobody may write to and that are overwritten afterwards."""
    rows = len(next(iter(arrays.values())))
    for name, values in arrays.items():
        announced(name, values, adapter.inputs[name], rows)
    memory = {name: values.copy() for name, values in arrays.items()}
    views = {name: values.view() for name, values in memory.items()}
    for view in views.values():
        view.flags.writeable = False
    answer = {name: np.array(values) for name, values in adapter.predict(views).items()}
    for name, values in memory.items():
        assert values.dtype == object or np.array_equal(values, arrays[name], equal_nan=True), f"`{name}` was written to"
        values.fill("overwritten" if values.dtype == object else 77)
    assert set(answer) == set(adapter.outputs)
    for name, values in answer.items():
        announced(name, values, adapter.outputs[name], rows)
    return answer


def announced(name: str, values: np.ndarray, spec: tuple, rows: int) -> None:
    """Checks an array against the type and the shape that were said beforehand."""
    kind, shape = spec[:2]
    assert values.dtype == NUMPY[kind], f"`{name}`: {values.dtype} for {kind}"
    assert len(values.shape) == len(shape), f"`{name}`: {values.shape} for {shape}"
    assert values.shape[0] == rows, f"`{name}`: {values.shape[0]} rows for {rows}"
    assert all(said in (-1, size) for said, size in zip(shape[1:], values.shape[1:], strict=True)), (values.shape, shape)
    kinds = {"STRING": str, "BYTES": bytes}
    if kind in kinds:
        assert all(type(value) is kinds[kind] for value in values.reshape(-1)), f"`{name}`: {values.reshape(-1)[:3]}"
