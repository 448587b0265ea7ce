//! Runs `salver`: to its end, or as a server that the test asks.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use salver_testkit::{ServerOptions, ServerProcess};

/// Every wait has an end, so that a hanging binary fails a test instead of stopping the run.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The folder of a demo model.
pub(crate) fn demo_model(name: &str) -> PathBuf {
    repository().join("examples/demo").join(name)
}

/// `salver` without the settings of whoever runs the tests.
pub(crate) fn salver() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_salver"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SALVER_") && name != "SALVER_CACHE") {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let said = Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) };
        assert!(!said.err.contains("panicked"), "{said:#?}");
        said
    }
}

/// Runs `salver ARGS` to its end.
pub(crate) fn run(args: &[&str]) -> Said {
    salver().args(args).output().unwrap().into()
}

/// Runs `salver ARGS`, which must succeed.
#[track_caller]
pub(crate) fn succeed(args: &[&str]) -> String {
    let said = run(args);
    assert_eq!(said.code, Some(0), "{args:?} {said:#?}");
    said.out
}

/// Runs `salver ARGS`, which must fail and name each of `parts`.
#[track_caller]
pub(crate) fn refuse(args: &[&str], parts: &[&str]) {
    let said = run(args);
    assert!(said.code.is_some_and(|code| code != 0), "{args:?} {said:#?}");
    for part in parts {
        assert!(said.err.contains(part), "{args:?} lacks {part:?}: {said:#?}");
    }
}

/// Starts `salver serve ARGS` on free ports.
pub(crate) fn serve(args: &[&str]) -> ServerProcess {
    args.iter().fold(options(), |options, arg| options.arg(*arg)).start()
}

/// How this binary is started as a server.
pub(crate) fn options() -> ServerOptions {
    ServerOptions::new().binary(env!("CARGO_BIN_EXE_salver"))
}
