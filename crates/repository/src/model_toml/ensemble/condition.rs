//! `when`: what must hold of a row.
//!
//! ```text
//! any      = all { "or" all }
//! all      = one { "and" one }
//! one      = "not" one | "(" any ")" | value [ comparison constant ]
//! constant = number | "true" | "false" | text in single or double quotes
//! ```
//!
//! A value alone must be true. Values are named as everywhere else.

use salver_core::{Comparison, Condition, Constant};
use toml::Spanned;

use super::super::fault::Fault;
use super::source::Names;

/// The longest condition, in bytes.
const MAX_LEN: usize = 2000;
/// The most parentheses and `not` around a comparison.
const MAX_DEPTH: usize = 16;

/// Reads a condition.
pub(super) fn parse(text: &Spanned<String>, names: &Names<'_>) -> Result<Condition, Fault> {
    let fault = |why: String| Fault::invalid(text, why);
    if text.get_ref().len() > MAX_LEN {
        return Err(fault(format!("must be at most {MAX_LEN} bytes, got {}", text.get_ref().len())));
    }
    let tokens = tokens(text.get_ref()).map_err(fault)?;
    let mut parser = Parser { tokens: &tokens, names, depth: 0 };
    let condition = parser.any().map_err(fault)?;
    match parser.tokens.first() {
        None => Ok(condition),
        Some(token) => Err(fault(format!("expected 'and', 'or' or the end, got {}", token.shown()))),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Open,
    Close,
    Compare(Comparison),
    Quoted(String),
    Word(String),
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Self::Open => "'('".to_owned(),
            Self::Close => "')'".to_owned(),
            Self::Compare(comparison) => format!("'{}'", symbol(*comparison)),
            Self::Quoted(text) | Self::Word(text) => format!("'{}'", text.escape_debug()),
        }
    }
}

const SYMBOLS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::Unequal),
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

fn symbol(comparison: Comparison) -> &'static str {
    SYMBOLS.iter().find(|(_, known)| *known == comparison).map_or("", |(symbol, _)| symbol)
}

fn tokens(mut rest: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            return Ok(tokens);
        };
        if let Some((symbol, comparison)) = SYMBOLS.iter().find(|(symbol, _)| rest.starts_with(symbol)) {
            tokens.push(Token::Compare(*comparison));
            rest = &rest[symbol.len()..];
            continue;
        }
        let (token, len) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '=' | '!' => return Err(format!("'{first}' alone means nothing here; write == or !=")),
            '\'' | '"' => {
                let end =
                    rest[1..].find(first).ok_or_else(|| format!("the text that begins with {first} never ends"))?;
                (Token::Quoted(rest[1..=end].to_owned()), end + 2)
            }
            _ => {
                let ends = |char: char| char.is_whitespace() || "()<>=!'\"".contains(char);
                let len = rest.find(ends).unwrap_or(rest.len());
                (Token::Word(rest[..len].to_owned()), len)
            }
        };
        tokens.push(token);
        rest = &rest[len..];
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    names: &'a Names<'a>,
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    /// Takes the next token if it is this word.
    fn takes(&mut self, word: &str) -> bool {
        let is_next = matches!(self.tokens.first(), Some(Token::Word(next)) if next == word);
        if is_next {
            self.tokens = &self.tokens[1..];
        }
        is_next
    }

    fn any(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.all()?];
        while self.takes("or") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::Any(parts) })
    }

    fn all(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.one()?];
        while self.takes("and") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::All(parts) })
    }

    fn one(&mut self) -> Result<Condition, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("has more than {MAX_DEPTH} parentheses and 'not' within each other"));
        }
        let condition = if self.takes("not") { Condition::Not(Box::new(self.one()?)) } else { self.plain()? };
        self.depth -= 1;
        Ok(condition)
    }

    fn plain(&mut self) -> Result<Condition, String> {
        match self.next() {
            Some(Token::Open) => {
                let inner = self.any()?;
                match self.next() {
                    Some(Token::Close) => Ok(inner),
                    other => Err(format!("expected ')', got {}", shown(other.as_ref()))),
                }
            }
            Some(Token::Word(name)) => self.compare(&name),
            other => Err(format!("expected a value such as STEP.OUTPUT, got {}", shown(other.as_ref()))),
        }
    }

    fn compare(&mut self, name: &str) -> Result<Condition, String> {
        let value = self.names.value(name)?;
        let Some(Token::Compare(comparison)) = self.tokens.first() else {
            let with = Constant::Bool(true);
            return Ok(Condition::Compare { value, comparison: Comparison::Equal, with });
        };
        let comparison = *comparison;
        self.tokens = &self.tokens[1..];
        let with = match self.next() {
            Some(Token::Quoted(text)) => Constant::Text(text.into()),
            Some(Token::Word(word)) => constant(&word)?,
            other => return Err(format!("expected a constant, got {}", shown(other.as_ref()))),
        };
        let has_order = matches!(with, Constant::Int(_) | Constant::Float(_));
        if !has_order && !matches!(comparison, Comparison::Equal | Comparison::Unequal) {
            return Err(format!(
                "'{}' compares numbers only; of texts and truth values, write == or !=",
                symbol(comparison)
            ));
        }
        Ok(Condition::Compare { value, comparison, with })
    }
}

fn shown(token: Option<&Token>) -> String {
    token.map_or_else(|| "the end".to_owned(), Token::shown)
}

fn constant(word: &str) -> Result<Constant, String> {
    match word {
        "true" => return Ok(Constant::Bool(true)),
        "false" => return Ok(Constant::Bool(false)),
        _ => {}
    }
    if let Ok(number) = word.parse() {
        return Ok(Constant::Int(number));
    }
    match word.parse::<f64>() {
        Ok(number) if number.is_finite() && !word.starts_with(char::is_alphabetic) => Ok(Constant::Float(number)),
        _ => Err(format!("expected a number, true, false or a text in quotes, got '{}'", word.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use salver_core::Source;

    use super::*;

    fn read(text: &str) -> Result<Condition, String> {
        let steps = ["gate".into(), "label".into()];
        let names = Names { inputs: ["input.1"].into(), steps: &steps };
        let whole = format!("when = {text:?}\n");
        parse(&Spanned::new(7..7, text.to_owned()), &names).map_err(|fault| fault.locate(&whole).message().to_owned())
    }

    fn compare(value: &str, comparison: Comparison, with: Constant) -> Condition {
        let value = match value.split_once('.').filter(|(step, _)| *step == "gate") {
            Some((step, output)) => Source::Step { step: step.into(), output: output.into() },
            None => Source::Input(value.into()),
        };
        Condition::Compare { value, comparison, with }
    }

    #[test]
    fn comparisons_bind_tighter_than_and_and_and_tighter_than_or() {
        let score = |limit| compare("gate.score", Comparison::Less, Constant::Float(limit));
        let is_new = || compare("is_new", Comparison::Equal, Constant::Bool(true));
        assert_eq!(read("gate.score < 0.5").unwrap(), score(0.5));
        assert_eq!(
            read("gate.score<0.5 and is_new or not (gate.score<0.25)").unwrap(),
            Condition::Any(vec![Condition::All(vec![score(0.5), is_new()]), Condition::Not(Box::new(score(0.25))),])
        );
        let text = |text: &str| Constant::Text(text.into());
        assert_eq!(read("kind != 'a < b'").unwrap(), compare("kind", Comparison::Unequal, text("a < b")));
        assert_eq!(read("input.1 >= -3").unwrap(), compare("input.1", Comparison::AtLeast, Constant::Int(-3)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "expected a value"),
            ("gate.score <", "expected a constant, got the end"),
            ("gate.score = 1", "write == or !="),
            ("gate.score < 'a'", "compares numbers only"),
            ("gate.score < inf", "expected a number"),
            ("gate.score < 1 is_new", "expected 'and', 'or' or the end, got 'is_new'"),
            ("(gate.score < 1", "expected ')'"),
            ("gat.score < 1", "is an output of no step"),
            ("kind == 'a", "never ends"),
            (&"not ".repeat(40), "within each other"),
            (&"x ".repeat(2000), "at most 2000 bytes"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-z.<>=!()'\" 0-9ä-]{0,40}") {
            let _ = read(&text);
        }
    }
}
