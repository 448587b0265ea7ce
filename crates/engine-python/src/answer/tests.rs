use proptest::prelude::*;
use salver_core::{ErrorKind, Shape};

use super::*;

fn own() -> Source<'static> {
    Source::Process(std::process::id())
}

fn located(dtype: DataType, shape: &[usize], data: &[u8]) -> Located {
    Located { dtype, shape: Shape::new(shape), address: data.as_ptr() as u64, len: data.len() as u64 }
}

#[track_caller]
fn check_refused(spec: &TensorSpec, output: Located, words: &str) {
    let error = take(std::slice::from_ref(spec), vec![output], &own()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Engine, "{error}");
    assert!(error.message().contains("output 'y'") && error.message().contains(words), "{error}");
}

#[test]
fn outputs_are_copied_out_of_a_process() {
    let spec = TensorSpec::new("y", DataType::Fp32, &[-1, 2]);
    let data: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].into_iter().flat_map(f32::to_le_bytes).collect();
    let taken = take(&[spec], vec![located(DataType::Fp32, &[2, 2], &data)], &own()).unwrap();
    assert_eq!(taken[0].to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn any_byte_but_zero_is_true() {
    let spec = TensorSpec::new("y", DataType::Bool, &[-1]);
    let taken = take(&[spec], vec![located(DataType::Bool, &[3], &[0, 1, 200])], &own()).unwrap();
    assert_eq!(taken[0].bytes().unwrap().as_ref(), [0, 1, 1]);
}

#[test]
fn what_does_not_fit_the_signature_is_refused_before_it_is_read() {
    let spec = TensorSpec::new("y", DataType::Fp32, &[-1, 2]);
    let data = [0; 16];
    check_refused(&spec, located(DataType::Int32, &[2, 2], &data), "expected FP32 [-1, 2], got INT32 [2,2]");
    check_refused(&spec, located(DataType::Fp32, &[2, 3], &data), "got FP32 [2,3]");
    check_refused(&spec, located(DataType::Fp32, &[4], &data), "got FP32 [4]");
    check_refused(&spec, located(DataType::Fp32, &[3, 2], &data), "does not take 16 bytes");
    check_refused(&spec, located(DataType::Fp32, &[usize::MAX / 2, 2], &data), "more elements than");
    let huge = Located { len: 1 << 40, ..located(DataType::Fp32, &[1 << 37, 2], &data) };
    check_refused(&spec, huge, "does not take");
    assert!(take(&[spec], Vec::new(), &own()).is_err());
}

#[test]
fn what_is_not_where_the_worker_says_is_its_own_fault() {
    let spec = TensorSpec::new("y", DataType::Fp32, &[-1, 2]);
    for address in [0, 8, u64::MAX - 4] {
        let output = Located { address, ..located(DataType::Fp32, &[2, 2], &[0; 16]) };
        let error = take(std::slice::from_ref(&spec), vec![output], &own()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotReady, "{error}");
    }
}

#[test]
fn elements_fill_their_bytes_exactly() {
    let spec = TensorSpec::new("y", DataType::Bytes, &[-1]);
    let packed = [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0];
    let taken = take(std::slice::from_ref(&spec), vec![located(DataType::Bytes, &[2], &packed)], &own()).unwrap();
    assert_eq!(taken[0].elements().unwrap().iter().collect::<Vec<_>>(), [b"ab".as_slice(), b""]);
    for count in [0, 1, 3, usize::MAX] {
        check_refused(&spec, located(DataType::Bytes, &[count], &packed), "");
    }
    check_refused(&spec, located(DataType::Bytes, &[1], &[255, 255, 255, 255]), "do not fill");
    check_refused(&spec, located(DataType::Bytes, &[1], &[1, 0, 0]), "do not fill");
}

#[test]
fn a_region_is_read_within_its_bounds() {
    let spec = TensorSpec::new("y", DataType::Uint8, &[-1]);
    let mut region = Region::new(1).unwrap();
    region.writable(4).copy_from_slice(&[1, 2, 3, 4]);
    let at = |address, len| Located { dtype: DataType::Uint8, shape: Shape::new(&[len]), address, len: len as u64 };
    let taken = take(std::slice::from_ref(&spec), vec![at(1, 3)], &Source::Region(&region)).unwrap();
    assert_eq!(taken[0].bytes().unwrap().as_ref(), [2, 3, 4]);
    for (address, len) in [(region.len() as u64, 1), (u64::MAX, 1), (1, region.len())] {
        let error = take(std::slice::from_ref(&spec), vec![at(address, len)], &Source::Region(&region)).unwrap_err();
        assert!(error.message().contains("outside the memory for answers"), "{error}");
    }
}

proptest! {
    #[test]
    fn packed_elements_come_back_and_changed_ones_do_no_harm(
        parts: Vec<Vec<u8>>, at: prop::sample::Index, byte: u8,
    ) {
        let packed: Vec<u8> =
            parts.iter().flat_map(|part| [&(part.len() as u32).to_le_bytes(), part.as_slice()].concat()).collect();
        let back = elements(packed.clone(), parts.len()).unwrap();
        prop_assert_eq!(back.iter().collect::<Vec<_>>(), parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let mut changed = packed;
        if !changed.is_empty() {
            let at = at.index(changed.len());
            changed[at] = byte;
            let _ = elements(changed, parts.len());
        }
    }
}
