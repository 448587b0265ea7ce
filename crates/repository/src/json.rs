//! Reads a message of a schema from JSON, as load requests carry it.
//!
//! Follows the JSON form of protobuf where clients rely on it: names as in the schema or in camel
//! case, whole numbers also as text, enums by name or number, `null` for a field that is left out.
//! An unknown field is an error. The schemas do not nest in themselves, so they bound the depth.
//! Errors name the field by its path.

use std::fmt;

use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use salver_core::{Error, Result};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_json::map::Entry;

use crate::schema::Described;

/// Reads `text` as a message of type `M`.
///
/// # Errors
/// `InvalidInput` for what is not JSON, naming the place, and for what does not fit the schema,
/// naming the field.
pub(crate) fn parse<M: Described>(text: &str) -> Result<M> {
    let Unrepeated(json) =
        serde_json::from_str(text).map_err(|error| Error::invalid_input(format!("not JSON: {error}")))?;
    let message = message(&M::schema(), &json).map_err(Misfit::into_error)?;
    message.transcode_to().map_err(|error| Error::invalid_input("does not fit its schema").with_source(error))
}

/// A value none of whose objects has a key twice.
struct Unrepeated(Json);

impl<'de> Deserialize<'de> for Unrepeated {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(UnrepeatedVisitor).map(Self)
    }
}

struct UnrepeatedVisitor;

impl<'de> Visitor<'de> for UnrepeatedVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(Unrepeated(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members = serde_json::Map::new();
        while let Some((key, Unrepeated(value))) = entries.next_entry::<String, _>()? {
            match members.entry(key) {
                Entry::Vacant(entry) => entry.insert(value),
                Entry::Occupied(entry) => {
                    let shown: String = entry.key().chars().take(64).flat_map(char::escape_debug).collect();
                    return Err(de::Error::custom(format_args!("'{shown}' is given twice")));
                }
            };
        }
        Ok(members.into())
    }
}

/// A value that does not fit, and the path of its field.
struct Misfit {
    path: String,
    message: String,
}

type Fitted<T> = Result<T, Misfit>;

impl Misfit {
    fn within(self, step: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        Self { path: format!("{step}{dot}{}", self.path), message: self.message }
    }

    fn into_error(self) -> Error {
        let separator = if self.path.is_empty() { "" } else { ": " };
        Error::invalid_input(format!("{}{separator}{}", self.path, self.message))
    }
}

fn misfit<T>(message: impl Into<String>) -> Fitted<T> {
    Err(Misfit { path: String::new(), message: message.into() })
}

fn expected<T>(what: &str, found: &Json) -> Fitted<T> {
    let found = match found {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number that does not fit",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    };
    misfit(format!("expected {what}, got {found}"))
}

fn message(schema: &MessageDescriptor, json: &Json) -> Fitted<DynamicMessage> {
    let Json::Object(members) = json else {
        return expected("an object", json);
    };
    let mut message = DynamicMessage::new(schema.clone());
    for (name, json) in members {
        let Some(field) = schema.get_field_by_name(name).or_else(|| schema.get_field_by_json_name(name)) else {
            let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
            return misfit(format!("unknown field '{shown}' in {}", schema.name()));
        };
        if json.is_null() {
            continue;
        }
        if message.has_field(&field) && field.supports_presence() {
            return misfit(format!("'{}' is given twice", field.name()));
        }
        if let Some(rival) = rival(&message, &field) {
            return misfit(format!("'{rival}' and '{}' exclude each other", field.name()));
        }
        let value = value(&field, json).map_err(|misfit| misfit.within(field.name()))?;
        message.set_field(&field, value);
    }
    Ok(message)
}

/// The field of the same `oneof` that is set already.
fn rival(message: &DynamicMessage, field: &FieldDescriptor) -> Option<String> {
    let rivals = field.containing_oneof()?;
    rivals.fields().find(|other| message.has_field(other)).map(|other| other.name().to_owned())
}

fn value(field: &FieldDescriptor, json: &Json) -> Fitted<Value> {
    if field.is_map() {
        return map(field, json);
    }
    if !field.is_list() {
        return single(&field.kind(), json);
    }
    let Json::Array(items) = json else {
        return expected("a list", json);
    };
    let item = |(idx, item)| single(&field.kind(), item).map_err(|misfit| misfit.within(&format!("[{idx}]")));
    Ok(Value::List(items.iter().enumerate().map(item).collect::<Fitted<_>>()?))
}

fn map(field: &FieldDescriptor, json: &Json) -> Fitted<Value> {
    let (Json::Object(members), Kind::Message(entry)) = (json, field.kind()) else {
        return expected("an object", json);
    };
    let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
    let one = |(key, value): (&String, &Json)| {
        let shown: String = key.chars().take(64).flat_map(char::escape_debug).collect();
        let within = |misfit: Misfit| misfit.within(&format!("[{shown}]"));
        let Some(found) = map_key(&key_kind, key) else {
            return misfit("the key is not of the type that the field takes").map_err(within);
        };
        Ok((found, single(&value_kind, value).map_err(within)?))
    };
    Ok(Value::Map(members.iter().map(one).collect::<Fitted<_>>()?))
}

fn map_key(kind: &Kind, key: &str) -> Option<MapKey> {
    Some(match kind {
        Kind::String => MapKey::String(key.to_owned()),
        Kind::Bool => MapKey::Bool(key.parse().ok()?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(key.parse().ok()?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(key.parse().ok()?),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(key.parse().ok()?),
        Kind::Uint64 | Kind::Fixed64 => MapKey::U64(key.parse().ok()?),
        Kind::Double | Kind::Float | Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => return None,
    })
}

fn single(kind: &Kind, json: &Json) -> Fitted<Value> {
    match kind {
        Kind::Message(schema) => message(schema, json).map(Value::Message),
        Kind::Enum(schema) => enumeration(schema, json),
        Kind::Bool => match json {
            Json::Bool(value) => Ok(Value::Bool(*value)),
            other => expected("a boolean", other),
        },
        Kind::String => match json {
            Json::String(text) => Ok(Value::String(text.clone())),
            other => expected("a string", other),
        },
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => whole(json, "a whole number of 32 bits").map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => whole(json, "a whole number of 64 bits").map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => whole(json, "a whole number from 0, of 32 bits").map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => whole(json, "a whole number from 0, of 64 bits").map(Value::U64),
        Kind::Float => number(json).map(|value| Value::F32(value as f32)),
        Kind::Double => number(json).map(Value::F64),
        // Neither schema has any.
        Kind::Bytes => expected("nothing of this type", json),
    }
}

fn enumeration(schema: &EnumDescriptor, json: &Json) -> Fitted<Value> {
    let found = match json {
        Json::String(name) => schema.get_value_by_name(name),
        Json::Number(number) => {
            let number = number.as_i64().and_then(|number| i32::try_from(number).ok());
            number.and_then(|number| schema.get_value(number))
        }
        other => return expected("a name", other),
    };
    match found {
        Some(value) => Ok(Value::EnumNumber(value.number())),
        None => misfit(format!("{json} is not one of {}", schema.name())),
    }
}

/// Writers of 64-bit numbers put them into text where JSON's own lose digits.
fn whole<T: TryFrom<i128>>(json: &Json, what: &str) -> Fitted<T> {
    let number = match json {
        Json::Number(number) => number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)),
        Json::String(text) => text.parse::<i64>().map(i128::from).or_else(|_| text.parse::<u64>().map(i128::from)).ok(),
        _ => None,
    };
    number.and_then(|number| T::try_from(number).ok()).map_or_else(|| expected(what, json), Ok)
}

fn number(json: &Json) -> Fitted<f64> {
    let number = match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.parse().ok(),
        _ => None,
    };
    number.map_or_else(|| expected("a number", json), Ok)
}

#[cfg(test)]
mod tests;
