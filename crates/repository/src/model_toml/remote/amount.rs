//! Prices: decimal numbers that are kept exactly.

use salver_core::Cost;
use serde::Deserialize;
use toml::Spanned;

use crate::model_toml::fault::Fault;

/// An amount as it is written.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "must be a decimal number such as 0.00015, or such a number as text")]
pub(super) enum Amount {
    /// Digit by digit.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Its shortest decimal form is what was written, up to 15 digits.
    Float(f64),
}

/// Reads an amount.
pub(super) fn read(place: &Spanned<Amount>) -> Result<Cost, Fault> {
    let text = match place.get_ref() {
        Amount::Text(text) => text.clone(),
        Amount::Int(number) => number.to_string(),
        Amount::Float(number) => number.to_string(),
    };
    text.parse().map_err(|error| Fault::new(place, &error))
}
