//! `salver graph`: the steps of an ensemble on a running server, and what each does right now.
//!
//! Two looks at the server's counts give the figures of the time between them. How a graph is drawn
//! as text stands in `graph/text.rs`; the picture is the one that the server draws, too.

mod text;

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use salver_client::HttpClient;
use salver_core::ModelRef;
use salver_protocol::graph::{Figures, Graph, Look, Step, svg};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use crate::cli::GraphOptions;
use crate::out;
use crate::top::screen::Screen;

/// How long a server may take to show a graph.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the command.
///
/// # Errors
/// Where the server is not reached at first, or has no such ensemble.
pub(crate) async fn run(options: &GraphOptions) -> Result<()> {
    let mut watch = Watch::new(options)?;
    if options.total {
        return show(&Look::so_far(watch.look().await?), options).map(drop);
    }
    let before = (watch.look().await?, Instant::now());
    watch.begin(before);
    if !options.watch {
        return show(&watch.next().await?, options).map(drop);
    }
    if options.json || options.svg.is_some() || !out::is_terminal() {
        repeat(watch, options).await
    } else {
        on_screen(watch).await
    }
}

/// Looks at an ensemble again and again.
struct Watch {
    client: HttpClient,
    model: ModelRef,
    /// The last look that succeeded.
    before: Option<(Graph, Instant)>,
    ticks: Interval,
}

impl Watch {
    fn new(options: &GraphOptions) -> Result<Self> {
        let mut ticks = tokio::time::interval(options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let client = HttpClient::new(&options.server.server)?;
        Ok(Self { client, model: options.model.parse()?, before: None, ticks })
    }

    async fn look(&self) -> Result<Graph> {
        let looked = tokio::time::timeout(PATIENCE, self.client.graph(&self.model)).await;
        Ok(looked.with_context(|| format!("no answer from {} within {PATIENCE:?}", self.client.base()))??)
    }

    /// Measures from here on.
    fn begin(&mut self, before: (Graph, Instant)) {
        self.before = Some(before);
        self.ticks.reset();
    }

    /// Waits for the next turn and compares the steps with what they were at the last look. A look
    /// that is given up changes nothing.
    async fn next(&mut self) -> Result<Look> {
        self.ticks.tick().await;
        let (graph, now) = (self.look().await?, Instant::now());
        let look = match &self.before {
            Some((before, taken)) => Look::since(graph.clone(), before, now - *taken),
            None => Look::so_far(graph.clone()),
        };
        self.before = Some((graph, now));
        Ok(look)
    }
}

/// Prints or writes one look, as is asked for. Returns whether somebody still reads.
fn show(look: &Look, options: &GraphOptions) -> Result<bool> {
    if let Some(file) = &options.svg {
        return write(file, svg::draw(look).as_bytes()).map(|()| true);
    }
    let text = match (options.json, options.watch) {
        (false, false) => text::draw(look),
        (false, true) => text::draw(look) + "\n",
        (true, false) => serde_json::to_string_pretty(&to_json(look)?)?,
        (true, true) => to_json(look)?.to_string(),
    };
    Ok(out::try_line(text).is_ok())
}

/// Writes a whole file: whoever reads it meanwhile finds the one before.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if path == Path::new("-") {
        out::raw(bytes);
        return Ok(());
    }
    let context = || format!("write {}", path.display());
    // What is no file, such as /dev/null or a pipe, cannot be replaced.
    if path.exists() && !path.is_file() {
        return std::fs::write(path, bytes).with_context(context);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut made = tempfile::Builder::new();
    let mut file = made.permissions(permissions()).tempfile_in(folder).with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    file.persist(path).with_context(context).map(drop)
}

/// Those that files have which are made in the usual way; the system takes off what the user's mask says.
fn permissions() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// The graph as the server tells it; each step with what it did in the interval, where there is one.
fn to_json(look: &Look) -> Result<Value> {
    let mut graph = serde_json::to_value(look.graph())?;
    let figures: Vec<Option<Value>> = look.steps().map(of_interval).collect();
    let steps = graph["steps"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    for (step, figures) in steps.iter_mut().zip(figures) {
        if let Some(figures) = figures {
            step["interval"] = figures;
        }
    }
    Ok(graph)
}

fn of_interval((_, figures): (&Step, &Figures)) -> Option<Value> {
    let did = figures.statistics;
    figures.interval.map(|interval| {
        json!({
            "seconds": interval.as_secs_f64(),
            "runs": did.runs, "failed": did.failed, "skipped": did.skipped, "fallbacks": did.fallbacks,
            "runs_per_s": figures.runs_per_s(), "mean_ms": did.mean_ms(),
        })
    })
}

/// Shows each interval, until there is nobody to read it.
async fn repeat(mut watch: Watch, options: &GraphOptions) -> Result<()> {
    loop {
        match watch.next().await {
            Ok(look) if show(&look, options)? => {}
            Ok(_) => return Ok(()),
            Err(error) => out::error(format!("{}; trying again", out::printable(&format!("{error:#}")))),
        }
    }
}

/// Draws each interval in place, until somebody quits.
async fn on_screen(mut watch: Watch) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let mut screen = Screen::enter();
    let mut page = watch.before.as_ref().map(|(graph, _)| text::draw(&Look::so_far(graph.clone()))).unwrap_or_default();
    let mut problem = String::new();
    loop {
        screen.draw(&format!("{problem}{page}"), "q quit");
        tokio::select! {
            looked = watch.next() => match looked {
                Ok(look) => (page, problem) = (text::draw(&look), String::new()),
                Err(error) => problem = format!("{}; trying again\n\n", out::printable(&format!("{error:#}"))),
            },
            key = screen.key() => if matches!(key, b'q' | b'Q') {
                return Ok(());
            },
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph.svg");
        for text in ["<svg>a longer one</svg>", "<svg/>"] {
            write(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        let error = write(&folder.path().join("no/such/folder.svg"), b"").unwrap_err();
        assert!(format!("{error:#}").contains("no/such/folder.svg"), "{error:#}");
        write(Path::new("/dev/null"), b"").unwrap();
    }
}
