//! The bodies of the routes of the system shared memory extension.

use jiter::JsonValue;
use salver_core::{Error, Result};
use serde_json::json;

use crate::json::read;
use crate::shared_memory::{Region, check_region_name};
use crate::{Limits, Reply};

/// The deepest nesting of a body.
const DEPTH: usize = 16;

/// Reads the body that registers the region called `name`.
///
/// # Errors
/// `InvalidInput` for bad JSON, a name that is none, and members that are missing or of the wrong type.
pub fn decode_register(name: String, body: &[u8], limits: &Limits) -> Result<Region> {
    check_region_name(&name, limits)?;
    let value = read::parse(body, DEPTH)?;
    let members = read::object(&value, "request")?;
    let missing = |member: &str| Error::invalid_input(format!("request has no '{member}'"));
    let key = match read::member(members, "key") {
        Some(JsonValue::Str(key)) => key.to_string(),
        Some(other) => return Err(Error::invalid_input(format!("'key' must be a string, got {}", read::kind(other)))),
        None => return Err(missing("key")),
    };
    let byte_size = read::member(members, "byte_size").ok_or_else(|| missing("byte_size"))?;
    Ok(Region {
        name,
        key,
        offset: read::member(members, "offset").map_or(Ok(0), |value| bytes(value, "offset"))?,
        byte_size: bytes(byte_size, "byte_size")?,
    })
}

fn bytes(value: &JsonValue<'_>, member: &str) -> Result<u64> {
    let number = match value {
        JsonValue::Int(number) => u64::try_from(*number).ok(),
        JsonValue::BigInt(number) => u64::try_from(number.clone()).ok(),
        _ => None,
    };
    number
        .ok_or_else(|| Error::invalid_input(format!("'{member}' must be a whole number of at most 64 bits, from 0 on")))
}

/// Writes the list of regions.
pub fn region_status(regions: &[Region]) -> Reply {
    let one = |region: &Region| json!({ "name": region.name, "key": region.key, "offset": region.offset, "byte_size": region.byte_size });
    Reply::json_value(200, &regions.iter().map(one).collect::<Vec<_>>())
}
