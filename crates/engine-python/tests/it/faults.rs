//! Workers that raise, end, hang and lie: what each costs, and that nothing stays behind.

use std::path::PathBuf;
use std::time::Duration;

use salver_core::{Engine, ErrorKind};

use crate::{check_over, check_sound, engine, instance, of_file, run, spec};

/// As in `trouble.py`.
const RAISE: f32 = -1.0;
const REFUSE: f32 = -2.0;
const EXIT: f32 = -3.0;
const KILLED: f32 = -4.0;
const HANG: f32 = -5.0;
const PRINT: f32 = -6.0;
const SCRIBBLE: f32 = -7.0;
const FORK: f32 = -8.0;
const EAT: f32 = -9.0;
const SEGFAULT: f32 = -10.0;
const SHORT: f32 = -11.0;
const WRONG: f32 = -12.0;
const BABBLE: f32 = -14.0;

#[test]
fn what_a_model_raises_costs_its_batch_and_nothing_else() {
    for shares_answers in [false, true] {
        let Some(engine) = engine(shares_answers) else { return };
        let mut instance = instance(&*engine.load(&spec("trouble.py", &[])).unwrap());
        for (wish, kind, words) in [
            (RAISE, ErrorKind::Engine, "predict raised RuntimeError: asked to"),
            (REFUSE, ErrorKind::InvalidInput, "x must not be -2"),
            (WRONG, ErrorKind::Engine, "output 'y': expected FP32, got an array of <U1"),
        ] {
            let error = run(&mut *instance, &[[1.0, 1.0], [wish, 0.0]]).unwrap_err();
            assert_eq!((error.kind(), error.message()), (kind, error.message()));
            assert!(error.message().contains(words), "{error}");
            check_sound(&mut *instance);
        }
        // Too few rows are noticed where the batch is taken apart.
        assert_eq!(run(&mut *instance, &[[SHORT, 0.0]]).unwrap()[0].shape()[0], 0);
        for wish in [PRINT, SCRIBBLE, FORK] {
            run(&mut *instance, &[[wish, 0.0]]).unwrap();
            check_sound(&mut *instance);
        }
    }
}

#[test]
fn a_worker_that_ends_says_how() {
    let Some(engine) = engine(false) else { return };
    let model = engine.load(&spec("trouble.py", &[])).unwrap();
    for (wish, words) in
        [(EXIT, "exited with status 3"), (KILLED, "was killed (signal 9)"), (SEGFAULT, "crashed (signal 11")]
    {
        let mut instance = instance(&*model);
        let result = run(&mut *instance, &[[wish, 0.0]]);
        check_over(&mut *instance, result, words);
        let again = run(&mut *instance, &[[1.0, 0.0]]).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::NotReady, "{again}");
    }
}

#[test]
fn a_worker_that_hangs_is_interrupted() {
    let Some(engine) = engine(false) else { return };
    let mut instance = instance(&*engine.load(&spec("trouble.py", &[])).unwrap());
    let interrupt = instance.interrupt().unwrap();
    let running = std::thread::spawn(move || {
        let result = run(&mut *instance, &[[HANG, 0.0]]);
        check_over(&mut *instance, result, "was killed");
    });
    // It does nothing before the run has begun.
    while !running.is_finished() {
        interrupt();
        std::thread::yield_now();
    }
    running.join().unwrap();
}

#[test]
fn a_worker_that_says_what_makes_no_sense_is_not_used_again() {
    let Some(engine) = engine(false) else { return };
    let mut instance = instance(&*engine.load(&spec("trouble.py", &[])).unwrap());
    let result = run(&mut *instance, &[[BABBLE, 0.0]]);
    check_over(&mut *instance, result, "makes no sense");
}

#[test]
fn a_worker_that_takes_too_much_memory_is_ended() {
    let Some(engine) = engine(false) else { return };
    let mut asked = spec("trouble.py", &[]);
    let mut python = (**asked.python.as_ref().unwrap()).clone();
    python.memory_limit = Some(256 << 20);
    asked.python = Some(python.into());
    let mut instance = instance(&*engine.load(&asked).unwrap());
    // It may hold more for as long as the run that took it, but not for the next one.
    let sound = match run(&mut *instance, &[[EAT, 0.0]]) {
        Ok(_) => instance.is_sound(false),
        Err(error) => {
            assert!(error.message().contains("more than memory_limit_mb = 256"), "{error}");
            instance.is_sound(true)
        }
    };
    assert!(!sound);
}

/// A folder's name is the model's.
fn in_folder(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("m");
    std::fs::create_dir(&path).unwrap();
    path.join("model.py")
}

fn check_load(source: &str, settings: &[(&str, &str)], words: &[&str]) {
    let Some(engine) = engine(false) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = in_folder(&folder);
    std::fs::write(&path, source).unwrap();
    let error = engine.load(&of_file(path, settings)).err().unwrap();
    for word in words {
        assert!(error.message().contains(word), "expected '{word}' in: {error}");
    }
    assert!(!error.message().contains("<salver worker>"), "{error}");
}

#[test]
fn why_a_model_does_not_load_is_told() {
    check_load(
        "import no_such_package",
        &[],
        &["model.py", "line 1", "ModuleNotFoundError: No module named 'no_such_package'"],
    );
    check_load("class Model\n  pass", &[], &["SyntaxError: expected ':'", "class Model"]);
    check_load("x = 1", &[], &["model.py has no class with a method predict(self, batch)"]);
    check_load(
        "class A:\n  def predict(self, batch): pass\nclass B(A): pass",
        &[],
        &["several classes with predict: A, B", "class = \"...\" in [python]"],
    );
    check_load("class A:\n  def predict(self, batch): pass", &[], &["nothing says what the model takes", "[[input]]"]);
    let shape = "class A:\n  inputs = {'x': ('FP32', 4)}\n  def predict(self, batch): pass";
    check_load(shape, &[], &["inputs['x'] is ('FP32', 4); expected a type and a shape"]);
    let load = "class A:\n  def load(self):\n    raise OSError('no weights')\n  def predict(self, batch): pass";
    check_load(load, &[], &["line 3, in load", "OSError: no weights"]);
    check_load("import sys\nsys.exit('no')", &[], &["SystemExit: no"]);
    check_load(
        "import os\nprint('last words', flush=True)\nos._exit(7)",
        &[],
        &["exited with status 7 before the model was loaded", "last words"],
    );
}

#[test]
fn a_model_that_does_not_come_up_in_time_is_given_up() {
    let Some(engine) = engine(false) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = in_folder(&folder);
    std::fs::write(&path, "import time\ntime.sleep(600)").unwrap();
    let mut asked = of_file(path, &[]);
    let mut python = (**asked.python.as_ref().unwrap()).clone();
    python.start_timeout = Duration::from_millis(500);
    asked.python = Some(python.into());
    let error = engine.load(&asked).err().unwrap();
    assert!(error.message().contains("raise start_timeout_s"), "{error}");
}
