use proptest::prelude::*;
use salver_core::ErrorKind;

use super::*;

fn ready() -> Vec<u8> {
    let mut packet = vec![1];
    for name in ["x", "y"] {
        packet.extend(1_u16.to_le_bytes());
        put_text(&mut packet, name);
        packet.extend([11, 0, 2]);
        packet.extend((-1_i64).to_le_bytes());
        packet.extend(4_i64.to_le_bytes());
    }
    packet.extend(77_u64.to_le_bytes());
    packet.push(1);
    packet
}

fn answer() -> Vec<u8> {
    let mut packet = vec![3];
    packet.extend(9_u64.to_le_bytes());
    packet.extend(1_u16.to_le_bytes());
    packet.extend([11, 2]);
    for number in [4096_u64, 32, 2, 4] {
        packet.extend(number.to_le_bytes());
    }
    packet
}

fn fault(is_input: u8, text: &[u8]) -> Vec<u8> {
    let mut packet = vec![4];
    packet.extend(9_u64.to_le_bytes());
    packet.push(is_input);
    packet.extend((text.len() as u32).to_le_bytes());
    packet.extend(text);
    packet
}

#[test]
fn what_a_worker_says_is_read() {
    let spec = |name: &str| TensorSpec::new(name, DataType::Fp32, &[-1, 4]);
    let (inputs, outputs) = (vec![spec("x")], vec![spec("y")]);
    let expected = FromWorker::Ready { inputs, outputs, probe: 77, is_decoupled: true };
    assert_eq!(FromWorker::decode(&ready()).unwrap(), expected);
    let output = Located { dtype: DataType::Fp32, shape: Shape::from([2, 4]), address: 4096, len: 32 };
    assert_eq!(FromWorker::decode(&answer()).unwrap(), FromWorker::Answer { number: 9, outputs: vec![output] });
    assert_eq!(FromWorker::decode(&[&[6], &9_u64.to_le_bytes()[..]].concat()).unwrap(), FromWorker::End { number: 9 });
}

#[test]
fn text_of_a_worker_cannot_control_a_terminal() {
    let decoded = FromWorker::decode(&fault(1, b"a\x1b[31mb\nc\xff")).unwrap();
    let text = "a [31mb\nc\u{fffd}".to_owned();
    assert_eq!(decoded, FromWorker::Fault { number: 9, is_input: true, text });
}

#[track_caller]
fn check_nonsense(packet: &[u8]) {
    let error = FromWorker::decode(packet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Engine);
    assert!(error.message().contains("makes no sense"), "{error}");
}

#[test]
fn what_is_cut_or_too_long_or_unknown_is_refused() {
    for whole in [ready(), answer(), fault(0, b"text")] {
        for len in 0..whole.len() {
            check_nonsense(&whole[..len]);
        }
        check_nonsense(&[whole.as_slice(), &[0]].concat());
    }
    check_nonsense(&[99]);
    check_nonsense(&fault(2, b"neither"));
    // 65,535 tensors, a name without letters, an unknown type, 255 dimensions, a text that never ends.
    check_nonsense(&[1, 255, 255]);
    check_nonsense(&[1, 1, 0, 0, 0, 0, 0, 11, 0, 0, 0, 0]);
    check_nonsense(&[1, 1, 0, 1, 0, 0, 0, b'x', 15, 0, 0]);
    check_nonsense(&[1, 1, 0, 1, 0, 0, 0, b'x', 11, 0, 255]);
    check_nonsense(&[2, 255, 255, 255, 255, b'a']);
}

#[test]
fn a_message_that_does_not_fit_is_refused() {
    let input = Placed { idx: 0, shape: Shape::new(&[1; 64]), offset: 0, len: 4 };
    let inputs = vec![input; 400];
    let error = ToWorker::Run { number: 1, inputs: &inputs }.encode(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(packet: Vec<u8>, kind in 0_u8..8) {
        let _ = FromWorker::decode(&packet);
        let _ = FromWorker::decode(&[&[kind], packet.as_slice()].concat());
    }
}
