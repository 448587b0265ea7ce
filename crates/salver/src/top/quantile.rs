//! Quantiles of what a histogram counted between two scrapes.
//!
//! Interpolates within a bucket as Prometheus' `histogram_quantile` does. What lies beyond the
//! last bound is shown as that bound: nothing more is known of it.

/// Upper bounds and how many values lie at or below each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cumulative(Vec<(f64, f64)>);

impl Cumulative {
    /// Adds a bucket; in any order.
    pub(crate) fn push(&mut self, bound: f64, count: f64) {
        let place = self.0.partition_point(|(other, _)| *other < bound);
        self.0.insert(place, (bound, count));
    }

    /// Returns what was counted since `before`. A histogram that has shrunk has begun anew.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let earlier = |bound: f64| before.0.iter().find(|(other, _)| *other == bound).map_or(0.0, |(_, count)| *count);
        let delta: Vec<_> = self.0.iter().map(|(bound, count)| (*bound, count - earlier(*bound))).collect();
        if delta.iter().any(|(_, count)| *count < 0.0) { self.clone() } else { Self(delta) }
    }

    /// Returns the value that a share of `at` of all values does not exceed; none without values.
    pub(crate) fn quantile(&self, at: f64) -> Option<f64> {
        let (_, total) = *self.0.last().filter(|(_, total)| *total > 0.0)?;
        let rank = at * total;
        let (mut low, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.0 {
            if count >= rank && count > below {
                let share = (rank - below) / (count - below);
                return Some(if bound.is_finite() { low + (bound - low) * share } else { low });
            }
            (low, below) = (bound, count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(buckets: &[(f64, f64)]) -> Cumulative {
        let mut all = Cumulative::default();
        buckets.iter().for_each(|(bound, count)| all.push(*bound, *count));
        all
    }

    #[test]
    fn values_are_spread_evenly_over_their_bucket() {
        let histogram = of(&[(1.0, 0.0), (2.0, 10.0), (4.0, 20.0), (f64::INFINITY, 20.0)]);
        assert_eq!(histogram.quantile(0.5), Some(2.0));
        assert_eq!(histogram.quantile(0.25), Some(1.5));
        assert_eq!(histogram.quantile(0.75), Some(3.0));
    }

    #[test]
    fn beyond_the_last_bound_that_bound_is_all_that_is_known() {
        assert_eq!(of(&[(f64::INFINITY, 4.0), (1.0, 1.0)]).quantile(0.99), Some(1.0));
    }

    #[test]
    fn without_values_there_is_no_quantile() {
        assert_eq!(of(&[(1.0, 0.0), (f64::INFINITY, 0.0)]).quantile(0.5), None);
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(of(&[(f64::NAN, f64::NAN)]).quantile(0.5), None);
    }

    #[test]
    fn only_the_interval_counts_and_a_restart_begins_anew() {
        let before = of(&[(1.0, 100.0), (2.0, 100.0)]);
        assert_eq!(of(&[(1.0, 100.0), (2.0, 110.0)]).since(&before), of(&[(1.0, 0.0), (2.0, 10.0)]));
        let restarted = of(&[(1.0, 3.0), (2.0, 4.0)]);
        assert_eq!(restarted.since(&before), restarted);
        assert_eq!(restarted.since(&Cumulative::default()), restarted);
    }

    proptest! {
        #[test]
        fn a_quantile_lies_in_the_bucket_of_its_value(
            mut values in prop::collection::vec(0.0f64..10.0, 1..50), at in 0.01f64..1.0,
        ) {
            values.sort_by(f64::total_cmp);
            let bounds = [0.5, 1.0, 2.5, 5.0, 10.0];
            let histogram = of(&bounds.map(|bound| (bound, values.iter().filter(|value| **value <= bound).count() as f64)));
            let real = values[((at * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1];
            let high = bounds.into_iter().find(|bound| real <= *bound).unwrap();
            let low = bounds.into_iter().rfind(|bound| *bound < real).unwrap_or(0.0);
            let found = histogram.quantile(at).unwrap();
            prop_assert!(low - 1e-9 <= found && found <= high + 1e-9, "{found} not in {low}..{high} of {real}");
        }
    }
}
