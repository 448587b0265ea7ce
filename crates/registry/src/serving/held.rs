//! What is known of one name that is served: what the registry says, and how far that is followed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use salver_core::{Error, ErrorKind, ModelEntry, ModelName, ModelSpec, Result};
use tokio::time::Instant;

use crate::types::ModelVersion;

/// When a store that did not answer is asked again.
const SOON: Duration = Duration::from_secs(5);
/// When what was damaged or gone is looked at again.
const LATER: Duration = Duration::from_secs(60);

/// What the registry says is to be served under a name: a version with its labels, or why there is
/// none.
pub(super) type Wanted = Result<Labelled>;

/// A version and what it is called.
#[derive(Debug, Clone)]
pub(super) struct Labelled {
    pub version: ModelVersion,
    pub labels: BTreeSet<String>,
}

/// What is known of one name.
pub(super) enum Held {
    /// There is nothing to serve; what served leaves.
    Nothing(Error),
    /// There is a version.
    Version(Box<HeldVersion>),
}

/// A version that is or will be served.
pub(super) struct HeldVersion {
    wanted: Labelled,
    state: State,
    /// The digests of what was served last and before that: their files are kept, since a version
    /// may serve until its successor does.
    kept: [Option<String>; 2],
}

enum State {
    Fetching,
    Good(Arc<ModelSpec>),
    Bad { error: Error, again: Option<Instant> },
}

/// What a look at the registry means for a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing is to be done.
    None,
    /// What is shown is another from now on.
    Shown,
    /// This version has to be fetched; what was shown is shown until then.
    Version,
}

impl Held {
    pub(super) fn new(wanted: Wanted) -> (Self, Change) {
        match wanted {
            Ok(wanted) => {
                let held = HeldVersion { wanted, state: State::Fetching, kept: [None, None] };
                (Self::Version(Box::new(held)), Change::Version)
            }
            Err(error) => (Self::Nothing(gone(&error)), Change::Shown),
        }
    }

    /// Takes over what the registry says now.
    pub(super) fn follow(&mut self, wanted: Wanted) -> Change {
        match (&mut *self, wanted) {
            (Self::Version(held), Ok(wanted)) => held.follow(wanted),
            (Self::Nothing(before), Err(error)) if before.message() == error.message() => Change::None,
            (_, wanted) => {
                let (held, change) = Self::new(wanted);
                *self = held;
                change
            }
        }
    }

    /// Returns the version, if there is one.
    pub(super) fn version_mut(&mut self) -> Option<&mut HeldVersion> {
        match self {
            Self::Version(held) => Some(held),
            Self::Nothing(_) => None,
        }
    }

    /// Returns the digests of the files that may be needed.
    pub(super) fn digests(&self) -> impl Iterator<Item = String> {
        let held = match self {
            Self::Version(held) => Some(held),
            Self::Nothing(_) => None,
        };
        held.into_iter().flat_map(|held| held.kept.iter().flatten().chain(&held.wanted.version.digest).cloned())
    }

    /// Returns what is known; nothing while that is being found out.
    pub(super) fn entry(&self, name: &ModelName) -> Option<ModelEntry> {
        let held = match self {
            Self::Version(held) => held,
            Self::Nothing(error) => {
                let versions = Err(error.clone());
                return Some(ModelEntry { name: name.clone(), labels: [].into(), versions });
            }
        };
        let version = &held.wanted.version;
        let versions = match &held.state {
            State::Fetching => return None,
            State::Good(spec) => Ok(vec![spec.clone()]),
            State::Bad { error, .. } => Err(error.clone().context(format_args!("model '{}'", version.name))),
        };
        let number = version.version.unsigned_abs();
        let labels = held.wanted.labels.iter().map(|label| (label.clone(), number)).collect();
        Some(ModelEntry { name: name.clone(), labels, versions })
    }
}

impl HeldVersion {
    fn follow(&mut self, wanted: Labelled) -> Change {
        let is_same = is_same(&self.wanted.version, &wanted.version);
        let are_labels_same = self.wanted.labels == wanted.labels;
        self.wanted = wanted;
        match (is_same, are_labels_same) {
            (true, true) => Change::None,
            (true, false) => Change::Shown,
            (false, _) => {
                self.state = State::Fetching;
                Change::Version
            }
        }
    }

    /// Returns the version that is wanted.
    pub(super) fn version(&self) -> &ModelVersion {
        &self.wanted.version
    }

    /// Notes what became of fetching `version`. Returns whether that is still wanted.
    pub(super) fn settle(&mut self, version: &ModelVersion, spec: Result<ModelSpec>) -> bool {
        if !is_same(&self.wanted.version, version) {
            return false;
        }
        self.state = match spec {
            Ok(spec) => {
                if self.kept[0] != version.digest {
                    self.kept.swap(0, 1);
                    self.kept[0].clone_from(&version.digest);
                }
                State::Good(Arc::new(spec))
            }
            Err(error) => {
                let is_final = error.kind() == ErrorKind::Unsupported;
                let wait = if error.kind().is_retryable() { SOON } else { LATER };
                let error = error.context(format_args!("version {}", version.version));
                State::Bad { error, again: (!is_final).then(|| Instant::now() + wait) }
            }
        };
        true
    }

    /// Whether what failed is to be tried again now; then it is not due once more.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let State::Bad { again, .. } = &mut self.state else {
            return false;
        };
        again.take_if(|again| *again <= now).is_some()
    }
}

/// A source's word for "what served leaves".
fn gone(error: &Error) -> Error {
    Error::new(ErrorKind::Gone, error.message().to_owned())
}

/// Whether nothing has to be fetched anew: a number can come again after its model was deleted.
fn is_same(held: &ModelVersion, found: &ModelVersion) -> bool {
    (held.version, &held.digest, &held.location) == (found.version, &found.digest, &found.location)
}
