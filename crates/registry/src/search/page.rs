//! Which part of a long answer is asked for, and the token of the next part.
//!
//! A token is the base64 of `{"offset": N}`, as MLflow's is; callers should not look into it. It
//! names a place, not a state: rows that come and go between two pages shift the second.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use salver_core::{Error, Result};

use super::Subject;

/// The largest offset: what JSON readers that know doubles only still read exactly.
const MAX_OFFSET: u64 = 1 << 53;
/// No token of ours is longer.
const MAX_TOKEN_BYTES: usize = 64;

/// How many rows a page may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimits {
    /// The rows of a page where none are asked for; without it the caller must say.
    pub default: Option<u32>,
    /// The most rows that may be asked for.
    pub most: u32,
}

impl PageLimits {
    /// The limits of a metric's history.
    pub const METRIC_HISTORY: Self = Self { default: Some(25_000), most: 25_000 };

    /// Returns the limits of a search.
    pub const fn of(subject: Subject) -> Self {
        match subject {
            Subject::Runs => Self { default: Some(1_000), most: 50_000 },
            Subject::Experiments => Self { default: None, most: 50_000 },
            Subject::RegisteredModels => Self { default: Some(100), most: 1_000 },
            Subject::ModelVersions => Self { default: Some(10_000), most: 200_000 },
            // MLflow bounds this one nowhere; the bound of runs does for it.
            Subject::LoggedModels => Self { default: Some(50), most: 50_000 },
        }
    }

    fn check(self, max_results: Option<i64>) -> Result<u32> {
        let rows = max_results.or(self.default.map(i64::from));
        let fits = rows.and_then(|rows| u32::try_from(rows).ok()).filter(|rows| (1..=self.most).contains(rows));
        fits.ok_or_else(|| {
            let found = rows.map_or_else(|| "nothing".to_owned(), |rows| rows.to_string());
            Error::invalid_input(format!(
                "Invalid value for parameter 'max_results': got {found}, expected a number from 1 to {}",
                self.most
            ))
        })
    }
}

/// A part of a sorted answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    limit: u32,
    offset: u64,
}

impl Page {
    /// Checks the two arguments of a search; an empty token is none.
    ///
    /// # Errors
    /// `InvalidInput` for a number out of bounds, or a token that no answer carried.
    pub fn new(limits: PageLimits, max_results: Option<i64>, token: Option<&str>) -> Result<Self> {
        let limit = limits.check(max_results)?;
        let offset = match token {
            None | Some("") => 0,
            Some(token) => decode(token)?,
        };
        Ok(Self { limit, offset })
    }

    /// Returns the most rows of the page.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Returns how many rows come before the page.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Cuts `rows`, read from the offset on, to the page; with the token of the next one if any were left over.
    ///
    /// Read `limit + 1` rows, so that the last page is known for what it is.
    pub fn cut<T>(&self, mut rows: Vec<T>) -> (Vec<T>, Option<String>) {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        (rows, more.then(|| encode(self.offset.saturating_add(u64::from(self.limit)))))
    }
}

fn encode(offset: u64) -> String {
    STANDARD.encode(format!(r#"{{"offset": {offset}}}"#))
}

fn decode(token: &str) -> Result<u64> {
    let bytes = (token.len() <= MAX_TOKEN_BYTES).then(|| STANDARD.decode(token).ok()).flatten();
    let value = bytes.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let offset = value.and_then(|value| value.get("offset")?.as_u64()).filter(|offset| *offset <= MAX_OFFSET);
    offset.ok_or_else(|| {
        Error::invalid_input("Invalid page token: expected the next_page_token of an earlier answer, as it was")
    })
}

#[cfg(test)]
mod tests;
