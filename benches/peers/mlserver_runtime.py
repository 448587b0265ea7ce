"""An MLServer runtime around ONNX Runtime with one thread; peers.py writes the settings that name it.

The ONNX file is the `uri` of the model's settings. Tensors come and go as the Open Inference Protocol's
JSON, which is MLServer's own.
"""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

DTYPES = {"FP32": np.float32, "INT64": np.int64}


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        uri = self.settings.parameters.uri
        self.session = onnxruntime.InferenceSession(uri, options, providers=["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        # Without the codecs of MLServer, which cost more than this.
        feed = {
            tensor.name: np.array(tensor.data.root, DTYPES[tensor.datatype]).reshape(tensor.shape)
            for tensor in payload.inputs
        }
        values = self.session.run(self.names, feed)
        outputs = [
            ResponseOutput(name=name, shape=list(value.shape), datatype="FP32", data=value.ravel().tolist())
            for name, value in zip(self.names, values)
        ]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
