//! Draws an ensemble as a picture: inputs on the left, outputs on the right, steps between them.
//!
//! A picture has no scripts and asks for nothing; foreign text is escaped and clipped, and stands in
//! full where a box is pointed at. Its own background and its colours for dark pages keep it legible
//! on both.

mod layout;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use self::layout::{Edge, Layout, Node, Point};
use super::figures::{Figures, Look};
use super::{Graph, Names, Origin, Step, Value, clipped, columns};

/// Around the whole.
const MARGIN: f64 = 20.0;
/// The line that says what is shown.
const HEAD: f64 = 30.0;
/// The height of a line in a box.
const LINE: f64 = 17.0;
/// Above the first line of a box and below the last, and at its sides.
const INSET: f64 = 9.0;
/// What a character takes: seven tenths of a pixel more than a fixed font of 12 pixels has, because
/// fonts differ.
const CHAR: f64 = 7.4;
/// The most characters of a line.
const MAX_LINE: usize = 44;
/// The most characters at a wire.
const MAX_LABEL: usize = 26;
/// The most names in the box of the inputs or outputs.
const MAX_NAMES: usize = 24;

const STYLE: &str = "\
text{font:12px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1f2328}\
.card{fill:#fff}.box{fill:#f6f8fa;stroke:#8c959f}.end{fill:#ddf4ff;stroke:#54aeff}\
.name{font-weight:bold}.faint,.label{fill:#59636e}.label{font-size:11px}.pace{fill:#0a5dc2}.trouble{fill:#b3261e}\
.wire{fill:none;stroke:#6e7781;stroke-width:1.3}.only-when{stroke-dasharray:5 4}.tip{fill:#6e7781}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.card{fill:#0d1117}.box{fill:#161b22;stroke:#6e7681}\
.end{fill:#10243c;stroke:#388bfd}.faint,.label{fill:#9198a1}.pace{fill:#79c0ff}.trouble{fill:#ff9a8f}\
.wire{stroke:#8b949e}.tip{fill:#8b949e}}";

/// A box and what stands in it.
struct Card {
    class: &'static str,
    column: usize,
    /// Lines and how each looks.
    lines: Vec<(&'static str, String)>,
    /// Shown where the box is pointed at.
    hover: String,
}

/// Values that flow from one box to another.
struct Wire {
    from: usize,
    to: usize,
    /// What is written at it; none: it only decides whether the step runs.
    label: Option<String>,
}

/// Draws the picture, as a document of its own.
pub fn draw(look: &Look) -> String {
    let graph = look.graph();
    let (cards, wires) = (cards(look), wires(graph));
    let nodes: Vec<Node> = cards.iter().map(Card::node).collect();
    let edges: Vec<Edge> = wires.iter().map(Wire::edge).collect();
    let layout = layout::place(&nodes, &edges);
    let of = look.interval().map_or_else(
        || "since it was loaded".to_owned(),
        |interval| format!("the last {:.1} s", interval.as_secs_f64()),
    );
    let head = format!("{}/{} · {of}", clipped(&graph.name, 2 * MAX_LINE), graph.version);
    let width = layout.size.0.max(columns(&head) as f64 * CHAR) + 2.0 * MARGIN;
    let height = layout.size.1 + HEAD + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\"><title>{0}</title><style>{STYLE}</style>\
         <rect class=\"card\" fill=\"#fff\" width=\"100%\" height=\"100%\" rx=\"8\"/>\
         <text class=\"faint\" x=\"{MARGIN}\" y=\"{1:.0}\">{0}</text><g transform=\"translate({MARGIN} {2})\">",
        escaped(&head),
        MARGIN + 12.0,
        MARGIN + HEAD,
    );
    draw_wires(&mut svg, &layout, &wires);
    for (idx, card) in cards.iter().enumerate() {
        card.draw(&mut svg, layout.corners[idx], layout.sizes[idx]);
    }
    svg.push_str("</g></svg>\n");
    svg
}

/// Returns the box of the inputs, one for each step, and the box of the outputs.
fn cards(look: &Look) -> Vec<Card> {
    let graph = look.graph();
    let levels = graph.levels();
    let mut column_of = vec![1; graph.steps.len()];
    for (level, steps) in levels.iter().enumerate() {
        for &step in steps {
            column_of[step] = level + 1;
        }
    }
    let inputs = graph.inputs.iter().map(String::clone);
    let outputs = graph.outputs.iter().map(|output| output.name.clone());
    let steps = look.steps().zip(&column_of).map(|((step, figures), column)| Card::of_step(step, figures, *column));
    std::iter::once(Card::of_names("inputs", inputs.collect(), 0))
        .chain(steps)
        .chain([Card::of_names("outputs", outputs.collect(), levels.len() + 1)])
        .collect()
}

impl Card {
    fn of_names(title: &str, names: Vec<String>, column: usize) -> Self {
        let more = names.len().saturating_sub(MAX_NAMES);
        let shown = names.iter().take(MAX_NAMES).map(|name| ("", clipped(name, MAX_LINE)));
        let mut lines: Vec<_> = std::iter::once(("faint", title.to_owned())).chain(shown).collect();
        if more > 0 {
            lines.push(("faint", format!("… {more} more")));
        }
        Self { class: "end", column, lines, hover: String::new() }
    }

    fn of_step(step: &Step, figures: &Figures, column: usize) -> Self {
        let mut lines = vec![("name", step.name.clone()), ("faint", step.model.clone())];
        lines.extend(super::terms(step).into_iter().map(|(term, text)| ("", format!("{term} {text}"))));
        lines.push(("pace", figures.pace()));
        lines.extend(figures.trouble().map(|trouble| ("trouble", trouble)));
        let reads = step.inputs.iter().map(|input| format!("{} ← {}", input.name, input.from.join(", ")));
        let hover: Vec<String> = lines.iter().map(|(_, line)| line.clone()).chain(reads).collect();
        let hover = hover.join("\n");
        let lines = lines.into_iter().map(|(class, line)| (class, clipped(&line, MAX_LINE))).collect();
        Self { class: "box", column, lines, hover }
    }

    fn node(&self) -> Node {
        let widest = self.lines.iter().map(|(_, line)| columns(line)).max().unwrap_or(0);
        Node {
            column: self.column,
            width: widest as f64 * CHAR + 2.0 * INSET,
            height: self.lines.len() as f64 * LINE + 2.0 * INSET - 3.0,
        }
    }

    fn draw(&self, svg: &mut String, (x, y): Point, (width, height): Point) {
        let Self { class, .. } = self;
        put(svg, format_args!("<g><title>{}</title>", escaped(&self.hover)));
        put(
            svg,
            format_args!(
                "<rect class=\"{class}\" fill=\"#f6f8fa\" stroke=\"#8c959f\" x=\"{x:.1}\" y=\"{y:.1}\" \
                 width=\"{width:.1}\" height=\"{height:.1}\" rx=\"5\"/>"
            ),
        );
        let text_height = self.lines.len() as f64 * LINE;
        for (idx, (class, line)) in self.lines.iter().enumerate() {
            let (x, y) = (x + INSET, y + (height - text_height) / 2.0 + idx as f64 * LINE + 12.5);
            put(svg, format_args!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(line)));
        }
        svg.push_str("</g>");
    }
}

/// Joins what flows between two boxes. The box of the inputs is the first, then come the steps.
fn wires(graph: &Graph) -> Vec<Wire> {
    let names = Names::of(graph);
    let mut flows: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    let outputs = (graph.steps.len() + 1, &graph.outputs);
    let steps = graph.steps.iter().enumerate().map(|(idx, step)| (idx + 1, &step.inputs));
    for (to, values) in steps.chain([outputs]) {
        for value in values {
            for (from, label) in ends(&names, value) {
                // Only forwards, whatever a server says.
                if from < to {
                    let labels = flows.entry((from, to)).or_default();
                    if !labels.contains(&label) {
                        labels.push(label);
                    }
                }
            }
        }
    }
    let deciding = graph.steps.iter().enumerate().flat_map(|(idx, step)| {
        let before = step.after.iter().filter_map(|name| graph.steps.iter().position(|other| other.name == *name));
        before.map(move |before| (before + 1, idx + 1))
    });
    let deciding: Vec<_> = deciding.filter(|(from, to)| from < to && !flows.contains_key(&(*from, *to))).collect();
    let flowing = flows.into_iter().map(|((from, to), labels)| Wire { from, to, label: Some(labels.join(", ")) });
    flowing.chain(deciding.into_iter().map(|(from, to)| Wire { from, to, label: None })).collect()
}

/// Returns the boxes that a value comes from, and what it is called on the way.
fn ends<'a>(names: &Names<'a>, value: &'a Value) -> Vec<(usize, String)> {
    let called = |at_source: &str| match at_source == value.name {
        true => value.name.clone(),
        false => format!("{at_source} → {}", value.name),
    };
    let end = |from: &'a String| match names.origin(from) {
        Origin::Input(input) => Some((0, called(input))),
        Origin::Step(step, output) => Some((step + 1, called(output))),
        Origin::Constant(_) => None,
    };
    value.from.iter().filter_map(end).collect()
}

impl Wire {
    fn text(&self) -> String {
        clipped(self.label.as_deref().unwrap_or("when"), MAX_LABEL)
    }

    fn edge(&self) -> Edge {
        Edge { from: self.from, to: self.to, label: columns(&self.text()) as f64 * CHAR * 0.92 + 14.0 }
    }
}

fn draw_wires(svg: &mut String, layout: &Layout, wires: &[Wire]) {
    for (from, (x, y), width) in &layout.passing {
        let bend = bend(*from, (*x, *y));
        put(svg, format_args!("<path class=\"wire\" fill=\"none\" stroke=\"#6e7781\" d=\"{bend}H{:.1}\"/>", x + width));
    }
    for (wire, (from, (x, y))) in wires.iter().zip(&layout.wires) {
        let class = if wire.label.is_some() { "wire" } else { "wire only-when" };
        let bend = bend(*from, (x - wire.edge().label, *y));
        let end = x - 5.0;
        put(svg, format_args!("<path class=\"{class}\" fill=\"none\" stroke=\"#6e7781\" d=\"{bend}H{end:.1}\"/>"));
        put(svg, format_args!("<path class=\"tip\" fill=\"#6e7781\" d=\"M{x:.1} {y:.1}l-8 -4v8z\"/>"));
        let (x, y) = (x - 11.0, y - 4.0);
        let text = escaped(&wire.text());
        put(svg, format_args!("<text class=\"label\" text-anchor=\"end\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"));
    }
}

/// The curve from one point to another that leaves and arrives level.
fn bend((x, y): Point, (to_x, to_y): Point) -> String {
    if (y - to_y).abs() < 0.05 {
        return format!("M{x:.1} {y:.1}H{to_x:.1}");
    }
    let middle = f64::midpoint(x, to_x);
    format!("M{x:.1} {y:.1}C{middle:.1} {y:.1} {middle:.1} {to_y:.1} {to_x:.1} {to_y:.1}")
}

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = svg.write_fmt(text);
}

/// Escapes text for XML; what XML has no place for at all is shown as such.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push('\n'),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
