//! Ready-to-paste shell commands.

use salver_core::ModelInfo;

/// Examples longer than this are put into a file rather than into the command.
const LONGEST: usize = 2000;

/// Returns a command that asks for a prediction with a valid example for exactly this model.
pub(crate) fn predict(base: &str, info: &ModelInfo) -> String {
    let example = salver_protocol::plain::example(info).to_string();
    let url = format!("{base}/models/{}/predict", info.name);
    if example.len() > LONGEST {
        return format!("curl {url} -d @input.json   # an example: curl {base}/models/{}", info.name);
    }
    format!("curl {url} -d {}", quote(&example))
}

/// Quotes for a POSIX shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_survive_a_shell() {
        assert_eq!(quote(r#"{"a":"it's"}"#), r#"'{"a":"it'\''s"}'"#);
    }
}
