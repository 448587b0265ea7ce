//! The time of day, which tests make up.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::types::Millis;

/// Tells the time in milliseconds since 1970. Only schedules and expiry go by it.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// Returns the clock of this machine.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}
