use super::*;

fn fp32(shape: &[usize], values: &[f32]) -> Result<Tensor> {
    Tensor::from_slice("x", shape, values)
}

#[test]
fn rows_are_cut_without_a_copy() {
    let tensor = fp32(&[3, 2], &[0., 1., 2., 3., 4., 5.]).unwrap();
    let tail = tensor.slice_rows(1..3).unwrap();
    assert_eq!(**tail.shape(), [2, 2]);
    assert_eq!(tail.to_vec::<f32>().unwrap(), [2., 3., 4., 5.]);
    let (whole, part) = (tensor.bytes().unwrap(), tail.bytes().unwrap());
    assert_eq!(part.as_ptr() as usize - whole.as_ptr() as usize, 8);
}

#[test]
fn a_wrong_byte_length_names_the_tensor_and_both_lengths() {
    let error = fp32(&[2, 2], &[1., 2., 3.]).unwrap_err();
    assert_eq!(error.message(), "tensor 'x': FP32 [2,2] takes 16 bytes, got 12");
}

#[test]
fn products_that_overflow_are_refused() {
    for shape in [vec![1 << 4, (1 << 60) + 2], vec![0, usize::MAX, 2], vec![usize::MAX, 8]] {
        assert!(Tensor::new("x", DataType::Fp32, shape.as_slice(), Bytes::new()).is_err(), "{shape:?}");
    }
}

#[test]
fn empty_tensors_are_tensors() {
    let tensor = fp32(&[0, 4], &[]).unwrap();
    assert_eq!((tensor.rows(), tensor.element_count()), (0, 0));
    assert_eq!(tensor.slice_rows(0..0).unwrap().element_count(), 0);
}

#[test]
fn byte_strings_slice_by_row() {
    let elements: Elements = ["a", "", "ccc", "dd"].into_iter().collect();
    let tensor = Tensor::from_elements("t", [2, 2], elements).unwrap();
    let row = tensor.slice_rows(1..2).unwrap();
    assert_eq!(row.elements().unwrap().iter().collect::<Vec<_>>(), [b"ccc".as_slice(), b"dd"]);
}

#[test]
fn debug_output_holds_no_content() {
    let tensor = fp32(&[1], &[1234.5]).unwrap();
    assert_eq!(format!("{tensor:?}"), "Tensor(x FP32 [1])");
}
