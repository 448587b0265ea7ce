//! Searches find what a plain filter over the same rows finds, in the same order, on any pages.
//!
//! `SALVER_REGISTRY_SEARCHES` sets how many searches are tried.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use salver_registry::search::{
    Attribute, Clause, Field, NumberOp, Order, Subject, Test, TextOp, parse_filter, parse_order,
};
use salver_registry::types::View;
use salver_registry::{Logged, NewMetric, NewRun, RunChange, Search};

use crate::dice::{Dice, times};
use crate::place::{ANN, Place, elsewhere, tag};

contract!(runs_are_found_and_sorted, versions_are_found_and_sorted);

/// What searches see of a run.
#[derive(Debug, Clone, Default)]
struct Row {
    id: String,
    texts: BTreeMap<&'static str, String>,
    start: Option<i64>,
    end: Option<i64>,
    metrics: BTreeMap<String, f64>,
    params: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
}

enum Found<'r> {
    Text(Option<&'r str>),
    Number(Option<f64>),
}

impl Row {
    fn field(&self, field: &Field) -> Found<'_> {
        let number = |value: Option<i64>| Found::Number(value.map(|value| value as f64));
        match field {
            Field::Attribute(Attribute::RunId) => Found::Text(Some(&self.id)),
            Field::Attribute(Attribute::RunName) => Found::Text(self.texts.get("run_name").map(String::as_str)),
            Field::Attribute(Attribute::Status) => Found::Text(self.texts.get("status").map(String::as_str)),
            Field::Attribute(Attribute::UserId) => Found::Text(self.texts.get("user_id").map(String::as_str)),
            Field::Attribute(Attribute::StartTime) => number(self.start),
            Field::Attribute(Attribute::EndTime) => number(self.end),
            Field::Metric(key) => Found::Number(self.metrics.get(key).copied()),
            Field::Param(key) => Found::Text(self.params.get(key).map(String::as_str)),
            Field::Tag(key) => Found::Text(self.tags.get(key).map(String::as_str)),
            other => unreachable!("{other:?} is not drawn"),
        }
    }

    fn passes(&self, clause: &Clause) -> bool {
        match (self.field(&clause.field), &clause.test) {
            (Found::Text(value), Test::Null { negated }) => value.is_some() == *negated,
            (Found::Text(Some(found)), Test::Text { op, value }) => match op {
                TextOp::Equal => found == value,
                TextOp::NotEqual => found != value,
                TextOp::Like => is_like(found, value),
                TextOp::ILike => is_like(&found.to_ascii_lowercase(), &value.to_ascii_lowercase()),
            },
            (Found::Text(Some(found)), Test::In { values, negated }) => {
                values.iter().any(|value| value == found) != *negated
            }
            // NaN passes nothing, `!=` included.
            (Found::Number(Some(found)), Test::Number { op, value }) if !found.is_nan() => match op {
                NumberOp::Equal => found == *value,
                NumberOp::NotEqual => found != *value,
                NumberOp::Greater => found > *value,
                NumberOp::GreaterOrEqual => found >= *value,
                NumberOp::Less => found < *value,
                NumberOp::LessOrEqual => found <= *value,
            },
            (Found::Text(None) | Found::Number(_), _) => false,
            (found, test) => unreachable!("{test:?} of {}", matches!(found, Found::Text(_))),
        }
    }

    fn compare(&self, other: &Self, orders: &[Order]) -> Ordering {
        let by_orders = orders.iter().map(|order| {
            let (absent, by_value) = match (self.field(&order.field), other.field(&order.field)) {
                (Found::Text(a), Found::Text(b)) => (a.is_none().cmp(&b.is_none()), a.cmp(&b)),
                (Found::Number(a), Found::Number(b)) => {
                    let rank = |value: Option<f64>| value.map_or(2, |value| u8::from(value.is_nan()));
                    (rank(a).cmp(&rank(b)), a.partial_cmp(&b).unwrap_or(Ordering::Equal))
                }
                _ => unreachable!("a field has one type"),
            };
            absent.then(if order.ascending { by_value } else { by_value.reverse() })
        });
        // Latest start first, those without one at the end.
        by_orders.fold(Ordering::Equal, Ordering::then).then(other.start.cmp(&self.start)).then(self.id.cmp(&other.id))
    }
}

/// `LIKE`: `%` is any text, `_` any character.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut chars = pattern.chars();
    match chars.next() {
        None => text.is_empty(),
        Some('%') => {
            let ends = text.char_indices().map(|(idx, _)| idx).chain([text.len()]);
            ends.into_iter().any(|idx| is_like(&text[idx..], chars.as_str()))
        }
        Some(first) => {
            let mut rest = text.chars();
            rest.next().is_some_and(|found| found == first || first == '_') && is_like(rest.as_str(), chars.as_str())
        }
    }
}

const METRICS: [&str; 3] = ["loss", "val loss", "a/b.c"];
const LABELS: [&str; 3] = ["kind", "mlflow.kind", "größe 1"];
const NUMBERS: [f64; 7] = [0., -1.5, 1., 2., 0.1, 1e300, -1e-300];
const TEXTS: [&str; 12] = ["", "a", "A", "ab", "aB", "a%b", "a_b", "a~b", "a\\b", "Äb", "äb", "100"];
const PATTERNS: [&str; 14] = ["%", "_", "a%", "A%", "%b", "a_b", "_b", "%_%", "a~b", "~%", "a\\%", "äb", "Ä_", "%%"];
const TIMES: [i64; 4] = [1, 5, 9, 1_700_000_000_000];

fn value(dice: &mut Dice) -> f64 {
    if dice.one_of(6) { f64::NAN } else { *dice.pick(&NUMBERS) }
}

fn labels(dice: &mut Dice) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for key in LABELS {
        if !dice.one_of(3) {
            labels.insert(key.to_owned(), (*dice.pick(&TEXTS)).to_owned());
        }
    }
    labels
}

async fn make_row(place: &Place, dice: &mut Dice) -> Row {
    let mut row = Row { params: labels(dice), tags: labels(dice), ..Row::default() };
    for key in METRICS {
        if !dice.one_of(3) {
            row.metrics.insert(key.to_owned(), value(dice));
        }
    }
    row.start = (!dice.one_of(4)).then(|| *dice.pick(&TIMES));
    row.end = (!dice.one_of(2)).then(|| *dice.pick(&TIMES));
    let name = *dice.pick(&TEXTS[1..]);
    row.texts.insert("run_name", name.to_owned());
    row.texts.insert("user_id", (*dice.pick(&TEXTS)).to_owned());
    row.texts.insert("status", (*dice.pick(&["RUNNING", "FAILED"])).to_owned());
    let new = NewRun {
        experiment_id: "0".to_owned(),
        user_id: row.texts["user_id"].clone(),
        run_name: Some(name.to_owned()),
        start_time: row.start,
        tags: Vec::new(),
    };
    let registry = &place.registry;
    row.id = registry.create_run(ANN, new).await.unwrap().info.run_id;
    let tags = |labels: &BTreeMap<String, String>| labels.iter().map(|(key, value)| tag(key, value)).collect();
    let metric = |(key, value): (&String, &f64)| NewMetric {
        key: key.clone(),
        value: *value,
        timestamp: 1,
        step: 0,
        model_id: None,
        dataset_name: None,
        dataset_digest: None,
    };
    let metrics = row.metrics.iter().map(metric).collect();
    registry.log(&row.id, Logged { metrics, params: tags(&row.params), tags: tags(&row.tags) }).await.unwrap();
    let change = RunChange { status: row.texts.get("status").cloned(), end_time: row.end, run_name: None };
    registry.update_run(ANN, &row.id, change).await.unwrap();
    row
}

/// A field and how it is written.
fn field(dice: &mut Dice) -> (Field, String) {
    let key = |dice: &mut Dice, keys: &[&str]| (*dice.pick(keys)).to_owned();
    match dice.below(9) {
        0 | 1 => {
            let key = key(dice, &METRICS);
            (Field::Metric(key.clone()), format!("metrics.`{key}`"))
        }
        2 | 3 => {
            let key = key(dice, &LABELS);
            (Field::Param(key.clone()), format!("params.\"{key}\""))
        }
        4 | 5 => {
            let key = key(dice, &LABELS);
            (Field::Tag(key.clone()), format!("tag.`{key}`"))
        }
        6 => {
            let (attribute, name) =
                *dice.pick(&[(Attribute::StartTime, "start_time"), (Attribute::EndTime, "end_time")]);
            (Field::Attribute(attribute), name.to_owned())
        }
        7 => (Field::Attribute(Attribute::RunId), "attributes.run_id".to_owned()),
        _ => {
            let (attribute, name) = *dice.pick(&[
                (Attribute::RunName, "`run name`"),
                (Attribute::Status, "attr.status"),
                (Attribute::UserId, "user_id"),
            ]);
            (Field::Attribute(attribute), name.to_owned())
        }
    }
}

fn clause(dice: &mut Dice, rows: &[Row]) -> (Clause, String) {
    let (field, name) = field(dice);
    let (test, text) = match &field {
        Field::Metric(_) | Field::Attribute(Attribute::StartTime | Attribute::EndTime) => {
            let (op, sign) = *dice.pick(&[
                (NumberOp::Equal, "="),
                (NumberOp::NotEqual, "!="),
                (NumberOp::Greater, ">"),
                (NumberOp::GreaterOrEqual, ">="),
                (NumberOp::Less, "<"),
                (NumberOp::LessOrEqual, "<="),
            ]);
            let value = match &field {
                Field::Metric(_) => *dice.pick(&NUMBERS),
                _ => *dice.pick(&TIMES) as f64,
            };
            (Test::Number { op, value }, format!("{sign} {value}"))
        }
        Field::Attribute(Attribute::RunId) => {
            let ids: Vec<String> = (0..1 + dice.below(20)).map(|_| dice.pick(rows).id.clone()).collect();
            let negated = dice.one_of(2);
            let list = ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
            let op = if negated { "NOT IN" } else { "IN" };
            (Test::In { values: ids, negated }, format!("{op} ({list})"))
        }
        Field::Param(_) | Field::Tag(_) if dice.one_of(4) => {
            let negated = dice.one_of(2);
            (Test::Null { negated }, if negated { "IS NOT NULL" } else { "is null" }.to_owned())
        }
        _ => {
            let (op, sign, values) = *dice.pick(&[
                (TextOp::Equal, "=", &TEXTS[..]),
                (TextOp::NotEqual, "!=", &TEXTS),
                (TextOp::Like, "LIKE", &PATTERNS),
                (TextOp::ILike, "ilike", &PATTERNS),
            ]);
            let value = (*dice.pick(values)).to_owned();
            let text = format!("{sign} '{value}'");
            (Test::Text { op, value }, text)
        }
    };
    (Clause { field, test }, format!("{name} {text}"))
}

fn order(dice: &mut Dice) -> (Order, String) {
    let (field, name) = field(dice);
    let ascending = dice.one_of(2);
    (Order { field, ascending }, format!("{name}{}", if ascending { " ASC" } else { " DESC" }))
}

async fn runs_are_found_and_sorted(place: Place) {
    let mut dice = Dice::new(8);
    let mut rows = Vec::new();
    for _ in 0..40 {
        rows.push(make_row(&place, &mut dice).await);
    }
    for number in 0..times("SALVER_REGISTRY_SEARCHES", 300) {
        let (clauses, texts): (Vec<_>, Vec<_>) = (0..dice.below(4)).map(|_| clause(&mut dice, &rows)).unzip();
        let (orders, order_by): (Vec<_>, Vec<_>) = (0..dice.below(3)).map(|_| order(&mut dice)).unzip();
        let filter = texts.join(" and ");
        assert_eq!(parse_filter(Subject::Runs, &filter).unwrap(), clauses, "{filter}");
        for (order, text) in orders.iter().zip(&order_by) {
            assert_eq!(parse_order(Subject::Runs, text).unwrap(), *order, "{text}");
        }
        let mut expected: Vec<&Row> =
            rows.iter().filter(|row| clauses.iter().all(|clause| row.passes(clause))).collect();
        expected.sort_by(|a, b| a.compare(b, &orders));
        let expected: Vec<&str> = expected.iter().map(|row| row.id.as_str()).collect();

        let mut search = Search { filter, order_by, ..Search::default() };
        search.max_results = Some(1 + dice.below(50) as i64);
        let mut found = Vec::new();
        loop {
            let page = place.registry.search_runs(&["0".to_owned()], &search).await.unwrap();
            assert!(page.items.len() as i64 <= search.max_results.unwrap());
            found.extend(page.items.into_iter().map(|run| run.info.run_id));
            match page.next_page_token {
                Some(token) => search.page_token = Some(token),
                None => break,
            }
        }
        assert_eq!(found, expected, "search {number}: {search:?}");
    }
    let deleted = Search { view: View::Deleted, ..Search::default() };
    assert!(place.registry.search_runs(&["0".to_owned()], &deleted).await.unwrap().items.is_empty());
}

async fn versions_are_found_and_sorted(place: Place) {
    let registry = &place.registry;
    for (idx, name) in ["b", "B", "a", "ä"].into_iter().enumerate() {
        place.set_time(100 + idx as i64);
        registry.create_model(ANN, name, "", &[]).await.unwrap();
        for version in 0..12 {
            let mut new = elsewhere(name);
            new.tags = (version % 2 == 0).then(|| tag("kind", "tree")).into_iter().collect();
            registry.create_version(ANN, new).await.unwrap();
        }
    }
    for (filter, order_by, expected) in [
        ("name = 'b' AND version_number > 9", &["version_number ASC"][..], "b10 b11 b12"),
        ("version_number = 2", &[], "ä2 a2 B2 b2"),
        ("version_number = 2", &["name"], "B2 a2 b2 ä2"),
        ("name IN ('a', 'B') AND version_number <= 2", &["last_updated_timestamp", "version_number"], "B1 B2 a1 a2"),
        ("name ILIKE 'B' AND version_number < 4 AND tags.kind != 'x'", &[], "B3 B1 b3 b1"),
        ("name LIKE 'b' AND tag.kind = 'tree'", &[], "b11 b9 b7 b5 b3 b1"),
        ("name = 'A'", &[], ""),
    ] {
        let order_by = order_by.iter().map(|order| (*order).to_owned()).collect();
        let search = Search { filter: filter.to_owned(), order_by, ..Search::default() };
        let found = registry.search_versions(&search).await.unwrap().items;
        let found: Vec<String> = found.iter().map(|found| format!("{}{}", found.name, found.version)).collect();
        assert_eq!(found.join(" "), expected, "{filter}");
    }
}

/// A database whose language has letters beyond ASCII finds no more and no less than any other.
#[tokio::test]
async fn the_language_of_the_database_does_not_matter() {
    let Some(place) = Place::postgres().await else { return };
    let place = Place::on(place.new_database().await).await;
    let row = NewRun { experiment_id: "0".to_owned(), run_name: Some("ÄB".to_owned()), ..NewRun::default() };
    place.registry.create_run(ANN, row).await.unwrap();
    for (pattern, n_found) in [("Äb", 1), ("äb", 0), ("äB", 0), ("_b", 1), ("ÄB", 1)] {
        let search = Search { filter: format!("run_name ILIKE '{pattern}'"), ..Search::default() };
        let found = place.registry.search_runs(&["0".to_owned()], &search).await.unwrap().items;
        assert_eq!(found.len(), n_found, "{pattern}");
    }
}
