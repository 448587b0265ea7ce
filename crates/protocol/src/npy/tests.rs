//! What NumPy writes reads back; what lies about itself is refused.

use proptest::prelude::*;

use super::*;

/// A file of format version 1 with this header text.
fn file(header: &str, data: &[u8]) -> Bytes {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[1, 0]);
    out.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(data);
    out.into()
}

fn header(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
}

#[track_caller]
fn refused(header: &str, data: &[u8], expected: &str) {
    let error = decode("x", file(header, data)).unwrap_err();
    assert!(error.message().contains(expected), "{error:?} lacks {expected:?}");
}

#[test]
fn c_order_data_is_shared_and_not_copied() {
    let bytes = file(&header("<f4", "False", "(1, 2)"), &[0, 0, 128, 63, 0, 0, 0, 64]);
    let tensor = decode("x", bytes.clone()).unwrap();
    assert_eq!(tensor.to_vec::<f32>().unwrap(), [1.0, 2.0]);
    assert_eq!(**tensor.shape(), [1, 2]);
    assert_eq!(tensor.bytes().unwrap().as_ptr_range().end, bytes.as_ptr_range().end);
}

#[test]
fn column_major_data_is_turned_around() {
    let tensor = decode("x", file(&header("|u1", "True", "(2, 3)"), &[1, 4, 2, 5, 3, 6])).unwrap();
    assert_eq!(tensor.to_vec::<u8>().unwrap(), [1, 2, 3, 4, 5, 6]);
    let cube = decode("x", file(&header("|u1", "True", "(2, 2, 2)"), &[0, 4, 2, 6, 1, 5, 3, 7])).unwrap();
    assert_eq!(cube.to_vec::<u8>().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn big_endian_numbers_and_text_are_turned_around() {
    let tensor = decode("x", file(&header(">i2", "False", "(2,)"), &[0, 1, 1, 0])).unwrap();
    assert_eq!(tensor.to_vec::<i16>().unwrap(), [1, 256]);
    let text = decode("x", file(&header(">U1", "False", "()"), &[0, 0, 0, 0xe4])).unwrap();
    assert_eq!(text.elements().unwrap().get(0), Some("ä".as_bytes()));
}

#[test]
fn strings_lose_their_padding_only() {
    let tensor = decode("x", file(&header("|S3", "False", "(3,)"), b"a\0\0\0b\0\0\0\0")).unwrap();
    let elements: Vec<&[u8]> = tensor.elements().unwrap().iter().collect();
    assert_eq!(elements, [&b"a"[..], b"\0b", b""]);
    let text = decode("x", file(&header("<U2", "False", "(1,)"), &[0x7a, 0, 0, 0, 0, 0, 0, 0])).unwrap();
    assert_eq!(text.elements().unwrap().get(0), Some(&b"z"[..]));
}

#[test]
fn booleans_become_zero_and_one() {
    let tensor = decode("x", file(&header("|b1", "False", "(3,)"), &[0, 7, 1])).unwrap();
    assert_eq!(&tensor.bytes().unwrap()[..], [0, 1, 1]);
}

#[test]
fn versions_2_and_3_have_a_wider_length() {
    let text = header("|u1", "False", "(1,)");
    for version in [2, 3] {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[version, 0]);
        bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(9);
        assert_eq!(decode("x", bytes.into()).unwrap().to_vec::<u8>().unwrap(), [9]);
    }
}

#[test]
fn lies_about_size_are_refused_before_anything_is_allocated() {
    refused(&header("<f4", "False", "(1000000000000,)"), &[0; 8], "takes 4000000000000 bytes, got 8");
    refused(&header("<f4", "False", "(18446744073709551615, 4)"), &[0; 8], "has no size");
    refused(&header("<f4", "False", "(0, 9223372036854775807, 9223372036854775807)"), &[], "has no size");
    refused(&header("|S0", "False", "(1000000000000,)"), &[], "has no size");
    refused(&header("|u1", "False", "(2,)"), &[1], "takes 2 bytes, got 1");
    refused(&header("|u1", "False", "(2,)"), &[1, 2, 3], "takes 2 bytes, got 3");
    let many = format!("({})", "1,".repeat(65));
    refused(&header("|u1", "False", &many), &[1], "65 dimensions");
    let mut long = MAGIC.to_vec();
    long.extend_from_slice(&[2, 0, 255, 255, 255, 255]);
    assert!(decode("x", long.into()).unwrap_err().message().contains("at most 65536"));
}

#[test]
fn types_without_a_tensor_form_are_named() {
    for descr in ["|O", "<c8", "<M8[s]", "<f16", "|V2", "f4", "", "<f", "<S-1"] {
        let error = decode("x", file(&header(descr, "False", "(1,)"), &[0; 8])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{descr}: {error:?}");
    }
    let structured = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }";
    assert_eq!(decode("x", file(structured, &[0; 4])).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn broken_headers_are_refused() {
    refused("", &[], "expected '{'");
    refused("{}", &[], "lacks one of");
    refused("{'descr': '<f4'", &[], "expected '}'");
    refused("{'descr': '<f4', 'descr': '<f4'}", &[], "twice");
    refused("{'x': 1}", &[], "other than");
    refused("{'descr", &[], "does not end");
    refused(&header("<f4", "Maybe", "(1,)"), &[], "neither True nor False");
    refused(&header("<f4", "False", "(-1,)"), &[], "not a whole number");
    refused(&header("<f4", "False", "(99999999999999999999999,)"), &[], "not a whole number");
    refused("{'descr': '|u1', 'fortran_order': False, 'shape': (1,)} x", &[1], "goes on");
    assert!(decode("x", Bytes::from_static(b"PK")).unwrap_err().message().contains("magic"));
    assert!(decode("x", Bytes::from_static(b"\x93NUMPY\x01")).unwrap_err().message().contains("ends within"));
    assert!(decode("x", Bytes::from_static(b"\x93NUMPY\x09\x00\x00\x00")).unwrap_err().message().contains("version 9"));
}

#[test]
fn the_data_begins_at_a_multiple_of_64() {
    for rank in 0..6 {
        let shape = vec![1; rank];
        assert_eq!(header::write("<f4", &shape).len() % 64, 0);
    }
}

#[test]
fn bf16_widens_to_fp32() {
    let values = [half::bf16::from_f32(1.5), half::bf16::NEG_INFINITY];
    let tensor = Tensor::from_slice("x", [2], &values).unwrap();
    let back = decode("x", encode(&tensor).unwrap()).unwrap();
    assert_eq!(back.to_vec::<f32>().unwrap(), [1.5, f32::NEG_INFINITY]);
}

#[test]
fn text_that_ends_in_nul_is_not_silently_cut() {
    let tensor = Tensor::from_elements("x", [1], [b"a\0"].into_iter().collect()).unwrap();
    assert_eq!(encode(&tensor).unwrap_err().kind(), ErrorKind::Unsupported);
}

proptest! {
    #[test]
    fn fixed_size_tensors_round_trip(pick in 0usize..13, shape in prop::collection::vec(0usize..4, 0..5), seed: u8) {
        let dtype = DataType::ALL[pick];
        prop_assume!(dtype != DataType::Bf16);
        let shape = Shape::from(shape.as_slice());
        let len = shape.byte_len(dtype).unwrap().unwrap();
        let data: Vec<u8> = (0..len).map(|i| if dtype == DataType::Bool { (i % 2) as u8 } else { seed.wrapping_add(i as u8) }).collect();
        let tensor = Tensor::new("x", dtype, shape.clone(), data.clone().into()).unwrap();
        let back = decode("x", encode(&tensor).unwrap()).unwrap();
        prop_assert_eq!(back.dtype(), dtype);
        prop_assert_eq!(back.shape(), &shape);
        prop_assert_eq!(&back.bytes().unwrap()[..], &data[..]);
    }

    #[test]
    fn byte_strings_round_trip(items in prop::collection::vec("[a-z\\x00]{0,5}[a-z]|", 0..6)) {
        let tensor = Tensor::from_elements("x", [items.len()], items.iter().collect()).unwrap();
        let back = decode("x", encode(&tensor).unwrap()).unwrap();
        let texts: Vec<&[u8]> = back.elements().unwrap().iter().collect();
        prop_assert_eq!(texts, items.iter().map(String::as_bytes).collect::<Vec<_>>());
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut tail in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut bytes = MAGIC.to_vec();
        bytes.append(&mut tail);
        let _ = decode("x", bytes.into());
    }
}

/// A file that NumPy 2 wrote, among the seeds.
fn by_numpy(name: &str) -> Result<Tensor> {
    let path = format!("{}/corpus/npy/numpy_{name}.npy", env!("CARGO_MANIFEST_DIR"));
    decode("x", std::fs::read(path).unwrap().into())
}

#[test]
fn files_of_numpy_itself_are_read() {
    let floats = by_numpy("f8").unwrap();
    assert_eq!(floats.to_vec::<f64>().unwrap(), [1.5, -2.0, 3.0, 4.0, 5.0, f64::INFINITY]);
    assert_eq!(**floats.shape(), [2, 3]);
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/npy/numpy_f8.npy")).unwrap();
    assert_eq!(encode(&floats).unwrap(), file, "what NumPy wrote is what it would get back");
    assert_eq!(by_numpy("fortran").unwrap().to_vec::<i32>().unwrap(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(by_numpy("big_endian").unwrap().to_vec::<i64>().unwrap(), [1, 1 << 40]);
    assert_eq!(by_numpy("scalar").unwrap().to_vec::<bool>().unwrap(), [true]);
    let texts = by_numpy("text").unwrap();
    assert_eq!(texts.elements().unwrap().iter().collect::<Vec<_>>(), ["grün".as_bytes(), b"a"]);
    let bytes = by_numpy("bytes").unwrap();
    assert_eq!(bytes.elements().unwrap().iter().collect::<Vec<_>>(), [&b"ab"[..], b"\0c", b""]);
    assert_eq!(by_numpy("objects").unwrap_err().kind(), ErrorKind::InvalidInput);
}
