//! Folders whose names last.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Makes a folder, and those above it that are missing, so that it is there after a crash of the
/// machine as well: what is synced in a folder is lost with the folder's name.
///
/// # Errors
/// Where one cannot be made or synced.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()), // The root.
    };
    if !parent.is_dir() {
        make_folder(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => sync_folder(parent),
        Err(_) if path.is_dir() => {
            // Whoever made it may have ended before this. A parent that cannot be read is older than us.
            let _ = sync_folder(parent);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Makes the names in a folder last: those that came, went or changed.
///
/// # Errors
/// Where it cannot be read or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_as_deep_as_asked_and_again() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c");
        make_folder(&deep).unwrap();
        make_folder(&deep).unwrap();
        assert!(deep.is_dir());
        make_folder(Path::new("/")).unwrap();
        fs::write(deep.join("file"), "").unwrap();
        assert!(make_folder(&deep.join("file")).is_err());
        assert!(make_folder(&deep.join("file/below")).is_err());
    }
}
