//! TF Serving's layout: a folder of numbered versions, alone or listed in a `models.config`.
//!
//! There is no configuration beside the model, so no batch limit applies. A `models.config` gives
//! name, place, version policy and labels of each model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message as _;
use salver_core::{Error, ModelConfig, ModelName, ModelSpec, Result, VersionPolicy};

use crate::files::{self, Fingerprint, Numbering};
use crate::pbtxt;
use crate::schema::tfserving::{
    self as proto, ModelType, model_server_config::Config, servable_version_policy::PolicyChoice,
};
use crate::text::{self, Checked, Fault, Lines};
use crate::versions::{self, Version};

/// One model of a `models.config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedModel {
    /// The model's name.
    pub name: ModelName,
    /// The folder of its versions, as written.
    pub base_path: PathBuf,
    /// Which versions are served.
    pub version_policy: VersionPolicy,
    /// Labels and the versions they stand for.
    pub labels: BTreeMap<String, u64>,
}

/// Reads the text of a `models.config`.
///
/// # Errors
/// `InvalidInput` naming line, model and field, `Unsupported` for another platform than `onnx`.
pub(crate) fn parse(text: &str) -> Result<Vec<ListedModel>> {
    let (config, lines) = text::parse::<proto::ModelServerConfig>(text)?;
    listed_models(config, &lines)
}

/// Reads an encoded `ModelServerConfig`, as clients send it. Every base path must be a folder under
/// `within`, where relative ones start.
///
/// # Errors
/// As [`parse`]; `InvalidInput` also for a base path that is no such folder, and a name given twice.
pub(crate) fn decode(message: &[u8], within: &Path) -> Result<Vec<ListedModel>> {
    let config = proto::ModelServerConfig::decode(message).map_err(|error| Error::invalid_input(error.to_string()))?;
    let mut models = listed_models(config, &Lines::default())?;
    let mut names = BTreeSet::new();
    for model in &mut models {
        if !names.insert(model.name.clone()) {
            return Err(Error::invalid_input(format!("model '{}' is listed twice", model.name)));
        }
        let inside = contained(&model.base_path, within);
        model.base_path = inside.map_err(|error| error.context(format!("config of '{}'", model.name)))?;
    }
    Ok(models)
}

/// Resolves links first, so that none leads out of `within`. What is wrong beyond it is not told.
fn contained(base_path: &Path, within: &Path) -> Result<PathBuf> {
    let resolved = within.canonicalize().and_then(|root| Ok((within.join(base_path).canonicalize()?, root)));
    match resolved {
        Ok((path, root)) if path.starts_with(&root) && path != root && path.is_dir() => Ok(path),
        Ok(_) | Err(_) => {
            Err(Error::invalid_input("base_path: expected a folder inside the one that --reload-config-from names"))
        }
    }
}

fn listed_models(config: proto::ModelServerConfig, lines: &Lines) -> Result<Vec<ListedModel>> {
    let Some(Config::ModelConfigList(list)) = config.config else {
        return Err(Error::invalid_input("model_config_list is missing"));
    };
    let listed = |(idx, config): (usize, &proto::ModelConfig)| {
        let shown = format!("config of '{}'", config.name.escape_debug());
        let within = |fault: Fault| fault.within(&format!("model_config_list.config[{idx}]"), &shown);
        listed_model(config).map_err(|fault| within(fault).locate(lines))
    };
    list.config.iter().enumerate().map(listed).collect()
}

/// One entry of a `models.config`, as it is written and as it is read.
pub(crate) struct ListedEntry {
    pub(crate) name: String,
    pub(crate) base_path: String,
    pub(crate) line: usize,
    /// Where requests were to be recorded.
    pub(crate) logging_line: Option<usize>,
    pub(crate) model: Result<ListedModel>,
}

/// Reads the text of a `models.config`, entry by entry.
///
/// # Errors
/// `InvalidInput` naming the line of a text that cannot be read.
pub(crate) fn review(text: &str) -> Result<Vec<ListedEntry>> {
    let (config, lines) = text::parse::<proto::ModelServerConfig>(text)?;
    let Some(Config::ModelConfigList(list)) = config.config else {
        return Err(Error::invalid_input("model_config_list is missing"));
    };
    let entry = |(idx, config): (usize, &proto::ModelConfig)| {
        let path = format!("model_config_list.config[{idx}]");
        ListedEntry {
            name: config.name.clone(),
            base_path: config.base_path.clone(),
            line: lines.of(&path),
            logging_line: config.logging_config.as_ref().map(|_| lines.of(&format!("{path}.logging_config"))),
            model: listed_model(config).map_err(|fault| fault.within(&path, "config").locate(&lines)),
        }
    };
    Ok(list.config.iter().enumerate().map(entry).collect())
}

fn listed_model(config: &proto::ModelConfig) -> Checked<ListedModel> {
    if config.base_path.is_empty() {
        return Err(Fault::invalid("base_path", "base_path is missing"));
    }
    if !["", "onnx"].contains(&config.model_platform.as_str()) {
        let platform = config.model_platform.escape_debug();
        let message = format!("model_platform '{platform}' is not offered; write 'onnx' or leave it out");
        return Err(Fault::unsupported("model_platform", message));
    }
    if config.model_type() == ModelType::Tensorflow {
        let message = "model_type TENSORFLOW is not offered; only ONNX models are";
        return Err(Fault::unsupported("model_type", message));
    }
    let label = |(label, &version): (&String, &i64)| match u64::try_from(version) {
        Ok(number) if number > 0 => Ok((label.clone(), number)),
        _ => {
            let shown = label.escape_debug();
            let message =
                format!("version_labels: '{shown}' stands for version {version}, which is not a positive number");
            Err(Fault::invalid(format!("version_labels[{label}]"), message))
        }
    };
    Ok(ListedModel {
        name: ModelName::new(&config.name).map_err(|error| Fault::new("name", error))?,
        base_path: PathBuf::from(&config.base_path),
        version_policy: version_policy(config.model_version_policy.as_ref())?,
        labels: config.version_labels.iter().map(label).collect::<Checked<_>>()?,
    })
}

fn version_policy(policy: Option<&proto::ServableVersionPolicy>) -> Checked<VersionPolicy> {
    match policy.and_then(|policy| policy.policy_choice.as_ref()) {
        None => Ok(VersionPolicy::default()),
        Some(PolicyChoice::Latest(latest)) => Ok(VersionPolicy::Latest(latest.num_versions.max(1))),
        Some(PolicyChoice::All(_)) => Ok(VersionPolicy::All),
        Some(PolicyChoice::Specific(specific)) => {
            let within = |fault: Fault| fault.within("model_version_policy.specific", "model_version_policy");
            pbtxt::specific_versions(&specific.versions).map_err(within)
        }
    }
}

/// Reads the versions in `folder` that `policy` selects; every label must stand for one of them.
pub(crate) fn read(
    name: &ModelName,
    folder: &Path,
    policy: &VersionPolicy,
    labels: &BTreeMap<String, u64>,
) -> Result<Vec<Arc<ModelSpec>>> {
    let config = ModelConfig { version_policy: policy.clone(), ..ModelConfig::default() };
    let found = versions::select(folder, Numbering::Padded, &config)?;
    let numbers: Vec<u64> = found.iter().map(|version| version.number).collect();
    if let Some((label, version)) = labels.iter().find(|(_, version)| !numbers.contains(version)) {
        return Err(Error::invalid_input(format!(
            "version_labels: '{}' stands for version {version}, but the served versions are {numbers:?}",
            label.escape_debug()
        )));
    }
    let spec = |Version { number, artifact }: Version| {
        let mut fingerprint = Fingerprint::default();
        fingerprint.add_artifact(&artifact);
        let fingerprint = fingerprint.finish();
        Arc::new(ModelSpec { fingerprint, ..versions::spec(name, number, artifact, config.clone()) })
    };
    Ok(found.into_iter().map(spec).collect())
}

/// Reads a `models.config`; relative base paths start at its folder.
pub(crate) fn read_config(path: &Path) -> Result<Vec<ListedModel>> {
    let text = files::read_text(path, files::CONFIG_LIMIT)?;
    let mut models = parse(&text).map_err(|error| error.context(path.display()))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for model in &mut models {
        model.base_path = folder.join(&model.base_path);
    }
    Ok(models)
}

#[cfg(test)]
mod tests;
