//! Metric names, typed guards and logging set-up.
