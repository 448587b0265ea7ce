"""The usual way to serve a model by hand, tuned: FastAPI, ONNX Runtime with one thread, orjson, no
validation. uvicorn starts two processes of it. PEER_MODEL is the ONNX file.
"""

import os

import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])
DTYPES = {"FP32": np.float32, "INT64": np.int64}
outputs = [output.name for output in session.get_outputs()]
app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/ready")
async def ready():
    return Response()


@app.post("/infer")
async def infer(request: Request):
    body = orjson.loads(await request.body())
    feed = {
        tensor["name"]: np.array(tensor["data"], DTYPES[tensor["datatype"]]).reshape(tensor["shape"])
        for tensor in body["inputs"]
    }
    values = session.run(outputs, feed)
    answer = {name: value for name, value in zip(outputs, values)}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
