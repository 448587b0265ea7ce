//! How one region is opened, read and written.
//!
//! Through a [`Mapping`], which is fast, where all that is asked for is there; else through its
//! descriptor, which says what is wrong. Touching a hole would take memory for it. Each byte is
//! copied once, and nothing looks at it before: the owner may write meanwhile, and shorten the object
//! at any time.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, SeekFrom, openat, seek};
use rustix::process::{Resource, getrlimit};
use salver_core::{Error, Result};
use salver_protocol::shared_memory::{Region, Window};

use super::mapping::Mapping;

/// Names that Triton keeps for itself.
const RESERVED: &str = "triton_python_backend_shm_region_";
/// The longest name of a file.
const MAX_KEY_BYTES: usize = 255;

/// Opens the folder that all keys are looked up in.
pub(super) fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| {
        let message = format!("--allow-client-shm needs the folder {} of shared memory objects", path.display());
        Error::engine(format!("{message}: {}", io::Error::from(error)))
    })
}

/// A region and the object behind it.
#[derive(Debug)]
pub(super) struct Opened {
    region: Region,
    file: File,
    mapping: Option<Mapping>,
}

impl Opened {
    /// Opens the object of `region` in `folder`.
    ///
    /// # Errors
    /// `InvalidInput` for a key that leads to no object, or to one that is too small.
    pub(super) fn new(folder: &OwnedFd, region: Region) -> Result<Self> {
        let name = object_name(&region)?;
        let refuse = |reason: String| {
            Error::invalid_input(format!("failed to register shared memory region '{}': {reason}", region.name))
        };
        // Opening what is no regular file may wait for its other end.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(folder, name, flags, Mode::empty()).map(File::from).map_err(io::Error::from);
        let sized = file.and_then(|file| {
            let found = file.metadata()?;
            Ok((file, found.is_file().then_some(found.len())))
        });
        let (file, len) = sized.map_err(|error| {
            let reason = format!("unable to open the shared memory object with key '{}': {error}", region.key);
            refuse(reason).with_source(error)
        })?;
        let len = len.ok_or_else(|| refuse(format!("key '{}' is no shared memory object", region.key)))?;
        // Writing beyond this limit kills the process.
        let most = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX).min(len);
        let end = region.offset.checked_add(region.byte_size);
        if region.byte_size == 0 || end.is_none_or(|end| end > most) {
            return Err(refuse(format!(
                "invalid args: {} bytes from {} on were asked for, the object with key '{}' has {len}",
                region.byte_size, region.offset, region.key
            )));
        }
        let mapping = Mapping::new(&file, region.offset, region.byte_size);
        Ok(Self { region, file, mapping })
    }

    pub(super) fn region(&self) -> &Region {
        &self.region
    }
}

/// Returns the name of the object in its folder: as in the C library, slashes before it do not count.
fn object_name(region: &Region) -> Result<&str> {
    let Region { name, key, .. } = region;
    if key.len() > MAX_KEY_BYTES {
        return Err(Error::invalid_input(format!(
            "failed to register shared memory region '{name}': its key is longer than {MAX_KEY_BYTES} bytes"
        )));
    }
    let object = key.trim_start_matches('/');
    if object.starts_with(RESERVED) {
        return Err(Error::invalid_input(format!(
            "cannot register shared memory region '{name}' with key '{key}' as the key contains the reserved prefix \
             '{RESERVED}'"
        )));
    }
    if matches!(object, "" | "." | "..") || object.contains(['/', '\0']) {
        return Err(Error::invalid_input(format!(
            "failed to register shared memory region '{name}': key '{}' is not the name of a shared memory object: a \
             slash may only come first",
            key.escape_debug()
        )));
    }
    Ok(object)
}

/// A window of a region, which stays open as long as this.
#[derive(Debug)]
pub(super) struct View {
    opened: Arc<Opened>,
    at: u64,
    len: u64,
}

impl View {
    /// Finds `window` in a region.
    ///
    /// # Errors
    /// `InvalidInput` where it is not within it.
    pub(super) fn new(opened: Arc<Opened>, window: &Window) -> Result<Self> {
        let at = window.place_in(&opened.region)?;
        Ok(Self { opened, at, len: window.byte_size() })
    }

    /// Copies the bytes of the window.
    ///
    /// # Errors
    /// `InvalidInput` where the region became shorter.
    pub(super) fn read(&self) -> Result<Bytes> {
        let len = usize::try_from(self.len).map_err(|_| self.truncated())?;
        if let Some(data) = self.mapped(self.len).and_then(|(mapping, at)| mapping.copy_out(at, len)) {
            return Ok(data.into());
        }
        let mut data = Vec::with_capacity(len);
        while data.len() < len {
            let at = self.at.saturating_add(data.len() as u64);
            match rustix::io::pread(&self.opened.file, spare_capacity(&mut data), at) {
                Ok(0) => return Err(self.truncated()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.failed("read", error.into())),
            }
        }
        // A vector may have more room than was asked for.
        data.truncate(len);
        Ok(data.into())
    }

    /// Writes bytes to the beginning of the window.
    ///
    /// # Errors
    /// `InvalidInput` where they do not fit, or the region became shorter.
    pub(super) fn write(&self, data: &[u8]) -> Result<()> {
        if data.len() as u64 > self.len {
            return Err(self.failed("written", io::ErrorKind::FileTooLarge.into()));
        }
        if self.mapped(data.len() as u64).and_then(|(mapping, at)| mapping.copy_in(at, data)).is_some() {
            return Ok(());
        }
        let end = self.at.saturating_add(data.len() as u64);
        let found = self.opened.file.metadata().map_err(|error| self.failed("written", error))?;
        // An owner who shortens it right now gets some of it back, which is theirs to do.
        if end > found.len() {
            return Err(self.truncated());
        }
        self.opened.file.write_all_at(data, self.at).map_err(|error| self.failed("written", error))
    }

    /// Returns the mapping and the place of the window in it, where its first `len` bytes are there
    /// without a hole.
    fn mapped(&self, len: u64) -> Option<(&Mapping, u64)> {
        let Opened { region, file, mapping } = &*self.opened;
        let mapping = mapping.as_ref()?;
        // The end of a file is a hole too. Nothing else uses the position that this moves.
        let hole = seek(file, SeekFrom::Hole(self.at)).ok()?;
        let is_there = self.at.checked_add(len).is_some_and(|end| end <= hole);
        is_there.then(|| (mapping, self.at.saturating_sub(region.offset)))
    }

    fn truncated(&self) -> Error {
        let name = &self.opened.region.name;
        Error::invalid_input(format!("shared memory region '{name}' was truncated since it was registered"))
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        let name = &self.opened.region.name;
        Error::invalid_input(format!("shared memory region '{name}' cannot be {what}: {error}")).with_source(error)
    }
}
