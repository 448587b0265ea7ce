//! How the demo looks: a few rows with their predictions, then what all of them say.

use std::time::Duration;

use salver_core::ModelInfo;

use super::ask::Round;
use super::examples::{Example, HeldOut};
use crate::out;

/// Rows shown of each model.
const SHOWN: usize = 8;

/// Prints a sample of rows with prediction, truth and latency.
pub(crate) fn sample(example: &Example, rows: &[HeldOut], rounds: &[Round]) {
    let Some(first) = rounds.first() else { return };
    let input = if example.is_picture { "picture" } else { "sepal, petal (cm)" };
    let mut headers = vec![input, "prediction", "truth", "", ">probability"];
    let columns: Vec<String> = rounds.iter().map(|round| format!(">{}", round.protocol)).collect();
    headers.extend(columns.iter().map(String::as_str));
    let mut table = out::Rows::new(&headers);
    if example.is_picture {
        table = table.with_lines();
    }
    for idx in pick(rows, first) {
        let (row, answer) = (&rows[idx], &first.answers[idx]);
        let mut cells = vec![
            if example.is_picture { picture(&row.features) } else { measurements(&row.features) },
            answer.label.clone(),
            row.truth.clone(),
            if answer.label == row.truth { "right" } else { "WRONG" }.to_owned(),
            format!("{:.1} %", answer.probability * 100.0),
        ];
        cells.extend(rounds.iter().map(|round| millis(round.answers[idx].took)));
        table.push(cells);
    }
    table.print();
}

/// Prints accuracy and latency over all rows.
pub(crate) fn summary(info: &ModelInfo, rows: &[HeldOut], rounds: &[Round]) {
    let mut table = out::Rows::new(&["all held-out rows over", ">rows", ">right", ">accuracy", ">p50", ">p95"]);
    for round in rounds {
        let correct = round.correct(rows);
        table.push([
            round.protocol.to_owned(),
            rows.len().to_string(),
            correct.to_string(),
            format!("{:.4}", correct as f64 / rows.len().max(1) as f64),
            millis(round.latency(0.5)),
            millis(round.latency(0.95)),
        ]);
    }
    table.print();
    if let Some(trained) = info.metrics.get("accuracy") {
        out::line(format!("Accuracy when it was trained: {trained:.4}. Engine: {} ({}).", info.engine, info.platform));
    }
}

/// Picks rows from all over, and one that is predicted wrongly if there is one: a demo without
/// mistakes would show less than the model is.
fn pick(rows: &[HeldOut], round: &Round) -> Vec<usize> {
    let shown = SHOWN.min(rows.len());
    let mut picked: Vec<usize> = (0..shown).map(|idx| idx * rows.len() / shown.max(1)).collect();
    let wrong = round.answers.iter().zip(rows).position(|(answer, row)| answer.label != row.truth);
    if let (Some(wrong), Some(last)) = (wrong.filter(|wrong| !picked.contains(wrong)), picked.last_mut()) {
        *last = wrong;
    }
    picked.sort_unstable();
    picked
}

fn measurements(features: &[f32]) -> String {
    let texts: Vec<String> = features.iter().map(|value| format!("{value:.1}")).collect();
    texts.join("  ")
}

/// Draws 8x8 pixels of 0 to 16 with half blocks, two pixel rows to a line.
fn picture(pixels: &[f32]) -> String {
    let is_ink = |row: usize, column: usize| pixels.get(row * 8 + column).is_some_and(|&pixel| pixel >= 6.0);
    let block = |row: usize, column: usize| match (is_ink(row, column), is_ink(row + 1, column)) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    };
    let line = |row: usize| (0..8).map(|column| block(row, column)).collect::<String>();
    let lines: Vec<String> = (0..8).step_by(2).map(line).collect();
    lines.join("\n")
}

pub(crate) fn millis(took: Duration) -> String {
    format!("{:.2} ms", took.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::super::ask::Answer;
    use super::*;

    #[test]
    fn a_picture_is_four_lines_of_eight() {
        let mut pixels = vec![0.0; 64];
        pixels[0] = 16.0;
        pixels[9] = 16.0;
        pixels[18] = 16.0;
        pixels[26] = 16.0;
        let drawn = picture(&pixels);
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[0], "▀▄      ");
        assert_eq!(lines[1], "  █     ");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn a_wrong_answer_is_always_among_the_rows_shown() {
        let rows: Vec<HeldOut> = (0..45).map(|_| HeldOut { features: vec![], truth: "a".to_owned() }).collect();
        let answer = |label: &str| Answer { label: label.to_owned(), probability: 1.0, took: Duration::ZERO };
        let answers = (0..45).map(|idx| answer(if idx == 17 { "b" } else { "a" })).collect();
        let picked = pick(&rows, &Round { protocol: "x", answers });
        assert!(picked.contains(&17) && picked.len() == SHOWN, "{picked:?}");
    }
}
