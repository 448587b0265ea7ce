//! Desired versions of a model against those that serve: what to load, what to unload.
//!
//! Pure. Availability first: nothing is unloaded by this plan before its loads are done, and the
//! caller skips the unloads if no desired version came up.

use std::sync::Arc;

use salver_core::ModelSpec;

/// A version that serves at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Actual {
    pub(crate) version: u64,
    pub(crate) fingerprint: u64,
}

/// What to do, in this order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// New versions, and serving ones whose files changed.
    pub(crate) load: Vec<Arc<ModelSpec>>,
    /// Serving versions that are not wanted any more.
    pub(crate) unload: Vec<u64>,
}

/// Compares; `reload` also reloads what did not change, as an explicit load does.
pub(crate) fn reconcile(desired: &[Arc<ModelSpec>], actual: &[Actual], reload: bool) -> Plan {
    let is_current = |spec: &ModelSpec| {
        actual.iter().any(|slot| slot.version == spec.version && slot.fingerprint == spec.fingerprint)
    };
    let load = desired.iter().filter(|spec| reload || !is_current(spec)).cloned().collect();
    let wanted = |version: u64| desired.iter().any(|spec| spec.version == version);
    let unload = actual.iter().map(|slot| slot.version).filter(|version| !wanted(*version)).collect();
    Plan { load, unload }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use salver_core::{ModelConfig, ModelName};

    use super::*;

    fn spec((version, fingerprint): (u64, u64)) -> Arc<ModelSpec> {
        Arc::new(ModelSpec {
            name: ModelName::new("m").unwrap(),
            version,
            engine: None,
            artifact: PathBuf::new(),
            fingerprint,
            task: String::new(),
            columns: BTreeMap::new(),
            labels: BTreeMap::new(),
            metrics: BTreeMap::new(),
            config: ModelConfig::default(),
        })
    }

    #[track_caller]
    fn check(desired: &[(u64, u64)], actual: &[(u64, u64)], reload: bool, expected: (&[u64], &[u64])) {
        let desired: Vec<_> = desired.iter().copied().map(spec).collect();
        let actual: Vec<_> = actual.iter().map(|&(version, fingerprint)| Actual { version, fingerprint }).collect();
        let plan = reconcile(&desired, &actual, reload);
        let load: Vec<u64> = plan.load.iter().map(|spec| spec.version).collect();
        assert_eq!((load.as_slice(), plan.unload.as_slice()), expected);
    }

    #[test]
    fn only_what_changed_moves() {
        check(&[(1, 7), (2, 7)], &[(1, 7)], false, (&[2], &[]));
        check(&[(1, 8)], &[(1, 7)], false, (&[1], &[]));
        check(&[(2, 7)], &[(1, 7), (2, 7)], false, (&[], &[1]));
        check(&[], &[(1, 7)], false, (&[], &[1]));
    }

    #[test]
    fn an_explicit_load_reloads_what_did_not_change() {
        check(&[(1, 7)], &[(1, 7)], true, (&[1], &[]));
    }
}
