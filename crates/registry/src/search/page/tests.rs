use proptest::prelude::*;

use super::*;

fn page(subject: Subject, max_results: Option<i64>) -> Result<Page> {
    Page::new(PageLimits::of(subject), max_results, None)
}

#[test]
fn each_search_has_its_bounds_and_default() {
    for (subject, default, most) in [
        (Subject::Runs, Some(1_000), 50_000),
        (Subject::Experiments, None, 50_000),
        (Subject::RegisteredModels, Some(100), 1_000),
        (Subject::ModelVersions, Some(10_000), 200_000),
        (Subject::LoggedModels, Some(50), 50_000),
    ] {
        assert_eq!(page(subject, None).ok().map(|page| page.limit()), default, "{subject:?}");
        assert_eq!(page(subject, Some(most)).unwrap().limit(), u32::try_from(most).unwrap());
        for refused in [most + 1, 0, -1, i64::MIN, i64::MAX] {
            assert!(page(subject, Some(refused)).is_err(), "{subject:?} {refused}");
        }
    }
}

#[test]
fn tokens_are_those_of_mlflow() {
    assert_eq!(encode(10), "eyJvZmZzZXQiOiAxMH0=");
}

#[test]
fn an_empty_token_is_the_first_page() {
    let first = Page::new(PageLimits::METRIC_HISTORY, None, Some("")).unwrap();
    assert_eq!((first.limit(), first.offset()), (25_000, 0));
}

#[test]
fn a_token_that_no_answer_carried_is_refused() {
    let encoded = |text: &str| STANDARD.encode(text);
    for token in [
        "xxx".to_owned(),
        "eyJvZmZzZXQiOiAxMH0".to_owned(),
        " eyJvZmZzZXQiOiAxMH0=".to_owned(),
        encoded("10"),
        encoded("[10]"),
        encoded("{}"),
        encoded(r#"{"offset": -1}"#),
        encoded(r#"{"offset": 1.5}"#),
        encoded(r#"{"offset": "10"}"#),
        encoded(r#"{"offset": 9223372036854775808}"#),
        encoded(&format!("{}10{}", "[".repeat(20), "]".repeat(20))),
        "A".repeat(1_000_000),
    ] {
        let error = Page::new(PageLimits::of(Subject::Runs), None, Some(&token)).expect_err(&token);
        assert_eq!(error.kind(), salver_core::ErrorKind::InvalidInput);
    }
}

#[test]
fn only_a_page_with_rows_left_over_has_a_next_one() {
    let page = Page::new(PageLimits::of(Subject::Runs), Some(2), Some(&encode(4))).unwrap();
    assert_eq!(page.cut(vec![1, 2]), (vec![1, 2], None));
    assert_eq!(page.cut(vec![1, 2, 3]), (vec![1, 2], Some(encode(6))));
    assert_eq!(page.cut(Vec::<u8>::new()), (vec![], None));
}

proptest! {
    #[test]
    fn tokens_round_trip(offset in 0..=MAX_OFFSET) {
        prop_assert_eq!(decode(&encode(offset)).map_err(|error| error.to_string()), Ok(offset));
    }

    #[test]
    fn pages_cover_every_row_once(rows in 0_usize..40, limit in 1_i64..10) {
        let mut token = None;
        let mut seen = Vec::new();
        loop {
            let page = Page::new(PageLimits::of(Subject::Runs), Some(limit), token.as_deref()).unwrap();
            let from = usize::try_from(page.offset()).unwrap();
            let read = (from..rows).take(usize::try_from(limit).unwrap() + 1).collect();
            let (rows, next) = page.cut(read);
            seen.extend(rows);
            token = next;
            if token.is_none() {
                break;
            }
        }
        prop_assert_eq!(seen, (0..rows).collect::<Vec<_>>());
    }
}
