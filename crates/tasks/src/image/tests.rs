use std::sync::Arc;

use proptest::prelude::*;
use salver_core::{
    Batching, Colours, DataType, Elements, ErrorKind, Filter, ImageSpec, PartLimits, Resize, ScoreRule, Shape,
    Signature, Task, Tensor, TensorSpec,
};

use super::make;
use super::picture::Size;

const LIMITS: PartLimits<'_> = PartLimits { max_rows: 8, buckets: &[] };

fn spec() -> ImageSpec {
    ImageSpec {
        labels: vec!["dark".to_owned(), "light".to_owned()],
        scores: ScoreRule::AsIs,
        top_k: None,
        resize: None,
        crop: None,
        filter: Filter::Bilinear,
        colours: None,
        rescale: None,
        mean: vec![],
        std: vec![],
        invert: false,
    }
}

fn grey() -> ImageSpec {
    ImageSpec { colours: Some(Colours::Grey), ..spec() }
}

fn graph(dtype: DataType, shape: &[i64]) -> Signature {
    let inputs = vec![TensorSpec::new("pixels", dtype, shape)];
    let outputs = vec![TensorSpec::new("scores", DataType::Fp32, &[-1, 2])];
    Signature { batching: Batching::of(&inputs, &outputs), inputs, outputs }
}

/// Writes a PNG.
pub(crate) fn png(size: (u32, u32), color: png::ColorType, pixels: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.0, size.1);
    encoder.set_color(color);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    file
}

fn images(files: &[&[u8]]) -> Vec<Tensor> {
    let elements: Elements = files.iter().collect();
    vec![Tensor::from_elements("image", Shape::new(&[files.len()]), elements).unwrap()]
}

fn encode(task: &Arc<dyn Task>, files: &[&[u8]]) -> salver_core::Result<Vec<Vec<Tensor>>> {
    task.encode(images(files), LIMITS).map(|encoded| encoded.parts)
}

/// Two pixels: red over blue.
fn red_over_blue() -> Vec<u8> {
    png((1, 2), png::ColorType::Rgb, &[255, 0, 0, 0, 0, 255])
}

#[track_caller]
fn check<T: salver_core::Element + PartialEq + std::fmt::Debug>(
    spec: &ImageSpec,
    shape: &[i64],
    expected_shape: &[usize],
    expected: &[T],
) {
    let task = make(spec, &graph(T::DTYPE, shape)).unwrap();
    let parts = encode(&task, &[&red_over_blue()]).unwrap();
    assert_eq!(&**parts[0][0].shape(), expected_shape);
    assert_eq!(parts[0][0].to_vec::<T>().unwrap(), expected);
}

#[test]
fn each_layout_gets_its_pixels() {
    let rgb = ImageSpec { colours: Some(Colours::Rgb), ..spec() };
    check(&rgb, &[-1, 3, 2, 1], &[1, 3, 2, 1], &[1.0f32, 0.0, 0.0, 0.0, 0.0, 1.0]);
    check(&spec(), &[-1, 2, 1, 3], &[1, 2, 1, 3], &[255u8, 0, 0, 0, 0, 255]);
    // Brightness of red and blue.
    check(&grey(), &[-1, 1, 2, 1], &[1, 1, 2, 1], &[76u8, 29]);
    check(&spec(), &[-1, 2, 1], &[1, 2, 1], &[76u8, 29]);
    let flat = ImageSpec { resize: Some(Resize::Exact { height: 2, width: 1 }), ..spec() };
    check(&flat, &[-1, 2], &[1, 2], &[76u8, 29]);
    check(&flat, &[-1, -1], &[1, 2], &[76u8, 29]);
    check(&flat, &[1, 3, -1, -1], &[1, 3, 2, 1], &[255u8, 0, 0, 0, 0, 255]);
}

#[test]
fn channels_are_inverted_then_rescaled_then_normalised() {
    let bgr = ImageSpec {
        colours: Some(Colours::Bgr),
        invert: true,
        rescale: Some(1.0 / 51.0),
        mean: vec![1.0, 2.0, 3.0],
        std: vec![2.0, 4.0, 8.0],
        ..spec()
    };
    // Inverted, red is 0 255 255 and blue 255 255 0; a fifth of a fifty-first of 255 is 5.
    let (zero, five) = ([-0.5, -0.5, -0.375f32], [2.0, 0.75, 0.25f32]);
    check(&bgr, &[-1, 3, 2, 1], &[1, 3, 2, 1], &[five[0], zero[0], five[1], five[1], zero[2], five[2]]);
}

#[test]
fn a_small_picture_stands_in_zeros() {
    let crop = ImageSpec { crop: Some((3, 2)), ..spec() };
    check(&crop, &[-1, 1, -1, -1], &[1, 1, 3, 2], &[76u8, 0, 29, 0, 0, 0]);
    // Zeros are part of the picture: what comes after the crop acts on them too.
    let inverted = ImageSpec { invert: true, ..crop };
    check(&inverted, &[-1, 1, -1, -1], &[1, 1, 3, 2], &[179u8, 255, 226, 255, 255, 255]);
}

#[test]
fn what_the_files_leave_open_is_an_error_that_names_the_setting() {
    #[track_caller]
    fn refused(spec: &ImageSpec, shape: &[i64], expected: &str) {
        let error = make(spec, &graph(DataType::Fp32, shape)).unwrap_err();
        assert!(error.message().contains(expected), "{error}");
    }
    refused(&spec(), &[-1, 3, -1, -1], "set `crop` or `resize` to [height, width]");
    refused(&spec(), &[-1, 64], "set `crop` or `resize` to [height, width]");
    refused(&spec(), &[-1, 3, 3, 3], "give `colours`");
    refused(&spec(), &[-1, -1, -1, -1], "give its shape as an [[input]]");
    refused(&spec(), &[-1, 3, 224, 224, 1], "how a picture lies in it");
    refused(&spec(), &[2, 3, 224, 224], "give it a first extent of -1 or 1");
    refused(&ImageSpec { resize: Some(Resize::Shortest(256)), ..spec() }, &[-1, 3, 224, 224], "add `crop`");
    refused(&ImageSpec { crop: Some((8, 8)), ..spec() }, &[-1, 64, 3], "`crop` makes pictures 8 high and 8 wide");
    refused(&ImageSpec { mean: vec![0.5, 0.5], ..spec() }, &[-1, 3, 8, 8], "`mean` has 2 numbers; expected 3");
    refused(&ImageSpec { std: vec![0.0], ..spec() }, &[-1, 3, 8, 8], "`std` is zero");
    refused(&ImageSpec { colours: Some(Colours::Rgb), ..spec() }, &[-1, 8, 8], "`colours` says 3 channels");
    refused(&ImageSpec { labels: vec!["one".to_owned()], ..spec() }, &[-1, 3, 8, 8], "there are 1 labels");
    let error = make(&spec(), &graph(DataType::Int64, &[-1, 3, 8, 8])).unwrap_err();
    assert!(error.message().contains("the graph takes INT64"), "{error}");
}

#[test]
fn of_several_outputs_the_one_with_scores_is_found() {
    let mut graph = graph(DataType::Fp32, &[-1, 1, 2, 1]);
    graph.outputs.insert(0, TensorSpec::new("label", DataType::Int64, &[-1]));
    graph.outputs.insert(0, TensorSpec::new("embedding", DataType::Fp32, &[-1, 512]));
    let task = make(&grey(), &graph).unwrap();
    let encoded = task.encode(images(&[&red_over_blue()]), LIMITS).unwrap();
    let embedding = Tensor::from_slice("embedding", Shape::new(&[1, 512]), &[0.0f32; 512]).unwrap();
    let label = Tensor::from_slice("label", Shape::new(&[1]), &[0i64]).unwrap();
    let scores = Tensor::from_slice("scores", Shape::new(&[1, 2]), &[0.25f32, 0.75]).unwrap();
    let answer = task.decode(vec![vec![embedding, label, scores]], encoded.notes).unwrap();
    assert_eq!(answer[0].elements().unwrap().get(0), Some(b"light".as_slice()));
    assert_eq!(answer[1].to_vec::<f32>().unwrap(), [0.75, 0.25]);
    graph.outputs.push(TensorSpec::new("other", DataType::Fp32, &[-1, 2]));
    assert!(make(&grey(), &graph).is_ok(), "'scores' is known by its name");
    graph.outputs[2].name = "another".into();
    let error = make(&grey(), &graph).unwrap_err();
    assert!(error.message().contains("none of the graph's outputs is known to have the scores"), "{error}");
}

#[test]
fn rows_are_cut_into_parts_and_come_back_in_order() {
    let task = make(&grey(), &graph(DataType::Uint8, &[-1, 1, 1, 1])).unwrap();
    let files: Vec<Vec<u8>> = (0..5).map(|tone| png((1, 1), png::ColorType::Grayscale, &[tone])).collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let encoded = task.encode(images(&files), PartLimits { max_rows: 2, buckets: &[] }).unwrap();
    let tones: Vec<_> = encoded.parts.iter().map(|part| part[0].to_vec::<u8>().unwrap()).collect();
    assert_eq!(tones, [vec![0, 1], vec![2, 3], vec![4]]);
    let scores = |values: &[f32]| {
        let shape = Shape::new(&[values.len() / 2, 2]);
        vec![Tensor::from_slice("scores", shape, values).unwrap()]
    };
    let outputs = vec![scores(&[0.0, 1.0, 0.0, 2.0]), scores(&[3.0, 0.0, 0.0, 4.0]), scores(&[5.0, 0.0])];
    let answer = task.decode(outputs, encoded.notes).unwrap();
    let best: Vec<f32> = answer[1].to_vec::<f32>().unwrap().into_iter().step_by(2).collect();
    assert_eq!(best, [1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(&**answer[0].shape(), [5, 2]);
}

#[test]
fn a_graph_of_one_picture_gets_one_at_a_time() {
    let task = make(&grey(), &graph(DataType::Fp32, &[1, 1, 2, 1])).unwrap();
    let file = red_over_blue();
    assert_eq!(encode(&task, &[&file, &file, &file]).unwrap().len(), 3);
}

#[test]
fn the_row_at_fault_is_named() {
    let task = make(&grey(), &graph(DataType::Fp32, &[-1, 1, 2, 1])).unwrap();
    let error = encode(&task, &[&red_over_blue(), b"GIF89a"]).unwrap_err();
    assert_eq!(error.message(), "input 'image', row 1: expected a picture as JPEG, PNG or WebP, but it is a GIF");
    let file = red_over_blue();
    let error = encode(&task, &[&file[..file.len() - 20]]).unwrap_err();
    assert!(error.message().starts_with("input 'image', row 0: this PNG picture: it breaks off"), "{error}");
}

#[test]
fn few_bytes_do_not_become_many_tensors() {
    let task = make(&spec(), &graph(DataType::Fp32, &[-1, 3, 224, 224])).unwrap();
    let file = red_over_blue();
    let error = task.encode(images(&vec![file.as_slice(); 1_000]), LIMITS).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().ends_with("send 891 at a time"), "{error}");
}

#[test]
fn only_small_pictures_are_quick() {
    let task = make(&spec(), &graph(DataType::Fp32, &[-1, 1, 8, 8])).unwrap();
    let small = super::png::gradient(Size::new(64, 64)).unwrap();
    assert!(task.is_quick(&images(&[&small, &small])));
    let large = super::png::gradient(Size::new(300, 300)).unwrap();
    assert!(!task.is_quick(&images(&[&large])));
    assert!(!task.is_quick(&images(&[b"RIFF\0\0\0\0WEBP"])));
    assert!(!task.is_quick(&images(&vec![small.as_slice(); 100])));
}

#[test]
fn the_example_is_a_picture_that_the_model_takes() {
    let keep = ImageSpec { resize: Some(Resize::Keep), ..spec() };
    let shortest = ImageSpec { resize: Some(Resize::Shortest(40)), crop: Some((32, 24)), ..spec() };
    for (spec, shape) in [(spec(), [-1, 3, 32, 24]), (keep, [-1, 3, 32, 24]), (shortest, [-1, 3, -1, -1])] {
        let task = make(&spec, &graph(DataType::Fp32, &shape)).unwrap();
        let example = task.example();
        assert!(task.signature().inputs[0].accepts(example[0].shape()));
        let parts = task.encode(example, LIMITS).unwrap().parts;
        assert_eq!(&**parts[0][0].shape(), [1, 3, 32, 24]);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered_without_a_panic(
        format in 0..3usize,
        tail in prop::collection::vec(any::<u8>(), 0..256),
    ) {
        let heads: [&[u8]; 3] = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8 "];
        crate::fuzz::picture(&[heads[format], &tail].concat());
    }
}
