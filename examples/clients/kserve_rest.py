"""Iris through KServe's client, over version 2 of the inference protocol."""

import asyncio
import os

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

SERVER = os.environ.get("SALVER_SERVER", "http://127.0.0.1:8080")


async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    flowers = np.array([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]], dtype=np.float32)
    rows = InferInput("X", list(flowers.shape), "FP32")
    rows.set_data_from_numpy(flowers, binary_data=False)
    request = InferRequest("iris", infer_inputs=[rows])
    answer = await client.infer(SERVER, request, model_name="iris")
    print(answer.outputs[0].as_numpy().round(2))
    await client.close()


asyncio.run(main())
