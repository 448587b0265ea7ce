//! Rules about the whole tree that no compiler checks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

/// Layers from the bottom up, and what each crate may depend on. A new arrow is a decision:
/// change this table and `ARCHITECTURE.md` together.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("telemetry", &[]),
    ("runtime", &["core", "telemetry"]),
    ("engine-onnx", &["core"]),
    ("engine-rten", &["core"]),
    ("engine-python", &["core"]),
    ("tasks", &["core"]),
    ("protocol", &["core"]),
    ("repository", &["core"]),
    ("store", &["core"]),
    ("outbound", &["core"]),
    ("registry", &["core", "repository", "store"]),
    ("jobs", &["core", "store", "telemetry"]),
    ("client", &["core", "protocol"]),
    ("engine-http", &["core", "outbound", "protocol", "telemetry"]),
    ("server", &["core", "jobs", "protocol", "registry", "telemetry"]),
    (
        "salver",
        &[
            "client",
            "core",
            "engine-http",
            "engine-onnx",
            "engine-python",
            "engine-rten",
            "jobs",
            "outbound",
            "protocol",
            "registry",
            "repository",
            "runtime",
            "server",
            "store",
            "tasks",
            "telemetry",
        ],
    ),
    ("testkit", &["core"]),
    ("xtask", &[]),
];

fn crates() -> Vec<PathBuf> {
    let mut folders: Vec<_> = fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("Cargo.toml").exists());
    folders.sort();
    folders
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn every_source() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in crates() {
        sources(&folder.join("src"), &mut found);
    }
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn is_tests(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

#[test]
fn crates_depend_only_downwards() {
    for folder in crates() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            panic!("crate {name} is not in the table of allowed arrows");
        };
        let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let actual: BTreeSet<&str> = dependencies.keys().filter_map(|key| key.strip_prefix("salver-")).collect();
        for arrow in actual {
            assert!(allowed.contains(&arrow), "{name} must not depend on {arrow}");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in every_source() {
        assert!(text.starts_with("//!") || is_tests(&path), "{} has no header", path.display());
    }
}

#[test]
fn no_queue_is_unbounded() {
    for (path, text) in every_source() {
        let unbounded = ["unbounded_channel", "mpsc::channel()", "unbounded()"];
        let found = unbounded.iter().find(|word| text.contains(**word));
        assert!(found.is_none() || path.ends_with("guard_rails.rs"), "{}: {found:?}", path.display());
    }
}

#[test]
fn metric_names_are_defined_in_one_place() {
    for (path, text) in every_source() {
        let registers = text.contains("registry.register(");
        assert!(
            !registers
                || is_tests(&path)
                || path.ends_with("telemetry/src/metrics.rs")
                || path.ends_with("guard_rails.rs"),
            "{}",
            path.display()
        );
    }
}
