use std::path::Path;

use salver_core::{
    CropSpec, DataType, DecodeSpec, ErrorKind, Filter, LabelsSpec, Overlong, PixelLayout, ScoreRule, TokenPadding,
    TokenizeSpec, TopKSpec,
};
use salver_testkit::{model_suite, spec, tensor, text};

use super::view::in_order;
use super::*;
use crate::text::tests as texts;

/// Runs a function as an instance does.
pub(crate) fn run(function: &dyn Function, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let given: Vec<View<'_>> = inputs.iter().map(View::from).collect();
    function.run(&in_order(function.signature(), &given)?)
}

pub(crate) fn crop_spec() -> CropSpec {
    CropSpec {
        dtype: DataType::Uint8,
        size: (2, 3),
        layout: PixelLayout::Nchw,
        relative: false,
        rescale: 1.0,
        mean: Vec::new(),
        std: Vec::new(),
    }
}

#[track_caller]
fn keeps_the_contract(builtin: BuiltinSpec, requests: &[Vec<Tensor>]) {
    let mut model = spec("step", Path::new("model.toml"));
    model.backing = Backing::Builtin(Arc::new(builtin));
    model_suite(&BuiltinEngine, &model, requests);
}

#[test]
fn tokenize_keeps_the_contract_of_models() {
    let file = texts::file(&texts::definition());
    let spec = TokenizeSpec {
        tokenizer: file.path.clone(),
        max_length: Some(6),
        overlong: Overlong::Cut,
        pad: TokenPadding::Max,
        token_types: true,
    };
    let requests = [&["a b c"][..], &["", "a b c d e f g h", "Öa 一"]];
    let requests = requests.map(|texts| {
        let bytes: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
        vec![text("text", &[texts.len()], &bytes)]
    });
    keeps_the_contract(BuiltinSpec::Tokenize(spec), &requests);
}

#[test]
fn crop_keeps_the_contract_of_models() {
    let request = |rows: usize| {
        let pixels: Vec<u8> = (0..rows * 5 * 4 * 3).map(|idx| (idx * 37 % 251) as u8).collect();
        let boxes: Vec<f32> = (0..rows * 2).flat_map(|idx| [0.5, idx as f32, 3.0, 4.5]).collect();
        vec![tensor("image", &[rows, 5, 4, 3], &pixels), tensor("boxes", &[rows, 2, 4], &boxes)]
    };
    keeps_the_contract(BuiltinSpec::Crop(crop_spec()), &[request(1), request(3)]);
}

#[test]
fn top_k_keeps_the_contract_of_models() {
    let scores = |rows: usize| -> Vec<f32> { (0..rows * 4).map(|idx| (idx * 7 % 5) as f32).collect() };
    let ids = |rows: usize| -> Vec<i64> { (0..rows as i64 * 4).collect() };
    let plain = [1, 3].map(|rows| vec![tensor("scores", &[rows, 4], &scores(rows))]);
    keeps_the_contract(BuiltinSpec::TopK(TopKSpec { k: 2, ids: None }), &plain);
    let numbered =
        [1, 3].map(|rows| vec![tensor("scores", &[rows, 4], &scores(rows)), tensor("ids", &[rows, 4], &ids(rows))]);
    keeps_the_contract(BuiltinSpec::TopK(TopKSpec { k: 4, ids: Some(DataType::Int64) }), &numbered);
    let named = [1, 2].map(|rows| {
        let names: Vec<String> = (0..rows * 4).map(|idx| format!("film {idx}")).collect();
        let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        vec![tensor("scores", &[rows, 4], &scores(rows)), text("ids", &[rows, 4], &names)]
    });
    keeps_the_contract(BuiltinSpec::TopK(TopKSpec { k: 1, ids: Some(DataType::Bytes) }), &named);
}

#[test]
fn labels_keeps_the_contract_of_models() {
    let labels = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
    let requests = [1, 4]
        .map(|rows| vec![tensor("scores", &[rows, 3], &(0..rows * 3).map(|idx| (idx % 4) as f32).collect::<Vec<_>>())]);
    keeps_the_contract(BuiltinSpec::Labels(LabelsSpec { labels, scores: ScoreRule::Softmax, k: 2 }), &requests);
}

#[test]
fn image_keeps_the_contract_of_models() {
    let small = crate::image::tests::png((3, 2), png::ColorType::Rgb, &(0..18).collect::<Vec<u8>>());
    let grey = crate::image::tests::png((5, 7), png::ColorType::Grayscale, &(0..35).collect::<Vec<u8>>());
    let requests = [vec![text("image", &[1], &[&grey])], vec![text("image", &[3], &[&small, &grey, &small])]];
    let spec = DecodeSpec { size: Some((4, 6)), filter: Filter::Bilinear };
    keeps_the_contract(BuiltinSpec::Image(spec), &requests);
    let requests = [vec![text("image", &[2], &[&small, &small])]];
    keeps_the_contract(BuiltinSpec::Image(DecodeSpec { size: None, filter: Filter::Bilinear }), &requests);
}

#[test]
fn a_file_is_no_function() {
    let error = BuiltinEngine.load(&spec("m", Path::new("m.onnx"))).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().starts_with("m.onnx: the engine 'builtin' loads no files"), "{error}");
}

#[test]
fn rows_of_inputs_belong_together() {
    let inputs = [tensor("scores", &[1, 2], &[1f32, 2.0]), tensor("ids", &[2, 2], &[1i64, 2, 3, 4])];
    let error = run(&TopK::new(&TopKSpec { k: 1, ids: Some(DataType::Int64) }), &inputs).unwrap_err();
    assert_eq!(error.message(), "input 'ids' has 2 rows, but input 'scores' has 1");
}
