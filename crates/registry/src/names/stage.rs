//! The four stages of a model version.

use std::fmt;
use std::str::FromStr;

use salver_core::{Error, Result};

/// Where a model version stands on its way into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Stage {
    /// In none of the others; every version begins here.
    #[default]
    None,
    /// On trial.
    Staging,
    /// In use.
    Production,
    /// Out of use.
    Archived,
}

impl Stage {
    /// All stages, in the order in which MLflow lists them.
    pub const ALL: [Self; 4] = [Self::None, Self::Staging, Self::Production, Self::Archived];

    /// Returns the canonical spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Staging => "Staging",
            Self::Production => "Production",
            Self::Archived => "Archived",
        }
    }
}

impl FromStr for Stage {
    type Err = Error;

    /// Reads a stage in any case.
    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|stage| stage.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let shown: String = super::cut(text, 64).chars().flat_map(char::escape_debug).collect();
            let message =
                format!("Invalid model version stage '{shown}', expected None, Staging, Production or Archived");
            Error::invalid_input(message)
        })
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
