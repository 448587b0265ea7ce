//! `salver top`: what each model of a running server does right now.
//!
//! Two looks at `/metrics` give the figures of the time between them. On a terminal the table is
//! drawn in place until somebody quits; elsewhere each interval prints one.

mod exposition;
mod figures;
mod quantile;
mod scrape;
pub(crate) mod screen;
mod view;

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use salver_client::HttpClient;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

use self::figures::Figures;
use self::scrape::Scrape;
use self::screen::Screen;
use crate::cli::{TopOptions, TopSort};
use crate::out;

/// How long a server may take to show its metrics.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the command.
///
/// # Errors
/// With `--once`, where the server is not reached.
pub(crate) async fn run(options: &TopOptions) -> Result<()> {
    let watch = Watch::new(options)?;
    if options.once || options.json || !out::is_terminal() {
        print(watch, options).await
    } else {
        show(watch, options.sort).await
    }
}

/// Looks at a server again and again.
struct Watch {
    client: HttpClient,
    /// The last look that succeeded.
    before: Option<(Scrape, Instant)>,
    ticks: Interval,
}

impl Watch {
    fn new(options: &TopOptions) -> Result<Self> {
        let mut ticks = tokio::time::interval(options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { client: HttpClient::new(&options.server.server)?, before: None, ticks })
    }

    fn server(&self) -> String {
        self.client.base().to_string()
    }

    /// Waits for the next turn and compares the server with what it was at the last look. A look
    /// that is given up changes nothing.
    async fn next(&mut self) -> Result<Figures> {
        self.ticks.tick().await;
        let scrape = tokio::time::timeout(PATIENCE, scrape(&self.client)).await;
        let scrape = scrape.with_context(|| format!("no answer from {} within {PATIENCE:?}", self.client.base()))??;
        let now = Instant::now();
        let before = self.before.as_ref().map(|(scrape, taken)| (scrape, now - *taken));
        let figures = Figures::new(before, &scrape, SystemTime::now());
        self.before = Some((scrape, now));
        Ok(figures)
    }
}

async fn scrape(client: &HttpClient) -> Result<Scrape> {
    let (metrics, index) = tokio::try_join!(client.get("/metrics"), client.index())?;
    let context = || format!("read the metrics of {}", client.base());
    let text = std::str::from_utf8(&metrics.body).with_context(context)?;
    let mut scrape = Scrape::read(text).with_context(context)?;
    scrape.add_index(&index);
    Ok(scrape)
}

/// Prints each interval's figures, until there is nobody to read them.
async fn print(mut watch: Watch, options: &TopOptions) -> Result<()> {
    loop {
        let is_first = watch.before.is_none();
        let text = match watch.next().await {
            // There is nothing to compare it with.
            Ok(_) if is_first => continue,
            Ok(mut figures) => {
                figures.sort(options.sort);
                if options.json {
                    serde_json::to_string(&figures)?
                } else {
                    view::table(&watch.server(), &figures) + "\n"
                }
            }
            Err(error) if options.once => return Err(error),
            Err(error) if options.json => json!({ "error": format!("{error:#}") }).to_string(),
            Err(error) => {
                out::error(format!("{}; trying again", out::printable(&format!("{error:#}"))));
                continue;
            }
        };
        if out::try_line(text).is_err() || options.once {
            return Ok(());
        }
    }
}

/// Draws the figures in place, until somebody quits.
async fn show(mut watch: Watch, mut sort: TopSort) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
    let mut screen = Screen::enter();
    let (mut page, mut problem) = (format!("Waiting for {} …", watch.server()), String::new());
    let mut latest: Option<Figures> = None;
    loop {
        if let Some(figures) = &mut latest {
            figures.sort(sort);
            page = view::table(&watch.server(), figures);
        }
        screen.draw(&format!("{problem}{page}"), &foot(sort));
        tokio::select! {
            looked = watch.next() => match looked {
                Ok(figures) => (latest, problem) = (Some(figures), String::new()),
                Err(error) => problem = format!("{}; trying again\n\n", out::printable(&format!("{error:#}"))),
            },
            key = screen.key() => match key {
                b'q' | b'Q' => return Ok(()),
                key => sort = sort_of(key).unwrap_or(sort),
            },
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
        }
    }
}

fn foot(sort: TopSort) -> String {
    format!("sorted by {}  ·  r rate  l latency  m memory  n name  ·  q quit", sort.as_str())
}

fn sort_of(key: u8) -> Option<TopSort> {
    match key {
        b'r' => Some(TopSort::Rate),
        b'l' => Some(TopSort::Latency),
        b'm' => Some(TopSort::Memory),
        b'n' => Some(TopSort::Name),
        _ => None,
    }
}
