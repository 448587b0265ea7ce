use proptest::prelude::*;
use salver_core::ScoreRule;
use salver_testkit::tensor;

use super::super::tests::run;
use super::*;

fn labels(scores: ScoreRule, k: usize) -> Labels {
    let labels = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
    Labels::new(&LabelsSpec { labels, scores, k }).unwrap()
}

fn answer(function: &Labels, row: &[f32]) -> (Vec<String>, Vec<f32>, Vec<i64>) {
    let outputs = run(function, &[tensor("scores", &[row.len() / 3, 3], row)]).unwrap();
    let names = outputs[0].elements().unwrap().iter().map(|name| String::from_utf8(name.to_vec()).unwrap());
    (names.collect(), outputs[1].to_vec().unwrap(), outputs[2].to_vec().unwrap())
}

#[test]
fn each_row_has_its_best_class() {
    let (names, scores, places) = answer(&labels(ScoreRule::AsIs, 1), &[1.0, 3.0, 2.0, 5.0, 5.0, 4.0]);
    assert_eq!((names, scores, places), (vec!["dog".to_owned(), "cat".to_owned()], vec![3.0, 5.0], vec![1, 0]));
}

#[test]
fn as_many_as_are_asked_for_come_best_first() {
    let function = labels(ScoreRule::Sigmoid, 5);
    assert_eq!(function.signature().outputs[0].wire_shape(), [-1, 3], "there are no more");
    let (names, scores, places) = answer(&function, &[0.0, -100.0, 100.0]);
    assert_eq!((names.join(" "), places), ("owl cat dog".to_owned(), vec![2, 0, 1]));
    assert_eq!((scores[0], scores[1]), (1.0, 0.5));
    assert!(scores[2] < 1e-30, "{scores:?}");
}

#[test]
fn labels_are_needed() {
    let error = Labels::new(&LabelsSpec { labels: Vec::new(), scores: ScoreRule::Softmax, k: 1 }).unwrap_err();
    assert_eq!(error.message(), "there are no labels; give one for each score");
}

proptest! {
    #[test]
    fn softmax_is_the_naive_one(row in prop::collection::vec(-20.0f32..20.0, 3)) {
        let (names, scores, places) = answer(&labels(ScoreRule::Softmax, 3), &row);
        let powers: Vec<f64> = row.iter().map(|&value| f64::from(value).exp()).collect();
        let sum: f64 = powers.iter().sum();
        for ((name, score), place) in names.iter().zip(&scores).zip(&places) {
            let place = usize::try_from(*place).unwrap();
            prop_assert_eq!(name, ["cat", "dog", "owl"][place]);
            prop_assert!((f64::from(*score) - powers[place] / sum).abs() < 1e-6);
        }
        prop_assert!(scores.is_sorted_by(|a, b| a >= b));
    }
}
