//! What is known of the server's models, so that `describe` needs no round trip.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use salver_core::{Error, InferResponse, ModelInfo, ModelName, ModelRef, Result, Selector, Timings};
use salver_protocol::oip_rest::Decoded;

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

    /// Puts a decoded response together with the description of the version that answered, by
    /// `fetch` where that is not known yet.
    pub(crate) async fn complete<F>(&self, decoded: Decoded, fetch: impl FnOnce(ModelRef) -> F) -> Result<InferResponse>
    where
        F: Future<Output = Result<Arc<ModelInfo>>>,
    {
        let answered = answered_by(&decoded.model_name, &decoded.model_version)?;
        let model = match self.describe(&answered) {
            Ok(info) => info,
            Err(_) => fetch(answered).await?,
        };
        Ok(InferResponse {
            model,
            id: decoded.id,
            outputs: decoded.outputs,
            timings: Timings::default(),
            cache: None,
            cost: None,
        })
    }
}

/// Reads which version answered.
fn answered_by(name: &str, version: &str) -> Result<ModelRef> {
    let version = version
        .parse()
        .map_err(|_| Error::engine(format!("the server names version '{version}' of model '{name}'")))?;
    Ok(ModelRef::version(ModelName::new(name)?, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_known_version_stands_for_a_model_that_names_none() {
        let known = Known::default();
        let describe = |text: &str| known.describe(&text.parse().unwrap()).map(|info| info.version);
        assert!(describe("iris").unwrap_err().message().contains("iris"));
        for version in [2, 10, 9] {
            let metadata = serde_json::json!({ "name": "iris", "inputs": [], "outputs": [] });
            let model = ModelRef::version(ModelName::new("iris").unwrap(), version);
            known.insert(&Arc::new(crate::metadata::from_json(&metadata, &model).unwrap()));
        }
        assert_eq!(describe("iris").unwrap(), 10);
        assert_eq!(describe("iris/9").unwrap(), 9);
        assert!(describe("iris/3").is_err());
        assert!(describe("rose").is_err());
    }
}
