use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use proptest::prelude::*;

use super::*;

static SECONDS: Buckets = Buckets { bounds: &[1_000, 2_500, 1_000_000, 60_000_000_000], per_shown: 1_000_000_000 };

fn text(metric: impl Metric) -> String {
    let mut registry = Registry::default();
    registry.register("h", "Help", metric);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

/// The lines, and the sum apart: floats are added up in another order.
fn parts(text: &str) -> (Vec<&str>, f64) {
    let (sums, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("h_sum "));
    (lines, sums[0]["h_sum ".len()..].parse().unwrap())
}

#[test]
fn a_value_on_a_bound_belongs_below_it() {
    let histogram = AtomicHistogram::new(&SECONDS);
    [0, 1_000, 1_001, u64::from(u32::MAX), 90_000_000_000].into_iter().for_each(|value| histogram.observe(value));
    let text = text(histogram);
    for line in [
        "h_bucket{le=\"0.000001\"} 2",
        "h_bucket{le=\"0.0000025\"} 3",
        "h_bucket{le=\"0.001\"} 3",
        "h_bucket{le=\"60.0\"} 4",
        "h_bucket{le=\"+Inf\"} 5",
        "h_count 5",
        "h_sum 94.294969296",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[test]
fn nothing_is_lost_between_threads() {
    let histogram = AtomicHistogram::new(&SECONDS);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|value| histogram.observe(value)));
        }
    });
    let text = text(histogram);
    assert!(text.contains("h_count 40000\n") && text.contains("h_bucket{le=\"0.000001\"} 4004\n"), "{text}");
    assert!(text.contains("h_sum 0.19998\n"), "{text}");
}

proptest! {
    #[test]
    fn it_shows_what_the_crates_own_histogram_shows(
        values in prop::collection::vec(prop_oneof![0u64..5_000, 0u64..200_000_000_000, Just(1_000), Just(2_500)], 0..60),
    ) {
        let (own, theirs) =
            (AtomicHistogram::new(&SECONDS), Histogram::new(SECONDS.bounds.iter().map(|bound| SECONDS.shown(*bound))));
        for value in values {
            own.observe(value);
            theirs.observe(SECONDS.shown(value));
        }
        let (own, theirs) = (text(own), text(theirs));
        let ((own, own_sum), (theirs, their_sum)) = (parts(&own), parts(&theirs));
        prop_assert_eq!(own, theirs);
        prop_assert!((own_sum - their_sum).abs() <= 1e-9 * their_sum.max(1.0));
    }
}
