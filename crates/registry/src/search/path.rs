//! Reads tokens one after the other, and the way to a field: `key` or `prefix.key`.
//!
//! What a prefix or key means is for `field.rs`.

use salver_core::{Error, Result};

use super::lexer::{self, Lexeme, Quote, Token, excerpt};

/// A field as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path<'t> {
    /// What stands before the first dot.
    pub(super) prefix: Option<&'t str>,
    /// The rest, without its quotes.
    pub(super) key: &'t str,
}

/// The tokens of a text and how far they are read.
pub(super) struct Cursor<'t> {
    text: &'t str,
    tokens: Vec<Token<'t>>,
    next_idx: usize,
}

impl<'t> Cursor<'t> {
    /// Begins to read `text`; `what` names it in messages.
    pub(super) fn new(what: &str, text: &'t str) -> Result<Self> {
        Ok(Self { text, tokens: lexer::tokens(what, text)?, next_idx: 0 })
    }

    /// Whether everything is read.
    pub(super) fn is_at_end(&self) -> bool {
        self.next_idx == self.tokens.len()
    }

    /// Returns how many tokens are read.
    pub(super) fn position(&self) -> usize {
        self.next_idx
    }

    /// Reads one token; none at the end.
    pub(super) fn next(&mut self) -> Option<Lexeme<'t>> {
        let token = self.tokens.get(self.next_idx)?;
        self.next_idx += 1;
        Some(token.lexeme)
    }

    /// Reads the next token if it is the word `keyword` in any case.
    pub(super) fn take_keyword(&mut self, keyword: &str) -> bool {
        let is_next = match self.tokens.get(self.next_idx).map(|token| token.lexeme) {
            Some(Lexeme::Word(word)) => word.eq_ignore_ascii_case(keyword),
            _ => false,
        };
        self.next_idx += usize::from(is_next);
        is_next
    }

    /// Returns an excerpt of what was read since `position`.
    pub(super) fn since(&self, position: usize) -> String {
        let read = self.tokens.get(position..self.next_idx).unwrap_or_default();
        match (read.first(), read.last()) {
            (Some(first), Some(last)) => excerpt(&self.text[first.start..last.end]),
            (None, _) | (_, None) => String::new(),
        }
    }

    /// Says that the token just read is not the one that was `expected`.
    pub(super) fn unexpected(&self, read: Option<Lexeme<'t>>, expected: &str) -> Error {
        let found = match read {
            Some(_) => format!("`{}`", self.since(self.next_idx.saturating_sub(1))),
            None => "the end".to_owned(),
        };
        Error::invalid_input(format!("found {found}, expected {expected}"))
    }

    /// Reads a field: `key`, `prefix.key` or either with its key in quotes.
    pub(super) fn path(&mut self) -> Result<Path<'t>> {
        const EXPECTED: &str = "a key such as name, metrics.loss or tags.`a key`";
        match self.next() {
            Some(Lexeme::Quoted(Quote::Back | Quote::Double, key)) => Ok(Path { prefix: None, key }),
            Some(Lexeme::Word(word)) => match word.split_once('.') {
                None => Ok(Path { prefix: None, key: word }),
                Some((prefix, "")) => Ok(Path { prefix: Some(prefix), key: self.adjacent_key()? }),
                Some((_, key)) if key.ends_with('.') && self.adjacent_quoted().is_some() => Err(Error::invalid_input(
                    "only a part of the key stands in quotes; quote all that follows the first dot",
                )),
                Some((prefix, key)) => Ok(Path { prefix: Some(prefix), key }),
            },
            other => Err(self.unexpected(other, EXPECTED)),
        }
    }

    /// Reads the quoted key right behind a word that ends with a dot.
    fn adjacent_key(&mut self) -> Result<&'t str> {
        let Some(key) = self.adjacent_quoted() else {
            return Err(Error::invalid_input("no key follows the dot; write one, in backticks if it is unusual"));
        };
        self.next_idx += 1;
        Ok(key)
    }

    fn adjacent_quoted(&self) -> Option<&'t str> {
        let before = self.tokens.get(self.next_idx.checked_sub(1)?)?;
        let token = self.tokens.get(self.next_idx)?;
        match token.lexeme {
            Lexeme::Quoted(_, key) if token.start == before.end => Some(key),
            _ => None,
        }
    }
}
