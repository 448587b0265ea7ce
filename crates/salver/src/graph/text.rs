//! An ensemble as text: its levels from top to bottom, the steps of a level side by side.

use salver_protocol::graph::{Figures, Graph, Look, Step, clipped, columns, terms};

use crate::out;

/// The most columns of a line.
const WIDTH: usize = 100;
/// The fewest columns of what stands in a box.
const LEAST: usize = 22;
/// What the frame of a box takes at both sides.
const FRAME: usize = 4;
/// Between two boxes.
const GAP: &str = "  ";
/// From a level to the next.
const ARROW: [&str; 2] = ["      │", "      ▼"];

/// Draws a graph in lines of at most 100 columns.
pub(super) fn draw(look: &Look) -> String {
    let graph = look.graph();
    let boxes: Vec<Boxed> = look.steps().map(|(step, figures)| Boxed::of(step, figures)).collect();
    let mut lines = vec![head(look), String::new()];
    lines.extend(wrapped(&graph.inputs));
    for level in graph.levels() {
        lines.extend(ARROW.map(str::to_owned));
        let level: Vec<&Boxed> = level.into_iter().filter_map(|step| boxes.get(step)).collect();
        for row in rows(&level) {
            lines.extend(side_by_side(row));
        }
    }
    lines.extend(ARROW.map(str::to_owned));
    lines.extend(outputs(graph));
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n")
}

/// Makes text from elsewhere a part of a line.
fn plain(text: &str) -> String {
    out::printable(text).replace('\n', " ")
}

fn head(look: &Look) -> String {
    let graph = look.graph();
    let n_steps = graph.steps.len();
    let steps = format!("{n_steps} {}", if n_steps == 1 { "step" } else { "steps" });
    let of = match look.interval() {
        Some(interval) => format!("the last {:.1} s", interval.as_secs_f64()),
        None => "since it was loaded".to_owned(),
    };
    clipped(&plain(&format!("{}/{} · {steps} · {of}", graph.name, graph.version)), WIDTH)
}

/// A step's box, still without its frame.
struct Boxed {
    name: String,
    /// What it is.
    body: Vec<String>,
    /// What it does.
    foot: Vec<String>,
    /// Of what stands in the frame.
    width: usize,
}

impl Boxed {
    fn of(step: &Step, figures: &Figures) -> Self {
        let fit = |text: &str| clipped(&plain(text), WIDTH - FRAME);
        let mut body = vec![fit(&step.model)];
        body.extend(step.inputs.iter().map(|input| fit(&format!("{} ← {}", input.name, input.from.join(", ")))));
        body.extend(terms(step).iter().map(|(term, text)| fit(&format!("{term} {text}"))));
        let foot = std::iter::once(figures.pace()).chain(figures.trouble()).map(|line| fit(&line)).collect();
        let mut boxed = Self { name: fit(&step.name), body, foot, width: LEAST };
        // The name stands in the frame, with a bit of it at each side.
        let widths = boxed.body.iter().chain(&boxed.foot).map(|line| columns(line));
        boxed.width = widths.chain([columns(&boxed.name) + 2]).fold(LEAST, usize::max).min(WIDTH - FRAME);
        boxed.name = clipped(&boxed.name, boxed.width - 2);
        boxed
    }

    /// Returns its lines, with as many in body and foot as the highest box beside it has.
    fn lines(&self, body: usize, foot: usize) -> Vec<String> {
        let rule = |n: usize| "─".repeat(n);
        let blank = String::new();
        let body = self.body.iter().chain(std::iter::repeat_n(&blank, body - self.body.len()));
        let foot = self.foot.iter().chain(std::iter::repeat_n(&blank, foot - self.foot.len()));
        let inner = body.chain(foot).map(|line| format!("│ {line}{} │", " ".repeat(self.width - columns(line))));
        std::iter::once(format!("┌─ {} {}┐", self.name, rule(self.width - 1 - columns(&self.name))))
            .chain(inner)
            .chain([format!("└{}┘", rule(self.width + 2))])
            .collect()
    }
}

/// Puts the boxes of a level into rows that are not too wide.
fn rows<'a>(level: &'a [&'a Boxed]) -> Vec<&'a [&'a Boxed]> {
    let (mut rows, mut begin, mut width) = (Vec::new(), 0, 0);
    for (idx, boxed) in level.iter().enumerate() {
        let taken = boxed.width + FRAME + if idx > begin { GAP.len() } else { 0 };
        if idx > begin && width + taken > WIDTH {
            rows.push(&level[begin..idx]);
            (begin, width) = (idx, boxed.width + FRAME);
        } else {
            width += taken;
        }
    }
    rows.push(&level[begin..]);
    rows
}

fn side_by_side(row: &[&Boxed]) -> Vec<String> {
    let body = row.iter().map(|boxed| boxed.body.len()).max().unwrap_or(0);
    let foot = row.iter().map(|boxed| boxed.foot.len()).max().unwrap_or(0);
    let boxes: Vec<Vec<String>> = row.iter().map(|boxed| boxed.lines(body, foot)).collect();
    let n_lines = boxes.iter().map(Vec::len).max().unwrap_or(0);
    let line = |idx: usize| boxes.iter().filter_map(|lines| lines.get(idx)).map(String::as_str).collect::<Vec<_>>();
    (0..n_lines).map(|idx| line(idx).join(GAP)).collect()
}

/// Writes names one after the other, in as many lines as they need.
fn wrapped(names: &[String]) -> Vec<String> {
    let mut lines = vec![" ".to_owned()];
    for (idx, name) in names.iter().enumerate() {
        let comma = if idx + 1 < names.len() { "," } else { "" };
        let word = format!(" {}{comma}", clipped(&plain(name), WIDTH - 4));
        match lines.last_mut() {
            Some(line) if columns(line) + columns(&word) <= WIDTH => line.push_str(&word),
            _ => lines.push(format!(" {word}")),
        }
    }
    lines
}

fn outputs(graph: &Graph) -> impl Iterator<Item = String> {
    let line = |name: &str, from: &[String]| clipped(&plain(&format!("  {name} ← {}", from.join(", "))), WIDTH);
    graph.outputs.iter().map(move |output| line(&output.name, &output.from))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use salver_protocol::graph::Statistics;
    use serde_json::{Value, json};

    use super::*;

    fn step(name: &str, model: &str, inputs: &[(&str, &str)], after: &[&str]) -> Value {
        let inputs: Vec<Value> = inputs.iter().map(|(name, from)| json!({ "name": name, "from": [from] })).collect();
        json!({
            "name": name, "model": model, "inputs": inputs, "after": after, "when": null, "each": false,
            "fallback": null, "timeout_ms": null, "on_failure": "fail", "statistics": Statistics::default(),
        })
    }

    fn recommender() -> Graph {
        let mut score =
            step("score", "score@stable", &[("user", "features.row"), ("film", "films.ids")], &["features", "films"]);
        score["when"] = json!("features.age >= 18");
        score["each"] = json!(true);
        score["fallback"] = json!("score/3");
        score["timeout_ms"] = json!(20);
        let mut adverts = step("adverts", "adverts", &[("user", "features.row")], &["features"]);
        adverts["on_failure"] = json!("skip");
        let graph = json!({
            "name": "recommender", "version": 1, "inputs": ["user_id", "n"],
            "steps": [
                step("features", "user-features", &[("key", "user_id")], &[]),
                step("films", "candidates/2", &[("user", "user_id"), ("n", "n")], &[]),
                score,
                adverts,
            ],
            "outputs": [
                { "name": "scores", "from": ["score.scores", "0.5"] },
                { "name": "adverts", "from": ["adverts.ids"] },
            ],
        });
        serde_json::from_value(graph).unwrap()
    }

    fn narrow(text: &str) {
        for line in text.lines() {
            assert!(columns(line) <= WIDTH && line == line.trim_end(), "{line:?}");
        }
    }

    #[test]
    fn levels_stand_below_each_other_and_steps_of_a_level_side_by_side() {
        let (before, mut graph) = (recommender(), recommender());
        let did = [(118, 0, 147.5), (118, 0, 48.4), (100, 3, 1200.0), (0, 0, 0.0)];
        for (step, (runs, failed, total_ms)) in graph.steps.iter_mut().zip(did) {
            step.statistics = Statistics { runs, failed, skipped: 0, fallbacks: failed, total_ms };
        }
        let drawn = draw(&Look::since(graph, &before, Duration::from_secs(1)));
        narrow(&drawn);
        let expected = "\
recommender/1 · 4 steps · the last 1.0 s

  user_id, n
      │
      ▼
┌─ features ─────────────┐  ┌─ films ────────────────┐
│ user-features          │  │ candidates/2           │
│ key ← user_id          │  │ user ← user_id         │
│                        │  │ n ← n                  │
│ 118 runs/s · 1.25 ms   │  │ 118 runs/s · 410 µs    │
└────────────────────────┘  └────────────────────────┘
      │
      ▼
┌─ score ──────────────────────────┐  ┌─ adverts ──────────────┐
│ score@stable                     │  │ adverts                │
│ user ← features.row              │  │ user ← features.row    │
│ film ← films.ids                 │  │ else nothing           │
│ when features.age >= 18          │  │                        │
│ each item of a list              │  │                        │
│ within 20 ms                     │  │                        │
│ else score/3                     │  │                        │
│ 100 runs/s · 12.0 ms             │  │ idle · no run yet      │
│ 3.0/s failed · 3.0/s by fallback │  │                        │
└──────────────────────────────────┘  └────────────────────────┘
      │
      ▼
  scores ← score.scores, 0.5
  adverts ← adverts.ids";
        assert_eq!(drawn, expected, "\n{drawn}");
    }

    #[test]
    fn a_level_that_is_too_wide_goes_on_below() {
        let mut graph = recommender();
        let one = graph.steps[0].clone();
        graph.steps = (0..9).map(|idx| Step { name: format!("s{idx}"), ..one.clone() }).collect();
        graph.steps[8].name = "n".repeat(128);
        graph.steps[7].model = "m".repeat(120);
        graph.inputs = (0..40).map(|idx| format!("input_{idx}")).collect();
        let drawn = draw(&Look::so_far(graph));
        narrow(&drawn);
        let beside = |name: &str| drawn.lines().find(|line| line.contains(name)).unwrap().matches('┌').count();
        assert_eq!(["─ s0 ─", "─ s2 ─", "─ s3 ─", "─ s6 ─", "─ s7 ─", "─ nnn"].map(beside), [3, 3, 3, 1, 1, 1]);
        assert_eq!(drawn.matches('▼').count(), 2, "{drawn}");
        assert!(
            drawn.contains("mm… │") && drawn.contains("nn… ─┐") && drawn.contains("since it was loaded"),
            "{drawn}"
        );
    }

    #[test]
    fn what_a_server_says_cannot_steer_the_terminal_or_the_frame() {
        let mut graph = recommender();
        graph.steps[0].model = "e\u{1b}[31mvil\nline".to_owned();
        graph.steps[1].name = "模型".to_owned();
        graph.inputs[0] = "\u{7}\n".to_owned();
        let drawn = draw(&Look::so_far(graph));
        narrow(&drawn);
        assert!(!drawn.contains('\u{1b}') && drawn.contains("e\u{fffd}[31mvil line"), "{drawn}");
        let top = drawn.lines().find(|line| line.contains("模型")).unwrap();
        let below = drawn.lines().find(|line| line.contains("candidates/2")).unwrap();
        assert_eq!(columns(top), columns(below), "{drawn}");
    }

    #[test]
    fn an_ensemble_of_nothing_is_drawn_too() {
        let graph = Graph { inputs: Vec::new(), steps: Vec::new(), outputs: Vec::new(), ..recommender() };
        assert!(draw(&Look::so_far(graph)).starts_with("recommender/1 · 0 steps · since it was loaded"));
    }
}
