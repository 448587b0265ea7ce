"""Sample tensors of every type, with the values at which each type is easy to get wrong."""

import ml_dtypes
import numpy as np

NAN, INF = float("nan"), float("inf")


def integers(dtype) -> np.ndarray:
    limits = np.iinfo(dtype)
    middle = 2**53 + 1 if limits.max > 2**53 else 3
    return np.array([[limits.min, 0, 1, middle, limits.max]] * 2, dtype)


# The end of the model's name: its type on the wire and a batch of two rows.
SAMPLES: dict[str, tuple[str, np.ndarray]] = {
    "bool": ("BOOL", np.array([[True, False, True], [False, False, True]])),
    "int8": ("INT8", integers(np.int8)),
    "int16": ("INT16", integers(np.int16)),
    "int32": ("INT32", integers(np.int32)),
    "int64": ("INT64", integers(np.int64)),
    "uint8": ("UINT8", integers(np.uint8)),
    "uint16": ("UINT16", integers(np.uint16)),
    "uint32": ("UINT32", integers(np.uint32)),
    "uint64": ("UINT64", integers(np.uint64)),
    "fp16": ("FP16", np.array([[0.1, -65504, INF, NAN], [6e-8, -0.0, 1, 2]], np.float16)),
    "bf16": ("BF16", np.array([[0.1, -3e38, INF, NAN], [1e-40, -0.0, 1, 2]], ml_dtypes.bfloat16)),
    "fp32": ("FP32", np.array([[0.1, -3.4e38, INF, NAN], [1e-45, -0.0, 16777217, 2]], np.float32)),
    "fp64": ("FP64", np.array([[0.1, -1.7e308, INF, NAN], [5e-324, -0.0, 2**53 + 1, 2]], np.float64)),
    "bytes": ("BYTES", np.array([["", "grüße"], ["a\x00b", "日本 \"x\"\\"]], object)),
}
# These have no JSON form.
BINARY_ONLY = ("fp16", "bf16")


def pair(dtype, batch: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Two inputs for the add_sub models."""
    first = np.arange(16 * batch).reshape(batch, 16).astype(dtype)
    return first, (first * 3 - 7).astype(dtype)
