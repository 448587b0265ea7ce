//! Cuts the text of a filter or an order into words, quoted pieces, numbers and signs.
//!
//! Knows nothing of what they mean; each token says where it stands, for messages and because a
//! quoted key must follow its prefix without a gap.

use salver_core::{Error, Result};

use super::MAX_TEXT_BYTES;

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Token<'t> {
    pub(super) lexeme: Lexeme<'t>,
    /// Position of its first byte.
    pub(super) start: usize,
    /// Position after its last byte.
    pub(super) end: usize,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Lexeme<'t> {
    /// Letters, digits, `_` and `.`, beginning with a letter or `_`.
    Word(&'t str),
    /// What stands between two quotes, as it stands: a doubled quote inside stays doubled.
    Quoted(Quote, &'t str),
    /// A decimal number, perhaps negative, perhaps with an exponent.
    Number(&'t str),
    /// A run of `=`, `!`, `<` and `>`.
    Sign(&'t str),
    /// `(`
    Open,
    /// `)`
    Close,
    /// `,`
    Comma,
}

/// The three ways to quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quote {
    /// `'`
    Single,
    /// `"`
    Double,
    /// A backtick.
    Back,
}

/// Cuts `text`; `what` names it in messages.
///
/// # Errors
/// Too long a text, a NUL, an open quote, a malformed number, a character of no use here.
pub(super) fn tokens<'t>(what: &str, text: &'t str) -> Result<Vec<Token<'t>>> {
    if text.len() > MAX_TEXT_BYTES {
        let message = format!("{what}: {} bytes are too long, expected at most {MAX_TEXT_BYTES}", text.len());
        return Err(Error::invalid_input(message));
    }
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let start = text.len() - rest.len();
        let (lexeme, len) = lexeme(first, rest).map_err(|problem| refuse(what, text, start, &problem))?;
        tokens.push(Token { lexeme, start, end: start + len });
        rest = rest[len..].trim_start();
    }
    Ok(tokens)
}

/// Returns the lexeme at the beginning of `rest` and its length in bytes.
fn lexeme(first: char, rest: &str) -> Result<(Lexeme<'_>, usize), String> {
    match first {
        '(' => Ok((Lexeme::Open, 1)),
        ')' => Ok((Lexeme::Close, 1)),
        ',' => Ok((Lexeme::Comma, 1)),
        '\'' => quoted(Quote::Single, '\'', rest),
        '"' => quoted(Quote::Double, '"', rest),
        '`' => quoted(Quote::Back, '`', rest),
        '=' | '!' | '<' | '>' => {
            let sign = leading(rest, |c| "=!<>".contains(c));
            Ok((Lexeme::Sign(sign), sign.len()))
        }
        '0'..='9' | '-' | '.' => number(rest),
        _ if is_of_word(first) => {
            let word = leading(rest, is_of_word);
            Ok((Lexeme::Word(word), word.len()))
        }
        _ => Err(stray(first)),
    }
}

fn quoted(quote: Quote, mark: char, rest: &str) -> Result<(Lexeme<'_>, usize), String> {
    let mut from = 1;
    while let Some(found) = rest[from..].find(mark) {
        let end = from + found;
        if !rest[end + 1..].starts_with(mark) {
            return match rest[1..end].contains('\0') {
                true => Err("a NUL, which no key and no value holds".to_owned()),
                false => Ok((Lexeme::Quoted(quote, &rest[1..end]), end + 1)),
            };
        }
        from = end + 2;
    }
    Err(format!("a quote without its end; close it with {mark}"))
}

fn number(rest: &str) -> Result<(Lexeme<'_>, usize), String> {
    let mantissa = leading(rest.strip_prefix('-').unwrap_or(rest), |c| c.is_ascii_digit() || c == '.');
    if !mantissa.contains(|c: char| c.is_ascii_digit()) {
        return Err(stray(rest.chars().next().unwrap_or_default()));
    }
    let mut len = mantissa.len() + usize::from(rest.starts_with('-'));
    if let Some(exponent) = rest[len..].strip_prefix(['e', 'E']) {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        len += 1 + exponent.len() - unsigned.len() + leading(unsigned, |c| c.is_ascii_digit()).len();
    }
    let text = &rest[..len];
    if text.parse::<f64>().is_err() || rest[len..].starts_with(is_of_word) {
        return Err("not a number; write it as in 12, -0.5 or 1e-3, and put text in single quotes".to_owned());
    }
    Ok((Lexeme::Number(text), len))
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '.'
}

fn leading(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    let len = text.find(|c| !belongs(c)).unwrap_or(text.len());
    &text[..len]
}

fn stray(c: char) -> String {
    format!(
        "'{}' has no meaning here; put a key that holds it in backticks and a value in single quotes",
        c.escape_default()
    )
}

fn refuse(what: &str, text: &str, start: usize, problem: &str) -> Error {
    let position = text[..start].chars().count() + 1;
    Error::invalid_input(format!("{what}, character {position}, at `{}`: {problem}", excerpt(&text[start..])))
}

/// Returns the beginning of `text`, fit for a message.
pub(super) fn excerpt(text: &str) -> String {
    const MOST: usize = 80;
    let mut shown: String = text.chars().take(MOST).flat_map(printable).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

fn printable(c: char) -> impl Iterator<Item = char> {
    let escape = c.is_control().then(|| c.escape_default());
    let plain = escape.is_none().then_some(c);
    escape.into_iter().flatten().chain(plain)
}
