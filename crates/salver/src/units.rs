//! Sizes, times and rates for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `1.5 MiB`, or exact bytes for little.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64 / 1024.0;
    for unit in units {
        if value < 1024.0 {
            return if count < 1024 { format!("{count} bytes") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{count} bytes")
}

/// `85 µs`, `1.25 ms`, `3.40 s`: three digits that count.
pub(crate) fn short_time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        seconds if seconds < 1e-3 => (seconds * 1e6, "µs"),
        seconds if seconds < 1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// `42 s`, `3 min 20 s`, `5 h 12 min`, `8 d 3 h`: the two largest units.
pub(crate) fn long_time(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// `2026-11-22T10:00:00Z`: milliseconds since 1970, as people and programs read them.
pub(crate) fn time(millis: Option<i64>) -> String {
    let Some(millis) = millis.and_then(|millis| u64::try_from(millis).ok()) else {
        return String::new();
    };
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(millis)).to_string()
}

/// `0`, `2.5`, `1234`: decimals only where they tell something.
pub(crate) fn rate(per_second: f64) -> String {
    let decimals = usize::from(per_second > 0.0 && per_second < 100.0);
    format!("{per_second:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(bytes(440), "440 bytes");
        assert_eq!(bytes(15_972), "15.6 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }

    #[test]
    fn times_are_readable() {
        let short = [0.0, 85e-6, 0.001_25, 0.0125, 0.25, 3.4, 60.0].map(short_time);
        assert_eq!(short, ["0.00 µs", "85.0 µs", "1.25 ms", "12.5 ms", "250 ms", "3.40 s", "60.0 s"]);
        let long = [7, 200, 18_720, 702_000].map(|s| long_time(Duration::from_secs(s)));
        assert_eq!(long, ["7 s", "3 min 20 s", "5 h 12 min", "8 d 3 h"]);
    }

    #[test]
    fn points_in_time_are_dates() {
        assert_eq!([Some(0), Some(-1), None].map(time), ["1970-01-01T00:00:00Z", "", ""]);
        assert_eq!(millis(UNIX_EPOCH + Duration::from_secs(2)), 2000);
    }

    #[test]
    fn rates_have_decimals_where_they_are_small() {
        assert_eq!([0.0, 2.54, 1234.5].map(rate), ["0", "2.5", "1234"]);
    }
}
