//! ONNX Runtime's errors in our terms: which kind, and the part of the text that helps.

use std::path::Path;

use ort::ErrorCode;
use salver_core::{Error, ErrorKind};

use crate::device::Device;

/// The longest message that is passed on, in characters.
const MAX_CHARS: usize = 400;

/// Converts an error of a run.
pub(crate) fn of_run(error: &ort::Error) -> Error {
    let kind = match error.code() {
        ErrorCode::InvalidArgument => ErrorKind::InvalidInput,
        _ => ErrorKind::Engine,
    };
    Error::new(kind, trim(error.message()))
}

/// Converts an error of loading `path`.
pub(crate) fn of_load<R>(error: &ort::Error<R>, path: &Path) -> Error {
    Error::new(load_kind(error.code(), error.message()), trim(error.message())).context(path.display())
}

/// Converts a device's refusal. What a provider needs in turn is looked for by the system's loader,
/// whose words name it.
pub(crate) fn of_device<R>(error: &ort::Error<R>, device: Device) -> Error {
    let refusal = trim(strip_status(error.message()));
    let needs = device.libraries();
    Error::unsupported(format!("device '{device}': {refusal}; {needs} must lie where the system looks for libraries"))
}

/// Leaves out `onnxruntime::Provider& … [ONNXRuntimeError] : 1 : FAIL : `.
fn strip_status(message: &str) -> &str {
    let status = message.split_once("[ONNXRuntimeError] : ").map(|(_, status)| status);
    status.and_then(|status| status.splitn(3, " : ").nth(2)).unwrap_or(message)
}

fn load_kind(code: ErrorCode, message: &str) -> ErrorKind {
    // The code for an unknown operator is the same as for a graph that makes no sense.
    let unknown = [
        "No Op registered",
        "is not a registered function/op",
        "Unsupported model IR version",
        "opset",
        "is not currently registered or supported",
    ];
    match code {
        ErrorCode::NotImplemented => ErrorKind::Unsupported,
        _ if unknown.iter().any(|text| message.contains(text)) => ErrorKind::Unsupported,
        ErrorCode::NoSuchFile
        | ErrorCode::NoModel
        | ErrorCode::InvalidProtobuf
        | ErrorCode::InvalidGraph
        | ErrorCode::InvalidArgument
        | ErrorCode::GenericFailure => ErrorKind::InvalidInput,
        _ => ErrorKind::Engine,
    }
}

/// Keeps what was wrong and leaves out where in ONNX Runtime's own sources it was noticed.
fn trim(message: &str) -> String {
    let kept = message.split_once("Status Message: ").map_or(message, |(_, status)| status);
    // The path is put before the message anyway.
    let load = kept.strip_prefix("Load model from ").and_then(|rest| rest.split_once(" failed:"));
    let kept = load.map_or(kept, |(_path, reason)| reason);
    let words: Vec<&str> = kept.split_whitespace().filter(|word| !word.contains("onnxruntime_src")).collect();
    let text = words.join(" ");
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_what_was_wrong() {
        let gather = "Non-zero status code returned while running Gather node. Name:'' Status Message: \
                      indices element out of data bounds, idx=10 must be within the inclusive range [-3,2]";
        assert_eq!(
            trim(gather),
            "indices element out of data bounds, idx=10 must be within the inclusive range [-3,2]"
        );
        let located = "/onnxruntime_src/onnxruntime/core/graph/model.cc:167 Unsupported model IR version: 99";
        assert_eq!(trim(located), "Unsupported model IR version: 99");
        assert_eq!(trim("Load model from /m/a.onnx failed:Protobuf parsing failed."), "Protobuf parsing failed.");
        let long = trim(&"é".repeat(1000));
        assert_eq!(long.chars().count(), MAX_CHARS + 1);
    }

    #[test]
    fn a_provider_that_lacks_a_library_is_told_in_the_loaders_words() {
        let words = "Failed to load library /o/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: \
                     cannot open shared object file: No such file or directory";
        let status = format!("onnxruntime::Provider& Get() [ONNXRuntimeError] : 1 : FAIL : {words}");
        assert_eq!(strip_status(&status), words);
        assert_eq!(strip_status("plain : words : here : too"), "plain : words : here : too");
    }

    #[test]
    fn unknown_operators_are_told_from_broken_files() {
        let kind = |code, text| load_kind(code, text);
        assert_eq!(kind(ErrorCode::InvalidProtobuf, "Protobuf parsing failed."), ErrorKind::InvalidInput);
        assert_eq!(kind(ErrorCode::InvalidGraph, "No Op registered for Foo"), ErrorKind::Unsupported);
        assert_eq!(kind(ErrorCode::NotImplemented, "Could not find an implementation"), ErrorKind::Unsupported);
        assert_eq!(kind(ErrorCode::RuntimeException, "std::bad_alloc"), ErrorKind::Engine);
    }
}
