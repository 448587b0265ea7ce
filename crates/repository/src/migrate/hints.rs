//! What to do about what is refused.

/// Ways to ONNX, by what a platform or backend of Triton's is called.
const PLATFORMS: [(&str, &str); 11] = [
    ("tensorrt", TENSORRT),
    ("pytorch", PYTORCH),
    ("tensorflow", TENSORFLOW),
    ("python", PYTHON),
    (
        "openvino",
        "give the ONNX file that the network was converted from, and kind: KIND_CPU with the execution \
                  accelerator openvino where that is wanted",
    ),
    ("fil", "convert the trees to ONNX with onnxmltools or skl2onnx; the values stay the same"),
    ("dali", "a task in model.toml decodes and scales pictures (docs/tasks.md), a model in Python does the rest"),
    ("vllm", "generating text is not what this server does; leave it where it is"),
    ("tensorrtllm", "generating text is not what this server does; leave it where it is"),
    ("identity", "it answers what it is sent; an ONNX graph with the operator Identity does the same"),
    ("repeat", "a model in Python may do the same (docs/python.md)"),
];

const TENSORRT: &str = "a compiled plan runs on one kind of GPU only: give the ONNX file that it was compiled from; the \
                        execution accelerator tensorrt compiles it again";
const PYTORCH: &str = "torch.onnx.export makes an ONNX file of it; or write a model.py for a worker in Python \
                       (docs/python.md)";
const TENSORFLOW: &str = "python -m tf2onnx.convert --saved-model DIR --output 1/model.onnx makes an ONNX file of it";
const PYTHON: &str = "a worker in Python takes a class with load and predict instead of TritonPythonModel: see \
                      docs/migrating.md, then serve with --allow-python";

/// Returns what to do about a field that is refused; empty where the message says all.
pub(super) fn of_fault(path: &str, message: &str) -> &'static str {
    let (field, _) = crate::pbtxt::outermost(path);
    match field {
        "platform" | "backend" => {
            let quoted = message.split('\'').nth(1).unwrap_or_default();
            let known = PLATFORMS.iter().filter(|(name, _)| quoted.starts_with(name));
            known.max_by_key(|(name, _)| name.len()).map_or("export the model to ONNX", |(_, todo)| todo)
        }
        "model_transaction_policy" => "a model in Python may answer with several rows at once",
        _ => "",
    }
}

/// Returns what a file or folder of a version is and what to do, where it is a model of another kind.
pub(super) fn of_artifact(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "model.plan" | "model.engine" => ("a TensorRT plan", TENSORRT),
        "model.pt" | "model.pt2" | "model.pth" => ("a TorchScript model", PYTORCH),
        "model.savedmodel" | "saved_model.pb" => ("a TensorFlow SavedModel", TENSORFLOW),
        "model.graphdef" => ("a TensorFlow graph", TENSORFLOW),
        "model.py" => ("a model of Triton's Python backend", PYTHON),
        "model.xml" | "model.bin" => ("an OpenVINO network", "give the ONNX file that it was converted from"),
        "xgboost.model" | "xgboost.json" | "model.txt" | "checkpoint.tl" => {
            ("trees", "convert them to ONNX with onnxmltools or skl2onnx; the values stay the same")
        }
        _ => return None,
    })
}
