//! Reads the protobuf text format against a schema.
//!
//! Follows the reference C++ reader where model configurations rely on it: the colon is optional
//! before a message or a list of messages, adjacent strings are one string, both kinds of quotes
//! and brackets, `,` or `;` between fields, a field that is not repeated stands once. Errors name
//! the line. The schemas do not nest in themselves, so they bound the depth. No extensions, no `Any`.

mod fault;
mod lexer;
mod lines;

use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use salver_core::{Error, Result};

pub(crate) use self::fault::{Checked, Fault};
use self::lexer::{Lexer, Token};
pub(crate) use self::lines::Lines;
use crate::schema::Described;

/// Reads `text` as a message of type `M`, and where its fields stand; empty text is a message
/// without fields.
pub(crate) fn parse<M: Described>(text: &str) -> Result<(M, Lines)> {
    let mut parser = Parser::new(text)?;
    let message = parser.message(&M::schema(), None)?;
    let message = message.transcode_to();
    let message = message.map_err(|error| Error::invalid_input("does not fit its schema").with_source(error))?;
    Ok((message, parser.lines))
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    line: usize,
    lines: Lines,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Self> {
        let mut lexer = Lexer::new(text);
        let (token, line) = lexer.next()?;
        Ok(Self { lexer, token, line, lines: Lines::default() })
    }

    /// Moves on and returns the token that was current.
    fn advance(&mut self) -> Result<Token<'a>> {
        let (token, line) = self.lexer.next()?;
        self.line = line;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn take_sign(&mut self, sign: char) -> Result<bool> {
        let found = self.token == Token::Sign(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expected<T>(&self, what: &str) -> Result<T> {
        fail(self.line, format_args!("expected {what}, found {}", self.token))
    }

    /// Reads fields up to `close`, or to the end of the text where that is `None`.
    fn message(&mut self, schema: &MessageDescriptor, close: Option<char>) -> Result<DynamicMessage> {
        let mut message = DynamicMessage::new(schema.clone());
        let mut seen = Vec::new();
        loop {
            match (&self.token, close) {
                (Token::Name(_), _) => self.field(&mut message, &mut seen)?,
                (Token::End, None) => return Ok(message),
                (Token::Sign(sign), Some(close)) if *sign == close => {
                    self.advance()?;
                    return Ok(message);
                }
                (_, None) => return self.expected("a field name"),
                (_, Some(close)) => return self.expected(&format!("a field name or '{close}'")),
            }
        }
    }

    /// Reads one field. `seen` holds the numbers of the fields that stood before.
    fn field(&mut self, message: &mut DynamicMessage, seen: &mut Vec<u32>) -> Result<()> {
        let line = self.line;
        let schema = message.descriptor();
        let Token::Name(name) = self.advance()? else {
            return self.expected("a field name");
        };
        let Some(field) = schema.get_field_by_name(name) else {
            return fail(line, format_args!("unknown field '{name}' in {}", schema.name()));
        };
        if !self.take_sign(':')? && !matches!(field.kind(), Kind::Message(_)) {
            return self.expected(&format!("':' after '{name}'"));
        }
        let outer = self.lines.enter(name, line);
        if field.is_list() || field.is_map() {
            self.repeated(message, &field)?;
        } else {
            check_single(&field, seen, line)?;
            let value = self.value(&field)?;
            message.set_field(&field, value);
        }
        self.lines.leave(outer);
        seen.push(field.number());
        if !self.take_sign(',')? {
            self.take_sign(';')?;
        }
        Ok(())
    }

    fn repeated(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor) -> Result<()> {
        if !self.take_sign('[')? {
            return self.element(message, field);
        }
        if self.take_sign(']')? {
            return Ok(());
        }
        loop {
            self.element(message, field)?;
            if self.take_sign(']')? {
                return Ok(());
            }
            if !self.take_sign(',')? {
                return self.expected("',' or ']'");
            }
        }
    }

    fn element(&mut self, message: &mut DynamicMessage, field: &FieldDescriptor) -> Result<()> {
        let line = self.line;
        let idx = message.get_field(field).as_list().map_or(0, <[Value]>::len);
        let outer = self.lines.enter(&format!("[{idx}]"), line);
        let value = self.value(field)?;
        self.lines.leave(outer);
        match (message.get_field_mut(field), value) {
            (Value::List(list), value) => list.push(value),
            (Value::Map(map), Value::Message(entry)) => {
                let part = |name| entry.get_field_by_name(name).map(std::borrow::Cow::into_owned);
                let (Some(key), Some(value)) = (part("key").and_then(Value::into_map_key), part("value")) else {
                    return fail(line, format_args!("'{}' takes a key and a value", field.name()));
                };
                self.lines.note_entry(&key_text(&key), line);
                map.insert(key, value);
            }
            _ => return fail(line, format_args!("'{}' is not repeated", field.name())),
        }
        Ok(())
    }

    fn value(&mut self, field: &FieldDescriptor) -> Result<Value> {
        Ok(match field.kind() {
            Kind::Message(schema) => Value::Message(self.braced(&schema)?),
            Kind::Enum(schema) => Value::EnumNumber(self.enumerator(&schema)?),
            Kind::String => Value::String(self.string()?),
            Kind::Bytes => Value::Bytes(self.string_bytes()?.into()),
            Kind::Bool => Value::Bool(self.boolean()?),
            Kind::Double => Value::F64(self.float()?),
            #[expect(clippy::cast_possible_truncation, reason = "the schema asks for single precision")]
            Kind::Float => Value::F32(self.float()? as f32),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(self.integer("a 32-bit integer")?),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(self.integer("a 64-bit integer")?),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.integer("a 32-bit integer from 0")?),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.integer("a 64-bit integer from 0")?),
        })
    }

    fn braced(&mut self, schema: &MessageDescriptor) -> Result<DynamicMessage> {
        let close = match self.token {
            Token::Sign('{') => '}',
            Token::Sign('<') => '>',
            _ => return self.expected("'{'"),
        };
        self.advance()?;
        self.message(schema, Some(close))
    }

    fn enumerator(&mut self, schema: &EnumDescriptor) -> Result<i32> {
        let line = self.line;
        let known = match &self.token {
            Token::Name(name) => schema.get_value_by_name(name).map(|value| value.number()),
            Token::Number(digits) => {
                integer_value(digits, false).and_then(|number| schema.get_value(number)).map(|value| value.number())
            }
            _ => return self.expected(&format!("a {}", schema.name())),
        };
        let token = self.advance()?;
        let names = || schema.values().map(|value| value.name().to_owned()).collect::<Vec<_>>().join(", ");
        known.map_or_else(|| fail(line, format_args!("{token} is not a {}; known are {}", schema.name(), names())), Ok)
    }

    fn string(&mut self) -> Result<String> {
        let line = self.line;
        let bytes = self.string_bytes()?;
        String::from_utf8(bytes).or_else(|_| fail(line, format_args!("the string is not UTF-8")))
    }

    fn string_bytes(&mut self) -> Result<Vec<u8>> {
        if !matches!(self.token, Token::Text(_)) {
            return self.expected("a string in quotes");
        }
        let mut joined = Vec::new();
        while let Token::Text(_) = self.token {
            if let Token::Text(part) = self.advance()? {
                joined.extend_from_slice(&part);
            }
        }
        Ok(joined)
    }

    fn boolean(&mut self) -> Result<bool> {
        let value = match self.token {
            Token::Name("true" | "True" | "t") => true,
            Token::Name("false" | "False" | "f") => false,
            Token::Number(digits) if integer_value(digits, false) == Some(1u8) => true,
            Token::Number(digits) if integer_value(digits, false) == Some(0u8) => false,
            _ => return self.expected("true or false"),
        };
        self.advance()?;
        Ok(value)
    }

    fn integer<T: TryFrom<i128>>(&mut self, what: &str) -> Result<T> {
        let line = self.line;
        let negative = self.take_sign('-')?;
        let Token::Number(digits) = self.token else {
            return self.expected(what);
        };
        self.advance()?;
        let minus = if negative { "-" } else { "" };
        integer_value(digits, negative)
            .map_or_else(|| fail(line, format_args!("expected {what}, found {minus}{digits}")), Ok)
    }

    fn float(&mut self) -> Result<f64> {
        let negative = self.take_sign('-')?;
        let magnitude = match self.token {
            Token::Name(name) if ["inf", "infinity"].contains(&&*name.to_ascii_lowercase()) => Some(f64::INFINITY),
            Token::Name(name) if name.eq_ignore_ascii_case("nan") => Some(f64::NAN),
            Token::Number(digits) => digits.trim_end_matches(['f', 'F']).parse().ok(),
            _ => None,
        };
        let Some(magnitude) = magnitude else {
            return self.expected("a number");
        };
        self.advance()?;
        Ok(if negative { -magnitude } else { magnitude })
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Refuses a second value for a field, or for its `oneof`.
fn check_single(field: &FieldDescriptor, seen: &[u32], line: usize) -> Result<()> {
    if seen.contains(&field.number()) {
        return fail(line, format_args!("'{}' is given twice", field.name()));
    }
    let rival = field.containing_oneof().and_then(|oneof| oneof.fields().find(|other| seen.contains(&other.number())));
    match rival {
        Some(rival) => fail(line, format_args!("'{}' and '{}' exclude each other", rival.name(), field.name())),
        None => Ok(()),
    }
}

/// Reads decimal, `0x` and leading-zero octal digits.
fn integer_value<T: TryFrom<i128>>(digits: &str, negative: bool) -> Option<T> {
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    // `from_str_radix` would take a sign of its own.
    let magnitude = digits.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(digits)?;
    let magnitude = i128::from_str_radix(magnitude, radix).ok()?;
    T::try_from(if negative { -magnitude } else { magnitude }).ok()
}

fn fail<T>(line: usize, what: std::fmt::Arguments<'_>) -> Result<T> {
    Err(Error::invalid_input(format!("line {line}: {what}")))
}

#[cfg(test)]
mod tests;
