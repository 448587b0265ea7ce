"""The KServe client's calls, in a process of their own, results as JSON on stdout.

KServe and Triton each bring their own copy of the same protobuf package, and one Python process
cannot hold both: that is why the tests do not import kserve themselves.
"""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


def as_dict() -> dict:
    return add_sub(False).to_rest()[0]


def add_sub(binary: bool, wanted: list[str] | None = None) -> InferRequest:
    first = np.arange(32, dtype=np.float32).reshape(2, 16)
    inputs = []
    for name, value in (("INPUT0", first), ("INPUT1", first * 2)):
        one = InferInput(name=name, shape=[2, 16], datatype="FP32")
        one.set_data_from_numpy(value, binary_data=binary)
        inputs.append(one)
    chosen = [RequestedOutput(name) for name in wanted] if wanted else None
    return InferRequest(model_name="add_sub_fp32", infer_inputs=inputs, request_id="k-1", request_outputs=chosen)


def typed(name: str, datatype: str, value: np.ndarray, binary: bool) -> InferRequest:
    one = InferInput(name="INPUT0", shape=list(value.shape), datatype=datatype)
    one.set_data_from_numpy(value, binary_data=binary)
    return InferRequest(model_name=name, infer_inputs=[one])


def outputs(response) -> dict:
    out = {o.name: o.as_numpy().tolist() for o in response.outputs}
    return {"id": response.id, "model": response.model_name, "outputs": out}


VALUES = {
    "identity_int64": ("INT64", np.array([[2**63 - 1, -5]], np.int64)),
    "identity_uint8": ("UINT8", np.array([[0, 255]], np.uint8)),
    "identity_bool": ("BOOL", np.array([[True, False]])),
    "identity_fp64": ("FP64", np.array([[0.1, 1e300]], np.float64)),
    "identity_bytes": ("BYTES", np.array([["", "grüße"]], object)),
}


def plain(value):
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value.decode() if isinstance(value, bytes) else value


async def main(triton_http: str, triton_grpc: str, demo_http: str, broken_http: str) -> dict:
    url, demo, broken = f"http://{triton_http}", f"http://{demo_http}", f"http://{broken_http}"
    results: dict[str, object] = {}

    async def note(name, call):
        try:
            results[name] = await call
        except Exception as error:  # noqa: BLE001 - any failure is a result
            results[name] = {"error": f"{type(error).__name__}: {error}"}

    async def infer(client, *args, **kwargs):
        return outputs(await client.infer(*args, **kwargs))

    async def same(client, *args, **kwargs):
        response = await client.infer(*args, **kwargs)
        return plain(response.outputs[0].as_numpy().tolist())

    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
    await note("v2 live", v2.is_server_live(url))
    await note("v2 ready", v2.is_server_ready(url))
    await note("v2 model ready", v2.is_model_ready(url, "add_sub_fp32"))
    await note("v2 model missing", v2.is_model_ready(url, "nobody"))
    await note("v2 not ready", v2.is_server_ready(broken))
    await note("v2 live but not ready", v2.is_server_live(broken))
    await note("v2 model not ready", v2.is_model_ready(broken, "wrong_rank"))
    for binary in (True, False):
        form = "binary" if binary else "json"
        await note(f"v2 infer {form}", infer(v2, url, add_sub(binary), model_name="add_sub_fp32"))
        for name, (datatype, value) in VALUES.items():
            await note(
                f"v2 {name} {form}", same(v2, url, typed(name, datatype, value, binary), model_name=name)
            )
    await note("v2 chosen output", infer(v2, url, add_sub(True, ["OUTPUT1"]), model_name="add_sub_fp32"))
    await note("v2 dict", infer(v2, url, as_dict(), model_name="add_sub_fp32"))
    await note("v2 unknown", infer(v2, url, add_sub(True), model_name="nobody"))
    await v2.close()

    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    await note("v1 live", v1.is_server_live(demo))
    await note("v1 model ready", v1.is_model_ready(demo, "iris"))
    await note("v1 model not ready", v1.is_model_ready(broken, "wrong_rank"))
    await note("v1 live but not ready", v1.is_server_live(broken))
    await note("v1 model missing", v1.is_model_ready(demo, "nobody"))
    rows = {"instances": [[5.1, 3.5, 1.4, 0.2], [6.2, 3.4, 5.4, 2.3]]}
    await note("v1 predict", v1.infer(demo, rows, model_name="iris_ml"))
    await note("v1 predict inputs", v1.infer(demo, {"inputs": rows["instances"]}, model_name="iris_ml"))
    await note("v1 unknown", v1.infer(demo, rows, model_name="nobody"))
    await note("v1 explain", v1.explain(demo, "iris_ml", rows))
    await note("v1 bad", v1.infer(demo, {"instances": 5}, model_name="iris_ml"))
    await v1.close()

    grpc = InferenceGRPCClient(triton_grpc)
    await note("grpc live", grpc.is_server_live())
    await note("grpc ready", grpc.is_server_ready())
    await note("grpc model ready", grpc.is_model_ready("add_sub_fp32"))
    await note("grpc model missing", grpc.is_model_ready("nobody"))
    await note("grpc unknown", infer(grpc, InferRequest(model_name="nobody", infer_inputs=add_sub(True).inputs)))
    for binary in (True, False):
        form = "raw" if binary else "typed"
        await note(f"grpc infer {form}", infer(grpc, add_sub(binary)))
        for name, (datatype, value) in VALUES.items():
            await note(f"grpc {name} {form}", same(grpc, typed(name, datatype, value, binary)))
    await grpc.close()
    return results


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
