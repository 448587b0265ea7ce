//! Models that look features up, as their files say.

use std::sync::Arc;
use std::time::Duration;

use crate::{Constant, DataType};

/// Which row of which store answers a key, and what becomes of its fields.
#[derive(Debug, Clone, PartialEq)]
pub struct FeaturesSpec {
    /// The store's name among those of the server.
    pub store: Arc<str>,
    /// The input that holds keys.
    pub key: Arc<str>,
    /// What a key is.
    pub key_type: KeyType,
    /// Where the row of a key lies.
    pub rows: FeatureRows,
    /// What a key without a row means, and a row without a field that has no default.
    pub missing: MissingRow,
    /// The output that holds the numbers of all features, in their order; none: each has its own.
    pub joined: Option<Arc<str>>,
    /// How long the store may take for one request.
    pub timeout: Duration,
    /// The most requests that may wait for the store.
    pub max_in_flight: usize,
    /// The features, at least one.
    pub features: Vec<FeatureSpec>,
}

impl FeaturesSpec {
    /// The BOOL output that says for each key whether there is a row.
    pub const FOUND: &str = "found";
}

/// What a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// A whole number.
    Int64,
    /// Text.
    Text,
}

/// Where the row of a key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeatureRows {
    /// In a hash of Redis, whose name is made of the key and what stands around it.
    Hash {
        /// What stands before the key.
        before: String,
        /// What stands after it.
        after: String,
    },
    /// In a table of PostgreSQL. All names are letters, digits and `_`, no digit first.
    Table {
        /// The table's schema; none: found by the database's search path.
        schema: Option<String>,
        /// The table.
        table: String,
        /// Its column that holds keys.
        key_column: String,
    },
}

/// What a key without a row means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingRow {
    /// Every feature has its default.
    Default,
    /// `found` is false; the features are zero or empty and mean nothing.
    Skip,
    /// The request fails.
    Error,
}

/// One feature.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSpec {
    /// Its name: that of its output, where it has one of its own.
    pub name: Arc<str>,
    /// The field of the hash, or the column of the table.
    pub field: String,
    /// FP32, FP64, INT32, INT64, BOOL, or BYTES for text.
    pub dtype: DataType,
    /// Values in one row, from 1.
    pub size: usize,
    /// Whether the field holds the values' bytes, little-endian, instead of their text.
    pub is_packed: bool,
    /// As many values as `size` says, of the kind that `dtype` takes: used where the field is missing.
    pub default: Option<Vec<Constant>>,
}
