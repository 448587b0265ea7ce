//! Models that are made of other models.

mod behaviour;
mod equality;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use salver_core::{
    Backing, Batching, Constant, DataType, EnsembleOutput, EnsembleSpec, ModelSpec, OnFailure, Signature, Source,
    StepSpec, Tensor, TensorSpec,
};
use salver_testkit::{FakeEngine, tensor};

use crate::support::version;

/// A row of a value.
type Row = Vec<f32>;
/// What a function makes of one row of each of its inputs.
type RowFunction = fn(&[Row]) -> Row;

/// Functions of rows: each is a model, and the reference that the model's answers are held against.
pub(crate) struct Function {
    name: &'static str,
    inputs: &'static [(&'static str, &'static [i64])],
    output: (&'static str, &'static [i64]),
    of: RowFunction,
}

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "inc",
        inputs: &[("x", &[-1, 2])],
        output: ("y", &[-1, 2]),
        of: |x| x[0].iter().map(|x| x + 1.).collect(),
    },
    Function {
        name: "double",
        inputs: &[("x", &[-1, 2])],
        output: ("y", &[-1, 2]),
        of: |x| x[0].iter().map(|x| x * 2.).collect(),
    },
    Function {
        name: "sum",
        inputs: &[("a", &[-1, 2]), ("b", &[-1, 2])],
        output: ("y", &[-1, 2]),
        of: |x| x[0].iter().zip(&x[1]).map(|(a, b)| a + b).collect(),
    },
    Function { name: "score", inputs: &[("x", &[-1, 2])], output: ("s", &[-1, 1]), of: |x| vec![x[0][0] - x[0][1]] },
    Function {
        name: "spread",
        inputs: &[("x", &[-1, 2])],
        output: ("items", &[-1, 3, 2]),
        of: |x| [0., 10., 20.].iter().flat_map(|by| x[0].iter().map(move |x| x + by)).collect(),
    },
    Function {
        name: "fold",
        inputs: &[("items", &[-1, 3, 2])],
        output: ("y", &[-1, 2]),
        of: |x| vec![x[0][0] + x[0][2] - x[0][4], x[0][1] - x[0][3] + x[0][5]],
    },
];

impl Function {
    fn named(name: &str) -> &'static Self {
        FUNCTIONS.iter().find(|function| function.name == name).unwrap()
    }

    /// Runs one batch, row by row.
    fn run(&self, inputs: &[Tensor]) -> Tensor {
        let rows = inputs[0].rows();
        let of_row = |row: usize| -> Vec<Row> {
            let cut = |tensor: &Tensor| tensor.slice_rows(row..row + 1).unwrap().to_vec::<f32>().unwrap();
            inputs.iter().map(cut).collect()
        };
        let values: Vec<f32> = (0..rows).flat_map(|row| (self.of)(&of_row(row))).collect();
        let item = self.output.1[1..].iter().map(|&extent| usize::try_from(extent).unwrap());
        let shape: Vec<usize> = std::iter::once(rows).chain(item).collect();
        tensor(self.output.0, &shape, &values)
    }

    fn engine(&'static self) -> FakeEngine {
        let inputs: Vec<_> =
            self.inputs.iter().map(|(name, shape)| TensorSpec::new(*name, DataType::Fp32, shape)).collect();
        let outputs = vec![TensorSpec::new(self.output.0, DataType::Fp32, self.output.1)];
        let signature = Signature { batching: Batching::of(&inputs, &outputs), inputs, outputs };
        FakeEngine::new().named(self.name).computing(signature, Arc::new(|_, inputs| Ok(vec![self.run(inputs)])))
    }
}

/// The engines of all functions.
pub(crate) fn engines() -> Vec<FakeEngine> {
    FUNCTIONS.iter().map(Function::engine).collect()
}

/// A model for each function.
pub(crate) fn models() -> Vec<ModelSpec> {
    FUNCTIONS.iter().map(|function| model(function.name)).collect()
}

pub(crate) fn model(name: &str) -> ModelSpec {
    ModelSpec { engine: Some(name.to_owned()), ..version(name, 1) }
}

pub(crate) fn ensemble(name: &str, steps: Vec<StepSpec>, outputs: Vec<(&str, Vec<Source>)>) -> ModelSpec {
    let outputs = outputs.into_iter().map(|(name, from)| EnsembleOutput { name: name.into(), from }).collect();
    let spec = EnsembleSpec { inputs: Vec::new(), steps, outputs, by_name: true };
    ModelSpec { backing: Backing::Ensemble(Arc::new(spec)), engine: Some("ensemble".to_owned()), ..version(name, 1) }
}

pub(crate) fn step(name: &str, model: &str, inputs: &[(&str, Source)]) -> StepSpec {
    StepSpec {
        name: name.into(),
        model: model.parse().unwrap(),
        inputs: inputs.iter().map(|(name, from)| ((*name).to_owned(), vec![from.clone()])).collect::<BTreeMap<_, _>>(),
        when: None,
        present: None,
        each: Vec::new(),
        timeout: None::<Duration>,
        fallback: None,
        on_failure: OnFailure::Fail,
    }
}

pub(crate) fn input(name: &str) -> Source {
    Source::Input(name.into())
}

pub(crate) fn out(step: &str, output: &str) -> Source {
    Source::Step { step: step.into(), output: output.into() }
}

pub(crate) fn number(value: f64) -> Source {
    Source::Constant(Constant::Float(value))
}
