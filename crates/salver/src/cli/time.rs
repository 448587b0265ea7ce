//! Lengths of time as people write them.

use std::time::Duration;

/// Reads `10s`, `500ms`, `2m` or a number of seconds.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("unknown unit '{unit}'; use ms, s or m")),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number and a unit, such as 10s".to_owned())?;
    let seconds = number * seconds_per_unit;
    if seconds > 86_400.0 {
        return Err("at most a day".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let read = |text: &str| parse_duration(text).map(|time| time.as_millis());
        assert_eq!(read("500ms"), Ok(500));
        assert_eq!(read("1.5s"), Ok(1500));
        assert_eq!(read("2m"), Ok(120_000));
        assert_eq!(read("3"), Ok(3000));
        for bad in ["", "s", "1h", "-1s", "1.2.3s", "9999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }
}
