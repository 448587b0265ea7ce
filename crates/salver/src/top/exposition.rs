//! Reads the OpenMetrics text format, and with it the older one of Prometheus.
//!
//! Pure, and strict about what it reads: a line that is none is an error with its number, since a
//! figure made of half the lines would be wrong without saying so. Descriptions, time stamps and
//! exemplars are passed over.

use std::borrow::Cow;
use std::fmt;

/// One series at the moment of the scrape.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample<'a> {
    /// The name, with the suffix of its kind (`_total`, `_bucket`, …).
    pub name: &'a str,
    /// The value.
    pub value: f64,
    labels: Vec<(&'a str, Cow<'a, str>)>,
}

impl Sample<'_> {
    /// Returns the value of a label.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| &**value)
    }
}

/// A line that is no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Counted from 1.
    line: usize,
    expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}", self.line, self.expected)
    }
}

impl std::error::Error for Malformed {}

/// Reads every sample, in the order of the text.
///
/// # Errors
/// The first line that is none.
pub(crate) fn parse(text: &str) -> Result<Vec<Sample<'_>>, Malformed> {
    let is_sample = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let lines = text.lines().enumerate().map(|(idx, line)| (idx, line.trim_ascii()));
    let samples = lines.filter(|(_, line)| is_sample(line));
    samples.map(|(idx, line)| sample(line).map_err(|expected| Malformed { line: idx + 1, expected })).collect()
}

type Parsed<'a, T> = Result<(T, &'a str), &'static str>;

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let (name, rest) = name(line)?;
    let (labels, rest) = match rest.trim_ascii_start().strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // A time stamp and an exemplar may follow.
    let value = rest.split_ascii_whitespace().next().ok_or("a value")?;
    let value = value.parse().map_err(|_| "a number as value")?;
    Ok(Sample { name, value, labels })
}

fn name(text: &str) -> Parsed<'_, &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    if text.is_empty() || end == 0 || text.as_bytes()[0].is_ascii_digit() {
        return Err("a name of letters, digits, '_' and ':'");
    }
    Ok(text.split_at(end))
}

fn labels(mut text: &str) -> Parsed<'_, Vec<(&str, Cow<'_, str>)>> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_ascii_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (label, rest) = name(text)?;
        let rest = rest.trim_ascii_start().strip_prefix('=').ok_or("'=' after the name of a label")?;
        let rest = rest.trim_ascii_start().strip_prefix('"').ok_or("'\"' before the value of a label")?;
        let (value, rest) = quoted(rest)?;
        labels.push((label, value));
        text = rest.trim_ascii_start();
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None if text.starts_with('}') => {}
            None => return Err("',' or '}' after a label"),
        }
    }
}

/// Reads up to the closing quote; borrows where nothing is escaped.
fn quoted(text: &str) -> Parsed<'_, Cow<'_, str>> {
    let end = text.find(['"', '\\']).ok_or("'\"' after the value of a label")?;
    if text.as_bytes()[end] == b'"' {
        return Ok((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = text[..end].to_owned();
    let mut chars = text[end..].char_indices();
    while let Some((idx, c)) = chars.next() {
        match c {
            '"' => return Ok((Cow::Owned(value), &text[end + idx + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                // The format leaves other escapes as they are.
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("'\"' after the value of a label")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use salver_telemetry::{Metrics, Outcome};

    use super::*;

    fn one(line: &str) -> Sample<'_> {
        parse(line).unwrap().remove(0)
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }

    #[test]
    fn a_line_has_a_name_labels_and_a_value() {
        let sample = one("a_total{model=\"iris\",version=\"3\"} 12");
        assert_eq!((sample.name, sample.value), ("a_total", 12.0));
        assert_eq!((sample.label("model"), sample.label("version")), (Some("iris"), Some("3")));
        assert_eq!(sample.label("mode"), None);
        assert_eq!(one("up 1").value, 1.0);
        assert_eq!(one("a{} 1").label(""), None);
        assert_eq!(one("a { b = \"c\" , } 2").label("b"), Some("c"));
    }

    #[test]
    fn numbers_have_every_form() {
        for (text, value) in [("1e-6", 1e-6), ("-0.5", -0.5), ("+Inf", f64::INFINITY), ("-Inf", f64::NEG_INFINITY)] {
            assert_eq!(one(&format!("a {text}")).value, value);
        }
        assert!(one("a NaN").value.is_nan());
    }

    #[test]
    fn comments_time_stamps_and_exemplars_are_passed_over() {
        let text = "# HELP a b\n# TYPE a counter\n\na_total 1 1520879607.789\na_bucket{le=\"1\"} 4 # {t=\"x } 9\"} 0.6 1.2\r\n# EOF\n";
        let values: Vec<f64> = parse(text).unwrap().iter().map(|sample| sample.value).collect();
        assert_eq!(values, [1.0, 4.0]);
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(one(r#"a{b="x\"y\\z\nw\q}"} 1"#).label("b"), Some("x\"y\\z\nw\\q}"));
        assert_eq!(one("a{b=\"{}, =é\"} 1").label("b"), Some("{}, =é"));
    }

    #[test]
    fn what_is_no_sample_is_named_by_its_line() {
        refused("a 1\n\n<html>", "line 3: expected a name");
        refused("1a 1", "a name");
        refused("a", "a value");
        refused("a{b=\"c\"}", "a value");
        refused("a x", "a number");
        refused("a{b=c} 1", "before the value");
        refused("a{b} 1", "'='");
        refused("a{b=\"c} 1", "after the value");
        refused("a{b=\"c\\", "after the value");
        refused("a{b=\"c\" d=\"e\"} 1", "',' or '}'");
        refused("a{", "a name");
        refused("é 1", "a name");
    }

    #[test]
    fn it_reads_what_the_server_writes_and_notices_what_is_cut_off() {
        let metrics = Metrics::new();
        let model = metrics.model("iris", 1);
        model.start(None).finish(Outcome::Success);
        model.observe_queue(Duration::from_micros(7));
        let text = metrics.render();
        let samples = parse(&text).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(samples.len(), lines.count());
        for end in (0..text.len()).step_by(13) {
            // Must end, whatever it says.
            let _ = parse(&text[..end]);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-c{}=\",\\\\ \n#0-9.é]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_label_comes_back(value in any::<String>()) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let line = format!("a{{b=\"{escaped}\"}} 1");
            let samples = parse(&line).unwrap();
            prop_assert_eq!(samples[0].label("b"), Some(value.as_str()));
        }
    }
}
