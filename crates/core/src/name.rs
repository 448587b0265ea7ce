//! Names of models, and references to one version of them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::{Error, Result};

/// A model's name: letters, digits and `_ - . +`, at most 128 bytes, starting with a letter,
/// digit or `_`, without `..`.
///
/// The check keeps names from meaning anything to a file system, a shell or a log.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// The most bytes that a name may have.
    pub const MAX_LEN: usize = 128;

    /// Checks and keeps a name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] saying which rule the name breaks.
    pub fn new(name: &str) -> Result<Self> {
        let refuse = |rule: &str| {
            let shown: String = name.chars().take(64).flat_map(char::escape_default).collect();
            Err(Error::invalid_input(format!("model name '{shown}' {rule}")))
        };
        let Some(first) = name.chars().next() else {
            return refuse("is empty");
        };
        if name.len() > Self::MAX_LEN {
            return refuse("is longer than 128 bytes");
        }
        if !(first.is_alphanumeric() || first == '_') {
            return refuse("must start with a letter, a digit or '_'");
        }
        if name.contains("..") {
            return refuse("must not contain '..'");
        }
        if !name.chars().all(|c| c.is_alphanumeric() || "_-.+".contains(c)) {
            return refuse("may hold letters, digits and '_', '-', '.', '+' only");
        }
        Ok(Self(name.into()))
    }

    /// Returns the shared text.
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl Deref for ModelName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ModelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// Which version of a model is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The highest version that serves.
    Latest,
    /// Exactly this version.
    Version(u64),
    /// The version that carries this label or alias.
    Label(String),
}

/// A model and which version of it: `NAME`, `NAME/VERSION` or `NAME@ALIAS`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// The model.
    pub name: ModelName,
    /// Which version.
    pub selector: Selector,
}

impl ModelRef {
    /// Refers to the highest serving version of `name`.
    pub fn latest(name: ModelName) -> Self {
        Self { name, selector: Selector::Latest }
    }

    /// Refers to exactly one version.
    pub fn version(name: ModelName, version: u64) -> Self {
        Self { name, selector: Selector::Version(version) }
    }
}

impl std::str::FromStr for ModelRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((name, alias)) = text.split_once('@') {
            let alias = ModelName::new(alias).map_err(|error| error.context("alias"))?;
            return Ok(Self { name: ModelName::new(name)?, selector: Selector::Label(alias.to_string()) });
        }
        let Some((name, version)) = text.split_once('/') else {
            return Ok(Self::latest(ModelName::new(text)?));
        };
        let number = version.parse().map_err(|_| {
            Error::invalid_input(format!("model version '{version}' in '{text}' is not a whole number"))
        })?;
        Ok(Self::version(ModelName::new(name)?, number))
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Latest => write!(f, "{}", self.name),
            Selector::Version(version) => write!(f, "{}/{version}", self.name),
            Selector::Label(label) => write!(f, "{}@{label}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_mean_a_path_or_an_option_are_refused() {
        for name in ["", ".", "..", "a/b", "a\\b", "-rf", "a..b", "a\0", "a b", "a\n", "@a", "a@b", ".hidden", "a:b"] {
            assert!(ModelName::new(name).is_err(), "{name:?}");
        }
        for name in ["iris", "resnet-50", "v1.2+cpu", "_x", "größe", "7"] {
            assert!(ModelName::new(name).is_ok(), "{name:?}");
        }
        assert!(ModelName::new(&"a".repeat(128)).is_ok());
        assert!(ModelName::new(&"a".repeat(129)).is_err());
    }

    #[test]
    fn references_read_back_as_written() {
        for text in ["iris", "iris/3", "iris@stable"] {
            assert_eq!(text.parse::<ModelRef>().unwrap().to_string(), text);
        }
        for text in ["iris/x", "iris/-1", "iris/1/2", "@x", "iris@", ""] {
            assert!(text.parse::<ModelRef>().is_err(), "{text:?}");
        }
    }
}
