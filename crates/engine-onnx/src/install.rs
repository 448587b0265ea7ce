//! Gets the shared library of ONNX Runtime into the cache, once.
//!
//! The library lies in a Python package, which `pip` fetches: the user's own index, proxy and
//! certificates hold. The package is checked against a pinned SHA-256, the one file in it is
//! written beside its place, synced and renamed, and a marker with its length and SHA-256 follows.
//! A lock file keeps two processes from doing this at the same time.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use salver_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::library::VERSION;
use crate::process;

/// How long pip may take; 24 MB over a slow line.
const PIP_LIMIT: Duration = Duration::from_secs(15 * 60);
/// The library is 29 MB; anything near this is not it.
const MAX_LIBRARY_BYTES: u64 = 256 << 20;

/// A package for one kind of machine.
#[derive(Debug)]
struct Pin {
    /// As in Python's platform tags.
    platform: &'static str,
    /// Of the package file.
    sha256: &'static str,
}

impl Pin {
    fn of_this_machine() -> Result<&'static Self> {
        const X86_64: Pin = Pin {
            platform: "manylinux_2_28_x86_64",
            sha256: "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f",
        };
        const AARCH64: Pin = Pin {
            platform: "manylinux_2_28_aarch64",
            sha256: "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3",
        };
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") if cfg!(target_env = "gnu") => Ok(&X86_64),
            ("linux", "aarch64") if cfg!(target_env = "gnu") => Ok(&AARCH64),
            (os, arch) => Err(Error::unsupported(format!(
                "no ONNX Runtime package is known for {os} on {arch}: {}",
                instructions_without_package()
            ))),
        }
    }

    fn pip_arguments(&self, folder: &Path) -> Vec<String> {
        let package = format!("onnxruntime=={VERSION}");
        let fixed = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--platform", self.platform];
        let rest = ["--python-version", "3.11", &package, "-d", &folder.to_string_lossy()];
        fixed.iter().chain(&rest).map(|&argument| argument.to_owned()).collect()
    }
}

/// Returns where the cache keeps the library.
pub(crate) fn cached_library(cache: &Path) -> PathBuf {
    cache.join(format!("onnxruntime-{VERSION}")).join(format!("libonnxruntime.so.{VERSION}"))
}

/// Says in words how to get the library onto this machine by hand.
pub(crate) fn instructions(cache: Option<&Path>) -> String {
    let Ok(pin) = Pin::of_this_machine() else {
        return instructions_without_package();
    };
    let command = pin.pip_arguments(Path::new(".")).join(" ");
    let target = cache.map(cached_library).unwrap_or_else(|| PathBuf::from("the cache"));
    format!(
        "with network: `salver runtime install`; without: run `python3 {command}` on a machine that has it, bring the \
         .whl file here and run `salver runtime install --from FILE`, which puts the library at {}",
        target.display()
    )
}

fn instructions_without_package() -> String {
    format!("get the library of version {VERSION} and name it with --ort-lib or ORT_DYLIB_PATH")
}

/// Makes sure that the cache holds the library, and returns its path. With `from`, a package file
/// takes the place of pip.
///
/// # Errors
/// `Unsupported` for a machine without a known package, `InvalidInput` for a package file that is
/// not the pinned one, `Full` without room, else `Engine`.
pub(crate) fn install(cache: &Path, from: Option<&Path>) -> Result<PathBuf> {
    let pin = Pin::of_this_machine()?;
    let target = cached_library(cache);
    let folder = target.parent().unwrap_or(cache);
    fs::create_dir_all(folder).map_err(|error| io_error(&error, "make the folder", folder))?;
    let lock_path = folder.join(".lock");
    let lock = File::create(&lock_path).map_err(|error| io_error(&error, "make the lock file", &lock_path))?;
    lock.lock().map_err(|error| io_error(&error, "lock", &lock_path))?;
    // Whoever held the lock before may have done the work. A damaged library is replaced.
    if from.is_none() && is_intact(&target).is_ok() {
        return Ok(target);
    }
    let scratch = Scratch::new(folder)?;
    let package = match from {
        Some(package) => package.to_owned(),
        None => download(pin, &scratch.0)?,
    };
    check_package(&package, pin)?;
    extract(&package, &scratch.0, &target)?;
    Ok(target)
}

/// Checks that a library was written to its end, by the length that its marker says.
///
/// # Errors
/// In words: it is missing, or is not whole.
pub(crate) fn is_complete(library: &Path) -> Result<(), String> {
    let length = fs::metadata(library).map_err(|_| "not there".to_owned())?.len();
    let marker = fs::read_to_string(marker_of(library)).map_err(|_| "incomplete: its marker is missing".to_owned())?;
    match marker.split_once(' ').and_then(|(_, length)| length.trim_end().parse::<u64>().ok()) {
        Some(expected) if expected == length => Ok(()),
        _ => Err("incomplete: its length is not the one that its marker says".to_owned()),
    }
}

/// As [`is_complete`], and reads the whole file to compare its SHA-256.
///
/// # Errors
/// In words: it is missing, is not whole, or is damaged.
pub(crate) fn is_intact(library: &Path) -> Result<(), String> {
    is_complete(library)?;
    let marker = fs::read_to_string(marker_of(library)).map_err(|error| error.to_string())?;
    let found = File::open(library).and_then(sha256_of).map_err(|error| format!("unreadable: {error}"))?;
    if marker.starts_with(&found) {
        Ok(())
    } else {
        Err("damaged: its SHA-256 is not the one of its marker".to_owned())
    }
}

fn marker_of(library: &Path) -> PathBuf {
    let mut name = library.as_os_str().to_owned();
    name.push(".sha256");
    PathBuf::from(name)
}

fn download(pin: &Pin, folder: &Path) -> Result<PathBuf> {
    let mut arguments = pin.pip_arguments(folder);
    let unattended = ["--no-input", "--disable-pip-version-check", "--quiet", "--retries", "2"];
    arguments.extend(unattended.iter().map(|&argument| argument.to_owned()));
    tracing::info!(version = VERSION, "fetching ONNX Runtime with pip, once; about 24 MB");
    process::output(Command::new("python3").args(&arguments), PIP_LIMIT)
        .map_err(|reason| Error::engine(format!("fetch ONNX Runtime {VERSION} with pip: {reason}")))?;
    let files = fs::read_dir(folder).map_err(|error| io_error(&error, "read", folder))?;
    let mut packages =
        files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "whl"));
    packages.next().ok_or_else(|| Error::engine("pip ended well but left no .whl file"))
}

fn check_package(package: &Path, pin: &Pin) -> Result<()> {
    let found = File::open(package).and_then(sha256_of).map_err(|error| io_error(&error, "read", package))?;
    if found == pin.sha256 {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "{}: expected the cp311 {} package of onnxruntime {VERSION} with SHA-256 {}, got {found}",
        package.display(),
        pin.platform,
        pin.sha256
    )))
}

fn extract(package: &Path, scratch: &Path, target: &Path) -> Result<()> {
    let unreadable = |error: zip::result::ZipError| {
        Error::invalid_input(format!("{}: read the package: {error}", package.display()))
    };
    let file = File::open(package).map_err(|error| io_error(&error, "read", package))?;
    let mut archive = ZipArchive::new(io::BufReader::new(file)).map_err(unreadable)?;
    let member = format!("onnxruntime/capi/libonnxruntime.so.{VERSION}");
    let library = archive.by_name(&member).map_err(unreadable)?;
    let temporary = scratch.join("library");
    let (sha256, length) = write_synced(&temporary, library.take(MAX_LIBRARY_BYTES))?;
    // Until the new marker is there, an older one must not vouch for the new file.
    let marker = marker_of(target);
    match fs::remove_file(&marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&error, "remove", &marker)),
        _ => {}
    }
    fs::rename(&temporary, target).map_err(|error| io_error(&error, "write", target))?;
    let temporary = scratch.join("marker");
    write_synced(&temporary, format!("{sha256} {length}\n").as_bytes())?;
    fs::rename(&temporary, &marker).map_err(|error| io_error(&error, "write", &marker))?;
    sync_folder(target);
    Ok(())
}

/// Copies `content` to a new file that is on the disk when this returns, with its SHA-256 and length.
fn write_synced(path: &Path, content: impl Read) -> Result<(String, u64)> {
    let write = || -> io::Result<(String, u64)> {
        let mut file = File::create(path)?;
        let written = copy_hashed(content, &mut file)?;
        file.sync_all()?;
        Ok(written)
    };
    write().map_err(|error| io_error(&error, "write", path))
}

/// Puts the renames on the disk too. Losing them costs one more download, so errors are ignored.
fn sync_folder(target: &Path) {
    if let Some(folder) = target.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
}

fn sha256_of(file: File) -> io::Result<String> {
    copy_hashed(file, &mut io::sink()).map(|(sha256, _)| sha256)
}

/// Copies everything; returns its SHA-256 and length.
fn copy_hashed(mut from: impl Read, to: &mut impl Write) -> io::Result<(String, u64)> {
    let (mut hasher, mut length, mut buffer) = (Sha256::new(), 0u64, vec![0; 64 << 10]);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok((hex(&hasher.finalize()), length));
        }
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
        length += count as u64;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn io_error(error: &io::Error, what: &str, path: &Path) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        io::ErrorKind::NotFound => ErrorKind::InvalidInput,
        _ => ErrorKind::Engine,
    };
    Error::new(kind, format!("{what} {}: {error}", path.display()))
}

/// A folder that goes away with this value.
struct Scratch(PathBuf);

impl Scratch {
    /// The lock is held: what an earlier process left behind is nobody's.
    fn new(parent: &Path) -> Result<Self> {
        let path = parent.join(".fetching");
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).map_err(|error| io_error(&error, "make the folder", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
