//! What stays of workers once they have ended: nothing. A binary of its own, because it counts the
//! files of its process and its children.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use salver_core::{Engine, Inputs, ModelName, ModelSpec, Placement, Predictor, PythonEnvironment, PythonSpec};
use salver_engine_python::{PythonEngine, PythonOptions, Requirements};
use salver_testkit::{python, repository_path, spec_of, tensor};

/// As in `trouble.py`: nothing, be killed, start a child that stays, exit, send nonsense.
const WISHES: [f32; 5] = [1.0, -4.0, -13.0, -3.0, -14.0];
/// In the command line of each worker.
const NAME: &str = "leftovers-of-trouble";

#[test]
fn nothing_stays_behind() {
    let Some(interpreter) = python(&["numpy"]) else { return };
    let options = PythonOptions {
        is_allowed: true,
        interpreter: Some(interpreter),
        requirements: Requirements::Given,
        ..PythonOptions::default()
    };
    let engine = PythonEngine::new(&options);
    let before = open_files();
    let model = engine.load(&spec()).unwrap();
    assert!(open_files() > before && n_workers() > 0, "the worker is not seen");
    let placement = Placement { device: "cpu".to_owned(), threads: 1, core: None };
    for wish in WISHES.into_iter().cycle().take(20) {
        let mut instance = model.instance(&placement).unwrap();
        let _ = instance.run(Inputs::Direct(&[tensor("x", &[1, 2], &[wish, 0.0])]));
    }
    drop(model);
    assert_eq!(open_files(), before);
    assert_eq!(engine.resident_bytes(), 0);
    // Those that have lost their parent were ended too; the system takes a moment to do so.
    let deadline = Instant::now() + Duration::from_secs(60);
    while n_workers() > 0 {
        assert!(Instant::now() < deadline, "{} processes stay", n_workers());
        std::thread::yield_now();
    }
    assert_eq!(children(), Vec::<String>::new());
}

fn spec() -> ModelSpec {
    let artifact = repository_path("tests/models/python/trouble.py");
    let python = PythonSpec {
        folder: artifact.parent().expect("a file lies in a folder").to_owned(),
        predictor: Predictor::Class(None),
        environment: PythonEnvironment::Server,
        inputs: Vec::new(),
        outputs: Vec::new(),
        memory_limit: None,
        start_timeout: PythonSpec::DEFAULT_START_TIMEOUT,
        variables: BTreeMap::new(),
        settings: BTreeMap::new(),
    };
    ModelSpec { name: ModelName::new(NAME).expect("a valid name"), python: Some(python.into()), ..spec_of(&artifact) }
}

fn open_files() -> usize {
    // The listing itself is one.
    Path::new("/proc/self/fd").read_dir().expect("Linux lists them").count() - 1
}

fn of_processes(file: &str) -> Vec<String> {
    let processes = Path::new("/proc").read_dir().expect("Linux lists them").flatten();
    processes.filter_map(|process| std::fs::read_to_string(process.path().join(file)).ok()).collect()
}

fn n_workers() -> usize {
    of_processes("cmdline").iter().filter(|line| line.contains(NAME)).count()
}

/// Also those that have ended and were not waited for.
fn children() -> Vec<String> {
    let own = format!("\nPPid:\t{}\n", std::process::id());
    of_processes("status").into_iter().filter(|status| status.contains(&own)).collect()
}
