//! The digest of a model version: of the files that were loaded, and of everything else that its
//! answers depend on. Servers with equal digests may share answers.
//!
//! The files are read before the engine reads them and looked at again afterwards, so that what was
//! replaced in between is noticed.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use salver_core::{Backing, BuiltinSpec, TaskSpec};

use super::question::Digest;
use crate::slot::Slot;

/// Folders below a version's own that are looked into.
const MAX_DEPTH: usize = 4;

/// The files of one version, as they were at one moment.
#[derive(Debug)]
pub(crate) struct Files {
    seen: Vec<(PathBuf, Metadata)>,
    content: [u8; 32],
}

impl Files {
    /// Reads the artifact and what belongs to it, and the file `beside` it: everything in a folder of its own, and beside
    /// other models the files whose names go on after its own (`a.onnx.data`). Blocking.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(crate) fn read(model: &str, artifact: &Path, beside: Option<&Path>) -> io::Result<Self> {
        let folder = artifact.parent().unwrap_or(Path::new("."));
        let mut found = Vec::new();
        list(folder, if is_own(folder, model, artifact) { MAX_DEPTH } else { 0 }, &mut found)?;
        if !is_own(folder, model, artifact) {
            let name = artifact.file_name().unwrap_or_default().as_encoded_bytes();
            found.retain(|path| path.file_name().is_some_and(|other| other.as_encoded_bytes().starts_with(name)));
        }
        found.sort();
        found.extend(beside.map(Path::to_owned));
        let mut seen = Vec::new();
        let mut digest = Digest::default();
        for path in found {
            let metadata = fs::metadata(&path)?;
            digest.bytes(path.strip_prefix(folder).unwrap_or(&path).as_os_str().as_encoded_bytes());
            let mut content = blake3::Hasher::new();
            content.update_reader(File::open(&path)?)?;
            digest.bytes(content.finalize().as_bytes());
            seen.push((path, metadata));
        }
        if !seen.iter().any(|(path, _)| path == artifact) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the model's file is not there"));
        }
        Ok(Self { seen, content: digest.finish() })
    }

    /// Whether the files are still as they were.
    pub(crate) fn are_unchanged(&self) -> bool {
        let modified = |metadata: &Metadata| metadata.modified().ok();
        self.seen.iter().all(|(path, before)| {
            fs::metadata(path).is_ok_and(|now| now.len() == before.len() && modified(&now) == modified(before))
        })
    }
}

/// Whether a folder holds one version and nothing else: it is named after a version, the model or
/// the artifact.
fn is_own(folder: &Path, model: &str, artifact: &Path) -> bool {
    let Some(name) = folder.file_name() else {
        return false;
    };
    let is_version = name.to_str().is_some_and(|name| name.parse::<u64>().is_ok());
    is_version || name == model || artifact.file_name() == Some(name)
}

fn list(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            found.push(path);
        } else if depth > 0 && path.is_dir() {
            list(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

/// Digests a loaded version. The release of Salver is part of it: a later one may compute anew.
pub(crate) fn version(files: &[Files], slot: &Slot) -> [u8; 32] {
    let mut digest = Digest::default();
    let (info, config) = (&slot.info, &slot.interface.config);
    for text in [env!("CARGO_PKG_VERSION"), &info.name, &info.engine] {
        digest.bytes(text.as_bytes());
    }
    digest.bytes(&info.version.to_le_bytes());
    files.iter().for_each(|files| digest.bytes(&files.content));
    digest.bytes(settings(&slot.spec.task).as_bytes());
    digest.bytes(function(&slot.spec.backing).as_bytes());
    for tensors in [&info.signature.inputs, &info.signature.outputs] {
        digest.number(tensors.len());
        for spec in tensors {
            digest.bytes(spec.name.as_bytes());
            digest.bytes(spec.dtype.as_str().as_bytes());
            dims(&mut digest, &spec.shape);
        }
    }
    for io in config.inputs.iter().chain(&config.outputs) {
        digest.number(usize::from(io.reshape.is_some()));
        dims(&mut digest, io.reshape.as_deref().unwrap_or_default());
    }
    for group in &config.instance_groups {
        digest.bytes(group.kind.as_bytes());
        digest.bytes(group.accelerator.as_deref().unwrap_or_default().as_bytes());
    }
    digest.finish()
}

/// Everything that a task was told. Where its file lies does not matter; what is in it was read.
fn settings(task: &TaskSpec) -> String {
    let mut task = task.clone();
    if let TaskSpec::Text(text) = &mut task {
        text.tokenizer = PathBuf::new();
    }
    format!("{task:?}")
}

/// Everything that a function was told, as of a task.
fn function(backing: &Backing) -> String {
    let Backing::Builtin(builtin) = backing else { return String::new() };
    let mut builtin = BuiltinSpec::clone(builtin);
    if let BuiltinSpec::Tokenize(tokenize) = &mut builtin {
        tokenize.tokenizer = PathBuf::new();
    }
    format!("{builtin:?}")
}

fn dims(digest: &mut Digest, dims: &[salver_core::Dim]) {
    digest.number(dims.len());
    dims.iter().for_each(|dim| digest.bytes(&dim.to_wire().to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(model: &str, artifact: &Path) -> [u8; 32] {
        Files::read(model, artifact, None).unwrap().content
    }

    #[test]
    fn content_counts_and_place_does_not() {
        let roots = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        for root in &roots {
            fs::create_dir_all(root.path().join("1/weights")).unwrap();
            fs::write(root.path().join("1/model.onnx"), "graph").unwrap();
            fs::write(root.path().join("1/weights/a.bin"), "weights").unwrap();
        }
        let of = |idx: usize| content("m", &roots[idx].path().join("1/model.onnx"));
        assert_eq!(of(0), of(1));
        fs::write(roots[1].path().join("1/weights/a.bin"), "WEIGHTS").unwrap();
        assert_ne!(of(0), of(1));
    }

    #[test]
    fn beside_other_models_only_its_own_files_count() {
        let root = tempfile::tempdir().unwrap();
        let artifact = root.path().join("a.onnx");
        fs::write(&artifact, "graph").unwrap();
        let before = content("a", &artifact);
        fs::write(root.path().join("b.onnx"), "another").unwrap();
        assert_eq!(content("a", &artifact), before);
        fs::write(root.path().join("a.onnx.data"), "weights").unwrap();
        assert_ne!(content("a", &artifact), before);
        assert!(Files::read("c", &root.path().join("c.onnx"), None).is_err());
    }

    #[test]
    fn a_change_between_two_looks_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let artifact = root.path().join("a.onnx");
        fs::write(&artifact, "graph").unwrap();
        let files = Files::read("a", &artifact, None).unwrap();
        assert!(files.are_unchanged());
        fs::write(&artifact, "another graph").unwrap();
        assert!(!files.are_unchanged());
    }
}
