//! A model's scores of classes to the best labels.

use salver_core::{DataType, Dim, Elements, Error, Result, ScoreRule, Shape, Tensor, TensorSpec};

/// The classes of a model, and how it scores them.
#[derive(Debug)]
pub(crate) struct Ranking {
    labels: Vec<String>,
    rule: ScoreRule,
    top_k: usize,
}

impl Ranking {
    /// Checks labels against the graph's `output`. Without labels, classes are called by their
    /// numbers.
    ///
    /// # Errors
    /// `InvalidInput` where the output has not one score per label.
    pub(crate) fn new(output: &TensorSpec, labels: &[String], rule: ScoreRule, top_k: usize) -> Result<Self> {
        let (name, shape) = (&output.name, output.wire_shape());
        let classes = match (output.shape.last(), labels.len()) {
            (Some(Dim::Fixed(classes)), 0) => *classes,
            (Some(Dim::Fixed(classes)), given) if *classes != given => {
                return Err(Error::invalid_input(format!(
                    "there are {given} labels, but output '{name}' has shape {shape:?}: {classes} scores for each row"
                )));
            }
            (_, 0) => {
                return Err(Error::invalid_input(format!(
                    "output '{name}' has shape {shape:?}, which does not say how many classes there are; give `labels`"
                )));
            }
            (_, given) => given,
        };
        let labels =
            if labels.is_empty() { (0..classes).map(|class| class.to_string()).collect() } else { labels.to_vec() };
        Ok(Self { labels, rule, top_k: top_k.clamp(1, classes.max(1)) })
    }

    /// Returns the outputs: `label` (BYTES) and `score` (FP32), both `[rows, k]`, best first.
    pub(crate) fn outputs(&self) -> Vec<TensorSpec> {
        let shape = [-1, i64::try_from(self.top_k).unwrap_or(i64::MAX)];
        vec![TensorSpec::new("label", DataType::Bytes, &shape), TensorSpec::new("score", DataType::Fp32, &shape)]
    }

    /// Returns the name of a class.
    pub(crate) fn label(&self, class: usize) -> &str {
        &self.labels[class]
    }

    /// Returns how many classes of each row are answered.
    pub(crate) fn top_k(&self) -> usize {
        self.top_k
    }

    /// Returns the best classes of each row with their scores, best first.
    ///
    /// # Errors
    /// `Engine` where `scores` is no whole number of rows.
    pub(crate) fn best(&self, scores: &[f32]) -> Result<Vec<(usize, f32)>> {
        let classes = self.labels.len();
        if classes == 0 || !scores.len().is_multiple_of(classes) {
            return Err(Error::engine(format!("the model gave {} scores for {classes} classes", scores.len())));
        }
        let mut best: Vec<(usize, f32)> = Vec::with_capacity(scores.len() / classes * self.top_k);
        for row in scores.chunks_exact(classes) {
            let mut ranked: Vec<(usize, f32)> = normalized(row, self.rule).into_iter().enumerate().collect();
            // Of equal ones the first; what is no number comes last.
            ranked.sort_by(|(_, a), (_, b)| a.is_nan().cmp(&b.is_nan()).then(b.total_cmp(a)));
            best.extend_from_slice(&ranked[..self.top_k]);
        }
        Ok(best)
    }

    /// Ranks rows of scores, one for each label.
    ///
    /// # Errors
    /// `Engine` where `scores` is no whole number of rows.
    pub(crate) fn rank(&self, scores: &[f32]) -> Result<Vec<Tensor>> {
        let best = self.best(scores)?;
        let rows = best.len() / self.top_k;
        let labels: Elements = best.iter().map(|&(class, _)| self.label(class)).collect();
        let values: Vec<f32> = best.iter().map(|&(_, score)| score).collect();
        let shape = || Shape::new(&[rows, self.top_k]);
        Ok(vec![Tensor::from_elements("label", shape(), labels)?, Tensor::from_slice("score", shape(), &values)?])
    }
}

/// Makes scores of what a graph gives for one row.
pub(crate) fn normalized(row: &[f32], rule: ScoreRule) -> Vec<f32> {
    match rule {
        ScoreRule::AsIs => row.to_vec(),
        ScoreRule::Sigmoid => row.iter().map(|value| 1.0 / (1.0 + (-value).exp())).collect(),
        ScoreRule::Softmax => {
            let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f32> = row.iter().map(|value| (value - greatest).exp()).collect();
            let sum: f32 = powers.iter().sum();
            powers.into_iter().map(|power| power / sum).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(rule: ScoreRule, top_k: usize) -> Ranking {
        let labels = ["cat", "dog", "owl"].map(str::to_owned);
        Ranking::new(&TensorSpec::new("logits", DataType::Fp32, &[-1, 3]), &labels, rule, top_k).unwrap()
    }

    #[test]
    fn the_best_labels_come_first() {
        let ranked = ranking(ScoreRule::Softmax, 2).rank(&[0.0, 1.0, -1.0, 2.0, 2.0, f32::NAN]).unwrap();
        let labels: Vec<&[u8]> = ranked[0].elements().unwrap().iter().take(2).collect();
        assert_eq!(labels, [b"dog", b"cat"]);
        let scores: Vec<f32> = ranked[1].to_vec().unwrap();
        // e^1 / (e^0 + e^1 + e^-1) and e^0 / the same.
        assert!((scores[0] - 0.665_240_9).abs() < 1e-6 && (scores[1] - 0.244_728_47).abs() < 1e-6, "{scores:?}");
    }

    #[test]
    fn each_rule_scores_in_its_own_way() {
        assert_eq!(normalized(&[0.0], ScoreRule::Sigmoid), [0.5]);
        assert_eq!(normalized(&[3.0, -3.0], ScoreRule::AsIs), [3.0, -3.0]);
        // Large scores do not overflow.
        assert_eq!(normalized(&[1000.0, 1000.0], ScoreRule::Softmax), [0.5, 0.5]);
    }

    #[test]
    fn labels_have_to_fit_the_graph() {
        let output = TensorSpec::new("logits", DataType::Fp32, &[-1, 3]);
        let error = Ranking::new(&output, &["cat".to_owned()], ScoreRule::Softmax, 5).unwrap_err();
        assert_eq!(error.message(), "there are 1 labels, but output 'logits' has shape [-1, 3]: 3 scores for each row");
        let free = TensorSpec::new("logits", DataType::Fp32, &[-1, -1]);
        assert!(Ranking::new(&free, &[], ScoreRule::Softmax, 5).is_err());
        assert_eq!(Ranking::new(&output, &[], ScoreRule::Softmax, 5).unwrap().outputs()[0].wire_shape(), [-1, 3]);
    }
}
