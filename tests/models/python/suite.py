"""Stands in for the ONNX models of the contract of engines, run by a worker.

`settings["graph"]` is the ONNX file. Identities copy; everything else is ONNX Runtime in Python.
"""

import os

NAMES = {
    "tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(int64)": "INT64", "tensor(int32)": "INT32",
    "tensor(string)": "STRING",
}  # fmt: skip


class Graph:
    def load(self, context):
        graph = context.settings["graph"]
        folder = os.path.basename(os.path.dirname(os.path.dirname(graph)))
        if folder.startswith("identity_"):
            dtype = folder.removeprefix("identity_").upper()
            self.inputs, self.outputs = {"INPUT0": (dtype, [-1, -1])}, {"OUTPUT0": (dtype, [-1, -1])}
            self.session = None
            return
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = context.threads
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.inputs = {one.name: self.declared(one) for one in self.session.get_inputs()}
        self.outputs = {one.name: self.declared(one) for one in self.session.get_outputs()}

    def declared(self, one):
        return NAMES[one.type], [extent if isinstance(extent, int) else -1 for extent in one.shape]

    def predict(self, batch):
        if self.session is None:
            return batch["INPUT0"]
        return tuple(self.session.run(list(self.outputs), batch))
