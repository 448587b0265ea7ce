//! Where the buckets of each histogram end.

use crate::histogram::Buckets;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = NANOS_PER_SECOND;

/// Whole requests: three to a decade, for quantiles worth reading.
#[rustfmt::skip]
pub(super) static DURATION: Buckets = Buckets {
    bounds: &[
        10 * US, 25 * US, 50 * US, 100 * US, 250 * US, 500 * US,
        MS, 2_500 * US, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS,
        S, 2_500 * MS, 5 * S, 10 * S, 30 * S, 60 * S,
    ],
    per_shown: NANOS_PER_SECOND,
};

/// Stages: two to a decade, since every model has six of them.
#[rustfmt::skip]
pub(super) static STAGE: Buckets = Buckets {
    bounds: &[
        US, 3 * US, 10 * US, 30 * US, 100 * US, 300 * US,
        MS, 3 * MS, 10 * MS, 30 * MS, 100 * MS, 300 * MS,
        S, 3 * S, 10 * S, 30 * S, 60 * S,
    ],
    per_shown: NANOS_PER_SECOND,
};

/// Rows of a batch.
pub(super) static ROWS: Buckets = Buckets { bounds: &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], per_shown: 1 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend_and_stages_span_a_microsecond_to_a_minute() {
        for buckets in [&DURATION, &STAGE, &ROWS] {
            assert!(buckets.bounds.is_sorted_by(|a, b| a < b), "{buckets:?}");
        }
        assert_eq!((STAGE.bounds.first(), STAGE.bounds.last()), (Some(&US), Some(&(60 * S))));
    }
}
