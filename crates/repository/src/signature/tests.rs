//! Signatures of real files, of files too large to be read whole, and what differs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Files in memory, and how much of them was read.
#[derive(Default)]
struct Kept {
    files: BTreeMap<String, Bytes>,
    /// Zeros that a file has in its middle, which nobody needs to keep: where, and how many.
    gap: Option<(u64, u64)>,
    read: AtomicU64,
}

impl Kept {
    fn of(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), Bytes::copy_from_slice(bytes)));
        Self { files: files.collect(), ..Self::default() }
    }
}

impl Files for Kept {
    fn list(&self) -> Vec<(&str, u64)> {
        let gap = self.gap.map_or(0, |(_, len)| len);
        self.files.iter().map(|(path, bytes)| (path.as_str(), bytes.len() as u64 + gap)).collect()
    }

    fn read<'a>(&'a self, path: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Bytes>> {
        self.read.fetch_add(range.end - range.start, Ordering::SeqCst);
        let file = &self.files[path];
        let byte = |at: u64| match self.gap {
            Some((from, len)) if at >= from + len => file[(at - len) as usize],
            Some((from, _)) if at >= from => 0,
            _ => file[at as usize],
        };
        let bytes: Bytes = range.map(byte).collect::<Vec<u8>>().into();
        Box::pin(std::future::ready(Ok(bytes)))
    }
}

/// Polls once: these files never keep anybody waiting.
fn now<T>(work: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(work).poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("it waits for something"),
    }
}

fn lines(signature: &Signature) -> Vec<String> {
    let side = |side: Side, fields: &[Field]| -> Vec<String> {
        fields.iter().map(|field| format!("{side} {} {field}", field.name)).collect()
    };
    [side(Side::Input, &signature.inputs), side(Side::Output, &signature.outputs)].concat()
}

#[track_caller]
fn check(files: &[(&str, &[u8])], expected: &[&str]) {
    let found = now(read(&Kept::of(files))).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(found.as_ref().map(lines).unwrap_or_default(), expected);
}

fn file(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

/// One field of a message: its number, and bytes.
fn part(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut part = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut part);
    part.extend(bytes);
    part
}

/// An input or output `name` of FP32 with one extent.
fn port(name: &str, extent: u8) -> Vec<u8> {
    let shape = part(2, &part(1, &[1 << 3, extent]));
    let tensor = [vec![1 << 3, 1], shape].concat();
    [part(1, name.as_bytes()), part(2, &part(1, &tensor))].concat()
}

const COLUMNS: &str = r#"{flavors: {sklearn: {}}, signature: {inputs: '[
    {"type": "double", "name": "a", "required": true}, {"type": "string", "name": "b", "required": false},
    {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "long"}}}, "name": "c"}]',
    outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'}}"#;

#[test]
fn an_mlmodel_declares_columns_and_tensors_whatever_its_flavour() {
    let expected = ["input a FP64", "input b BYTES, optional", "input c array(object(x: INT64))", "output  INT64[-1]"];
    check(&[("MLmodel", COLUMNS.as_bytes()), ("model.pkl", b"code")], &expected);
}

#[test]
fn the_graph_says_what_no_signature_says() {
    let iris = file("examples/demo/iris/model.onnx");
    let expected = ["input X FP32[-1,4]", "output probabilities FP32[-1,3]"];
    check(&[("iris.onnx", &iris)], &expected);
    check(&[("model.toml", b"artifact = \"b.onnx\""), ("a.onnx", b"?"), ("b.onnx", &iris)], &expected);
    check(&[("model.toml", b""), ("c.onnx", &iris)], &expected);
    check(&[("MLmodel", b"{flavors: {onnx: {data: model.onnx}}}"), ("model.onnx", &iris)], &expected);
    check(&[("MLmodel", b"{flavors: {onnx: {data: data}}}"), ("data/model.onnx", &iris)], &expected);
}

#[test]
fn a_model_in_python_has_what_its_manifest_declares() {
    let manifest = b"engine = 'python'\n[[input]]\nname = 'x'\ndtype = 'str'\nshape = [-1, 2]\noptional = true\n\
        [[output]]\nname = 'y'\ndtype = 'float32'\nshape = []";
    let expected = ["input x BYTES[-1,2], optional", "output y FP32[]"];
    check(&[("model.toml", manifest), ("model.py", b"code")], &expected);
}

#[test]
fn what_declares_nothing_has_no_signature() {
    check(&[("model.toml", b"artifact = 'model.joblib'"), ("model.joblib", b"code")], &[]);
    check(&[("model.toml", b"engine = 'python'"), ("model.py", b"code"), ("model.onnx", b"?")], &[]);
    check(&[("model.py", b"code"), ("weights.pt", b"?")], &[]);
    check(&[("model.pkl", b"code")], &[]);
    check(&[], &[]);
    check(&[("notes.txt", b"hello")], &[]);
    check(&[("a.onnx", b"?"), ("b.onnx", b"?")], &[]);
    check(&[("MLmodel", b"{flavors: {sklearn: {}}, signature: null}"), ("model.onnx", b"?")], &[]);
    check(&[("MLmodel", b"{flavors: {onnx: {data: gone.onnx}}}")], &[]);
}

#[test]
fn all_generated_models_are_read_as_the_whole_file_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    let (mut folders, mut seen) = (vec![root], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let (Some("onnx"), Ok(whole)) =
                (entry.extension().and_then(|ending| ending.to_str()), crate::onnx::summarize(&entry))
            else {
                continue;
            };
            let bytes = std::fs::read(&entry).unwrap();
            let found = now(read(&Kept::of(&[("m.onnx", &bytes)]))).unwrap().unwrap();
            let names = |fields: &[Field]| fields.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
            let whole_names = |values: &[crate::onnx::OnnxValue]| -> Vec<String> {
                values.iter().map(|value| value.name.clone()).collect()
            };
            assert_eq!(names(&found.inputs), whole_names(&whole.inputs), "{}", entry.display());
            assert_eq!(names(&found.outputs), whole_names(&whole.outputs), "{}", entry.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn weights_are_passed_over_and_are_no_inputs() {
    // As a writer of protobuf orders them: name, weights of 2 GiB, then inputs and outputs.
    const GAP: u64 = 2 << 30;
    let name = part(8, b"w");
    let head_of = |len: u64, number: u8| {
        let mut head = vec![number << 3 | 2];
        prost::encoding::encode_varint(len, &mut head);
        head
    };
    let raw = head_of(GAP, 9);
    let tensor = [head_of((name.len() + raw.len()) as u64 + GAP, 5), name, raw].concat();
    let ports = [part(11, &port("w", 9)), part(11, &port("x", 3)), part(12, &port("y", 1))].concat();
    let graph = head_of((tensor.len() + ports.len()) as u64 + GAP, 7);
    let before = [vec![1 << 3, 8], graph, tensor].concat();
    let gap = Some((before.len() as u64, GAP));
    let kept = Kept { gap, ..Kept::of(&[("big.onnx", &[before, ports].concat())]) };
    assert_eq!(lines(&now(read(&kept)).unwrap().unwrap()), ["input x FP32[3]", "output y FP32[1]"]);
    assert!(kept.read.into_inner() < 1 << 20);
}

#[test]
fn damage_is_an_error_and_what_is_read_is_bounded() {
    let iris = file("examples/demo/iris/model.onnx");
    let whole = now(read(&Kept::of(&[("m.onnx", &iris)]))).unwrap();
    for len in 0..iris.len() {
        match now(read(&Kept::of(&[("m.onnx", &iris[..len])]))) {
            // Cut behind the graph.
            Ok(found) => assert_eq!(found, whole, "{len}"),
            Err(error) => assert_eq!(error.kind(), salver_core::ErrorKind::InvalidInput, "{len}: {error}"),
        }
    }
    for text in ["{flavors: [", "{signature: {inputs: '[{}]'}}", "{signature: {inputs: '3'}}"] {
        assert!(now(read(&Kept::of(&[("MLmodel", text.as_bytes())]))).is_err(), "{text}");
    }
    // Many weights, each beyond a piece of its own.
    let weight = part(5, &part(9, &vec![0; (256 << 10) + 1]));
    let many = part(7, &weight.repeat(1200));
    let error = now(read(&Kept::of(&[("m.onnx", &many)]))).unwrap_err();
    assert_eq!(error.kind(), salver_core::ErrorKind::TooLarge, "{error}");
}

fn of(inputs: &[(&str, &str)]) -> Signature {
    let field = |(name, datatype): &(&str, &str)| Field {
        name: (*name).to_owned(),
        datatype: (*datatype).to_owned(),
        shape: None,
        optional: false,
    };
    Signature { inputs: inputs.iter().map(field).collect(), outputs: Vec::new() }
}

#[track_caller]
fn differs(before: &[(&str, &str)], after: &[(&str, &str)], expected: &[&str]) {
    let changes: Vec<String> = of(before).changes(&of(after)).iter().map(ToString::to_string).collect();
    assert_eq!(changes, expected);
}

#[test]
fn what_differs_is_said_in_words() {
    differs(&[("a", "FP32")], &[("a", "FP32")], &[]);
    differs(
        &[("a", "FP32"), ("b", "INT64")],
        &[("a", "FP64"), ("c", "BOOL")],
        &["changed input 'a': FP32 → FP64", "removed input 'b': INT64", "added input 'c': BOOL"],
    );
    differs(&[("a", "FP32"), ("b", "FP32")], &[("b", "FP32"), ("a", "FP32")], &["other order of inputs: a, b → b, a"]);
    differs(&[("", "FP32")], &[("", "FP64")], &["changed input: FP32 → FP64"]);
    differs(
        &[("", "FP32"), ("", "FP32")],
        &[("", "FP32")],
        &["removed input '0': FP32", "removed input '1': FP32", "added input: FP32"],
    );
}
