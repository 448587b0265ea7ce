//! One model folder of a Triton repository: `config.pbtxt`, numbered versions, label files.
//!
//! A folder without a configuration gets Triton's derived one. Whether the configuration fits the
//! graph is checked when the model is loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use salver_core::{Error, ModelConfig, ModelName, ModelSpec, Result};

use crate::files::{self, Fingerprint, Numbering};
use crate::pbtxt;
use crate::versions::{self, Version};

/// The file that makes a folder a Triton model.
pub(crate) const CONFIG: &str = "config.pbtxt";

/// Whether `folder` looks like a Triton model.
pub(crate) fn is_model(folder: &Path) -> bool {
    folder.join(CONFIG).is_file() || files::versions(folder, Numbering::Plain).is_ok_and(|found| !found.is_empty())
}

/// Reads the versions that the folder's policy selects.
pub(crate) fn read(name: &ModelName, folder: &Path) -> Result<Vec<Arc<ModelSpec>>> {
    let config_file = folder.join(CONFIG);
    let config = if config_file.is_file() {
        let text = files::read_text(&config_file, files::CONFIG_LIMIT)?;
        pbtxt::parse(&text, name).map_err(|error| error.context(config_file.display()))?
    } else {
        pbtxt::derived()
    };
    let found = versions::select(folder, Numbering::Plain, &config)?;
    let (labels, label_files) = labels(folder, &config)?;
    let mut shared = Fingerprint::default();
    label_files.iter().chain([&config_file]).for_each(|file| shared.add(file));
    let spec = |Version { number, artifact }: Version| {
        let mut fingerprint = shared.clone();
        fingerprint.add_artifact(&artifact);
        Arc::new(ModelSpec {
            labels: labels.clone(),
            fingerprint: fingerprint.finish(),
            ..versions::spec(name, number, artifact, config.clone())
        })
    };
    Ok(found.into_iter().map(spec).collect())
}

/// Reads the label files of the outputs; they lie in the model's folder, above the versions.
fn labels(folder: &Path, config: &ModelConfig) -> Result<(BTreeMap<String, Vec<String>>, Vec<PathBuf>)> {
    let (mut labels, mut read) = (BTreeMap::new(), Vec::new());
    for output in config.outputs.iter().filter(|output| !output.label_filename.is_empty()) {
        let context =
            |error: Error| error.context(format!("label_filename of output '{}'", output.name.escape_debug()));
        let path = files::inside(folder, &output.label_filename).map_err(context)?;
        labels.insert(output.name.clone(), files::read_labels(&path).map_err(context)?);
        read.push(path);
    }
    Ok((labels, read))
}
