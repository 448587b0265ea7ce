use salver_core::ErrorKind;
use salver_testkit::text;

use super::super::tests::png;
use super::*;
use crate::builtin::tests::run;

fn decoder(size: Option<(u32, u32)>) -> Decoder {
    Decoder::new(&DecodeSpec { size, filter: Filter::Nearest }).unwrap()
}

fn ask(size: Option<(u32, u32)>, files: &[&[u8]]) -> Result<Tensor> {
    run(&decoder(size), &[text("image", &[files.len()], files)]).map(|mut outputs| outputs.remove(0))
}

fn colours() -> Vec<u8> {
    png((1, 2), png::ColorType::Rgb, &[255, 0, 0, 1, 2, 3])
}

#[test]
fn pixels_are_those_of_the_file() {
    let pixels = ask(None, &[&colours(), &colours()]).unwrap();
    assert_eq!((pixels.dtype(), &**pixels.shape()), (DataType::Uint8, &[2, 2, 1, 3][..]));
    assert_eq!(pixels.to_vec::<u8>().unwrap(), [255, 0, 0, 1, 2, 3, 255, 0, 0, 1, 2, 3]);
    // Grey is three equal channels.
    let grey = png((2, 1), png::ColorType::Grayscale, &[7, 9]);
    assert_eq!(ask(None, &[&grey]).unwrap().to_vec::<u8>().unwrap(), [7, 7, 7, 9, 9, 9]);
    assert_eq!(&**ask(None, &[]).unwrap().shape(), [0, 0, 0, 3]);
}

#[test]
fn pictures_of_any_size_come_to_the_one_that_is_set() {
    let wide = png((4, 1), png::ColorType::Grayscale, &[1, 2, 3, 4]);
    let pixels = ask(Some((2, 2)), &[&colours(), &wide]).unwrap();
    assert_eq!(&**pixels.shape(), [2, 2, 2, 3]);
    let values = pixels.to_vec::<u8>().unwrap();
    assert_eq!(&values[..12], [255, 0, 0, 255, 0, 0, 1, 2, 3, 1, 2, 3]);
    assert_eq!(&values[12..], [2, 2, 2, 4, 4, 4, 2, 2, 2, 4, 4, 4]);
    assert_eq!(decoder(Some((2, 3))).signature.outputs[0].wire_shape(), [-1, 2, 3, 3]);
    assert_eq!(&**ask(Some((2, 3)), &[]).unwrap().shape(), [0, 2, 3, 3]);
}

#[test]
fn pictures_of_one_request_have_one_size() {
    let wide = png((4, 1), png::ColorType::Grayscale, &[1, 2, 3, 4]);
    let error = ask(None, &[&colours(), &wide]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error.message().starts_with("input 'image', row 1: the picture has 4x1 pixels, but that of row 0 has 1x2"),
        "{error}"
    );
}

#[test]
fn the_row_at_fault_is_named() {
    for size in [None, Some((1, 1))] {
        let error = ask(size, &[&colours(), b"GIF89a"]).unwrap_err();
        assert_eq!(error.message(), "input 'image', row 1: expected a picture as JPEG, PNG or WebP, but it is a GIF");
    }
}

#[test]
fn few_bytes_do_not_become_many_pixels() {
    let file = colours();
    let error = ask(Some((8000, 8000)), &[&file, &file, &file]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(Decoder::new(&DecodeSpec { size: Some((8192, 8192)), filter: Filter::Nearest }).is_err());
}
