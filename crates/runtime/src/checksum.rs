//! Looks whether the files of a version hold what they must, before an engine reads them.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use salver_core::{Checksum, Error, Result};
use sha2::{Digest as _, Sha256};

const PIECE_BYTES: usize = 1 << 20;

/// Reads every file whose bytes are known beforehand. Blocking.
///
/// # Errors
/// `Engine` naming the first file that holds something else, and the digests expected and found.
pub(crate) fn check(checksums: &[Checksum]) -> Result<()> {
    for Checksum { path, sha256 } in checksums {
        let shown = path.display();
        let found = digest_of(path)
            .map_err(|error| Error::engine(format!("read {shown} to check it: {error}")).with_source(error))?;
        if found != *sha256 {
            let (expected, found) = (hexadecimal(sha256), hexadecimal(&found));
            return Err(Error::engine(format!(
                "{shown} is damaged and not loaded: expected SHA-256 {expected}, found {found}"
            )));
        }
    }
    Ok(())
}

fn digest_of(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut hash, mut piece) = (File::open(path)?, Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&piece[..count]),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
