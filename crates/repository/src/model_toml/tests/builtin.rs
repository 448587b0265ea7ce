//! `[builtin]`: what it becomes, and what is refused.

use salver_core::{
    BuiltinSpec, CropSpec, DataType, DecodeSpec, ErrorKind, Filter, LabelsSpec, Overlong, PixelLayout, ScoreRule,
    TokenPadding, TokenizeSpec, TopKSpec,
};

use super::super::*;
use super::check_error;

#[track_caller]
fn read(text: &str) -> BuiltinSpec {
    let manifest = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    match manifest.backing {
        Some(Backing::Builtin(spec)) => (*spec).clone(),
        other => panic!("{text:?}: {other:?}"),
    }
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    check_error(text, ErrorKind::InvalidInput, expected);
}

#[test]
fn every_function_has_its_keys() {
    let tokenize = "engine = 'builtin'\n[builtin]\nfunction = 'tokenize'\ntokenizer = 'a/t.json'\nmax_length = 128\n\
                    overlong = 'refuse'\npad = 'longest'\ntoken_type_ids = true";
    let expected = TokenizeSpec {
        tokenizer: "a/t.json".into(),
        max_length: Some(128),
        overlong: Overlong::Refuse,
        pad: TokenPadding::Longest,
        token_types: true,
    };
    assert_eq!(read(tokenize), BuiltinSpec::Tokenize(expected));
    let crop = "[builtin]\nfunction = 'crop'\nsize = [64, 32]\ndtype = 'FP32'\nlayout = 'nhwc'\nrelative = true\n\
                rescale = 0.5\nmean = [0.5]\nstd = [1, 2, 3]";
    let expected = CropSpec {
        dtype: DataType::Fp32,
        size: (64, 32),
        layout: PixelLayout::Nhwc,
        relative: true,
        rescale: 0.5,
        mean: vec![0.5],
        std: vec![1.0, 2.0, 3.0],
    };
    assert_eq!(read(crop), BuiltinSpec::Crop(expected));
    let top_k = read("[builtin]\nfunction = 'top-k'\nk = 10\nids = 'BYTES'");
    assert_eq!(top_k, BuiltinSpec::TopK(TopKSpec { k: 10, ids: Some(DataType::Bytes) }));
    let labels = read("labels = 'names.txt'\n[builtin]\nfunction = 'labels'\nscores = 'sigmoid'\nk = 2");
    assert_eq!(labels, BuiltinSpec::Labels(LabelsSpec { labels: vec![], scores: ScoreRule::Sigmoid, k: 2 }));
    let image = read("[builtin]\nfunction = 'image'\nsize = [8, 9]\nfilter = 'lanczos'");
    assert_eq!(image, BuiltinSpec::Image(DecodeSpec { size: Some((8, 9)), filter: Filter::Lanczos }));
}

#[test]
fn what_is_left_out_has_a_default() {
    let expected = TokenizeSpec {
        tokenizer: "tokenizer.json".into(),
        max_length: None,
        overlong: Overlong::Cut,
        pad: TokenPadding::Max,
        token_types: false,
    };
    assert_eq!(read("[builtin]\nfunction = 'tokenize'"), BuiltinSpec::Tokenize(expected));
    let image = DecodeSpec { size: None, filter: Filter::Bilinear };
    assert_eq!(read("[builtin]\nfunction = 'image'"), BuiltinSpec::Image(image));
    let labels = read("labels = ['a']\n[builtin]\nfunction = 'labels'");
    assert_eq!(labels, BuiltinSpec::Labels(LabelsSpec { labels: vec![], scores: ScoreRule::Softmax, k: 1 }));
    let BuiltinSpec::Crop(crop) = read("[builtin]\nfunction = 'crop'\nsize = [1, 2]") else { panic!("a crop") };
    assert_eq!((crop.dtype, crop.layout, crop.relative), (DataType::Uint8, PixelLayout::Nchw, false));
    assert_eq!((crop.rescale.to_bits(), crop.mean, crop.std), (1.0f32.to_bits(), vec![], vec![]));
}

#[test]
fn what_cannot_be_names_its_line_and_key() {
    for (text, expected) in [
        ("engine = 'builtin'", "line 1: engine: needs a table [builtin] beside it, with `function`"),
        (
            "engine = 'onnx'\n[builtin]\nfunction = 'image'",
            "line 2: builtin: needs engine = \"builtin\" at the top of the file",
        ),
        ("[builtin]\n", "line 1: builtin: missing field `function`"),
        (
            "[builtin]\nfunction = 'sort'",
            "line 2: builtin.function: unknown variant `sort`, expected one of `tokenize`, `crop`, `top-k`, `labels`, \
             `image`",
        ),
        (
            "[builtin]\nfunction = 'top-k'",
            "line 2: builtin.function: \"top-k\" needs k beside it: how many are answered",
        ),
        ("[builtin]\nfunction = 'top-k'\nk = 0", "line 3: builtin.k must be from 1 to 1000000, got 0"),
        (
            "[builtin]\nfunction = 'top-k'\nk = 1\nids = 'FP32'",
            "line 4: builtin.ids must be \"INT64\" or \"BYTES\", got 'FP32'",
        ),
        (
            "[builtin]\nfunction = 'top-k'\nk = 1\n\nsize = [1, 1]",
            "line 5: builtin.size: belongs to the function crop and image, not to top-k; leave it out",
        ),
        ("[builtin]\nfunction = 'crop'", "line 2: builtin.function: \"crop\" needs size = [height, width] beside it"),
        (
            "[builtin]\nfunction = 'crop'\nsize = [1, 1]\nstd = [0]",
            "line 4: builtin.std must be one or three numbers above zero, got [0.0]",
        ),
        (
            "[builtin]\nfunction = 'labels'",
            "line 2: builtin.function: \"labels\" needs labels = […] at the top of the file",
        ),
        ("labels = []\n[builtin]\nfunction = 'labels'", "line 1: labels must have at least one label"),
        (
            "labels = ['a']\n[builtin]\nfunction = 'image'",
            "line 1: labels: belongs to the function labels, not to image; leave it out",
        ),
        (
            "task = 'tensor'\n[builtin]\nfunction = 'image'",
            "line 1: task: has no place beside [builtin]: the function says what goes in and out",
        ),
        (
            "[[input]]\nname = 'x'\n[builtin]\nfunction = 'image'",
            "line 2: input.name: has no place beside [builtin]: the function says what goes in and out",
        ),
        (
            "artifact = 'm.onnx'\n[builtin]\nfunction = 'image'",
            "line 2: builtin: stands beside artifact; a function has no such file, leave it out",
        ),
    ] {
        refused(text, expected);
    }
}

#[test]
fn answers_of_any_shape_are_not_put_together() {
    let batching = "[batching]\nmax_rows = 8\n";
    refused(
        &format!("{batching}[builtin]\nfunction = 'tokenize'\npad = 'longest'"),
        "line 5: builtin.pad: \"longest\" makes answers of any shape, so each request runs by itself: leave max_rows, \
         preferred_rows and padding out of [batching]",
    );
    refused(
        &format!("{batching}[builtin]\nfunction = 'image'"),
        "line 4: builtin.function: \"image\" without `size` makes answers of any shape, so each request runs by itself: \
         leave max_rows, preferred_rows and padding out of [batching], or set it",
    );
    assert!(parse(&format!("{batching}[builtin]\nfunction = 'image'\nsize = [1, 1]")).is_ok());
}

/// What serde says is known is what the tables list.
#[test]
fn every_key_stands_in_the_documentation_and_no_other() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/builtin.md");
    let page = std::fs::read_to_string(path).expect("docs/builtin.md");
    let error = parse("[builtin]\nno_such_key = 1").expect_err("an unknown key");
    let mut known: Vec<&str> = error.message().split('`').skip(3).step_by(2).collect();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut listed: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    listed.push("function");
    known.sort_unstable();
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(known, listed);
}

#[test]
fn the_documented_examples_are_read() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/builtin.md");
    let page = std::fs::read_to_string(path).expect("docs/builtin.md");
    let examples: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let names: Vec<&str> = examples.iter().map(|example| read(example).name()).collect();
    assert_eq!(names, ["tokenize", "image", "crop", "top-k", "labels"]);
}
