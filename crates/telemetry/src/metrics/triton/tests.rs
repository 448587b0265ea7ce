//! Triton's names stand for the counters that there are.

use std::time::Duration;

use super::*;

fn rendered(version: TritonCounters) -> String {
    let metrics = Metrics::new();
    let model = metrics.model("m", 1);
    for outcome in [Outcome::Success, Outcome::Success, Outcome::Error, Outcome::Rejected, Outcome::Timeout] {
        let _: Duration = model.start(None).finish(outcome);
    }
    drop(model.start(None));
    model.queue_grew(3);
    metrics.render_with_triton(&[version])
}

#[test]
fn counters_show_under_tritons_names() {
    let cache = TritonCacheCounters { hits: 8, hit_us: 9, misses: 10, miss_us: 11 };
    let text = rendered(TritonCounters {
        model: "m".to_owned(),
        version: 1,
        inferences: 5,
        executions: 2,
        request_us: 3,
        queue_us: 4,
        compute_input_us: 5,
        compute_infer_us: 6,
        compute_output_us: 7,
        cache: Some(cache),
    });
    for line in [
        "nv_inference_request_success{model=\"m\",version=\"1\"} 2",
        "nv_inference_request_failure{model=\"m\",version=\"1\",reason=\"REJECTED\"} 2",
        "nv_inference_request_failure{model=\"m\",version=\"1\",reason=\"CANCELED\"} 1",
        "nv_inference_request_failure{model=\"m\",version=\"1\",reason=\"BACKEND\"} 1",
        "nv_inference_request_failure{model=\"m\",version=\"1\",reason=\"OTHER\"} 0",
        "nv_inference_count{model=\"m\",version=\"1\"} 5",
        "nv_inference_exec_count{model=\"m\",version=\"1\"} 2",
        "nv_inference_request_duration_us{model=\"m\",version=\"1\"} 3",
        "nv_inference_queue_duration_us{model=\"m\",version=\"1\"} 4",
        "nv_inference_compute_input_duration_us{model=\"m\",version=\"1\"} 5",
        "nv_inference_compute_infer_duration_us{model=\"m\",version=\"1\"} 6",
        "nv_inference_compute_output_duration_us{model=\"m\",version=\"1\"} 7",
        "nv_inference_pending_request_count{model=\"m\",version=\"1\"} 3",
        "nv_cache_num_hits_per_model{model=\"m\",version=\"1\"} 8",
        "nv_cache_hit_duration_per_model{model=\"m\",version=\"1\"} 9",
        "nv_cache_num_misses_per_model{model=\"m\",version=\"1\"} 10",
        "nv_cache_miss_duration_per_model{model=\"m\",version=\"1\"} 11",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    assert!(text.contains("ml_inference_total{model=\"m\",version=\"1\",status=\"success\"} 2"), "{text}");
}

#[test]
fn a_model_without_a_cache_has_no_series_of_one() {
    let text = rendered(TritonCounters { model: "a\"b\\".to_owned(), version: 1, ..TritonCounters::default() });
    assert!(!text.contains("nv_cache_num_hits_per_model{"), "{text}");
    assert!(text.contains("nv_inference_count{model=\"a\\\"b\\\\\",version=\"1\"} 0"), "{text}");
}
