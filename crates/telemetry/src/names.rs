//! The name of every metric, for those who register them and for those who read them back.
//!
//! Counters are named without the `_total` that the text format adds.

/// Histogram: from the admission of a request until its answer.
pub const INFERENCE_DURATION: &str = "ml_inference_duration_seconds";
/// Counter of requests by outcome.
pub const INFERENCES: &str = "ml_inference";
/// Histogram: how long each stage takes.
pub const STAGE_DURATION: &str = "salver_stage_duration_seconds";
/// Gauge of requests that wait for a worker.
pub const QUEUE: &str = "salver_queue_requests";
/// Gauge of the memory that waiting and running requests hold.
pub const WAITING_BYTES: &str = "salver_waiting_bytes";
/// Histogram: rows per execution.
pub const BATCH_ROWS: &str = "salver_batch_rows";
/// Counter of the elements of padded inputs.
pub const BATCH_ELEMENTS: &str = "salver_batch_elements";
/// Counter of those elements that are padding.
pub const PADDED_ELEMENTS: &str = "salver_batch_padded_elements";
/// Counter of instances that had to be replaced.
pub const INSTANCES_REPLACED: &str = "salver_instances_replaced";
/// Counter of failed attempts to start an instance's worker again.
pub const INSTANCE_RESTART_FAILURES: &str = "salver_instance_restart_failures";
/// Gauge: how long the last load took.
pub const MODEL_LOAD: &str = "salver_model_load_seconds";
/// Gauge: 1 for the state that a version is in.
pub const MODEL_STATE: &str = "salver_model_state";
/// Gauge of the memory that a version takes.
pub const MODEL_MEMORY: &str = "salver_model_memory_bytes";
/// Gauge of the most memory that the process should hold.
pub const MEMORY_LIMIT: &str = "salver_memory_limit_bytes";
/// Counter of loads by result.
pub const MODEL_LOADS: &str = "salver_model_loads";
/// Counter of versions that left memory to make room.
pub const MODEL_EVICTIONS: &str = "salver_model_evictions";
/// Gauge: 1 while a model is pinned, else 0.
pub const MODEL_PINNED: &str = "salver_model_pinned";
/// Counter of what the response cache was asked.
pub const CACHE_REQUESTS: &str = "salver_cache_requests";
/// Counter of cached answers that had to make room.
pub const CACHE_EVICTIONS: &str = "salver_cache_evictions";
/// Gauge of the memory that cached answers take.
pub const CACHE_BYTES: &str = "salver_cache_bytes";
/// Gauge of cached answers.
pub const CACHE_ENTRIES: &str = "salver_cache_entries";
/// Counter of failed calls of the shared cache.
pub const CACHE_SHARED_ERRORS: &str = "salver_cache_shared_errors";
/// Counter of answers that were not written to the shared cache.
pub const CACHE_SHARED_DROPPED: &str = "salver_cache_shared_dropped";
/// Gauge: 1 while a dependency answers, 0 while the server does without it.
pub const DEPENDENCY_UP: &str = "salver_dependency_up";
/// Counter of keys that models looked up, by result.
pub const FEATURE_LOOKUPS: &str = "salver_feature_lookups";
/// Gauge of jobs by state.
pub const JOBS: &str = "salver_jobs";
/// Gauge: how long the oldest job has waited for a worker.
pub const JOBS_OLDEST: &str = "salver_jobs_oldest_seconds";
/// Counter of runs of jobs by outcome.
pub const JOB_RUNS: &str = "salver_job_runs";
/// Counter of jobs whose worker gave no sign of life.
pub const JOBS_LOST: &str = "salver_jobs_lost";
/// Attempts to say that a job has ended, by outcome.
pub const JOB_CALLBACKS: &str = "salver_job_callbacks";
/// Histogram: how long runs of jobs take.
pub const JOB_DURATION: &str = "salver_job_duration_seconds";
/// Counter of attempts to ask other servers, by outcome.
pub const REMOTE_REQUESTS: &str = "salver_remote_requests";
/// Counter of tokens that other servers counted.
pub const REMOTE_TOKENS: &str = "salver_remote_tokens";
/// Counter of what other servers charge.
pub const REMOTE_COST: &str = "salver_remote_cost";
/// Gauge: 1 while calls of another server are refused because it fails them.
pub const REMOTE_CIRCUIT: &str = "salver_remote_circuit_open";
/// Gauge of attempts under way.
pub const REMOTE_IN_FLIGHT: &str = "salver_remote_in_flight";
/// Counter of requests by protocol and status.
pub const REQUESTS: &str = "salver_requests";
/// Gauge: when the process began.
pub const PROCESS_START_TIME: &str = "process_start_time_seconds";
/// Counter of the processor time that the process used.
pub const PROCESS_CPU: &str = "process_cpu_seconds";
/// Gauge of the physical memory of the process.
pub const PROCESS_RESIDENT_MEMORY: &str = "process_resident_memory_bytes";
/// Gauge of open files and sockets.
pub const PROCESS_OPEN_FDS: &str = "process_open_fds";

/// Triton's own names, for dashboards that were made for it.
pub mod triton {
    /// Requests that were answered.
    pub const SUCCESS: &str = "nv_inference_request_success";
    /// Requests that failed, by reason.
    pub const FAILURE: &str = "nv_inference_request_failure";
    /// Rows inferred.
    pub const COUNT: &str = "nv_inference_count";
    /// Executions of the model.
    pub const EXECUTIONS: &str = "nv_inference_exec_count";
    /// Time of whole requests.
    pub const REQUEST: &str = "nv_inference_request_duration_us";
    /// Time in the queue.
    pub const QUEUE: &str = "nv_inference_queue_duration_us";
    /// Time of assembling inputs.
    pub const COMPUTE_INPUT: &str = "nv_inference_compute_input_duration_us";
    /// Time inside the engine.
    pub const COMPUTE_INFER: &str = "nv_inference_compute_infer_duration_us";
    /// Time of cutting outputs apart.
    pub const COMPUTE_OUTPUT: &str = "nv_inference_compute_output_duration_us";
    /// Gauge of requests that wait.
    pub const PENDING: &str = "nv_inference_pending_request_count";
    /// Requests that the cache answered.
    pub const CACHE_HITS: &str = "nv_cache_num_hits_per_model";
    /// Requests that the cache did not answer.
    pub const CACHE_MISSES: &str = "nv_cache_num_misses_per_model";
    /// Time of requests that the cache answered.
    pub const CACHE_HIT_TIME: &str = "nv_cache_hit_duration_per_model";
    /// Time of looking into the cache in vain.
    pub const CACHE_MISS_TIME: &str = "nv_cache_miss_duration_per_model";
}
