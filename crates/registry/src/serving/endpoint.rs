//! Names under which versions are served that are chosen by number, stage or alias.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use salver_core::{Error, ModelName, Result};

use crate::names::VersionRef;

/// Serves what `target` names under `name`, in place of the production version of a registered
/// model of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What requests ask for.
    pub name: ModelName,
    /// What answers them.
    pub target: VersionRef,
}

impl Endpoint {
    /// Checks that no two endpoints have one name.
    ///
    /// # Errors
    /// `InvalidInput` with the name and both targets.
    pub fn check(endpoints: &[Self]) -> Result<()> {
        let mut names = BTreeSet::new();
        let Some(second) = endpoints.iter().find(|endpoint| !names.insert(&endpoint.name)) else {
            return Ok(());
        };
        let of_name = endpoints.iter().filter(|endpoint| endpoint.name == second.name);
        let targets: Vec<String> = of_name.map(|endpoint| endpoint.target.to_string()).collect();
        let (name, targets) = (&second.name, targets.join(" and "));
        Err(Error::invalid_input(format!("endpoint '{name}' is to serve {targets}; give each a name of its own")))
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((name, target)) = text.split_once('=') else {
            return Err(Error::invalid_input(format!(
                "'{}': expected NAME=MODEL, such as iris-next=models:/iris/Staging",
                text.escape_debug()
            )));
        };
        let name = ModelName::new(name).map_err(|error| error.context("the endpoint's name"))?;
        Ok(Self { name, target: target.parse()? })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.target)
    }
}
