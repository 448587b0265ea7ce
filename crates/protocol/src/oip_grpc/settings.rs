//! Triton's trace and log settings as messages.

use std::collections::BTreeMap;

use salver_core::Result;

use super::inference::{self as wire, log_settings_request, log_settings_response, trace_setting_response};
use crate::settings::{LogSettings, LogUpdate, LogValue, TraceSettings, TraceUpdate};

/// Writes trace settings.
pub fn trace_settings(settings: &TraceSettings) -> wire::TraceSettingResponse {
    let entry = |(name, value): (&str, Vec<String>)| (name.to_owned(), trace_setting_response::SettingValue { value });
    wire::TraceSettingResponse { settings: settings.texts().into_iter().map(entry).collect() }
}

/// Reads which trace settings a request changes; one without a value is cleared.
///
/// # Errors
/// `InvalidInput` for values of the wrong form, `Unsupported` for another file or mode.
pub fn decode_trace_update(message: &wire::TraceSettingRequest) -> Result<TraceUpdate> {
    let mut update = TraceUpdate::default();
    for (name, setting) in &message.settings {
        let values: Vec<&str> = setting.value.iter().map(String::as_str).collect();
        update.read(name, Some(values.as_slice()).filter(|values| !values.is_empty()))?;
    }
    Ok(update)
}

/// Writes log settings.
pub fn log_settings(settings: &LogSettings) -> wire::LogSettingsResponse {
    use log_settings_response::SettingValue;
    use log_settings_response::setting_value::ParameterChoice::{BoolParam, StringParam, Uint32Param};
    let settings = [
        ("log_file", StringParam(String::new())),
        ("log_info", BoolParam(settings.info)),
        ("log_warning", BoolParam(settings.warning)),
        ("log_error", BoolParam(settings.error)),
        ("log_verbose_level", Uint32Param(settings.verbose_level)),
        ("log_format", StringParam(settings.format.as_str().to_owned())),
    ];
    let entry = |(name, value): (&str, _)| (name.to_owned(), SettingValue { parameter_choice: Some(value) });
    wire::LogSettingsResponse { settings: settings.into_iter().map(entry).collect::<BTreeMap<_, _>>() }
}

/// Reads which log settings a request changes; one without a value stays as it is.
///
/// # Errors
/// `InvalidInput` for values of the wrong form, `Unsupported` for another file.
pub fn decode_log_update(message: &wire::LogSettingsRequest) -> Result<LogUpdate> {
    use log_settings_request::setting_value::ParameterChoice;
    let mut update = LogUpdate::default();
    for (name, setting) in &message.settings {
        let value = match &setting.parameter_choice {
            None => continue,
            Some(ParameterChoice::BoolParam(is_on)) => LogValue::Flag(*is_on),
            Some(ParameterChoice::Uint32Param(level)) => LogValue::Number(*level),
            Some(ParameterChoice::StringParam(text)) => LogValue::Text(text),
        };
        update.read(name, value)?;
    }
    Ok(update)
}

#[cfg(test)]
mod tests {
    use salver_core::ErrorKind;

    use super::wire::{log_settings_request, trace_setting_request};
    use super::*;
    use crate::settings::{Change, LogFormat, TraceLevels};

    fn trace(name: &str, values: &[&str]) -> Result<TraceUpdate> {
        let value = values.iter().map(|&value| value.to_owned()).collect();
        let settings = [(name.to_owned(), trace_setting_request::SettingValue { value })].into();
        decode_trace_update(&wire::TraceSettingRequest { settings, model_name: String::new() })
    }

    #[test]
    fn a_trace_setting_without_a_value_is_cleared() {
        assert_eq!(trace("trace_rate", &["4"]).unwrap().rate, Change::Set(4));
        assert_eq!(trace("trace_rate", &[]).unwrap().rate, Change::Clear);
        assert_eq!(trace("trace_level", &[]).unwrap().levels, Change::Clear);
        let levels = TraceLevels { timestamps: true, tensors: false };
        assert_eq!(trace("trace_level", &["TIMESTAMPS"]).unwrap().levels, Change::Set(levels));
        assert_eq!(trace("unknown", &["1", "2"]).unwrap(), TraceUpdate::default());
        for (name, values) in
            [("trace_rate", &["1", "2"][..]), ("trace_rate", &["-1"]), ("trace_count", &["x"]), ("trace_level", &["X"])]
        {
            assert_eq!(trace(name, values).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        }
        assert_eq!(trace("trace_file", &["/tmp/x"]).unwrap_err().kind(), ErrorKind::Unsupported);
        let reply = trace_settings(&TraceSettings::default());
        assert_eq!(reply.settings["trace_level"].value, ["OFF"]);
        assert_eq!(reply.settings["trace_count"].value, ["-1"]);
    }

    #[test]
    fn log_settings_have_a_type_each() {
        use log_settings_request::SettingValue;
        use log_settings_request::setting_value::ParameterChoice::{BoolParam, StringParam, Uint32Param};
        let decode = |name: &str, value| {
            let settings = [(name.to_owned(), SettingValue { parameter_choice: Some(value) })].into();
            decode_log_update(&wire::LogSettingsRequest { settings })
        };
        assert_eq!(decode("log_info", BoolParam(false)).unwrap().info, Some(false));
        assert_eq!(decode("log_verbose_level", Uint32Param(1)).unwrap().verbose_level, Some(1));
        assert_eq!(decode("log_format", StringParam("ISO8601".into())).unwrap().format, Some(LogFormat::Iso8601));
        assert_eq!(decode("log_error", Uint32Param(1)).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(decode("log_verbose_level", BoolParam(true)).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(decode("log_file", StringParam("x".into())).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
