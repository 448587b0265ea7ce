"""A class with `predict` behind FastAPI, three ways. uvicorn starts its processes.

`/predict` is what FastAPI's own tutorial teaches: a Pydantic model in, a list out. `/json` is tuned by
hand: orjson, no validation. `/bytes` is no API any more, but what a service inside a company may do: the
numbers themselves, not copied on the way in. PEER_MODEL is the class's file.
"""

import importlib.util
import os

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

spec = importlib.util.spec_from_file_location("model", os.environ["PEER_MODEL"])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
model = module.Echo()
model.load()
app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/ready")
async def ready():
    return Response()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Question(BaseModel):
    inputs: list[Tensor]


@app.post("/predict")
def predict(question: Question):
    feed = {tensor.name: np.array(tensor.data, np.float32).reshape(tensor.shape) for tensor in question.inputs}
    return {"y": model.predict(feed)["y"].tolist()}


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
