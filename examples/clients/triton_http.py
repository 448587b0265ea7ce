"""A digit through tritonclient over HTTP, tensors as bytes."""

import os

import numpy as np
import tritonclient.http as triton

address = os.environ.get("SALVER_SERVER", "http://127.0.0.1:8080").removeprefix("http://")
client = triton.InferenceServerClient(address)
assert client.is_model_ready("digits")

# One picture of 8 x 8 pixels, 0 to 16, with a bright bar: most like a one.
picture = np.zeros((1, 1, 8, 8), dtype=np.float32)
picture[..., 3:5] = 16

image = triton.InferInput("image", picture.shape, "FP32").set_data_from_numpy(picture)
answer = client.infer("digits", [image])
probabilities = answer.as_numpy("probabilities")[0]
print(f"digit {probabilities.argmax()} with probability {probabilities.max():.2f}")
