//! What is asked, as a digest: two requests have the same one exactly if the model must answer
//! them alike.
//!
//! It is made of the parsed tensors, so the protocol, the order of inputs and the way in which
//! numbers were written do not matter. Every variable part has its length before it, so no two
//! requests can run into each other.

use std::sync::Arc;

use salver_core::{InferRequest, Parameter, Parameters, Signature, Tensor};

/// The digest of a request's inputs and wanted outputs.
pub(crate) type Question = [u8; 32];

/// Digests a request; none if it names inputs or outputs that the model does not have, or one
/// twice. Types and shapes are part of the digest and need no check here: only good answers are
/// kept, so no bad request ever finds one.
pub(crate) fn question(wire: &Signature, request: &InferRequest, with: CountedParameters) -> Option<Question> {
    let mut digest = Digest::default();
    // Whose question it is belongs here as soon as requests have a tenant.
    if with == CountedParameters::All {
        parameters(&mut digest, &request.parameters);
    }
    outputs(&mut digest, wire, &request.outputs)?;
    let mut n_found = 0;
    for (idx, spec) in wire.inputs.iter().enumerate() {
        let named = |tensor: &&Tensor| *tensor.name() == spec.name;
        let in_place = request.inputs.get(idx).filter(named);
        match in_place.or_else(|| request.inputs.iter().find(named)) {
            Some(tensor) => {
                n_found += 1;
                input(&mut digest, tensor);
            }
            // An input that was left out is not the same as an empty one.
            None => digest.number(0),
        }
    }
    (n_found == request.inputs.len()).then(|| digest.finish())
}

/// Which parameters of a request are part of its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CountedParameters {
    /// None: they act on scheduling alone.
    None,
    /// All of them.
    All,
}

/// Adds parameters, which come in the order of their names.
fn parameters(digest: &mut Digest, parameters: &Parameters) {
    digest.number(parameters.len());
    for (name, value) in parameters {
        digest.bytes(name.as_bytes());
        let (kind, value) = match value {
            Parameter::Bool(value) => (0, vec![u8::from(*value)]),
            Parameter::Int(value) => (1, value.to_le_bytes().to_vec()),
            Parameter::Uint(value) => (2, value.to_le_bytes().to_vec()),
            Parameter::Float(value) => (3, value.to_le_bytes().to_vec()),
            Parameter::Text(value) => (4, value.clone().into_bytes()),
        };
        digest.number(kind);
        digest.bytes(&value);
    }
}

/// Adds the places of the wanted outputs; naming none is naming all.
fn outputs(digest: &mut Digest, wire: &Signature, names: &[Arc<str>]) -> Option<()> {
    if names.is_empty() {
        digest.number(wire.outputs.len());
        (0..wire.outputs.len()).for_each(|idx| digest.number(idx));
        return Some(());
    }
    let is_first = |idx: &usize| !names[..*idx].contains(&names[*idx]);
    let wanted = || (0..names.len()).filter(is_first);
    digest.number(wanted().count());
    for idx in wanted() {
        digest.number(wire.outputs.iter().position(|spec| spec.name == names[idx])?);
    }
    Some(())
}

fn input(digest: &mut Digest, tensor: &Tensor) {
    digest.number(1);
    digest.bytes(tensor.dtype().as_str().as_bytes());
    digest.number(tensor.shape().len());
    tensor.shape().iter().for_each(|&extent| digest.number(extent));
    if let Some(bytes) = tensor.bytes() {
        digest.bytes(bytes);
    }
    if let Some(elements) = tensor.elements() {
        digest.number(elements.len());
        elements.iter().for_each(|element| digest.bytes(element));
    }
}

/// BLAKE3 over numbers and length-prefixed bytes.
#[derive(Default)]
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    pub(crate) fn number(&mut self, number: usize) {
        self.0.update(&(number as u64).to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use salver_core::{Batching, DataType, TensorSpec};
    use salver_testkit::{tensor, text};

    use super::*;

    fn wire() -> Signature {
        let input = |name: &str, dtype| TensorSpec { optional: true, ..TensorSpec::new(name, dtype, &[-1]) };
        let output = |name: &str| TensorSpec::new(name, DataType::Fp32, &[-1]);
        Signature {
            inputs: vec![input("a", DataType::Fp32), input("b", DataType::Bytes), input("c", DataType::Fp32)],
            outputs: vec![output("y"), output("z")],
            batching: Batching::Fixed,
        }
    }

    fn ask(inputs: Vec<Tensor>, outputs: &[&str]) -> Option<Question> {
        let outputs = outputs.iter().map(|&name| name.into()).collect();
        let model = "m".parse().unwrap();
        let request = InferRequest { model, id: None, inputs, outputs, parameters: Default::default() };
        question(&wire(), &request, CountedParameters::None)
    }

    #[test]
    fn parameters_count_where_they_change_answers() {
        let of = |value: Option<Parameter>, with| {
            let parameters = value.into_iter().map(|value| ("temperature".to_owned(), value)).collect();
            let (model, inputs) = ("m".parse().unwrap(), vec![tensor("a", &[1], &[1f32])]);
            question(&wire(), &InferRequest { model, id: None, inputs, outputs: vec![], parameters }, with)
        };
        let values = [None, Some(Parameter::Float(0.5)), Some(Parameter::Float(1.0)), Some(Parameter::Int(1))];
        for (idx, one) in values.iter().enumerate() {
            for other in &values[idx + 1..] {
                let differ = |with| of(one.clone(), with) != of(other.clone(), with);
                assert!(differ(CountedParameters::All) && !differ(CountedParameters::None), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn outputs_count_by_place_and_naming_none_is_naming_all() {
        let of = |outputs: &[&str]| ask(vec![tensor("a", &[1], &[1f32])], outputs);
        assert_eq!(of(&[]), of(&["y", "z"]));
        assert_eq!(of(&["y", "y"]), of(&["y"]));
        assert_ne!(of(&["z", "y"]), of(&["y", "z"]));
        assert_ne!(of(&["y"]), of(&["z"]));
        assert_eq!(of(&["q"]), None);
    }

    #[test]
    fn what_the_model_does_not_have_has_no_digest() {
        assert_eq!(ask(vec![tensor("q", &[1], &[1f32])], &[]), None);
        let a = tensor("a", &[1], &[1f32]);
        assert_eq!(ask(vec![a.clone(), a], &[]), None);
    }

    #[test]
    fn absent_empty_and_reshaped_inputs_differ() {
        let all = [
            ask(vec![], &[]),
            ask(vec![tensor::<f32>("a", &[0], &[])], &[]),
            ask(vec![tensor::<f32>("c", &[0], &[])], &[]),
            ask(vec![text("b", &[0], &[])], &[]),
            ask(vec![text("b", &[1], &[b""])], &[]),
            ask(vec![text("b", &[2], &[b"", b""])], &[]),
            ask(vec![text("b", &[2], &[b"ab", b"c"])], &[]),
            ask(vec![text("b", &[2], &[b"a", b"bc"])], &[]),
            ask(vec![tensor("a", &[2], &[1f32, 2.])], &[]),
            ask(vec![tensor("a", &[1, 2], &[1f32, 2.])], &[]),
            ask(vec![tensor("a", &[1], &[1f64])], &[]),
            ask(vec![tensor("a", &[1], &[0f32])], &[]),
            ask(vec![tensor("a", &[1], &[-0f32])], &[]),
        ];
        for (idx, one) in all.iter().enumerate() {
            assert!(one.is_some() && !all[..idx].contains(one), "{idx}");
        }
    }

    /// A request of the signature above, as plain values.
    type Plain = (Option<Vec<u32>>, Option<Vec<Vec<u8>>>, Option<Vec<u32>>);

    fn tensors((a, b, c): &Plain) -> Vec<Tensor> {
        let floats = |name: &str, bits: &Vec<u32>| {
            let values: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            tensor(name, &[values.len()], &values)
        };
        let words = b.as_ref().map(|words| {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            text("b", &[words.len()], &words)
        });
        let a = a.as_ref().map(|bits| floats("a", bits));
        let c = c.as_ref().map(|bits| floats("c", bits));
        [a, words, c].into_iter().flatten().collect()
    }

    prop_compose! {
        fn plain()(
            a in proptest::option::of(proptest::collection::vec(0..3u32, 0..4)),
            b in proptest::option::of(proptest::collection::vec(proptest::collection::vec(0..2u8, 0..3), 0..3)),
            c in proptest::option::of(proptest::collection::vec(0..3u32, 0..4)),
        ) -> Plain { (a, b, c) }
    }

    proptest! {
        #[test]
        fn equal_digests_mean_equal_requests(one in plain(), other in plain()) {
            prop_assert_eq!(ask(tensors(&one), &[]) == ask(tensors(&other), &[]), one == other);
        }

        #[test]
        fn the_order_of_inputs_does_not_matter(request in plain(), turn in 0..3usize) {
            let mut turned = tensors(&request);
            let len = turned.len().max(1);
            turned.rotate_left(turn % len);
            prop_assert_eq!(ask(turned, &[]), ask(tensors(&request), &[]));
        }
    }
}
