//! `[python]` and declared tensors: what they become, and which are refused.

use salver_core::{ErrorKind, Predictor};

use super::*;
use crate::python::NamedEnvironment;

#[track_caller]
fn draft(text: &str) -> PythonDraft {
    let manifest = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    manifest.python.unwrap_or_else(|| panic!("not in Python: {text:?}"))
}

/// Writes tensors as `name TYPE[shape]`, `text` and `optional` behind them.
fn outline(tensors: &[salver_core::PythonTensor]) -> Vec<String> {
    let line = |tensor: &salver_core::PythonTensor| {
        let spec = &tensor.spec;
        let text = if tensor.is_text { " text" } else { "" };
        let optional = if spec.optional { " optional" } else { "" };
        format!("{} {}{:?}{text}{optional}", spec.name, spec.dtype, spec.wire_shape())
    };
    tensors.iter().map(line).collect()
}

#[track_caller]
fn check_refused(text: &str, expected: &str) {
    check_error(text, ErrorKind::InvalidInput, expected);
}

#[test]
fn every_key_is_read() {
    let draft = draft(
        r#"
        engine = "python"
        artifact = "net.py"
        [python]
        class = "Größe"
        interpreter = "../env"
        memory_limit_mb = 2048
        start_timeout_s = 3600
        [python.env]
        OMP_NUM_THREADS = "1"
        _X = ""
        [python.settings]
        "any key" = "any text"
        [[input]]
        name = "x"
        columns = ["a", "b"]
        dtype = "FP32"
        shape = [-1, 2]
        [[input]]
        name = "note"
        dtype = "str"
        shape = [-1]
        optional = true
        [[output]]
        name = "y"
        dtype = "bytes"
        shape = []
        "#,
    );
    assert_eq!(draft.predictor, Some(Predictor::Class(Some("Größe".to_owned()))));
    assert_eq!(draft.environment, Some(NamedEnvironment::Interpreter("../env".to_owned())));
    assert_eq!((draft.memory_limit, draft.start_timeout), (Some(2048 << 20), Some(Duration::from_secs(3600))));
    assert_eq!(
        draft.variables,
        [("OMP_NUM_THREADS".to_owned(), "1".to_owned()), ("_X".to_owned(), String::new())].into()
    );
    assert_eq!(draft.settings["any key"], "any text");
    assert_eq!(outline(&draft.inputs), ["x FP32[-1, 2]", "note BYTES[-1] text optional"]);
    assert_eq!(outline(&draft.outputs), ["y BYTES[]"]);
}

#[test]
fn the_engine_is_python_where_nothing_else_could_run_it() {
    for text in ["engine = 'python'", "[python]", "artifact = 'a/m.PY'", "artifact = 'm.joblib'", "artifact = 'm.pt2'"]
    {
        assert_eq!(draft(text), PythonDraft::default(), "{text}");
    }
    for text in ["", "engine = 'onnx'", "artifact = 'm.onnx'", "artifact = 'py'", "engine = 'onnx'\nartifact = 'm.py'"]
    {
        assert_eq!(parse(text).unwrap().python, None, "{text}");
    }
}

#[test]
fn types_have_the_names_of_the_protocol_and_of_numpy() {
    for (name, expected) in [
        ("FP16", "FP16"),
        ("BF16", "BF16"),
        ("float64", "FP64"),
        ("bfloat16", "BF16"),
        ("int8", "INT8"),
        ("uint64", "UINT64"),
        ("bool", "BOOL"),
        ("BYTES", "BYTES"),
        ("STRING", "BYTES text"),
    ] {
        let text = format!("engine = 'python'\n[[output]]\nname = 'y'\ndtype = '{name}'\nshape = []");
        assert_eq!(outline(&draft(&text).outputs)[0].replace("[]", ""), format!("y {expected}"));
    }
    check_refused(
        "engine = 'python'\n[[input]]\nname = 'x'\ndtype = 'double'\nshape = [-1]",
        "line 4: input.dtype must be a type of the Open Inference Protocol (FP32, INT64, BOOL, …) or of numpy (float32, \
         int64, bool, …), STRING for texts, or BYTES, got 'double'",
    );
}

#[test]
fn what_belongs_to_python_only_is_refused_elsewhere() {
    for (text, expected) in [
        (
            "engine = 'onnx'\n[python]\nclass = 'A'",
            "line 2: python: belongs to engine = \"python\", not to \"onnx\"; leave it out",
        ),
        (
            "engine = 'rten'\n[[input]]\nname = 'x'\ndtype = 'FP32'",
            "line 4: input.dtype: belongs to engine = \"python\", not to \"rten\"; leave it out: of other models, the \
             artifact itself says so",
        ),
        (
            "[[input]]\nname = 'x'\nshape = [-1]",
            "line 3: input.shape: needs engine = \"python\" at the top of the file: of other models, the artifact itself \
             says so",
        ),
        (
            "[[input]]\nname = 'x'\noptional = false",
            "line 3: input.optional: needs engine = \"python\" at the top of the file: of other models, the artifact \
             itself says so",
        ),
        (
            "artifact = 'm.onnx'\n[[output]]\nname = 'y'\ndtype = 'FP32'\nshape = []",
            "line 3: output.name: needs engine = \"python\" at the top of the file: of other models, the artifact itself \
             says so",
        ),
        (
            "engine = 'python'\n[instances]\ndevice = 'openvino'",
            "line 3: instances.device must be 'cpu' or 'cuda:N' for engine = \"python\", got 'openvino'",
        ),
    ] {
        check_refused(text, expected);
    }
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    for (text, expected) in [
        (
            "[python]\nclass = 'A'\nadapter = 'torch'",
            "line 3: python.adapter: stands beside class; a class needs no adapter, keep one of the two",
        ),
        (
            "[python]\ninterpreter = 'env'\nrequirements = 'r.txt'",
            "line 3: python.requirements: stands beside interpreter, into which nothing is installed; keep one of the two",
        ),
        (
            "[python]\nadapter = 'keras'",
            "line 2: python.adapter must be one of sklearn, mlflow, torch, xgboost, tensorflow, transformers, got 'keras'",
        ),
        ("[python]\nclass = 'a.B'", "line 2: python.class must be the name of a class, got 'a.B'"),
        ("[python]\nclass = ''", "line 2: python.class must be the name of a class, got ''"),
        ("[python]\nclass = '1A'", "line 2: python.class must be the name of a class, got '1A'"),
        ("[python]\nrequirements = ''", "line 2: python.requirements must be a path, got ''"),
        ("[python]\ninterpreter = \"a\\u0000\"", "line 2: python.interpreter must be a path, got 'a\\0'"),
        ("[python.env]\nA = '1'\n2B = ''", "line 3: python.env: '2B' must be letters, digits and '_', no digit first"),
        ("[python.env]\n'' = ''", "line 2: python.env: '' must be letters, digits and '_', no digit first"),
        ("[python.env]\n'A=B' = ''", "line 2: python.env: 'A=B' must be letters, digits and '_', no digit first"),
        (
            "[python.env]\nSALVER_PORT = '1'",
            "line 2: python.env: 'SALVER_PORT' begins with SALVER_, as the server's own do",
        ),
        ("[python.env]\n\nA = \"1\\u0000\"", "line 3: python.env.A must be at most 65536 bytes without a NUL"),
    ] {
        check_refused(text, expected);
    }
    let long = format!("[python.env]\nA = '{}'", "x".repeat(65_537));
    check_refused(&long, "line 2: python.env.A must be at most 65536 bytes without a NUL");
}

#[test]
fn tensors_are_declared_in_full() {
    let half = "must be -1 (any) or from 1 to 2147483647";
    for (text, expected) in [
        (
            "[[input]]\nname = 'a'\ndtype = 'FP32'\nshape = [-1]\n[[input]]\nname = 'b'",
            "line 7: input.name: needs dtype and shape beside it; give every input both, or none".to_owned(),
        ),
        (
            "[[input]]\nname = 'a'\nshape = [-1]",
            "line 3: input.name: needs dtype and shape beside it; give every input both, or none".to_owned(),
        ),
        (
            "[[input]]\nname = 'a'\noptional = true",
            "line 3: input.name: needs dtype and shape beside it; give every input both, or none".to_owned(),
        ),
        ("[[input]]\nname = 'a'\ndtype = 'FP32'\nshape = [-1,\n0]", format!("line 6: input.shape {half}, got 0")),
        ("[[input]]\nname = 'a'\ndtype = 'FP32'\nshape = [-2]", format!("line 5: input.shape {half}, got -2")),
        (
            "[[output]]\nname = 'a'\ndtype = 'FP32'\nshape = [2147483648]",
            format!("line 5: output.shape {half}, got 2147483648"),
        ),
        (
            "[[output]]\nname = 'a'\ndtype = 'FP32'\nshape = []\n[[output]]\nname = 'a'\ndtype = 'FP32'\nshape = []",
            "line 7: output.name must not be empty and not be given twice, got 'a'".to_owned(),
        ),
        ("[[output]]\nname = 'a'\nshape = []", "line 3: output.name: needs dtype and shape beside it".to_owned()),
    ] {
        check_refused(&format!("engine = 'python'\n{text}"), &expected);
    }
    let deep = format!("engine = 'python'\n[[output]]\nname = 'y'\ndtype = 'FP32'\nshape = [{}]", "1,".repeat(65));
    check_refused(&deep, "line 5: output.shape must have at most 64 extents, got 65");
}

#[test]
fn the_documented_example_is_read() {
    let page = documentation();
    let (_, rest) = page.split_once("\n## Python\n").expect("a section");
    let (_, rest) = rest.split_once("```toml\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let draft = draft(example);
    assert_eq!((draft.memory_limit, draft.variables.len()), (Some(2 << 30), 1));
    assert_eq!(
        (outline(&draft.inputs), outline(&draft.outputs)),
        (vec!["x FP32[-1, 4]".into()], vec!["y FP32[-1]".into()])
    );
}

#[test]
fn every_adapter_and_every_ending_stands_in_the_documentation() {
    let page = documentation();
    for adapter in crate::python::ADAPTERS {
        assert!(page.contains(&format!("\"{adapter}\"")) && page.contains(&format!("`{adapter}`")), "{adapter}");
    }
    for ending in ["py", "joblib", "pkl", "pickle", "skops", "pt", "pth", "pt2", "ubj"] {
        assert!(page.contains(&format!("`.{ending}`")) && crate::python::is_python(&format!("a.{ending}")), "{ending}");
    }
}
