//! What a request says of its sequence, in the reserved parameters.

use std::sync::Arc;

use salver_core::{Error, Parameter, Parameters, Result};

use super::table::{Place, SequenceId};

/// The longest id of a sequence, as in Triton.
const MAX_ID: usize = 128;

/// A request's sequence, and where in it the request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: SequenceId,
    pub(crate) place: Place,
}

impl Member {
    /// Reads the parameters of a request to the stateful model `model`.
    ///
    /// # Errors
    /// `InvalidInput` where they name no sequence.
    pub(crate) fn read(model: &str, parameters: &Parameters) -> Result<Self> {
        let place = Place { starts: flag(parameters, "sequence_start")?, ends: flag(parameters, "sequence_end")? };
        match id(parameters)? {
            Some(id) => Ok(Self { id, place }),
            None => Err(Error::invalid_input(format!(
                "inference request to model '{model}' must specify a non-zero or non-empty correlation ID \
                 (the parameter sequence_id)"
            ))),
        }
    }
}

/// Returns the sequence that a request wants to go on with, if it does.
pub(crate) fn continued(parameters: &Parameters) -> Option<SequenceId> {
    if parameters.is_empty() || !matches!(flag(parameters, "sequence_start"), Ok(false)) {
        return None;
    }
    id(parameters).ok().flatten()
}

fn flag(parameters: &Parameters, name: &str) -> Result<bool> {
    match parameters.get(name) {
        None => Ok(false),
        Some(Parameter::Bool(value)) => Ok(*value),
        Some(_) => Err(Error::invalid_input(format!("parameter '{name}' of the request must be a boolean"))),
    }
}

/// An id of 0 or an empty one is none.
fn id(parameters: &Parameters) -> Result<Option<SequenceId>> {
    let id = match parameters.get("sequence_id") {
        None => return Ok(None),
        Some(Parameter::Int(number @ 0..)) => SequenceId::Number(number.unsigned_abs()),
        Some(Parameter::Uint(number)) => SequenceId::Number(*number),
        Some(Parameter::Text(text)) if text.len() <= MAX_ID => SequenceId::Text(Arc::from(text.as_str())),
        Some(Parameter::Text(text)) => {
            let text = format!("parameter 'sequence_id' has {} bytes, at most {MAX_ID} are allowed", text.len());
            return Err(Error::invalid_input(text));
        }
        Some(_) => {
            let text = "parameter 'sequence_id' of the request must be a string or a whole number from 0";
            return Err(Error::invalid_input(text));
        }
    };
    let is_none = match &id {
        SequenceId::Number(number) => *number == 0,
        SequenceId::Text(text) => text.is_empty(),
    };
    Ok((!is_none).then_some(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parameters: &[(&str, Parameter)], expected: &str) {
        let parameters: Parameters =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let found = match Member::read("m", &parameters) {
            Ok(Member { id, place }) => {
                format!("{id}{}{}", if place.starts { " starts" } else { "" }, if place.ends { " ends" } else { "" })
            }
            Err(error) => error.message().to_owned(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_request_names_its_sequence() {
        let yes = Parameter::Bool(true);
        check(&[("sequence_id", Parameter::Int(7)), ("sequence_start", yes.clone())], "7 starts");
        check(
            &[("sequence_id", Parameter::Uint(u64::MAX)), ("sequence_end", yes.clone())],
            "18446744073709551615 ends",
        );
        check(&[("sequence_id", Parameter::Text("a".into())), ("sequence_end", Parameter::Bool(false))], "'a'");
    }

    #[test]
    fn a_request_without_a_sequence_is_refused() {
        let none = "inference request to model 'm' must specify a non-zero or non-empty correlation ID (the parameter \
                    sequence_id)";
        check(&[], none);
        check(&[("sequence_id", Parameter::Int(0))], none);
        check(&[("sequence_id", Parameter::Text(String::new()))], none);
        check(
            &[("sequence_id", Parameter::Text("a".repeat(129)))],
            "parameter 'sequence_id' has 129 bytes, at most 128 are allowed",
        );
        let wrong = "parameter 'sequence_id' of the request must be a string or a whole number from 0";
        check(&[("sequence_id", Parameter::Int(-1))], wrong);
        check(&[("sequence_id", Parameter::Float(1.0))], wrong);
    }
}
