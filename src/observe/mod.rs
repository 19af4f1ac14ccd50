//! Logs and counters: the set-up of tracing, and metric names.
