//! Triton's trace and log settings, as both forms of the Open Inference Protocol know them.
//!
//! Says what the settings are, which values they take and what a request changes. What they do is
//! the server's business.

use salver_core::{Error, Result};

use crate::json::read::clip;
use crate::oip;

/// What of a request is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceLevels {
    /// Where its time went.
    pub timestamps: bool,
    /// Name, type and shape of its tensors, never their content.
    pub tensors: bool,
}

impl TraceLevels {
    /// Reads the names of levels. `MIN` and `MAX` are old names of `TIMESTAMPS`; no name is `OFF`.
    ///
    /// # Errors
    /// `InvalidInput` for another name, and for `OFF` beside others.
    pub fn parse<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Self> {
        let (mut levels, mut is_off) = (Self::default(), false);
        for name in names {
            match name {
                "OFF" => is_off = true,
                "TIMESTAMPS" | "MIN" | "MAX" => levels.timestamps = true,
                "TENSORS" => levels.tensors = true,
                other => {
                    return Err(Error::invalid_input(format!(
                        "'trace_level' has '{}', which is not one of OFF, TIMESTAMPS and TENSORS",
                        clip(other)
                    )));
                }
            }
        }
        if is_off && levels.is_on() {
            return Err(Error::invalid_input("'trace_level' has OFF beside other levels; give OFF alone"));
        }
        Ok(levels)
    }

    /// Whether anything is traced.
    pub fn is_on(self) -> bool {
        self.timestamps || self.tensors
    }

    /// Returns the names of the levels, `OFF` where there is none.
    pub fn names(self) -> Vec<&'static str> {
        let on = [("TIMESTAMPS", self.timestamps), ("TENSORS", self.tensors), ("OFF", !self.is_on())];
        on.into_iter().filter_map(|(name, is_on)| is_on.then_some(name)).collect()
    }
}

/// The trace settings of the server or of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceSettings {
    /// What of a request is traced.
    pub levels: TraceLevels,
    /// Each request of this number is traced; 0: none.
    pub rate: u64,
    /// How many more are traced; -1: any number.
    pub count: i64,
    /// How many traces Triton writes into one file. All go to the log here, each when it ends.
    pub log_frequency: u64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { levels: TraceLevels::default(), rate: 1000, count: -1, log_frequency: 0 }
    }
}

impl TraceSettings {
    /// Returns the settings as text; all but the first have one value.
    pub(crate) fn texts(&self) -> [(&'static str, Vec<String>); 6] {
        [
            ("trace_level", self.levels.names().into_iter().map(str::to_owned).collect()),
            ("trace_rate", vec![self.rate.to_string()]),
            ("trace_count", vec![self.count.to_string()]),
            ("log_frequency", vec![self.log_frequency.to_string()]),
            ("trace_file", vec![String::new()]),
            ("trace_mode", vec![TRACE_MODE.to_owned()]),
        ]
    }
}

/// The only mode there is.
const TRACE_MODE: &str = "triton";

/// What a request says of one setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// Nothing.
    #[default]
    Keep,
    /// Back to the value of the server, or to the one that it started with.
    Clear,
    /// This value from now on.
    Set(T),
}

/// What a request changes of the trace settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceUpdate {
    /// What is traced.
    pub levels: Change<TraceLevels>,
    /// How rarely.
    pub rate: Change<u64>,
    /// How often at most.
    pub count: Change<i64>,
    /// How many to a file.
    pub log_frequency: Change<u64>,
}

impl TraceUpdate {
    /// Reads one setting; no values clear it. A name that is unknown is passed over, as in Triton.
    ///
    /// # Errors
    /// `InvalidInput` for a value of the wrong form, `Unsupported` for another file or mode.
    pub(crate) fn read(&mut self, name: &str, values: Option<&[&str]>) -> Result<()> {
        let single = || match values {
            None | Some([]) => Ok(None),
            Some([value]) => Ok(Some(*value)),
            Some(_) => Err(Error::invalid_input(format!("'{name}' takes one value"))),
        };
        match name {
            "trace_level" => {
                self.levels = match values {
                    None => Change::Clear,
                    Some(names) => Change::Set(TraceLevels::parse(names.iter().copied())?),
                };
            }
            "trace_rate" => self.rate = number(name, single()?, 0)?,
            "trace_count" => self.count = number(name, single()?, -1)?,
            "log_frequency" => self.log_frequency = number(name, single()?, 0)?,
            "trace_file" => refuse_file(name, single()?.unwrap_or_default())?,
            "trace_mode" => match single()? {
                None | Some(TRACE_MODE) => {}
                Some(_) => return Err(oip::not_offered("'trace_mode'", "another mode than 'triton'")),
            },
            _ => {}
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr + PartialOrd>(name: &str, text: Option<&str>, least: T) -> Result<Change<T>>
where
    T: std::fmt::Display,
{
    let Some(text) = text else {
        return Ok(Change::Clear);
    };
    match text.parse::<T>() {
        Ok(value) if value >= least => Ok(Change::Set(value)),
        _ => Err(Error::invalid_input(format!(
            "'{name}' must be a whole number from {least} that fits 64 bits, got '{}'",
            clip(text)
        ))),
    }
}

/// Files are chosen by whoever starts the server, never over the network.
fn refuse_file(name: &str, path: &str) -> Result<()> {
    match path {
        "" => Ok(()),
        _ => Err(oip::not_offered(&format!("'{name}'"), "writing to a file")),
    }
}

/// How times are written in the log, as Triton's clients name it. Every line has ISO 8601 here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// The server's own.
    #[default]
    Default,
    /// ISO 8601.
    Iso8601,
}

impl LogFormat {
    /// Returns the name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Iso8601 => "ISO8601",
        }
    }
}

/// What the server logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Lines of the level INFO.
    pub info: bool,
    /// Lines of the level WARN.
    pub warning: bool,
    /// Lines of the level ERROR.
    pub error: bool,
    /// 1 adds lines of the level DEBUG, from 2 on those of TRACE too.
    pub verbose_level: u32,
    /// How times are written.
    pub format: LogFormat,
}

/// What a request changes of the log settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogUpdate {
    /// Lines of the level INFO.
    pub info: Option<bool>,
    /// Lines of the level WARN.
    pub warning: Option<bool>,
    /// Lines of the level ERROR.
    pub error: Option<bool>,
    /// How verbose.
    pub verbose_level: Option<u32>,
    /// How times are written.
    pub format: Option<LogFormat>,
}

/// The value of one log setting, as both forms carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogValue<'v> {
    Flag(bool),
    Number(u32),
    Text(&'v str),
    /// Anything else.
    Other,
}

impl LogUpdate {
    /// Reads one setting. A name that is unknown is passed over, as in Triton.
    ///
    /// # Errors
    /// `InvalidInput` for a value of the wrong form, `Unsupported` for another file.
    pub(crate) fn read(&mut self, name: &str, value: LogValue<'_>) -> Result<()> {
        let wrong = |expected: &str| Err(Error::invalid_input(format!("'{name}' must be {expected}")));
        match (name, value) {
            ("log_info", LogValue::Flag(is_on)) => self.info = Some(is_on),
            ("log_warning", LogValue::Flag(is_on)) => self.warning = Some(is_on),
            ("log_error", LogValue::Flag(is_on)) => self.error = Some(is_on),
            ("log_info" | "log_warning" | "log_error", _) => return wrong("a boolean"),
            ("log_verbose_level", LogValue::Number(level)) => self.verbose_level = Some(level),
            ("log_verbose_level", _) => return wrong("a whole number from 0 that fits 32 bits"),
            ("log_format", LogValue::Text("default")) => self.format = Some(LogFormat::Default),
            ("log_format", LogValue::Text("ISO8601")) => self.format = Some(LogFormat::Iso8601),
            ("log_format", _) => return wrong("'default' or 'ISO8601'"),
            ("log_file", LogValue::Text(path)) => refuse_file(name, path)?,
            ("log_file", _) => return wrong("a string"),
            _ => {}
        }
        Ok(())
    }
}
