//! Several sources of models as one: the paths first, then the registry.
//!
//! A name in both is the path's: whoever gave the path meant it. The registry's model of that name
//! is not served, which is said once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use salver_core::{Error, LoadOverride, ModelEntry, ModelName, ModelSource, Result};
use salver_repository::Uploads;

/// The models of paths and of a registry.
pub(crate) struct Sources {
    paths: Arc<dyn ModelSource>,
    registry: Option<Arc<dyn ModelSource>>,
    /// Where files of clients are kept; none: none are taken.
    uploads: Option<Uploads>,
    said: Mutex<BTreeSet<ModelName>>,
}

impl Sources {
    /// Joins `paths` with what is served of a registry, if there is one.
    pub(crate) fn new(paths: Arc<dyn ModelSource>, registry: Option<Arc<dyn ModelSource>>) -> Self {
        Self { paths, registry, uploads: None, said: Mutex::default() }
    }

    /// Takes files that clients send along with a load as well.
    pub(crate) fn with_uploads(self, uploads: Option<Uploads>) -> Self {
        Self { uploads, ..self }
    }

    /// Whether a path has a model of this name, which hides the registry's. Blocking.
    pub(crate) fn hides(&self, name: &ModelName) -> bool {
        let is_of_path = self.paths.find(name).is_some();
        if is_of_path {
            self.note_hidden(name);
        }
        is_of_path
    }

    fn note_hidden(&self, name: &ModelName) {
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone()) {
            tracing::warn!(model = %name, "the model of this name in a PATH is served, the registry's is not");
        }
    }
}

impl ModelSource for Sources {
    fn scan(&self) -> Vec<ModelEntry> {
        let mut entries = self.paths.scan();
        let of_paths: BTreeSet<ModelName> = entries.iter().map(|entry| entry.name.clone()).collect();
        for entry in self.registry.iter().flat_map(|registry| registry.scan()) {
            if of_paths.contains(&entry.name) {
                self.note_hidden(&entry.name);
            } else {
                entries.push(entry);
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    fn find(&self, name: &str) -> Option<ModelEntry> {
        let of_registry = || self.registry.as_ref().and_then(|registry| registry.find(name));
        let Some(entry) = self.paths.find(name) else {
            return of_registry();
        };
        if of_registry().is_some() {
            self.note_hidden(&entry.name);
        }
        Some(entry)
    }

    fn overridden(&self, name: &ModelName, by: &LoadOverride) -> Result<Option<ModelEntry>> {
        if !by.files.is_empty() {
            let uploads = self.uploads.as_ref().ok_or_else(|| {
                Error::unsupported("files in a load request are not taken; start the server with --allow-model-upload")
            })?;
            return uploads.read(name, by).map(Some);
        }
        if let Some(entry) = self.paths.overridden(name, by)? {
            return Ok(Some(entry));
        }
        let of_registry = self.registry.as_ref().and_then(|registry| registry.find(name));
        of_registry.map(|entry| salver_repository::with_config(entry, &by.config)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names(&'static [&'static str], u64);

    impl ModelSource for Names {
        fn scan(&self) -> Vec<ModelEntry> {
            self.0.iter().filter_map(|name| self.find(name)).collect()
        }

        fn find(&self, name: &str) -> Option<ModelEntry> {
            let found = self.0.iter().find(|known| **known == name)?;
            let labels = [("from".to_owned(), self.1)].into();
            Some(ModelEntry { name: ModelName::new(found).unwrap(), labels, versions: Ok(Vec::new()) })
        }
    }

    #[test]
    fn a_path_wins_over_the_registry_and_names_stay_in_order() {
        let sources = Sources::new(Arc::new(Names(&["b", "d"], 1)), Some(Arc::new(Names(&["a", "b", "c"], 2))));
        let outline = |entry: &ModelEntry| format!("{}{}", entry.name, entry.labels["from"]);
        let scanned: Vec<String> = sources.scan().iter().map(outline).collect();
        assert_eq!(scanned, ["a2", "b1", "c2", "d1"]);
        for (name, expected) in [("a", "a2"), ("b", "b1"), ("d", "d1")] {
            assert_eq!(outline(&sources.find(name).unwrap()), expected);
        }
        assert!(sources.find("e").is_none());
        assert_eq!(sources.said.lock().unwrap().len(), 1);
        let hides = |name| sources.hides(&ModelName::new(name).unwrap());
        assert!(hides("b") && !hides("a"));
    }
}
