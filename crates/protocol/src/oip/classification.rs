//! Triton's classification extension: the best classes of an output instead of its values.
//!
//! Both forms of the protocol ask for it with the output parameter `classification` and get BYTES
//! elements `value:index[:label]`, best first.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::io::Write as _;
use std::sync::Arc;

use salver_core::{DataType, Element, Error, InferResponse, ModelInfo, Result, Shape, Tensor};

use crate::json::packed::Packed;

/// How many classes come back of each output; one that is not listed keeps its values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Classes(Vec<(Arc<str>, usize)>);

impl Classes {
    /// Asks for the best `most` classes of an output; 0 asks for none.
    pub(crate) fn ask(&mut self, output: &Arc<str>, most: usize) {
        if most > 0 {
            self.0.push((output.clone(), most));
        }
    }

    /// Returns the outputs as they were asked for.
    ///
    /// # Errors
    /// `InvalidInput` for an output that holds no numbers, `TooLarge` beyond 4 GiB of text.
    pub(crate) fn apply<'r>(&self, response: &'r InferResponse) -> Result<Cow<'r, [Tensor]>> {
        if self.0.is_empty() {
            return Ok(Cow::Borrowed(&response.outputs));
        }
        let one = |output: &Tensor| match self.0.iter().find(|(name, _)| name == output.name()) {
            Some((_, most)) => best(output, *most, &response.model),
            None => Ok(output.clone()),
        };
        response.outputs.iter().map(one).collect::<Result<Vec<_>>>().map(Cow::Owned)
    }
}

/// Makes BYTES `[rows, classes]` of an output, `[classes]` where the model knows no rows.
fn best(output: &Tensor, most: usize, info: &ModelInfo) -> Result<Tensor> {
    let rows = output.shape().first().copied().filter(|_| info.signature.is_batched());
    let extents = output.shape().iter().skip(usize::from(rows.is_some()));
    let per_row = extents.product::<usize>();
    let labels = info.signature.outputs.iter().position(|spec| spec.name == *output.name());
    let labels = labels.and_then(|idx| info.labels.get(idx)).map_or(&[][..], Vec::as_slice);
    let kept = most.min(per_row);
    let shape: Shape = rows.into_iter().chain([kept]).collect();
    let mut writer = Writer { per_row, kept, labels, packed: Packed::new(DataType::Bytes, 0), text: Vec::new() };
    match output.dtype() {
        DataType::Int8 => writer.integers::<i8>(output),
        DataType::Int16 => writer.integers::<i16>(output),
        DataType::Int32 => writer.integers::<i32>(output),
        DataType::Int64 => writer.integers::<i64>(output),
        DataType::Uint8 => writer.integers::<u8>(output),
        DataType::Uint16 => writer.integers::<u16>(output),
        DataType::Uint32 => writer.integers::<u32>(output),
        DataType::Uint64 => writer.integers::<u64>(output),
        DataType::Fp16 => writer.rows(output, |text, value: half::f16| float(text, value.into())),
        DataType::Bf16 => writer.rows(output, |text, value: half::bf16| float(text, value.into())),
        DataType::Fp32 => writer.rows(output, |text, value: f32| float(text, value.into())),
        DataType::Fp64 => writer.rows(output, float),
        other @ (DataType::Bool | DataType::Bytes) => Err(Error::invalid_input(format!(
            "output '{}' of model '{}': classification needs numbers, its data type is {other}",
            output.name(),
            info.name
        ))),
    }?;
    writer.packed.finish(output.name().clone(), shape)
}

/// Writes the classes of one output after another.
struct Writer<'l> {
    per_row: usize,
    kept: usize,
    labels: &'l [String],
    packed: Packed,
    text: Vec<u8>,
}

impl Writer<'_> {
    fn integers<T: Element + PartialOrd + itoa::Integer>(&mut self, output: &Tensor) -> Result<()> {
        self.rows(output, |text, value: T| text.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()))
    }

    fn rows<T: Element + PartialOrd>(&mut self, output: &Tensor, write: impl Fn(&mut Vec<u8>, T)) -> Result<()> {
        let values: Vec<T> = output.to_vec().unwrap_or_default();
        // Empty rows have no class to write.
        for row in values.chunks_exact(self.per_row.max(1)) {
            for idx in best_places(row, self.kept) {
                self.text.clear();
                write(&mut self.text, row[idx]);
                self.text.push(b':');
                self.text.extend_from_slice(itoa::Buffer::new().format(idx).as_bytes());
                if let Some(label) = self.labels.get(idx).filter(|label| !label.is_empty()) {
                    self.text.push(b':');
                    self.text.extend_from_slice(label.as_bytes());
                }
                self.packed.push_bytes(&self.text)?;
            }
        }
        Ok(())
    }
}

/// Returns where the largest values stand, largest first; of equal ones the first comes first, and
/// what is no number comes last.
fn best_places<T: PartialOrd + Copy>(row: &[T], kept: usize) -> Vec<usize> {
    let is_nan = |value: T| value.partial_cmp(&value).is_none();
    let order = |a: &usize, b: &usize| -> Ordering {
        let (left, right) = (row[*a], row[*b]);
        let by_value = right.partial_cmp(&left).unwrap_or_else(|| is_nan(left).cmp(&is_nan(right)));
        by_value.then(a.cmp(b))
    };
    let mut places: Vec<usize> = (0..row.len()).collect();
    if kept < places.len() {
        places.select_nth_unstable_by(kept, order);
        places.truncate(kept);
    }
    places.sort_unstable_by(order);
    places
}

/// Appends six decimals, as C's `%f` does.
fn float(text: &mut Vec<u8>, value: f64) {
    let written = match value.is_nan() {
        true => write!(text, "nan"),
        false => write!(text, "{value:.6}"),
    };
    debug_assert!(written.is_ok(), "a vector takes whatever is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[track_caller]
    fn check(output: Tensor, most: usize, shape: &[usize], expected: &[&str]) {
        let name = output.name().clone();
        let mut classes = Classes::default();
        classes.ask(&name, most);
        let response = samples::response(samples::iris(), vec![output]);
        let outputs = classes.apply(&response).unwrap();
        assert_eq!(&outputs[0].shape()[..], shape);
        let texts: Vec<String> =
            outputs[0].elements().unwrap().iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect();
        assert_eq!(texts, expected);
    }

    fn floats(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_slice("probabilities", shape, values).unwrap()
    }

    #[test]
    fn the_best_classes_come_first_with_their_labels() {
        let rows = floats(&[2, 3], &[0.25, 5., -1., 1., 2., 3.]);
        let expected = ["5.000000:1:versicolor", "0.250000:0:setosa", "3.000000:2:virginica", "2.000000:1:versicolor"];
        check(rows.clone(), 2, &[2, 2], &expected);
        check(
            rows.slice_rows(0..1).unwrap(),
            usize::MAX,
            &[1, 3],
            &["5.000000:1:versicolor", "0.250000:0:setosa", "-1.000000:2:virginica"],
        );
    }

    #[test]
    fn equal_values_keep_their_order_and_nan_comes_last() {
        let row = floats(&[1, 4], &[f32::NAN, 1., f32::INFINITY, 1.]);
        check(row, 4, &[1, 4], &["inf:2:virginica", "1.000000:1:versicolor", "1.000000:3", "nan:0:setosa"]);
    }

    #[test]
    fn integers_are_written_plain_and_without_a_label_there_is_no_second_colon() {
        let row = Tensor::from_slice("other", [1, 3], &[3i64, i64::MAX, -2]).unwrap();
        check(row, 2, &[1, 2], &["9223372036854775807:1", "3:0"]);
        check(Tensor::from_slice("other", [3], &[1u8, 2, 3]).unwrap(), 5, &[3, 1], &["1:0", "2:0", "3:0"]);
    }

    #[test]
    fn every_extent_after_the_rows_counts_as_classes() {
        check(floats(&[1, 2, 2], &[1., 2., 3., 4.]), 1, &[1, 1], &["4.000000:3"]);
        check(floats(&[0, 3], &[]), 2, &[0, 2], &[]);
        check(floats(&[2, 0], &[]), 2, &[2, 0], &[]);
    }

    #[test]
    fn a_model_without_rows_has_one_list_of_classes() {
        let mut info = samples::iris();
        info.signature.batching = salver_core::Batching::Fixed;
        let response = samples::response(info, vec![floats(&[2, 2], &[1., 4., 3., 2.])]);
        let mut classes = Classes::default();
        classes.ask(&"probabilities".into(), 3);
        let outputs = classes.apply(&response).unwrap();
        assert_eq!(&outputs[0].shape()[..], [3]);
        assert_eq!(outputs[0].elements().unwrap().get(0), Some(&b"4.000000:1:versicolor"[..]));
    }

    #[test]
    fn what_holds_no_numbers_has_no_classes() {
        for output in [
            Tensor::from_slice("y", [1, 1], &[true]).unwrap(),
            Tensor::from_elements("y", [1, 1], ["a"].into_iter().collect()).unwrap(),
        ] {
            let mut classes = Classes::default();
            classes.ask(&"y".into(), 1);
            let error = classes.apply(&samples::response(samples::iris(), vec![output])).unwrap_err();
            assert!(error.message().contains("output 'y' of model 'iris': classification needs numbers"), "{error}");
        }
    }

    #[test]
    fn outputs_that_were_not_asked_for_keep_their_values() {
        let response = samples::response(samples::iris(), vec![floats(&[1, 3], &[1., 2., 3.])]);
        let mut classes = Classes::default();
        classes.ask(&"probabilities".into(), 0);
        assert!(matches!(classes.apply(&response).unwrap(), Cow::Borrowed(_)));
        classes.ask(&"another".into(), 1);
        assert_eq!(classes.apply(&response).unwrap()[0].dtype(), DataType::Fp32);
    }
}
