//! Desired versions of a model against those that serve: what to load, what to unload.
//!
//! Pure. Availability first: nothing is unloaded by this plan before its loads are done, and the
//! caller skips the unloads if no desired version came up.

use std::sync::Arc;

use salver_core::ModelSpec;

/// A version that serves at the moment, or that failed to load as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Actual {
    pub(crate) version: u64,
    pub(crate) fingerprint: u64,
}

/// Which of the desired versions a plan loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Those that do not serve yet, or whose files changed.
    Missing,
    /// All of them, also what did not change, as an explicit load does.
    All,
    /// All of them, in place of everything that serves: where one fails, nothing leaves for them.
    Instead,
    /// Those in memory whose files changed, and the highest one in place of versions that have to
    /// leave memory. The rest waits for its first use.
    InUse,
}

/// What to do, in this order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// New versions, and serving ones whose files changed.
    pub(crate) load: Vec<Arc<ModelSpec>>,
    /// Serving versions that are not wanted any more.
    pub(crate) unload: Vec<u64>,
}

/// Compares what is wanted with the versions that serve and those that failed.
pub(crate) fn reconcile(desired: &[Arc<ModelSpec>], serving: &[Actual], failed: &[Actual], extent: Extent) -> Plan {
    let is_current = |spec: &ModelSpec| {
        let mut known = serving.iter().chain(failed);
        known.any(|known| known.version == spec.version && known.fingerprint == spec.fingerprint)
    };
    let serves = |version: u64| serving.iter().any(|slot| slot.version == version);
    let wanted = |version: u64| desired.iter().any(|spec| spec.version == version);
    let unload: Vec<u64> = serving.iter().map(|slot| slot.version).filter(|version| !wanted(*version)).collect();
    let highest = desired.iter().map(|spec| spec.version).max();
    let loads = |spec: &ModelSpec| match extent {
        Extent::All | Extent::Instead => true,
        Extent::Missing => !is_current(spec),
        Extent::InUse => {
            let takes_over = !unload.is_empty() && Some(spec.version) == highest;
            !is_current(spec) && (serves(spec.version) || takes_over)
        }
    };
    let load = desired.iter().filter(|spec| loads(spec)).cloned().collect();
    Plan { load, unload }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use salver_core::{Backing, ModelConfig, ModelName, TaskSpec};

    use super::*;

    fn spec((version, fingerprint): (u64, u64)) -> Arc<ModelSpec> {
        Arc::new(ModelSpec {
            name: ModelName::new("m").unwrap(),
            version,
            engine: None,
            artifact: PathBuf::new(),
            fingerprint,
            task: TaskSpec::Tensor,
            columns: BTreeMap::new(),
            labels: BTreeMap::new(),
            metrics: BTreeMap::new(),
            checksums: Vec::new(),
            backing: Backing::default(),
            python: None,
            keeps: None,
            config: ModelConfig::default(),
        })
    }

    #[track_caller]
    fn check(desired: &[(u64, u64)], serving: &[(u64, u64)], extent: Extent, expected: (&[u64], &[u64])) {
        check_failed(desired, serving, &[], extent, expected);
    }

    #[track_caller]
    fn check_failed(
        desired: &[(u64, u64)],
        serving: &[(u64, u64)],
        failed: &[(u64, u64)],
        extent: Extent,
        expected: (&[u64], &[u64]),
    ) {
        let desired: Vec<_> = desired.iter().copied().map(spec).collect();
        let actual = |all: &[(u64, u64)]| -> Vec<Actual> {
            all.iter().map(|&(version, fingerprint)| Actual { version, fingerprint }).collect()
        };
        let plan = reconcile(&desired, &actual(serving), &actual(failed), extent);
        let load: Vec<u64> = plan.load.iter().map(|spec| spec.version).collect();
        assert_eq!((load.as_slice(), plan.unload.as_slice()), expected);
    }

    #[test]
    fn only_what_changed_moves() {
        check(&[(1, 7), (2, 7)], &[(1, 7)], Extent::Missing, (&[2], &[]));
        check(&[(1, 8)], &[(1, 7)], Extent::Missing, (&[1], &[]));
        check(&[(2, 7)], &[(1, 7), (2, 7)], Extent::Missing, (&[], &[1]));
        check(&[], &[(1, 7)], Extent::Missing, (&[], &[1]));
    }

    #[test]
    fn what_failed_is_left_alone_until_it_changes() {
        check_failed(&[(2, 7)], &[(1, 7)], &[(2, 7)], Extent::Missing, (&[], &[1]));
        check_failed(&[(2, 8)], &[(1, 7)], &[(2, 7)], Extent::Missing, (&[2], &[1]));
        check_failed(&[(2, 7)], &[(1, 7)], &[(2, 7)], Extent::InUse, (&[], &[1]));
    }

    #[test]
    fn an_explicit_load_reloads_what_did_not_change() {
        check(&[(1, 7)], &[(1, 7)], Extent::All, (&[1], &[]));
        check(&[(1, 7)], &[(1, 7), (2, 7)], Extent::Instead, (&[1], &[2]));
    }

    #[test]
    fn on_demand_only_what_is_in_memory_is_kept_up_to_date() {
        check(&[(1, 7), (2, 7)], &[], Extent::InUse, (&[], &[]));
        check(&[(1, 7), (2, 7)], &[(1, 7)], Extent::InUse, (&[], &[]));
        check(&[(1, 8), (2, 7)], &[(1, 7)], Extent::InUse, (&[1], &[]));
        check(&[(2, 7)], &[(1, 7)], Extent::InUse, (&[2], &[1]));
        check(&[(5, 7), (6, 7)], &[(3, 7), (4, 7)], Extent::InUse, (&[6], &[3, 4]));
        check(&[], &[(1, 7)], Extent::InUse, (&[], &[1]));
    }
}
