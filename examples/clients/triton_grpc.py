"""Iris through tritonclient over gRPC, on the same port as HTTP."""

import os

import numpy as np
import tritonclient.grpc as triton

address = os.environ.get("SALVER_SERVER", "http://127.0.0.1:8080").removeprefix("http://")
client = triton.InferenceServerClient(address)

flowers = np.array([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]], dtype=np.float32)
rows = triton.InferInput("X", flowers.shape, "FP32").set_data_from_numpy(flowers)
answer = client.infer("iris", [rows], client_timeout=5)

labels = ["setosa", "versicolor", "virginica"]
for probabilities in answer.as_numpy("probabilities"):
    print(labels[probabilities.argmax()], f"{probabilities.max():.2f}")
