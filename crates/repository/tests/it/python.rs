//! Folders of models that run in Python.

use salver_core::{ErrorKind, Predictor, PythonEnvironment};

use crate::tree::{Tree, error, outline, spec};

/// Reads the model `x` of these files.
#[track_caller]
fn read(files: &[(&str, &str)]) -> (Tree, std::sync::Arc<salver_core::ModelSpec>) {
    let tree = Tree::new(files);
    let found = spec(&tree.open("x"), "x");
    (tree, found)
}

#[track_caller]
fn check_refused(files: &[(&str, &str)], expected: &str) {
    let error = error(&Tree::new(files).open("x"), "x");
    assert!(error.message().contains(expected), "{error} lacks {expected:?}");
}

#[test]
fn a_script_and_an_engine_are_enough() {
    let (tree, found) = read(&[("x/model.toml", "engine = 'python'"), ("x/model.py", "class Model: ...")]);
    let python = found.python.clone().unwrap();
    assert_eq!((found.engine.as_deref(), &found.artifact), (Some("python"), &tree.path("x/model.py")));
    assert_eq!((&python.folder, &python.predictor), (&tree.path("x"), &Predictor::Class(None)));
    assert_eq!((&python.environment, python.start_timeout.as_secs()), (&PythonEnvironment::Server, 120));
    assert_eq!((found.config.instance_groups.len(), found.config.instance_groups[0].count), (1, 1));
    assert_eq!((found.task.name(), found.config.default_model_filename.as_str()), ("tensor", "model.py"));
    assert!(found.config.dynamic_batching.is_some());
}

#[test]
fn instances_are_one_unless_they_are_counted() {
    for (instances, count, threads) in [("threads = 2", 1, 2), ("count = 3", 3, 1), ("", 1, 1)] {
        let manifest = format!("[python]\n[instances]\n{instances}");
        let (_tree, found) = read(&[("x/model.toml", &manifest), ("x/model.py", "a")]);
        let group = &found.config.instance_groups[0];
        assert_eq!((group.count, group.threads), (count, threads), "{instances}");
    }
    let (_tree, found) = read(&[("x/model.toml", "[instances]\nthreads = 1"), ("x/model.py", "a")]);
    assert_eq!((found.engine.as_deref(), found.config.instance_groups[0].count), (Some("python"), 1));
}

#[test]
fn what_reads_an_artifact_is_said_by_its_name() {
    for (manifest, file, artifact, reader) in [
        ("", "model.joblib", "model.joblib", "sklearn"),
        ("", "a.PKL", "a.PKL", "sklearn"),
        ("", "a.skops", "a.skops", "sklearn"),
        ("", "net.pt2", "net.pt2", "torch"),
        ("", "trees.ubj", "trees.ubj", "xgboost"),
        ("", "net.py", "net.py", "class"),
        ("", "saved/saved_model.pb", "saved", "tensorflow"),
        ("", "saved_model.pb", "", "tensorflow"),
        ("", "m/MLmodel", "m", "mlflow"),
        ("", "MLmodel", "", "mlflow"),
        ("adapter = 'transformers'", "config.json", "", "transformers"),
        ("adapter = 'transformers'", "bert/config.json", "bert", "transformers"),
        ("adapter = 'xgboost'", "other.ubj", "other.ubj", "xgboost"),
    ] {
        let manifest = format!("engine = 'python'\n[python]\n{manifest}");
        let (tree, found) = read(&[("x/model.toml", &manifest), (&format!("x/{file}"), "{}"), ("x/notes.txt", "a")]);
        let expected = match reader {
            "class" => Predictor::Class(None),
            adapter => Predictor::Adapter(adapter.to_owned()),
        };
        assert_eq!(found.python.as_ref().unwrap().predictor, expected, "{file}");
        // Without a slash at the end, the folder is itself.
        assert_eq!(found.artifact.components().collect::<std::path::PathBuf>(), tree.path(&format!("x/{artifact}")));
    }
}

#[test]
fn an_artifact_that_is_not_clear_lists_what_there_is() {
    let engine = ("x/model.toml", "engine = 'python'");
    check_refused(&[engine, ("x/a.py", "a"), ("x/b.pkl", "a")], "holds a.py, b.pkl; name the one that is the model");
    check_refused(
        &[engine, ("x/notes.txt", "a")],
        "x holds no model.py, nor any other file that says what reads it; \
        there is notes.txt: name the model",
    );
    check_refused(&[engine], "there is nothing: name the model");
    check_refused(&[engine, ("x/config.json", "{}")], "there is config.json");
    let torch = ("x/model.toml", "[python]\nadapter = 'torch'");
    check_refused(&[torch, ("x/model.py", "a")], "says by its name that the adapter torch reads it");
    let class = ("x/model.toml", "[python]\nclass = 'A'");
    check_refused(&[class, ("x/a.pt", "a")], "x holds no model.py, nor any other .py file; there is a.pt");
}

#[test]
fn an_artifact_that_does_not_fit_is_refused() {
    for (manifest, expected) in [
        ("engine = 'python'\nartifact = '../secret.py'", "artifact: '../secret.py' must be a path inside the folder"),
        ("engine = 'python'\nartifact = '/etc/passwd'", "artifact: '/etc/passwd' must be a path inside the folder"),
        ("artifact = 'none.py'", "x/none.py does not exist"),
        ("artifact = 'empty.py'", "x/empty.py is empty; is it still being written?"),
        (
            "engine = 'python'\nartifact = 'data.bin'",
            "data.bin does not say what reads it; set python.adapter to one of",
        ),
        ("engine = 'python'\nartifact = 'folder'", "folder does not say what reads it; set python.adapter to one of"),
        ("artifact = 'data.bin'\n[python]\nclass = 'A'", "data.bin must be a .py file, which holds the class"),
        ("artifact = 'model.py'\n[python]\nadapter = 'torch'", "model.py is code, not a model that the adapter torch"),
        ("[python]\nrequirements = '../r.txt'", "python.requirements: '../r.txt' must be a path inside the folder"),
        ("[python]\nrequirements = 'none.txt'", "python.requirements: "),
        ("[python]\nrequirements = 'folder'", "folder is not a file"),
        ("[python]\ninterpreter = '../none'", "python.interpreter: "),
        ("task = 'text-embedding'\nengine = 'python'", "text.tokenizer"),
    ] {
        let files = [("x/model.toml", manifest), ("x/model.py", "a"), ("x/empty.py", ""), ("x/data.bin", "a")];
        let tree = Tree::new(&files);
        tree.write("x/folder/f", "");
        tree.write("secret.py", "a");
        let error = error(&tree.open("x"), "x");
        assert!(error.message().contains(expected), "{error} lacks {expected:?}");
        assert!([ErrorKind::InvalidInput, ErrorKind::NotFound].contains(&error.kind()), "{error:?}");
    }
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    for (link, manifest) in [("model.py", "[python]"), ("r.txt", "artifact = 'a.py'\n[python]\nrequirements = 'r.txt'")]
    {
        let tree = Tree::new(&[("secret", "a"), ("x/model.toml", manifest), ("x/a.py", "a")]);
        std::os::unix::fs::symlink("../secret", tree.path(&format!("x/{link}"))).unwrap();
        let error = error(&tree.open("x"), "x");
        assert!(error.message().contains("without links that lead out of it"), "{error}");
    }
}

#[test]
fn the_environment_is_named_or_lies_in_the_folder() {
    let (tree, found) = read(&[("x/model.toml", "[python]"), ("x/model.py", "a"), ("x/requirements.txt", "")]);
    let expected = PythonEnvironment::Requirements(tree.path("x/requirements.txt"));
    assert_eq!(found.python.as_ref().unwrap().environment, expected, "an empty file asks for nothing");
    let manifest = "[python]\ninterpreter = '../env/bin/python'";
    let files = [("x/model.toml", manifest), ("x/model.py", "a"), ("x/requirements.txt", ""), ("env/bin/python", "a")];
    let (tree, found) = read(&files);
    let expected = PythonEnvironment::Interpreter(tree.path("x/../env/bin/python"));
    assert_eq!(found.python.as_ref().unwrap().environment, expected);
    let absolute = tree.path("env").display().to_string();
    tree.write("x/model.toml", &format!("[python]\ninterpreter = '{absolute}'"));
    let found = spec(&tree.open("x"), "x");
    assert_eq!(found.python.as_ref().unwrap().environment, PythonEnvironment::Interpreter(tree.path("env")));
}

#[test]
fn a_manifest_that_names_no_engine_leaves_graphs_their_place() {
    let tree = Tree::new(&[("x/model.toml", ""), ("x/model.py", "a"), ("x/net.onnx", "a")]);
    let found = spec(&tree.open("x"), "x");
    assert_eq!((found.engine.as_deref(), found.python.is_some()), (None, false));
    assert_eq!(outline(&tree.open("x")), "x: 1");
}

/// Returns whether `change` makes the model `x` another one.
#[track_caller]
fn is_new_after(tree: &Tree, change: impl FnOnce()) -> bool {
    let repository = tree.open("x");
    let before = spec(&repository, "x").fingerprint;
    assert_eq!(spec(&repository, "x").fingerprint, before, "nothing changed");
    change();
    spec(&repository, "x").fingerprint != before
}

#[test]
fn whatever_code_may_import_makes_a_new_version() {
    let files = [("x/model.toml", "artifact = 'net.py'"), ("x/net.py", "a"), ("x/requirements.txt", "numpy")];
    for path in ["x/net.py", "x/helpers.py", "x/a/b/c/d/e/f/g/h/deep.py", "x/requirements.txt"] {
        let tree = Tree::new(&files);
        assert!(is_new_after(&tree, || tree.write(path, "changed")), "{path}");
    }
    for path in [
        "x/data.csv",
        "x/a/b/c/d/e/f/g/h/i/too_deep.py",
        "x/__pycache__/net.py",
        "x/.cache/net.py",
        "x/.hidden.py",
        "x/env/lib/site.py",
        "x/net.pyc",
    ] {
        let tree = Tree::new(&files);
        tree.write("x/env/pyvenv.cfg", "");
        assert!(!is_new_after(&tree, || tree.write(path, "changed")), "{path}");
    }
}

#[test]
fn every_file_of_a_folder_that_an_adapter_reads_makes_a_new_version() {
    let tree = Tree::new(&[("x/model.toml", "engine = 'python'"), ("x/saved/saved_model.pb", "a")]);
    assert!(is_new_after(&tree, || tree.write("x/saved/variables/variables.data", "a")));
    assert!(is_new_after(&tree, || tree.write("x/saved/variables/variables.data", "ab")));
    assert!(!is_new_after(&tree, || tree.write("x/other/variables.data", "a")));
}

#[cfg(unix)]
#[test]
fn links_to_folders_are_not_followed_and_links_to_files_are() {
    let tree = Tree::new(&[("x/model.py", "a"), ("outside/lib.py", "a"), ("shared.py", "a")]);
    std::os::unix::fs::symlink("../outside", tree.path("x/outside")).unwrap();
    std::os::unix::fs::symlink(".", tree.path("x/itself")).unwrap();
    std::os::unix::fs::symlink("../shared.py", tree.path("x/shared.py")).unwrap();
    assert!(!is_new_after(&tree, || tree.write("outside/lib.py", "changed")));
    assert!(is_new_after(&tree, || tree.write("shared.py", "changed")));
}

#[test]
fn a_folder_of_many_files_is_looked_at_in_part() {
    let tree = Tree::new(&[("x/model.py", "a")]);
    for idx in 0..2_100 {
        tree.write(&format!("x/lib/f{idx:04}.py"), "");
    }
    assert!(is_new_after(&tree, || tree.write("x/lib/f0000.py", "changed")));
    assert!(!is_new_after(&tree, || tree.write("x/lib/f2099.py", "changed")), "beyond what is looked at");
    assert!(is_new_after(&tree, || tree.write("x/model.py", "changed")), "what is further up comes first");
}
