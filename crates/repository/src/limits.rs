//! Bounds that hold in every dialect of model settings: a typing error must not take all memory.

/// The most instances of a group, and the most threads of an instance.
pub(crate) const COUNT_LIMIT: u32 = 1024;
/// The most steps of an ensemble.
pub(crate) const STEP_LIMIT: usize = 256;
/// The most levels of urgency; each is a queue.
pub(crate) const PRIORITY_LIMIT: u32 = 1024;
/// The longest that one run may take: a day, in milliseconds.
pub(crate) const RUN_TIMEOUT_LIMIT_MS: u32 = 86_400_000;
/// The highest number of a core: the system's calls that pin threads know no higher one.
pub(crate) const CORE_LIMIT: u32 = 1023;
