//! What is written reads back.

use super::*;

pub(crate) fn same(left: &Tensor, right: &Tensor) -> bool {
    let texts = |tensor: &Tensor| tensor.elements().map(|all| all.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
    left.name() == right.name()
        && left.dtype() == right.dtype()
        && left.shape() == right.shape()
        && left.bytes() == right.bytes()
        && texts(left) == texts(right)
}

/// Tensors of every type, any bits; `texts` says whether BYTES are UTF-8.
pub(crate) fn any_tensor(texts: bool) -> impl Strategy<Value = Tensor> {
    let shape = prop::collection::vec(0usize..4, 0..4);
    (prop::sample::select(DataType::ALL.to_vec()), shape, "[a-zA-Zä_0-9]{0,12}").prop_flat_map(
        move |(dtype, shape, name)| {
            let count: usize = shape.iter().product();
            match dtype.size() {
                Some(size) => prop::collection::vec(any::<u8>(), count * size)
                    .prop_map(move |mut data| {
                        if dtype == DataType::Bool {
                            data.iter_mut().for_each(|byte| *byte &= 1);
                        }
                        Tensor::new(&*name, dtype, &*shape, data.into()).unwrap()
                    })
                    .boxed(),
                None => {
                    let element = if texts {
                        any::<String>().prop_map(String::into_bytes).boxed()
                    } else {
                        prop::collection::vec(any::<u8>(), 0..20).boxed()
                    };
                    prop::collection::vec(element, count)
                        .prop_map(move |all| Tensor::from_elements(&*name, &*shape, all.into_iter().collect()).unwrap())
                        .boxed()
                }
            }
        },
    )
}

/// What JSON keeps of a tensor: every NaN becomes the one NaN.
fn after_json(tensor: &Tensor) -> Tensor {
    let shape = tensor.shape().clone();
    if let Some(values) = tensor.to_vec::<f32>() {
        let values: Vec<f32> = values.into_iter().map(|value| if value.is_nan() { f32::NAN } else { value }).collect();
        return Tensor::from_slice(tensor.name().clone(), shape, &values).unwrap();
    }
    if let Some(values) = tensor.to_vec::<f64>() {
        let values: Vec<f64> = values.into_iter().map(|value| if value.is_nan() { f64::NAN } else { value }).collect();
        return Tensor::from_slice(tensor.name().clone(), shape, &values).unwrap();
    }
    tensor.clone()
}

fn has_json_form(tensor: &Tensor) -> bool {
    !matches!(tensor.dtype(), DataType::Fp16 | DataType::Bf16)
}

fn request(inputs: Vec<Tensor>, id: Option<String>, outputs: Vec<String>) -> InferRequest {
    let outputs = outputs.into_iter().map(Into::into).collect();
    let parameters = [("k".to_owned(), Parameter::Uint(u64::MAX)), ("t".to_owned(), Parameter::Text("\"".to_owned()))];
    InferRequest { model: samples::reference(), id, inputs, outputs, parameters: parameters.into() }
}

proptest! {
    #[test]
    fn requests_survive_the_binary_form(
        inputs in prop::collection::vec(any_tensor(false), 0..4), id: Option<String>, outputs in prop::collection::btree_set("[a-z]{1,5}", 0..3),
    ) {
        let sent = request(inputs, id, outputs.into_iter().collect());
        let encoded = encode_request(&sent, Form::Binary).unwrap();
        let (read, options) = decode(encoded.body, encoded.header_len).unwrap();
        prop_assert_eq!(&read.id, &sent.id);
        prop_assert_eq!(&read.outputs, &sent.outputs);
        prop_assert_eq!(&read.parameters, &sent.parameters);
        prop_assert_eq!(read.inputs.len(), sent.inputs.len());
        for (read, sent) in read.inputs.iter().zip(&sent.inputs) {
            prop_assert!(same(read, sent), "{:?} became {:?}", sent, read);
        }
        prop_assert!(options.is_binary(sent.outputs.first().map_or("any", |name| name)));
    }

    #[test]
    fn requests_survive_json(inputs in prop::collection::vec(any_tensor(true).prop_filter("JSON", has_json_form), 0..4), id: Option<String>) {
        let sent = request(inputs, id, vec!["y".to_owned()]);
        let encoded = encode_request(&sent, Form::Json).unwrap();
        prop_assert_eq!(encoded.header_len, None);
        let (read, options) = decode(encoded.body, None).unwrap();
        prop_assert_eq!(&read.id, &sent.id);
        for (read, sent) in read.inputs.iter().zip(&sent.inputs) {
            prop_assert!(same(read, &after_json(sent)), "{:?} became {:?}", sent, read);
        }
        prop_assert!(!options.is_binary("y"));
    }

    #[test]
    fn responses_survive_both_forms(outputs in prop::collection::vec(any_tensor(true), 0..4), id: Option<String>) {
        let sent = response(id.as_deref(), outputs);
        for (options, json) in [(ReplyOptions::binary(), false), (ReplyOptions::json(), true)] {
            if json && !sent.outputs.iter().all(has_json_form) {
                prop_assert!(encode_infer(&sent, &options).is_err());
                continue;
            }
            let reply = encode_infer(&sent, &options).unwrap();
            let read = decode_response(reply.body, reply.inference_header_len).unwrap();
            prop_assert_eq!(&read.id, &sent.id);
            prop_assert_eq!((&*read.model_name, &*read.model_version), ("m", "3"));
            prop_assert_eq!(read.outputs.len(), sent.outputs.len());
            for (read, sent) in read.outputs.iter().zip(&sent.outputs) {
                let sent = if json { after_json(sent) } else { sent.clone() };
                prop_assert!(same(read, &sent), "{:?} became {:?}", sent, read);
            }
        }
    }

    #[test]
    fn no_body_panics(body: Vec<u8>, header_len: Option<u8>) {
        let _ = decode(body, header_len.map(usize::from));
    }
}

#[test]
fn a_model_without_inputs_takes_none() {
    let info = samples::model(Vec::new(), vec![TensorSpec::new("y", DataType::Fp32, &[-1])]);
    assert!(info.signature.check("m", accept(r#"{"inputs":[]}"#).inputs).is_ok());
}
