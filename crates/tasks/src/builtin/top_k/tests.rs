use proptest::prelude::*;
use salver_core::ErrorKind;
use salver_testkit::{tensor, text};

use super::super::tests::run;
use super::*;

fn of_two(ids: Option<DataType>) -> TopK {
    TopK::new(&TopKSpec { k: 2, ids })
}

#[track_caller]
fn check(scores: &[f32], expected: [i64; 2]) {
    let outputs = run(&of_two(None), &[tensor("scores", &[1, scores.len()], scores)]).unwrap();
    assert_eq!(outputs[1].to_vec::<i64>().unwrap(), expected, "{scores:?}");
    let own = expected.map(|place| scores[place as usize].to_bits());
    assert_eq!(outputs[0].to_vec::<f32>().unwrap().iter().map(|score| score.to_bits()).collect::<Vec<_>>(), own);
}

#[test]
fn the_best_come_first() {
    check(&[0.1, 0.9, 0.5], [1, 2]);
    check(&[0.1, 0.9], [1, 0]);
    check(&[f32::NEG_INFINITY, f32::MAX, f32::INFINITY], [2, 1]);
}

#[test]
fn of_equal_ones_the_earlier_comes_first() {
    check(&[1.0, 2.0, 2.0, 2.0], [1, 2]);
    check(&[-0.0, 0.0, -1.0], [0, 1]);
}

#[test]
fn what_is_no_number_comes_last() {
    check(&[f32::NAN, -3.0, f32::NAN, -5.0], [1, 3]);
    check(&[f32::NAN, f32::NAN, f32::NEG_INFINITY], [2, 0]);
    check(&[-f32::NAN, f32::NAN], [0, 1]);
}

#[test]
fn ids_stand_beside_their_scores() {
    let scores = tensor("scores", &[2, 3], &[1f32, 3.0, 2.0, 9.0, 7.0, 8.0]);
    let numbers = tensor("ids", &[2, 3], &[10i64, 11, 12, 20, 21, 22]);
    let outputs = run(&of_two(Some(DataType::Int64)), &[scores.clone(), numbers]).unwrap();
    assert_eq!(outputs[2].to_vec::<i64>().unwrap(), [11, 12, 20, 22]);
    let names = text("ids", &[2, 3], &[b"a", b"b", b"", b"d", b"e", b"f"]);
    let outputs = run(&of_two(Some(DataType::Bytes)), &[scores, names]).unwrap();
    let names: Vec<&[u8]> = outputs[2].elements().unwrap().iter().collect();
    assert_eq!(names, [&b"b"[..], b"", b"d", b"f"]);
}

#[test]
fn too_few_to_choose_from_are_refused() {
    let error = run(&of_two(None), &[tensor("scores", &[1, 1], &[1f32])]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(
        error.message(),
        "input 'scores' has 1 values a row, but the model answers the best 2 (`k` in its model.toml); send at least 2, \
         or lower `k`"
    );
    let inputs = [tensor("scores", &[1, 3], &[1f32; 3]), tensor("ids", &[1, 2], &[1i64; 2])];
    let error = run(&of_two(Some(DataType::Int64)), &inputs).unwrap_err();
    assert_eq!(error.message(), "input 'ids' has 2 values a row, but input 'scores' has 3; send one for each score");
}

proptest! {
    #[test]
    fn the_best_are_the_first_of_all_in_order(
        row in prop::collection::vec(prop_oneof![any::<f32>(), (-2i8..3).prop_map(f32::from)], 1..60),
        k in 1usize..60,
    ) {
        let k = k.min(row.len());
        // A sort keeps the order of what is equal.
        let mut sorted: Vec<usize> = (0..row.len()).collect();
        sorted.sort_by(|&a, &b| match (row[a].is_nan(), row[b].is_nan()) {
            (false, false) => row[b].partial_cmp(&row[a]).unwrap(),
            (a, b) => a.cmp(&b),
        });
        let outputs = run(&TopK::new(&TopKSpec { k, ids: None }), &[tensor("scores", &[1, row.len()], &row)]).unwrap();
        let expected: Vec<i64> = sorted[..k].iter().map(|&place| place as i64).collect();
        prop_assert_eq!(outputs[1].to_vec::<i64>().unwrap(), expected);
    }
}
