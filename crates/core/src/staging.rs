//! Memory to assemble a batch in, aligned as engines want it.
//!
//! Safe code only: a little more is allocated than asked for, and the aligned part of it is used.

use crate::{BatchLayout, Error, ErrorKind, Result};

/// A growing buffer whose first byte is aligned to [`BatchLayout::ALIGN`].
///
/// It never shrinks: an instance soon holds the largest batch that it sees, and reuses it.
#[derive(Debug, Default)]
pub struct StagingBuffer {
    memory: Vec<u8>,
}

impl StagingBuffer {
    /// Returns `len` aligned bytes; what they hold is left over from the last use.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] where there is no memory for them.
    pub fn resize(&mut self, len: usize) -> Result<&mut [u8]> {
        let full = || Error::new(ErrorKind::Full, format!("no memory for a batch of {len} bytes"));
        let needed = len.checked_add(BatchLayout::ALIGN).ok_or_else(full)?;
        if self.memory.len() < needed {
            self.memory.clear();
            self.memory.try_reserve_exact(needed).map_err(|_| full())?;
            self.memory.resize(needed, 0);
        }
        let start = self.start();
        Ok(&mut self.memory[start..start + len])
    }

    /// Returns all aligned bytes, at least as many as were last asked for.
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.start()..).unwrap_or_default()
    }

    fn start(&self) -> usize {
        self.memory.as_ptr().align_offset(BatchLayout::ALIGN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_aligned_and_keeps_what_was_written() {
        let mut buffer = StagingBuffer::default();
        assert!(buffer.bytes().is_empty());
        for len in [0, 1, 63, 64, 65, 4096, 7] {
            let bytes = buffer.resize(len).unwrap();
            assert_eq!((bytes.len(), bytes.as_ptr().align_offset(BatchLayout::ALIGN)), (len, 0));
            bytes.fill(7);
            assert!(buffer.bytes()[..len].iter().all(|&byte| byte == 7));
        }
        assert_eq!(buffer.resize(usize::MAX).unwrap_err().kind(), ErrorKind::Full);
    }
}
