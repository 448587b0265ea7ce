//! `labels`: scores of classes to the names of the best ones.

use salver_core::{Batching, DataType, Elements, Error, LabelsSpec, Result, Shape, Signature, Tensor, TensorSpec};

use super::{Function, View};
use crate::scores::Ranking;

/// Names the best classes.
#[derive(Debug)]
pub(super) struct Labels {
    signature: Signature,
    ranking: Ranking,
}

impl Labels {
    /// # Errors
    /// `InvalidInput` without labels.
    pub(super) fn new(spec: &LabelsSpec) -> Result<Self> {
        if spec.labels.is_empty() {
            return Err(Error::invalid_input("there are no labels; give one for each score"));
        }
        let classes = i64::try_from(spec.labels.len()).unwrap_or(i64::MAX);
        let scores = TensorSpec::new("scores", DataType::Fp32, &[-1, classes]);
        let ranking = Ranking::new(&scores, &spec.labels, spec.scores, spec.k)?;
        let mut outputs = ranking.outputs();
        let index = TensorSpec { name: "index".into(), dtype: DataType::Int64, ..outputs[0].clone() };
        outputs.push(index);
        let signature = Signature { inputs: vec![scores], outputs, batching: Batching::Rows { limit: None } };
        Ok(Self { signature, ranking })
    }
}

impl Function for Labels {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&self, inputs: &[View<'_>]) -> Result<Vec<Tensor>> {
        let scores = inputs[0];
        let values: Vec<f32> = scores.floats(0..scores.shape().iter().product()).collect();
        let best = self.ranking.best(&values)?;
        let labels: Elements = best.iter().map(|&(class, _)| self.ranking.label(class)).collect();
        let numbers: Vec<f32> = best.iter().map(|&(_, score)| score).collect();
        let places: Vec<i64> = best.iter().map(|&(class, _)| class as i64).collect();
        let shape = || Shape::new(&[scores.rows(), self.ranking.top_k()]);
        Ok(vec![
            Tensor::from_elements("label", shape(), labels)?,
            Tensor::from_slice("score", shape(), &numbers)?,
            Tensor::from_slice("index", shape(), &places)?,
        ])
    }
}

#[cfg(test)]
mod tests;
