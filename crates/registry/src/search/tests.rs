//! What holds of the whole language: it survives any text, and what is written in it reads back.

use proptest::prelude::*;
use proptest::sample::select;

use super::field::{self, Entity, Kind, Use};
use super::*;

/// A clause and one way to write it.
type Written = (Clause, String);

/// Puts a key or value into one of the quotes that it does not hold itself.
fn quoted(text: &str, marks: &[char], pick: usize) -> String {
    let free: Vec<char> = marks.iter().copied().filter(|mark| !text.contains(*mark)).collect();
    let mark = free[pick % free.len()];
    format!("{mark}{text}{mark}")
}

fn key() -> impl Strategy<Value = (String, String)> {
    let plain = "[a-zA-Zäß_][a-z0-9ä_.]{0,6}[a-z0-9]".prop_map(|key: String| (key.clone(), key));
    let wild = ("[^\0\"`]{1,12}", any::<usize>()).prop_map(|(key, pick)| {
        let written = quoted(&key, &['`', '"'], pick);
        (key, written)
    });
    prop_oneof![plain, wild]
}

fn text() -> impl Strategy<Value = (String, String)> {
    let one_quote_at_most = prop_oneof!["[^\0']{0,12}", "[^\0\"]{0,12}", "[%_a-c]{0,4}"];
    (one_quote_at_most, any::<usize>()).prop_map(|(value, pick)| {
        let written = quoted(&value, &['\'', '"'], pick);
        (value, written)
    })
}

fn field_of(subject: Subject) -> BoxedStrategy<(Field, Kind, String)> {
    let rows = field::attributes(subject).iter().filter(|row| row.allowed == Use::Both);
    let attributes: Vec<_> = rows
        .flat_map(|row| row.names.iter().map(|name| (Field::Attribute(row.attribute), row.kind, format!("`{name}`"))))
        .collect();
    let keyed: Vec<_> =
        field::prefixes(subject).iter().filter(|(_, entity)| *entity != Entity::Attribute).copied().collect();
    let labels = match subject {
        Subject::Runs | Subject::Experiments => Kind::OptionalText,
        Subject::RegisteredModels | Subject::ModelVersions | Subject::LoggedModels => Kind::Text,
    };
    let with_key = (select(keyed), key()).prop_map(move |((prefix, entity), (key, written))| match entity {
        Entity::Metric => (Field::Metric(key), Kind::Number, format!("{prefix}.{written}")),
        Entity::Param => (Field::Param(key), labels, format!("{prefix}.{written}")),
        Entity::Tag => (Field::Tag(key), labels, format!("{prefix}.{written}")),
        Entity::Dataset | Entity::Attribute => {
            (Field::Dataset(DatasetField::Digest), Kind::ListedText, format!("{prefix}.digest"))
        }
    });
    prop_oneof![select(attributes), with_key].boxed()
}

fn test_of(kind: Kind) -> BoxedStrategy<(Test, String)> {
    let numbers = [
        (NumberOp::Equal, "="),
        (NumberOp::NotEqual, "!="),
        (NumberOp::Greater, ">"),
        (NumberOp::GreaterOrEqual, ">="),
        (NumberOp::Less, "<"),
        (NumberOp::LessOrEqual, "<="),
    ];
    let finite = prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::NEGATIVE;
    let number = (select(numbers.to_vec()), finite)
        .prop_map(|((op, sign), value)| (Test::Number { op, value }, format!("{sign}{value:?}")));
    let mut texts = vec![(TextOp::Equal, "="), (TextOp::NotEqual, "!=")];
    if kind.takes_patterns() {
        texts.extend([(TextOp::Like, "LIKE"), (TextOp::Like, "like"), (TextOp::ILike, "iLike")]);
    }
    let text = (select(texts), text())
        .prop_map(|((op, sign), (value, written))| (Test::Text { op, value }, format!(" {sign} {written}")));
    let lists = (prop::collection::vec(self::text(), 1..4), any::<bool>(), any::<bool>());
    let list = lists.prop_map(|(values, negated, comma)| {
        let (values, written): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        let word = if negated { "not  IN" } else { "in" };
        let end = if comma { ",)" } else { ")" };
        (Test::In { values, negated }, format!(" {word} ({}{end}", written.join(", ")))
    });
    let null = any::<bool>().prop_map(|negated| {
        let word = if negated { " is not NULL" } else { " IS  null" };
        (Test::Null { negated }, word.to_owned())
    });
    match kind {
        Kind::Number => number.boxed(),
        Kind::Text => text.boxed(),
        Kind::OptionalText => prop_oneof![text, null].boxed(),
        Kind::ListedText | Kind::Id => prop_oneof![text, list].boxed(),
    }
}

fn clause_of(subject: Subject) -> impl Strategy<Value = Written> {
    field_of(subject).prop_flat_map(|(field, kind, key)| {
        test_of(kind).prop_map(move |(test, rest)| (Clause { field: field.clone(), test }, format!("{key}{rest}")))
    })
}

fn filter() -> impl Strategy<Value = (Subject, Vec<Written>)> {
    select(&Subject::ALL[..]).prop_flat_map(|subject| (Just(subject), prop::collection::vec(clause_of(subject), 0..5)))
}

/// Pieces of the language and of what breaks parsers.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "metrics.", "tags.", "a", "`", "\"", "'", "=", "!=", "<>", " AND ", " IN ", "(", ")", ",", " IS ", " NOT ", " NULL ",
    " LIKE ", "1", "-", ".", "e", "1e999", "\0", "ß", "\u{2028}", "name", "run_id", "''", " OR ",
];

fn soup() -> impl Strategy<Value = String> {
    prop::collection::vec(select(PIECES), 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_survived(text in prop_oneof![any::<String>(), soup()]) {
        for subject in Subject::ALL {
            let _ = parse_filter(subject, &text);
            let _ = parse_order(subject, &text);
            let _ = order_field(subject, &text);
        }
        let _ = Page::new(PageLimits::of(Subject::Runs), None, Some(&text));
    }

    #[test]
    fn what_is_written_reads_back(
        (subject, written) in filter(),
        joint in select(&[" AND ", "\nand\t", " aNd  "][..]),
    ) {
        let (clauses, texts): (Vec<_>, Vec<_>) = written.into_iter().unzip();
        let text = texts.join(joint);
        let read = parse_filter(subject, &text);
        prop_assert_eq!(read.map_err(|error| error.to_string()), Ok(clauses), "{}", text);
    }

    #[test]
    fn orders_read_back((key, written) in key(), ascending in any::<bool>()) {
        let text = format!("params.{written}{}", if ascending { "" } else { " desc" });
        let order = parse_order(Subject::Runs, &text).map_err(|error| error.to_string());
        prop_assert_eq!(order, Ok(Order { field: Field::Param(key), ascending }));
    }
}

#[test]
fn no_name_of_an_attribute_stands_for_two() {
    for subject in Subject::ALL {
        let mut names: Vec<_> = field::attributes(subject).iter().flat_map(|row| row.names).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "{subject:?}");
    }
}
