//! How much memory the process holds, and what a file is likely to take.

use std::path::Path;

use super::history::Size;

/// Measures the memory of the process and gives it back: really in a server, on paper in a test.
pub trait Meter: std::fmt::Debug + Send + Sync {
    /// Returns the resident bytes of the whole process; 0 where the system does not tell.
    fn resident_bytes(&self) -> u64;

    /// Gives what was freed back to the system, where allocators keep it. May take milliseconds.
    fn release(&self) {}
}

/// Guesses what a model will take that was never loaded, from its file and the files of external
/// data beside it, whose names begin with its name by custom: an eighth more than they have, and
/// three times as much while it is read, converted and rearranged.
pub(crate) fn guess(artifact: &Path) -> Size {
    let bytes = files_of(artifact);
    Size { resident: bytes.saturating_add(bytes / 8), loading: bytes.saturating_mul(3) }
}

fn files_of(artifact: &Path) -> u64 {
    let (Some(folder), Some(name)) = (artifact.parent(), artifact.file_name().and_then(|name| name.to_str())) else {
        return 0;
    };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let parts = files.filter(|file| file.file_name().to_str().is_some_and(|other| other.starts_with(name)));
    parts.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_counts_the_weights_beside_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.onnx");
        std::fs::write(&model, [0; 80]).unwrap();
        std::fs::write(folder.path().join("m.onnx.data"), [0; 720]).unwrap();
        std::fs::write(folder.path().join("other.onnx"), [0; 8000]).unwrap();
        assert_eq!(guess(&model), Size { resident: 900, loading: 2400 });
        assert_eq!(guess(Path::new("/no/such/model.onnx")), Size::of(0));
    }
}
