use super::*;

fn signature(batching: Batching) -> Signature {
    Signature {
        inputs: vec![TensorSpec::new("a", DataType::Fp32, &[-1, 2]), TensorSpec::new("b", DataType::Int32, &[-1])],
        outputs: vec![TensorSpec::new("y", DataType::Fp32, &[-1])],
        batching,
    }
}

fn a(rows: usize) -> Tensor {
    Tensor::from_slice("a", [rows, 2], &vec![0f32; rows * 2]).unwrap()
}

fn b(rows: usize) -> Tensor {
    Tensor::from_slice("b", [rows], &vec![0i32; rows]).unwrap()
}

#[track_caller]
fn check(inputs: Vec<Tensor>, expected: &str) {
    let limit = NonZeroUsize::new(4);
    let error = signature(Batching::Rows { limit }).check("m", inputs).unwrap_err();
    assert_eq!(error.message(), expected);
}

#[test]
fn inputs_come_out_in_the_models_order() {
    let checked = signature(Batching::Fixed).check("m", vec![b(1), a(1)]).unwrap();
    assert_eq!(checked.iter().map(|t| &**t.name()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn each_mistake_names_the_input_and_both_sides() {
    check(vec![a(1)], "expected input 'b' (INT32 [-1]) for model 'm', it is missing");
    check(vec![a(1), a(1), b(1)], "input 'a' for model 'm' is given twice");
    check(vec![a(1).rename("c")], "unexpected inference input 'c' for model 'm'; its inputs are 'a', 'b'");
    check(
        vec![a(1).reshape([2, 1].into()).unwrap(), b(1)],
        "unexpected shape for input 'a' for model 'm'. Expected [-1,2], got [2,1]",
    );
    check(vec![b(1).rename("a"), b(1)], "inference input 'a' data-type is 'INT32', but model 'm' expects 'FP32'");
    check(vec![a(2), b(3)], "input 'b' for model 'm' has batch size 3, but input 'a' has 2");
    check(vec![a(5), b(5)], "inference request batch-size must be <= 4 for 'm' and at least 1, got 5");
    check(vec![a(0), b(0)], "inference request batch-size must be <= 4 for 'm' and at least 1, got 0");
}

#[test]
fn without_a_limit_any_number_of_rows_passes() {
    for rows in [0, 1, 1000] {
        assert!(signature(Batching::Rows { limit: None }).check("m", vec![a(rows), b(rows)]).is_ok());
    }
}

#[test]
fn rows_need_a_free_first_dimension_everywhere() {
    let tensors = |shapes: &[&[i64]]| -> Vec<TensorSpec> {
        shapes.iter().map(|shape| TensorSpec::new("t", DataType::Fp32, shape)).collect()
    };
    let rows = Batching::Rows { limit: None };
    for (inputs, outputs, expected) in [
        (&[&[-1, 2][..]][..], &[&[-1][..], &[-1, 3]][..], rows),
        (&[&[-1, 2]], &[&[3]], Batching::Fixed),
        (&[&[-1, 2], &[2, -1]], &[&[-1]], Batching::Fixed),
        (&[&[-1]], &[&[]], Batching::Fixed),
        (&[], &[&[-1]], Batching::Fixed),
    ] {
        assert_eq!(Batching::of(&tensors(inputs), &tensors(outputs)), expected, "{inputs:?} -> {outputs:?}");
    }
}
