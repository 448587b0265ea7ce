//! Serves loaded models: table, lifecycle, admission, queue, batching, worker threads.
