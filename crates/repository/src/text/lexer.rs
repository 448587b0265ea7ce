//! Cuts the protobuf text format into tokens, each with its line.
//!
//! Knows nothing of fields or types; numbers stay text until the schema says which kind is wanted.

use std::fmt;

use salver_core::Result;

use super::fail;

/// The smallest piece of text with a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A field name, an enum value, `true`, `inf`, …
    Name(&'a str),
    /// Anything that starts like a number.
    Number(&'a str),
    /// One string, its escapes resolved.
    Text(Vec<u8>),
    /// Punctuation.
    Sign(char),
    /// No more text.
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Number(text) => write!(f, "'{}'", clip(text)),
            Self::Text(bytes) => write!(f, "\"{}\"", clip(&bytes.escape_ascii().to_string())),
            Self::Sign(sign) => write!(f, "'{}'", sign.escape_debug()),
            Self::End => f.write_str("the end of the file"),
        }
    }
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

pub(super) struct Lexer<'a> {
    /// What is not read yet.
    rest: &'a str,
    line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // Some editors put a byte order mark first.
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 }
    }

    /// Returns the next token and its line.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, usize)> {
        self.skip_blank();
        let line = self.line;
        let mut chars = self.rest.chars();
        let Some(first) = chars.next() else {
            return Ok((Token::End, line));
        };
        let second_is_digit = chars.next().is_some_and(|c| c.is_ascii_digit());
        let token = match first {
            'a'..='z' | 'A'..='Z' | '_' => Token::Name(self.take_while(is_word)),
            '0'..='9' => Token::Number(self.take_number()),
            '.' if second_is_digit => Token::Number(self.take_number()),
            '"' | '\'' => Token::Text(self.take_string(first)?),
            '{' | '}' | '[' | ']' | '<' | '>' | ':' | ',' | ';' | '-' => {
                self.rest = &self.rest[1..];
                Token::Sign(first)
            }
            other => return fail(line, format_args!("unexpected character '{}'", other.escape_debug())),
        };
        Ok((token, line))
    }

    fn skip_blank(&mut self) {
        loop {
            let blank = self.take_while(|c| c.is_ascii_whitespace() || c == '\u{b}');
            self.line += blank.matches('\n').count();
            if !self.rest.starts_with('#') {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// Takes digits, a fraction, an exponent with its sign; whether it is a number shows later.
    fn take_number(&mut self) -> &'a str {
        let hex = self.rest.starts_with("0x") || self.rest.starts_with("0X");
        let mut previous = ' ';
        let mut end = self.rest.len();
        for (idx, c) in self.rest.char_indices() {
            let exponent_sign = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E') && !hex;
            if !(is_word(c) || c == '.' || exponent_sign) {
                end = idx;
                break;
            }
            previous = c;
        }
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn take_string(&mut self, quote: char) -> Result<Vec<u8>> {
        self.rest = &self.rest[1..];
        let mut bytes = Vec::new();
        loop {
            let plain = self.take_while(|c| c != quote && c != '\\' && c != '\n');
            bytes.extend_from_slice(plain.as_bytes());
            if let Some(rest) = self.rest.strip_prefix(quote) {
                self.rest = rest;
                return Ok(bytes);
            }
            let Some(escape) = self.rest.strip_prefix('\\') else {
                return fail(self.line, format_args!("a string does not end on its line"));
            };
            self.rest = escape;
            self.take_escape(&mut bytes)?;
        }
    }

    /// Resolves the escape whose backslash was just taken.
    fn take_escape(&mut self, bytes: &mut Vec<u8>) -> Result<()> {
        let kind = self.rest.chars().next().unwrap_or(' ');
        let simple = match kind {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '?' => b'?',
            '\\' => b'\\',
            '\'' => b'\'',
            '"' => b'"',
            '0'..='7' => {
                let Some(byte) = self.take_digits(3, 8).and_then(|value| u8::try_from(value).ok()) else {
                    return fail(self.line, format_args!("an octal escape goes up to \\377"));
                };
                bytes.push(byte);
                return Ok(());
            }
            'x' | 'X' | 'u' | 'U' => {
                self.rest = &self.rest[1..];
                return self.take_hex_escape(kind, bytes);
            }
            other => return fail(self.line, format_args!("unknown escape '\\{}' in a string", other.escape_debug())),
        };
        self.rest = &self.rest[1..];
        bytes.push(simple);
        Ok(())
    }

    /// Two hexadecimal digits are a byte; four and eight are a letter.
    fn take_hex_escape(&mut self, kind: char, bytes: &mut Vec<u8>) -> Result<()> {
        let bad = |line| fail(line, format_args!("bad escape '\\{kind}' in a string"));
        let n_digits = match kind {
            'u' => 4,
            'U' => 8,
            _ => {
                let Some(byte) = self.take_digits(2, 16).and_then(|value| u8::try_from(value).ok()) else {
                    return bad(self.line);
                };
                bytes.push(byte);
                return Ok(());
            }
        };
        let before = self.rest.len();
        let value = self.take_digits(n_digits, 16).filter(|_| before - self.rest.len() == n_digits);
        let Some(letter) = value.and_then(char::from_u32) else {
            return bad(self.line);
        };
        bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn take_digits(&mut self, most: usize, radix: u32) -> Option<u32> {
        let count = self.rest.chars().take(most).take_while(|c| c.is_digit(radix)).count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        u32::from_str_radix(digits, radix).ok()
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
