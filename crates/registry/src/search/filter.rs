//! Reads filters: `clause (AND clause)*`, where a clause is `key operator value`.
//!
//! There is no OR, no parenthesis but that of an `IN` list, and no NOT LIKE. A double-quoted piece
//! is a key on the left of its operator and a value on the right. Text in quotes is taken as it
//! stands: neither a backslash nor a doubled quote is an escape, as in MLflow; a value with one kind
//! of quote goes into the other kind.

use salver_core::{Error, Result};

use super::field::{self, Kind};
use super::lexer::{Lexeme, Quote};
use super::path::Cursor;
use super::{Clause, MAX_CLAUSES, MAX_LIST_VALUES, NumberOp, Subject, Test, TextOp};

/// Reads the filter of a search; a blank one has no clauses.
///
/// # Errors
/// `InvalidInput` that names the clause, what was found and what was expected.
pub fn parse_filter(subject: Subject, text: &str) -> Result<Vec<Clause>> {
    let mut cursor = Cursor::new("filter", text)?;
    let mut clauses = Vec::new();
    while !cursor.is_at_end() {
        if clauses.len() == MAX_CLAUSES {
            return Err(Error::invalid_input(format!("filter: more than {MAX_CLAUSES} clauses; split the search")));
        }
        let number = clauses.len() + 1;
        if number > 1 {
            joint(&mut cursor).map_err(|error| error.context(format!("filter, before clause {number}")))?;
        }
        let start = cursor.position();
        let read = clause(subject, &mut cursor);
        clauses.push(read.map_err(|error| error.context(format!("filter clause {number} `{}`", cursor.since(start))))?);
    }
    Ok(clauses)
}

/// What stands between the field and the value.
enum Operator {
    Compare(NumberOp),
    Like,
    ILike,
    In { negated: bool },
    Null { negated: bool },
}

fn joint(cursor: &mut Cursor<'_>) -> Result<()> {
    if cursor.take_keyword("AND") {
        return Ok(());
    }
    let found = cursor.next();
    Err(cursor.unexpected(found, "AND; clauses cannot be joined otherwise"))
}

fn clause(subject: Subject, cursor: &mut Cursor<'_>) -> Result<Clause> {
    let path = cursor.path()?;
    let (field, kind) = field::to_filter(subject, path)?;
    let test = test(kind, cursor)?;
    Ok(Clause { field, test })
}

fn test(kind: Kind, cursor: &mut Cursor<'_>) -> Result<Test> {
    let start = cursor.position();
    match operator(kind, cursor)? {
        Operator::Compare(op) if kind == Kind::Number => Ok(Test::Number { op, value: number(cursor)? }),
        Operator::Compare(NumberOp::Equal) => Ok(Test::Text { op: TextOp::Equal, value: text(cursor)? }),
        Operator::Compare(NumberOp::NotEqual) => Ok(Test::Text { op: TextOp::NotEqual, value: text(cursor)? }),
        Operator::Like if kind.takes_patterns() => Ok(Test::Text { op: TextOp::Like, value: text(cursor)? }),
        Operator::ILike if kind.takes_patterns() => Ok(Test::Text { op: TextOp::ILike, value: text(cursor)? }),
        Operator::In { negated } if kind.takes_lists() => Ok(Test::In { values: list(cursor)?, negated }),
        Operator::Null { negated } if kind == Kind::OptionalText => Ok(Test::Null { negated }),
        Operator::Compare(_) | Operator::Like | Operator::ILike | Operator::In { .. } | Operator::Null { .. } => {
            let (found, expected) = (cursor.since(start), kind.operators());
            Err(Error::invalid_input(format!("{found} does not apply to this key, expected {expected}")))
        }
    }
}

fn operator(kind: Kind, cursor: &mut Cursor<'_>) -> Result<Operator> {
    let read = cursor.next();
    let known = match read {
        Some(Lexeme::Sign(sign)) => sign_operator(sign),
        Some(Lexeme::Word(word)) => word_operator(word, cursor),
        _ => None,
    };
    known.ok_or_else(|| cursor.unexpected(read, &format!("an operator: {}", kind.operators())))
}

fn sign_operator(sign: &str) -> Option<Operator> {
    let op = match sign {
        "=" => NumberOp::Equal,
        "!=" => NumberOp::NotEqual,
        ">" => NumberOp::Greater,
        ">=" => NumberOp::GreaterOrEqual,
        "<" => NumberOp::Less,
        "<=" => NumberOp::LessOrEqual,
        _ => return None,
    };
    Some(Operator::Compare(op))
}

fn word_operator(word: &str, cursor: &mut Cursor<'_>) -> Option<Operator> {
    match word.to_ascii_uppercase().as_str() {
        "LIKE" => Some(Operator::Like),
        "ILIKE" => Some(Operator::ILike),
        "IN" => Some(Operator::In { negated: false }),
        "NOT" => cursor.take_keyword("IN").then_some(Operator::In { negated: true }),
        "IS" => {
            let negated = cursor.take_keyword("NOT");
            cursor.take_keyword("NULL").then_some(Operator::Null { negated })
        }
        _ => None,
    }
}

fn number(cursor: &mut Cursor<'_>) -> Result<f64> {
    let read = cursor.next();
    let value = match read {
        Some(Lexeme::Number(text)) => text.parse().ok().filter(|value: &f64| value.is_finite()),
        _ => None,
    };
    value.ok_or_else(|| cursor.unexpected(read, "a number that a double can hold, without quotes"))
}

fn text(cursor: &mut Cursor<'_>) -> Result<String> {
    match cursor.next() {
        Some(Lexeme::Quoted(Quote::Single | Quote::Double, value)) => Ok(value.to_owned()),
        other => Err(cursor.unexpected(other, "a text in single quotes, as in 'abc'")),
    }
}

/// Reads `('a', 'b')`. A comma may follow the last value: Python writes tuples of one so.
fn list(cursor: &mut Cursor<'_>) -> Result<Vec<String>> {
    let read = cursor.next();
    if read != Some(Lexeme::Open) {
        return Err(cursor.unexpected(read, "a list of texts, as in ('a', 'b')"));
    }
    let mut values = vec![text(cursor)?];
    loop {
        match cursor.next() {
            Some(Lexeme::Close) => return Ok(values),
            Some(Lexeme::Comma) => {}
            other => return Err(cursor.unexpected(other, "a comma or the end of the list, `)`")),
        }
        match cursor.next() {
            Some(Lexeme::Close) => return Ok(values),
            Some(Lexeme::Quoted(Quote::Single | Quote::Double, value)) => values.push(value.to_owned()),
            other => return Err(cursor.unexpected(other, "a text in single quotes, as in 'abc'")),
        }
        if values.len() > MAX_LIST_VALUES {
            return Err(Error::invalid_input(format!(
                "more than {MAX_LIST_VALUES} values in a list; split the search"
            )));
        }
    }
}

#[cfg(test)]
mod tests;
