use std::collections::BTreeMap;

use proptest::prelude::*;
use salver_core::{Batching, Elements, Signature, TensorSpec};

use super::*;

fn request(start: usize, rows: usize) -> Vec<Tensor> {
    let wide: Vec<f32> = (start * 3..(start + rows) * 3).map(|value| value as f32).collect();
    let narrow: Vec<i8> = (start..start + rows).map(|value| value as i8).collect();
    let text: Elements = (start..start + rows).map(|value| value.to_string()).collect();
    vec![
        Tensor::from_slice("wide", [rows, 3], &wide).unwrap(),
        Tensor::from_slice("narrow", [rows], &narrow).unwrap(),
        Tensor::from_elements("text", [rows], text).unwrap(),
    ]
}

fn members<'a>(requests: &'a [&'a [Tensor]], lengths: &[usize]) -> Vec<Member<'a>> {
    let of = |(inputs, length): (&&'a [Tensor], usize)| Member { inputs, rows: inputs[0].rows(), length };
    requests.iter().zip(lengths.iter().copied().chain(std::iter::repeat(0))).map(of).collect()
}

proptest! {
    #[test]
    fn what_is_merged_and_split_is_what_came(rows in proptest::collection::vec(0usize..5, 1..8)) {
        let mut start = 0;
        let requests: Vec<Vec<Tensor>> = rows.iter().map(|&rows| { start += rows; request(start - rows, rows) }).collect();
        let whole = request(0, start);

        let views: Vec<&[Tensor]> = requests.iter().map(Vec::as_slice).collect();
        let all = members(&views, &[]);
        let merged = merge(&all).unwrap();
        prop_assert_eq!(merged[0].bytes(), whole[0].bytes());
        prop_assert!(layout(&all, None).is_none());

        let fixed: Vec<&[Tensor]> = requests.iter().map(|inputs| &inputs[..2]).collect();
        let fixed = members(&fixed, &[]);
        let plan = layout(&fixed, None).unwrap();
        let mut buffer = vec![0; plan.total_len];
        prop_assert_eq!(stage(&fixed, None, &plan, &mut buffer).unwrap(), Padded::default());
        for (input, expected) in plan.inputs.iter().zip(&whole) {
            prop_assert_eq!(input.offset % BatchLayout::ALIGN, 0);
            prop_assert_eq!(&buffer[input.offset..input.offset + input.len], &expected.bytes().unwrap()[..]);
            prop_assert_eq!(&input.shape, expected.shape());
        }

        for (part, request) in split(&merged, &all, None).unwrap().iter().zip(&requests) {
            for (output, input) in part.iter().zip(request) {
                prop_assert_eq!(output.shape(), input.shape());
                prop_assert_eq!(output.bytes(), input.bytes());
                let texts = |tensor: &Tensor| tensor.elements().map(|all| all.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
                prop_assert_eq!(texts(output), texts(input));
            }
        }
    }

    #[test]
    fn padded_requests_come_back_as_they_went(
        shapes in proptest::collection::vec((1usize..4, 0usize..7), 1..6),
    ) {
        let spec = |name| TensorSpec::new(name, DataType::Int32, &[-1, -1, 2]);
        let signature =
            Signature { inputs: vec![spec("x")], outputs: vec![spec("x")], batching: Batching::Rows { limit: None } };
        let declared = salver_core::Padding {
            inputs: BTreeMap::from([("x".to_owned(), -7.0)]),
            outputs: vec!["x".to_owned()],
            buckets: Vec::new(),
        };
        let padding = Padding::new(&signature, &declared).unwrap();
        let mut next = 0;
        let requests: Vec<[Tensor; 1]> = shapes.iter().map(|&(rows, length)| {
            let values: Vec<i32> = (next..next + (rows * length * 2) as i32).collect();
            next += values.len() as i32;
            [Tensor::from_slice("x", [rows, length, 2], &values).unwrap()]
        }).collect();
        let views: Vec<&[Tensor]> = requests.iter().map(<[Tensor; 1]>::as_slice).collect();
        let lengths: Vec<usize> = shapes.iter().map(|&(_, length)| length).collect();
        let all = members(&views, &lengths);

        let plan = layout(&all, Some(&padding)).unwrap();
        let mut buffer = vec![0; plan.total_len];
        let padded = stage(&all, Some(&padding), &plan, &mut buffer).unwrap();
        let input = &plan.inputs[0];
        let batch = Tensor::new("x", DataType::Int32, input.shape.clone(), buffer[..input.len].to_vec().into()).unwrap();
        let values = batch.to_vec::<i32>().unwrap();
        prop_assert_eq!(values.iter().filter(|&&value| value == -7).count(), padded.padding);
        prop_assert_eq!((values.len(), values.len() - padded.padding), (padded.elements, next as usize));
        for (part, request) in split(&[batch], &all, Some(&padding)).unwrap().iter().zip(&requests) {
            prop_assert_eq!(part[0].shape(), request[0].shape());
            prop_assert_eq!(part[0].bytes(), request[0].bytes());
        }
    }
}

#[test]
fn an_output_without_a_row_per_row_is_an_error_that_says_what_to_set() {
    let output = Tensor::from_slice("sum", [1], &[3f32]).unwrap();
    let member = Member { inputs: &[], rows: 1, length: 0 };
    let error = split(&[output], &[member, member], None).unwrap_err();
    assert!(error.message().starts_with("output 'sum' has shape [1] for a batch of 2 rows"), "{error}");
}
