//! Ready-to-paste shell commands.

use salver_core::ModelInfo;
use salver_protocol::{paths, plain};

/// Examples longer than this are put into a file rather than into the command.
const LONGEST: usize = 2000;

/// Returns a command that asks for a prediction with a valid example for exactly this model.
pub(crate) fn predict(base: &str, info: &ModelInfo) -> String {
    let example = plain::example(info).to_string();
    let description = format!("{base}/models/{}", paths::segment(&info.name));
    let url = format!("{description}/predict");
    if example.len() > LONGEST {
        return format!("curl {url} -d @input.json   # an example: curl {description}");
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
