//! Memory that the server and one worker share, and reading a worker's own memory: the crate's one
//! home of `unsafe`.
//!
//! A [`Region`] is a file without a name in memory; only who is given its descriptor can reach it. It
//! is sealed, so a worker cannot shorten it under the server's feet. What stands in it may change
//! at any time: the server writes to it, and copies out of it before it looks at anything.
#![expect(unsafe_code, reason = "mapped memory and that of others have no safe form; see the SAFETY notes")]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};
use salver_core::{Error, ErrorKind, Result};

/// The least that a region holds.
const MIN_LEN: usize = 64 << 10;

/// A piece of memory that can be given to another process.
pub(crate) struct Region {
    file: OwnedFd,
    memory: MmapRaw,
}

impl Region {
    /// Makes a region of at least `len` bytes, all zero.
    ///
    /// # Errors
    /// `Full` where the system has no memory or descriptors left.
    pub(crate) fn new(len: usize) -> Result<Self> {
        let full = || Error::new(ErrorKind::Full, format!("no shared memory for a batch of {len} bytes"));
        let size = len.max(MIN_LEN).checked_next_power_of_two().ok_or_else(full)?;
        let make = || -> std::io::Result<Self> {
            let file = rustix::fs::memfd_create("salver", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
            rustix::fs::ftruncate(&file, size as u64)?;
            rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
            let memory = MmapOptions::new().len(size).map_raw(&file)?;
            Ok(Self { file, memory })
        };
        make().map_err(|error| full().with_source(error))
    }

    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// Returns the first `len` bytes, to be written.
    ///
    /// # Panics
    /// If there are fewer.
    pub(crate) fn writable(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= self.memory.len(), "the region was made large enough");
        // SAFETY: the mapping is `len` bytes or longer, lives as long as `self`, and cannot become
        // shorter, as it is sealed. In this process nothing else refers to it. A worker may write
        // to it at the same time: bytes have no invalid values, and callers do not read them back.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr(), len) }
    }

    /// Copies bytes out, as they are at this moment; none where there are fewer.
    pub(crate) fn copy_out(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(len).filter(|end| *end <= self.memory.len())?;
        let mut copy = Vec::new();
        copy.try_reserve_exact(len).ok()?;
        // SAFETY: `start..end` lies within the mapping, `copy` has room for as many bytes, and they
        // do not overlap. A worker that writes meanwhile changes values, not validity.
        unsafe {
            std::ptr::copy_nonoverlapping(self.memory.as_ptr().add(start), copy.as_mut_ptr(), end - start);
            copy.set_len(len);
        }
        Some(copy)
    }
}

/// Copies bytes out of the memory of a process.
///
/// # Errors
/// `NotReady` where the process has ended, has no such bytes, or may not be read; `Engine` where
/// there is no room for them.
pub(crate) fn read_process(pid: u32, address: u64, len: usize) -> Result<Vec<u8>> {
    let unreadable = || Error::not_ready("it cannot be read");
    let start =
        usize::try_from(address).ok().filter(|start| start.checked_add(len).is_some()).ok_or_else(unreadable)?;
    let mut copy: Vec<u8> = Vec::new();
    copy.try_reserve_exact(len).map_err(|_| Error::engine(format!("no memory for {len} bytes")))?;
    while copy.len() < len {
        let left = len - copy.len();
        let local = libc::iovec { iov_base: copy.spare_capacity_mut().as_mut_ptr().cast(), iov_len: left };
        let remote = libc::iovec { iov_base: (start + copy.len()) as *mut libc::c_void, iov_len: left };
        // SAFETY: `local` is `left` bytes that were reserved and belong to `copy` alone; the system
        // checks `remote` against the other process, and writes nowhere else.
        let read = unsafe { libc::process_vm_readv(pid.cast_signed(), &raw const local, 1, &raw const remote, 1, 0) };
        match usize::try_from(read) {
            Ok(0) => return Err(unreadable()),
            // SAFETY: as many bytes, at most `left`, were written behind those that were there.
            Ok(read) => unsafe { copy.set_len(copy.len() + read) },
            Err(_) => match std::io::Error::last_os_error() {
                error if error.kind() == std::io::ErrorKind::Interrupted => {}
                error => return Err(unreadable().with_source(error)),
            },
        }
    }
    Ok(copy)
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_copied_out_and_no_more() {
        let mut region = Region::new(10).unwrap();
        assert_eq!(region.len(), MIN_LEN);
        region.writable(10).copy_from_slice(b"0123456789");
        assert_eq!(region.copy_out(2, 3).unwrap(), b"234");
        assert_eq!(region.copy_out(MIN_LEN as u64, 0).unwrap(), b"");
        for (offset, len) in [(MIN_LEN as u64, 1), (u64::MAX, 1), (1, usize::MAX), (u64::MAX, usize::MAX)] {
            assert!(region.copy_out(offset, len).is_none());
        }
        assert_eq!(Region::new(usize::MAX).err().unwrap().kind(), ErrorKind::Full);
    }

    #[test]
    fn the_other_side_cannot_change_the_length() {
        let region = Region::new(1).unwrap();
        for len in [0, MIN_LEN as u64 * 2] {
            rustix::fs::ftruncate(&region, len).unwrap_err();
        }
    }
}
