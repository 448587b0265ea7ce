use std::time::{Duration, Instant};

use super::*;

#[test]
fn a_request_shows_under_its_model_version_and_outcome() {
    let metrics = Metrics::new();
    let model = metrics.model("iris", 3);
    model.start(None).finish(Outcome::Success);
    drop(model.start(None));
    model.start(None).hand_over();
    drop(model.start(Some(Instant::now())));
    let text = metrics.render();
    assert!(text.contains("ml_inference_total{model=\"iris\",version=\"3\",status=\"success\"} 1"), "{text}");
    assert!(text.contains("status=\"cancelled\"} 1"), "{text}");
    assert!(text.contains("status=\"timeout\"} 1"), "{text}");
    assert!(text.contains("ml_inference_duration_seconds_count{model=\"iris\",version=\"3\"} 3"), "{text}");
}

#[test]
fn each_stage_has_its_own_series_of_one_family() {
    let metrics = Metrics::new();
    let model = metrics.model("m", 1);
    let us = Duration::from_micros;
    model.observe_protocol(us(1), us(6));
    model.observe_queue(us(2));
    model.observe_execution(us(3), us(4), us(5));
    let text = metrics.render();
    for (stage, sum) in [
        ("decode", "0.000001"),
        ("queue", "0.000002"),
        ("assemble", "0.000003"),
        ("infer", "0.000004"),
        ("split", "0.000005"),
        ("encode", "0.000006"),
    ] {
        let line = format!("salver_stage_duration_seconds_sum{{model=\"m\",version=\"1\",stage=\"{stage}\"}} {sum}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
}

#[test]
fn padding_and_replaced_instances_are_counted() {
    let metrics = Metrics::new();
    let model = metrics.model("m", 1);
    model.observe_padding(64, 4);
    model.instance_replaced(Replaced::Timeout);
    model.instance_replaced(Replaced::Died);
    model.restart_failed();
    metrics.set_waiting_bytes(4096);
    let text = metrics.render();
    for line in [
        "salver_batch_elements_total{model=\"m\",version=\"1\"} 64\n",
        "salver_batch_padded_elements_total{model=\"m\",version=\"1\"} 4\n",
        "salver_instances_replaced_total{model=\"m\",version=\"1\",reason=\"timeout\"} 1\n",
        "salver_instances_replaced_total{model=\"m\",version=\"1\",reason=\"panic\"} 0\n",
        "salver_instances_replaced_total{model=\"m\",version=\"1\",reason=\"died\"} 1\n",
        "salver_instance_restart_failures_total{model=\"m\",version=\"1\"} 1\n",
        "salver_waiting_bytes 4096\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn the_series_of_a_version_end_with_its_last_holder() {
    let metrics = Metrics::new();
    let (old, other) = (metrics.model("m", 1), metrics.model("m", 2));
    old.loaded(Duration::from_secs(1));
    old.start(None).finish(Outcome::Success);
    let successor = metrics.model("m", 1);
    drop(old);
    successor.start(None).finish(Outcome::Success);
    let text = metrics.render();
    assert!(text.contains("ml_inference_total{model=\"m\",version=\"1\",status=\"success\"} 2"), "{text}");
    drop(successor);
    let text = metrics.render();
    assert!(!text.contains("version=\"1\"") && text.contains("version=\"2\""), "{text}");
    drop(other);
    assert!(!metrics.render().contains("model="), "{}", metrics.render());
    assert!(metrics.models.held.lock().is_empty());
}

#[test]
fn a_version_that_comes_and_goes_on_many_threads_is_shown_in_the_end() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| drop(metrics.model("m", 1))));
        }
    });
    assert!(!metrics.render().contains("model="));
    let model = metrics.model("m", 1);
    model.start(None).finish(Outcome::Success);
    assert!(metrics.render().contains("status=\"success\"} 1"));
}

#[test]
fn a_version_is_in_one_state_at_a_time() {
    let metrics = Metrics::new();
    metrics.model_state("m", 1, None, Some("loading"));
    metrics.model_state("m", 1, Some("loading"), Some("ready"));
    let text = metrics.render();
    assert!(text.contains("state=\"ready\"} 1") && !text.contains("state=\"loading\""), "{text}");
}

#[test]
fn what_does_not_answer_is_named_and_what_is_not_used_is_not_shown() {
    let metrics = Metrics::new();
    assert!(metrics.degraded().is_empty() && !metrics.render().contains("dependency="));
    metrics.jobs().answers(true);
    metrics.cache().set_shared_in_use(false);
    assert_eq!(metrics.degraded(), [Dependency::SharedCache]);
    metrics.jobs().answers(false);
    assert_eq!(metrics.degraded(), [Dependency::SharedCache, Dependency::JobQueue]);
    metrics.cache().set_shared_in_use(true);
    let text = metrics.render();
    for line in
        ["salver_dependency_up{dependency=\"shared_cache\"} 1", "salver_dependency_up{dependency=\"job_queue\"} 0"]
    {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn the_process_shows_under_the_usual_names() {
    let text = Metrics::new().render();
    for name in ["process_start_time_seconds ", "process_cpu_seconds_total "] {
        assert!(text.contains(name), "{name} in {text}");
    }
    if cfg!(target_os = "linux") {
        assert!(text.contains("\nprocess_resident_memory_bytes ") && text.contains("\nprocess_open_fds "), "{text}");
    }
}

#[test]
fn a_model_shows_its_loads_pins_and_evictions_until_it_is_forgotten() {
    let metrics = Metrics::new();
    metrics.model_loaded("m", true);
    metrics.model_loaded("m", false);
    metrics.model_memory("m", 1, Some(7));
    metrics.model_pinned("m", true);
    let text = metrics.render();
    for line in [
        "salver_model_loads_total{model=\"m\",result=\"success\"} 1",
        "salver_model_loads_total{model=\"m\",result=\"error\"} 1",
        "salver_model_evictions_total{model=\"m\"} 0",
        "salver_model_pinned{model=\"m\"} 1",
        "salver_model_memory_bytes{model=\"m\",version=\"1\"} 7",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    metrics.model_memory("m", 1, None);
    metrics.model_forgotten("m");
    assert!(!metrics.render().contains("model=\"m\""));
}

#[test]
fn what_others_charge_adds_up_to_the_last_digit() {
    let metrics = Metrics::new();
    let remote = metrics.model("m", 1).remote();
    for _ in 0..10_000 {
        remote.charged(1_234_567_891);
    }
    remote.used(7, 3);
    remote.attempted(RemoteOutcome::Lost);
    remote.circuit_open(true);
    let under_way = remote.in_flight();
    let text = metrics.render();
    for line in [
        "salver_remote_cost_total{model=\"m\",version=\"1\"} 12.34567891\n",
        "salver_remote_tokens_total{model=\"m\",version=\"1\",kind=\"input\"} 7\n",
        "salver_remote_requests_total{model=\"m\",version=\"1\",outcome=\"lost\"} 1\n",
        "salver_remote_requests_total{model=\"m\",version=\"1\",outcome=\"success\"} 0\n",
        "salver_remote_circuit_open{model=\"m\",version=\"1\"} 1\n",
        "salver_remote_in_flight{model=\"m\",version=\"1\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    drop(under_way);
    assert!(metrics.render().contains("salver_remote_in_flight{model=\"m\",version=\"1\"} 0\n"));
    drop(remote);
    assert!(!metrics.render().contains("salver_remote_cost_total"));
}
