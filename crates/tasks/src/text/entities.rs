//! Which class each token has, and which tokens together name something.
//!
//! As Hugging Face's token classification with `aggregation_strategy="simple"`: neighbouring tokens
//! of one class are one entity, `B-` begins another, and `O` is none.

use std::ops::Range;

use salver_core::{Dim, Error, Result, ScoreRule, Signature, Tensor};
use serde::Serialize;

use super::outputs;
use super::tokenizer::Tokens;
use crate::parts::{self, Numbers};
use crate::scores;

/// What is no entity.
const OUTSIDE: &str = "O";

/// Finds entities.
#[derive(Debug)]
pub(super) struct Tagger {
    output: usize,
    labels: Vec<String>,
}

/// One entity, as answers show it.
#[derive(Debug, Serialize)]
struct Entity<'a> {
    entity: &'a str,
    score: f32,
    start: usize,
    end: usize,
    text: &'a str,
}

/// Tokens that belong together.
struct Group<'a> {
    name: &'a str,
    scores: Vec<f32>,
    start: usize,
    end: usize,
}

impl Tagger {
    /// Finds the output and checks the labels against it.
    ///
    /// # Errors
    /// `InvalidInput` where they do not fit.
    pub(super) fn new(signature: &Signature, labels: &[String]) -> Result<Self> {
        let output = outputs::logits(signature, 3)?;
        let spec = &signature.outputs[output];
        let labels = match (spec.shape.last(), labels.len()) {
            (Some(Dim::Fixed(classes)), 0) => (0..*classes).map(|class| class.to_string()).collect(),
            (_, 0) => {
                return Err(Error::invalid_input(format!(
                    "output '{}' has shape {:?}, which does not say how many classes there are; give `labels`",
                    spec.name,
                    spec.wire_shape()
                )));
            }
            (Some(Dim::Fixed(classes)), given) if *classes != given => {
                return Err(Error::invalid_input(format!(
                    "there are {given} labels, but output '{}' has shape {:?}: {classes} scores for each token",
                    spec.name,
                    spec.wire_shape()
                )));
            }
            _ => labels.to_vec(),
        };
        Ok(Self { output, labels })
    }

    /// Returns the entities of each row of a part, as JSON. `place` returns where a row's tokens
    /// stand, given how many the output has; `row` returns a row's tokens and its text.
    ///
    /// # Errors
    /// `Engine` where the output is not what the signature says.
    pub(super) fn tag<'a>(
        &self,
        outputs: &[Tensor],
        rows: usize,
        place: impl Fn(usize, usize) -> Range<usize>,
        row: impl Fn(usize) -> (&'a Tokens, &'a [u8]),
    ) -> Result<Vec<String>> {
        let output = parts::output(outputs, self.output)?;
        let numbers = Numbers::new(output, rows)?;
        let (length, classes) = (output.shape().get(1).copied().unwrap_or(0), self.labels.len());
        if numbers.each != length * classes {
            return Err(Error::engine(format!(
                "output '{}' has shape {}, expected {classes} scores for each token",
                output.name(),
                output.shape()
            )));
        }
        let mut scores = Vec::new();
        let one = |idx: usize| {
            let place = place(idx, length);
            if place.end > length {
                return Err(outputs::too_short(output, &place));
            }
            let start = idx * numbers.each;
            scores.clear();
            numbers.append(start + place.start * classes..start + place.end * classes, &mut scores)?;
            let (tokens, text) = row(idx);
            self.entities(tokens, std::str::from_utf8(text).unwrap_or_default(), &scores)
        };
        (0..rows).map(one).collect()
    }

    fn entities(&self, tokens: &Tokens, text: &str, scores: &[f32]) -> Result<String> {
        let groups = self.groups(tokens, scores);
        let mut finder = Finder { text, bytes: 0, characters: 0 };
        let entities: Vec<Entity<'_>> = groups
            .iter()
            .filter(|group| shown(group.name) != OUTSIDE)
            .map(|group| Entity {
                entity: shown(group.name),
                score: mean(&group.scores),
                start: group.start,
                end: group.end,
                text: finder.slice(group.start..group.end),
            })
            .collect();
        serde_json::to_string(&entities).map_err(|error| Error::engine("write entities").with_source(error))
    }

    fn groups(&self, tokens: &Tokens, scores: &[f32]) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        let each = scores.chunks_exact(self.labels.len().max(1));
        for ((own, &(start, end)), _) in
            each.zip(&tokens.offsets).zip(&tokens.special).filter(|(_, special)| **special == 0)
        {
            let (class, score) = best(own);
            let (is_first, name) = split(&self.labels[class]);
            match groups.last_mut().filter(|last| !is_first && last.name == name) {
                Some(last) => {
                    last.scores.push(score);
                    last.end = end;
                }
                None => groups.push(Group { name, scores: vec![score], start, end }),
            }
        }
        groups
    }
}

/// Finds characters of a text, going forward.
struct Finder<'a> {
    text: &'a str,
    bytes: usize,
    characters: usize,
}

impl<'a> Finder<'a> {
    fn slice(&mut self, range: Range<usize>) -> &'a str {
        let (start, end) = (self.byte(range.start), self.byte(range.end));
        self.text.get(start..end).unwrap_or_default()
    }

    fn byte(&mut self, character: usize) -> usize {
        if character < self.characters {
            (self.bytes, self.characters) = (0, 0);
        }
        let rest = &self.text[self.bytes..];
        let step = rest.char_indices().nth(character - self.characters).map_or(rest.len(), |(byte, _)| byte);
        self.bytes += step;
        self.characters = character;
        self.bytes
    }
}

/// Returns the best class and its score.
fn best(scores: &[f32]) -> (usize, f32) {
    let scores = scores::normalized(scores, ScoreRule::Softmax);
    let better = |best: (usize, f32), next: (usize, f32)| if next.1 > best.1 { next } else { best };
    scores.into_iter().enumerate().reduce(better).unwrap_or((0, f32::NAN))
}

/// Takes a label apart: whether it begins an entity, and the entity's name.
fn split(label: &str) -> (bool, &str) {
    match label.split_once('-') {
        Some(("B", name)) => (true, name),
        Some(("I", name)) => (false, name),
        _ => (false, label),
    }
}

/// Returns an entity's name without the mark that other schemes put before it.
fn shown(name: &str) -> &str {
    name.split_once('-').map_or(name, |(_, rest)| rest)
}

fn mean(scores: &[f32]) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a text has fewer than 2^24 tokens")]
    let count = scores.len() as f32;
    scores.iter().sum::<f32>() / count
}
