//! What the process uses, read from `/proc/self` when somebody asks, under Prometheus' usual names.
//!
//! Where there is no `/proc`, those figures are left out.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::time::{ClockId, clock_gettime};

use crate::names;

/// Reads the figures at each scrape.
#[derive(Debug)]
pub(crate) struct Process {
    /// Seconds since 1970.
    started: f64,
}

impl Process {
    /// Takes this moment for the start of the process.
    pub(crate) fn new() -> Self {
        Self { started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut show = |name, help, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let started = ConstGauge::new(self.started);
        show(names::PROCESS_START_TIME, "When the process began, in seconds since 1970.", &started)?;
        show(names::PROCESS_CPU, "Processor time used by the process.", &ConstCounter::new(cpu_seconds()))?;
        if let Some(bytes) = resident_bytes() {
            show(names::PROCESS_RESIDENT_MEMORY, "Physical memory held by the process.", &ConstGauge::new(bytes))?;
        }
        if let Some(count) = open_files() {
            show(names::PROCESS_OPEN_FDS, "Open files and sockets.", &ConstGauge::new(count))?;
        }
        Ok(())
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Returns the physical memory that this process holds, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    let pages = resident_pages(&fs::read_to_string("/proc/self/statm").ok()?)?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

/// The second figure of `statm`, see `proc_pid_statm(5)`.
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Returns how much of that memory is shared with other processes by way of a file system in memory,
/// as `/dev/shm` is one, where the system tells.
pub fn resident_shared_bytes() -> Option<u64> {
    resident_shared_kib(&fs::read_to_string("/proc/self/status").ok()?)?.checked_mul(1024)
}

/// The figure `RssShmem` of `status`, see `proc_pid_status(5)`.
fn resident_shared_kib(status: &str) -> Option<u64> {
    let figure = status.lines().find_map(|line| line.strip_prefix("RssShmem:"))?;
    figure.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

fn open_files() -> Option<u64> {
    let entries = fs::read_dir("/proc/self/fd").ok()?.count();
    // The folder that is being read is one of them.
    u64::try_from(entries.saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_stands_in_a_line_of_its_own() {
        let status =
            "Name:\tsalver\nRssAnon:\t     128 kB\nRssFile:\t    1664 kB\nRssShmem:\t      96 kB\nThreads:\t1\n";
        assert_eq!(resident_shared_kib(status), Some(96));
        for without in ["", "RssShmem:", "RssShmem:\t kB", "RssShmem:\t 96", "RssShmem: x kB"] {
            assert_eq!(resident_shared_kib(without), None, "{without:?}");
        }
    }

    #[test]
    fn the_resident_set_is_the_second_figure() {
        assert_eq!(resident_pages("3000 1234 500 80 0 900 0\n"), Some(1234));
        assert_eq!(resident_pages("3000"), None);
        assert_eq!(resident_pages("3000 -1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_something_of_each() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(cpu_seconds() > 0.0);
        assert!(open_files().is_some_and(|count| count >= 3));
    }
}
