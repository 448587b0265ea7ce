//! The log: each change leaves one entry that says what was there before and what is there now; a
//! call that was refused leaves none.

use salver_core::Result;
use salver_registry::names::Stage;
use salver_registry::types::Lifecycle;
use salver_registry::{AuditEntry, NewExperiment, NewRun, NewVersion, RunChange, Transition};
use serde_json::{Value, json};

use crate::place::{Place, START, alone_in, elsewhere, into, tag};

contract!(each_change_leaves_one_entry, refused_calls_leave_none, histories_are_of_one_subject);

const NOTHING: Value = Value::Null;

/// Reads what one call after another has added to the log.
struct Log<'p> {
    place: &'p Place,
    n_entries: usize,
    now: i64,
}

impl<'p> Log<'p> {
    fn of(place: &'p Place) -> Self {
        Self { place, n_entries: 0, now: START }
    }

    /// Makes a call; returns its answer and the entries that it left, newest first.
    async fn after<T>(&mut self, call: impl Future<Output = Result<T>>) -> (Result<T>, Vec<AuditEntry>) {
        self.now += 1;
        self.place.set_time(self.now);
        let answer = call.await;
        let mut entries = self.place.registry.history(None, 1_000).await.unwrap();
        let n_new = entries.len() - self.n_entries;
        self.n_entries = entries.len();
        entries.truncate(n_new);
        (answer, entries)
    }

    /// Checks that a call of `bob` leaves one entry; returns the call's answer.
    async fn one<T>(
        &mut self,
        call: impl Future<Output = Result<T>>,
        what: &str,
        subject: &str,
        before: Value,
        after: Value,
    ) -> T {
        let (answer, entries) = self.after(call).await;
        let answer = answer.unwrap();
        let [entry] = &entries[..] else { panic!("{what} leaves {entries:#?}") };
        assert_eq!((entry.what.as_str(), entry.subject.as_str(), entry.who.as_str()), (what, subject, "bob"));
        assert_eq!(entry.time, self.now, "{what}");
        let shown = |value: &Option<Value>| value.clone().unwrap_or_default();
        assert_eq!((shown(&entry.before), shown(&entry.after)), (before, after), "{what}");
        answer
    }

    /// Checks that a call leaves no entry.
    async fn nothing<T>(&mut self, call: impl Future<Output = Result<T>>) {
        let (answer, entries) = self.after(call).await;
        answer.unwrap();
        assert_eq!(entries, []);
    }

    /// Checks that a call fails, and leaves no entry.
    async fn refused<T>(&mut self, what: &str, call: impl Future<Output = Result<T>>) {
        let (answer, entries) = self.after(call).await;
        assert!(answer.is_err(), "{what} is not refused");
        assert_eq!(entries, [], "{what}");
    }
}

async fn each_change_leaves_one_entry(place: Place) {
    let (registry, mut log) = (&place.registry, Log::of(&place));
    experiments_and_runs(&place, &mut log).await;

    let tags = [tag("a", "b")];
    let call = registry.create_model("bob", "iris", "flowers", &tags);
    let after = json!({ "description": "flowers", "tags": [{ "key": "a", "value": "b" }] });
    log.one(call, "model.create", "model/iris", NOTHING, after).await;
    let call = registry.describe_model("bob", "iris", "more");
    let (before, after) = (json!({ "description": "flowers" }), json!({ "description": "more" }));
    log.one(call, "model.describe", "model/iris", before, after).await;
    let (b, c) = (json!({ "key": "a", "value": "b" }), json!({ "key": "a", "value": "c" }));
    let call = registry.set_model_tag("bob", "iris", tag("a", "c"));
    log.one(call, "model.tag", "model/iris", b.clone(), c.clone()).await;
    log.one(registry.delete_model_tag("bob", "iris", "a"), "model.tag", "model/iris", c.clone(), NOTHING).await;
    log.nothing(registry.delete_model_tag("bob", "iris", "a")).await;
    log.one(registry.set_model_tag("bob", "iris", tag("a", "b")), "model.tag", "model/iris", NOTHING, b.clone()).await;

    let made = json!({ "source": "s3://bucket/model", "digest": null, "run_id": "" });
    for version in 1..=3 {
        let subject = format!("model/iris/{version}");
        let call = registry.create_version("bob", elsewhere("iris"));
        log.one(call, "version.create", &subject, NOTHING, made.clone()).await;
    }
    let call = registry.describe_version("bob", "iris", 1, "first");
    let (before, after) = (json!({ "description": "" }), json!({ "description": "first" }));
    log.one(call, "version.describe", "model/iris/1", before, after).await;
    let call = registry.set_version_tag("bob", "iris", 1, tag("a", "b"));
    log.one(call, "version.tag", "model/iris/1", NOTHING, b.clone()).await;
    let call = registry.set_version_tag("bob", "iris", 1, tag("a", "c"));
    log.one(call, "version.tag", "model/iris/1", b, c.clone()).await;
    log.one(registry.delete_version_tag("bob", "iris", 1, "a"), "version.tag", "model/iris/1", c, NOTHING).await;
    log.nothing(registry.delete_version_tag("bob", "iris", 1, "a")).await;

    let stage = |stage: &str| json!({ "stage": stage });
    let call = registry.transition("bob", "iris", 1, into(Stage::Production));
    log.one(call, "version.stage", "model/iris/1", stage("None"), stage("Production")).await;
    log.nothing(registry.transition("bob", "iris", 1, into(Stage::Production))).await;
    let (answer, entries) = log.after(registry.transition("bob", "iris", 2, alone_in(Stage::Production))).await;
    answer.unwrap();
    let subjects: Vec<_> = entries.iter().map(|entry| (entry.subject.as_str(), entry.after.clone().unwrap())).collect();
    assert_eq!(subjects, [("model/iris/2", stage("Production")), ("model/iris/1", stage("Archived"))]);

    let alias = |version: i64| json!({ "alias": "champion", "version": version });
    let call = registry.set_alias("bob", "iris", "champion", 1);
    log.one(call, "model.alias", "model/iris", NOTHING, alias(1)).await;
    let call = registry.set_alias("bob", "iris", "champion", 2);
    log.one(call, "model.alias", "model/iris", alias(1), alias(2)).await;
    log.one(registry.delete_alias("bob", "iris", "champion"), "model.alias", "model/iris", alias(2), NOTHING).await;
    log.nothing(registry.delete_alias("bob", "iris", "champion")).await;

    // A new name is in the history of both.
    let (answer, entries) = log.after(registry.rename_model("bob", "iris", "lily")).await;
    answer.unwrap();
    let shown: Vec<_> = entries.iter().map(|entry| (entry.what.as_str(), entry.subject.as_str())).collect();
    assert_eq!(shown, [("model.rename", "model/lily"), ("model.rename", "model/iris")]);
    assert_eq!(entries[0].before, Some(json!({ "name": "iris" })));
    assert_eq!(entries[0].after, Some(json!({ "name": "lily" })));

    let version = json!(registry.version("lily", 3).await.unwrap());
    log.one(registry.delete_version("bob", "lily", 3), "version.delete", "model/lily/3", version, NOTHING).await;
    // The entry shows the model as it was when the call began: its time is the call's.
    let mut model = json!(registry.model("lily").await.unwrap());
    model["last_updated_timestamp"] = json!(log.now + 1);
    log.one(registry.delete_model("bob", "lily"), "model.delete", "model/lily", model, NOTHING).await;
}

async fn experiments_and_runs(place: &Place, log: &mut Log<'_>) {
    let registry = &place.registry;
    let new = NewExperiment { name: "e".to_owned(), tags: vec![tag("a", "b")], ..NewExperiment::default() };
    let b = json!({ "key": "a", "value": "b" });
    let after = json!({ "name": "e", "artifact_location": "mlflow-artifacts:/1", "tags": [b] });
    log.one(registry.create_experiment("bob", new), "experiment.create", "experiment/1", NOTHING, after).await;
    let call = registry.rename_experiment("bob", "1", "f");
    let (before, after) = (json!({ "name": "e" }), json!({ "name": "f" }));
    log.one(call, "experiment.rename", "experiment/1", before, after).await;
    log.nothing(registry.rename_experiment("bob", "1", "f")).await;
    let c = json!({ "key": "a", "value": "c" });
    let call = registry.set_experiment_tag("bob", "1", tag("a", "c"));
    log.one(call, "experiment.tag", "experiment/1", b, c.clone()).await;
    let call = registry.delete_experiment_tag("bob", "1", "a");
    log.one(call, "experiment.tag", "experiment/1", c, NOTHING).await;

    let new = NewRun { experiment_id: "1".to_owned(), run_name: Some("first".to_owned()), ..NewRun::default() };
    let (run, entries) = log.after(registry.create_run("bob", new)).await;
    let run = run.unwrap().info.run_id;
    let subject = format!("run/{run}");
    assert_eq!((entries.len(), entries[0].what.as_str(), entries[0].subject.as_str()), (1, "run.create", &*subject));
    assert_eq!((entries[0].before.clone(), entries[0].after.clone()), (None, Some(json!({ "name": "first" }))));
    let shown = |status: &str, end: Option<i64>, name: &str| json!({ "status": status, "end_time": end, "name": name });
    let change = RunChange { run_name: Some("last".to_owned()), ..RunChange::default() };
    let (before, after) = (shown("RUNNING", None, "first"), shown("RUNNING", None, "last"));
    log.one(registry.update_run("bob", &run, change), "run.update", &subject, before, after.clone()).await;
    let change = RunChange { status: Some("FAILED".to_owned()), end_time: Some(7), ..RunChange::default() };
    let (before, after) = (after, shown("FAILED", Some(7), "last"));
    log.one(registry.update_run("bob", &run, change), "run.update", &subject, before, after).await;

    let (active, deleted) = (json!({ "lifecycle_stage": "active" }), json!({ "lifecycle_stage": "deleted" }));
    for (to, before, after) in [(Lifecycle::Deleted, &active, &deleted), (Lifecycle::Active, &deleted, &active)] {
        let (before, after) = (before.clone(), after.clone());
        let call = registry.set_run_lifecycle("bob", &run, to);
        log.one(call, "run.lifecycle", &subject, before.clone(), after.clone()).await;
        let call = registry.set_experiment_lifecycle("bob", "1", to);
        log.one(call, "experiment.lifecycle", "experiment/1", before, after).await;
    }
}

async fn refused_calls_leave_none(place: Place) {
    let registry = &place.registry;
    place.model("iris", 1).await;
    place.model("lily", 0).await;
    let id = registry.create_experiment("ann", NewExperiment { name: "gone".to_owned(), ..NewExperiment::default() });
    let id = id.await.unwrap().to_string();
    let run = NewRun { experiment_id: id.clone(), ..NewRun::default() };
    let run = registry.create_run("ann", run).await.unwrap().info.run_id;
    registry.set_experiment_lifecycle("ann", &id, Lifecycle::Deleted).await.unwrap();
    let mut log = Log::of(&place);
    log.after(async { Ok(()) }).await.0.unwrap();
    let before = registry.model("iris").await.unwrap();

    let new = |name: &str| NewExperiment { name: name.to_owned(), ..NewExperiment::default() };
    log.refused("a taken experiment", registry.create_experiment("bob", new("gone"))).await;
    log.refused("an empty name", registry.create_experiment("bob", new(" "))).await;
    log.refused("rename a deleted one", registry.rename_experiment("bob", &id, "x")).await;
    log.refused("rename to a taken one", registry.rename_experiment("bob", "0", "gone")).await;
    log.refused("delete again", registry.set_experiment_lifecycle("bob", &id, Lifecycle::Deleted)).await;
    log.refused("tag a deleted one", registry.set_experiment_tag("bob", &id, tag("a", "b"))).await;
    log.refused("a bad key", registry.set_experiment_tag("bob", "0", tag("../a", "b"))).await;
    log.refused("no such tag", registry.delete_experiment_tag("bob", "0", "a")).await;
    let in_deleted = NewRun { experiment_id: id.clone(), ..NewRun::default() };
    log.refused("a run of a deleted one", registry.create_run("bob", in_deleted)).await;
    log.refused("change a deleted run", registry.update_run("bob", &run, RunChange::default())).await;
    log.refused("no such run", registry.set_run_lifecycle("bob", "x", Lifecycle::Active)).await;
    log.refused("a taken model", registry.create_model("bob", "iris", "", &[])).await;
    log.refused("a bad name", registry.create_model("bob", "a/b", "", &[])).await;
    log.refused("a bad tag", registry.create_model("bob", "rose", "", &[tag("", "")])).await;
    log.refused("no such model", registry.describe_model("bob", "rose", "")).await;
    log.refused("rename to a taken model", registry.rename_model("bob", "iris", "lily")).await;
    log.refused("delete no model", registry.delete_model("bob", "rose")).await;
    log.refused("a bad key of a model", registry.set_model_tag("bob", "iris", tag("", ""))).await;
    log.refused("a version of no model", registry.create_version("bob", elsewhere("rose"))).await;
    let local = NewVersion { source: "/etc/passwd".to_owned(), ..elsewhere("iris") };
    log.refused("a local source", registry.create_version("bob", local)).await;
    log.refused("no such version", registry.describe_version("bob", "iris", 2, "")).await;
    log.refused("tag no version", registry.set_version_tag("bob", "iris", 2, tag("a", "b"))).await;
    log.refused("delete no version", registry.delete_version("bob", "iris", 2)).await;
    log.refused("stage no version", registry.transition("bob", "iris", 2, into(Stage::Staging))).await;
    let late = Transition { replaces: Some(7), ..alone_in(Stage::Production) };
    log.refused("too late", registry.transition("bob", "iris", 1, late)).await;
    log.refused("archive nothing", registry.transition("bob", "iris", 1, alone_in(Stage::None))).await;
    log.refused("an alias of no version", registry.set_alias("bob", "iris", "a", 2)).await;
    log.refused("a reserved alias", registry.set_alias("bob", "iris", "latest", 1)).await;
    log.refused("an alias of no model", registry.delete_alias("bob", "rose", "a")).await;
    assert_eq!(registry.model("iris").await.unwrap(), before);
}

async fn histories_are_of_one_subject(place: Place) {
    let registry = &place.registry;
    for name in ["iris", "iris2", "iris-2", "iri", "iris0"] {
        place.model(name, 2).await;
    }
    registry.set_alias("ann", "iris", "champion", 2).await.unwrap();
    let subjects = async |subject: Option<&str>, limit| {
        let found = registry.history(subject, limit).await.unwrap();
        found.into_iter().map(|entry| entry.subject).collect::<Vec<_>>()
    };
    assert_eq!(subjects(Some("model/iris"), 9).await, ["model/iris", "model/iris/2", "model/iris/1", "model/iris"]);
    assert_eq!(subjects(Some("model/iris"), 2).await, ["model/iris", "model/iris/2"]);
    assert_eq!(subjects(Some("model/iris/2"), 9).await, ["model/iris/2"]);
    assert_eq!(subjects(Some("model"), 99).await.len(), 16);
    assert_eq!(subjects(Some("experiment/0"), 9).await.len(), 0);
    assert_eq!(subjects(None, 99).await.len(), 16);
}
