//! Text in OpenMetrics' form, version 1.0.0, which Prometheus and its like read.

use std::fmt::{Display, Write};

/// What HTTP calls this form.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// It only grows.
    Counter,
    /// It is what it is now.
    Gauge,
}

/// Metrics as they are written. Each is begun by [`Exposition::metric`] and has the samples that follow.
#[derive(Default)]
pub struct Exposition {
    text: String,
    sample: String,
}

impl Exposition {
    /// Begins a metric. `name` goes without prefix and without the `_total` of counters; one that ends in a unit
    /// (`_bytes`, `_seconds`) has it.
    pub fn metric(&mut self, name: &str, of: Type, help: &str) -> &mut Self {
        let (word, suffix) = match of {
            Type::Counter => ("counter", "_total"),
            Type::Gauge => ("gauge", ""),
        };
        let name = format!("backupfs_{name}");
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# TYPE {name} {word}");
        if let Some(unit) = ["bytes", "seconds"].iter().find(|unit| name.ends_with(&format!("_{unit}"))) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.text, "# HELP {name} {}", escaped(help));
        self.sample = name + suffix;
        self
    }

    /// A sample of the metric that was begun last.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.sample);
        for (i, (name, value)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{name}=\"{}\"", if i == 0 { '{' } else { ',' }, escaped(value));
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_as_the_standard_has_them() {
        let mut out = Exposition::default();
        out.metric("store_bytes", Type::Counter, "What came.").sample(&[], 7);
        let up = out.metric("source_up", Type::Gauge, "Whether \"it\" is up.\nOr not.");
        up.sample(&[("source", "a\\b\"c\nd"), ("kind", "s3")], 1);
        up.sample(&[("source", "e")], 0.5);
        out.metric("none", Type::Gauge, "Nothing.");
        assert_eq!(
            out.finish(),
            "# TYPE backupfs_store_bytes counter\n\
             # UNIT backupfs_store_bytes bytes\n\
             # HELP backupfs_store_bytes What came.\n\
             backupfs_store_bytes_total 7\n\
             # TYPE backupfs_source_up gauge\n\
             # HELP backupfs_source_up Whether \\\"it\\\" is up.\\nOr not.\n\
             backupfs_source_up{source=\"a\\\\b\\\"c\\nd\",kind=\"s3\"} 1\n\
             backupfs_source_up{source=\"e\"} 0.5\n\
             # TYPE backupfs_none gauge\n\
             # HELP backupfs_none Nothing.\n\
             # EOF\n"
        );
    }
}
