//! The process's allocator, and how memory goes back to the system.
//!
//! mimalloc serves everything in Rust: requests are allocated on one thread and freed on another,
//! where the system's allocator is slow. It gives freed pages back after a while, and only when it
//! is called again; a server under a memory limit has to know at once.
#![expect(unsafe_code, reason = "one call into mimalloc, which has no safe form")]

use salver_engine_python::PythonEngine;
use salver_runtime::Meter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The memory of this process and of its workers.
pub(crate) struct ServerMemory {
    pub(crate) workers: PythonEngine,
}

impl std::fmt::Debug for ServerMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerMemory")
    }
}

impl Meter for ServerMemory {
    fn resident_bytes(&self) -> u64 {
        let all = salver_telemetry::resident_bytes().unwrap_or_default();
        all.saturating_sub(resident_client_bytes()) + self.workers.resident_bytes()
    }

    fn release(&self) {
        unsafe extern "C" {
            fn mi_collect(force: bool);
        }
        // SAFETY: declared as in `mimalloc.h`; it may be called at any time, from any thread, and
        // touches only what is free.
        unsafe { mi_collect(true) };
    }
}

/// What of the process's memory is that of clients: no model leaves for it. What is mapped may not
/// be resident, and what is resident may be what is shared with workers; the lesser of the two is
/// wrong by no more than the latter.
fn resident_client_bytes() -> u64 {
    match salver_server::mapped_client_bytes() {
        0 => 0,
        mapped => salver_telemetry::resident_shared_bytes().unwrap_or_default().min(mapped),
    }
}

#[cfg(test)]
mod tests {
    use salver_engine_python::PythonOptions;

    use super::*;

    #[test]
    fn what_was_freed_goes_back() {
        const BLOCK: usize = 16 << 20;
        let memory = ServerMemory { workers: PythonEngine::new(&PythonOptions::default()) };
        // Other tests take memory of the same process meanwhile: one look that is not disturbed is enough.
        let looks: Vec<(u64, u64)> = (0..8)
            .map(|_| {
                let blocks: Vec<Vec<u8>> = (1..9).map(|idx| vec![idx; BLOCK]).collect();
                let held = memory.resident_bytes();
                drop(blocks);
                memory.release();
                (held, memory.resident_bytes())
            })
            .collect();
        assert!(looks.iter().any(|(held, left)| left + 7 * BLOCK as u64 <= *held), "before and after: {looks:?}");
    }
}
