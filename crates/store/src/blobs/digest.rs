//! The name of a blob, and how it is computed away from the async threads.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use salver_core::{Error, Result};
use sha2::{Digest as _, Sha256};

use super::errors::elsewhere;

/// SHA-256 of a blob's bytes; 64 lower-case hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Error;

    /// Upper case is refused: one blob has one name.
    fn from_str(text: &str) -> Result<Self> {
        let refused = || Error::invalid_input(format!("digest {text:?}: expected 64 lower-case hexadecimal digits"));
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(refused()),
        };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| refused())?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

/// Computes a digest piece by piece.
#[derive(Default)]
pub(super) struct Hasher(Sha256);

impl Hasher {
    /// Adds `bytes` on a thread for blocking work.
    pub(super) async fn update(mut self, bytes: Bytes) -> Result<Self> {
        elsewhere(move || {
            self.update_here(&bytes);
            self
        })
        .await
    }

    /// Adds `bytes` on this thread.
    pub(super) fn update_here(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}
