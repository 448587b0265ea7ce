"""A BentoML service around ONNX Runtime with one thread, with adaptive batching, in two workers.

PEER_MODEL is the ONNX file. BentoML batches along the first dimension of a single argument, so
the inputs of a model with several are stacked in the second one.
"""

import os

import bentoml
import numpy as np
import onnxruntime

MAX_BATCH = int(os.environ.get("PEER_MAX_BATCH", "32"))
DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


@bentoml.service(
    workers=2,
    traffic={"timeout": 60, "max_concurrency": 256},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    tracing={"sample_rate": 0.0},
)
class Onnx:
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(os.environ["PEER_MODEL"], options, providers=providers)
        self.inputs = [(put.name, DTYPES[put.type]) for put in self.session.get_inputs()]

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=MAX_BATCH, max_latency_ms=60_000)
    def infer(self, inputs: np.ndarray) -> np.ndarray:
        if len(self.inputs) == 1:
            stacked = inputs[:, None]
        else:
            stacked = inputs
        feed = {name: stacked[:, idx].astype(dtype) for idx, (name, dtype) in enumerate(self.inputs)}
        return self.session.run(None, feed)[0]
