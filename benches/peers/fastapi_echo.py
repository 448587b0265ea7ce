"""A class with `predict` behind FastAPI: as JSON, and as bytes. uvicorn starts its processes.

PEER_MODEL is the class's file. JSON is read and written by orjson without validation; bytes are not
copied on the way in.
"""

import importlib.util
import os

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response

spec = importlib.util.spec_from_file_location("model", os.environ["PEER_MODEL"])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
model = module.Echo()
model.load()
app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/ready")
async def ready():
    return Response()


@app.post("/json")
async def as_json(request: Request):
    body = orjson.loads(await request.body())
    feed = {tensor["name"]: np.array(tensor["data"], np.float32).reshape(tensor["shape"]) for tensor in body["inputs"]}
    answer = model.predict(feed)
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


@app.post("/bytes")
async def as_bytes(request: Request):
    rows = np.frombuffer(await request.body(), np.float32).reshape(-1, model.WIDTH)
    return Response(model.predict({"x": rows})["y"].tobytes(), media_type="application/octet-stream")
