use proptest::prelude::*;
use salver_core::ErrorKind;
use salver_testkit::tensor;

use super::*;
use crate::builtin::tests::{crop_spec, run};

fn crop(spec: &CropSpec, shape: [usize; 2], pixels: &[u8], boxes: &[f32]) -> Result<Tensor> {
    let [height, width] = shape;
    let image = tensor("image", &[1, height, width, 3], pixels);
    let boxes = tensor("boxes", &[1, boxes.len() / 4, 4], boxes);
    run(&Cropper::new(spec).unwrap(), &[image, boxes]).map(|mut outputs| outputs.remove(0))
}

fn nhwc(size: (u32, u32)) -> CropSpec {
    CropSpec { size, layout: PixelLayout::Nhwc, ..crop_spec() }
}

/// A grey picture: each pixel three times.
fn grey(tones: &[u8]) -> Vec<u8> {
    tones.iter().flat_map(|&tone| [tone; 3]).collect()
}

#[track_caller]
fn tones(size: (u32, u32), shape: [usize; 2], pixels: &[u8], corners: [f32; 4]) -> Vec<f32> {
    let crops = crop(&nhwc(size), shape, &grey(pixels), &corners).unwrap();
    crops.to_vec::<f32>().unwrap().into_iter().step_by(3).collect()
}

#[test]
fn a_box_of_the_size_asked_for_is_copied() {
    let pixels: Vec<u8> = (1..=12).collect();
    assert_eq!(tones((2, 2), [3, 4], &pixels, [1.0, 0.0, 3.0, 2.0]), [2.0, 3.0, 6.0, 7.0]);
    assert_eq!(tones((1, 4), [3, 4], &pixels, [0.0, 2.0, 4.0, 3.0]), [9.0, 10.0, 11.0, 12.0]);
}

#[test]
fn pixels_between_are_weighed_by_their_distance() {
    // Two pixels become four: centres at 1/4, 3/4, 5/4, 7/4 of a pixel; the outer ones see only one.
    assert_eq!(tones((1, 4), [1, 2], &[0, 100], [0.0, 0.0, 2.0, 1.0]), [0.0, 25.0, 75.0, 100.0]);
    // Four become two: a triangle four pixels wide, weights 3 3 1 of 7 at the edge.
    let halved = tones((1, 2), [1, 4], &[0, 70, 140, 210], [0.0, 0.0, 4.0, 1.0]);
    let expected = [(70.0 * 3.0 + 140.0) / 7.0, (70.0 + 140.0 * 3.0 + 210.0 * 3.0) / 7.0];
    assert!(halved.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-4), "{halved:?}");
    // A box of one pixel between two of them.
    assert_eq!(tones((1, 1), [1, 2], &[0, 100], [0.5, 0.0, 1.5, 1.0]), [50.0]);
}

#[test]
fn boxes_are_clipped_and_empty_ones_are_zeros() {
    let pixels = [10, 20, 30, 40];
    assert_eq!(tones((1, 2), [1, 4], &pixels, [2.0, -7.0, 99.0, f32::INFINITY]), [30.0, 40.0]);
    for corners in [
        [3.0, 0.0, 3.0, 1.0],
        [3.0, 0.0, 1.0, 1.0],
        [4.0, 0.0, 9.0, 1.0],
        [-5.0, 0.0, 0.0, 1.0],
        [f32::NAN, 0.0, 2.0, 1.0],
        [0.0, 0.0, 2.0, f32::NAN],
    ] {
        let spec = CropSpec { mean: vec![5.0], ..nhwc((1, 2)) };
        let crops = crop(&spec, [1, 4], &grey(&pixels), &corners).unwrap();
        assert_eq!(crops.to_vec::<f32>().unwrap(), [0.0; 6], "{corners:?}");
    }
    // The next box is not shifted by one that is none.
    let crops = crop(&nhwc((1, 1)), [1, 4], &grey(&pixels), &[f32::NAN, 0.0, 1.0, 1.0, 1.0, 0.0, 2.0, 1.0]).unwrap();
    assert_eq!(
        (&**crops.shape(), crops.to_vec::<f32>().unwrap()),
        (&[1, 2, 1, 1, 3][..], vec![0., 0., 0., 20., 20., 20.])
    );
}

#[test]
fn relative_boxes_are_parts_of_the_sides() {
    let spec = CropSpec { relative: true, ..nhwc((1, 2)) };
    let crops = crop(&spec, [1, 4], &grey(&[1, 2, 3, 4]), &[0.25, 0.0, 0.75, 1.0]).unwrap();
    assert_eq!(crops.to_vec::<f32>().unwrap(), [2.0, 2.0, 2.0, 3.0, 3.0, 3.0]);
}

#[test]
fn channels_are_rescaled_then_normalised_and_laid_out() {
    let spec =
        CropSpec { size: (1, 2), rescale: 0.5, mean: vec![1.0, 2.0, 3.0], std: vec![2.0, 1.0, 4.0], ..crop_spec() };
    let crops = crop(&spec, [1, 2], &[10, 20, 30, 50, 60, 70], &[0.0, 0.0, 2.0, 1.0]).unwrap();
    assert_eq!(&**crops.shape(), [1, 1, 3, 1, 2]);
    assert_eq!(crops.to_vec::<f32>().unwrap(), [2.0, 12.0, 8.0, 28.0, 3.0, 8.0]);
}

#[test]
fn pictures_of_numbers_are_cut_alike() {
    let spec = CropSpec { dtype: DataType::Fp32, ..nhwc((1, 2)) };
    let image = tensor("image", &[1, 1, 2, 3], &[0.5f32, -1.0, 1e6, 2.5, 3.0, 0.0]);
    let boxes = tensor("boxes", &[1, 1, 4], &[0.0f32, 0.0, 2.0, 1.0]);
    let crops = run(&Cropper::new(&spec).unwrap(), &[image, boxes]).unwrap();
    assert_eq!(crops[0].to_vec::<f32>().unwrap(), [0.5, -1.0, 1e6, 2.5, 3.0, 0.0]);
}

#[test]
fn a_high_picture_is_read_in_strips() {
    // Each strip of 65536 pixels has some rows of these 300 pixels.
    let (height, width) = (1000, 300);
    let pixels: Vec<u8> = (0..height * width * 3).map(|idx| (idx / 3 / width) as u8).collect();
    let crops = crop(&nhwc((500, 1)), [height, width], &pixels, &[0.0, 0.0, 300.0, 250.0]).unwrap();
    let rows: Vec<f32> = crops.to_vec::<f32>().unwrap().into_iter().step_by(3).collect();
    // Halves of rows: row r of the answer has its centre at r/2 + 1/4 - 1/2.
    for (row, tone) in rows.iter().enumerate().skip(1) {
        let expected = (row as f32 / 2.0 - 0.25).min(249.75);
        assert!((tone - expected).abs() < 1e-3, "row {row}: {tone}");
    }
}

#[test]
fn nothing_is_a_picture_too() {
    let crops = crop(&nhwc((1, 1)), [0, 5], &[], &[0.0, 0.0, 1.0, 1.0]).unwrap();
    assert_eq!(crops.to_vec::<f32>().unwrap(), [0.0; 3]);
    assert_eq!(&**crop(&nhwc((1, 1)), [1, 1], &[1, 2, 3], &[]).unwrap().shape(), [1, 0, 1, 1, 3]);
}

#[test]
fn few_boxes_do_not_become_many_tensors_or_much_work() {
    let boxes = [0.0, 0.0, 1.0, 1.0].repeat(50);
    let error = crop(&nhwc((1024, 1024)), [1, 1], &[1, 2, 3], &boxes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().starts_with("input 'boxes' has 1 rows, each of which becomes"), "{error}");
    assert!(check_covered(MAX_COVERED).is_ok());
    assert_eq!(check_covered(MAX_COVERED + 1).unwrap_err().kind(), ErrorKind::TooLarge);
}

proptest! {
    #[test]
    fn the_whole_picture_in_its_own_size_is_the_picture(
        (height, width, pixels) in (1usize..9, 1usize..9).prop_flat_map(|(height, width)| {
            (Just(height), Just(width), prop::collection::vec(any::<u8>(), height * width * 3))
        }),
    ) {
        let spec = nhwc((u32::try_from(height).unwrap(), u32::try_from(width).unwrap()));
        let crops = crop(&spec, [height, width], &pixels, &[0.0, 0.0, width as f32, height as f32]).unwrap();
        let expected: Vec<f32> = pixels.iter().map(|&pixel| f32::from(pixel)).collect();
        prop_assert_eq!(crops.to_vec::<f32>().unwrap(), expected);
    }

    #[test]
    fn any_box_is_answered_with_values_of_the_picture(
        corners in prop::array::uniform4(prop_oneof![-4.0f32..12.0, any::<f32>()]),
        size in (1u32..7, 1u32..7),
        is_relative in any::<bool>(),
    ) {
        let pixels: Vec<u8> = (100..100 + 5 * 6 * 3).collect();
        let spec = CropSpec { relative: is_relative, ..nhwc(size) };
        let crops = crop(&spec, [5, 6], &pixels, &corners).unwrap().to_vec::<f32>().unwrap();
        let is_empty = crops.iter().all(|value| *value == 0.0);
        // Weights are none below zero, and add up to one.
        prop_assert!(is_empty || crops.iter().all(|value| (99.99..189.01).contains(value)), "{crops:?}");
    }
}
