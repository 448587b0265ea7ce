//! ONNX Runtime as an engine, and how its shared library gets onto a machine.
