//! Chores of the repository.
//!
//! `cargo xtask test` is the one test command: it fetches what the tests need, runs the Rust tests
//! and then drives the real binary with unmodified Python clients. What cannot be had is skipped
//! loudly, or a failure where `SALVER_REQUIRE_SERVICES=1`.

mod test;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

/// Chores of the Salver repository.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Runs every test: Rust, then unmodified Python clients against the real binary.
    Test {
        /// Leaves the Python clients out.
        #[arg(long)]
        rust_only: bool,
        /// Runs only the Python clients, against the binary that is built already.
        #[arg(long, conflicts_with = "rust_only")]
        python_only: bool,
        /// Further arguments for pytest, after `--`.
        #[arg(last = true)]
        pytest: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().chore {
        Chore::Test { rust_only, python_only, pytest } => test::run(!python_only, !rust_only, &pytest),
    }
}

/// Returns the repository's root.
fn root() -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    crates.and_then(Path::parent).map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod guard_rails;
