//! Which of any labels is nearest to a text, by their vectors.
//!
//! Labels are texts to the model, like those they are compared with: they run as further rows of
//! the request that asks for them. The vectors of the latest are kept.

use std::collections::HashMap;
use std::sync::Arc;

use quick_cache::sync::Cache;
use salver_core::{DataType, Element as _, Elements, ElementsBuilder, Error, Result, ScoreRule, Tensor, TensorSpec};

use super::pooling::{self, Embedder};
use super::table;
use crate::scores;

/// How many labels are kept; each takes its text and its vector.
const KEPT: usize = 1024;

/// Longer labels are not kept, in bytes.
const LONGEST_KEPT: usize = 256;

/// Compares texts with labels.
#[derive(Debug)]
pub(super) struct ZeroShot {
    embedder: Embedder,
    template: String,
    scale: f32,
    /// What texts are compared with where the request names none.
    labels: Vec<String>,
    kept: Cache<Box<str>, Arc<[f32]>>,
}

/// The labels that a request asks for.
#[derive(Debug)]
pub(super) struct Asked {
    /// Each label once, with its vector if that is known, else its row.
    labels: Vec<(Box<str>, Vector)>,
    /// For each text, which labels.
    wanted: Vec<usize>,
    /// How many labels each text has.
    each: usize,
}

#[derive(Debug)]
enum Vector {
    Kept(Arc<[f32]>),
    Row(usize),
}

impl ZeroShot {
    /// Checks the settings.
    ///
    /// # Errors
    /// `InvalidInput` where the template has no place for a label.
    pub(super) fn new(embedder: Embedder, template: &str, scale: f32, labels: &[String]) -> Result<Self> {
        if !template.contains("{}") {
            return Err(Error::invalid_input(format!(
                "template '{template}' has no '{{}}' for the label to stand in; write \"This text is about {{}}.\""
            )));
        }
        if !scale.is_finite() {
            return Err(Error::invalid_input(format!("scale is {scale}, expected a number such as 100.0")));
        }
        let template = template.to_owned();
        Ok(Self { embedder, template, scale, labels: labels.to_vec(), kept: Cache::new(KEPT) })
    }

    pub(super) fn embedder(&self) -> &Embedder {
        &self.embedder
    }

    pub(super) fn input(&self) -> TensorSpec {
        TensorSpec { optional: !self.labels.is_empty(), ..TensorSpec::new("labels", DataType::Bytes, &[-1, -1]) }
    }

    /// Returns labels for the example, where there are no others.
    pub(super) fn example(&self) -> Option<Tensor> {
        let labels: Elements = ["sports", "politics"].iter().collect();
        self.labels.is_empty().then(|| Tensor::from_elements("labels", [1, 2], labels).ok()).flatten()
    }

    /// Notes the labels of a request. `add` makes a row of a text.
    ///
    /// # Errors
    /// `InvalidInput` or `TooLarge`, naming the row.
    pub(super) fn ask(
        &self,
        inputs: &[Tensor],
        rows: usize,
        mut add: impl FnMut(&str) -> Result<usize>,
    ) -> Result<Asked> {
        let given = inputs.iter().find(|tensor| &**tensor.name() == "labels");
        let each = given.map_or(self.labels.len(), |labels| labels.shape().get(1).copied().unwrap_or(0));
        if each == 0 && rows > 0 {
            return Err(Error::invalid_input("row 0, 'labels': there are none; give one or more"));
        }
        let texts: Vec<&[u8]> = match given.and_then(Tensor::elements) {
            Some(labels) => labels.iter().collect(),
            None => self.labels.iter().map(String::as_bytes).cycle().take(each * rows).collect(),
        };
        let mut places: HashMap<&[u8], usize> = HashMap::new();
        let mut asked = Asked { labels: Vec::new(), wanted: Vec::with_capacity(texts.len()), each };
        for (idx, text) in texts.into_iter().enumerate() {
            let place = match places.get(text) {
                Some(&place) => place,
                None => {
                    let at = |error: Error| error.context(format!("row {}, 'labels'", idx / each));
                    asked.labels.push(self.find(text, &mut add).map_err(at)?);
                    places.insert(text, asked.labels.len() - 1);
                    asked.labels.len() - 1
                }
            };
            asked.wanted.push(place);
        }
        Ok(asked)
    }

    /// Returns a label with its vector, or the row that will have it.
    fn find(&self, label: &[u8], add: &mut impl FnMut(&str) -> Result<usize>) -> Result<(Box<str>, Vector)> {
        let label = super::limits::checked(label)?;
        let vector = match self.kept.get(label) {
            Some(vector) => Vector::Kept(vector),
            None => Vector::Row(add(&self.template.replace("{}", label))?),
        };
        Ok((label.into(), vector))
    }

    /// Makes the outputs `label` and `score`, best first. `vectors` has those of the texts, then
    /// those of the labels that were not known.
    ///
    /// # Errors
    /// `Engine` where vectors are missing.
    pub(super) fn answer(&self, vectors: &[f32], width: usize, rows: usize, asked: &Asked) -> Result<Vec<Tensor>> {
        let vector = |row: usize| {
            let own = vectors.get(row * width..(row + 1) * width);
            let mut own = own.ok_or_else(|| Error::engine("the model gave fewer vectors than texts"))?.to_vec();
            pooling::normalize(&mut own);
            Ok::<_, Error>(own)
        };
        let mut of_labels: Vec<Arc<[f32]>> = Vec::with_capacity(asked.labels.len());
        for (label, known) in &asked.labels {
            of_labels.push(match known {
                Vector::Kept(known) => known.clone(),
                Vector::Row(row) => self.keep(label, vector(*row)?.into()),
            });
        }
        let (mut labels, mut values) = (ElementsBuilder::default(), Vec::new());
        for row in 0..rows {
            let (text, wanted) = (vector(row)?, &asked.wanted[row * asked.each..][..asked.each]);
            let cosines: Vec<f32> =
                wanted.iter().map(|&place| self.scale * pooling::dot(&text, &of_labels[place])).collect();
            let mut ranked: Vec<(usize, f32)> =
                wanted.iter().copied().zip(scores::normalized(&cosines, ScoreRule::Softmax)).collect();
            // Of equal ones the first.
            ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            for (place, score) in ranked {
                labels.push(asked.labels[place].0.as_bytes());
                score.put(&mut values);
            }
        }
        let shape = || table(rows, asked.each);
        let scores = Tensor::new("score", DataType::Fp32, shape(), values.into())?;
        Ok(vec![Tensor::from_elements("label", shape(), labels.finish())?, scores])
    }

    fn keep(&self, label: &str, vector: Arc<[f32]>) -> Arc<[f32]> {
        if label.len() <= LONGEST_KEPT {
            self.kept.insert(label.into(), vector.clone());
        }
        vector
    }
}
