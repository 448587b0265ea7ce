//! The memory of a client in the address space of the server: the crate's one home of `unsafe`.
//!
//! A copy from or to a mapping takes a quarter of the time that the system takes to read or write
//! the same pages of a file one after the other. But the owner may shorten the file at any time, and
//! who touches a page that is gone gets SIGBUS, which ends the process. So each copy says on its
//! thread which addresses it may touch; a handler puts zeros under those that are gone, notes that
//! this mapping is lost, and the copy counts for nothing. This is how Wayland's compositors read the
//! pictures of their clients (`wl_shm_buffer_begin_access`). A SIGBUS of anything else does what it
//! did before there was a handler.
#![expect(unsafe_code, reason = "mapped memory and signal handlers have no safe form; see the SAFETY notes")]

use std::cell::Cell;
use std::fs::File;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, compiler_fence};

use memmap2::{MmapOptions, MmapRaw};

/// The bytes of clients' memory that are mapped.
static MAPPED: AtomicU64 = AtomicU64::new(0);

/// Returns how many bytes of clients' memory the server has mapped. What of them is resident counts
/// as the process's own for the system, though it would be there without the server.
pub fn mapped_client_bytes() -> u64 {
    MAPPED.load(Ordering::Relaxed)
}

/// A part of a file that somebody else may write to and shorten at any time.
#[derive(Debug)]
pub(super) struct Mapping {
    memory: MmapRaw,
    /// Whether a page was found gone. It is never used again then: zeros lie in its place.
    lost: AtomicBool,
}

impl Mapping {
    /// Maps `len` bytes of a file from `offset` on; none where the system has no room for them.
    pub(super) fn new(file: &File, offset: u64, len: u64) -> Option<Self> {
        let bytes = usize::try_from(len).ok()?;
        if !catches_bus_errors() {
            return None;
        }
        let memory = MmapOptions::new().offset(offset).len(bytes).map_raw(file).ok()?;
        MAPPED.fetch_add(len, Ordering::Relaxed);
        Some(Self { memory, lost: AtomicBool::new(false) })
    }

    /// Copies `len` bytes from `at` on; none where they are not all there.
    pub(super) fn copy_out(&self, at: u64, len: usize) -> Option<Vec<u8>> {
        let at = self.place(at, len)?;
        let mut copy = Vec::with_capacity(len);
        self.guarded(|| {
            // SAFETY: `at..at + len` lies within the mapping, `copy` has room for as many bytes, and
            // they do not overlap. Whoever writes meanwhile changes values, and bytes have no invalid
            // ones. Pages that are gone are the guard's business.
            unsafe { ptr::copy_nonoverlapping(self.memory.as_ptr().add(at), copy.as_mut_ptr(), len) };
        })?;
        // SAFETY: all of them were copied.
        unsafe { copy.set_len(len) };
        Some(copy)
    }

    /// Copies bytes to `at`; none where there is not room for all of them. Some may be there then.
    pub(super) fn copy_in(&self, at: u64, data: &[u8]) -> Option<()> {
        let at = self.place(at, data.len())?;
        self.guarded(|| {
            // SAFETY: `at..at + data.len()` lies within the mapping, which nothing in this process
            // refers to, so it does not overlap with `data`. Pages that are gone are the guard's business.
            unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.memory.as_mut_ptr().add(at), data.len()) };
        })
    }

    /// Finds bytes in the mapping.
    fn place(&self, at: u64, len: usize) -> Option<usize> {
        let at = usize::try_from(at).ok()?;
        at.checked_add(len).filter(|end| *end <= self.memory.len())?;
        Some(at)
    }

    /// Copies while the handler looks after the pages of this mapping; none where one was gone.
    fn guarded(&self, copy: impl FnOnce()) -> Option<()> {
        if self.lost.load(Ordering::Relaxed) {
            return None;
        }
        let start = self.memory.as_ptr().addr();
        let guard = Guard { start, end: start + self.memory.len(), lost: &raw const self.lost };
        GUARD.set(&raw const guard);
        // The handler runs on this thread: the order in which the compiler puts things is all there is.
        compiler_fence(Ordering::SeqCst);
        copy();
        compiler_fence(Ordering::SeqCst);
        GUARD.set(ptr::null());
        // Another thread may have lost the mapping under this one.
        (!self.lost.load(Ordering::SeqCst)).then_some(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        MAPPED.fetch_sub(self.memory.len() as u64, Ordering::Relaxed);
    }
}

/// The addresses that a copy on this thread touches.
struct Guard {
    start: usize,
    end: usize,
    lost: *const AtomicBool,
}

thread_local! {
    /// What the copy of this thread may touch; null where there is none.
    static GUARD: Cell<*const Guard> = const { Cell::new(ptr::null()) };
}

/// What the handler needs, there before it is.
struct Before {
    action: libc::sigaction,
    page: usize,
}

static BEFORE: OnceLock<Before> = OnceLock::new();

/// Sees to it, once, that pages which are gone do not end the process where a [`Guard`] stands.
fn catches_bus_errors() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        let mut before = MaybeUninit::uninit();
        // SAFETY: no new action is given, and there is room for the present one.
        if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), before.as_mut_ptr()) } != 0 {
            return false;
        }
        // SAFETY: the call that fills it succeeded.
        let before = Before { action: unsafe { before.assume_init() }, page: rustix::param::page_size() };
        BEFORE.get_or_init(|| before);
        // SAFETY: an action is plain numbers, for which zeros are valid: no flags, no signals blocked.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler has the form that `SA_SIGINFO` asks for, and does nothing that may not
        // be done in one: it reads atomics and a thread's cell, and calls the system.
        unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) == 0 }
    })
}

/// Puts zeros where a guarded copy found nothing.
extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the system gives a valid `info`, whose address is set for this signal; where a process
    // sent it, what stands there is some other number.
    let address = unsafe { (*info).si_addr() }.addr();
    let Some(before) = BEFORE.get() else { return };
    // SAFETY: null, or set by `guarded` on this thread, which is still in it.
    let guard = unsafe { GUARD.get().as_ref() };
    if let Some(guard) = guard.filter(|guard| (guard.start..guard.end).contains(&address)) {
        // SAFETY: the mapping outlives its guard.
        unsafe { &*guard.lost }.store(true, Ordering::SeqCst);
        // A file ends once: nothing behind this page is there either.
        let first = address - address % before.page;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: from here to its end are whole pages of this one mapping, to which nobody has
        // references, and whose owner gives back just these addresses.
        let made =
            unsafe { libc::mmap(ptr::without_provenance_mut(first), guard.end - first, protection, flags, -1, 0) };
        if made != libc::MAP_FAILED {
            return;
        }
    }
    // SAFETY: the action is one that was in place before; what is raised waits until this returns.
    unsafe {
        libc::sigaction(signal, &raw const before.action, ptr::null_mut());
        libc::raise(signal);
    }
}

#[cfg(test)]
mod tests;
