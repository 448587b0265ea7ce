//! Windows never wrap and never leave their region, and a request gets no more than its limits allow.

use proptest::prelude::*;
use salver_core::ErrorKind;

use super::*;

fn region(offset: u64, byte_size: u64) -> Region {
    Region { name: "r".to_owned(), key: "k".to_owned(), offset, byte_size }
}

fn window(offset: u64, byte_size: u64) -> Window {
    Window::new("r", offset, byte_size).unwrap()
}

fn input(dtype: DataType, shape: &[usize], byte_size: u64) -> Result<SharedInput> {
    SharedInput::new("x".into(), dtype, shape.into(), window(0, byte_size))
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind, fragment: &str) {
    let error = result.expect_err("the request is refused");
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.message().contains(fragment), "{fragment:?} is not in {:?}", error.message());
}

#[test]
fn a_window_is_within_its_region() {
    let of = region(4096, 64);
    for (offset, size, place) in [(0, 64, 4096), (60, 4, 4156), (64, 0, 4160)] {
        assert_eq!(window(offset, size).place_in(&of).unwrap(), place);
    }
    let kind = ErrorKind::InvalidInput;
    refused(window(64, 4).place_in(&of), kind, "Invalid offset for shared memory region");
    refused(window(u64::MAX, 0).place_in(&of), kind, "Invalid offset for shared memory region");
    refused(window(60, 64).place_in(&of), kind, "Invalid offset + byte size for shared memory region");
    refused(window(0, u64::MAX).place_in(&of), kind, "Invalid offset + byte size for shared memory region");
}

#[test]
fn sums_that_wrap_are_refused() {
    let kind = ErrorKind::InvalidInput;
    refused(Window::new("r", 32, u64::MAX - 31), kind, "Integer overflow detected: byte_size ");
    refused(Window::new("r", u64::MAX, 1), kind, "Integer overflow");
    refused(window(32, 32).place_in(&region(u64::MAX - 31, u64::MAX)), kind, "Invalid offset");
}

proptest! {
    /// The same sums in 128 bits, where they cannot wrap.
    #[test]
    fn windows_agree_with_wider_arithmetic(
        offset in edges(), byte_size in edges(), region_offset in edges(), region_size in edges(),
    ) {
        let end = u128::from(offset) + u128::from(byte_size);
        let place = u128::from(region_offset) + u128::from(offset);
        let Ok(window) = Window::new("r", offset, byte_size) else {
            prop_assert!(end > u128::from(u64::MAX));
            return Ok(());
        };
        let fits = end <= u128::from(region_size) && place <= u128::from(u64::MAX);
        match window.place_in(&region(region_offset, region_size)) {
            Ok(found) => prop_assert!(fits && u128::from(found) == place),
            Err(_) => prop_assert!(!fits),
        }
    }
}

/// Numbers near those at which sums wrap, and small ones.
fn edges() -> impl Strategy<Value = u64> {
    let near = |number: u64| (number.saturating_sub(64)..=number.saturating_add(64)).boxed();
    prop_oneof![near(64), near(1 << 31), near(1 << 32), near(1 << 63), near(u64::MAX), any::<u64>()]
}

#[test]
fn a_window_is_of_the_tensors_size() {
    assert_eq!(input(DataType::Fp32, &[4, 4], 64).unwrap().byte_len(), 64);
    assert_eq!(input(DataType::Int8, &[0], 0).unwrap().byte_len(), 0);
    let kind = ErrorKind::InvalidInput;
    for size in [0, 63, 65, 128, 1 << 40, u64::MAX] {
        refused(input(DataType::Fp32, &[4, 4], size), kind, "input byte size mismatch for input 'x'");
    }
    // 2^4 × (2^60 + 2) elements of one byte: 32 once the product wraps.
    refused(input(DataType::Int8, &[1 << 4, (1 << 60) + 2], 32), kind, "input 'x': shape");
    refused(input(DataType::Bytes, &[0, 1 << 63, 4], 0), kind, "input 'x': shape");
}

#[test]
fn texts_are_looked_at_once_they_are_copied() {
    let of = |shape: &[usize], data: &'static [u8]| {
        input(DataType::Bytes, shape, data.len() as u64)?.into_tensor(Bytes::from_static(data))
    };
    let texts = of(&[2], b"\x01\0\0\0a\0\0\0\0").unwrap();
    assert_eq!(texts.elements().unwrap().iter().collect::<Vec<_>>(), [&b"a"[..], b""]);
    for (shape, data) in
        [(&[1][..], &b"\x05\0\0\0a"[..]), (&[3], b"\x01\0\0\0a\0\0\0\0"), (&[1], b"\xff\xff\xff\xffa"), (&[1], b"\x01")]
    {
        refused(of(shape, data), ErrorKind::InvalidInput, "tensor 'x'");
    }
}

#[test]
fn inputs_together_are_bounded_as_a_body_is() {
    let limits = Limits { max_body_bytes: 100, ..Limits::default() };
    let mut shared = Shared::default();
    shared.add_input(input(DataType::Int8, &[60], 60).unwrap(), &limits).unwrap();
    refused(shared.add_input(input(DataType::Int8, &[41], 41).unwrap(), &limits), ErrorKind::TooLarge, "input 'x'");
    // The size of BYTES is only a claim.
    refused(shared.add_input(input(DataType::Bytes, &[1], u64::MAX).unwrap(), &limits), ErrorKind::TooLarge, "100");
    shared.add_input(input(DataType::Int8, &[40], 40).unwrap(), &limits).unwrap();
    assert_eq!(shared.take_inputs().len(), 2);
    assert!(shared.is_empty());
}

#[test]
fn outputs_fit_their_windows_or_say_what_they_need() {
    let outputs = || {
        let texts = Bytes::from_static(b"\x01\0\0\0a");
        vec![
            Tensor::from_slice("y", [2], &[1i16, 2]).unwrap(),
            oip::tensor_from_binary("t", DataType::Bytes, [1].into(), texts).unwrap(),
        ]
    };
    let outputs = outputs();
    let mut shared = Shared::default();
    shared.add_output("t".into(), window(8, 5));
    shared.add_output("y".into(), window(0, 8));
    shared.add_output("y".into(), window(0, 1));
    assert_eq!(shared.blobs(&outputs).unwrap(), [&b"\x01\0\0\0a"[..], b"\x01\0\x02\0"]);
    assert_eq!(shared.output_windows().map(Window::offset).collect::<Vec<_>>(), [8, 0]);
    let mut small = Shared::default();
    small.add_output("y".into(), window(0, 3));
    refused(small.blobs(&outputs), ErrorKind::InvalidInput, "output 'y' (3 bytes) should be at least 4 bytes");
}
