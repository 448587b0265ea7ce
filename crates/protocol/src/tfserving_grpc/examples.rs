//! `Classify`, `Regress` and `MultiInference`: examples in, results out.

use std::sync::Arc;

use prost::Message as _;
use salver_core::{DataType, Element, Error, InferRequest, InferResponse, ModelInfo, ModelRef, Result};

use super::serving::inference_result;
use super::serving::input::Kind;
use super::serving::{
    Class, ClassificationResult, Classifications, InferenceResult, InferenceTask, Input, MultiInferenceResponse,
    Regression, RegressionResult,
};
use super::tensorflow::{Example, Feature, feature};
use super::{answered_by, check_signature, model_ref};
use crate::json::packed::Packed;
use crate::json::read::clip;
use crate::rows;
use crate::tfserving::examples::{Examples, Features};
use crate::tfserving::results;

pub use crate::tfserving::Method;

/// The most questions about the same examples.
const MOST_TASKS: usize = 64;

/// Returns the bytes that examples take on the wire.
pub fn examples_len(input: &Input) -> usize {
    input.encoded_len()
}

/// Reads examples into a request for `outputs`, and returns how many there are.
///
/// # Errors
/// `InvalidInput` naming the example and the feature.
pub fn decode_examples(
    input: Option<&Input>,
    model: ModelRef,
    outputs: Vec<Arc<str>>,
    info: &ModelInfo,
) -> Result<(InferRequest, usize)> {
    let (examples, context) = match input.and_then(|input| input.kind.as_ref()) {
        None => (&[][..], None),
        Some(Kind::ExampleList(list)) => (&list.examples[..], None),
        Some(Kind::ExampleListWithContext(list)) => (&list.examples[..], list.context.as_ref()),
    };
    let mut rows = Examples::new(info);
    if let Some(context) = context {
        let context = features(&rows, context).map_err(|error| error.context("context"))?;
        rows.set_context(context);
    }
    for (row, example) in examples.iter().enumerate() {
        let example = features(&rows, example).map_err(|error| error.context(format!("example {row}")))?;
        rows.push(&example)?;
    }
    Ok((InferRequest { outputs, ..rows::request(model, rows.finish()?) }, examples.len()))
}

fn features(rows: &Examples<'_>, example: &Example) -> Result<Features> {
    let given = example.features.as_ref().map(|features| &features.feature);
    rows.features(|name, out| match given.and_then(|given| given.get(name)) {
        Some(Feature { kind: Some(kind) }) => values(kind, out).map(|()| true),
        Some(Feature { kind: None }) | None => Ok(false),
    })
}

/// Appends the values of a feature, as strictly as `:predict` reads JSON: floats take whole numbers,
/// nothing else is converted.
fn values(kind: &feature::Kind, out: &mut Packed) -> Result<()> {
    let wanted = out.dtype();
    let refuse = |got: &str| Err(Error::invalid_input(format!("expected {wanted}, got {got}")));
    match (kind, out) {
        (feature::Kind::BytesList(list), out @ Packed::Bytes(..)) => {
            list.value.iter().try_for_each(|text| out.push_bytes(text))
        }
        (feature::Kind::FloatList(list), Packed::Fixed(dtype, data)) if dtype.is_float() => {
            list.value.iter().for_each(|value| put_float(*dtype, f64::from(*value), data));
            Ok(())
        }
        (feature::Kind::Int64List(list), Packed::Fixed(dtype, data)) => {
            list.value.iter().try_for_each(|value| put_int(*dtype, *value, data))
        }
        (feature::Kind::BytesList(_), _) => refuse("a bytes_list"),
        (feature::Kind::FloatList(_), _) => refuse("a float_list"),
        (feature::Kind::Int64List(_), _) => refuse("an int64_list"),
    }
}

fn put_float(dtype: DataType, value: f64, out: &mut Vec<u8>) {
    match dtype {
        DataType::Fp64 => value.put(out),
        DataType::Fp16 => half::f16::from_f64(value).put(out),
        DataType::Bf16 => half::bf16::from_f64(value).put(out),
        _ => results::narrowed(value).put(out),
    }
}

fn put_int(dtype: DataType, value: i64, out: &mut Vec<u8>) -> Result<()> {
    fn put<T: Element + TryFrom<i64>>(value: i64, out: &mut Vec<u8>) -> Result<()> {
        let narrow = |_| Error::invalid_input(format!("{value} does not fit {}", T::DTYPE));
        T::try_from(value).map_err(narrow).map(|value| value.put(out))
    }
    match dtype {
        DataType::Bool => match value {
            0 | 1 => (value == 1).put(out),
            _ => return Err(Error::invalid_input(format!("{value} is no BOOL: 0 or 1 are"))),
        },
        DataType::Int8 => put::<i8>(value, out)?,
        DataType::Int16 => put::<i16>(value, out)?,
        DataType::Int32 => put::<i32>(value, out)?,
        DataType::Int64 => value.put(out),
        DataType::Uint8 => put::<u8>(value, out)?,
        DataType::Uint16 => put::<u16>(value, out)?,
        DataType::Uint32 => put::<u32>(value, out)?,
        DataType::Uint64 => put::<u64>(value, out)?,
        #[expect(clippy::cast_precision_loss, reason = "as JSON integers for floats are rounded too")]
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => put_float(dtype, value as f64, out),
        DataType::Bytes => return Err(Error::invalid_input("expected BYTES, got an int64_list")),
    }
    Ok(())
}

/// Returns the outputs that a method needs.
///
/// # Errors
/// `InvalidInput` where the model cannot do it.
pub fn tasks_outputs(methods: &[Method], info: &ModelInfo) -> Result<Vec<Arc<str>>> {
    let mut outputs: Vec<Arc<str>> = Vec::new();
    for method in methods {
        for name in method.outputs(info)? {
            if !outputs.contains(&name) {
                outputs.push(name);
            }
        }
    }
    Ok(outputs)
}

/// Writes the classes of `n_examples`.
///
/// # Errors
/// `InvalidInput` where the outputs are not `[examples, classes]`, or a class is no text.
pub fn classification(response: &InferResponse, n_examples: usize) -> Result<ClassificationResult> {
    let classes = results::classes(response, n_examples)?;
    let class = |class: Result<_>| {
        let (label, score): (std::borrow::Cow<'_, str>, f32) = class?;
        Ok(Class { label: label.into_owned(), score })
    };
    let example = |example| Ok(Classifications { classes: classes.of(example).map(class).collect::<Result<_>>()? });
    Ok(ClassificationResult { classifications: (0..n_examples).map(example).collect::<Result<_>>()? })
}

/// Writes the regressions of `n_examples`.
///
/// # Errors
/// `InvalidInput` where an example has more or fewer numbers than one.
pub fn regression(response: &InferResponse, n_examples: usize) -> Result<RegressionResult> {
    let tensor = results::regressions(response, n_examples)?;
    let values = results::numbers(&tensor).unwrap_or_default();
    let regression = |value| Regression { value: results::narrowed(value) };
    Ok(RegressionResult { regressions: values.into_iter().map(regression).collect() })
}

/// Reads the questions of a `MultiInference`, all about one model.
///
/// # Errors
/// `InvalidInput` for none, too many, several models, one question asked twice, or a signature that
/// the model lacks; `Unsupported` for other methods.
pub fn decode_tasks(tasks: &[InferenceTask]) -> Result<(ModelRef, Vec<Method>)> {
    let first = tasks.first().ok_or_else(|| Error::invalid_input("the request has no tasks"))?;
    if tasks.len() > MOST_TASKS {
        return Err(Error::too_large(format!("the request has more than {MOST_TASKS} tasks")));
    }
    let model = model_ref(first.model_spec.as_ref())?;
    let mut methods = Vec::with_capacity(tasks.len());
    for task in tasks {
        let other = model_ref(task.model_spec.as_ref())?;
        if other.name != model.name || other.selector != model.selector {
            let message = "All ModelSpecs in a MultiInferenceRequest must access the same model name.";
            return Err(Error::invalid_input(message));
        }
        check_signature(task.model_spec.as_ref())?;
        let method = method(&task.method_name)?;
        // TF Serving refuses a signature that comes twice; here there is one for all methods.
        if methods.contains(&method) {
            return Err(Error::invalid_input(format!("Duplicate evaluation of {}", task.method_name)));
        }
        methods.push(method);
    }
    Ok((model, methods))
}

fn method(name: &str) -> Result<Method> {
    match name {
        "tensorflow/serving/classify" => Ok(Method::Classify),
        "tensorflow/serving/regress" => Ok(Method::Regress),
        other => Err(Error::unsupported(format!("Unsupported signature method_name: {}", clip(other)))),
    }
}

/// Writes the answers to all questions, in their order.
///
/// # Errors
/// As [`classification`] and [`regression`].
pub fn multi_inference(
    response: &InferResponse,
    methods: &[Method],
    n_examples: usize,
) -> Result<MultiInferenceResponse> {
    let result = |method: &Method| {
        let result = match method {
            Method::Classify => inference_result::Result::ClassificationResult(classification(response, n_examples)?),
            Method::Regress => inference_result::Result::RegressionResult(regression(response, n_examples)?),
        };
        Ok(InferenceResult { model_spec: Some(answered_by(&response.model)), result: Some(result) })
    };
    Ok(MultiInferenceResponse { results: methods.iter().map(result).collect::<Result<_>>()? })
}
