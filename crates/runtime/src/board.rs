//! What is known of every model, serving or not: the index that clients and probes see.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use salver_core::{Error, ModelRef, ModelState, ModelStatus, Selector};
use salver_telemetry::Metrics;

/// States by model and version. The only writer of the state metric.
#[derive(Debug)]
pub(crate) struct Board {
    metrics: Arc<Metrics>,
    models: Mutex<BTreeMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// What is to be said of the model as a whole.
    note: Option<Note>,
    versions: BTreeMap<u64, (ModelState, String)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Note {
    /// What is wrong with the folder.
    Problem(String),
    /// Why there is no version to serve, where nothing is wrong.
    Absence(String),
}

impl Known {
    fn has(&self, state: ModelState) -> bool {
        self.versions.values().any(|(is, _)| *is == state)
    }

    fn is_ready(&self) -> bool {
        let has_left = self.versions.values().all(|(state, _)| *state == ModelState::Gone);
        self.has(ModelState::Ready) || (!matches!(self.note, Some(Note::Problem(_))) && has_left)
    }
}

impl Board {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, models: Mutex::new(BTreeMap::new()) }
    }

    /// Makes a model known, without any version.
    pub(crate) fn register(&self, name: &str) {
        self.models.lock().entry(name.to_owned()).or_default();
    }

    /// Notes that the model's folder is broken, or whole again. Returns whether that is news.
    pub(crate) fn set_problem(&self, name: &str, problem: Option<String>) -> bool {
        self.set_note(name, problem.map(Note::Problem))
    }

    /// Notes why the model has no version to serve. Returns whether that is news.
    pub(crate) fn set_absent(&self, name: &str, reason: &str) -> bool {
        self.set_note(name, Some(Note::Absence(reason.to_owned())))
    }

    fn set_note(&self, name: &str, note: Option<Note>) -> bool {
        let mut models = self.models.lock();
        let known = models.entry(name.to_owned()).or_default();
        let news = known.note != note;
        known.note = note;
        news
    }

    pub(crate) fn set(&self, name: &str, version: u64, state: ModelState, reason: impl Into<String>) {
        let mut models = self.models.lock();
        let known = models.entry(name.to_owned()).or_default();
        let before = known.versions.insert(version, (state, reason.into()));
        // What is gone has no series, however many versions come and go.
        let shown = (state != ModelState::Gone).then(|| state.as_str());
        self.metrics.model_state(name, version, before.map(|(state, _)| state.as_str()), shown);
    }

    /// Shows a version that serves as failed while it has an outage, and as ready again afterwards.
    /// `outage` is asked under the lock, so that of two who show it the later one is right; none:
    /// another version is in its place.
    pub(crate) fn show_outage<R: fmt::Display>(
        &self,
        name: &str,
        version: u64,
        outage: impl FnOnce() -> Option<Option<R>>,
    ) {
        let mut models = self.models.lock();
        let Some((state, reason)) = models.get_mut(name).and_then(|known| known.versions.get_mut(&version)) else {
            return;
        };
        if !matches!(state, ModelState::Ready | ModelState::Failed) {
            return;
        }
        let Some(outage) = outage() else {
            return;
        };
        let before = state.as_str();
        *state = if outage.is_some() { ModelState::Failed } else { ModelState::Ready };
        *reason = outage.map(|outage| outage.to_string()).unwrap_or_default();
        self.metrics.model_state(name, version, Some(before), Some(state.as_str()));
    }

    /// Notes that a version has drained, unless it was loaded again or forgotten meanwhile.
    pub(crate) fn drained(&self, name: &str, version: u64) {
        let mut models = self.models.lock();
        let Some((state, reason)) = models.get_mut(name).and_then(|known| known.versions.get_mut(&version)) else {
            return;
        };
        if *state == ModelState::Draining {
            self.metrics.model_state(name, version, Some(state.as_str()), None);
            (*state, *reason) = (ModelState::Gone, "unloaded".to_owned());
        }
    }

    /// Forgets a model that its source no longer has.
    pub(crate) fn forget(&self, name: &str) {
        let known = self.models.lock().remove(name).unwrap_or_default();
        for (version, (state, _)) in known.versions {
            self.metrics.model_state(name, version, Some(state.as_str()), None);
        }
    }

    /// Forgets one version.
    pub(crate) fn forget_version(&self, name: &str, version: u64) {
        let mut models = self.models.lock();
        if let Some((state, _)) = models.get_mut(name).and_then(|known| known.versions.remove(&version)) {
            self.metrics.model_state(name, version, Some(state.as_str()), None);
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.models.lock().keys().cloned().collect()
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.models.lock().contains_key(name)
    }

    /// Whether every model that `counts` serves as it should.
    pub(crate) fn is_ready(&self, counts: impl Fn(&str) -> bool) -> bool {
        self.models.lock().iter().all(|(name, known)| known.is_ready() || !counts(name))
    }

    pub(crate) fn index(&self) -> Vec<ModelStatus> {
        let models = self.models.lock();
        models.iter().flat_map(|(name, known)| rows(name, known)).collect()
    }

    /// Explains why `model` was not found among what serves.
    pub(crate) fn explain(&self, model: &ModelRef) -> Error {
        let models = self.models.lock();
        let name = &model.name;
        let Some(known) = models.get(&**name) else {
            return Error::not_found(format!("Request for unknown model: '{name}' is not found"));
        };
        let busy = [ModelState::Pending, ModelState::Loading, ModelState::Warming];
        let asked = match model.selector {
            Selector::Version(version) => known.versions.get(&version),
            Selector::Latest => known.versions.values().next_back(),
            Selector::Label(_) => None,
        };
        match (asked, &model.selector) {
            (Some((state, _)), _) if busy.contains(state) => {
                Error::not_ready(format!("model '{model}' is still loading; try again shortly"))
                    .with_retry_after(Duration::from_secs(1))
            }
            // Labels are known once the versions are there.
            (None, Selector::Label(_)) if busy.into_iter().any(|state| known.has(state)) => {
                Error::not_ready(format!("model '{model}' is still loading; try again shortly"))
                    .with_retry_after(Duration::from_secs(1))
            }
            (Some((ModelState::Failed, reason)), _) => {
                Error::not_ready(format!("model '{model}' failed to load: {reason}"))
            }
            (_, Selector::Latest) => match &known.note {
                Some(Note::Problem(problem)) => Error::not_ready(format!("model '{name}' cannot be loaded: {problem}")),
                Some(Note::Absence(reason)) => {
                    Error::not_ready(format!("model '{name}' has no version to serve: {reason}"))
                }
                None => Error::not_found(format!("Request for unknown model: '{name}' has no available versions")),
            },
            (_, Selector::Version(version)) => {
                Error::not_found(format!("Request for unknown model: '{name}' version {version} is not found"))
            }
            (_, Selector::Label(label)) => {
                let shown: String = label.chars().take(128).collect();
                Error::not_found(format!("Request for unknown model: '{name}' label '{shown}' is not found"))
            }
        }
    }
}

fn rows(name: &str, known: &Known) -> Vec<ModelStatus> {
    let row =
        |version, state, reason: &str| ModelStatus { name: name.to_owned(), version, state, reason: reason.to_owned() };
    let mut rows: Vec<_> =
        known.versions.iter().map(|(version, (state, reason))| row(Some(*version), Some(*state), reason)).collect();
    match &known.note {
        Some(Note::Problem(problem)) => rows.push(row(None, Some(ModelState::Failed), problem)),
        Some(Note::Absence(reason)) => rows.push(row(None, Some(ModelState::Gone), reason)),
        None if rows.is_empty() => rows.push(row(None, None, "")),
        None => {}
    }
    rows
}

#[cfg(test)]
mod tests {
    use salver_core::{ErrorKind, ModelName};

    use super::*;

    fn board() -> Board {
        Board::new(Metrics::new())
    }

    #[test]
    fn a_failed_new_version_beside_a_serving_one_is_ready() {
        let board = board();
        assert!(board.is_ready(|_| true));
        board.set("m", 1, ModelState::Loading, "");
        assert!(!board.is_ready(|_| true));
        board.set("m", 1, ModelState::Ready, "");
        board.set("m", 2, ModelState::Failed, "truncated");
        assert!(board.is_ready(|_| true));
        board.set("m", 1, ModelState::Gone, "unloaded");
        assert!(!board.is_ready(|_| true));
    }

    #[test]
    fn a_forgotten_model_does_not_come_back_when_it_has_drained() {
        let board = board();
        board.set("m", 1, ModelState::Draining, "");
        board.forget("m");
        board.drained("m", 1);
        assert!(board.index().is_empty());
        board.set("m", 1, ModelState::Draining, "");
        board.set("m", 1, ModelState::Ready, "");
        board.drained("m", 1);
        assert_eq!(board.index()[0].state, Some(ModelState::Ready));
    }

    #[test]
    fn an_outage_is_shown_for_a_version_that_serves_and_no_other() {
        let board = board();
        let shown = || (board.index()[0].state.unwrap(), board.index()[0].reason.clone());
        board.set("m", 1, ModelState::Ready, "");
        board.show_outage("m", 1, || Some(Some("signal 11")));
        assert_eq!(shown(), (ModelState::Failed, "signal 11".to_owned()));
        assert!(!board.is_ready(|_| true));
        board.show_outage::<&str>("m", 1, || None);
        assert_eq!(shown().0, ModelState::Failed, "another one is in its place");
        board.show_outage::<&str>("m", 1, || Some(None));
        assert_eq!(shown(), (ModelState::Ready, String::new()));
        for state in [ModelState::Loading, ModelState::Draining, ModelState::Gone] {
            board.set("m", 1, state, "");
            board.show_outage("m", 1, || Some(Some("signal 11")));
            assert_eq!(shown(), (state, String::new()));
        }
    }

    #[test]
    fn a_broken_folder_is_not_ready_but_an_unloaded_model_is() {
        let board = board();
        board.set_problem("bad", Some("line 3".to_owned()));
        assert!(!board.is_ready(|_| true));
        assert!(board.is_ready(|name| name != "bad"));
        board.forget("bad");
        board.set("m", 1, ModelState::Gone, "unloaded");
        assert!(board.is_ready(|_| true));
    }

    #[test]
    fn a_model_without_a_version_to_serve_says_why_and_is_no_fault() {
        let board = board();
        board.set("m", 1, ModelState::Gone, "unloaded");
        assert!(board.set_absent("m", "nothing is in Staging"));
        assert!(!board.set_absent("m", "nothing is in Staging"));
        let rows: Vec<_> = board.index().into_iter().map(|row| (row.version, row.state, row.reason)).collect();
        let gone = Some(ModelState::Gone);
        assert_eq!(rows, [(Some(1), gone, "unloaded".to_owned()), (None, gone, "nothing is in Staging".to_owned())]);
        assert!(board.is_ready(|_| true));
        let error = board.explain(&ModelRef::latest(ModelName::new("m").unwrap()));
        assert_eq!(error.kind(), ErrorKind::NotReady);
        assert!(error.message().ends_with("nothing is in Staging"), "{error}");
        board.set_problem("m", None);
        assert_eq!(board.index().len(), 1);
    }

    #[test]
    fn each_reason_for_absence_has_its_own_words() {
        let board = board();
        board.set("m", 1, ModelState::Failed, "not an ONNX file");
        board.set("n", 1, ModelState::Gone, "unloaded");
        board.set("o", 1, ModelState::Loading, "");
        let explain = |reference: ModelRef| {
            let error = board.explain(&reference);
            (error.kind(), error.message().to_owned())
        };
        let name = |name| ModelName::new(name).unwrap();
        assert_eq!(explain(ModelRef::latest(name("m"))).0, ErrorKind::NotReady);
        assert!(explain(ModelRef::latest(name("n"))).1.ends_with("has no available versions"));
        assert!(explain(ModelRef::latest(name("x"))).1.ends_with("'x' is not found"));
        let label = ModelRef { name: name("o"), selector: Selector::Label("stable".to_owned()) };
        assert!(explain(label).1.contains("still loading"));
        assert!(explain(ModelRef::version(name("m"), 7)).1.ends_with("version 7 is not found"));
    }
}
