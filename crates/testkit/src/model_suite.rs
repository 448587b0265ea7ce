//! The contract of loaded models and their instances, for engines that read no ONNX files: the part
//! of `engine_suite` that asks nothing of what is computed.

use salver_core::{Engine, ErrorKind, Inputs, Instance, Model, ModelSpec, Placement, Tensor};

use crate::engine_suite::{moved_by, run_staged};

/// Holds the model that `engine` makes of `spec` to the contract. `requests` fit its signature and
/// have rows of one shape, each of them at least one.
///
/// # Panics
/// At the first point that does not hold.
pub fn model_suite(engine: &dyn Engine, spec: &ModelSpec, requests: &[Vec<Tensor>]) {
    engine.prepare().expect("the engine can be prepared");
    let model = engine.load(spec).unwrap_or_else(|error| panic!("{error:?}"));
    let model = &*model;
    assert!(model.memory_bytes() > 0);
    outputs_are_those_of_the_signature(model, requests);
    inputs_may_lie_anywhere_and_come_in_any_order(model, requests);
    rows_give_together_what_they_give_alone(model, requests);
    wrong_inputs_are_refused_and_harmless(model, &requests[0]);
    outputs_outlive_everything(engine, spec, requests);
    instances_run_at_the_same_time(model, requests);
    let placement = Placement { device: "abacus".to_owned(), threads: 1, core: None };
    let error = model.instance(&placement).err().expect("no such device");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

fn instance(model: &dyn Model) -> Box<dyn Instance> {
    model.instance(&Placement { device: "cpu".to_owned(), threads: 1, core: None }).expect("an instance on the cpu")
}

fn run(instance: &mut dyn Instance, inputs: &[Tensor]) -> Vec<Tensor> {
    instance.run(Inputs::Direct(inputs)).unwrap_or_else(|error| panic!("{error:?}"))
}

#[track_caller]
fn check_same(got: &[Tensor], expected: &[Tensor]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert_eq!((got.name(), got.dtype(), got.shape()), (expected.name(), expected.dtype(), expected.shape()));
        assert_eq!(got.bytes(), expected.bytes(), "{got:?}");
        let elements =
            |tensor: &Tensor| tensor.elements().map(|all| all.iter().map(<[u8]>::to_vec).collect::<Vec<_>>());
        assert_eq!(elements(got), elements(expected), "{got:?}");
    }
}

fn outputs_are_those_of_the_signature(model: &dyn Model, requests: &[Vec<Tensor>]) {
    let (mut instance, signature) = (instance(model), model.signature());
    for inputs in requests {
        let outputs = run(&mut *instance, inputs);
        assert_eq!(outputs.len(), signature.outputs.len());
        for (output, spec) in outputs.iter().zip(&signature.outputs) {
            assert_eq!((output.name(), output.dtype()), (&spec.name, spec.dtype));
            assert!(spec.accepts(output.shape()), "{output:?} for {spec:?}");
            assert!(!signature.is_batched() || output.rows() == inputs[0].rows(), "{output:?} for {inputs:?}");
        }
    }
}

fn inputs_may_lie_anywhere_and_come_in_any_order(model: &dyn Model, requests: &[Vec<Tensor>]) {
    let mut instance = instance(model);
    for inputs in requests {
        let expected = run(&mut *instance, inputs);
        let reversed: Vec<Tensor> = inputs.iter().rev().cloned().collect();
        check_same(&run(&mut *instance, &reversed), &expected);
        if inputs.iter().any(|input| input.bytes().is_none()) {
            continue;
        }
        check_same(&run_staged(&mut *instance, inputs).expect("a staged run"), &expected);
        let moved: Vec<Tensor> = inputs.iter().map(|input| moved_by(input, 1)).collect();
        check_same(&run(&mut *instance, &moved), &expected);
    }
}

fn rows_give_together_what_they_give_alone(model: &dyn Model, requests: &[Vec<Tensor>]) {
    let mut instance = instance(model);
    for inputs in requests {
        let together = run(&mut *instance, inputs);
        for row in 0..inputs[0].rows() {
            let cut = |all: &[Tensor]| -> Vec<Tensor> {
                all.iter().map(|tensor| tensor.slice_rows(row..row + 1).expect("a row")).collect()
            };
            check_same(&run(&mut *instance, &cut(inputs)), &cut(&together));
        }
    }
}

fn wrong_inputs_are_refused_and_harmless(model: &dyn Model, good: &[Tensor]) {
    let mut instance = instance(model);
    let expected = run(&mut *instance, good);
    let mut unknown = good.to_vec();
    unknown[0] = unknown[0].clone().rename("nothing");
    let mut flat = good.to_vec();
    let count = flat[0].element_count();
    let more = flat[0].shape().len() + 1;
    let shape = (0..more).map(|idx| if idx == 0 { count } else { 1 }).collect();
    flat[0] = flat[0].clone().reshape(shape).expect("as many elements");
    let mut other = good.to_vec();
    other[0] = Tensor::from_slice(good[0].name().clone(), good[0].shape().clone(), &vec![true; count]).expect("BOOL");
    for inputs in [Vec::new(), unknown, flat, other] {
        let error = instance.run(Inputs::Direct(&inputs)).expect_err("wrong inputs");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(instance.is_sound(false));
        check_same(&run(&mut *instance, good), &expected);
    }
}

fn outputs_outlive_everything(engine: &dyn Engine, spec: &ModelSpec, requests: &[Vec<Tensor>]) {
    let model = engine.load(spec).expect("the same model again");
    let mut first = instance(&*model);
    let outputs: Vec<_> = requests.iter().map(|inputs| run(&mut *first, inputs)).collect();
    let mut again = instance(&*model);
    let expected: Vec<_> = requests.iter().map(|inputs| run(&mut *again, inputs)).collect();
    drop((first, again, model));
    outputs.iter().zip(&expected).for_each(|(outputs, expected)| check_same(outputs, expected));
}

fn instances_run_at_the_same_time(model: &dyn Model, requests: &[Vec<Tensor>]) {
    let mut alone = instance(model);
    let expected: Vec<_> = requests.iter().map(|inputs| run(&mut *alone, inputs)).collect();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (mut instance, expected) = (instance(model), &expected);
            scope.spawn(move || {
                for round in 0..20 {
                    let idx = (worker + round) % requests.len();
                    check_same(&run(&mut *instance, &requests[idx]), &expected[idx]);
                }
            });
        }
    });
}
