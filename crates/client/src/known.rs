//! What is known of the server's models, so that `describe` needs no round trip.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use salver_core::{Error, ModelInfo, ModelRef, Result, Selector};

/// By name and version.
type Versions = HashMap<(Arc<str>, u64), Arc<ModelInfo>>;

/// The descriptions fetched so far. Bounded: a full table is emptied, its entries are only a
/// round trip away.
#[derive(Default)]
pub(crate) struct Known {
    versions: Mutex<Versions>,
}

impl Known {
    const MAX: usize = 1024;

    /// Keeps a description.
    pub(crate) fn insert(&self, info: &Arc<ModelInfo>) {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if versions.len() >= Self::MAX {
            versions.clear();
        }
        versions.insert((info.name.clone(), info.version), info.clone());
    }

    /// Returns what was fetched for `model`: the highest version for one that names none.
    pub(crate) fn describe(&self, model: &ModelRef) -> Result<Arc<ModelInfo>> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let of_model = versions.values().filter(|info| *info.name == *model.name);
        let found = match &model.selector {
            Selector::Version(version) => of_model.into_iter().find(|info| info.version == *version),
            Selector::Latest => of_model.max_by_key(|info| info.version),
            Selector::Label(_) => None,
        };
        found.cloned().ok_or_else(|| {
            Error::not_ready(format!("model '{model}': its description was not fetched from the server yet"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salver_core::{Batching, Signature};

    #[test]
    fn the_highest_known_version_stands_for_a_model_that_names_none() {
        let known = Known::default();
        let describe = |text: &str| known.describe(&text.parse().unwrap()).map(|info| info.version);
        assert!(describe("iris").unwrap_err().message().contains("iris"));
        for version in [2, 10, 9] {
            let signature = Signature { inputs: vec![], outputs: vec![], batching: Batching::Fixed };
            known.insert(&Arc::new(crate::http::assemble("iris", version, String::new(), signature)));
        }
        assert_eq!(describe("iris").unwrap(), 10);
        assert_eq!(describe("iris/9").unwrap(), 9);
        assert!(describe("iris/3").is_err());
        assert!(describe("rose").is_err());
    }
}
