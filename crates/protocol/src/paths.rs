//! How paths of URLs name a model, in every protocol over HTTP.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use salver_core::{ModelRef, Selector};

/// What stays as it is in a segment of a path. Names of models may hold letters beyond ASCII, and `+`,
/// which some take for a blank.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'@');

/// Returns `text` as one segment of a path.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Returns `NAME`, `NAME/versions/V` or `NAME@ALIAS`, for a path that goes on with what is asked of
/// the model.
pub fn model(model: &ModelRef) -> String {
    let name = segment(&model.name);
    match &model.selector {
        Selector::Latest => name,
        Selector::Version(version) => format!("{name}/versions/{version}"),
        Selector::Label(label) => format!("{name}@{}", segment(label)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_named_in_paths_without_surprises() {
        let path = |text: &str| model(&text.parse().unwrap());
        assert_eq!(path("iris"), "iris");
        assert_eq!(path("iris/3"), "iris/versions/3");
        assert_eq!(path("iris@stable"), "iris@stable");
        assert_eq!(path("größe"), "gr%C3%B6%C3%9Fe");
        assert_eq!(segment("a/b?c#d"), "a%2Fb%3Fc%23d");
    }
}
