//! One event as one line of text.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::printable;

/// Longest line, in bytes: syslog takes 8 KiB, and an attribute of a backup may have a name of 64 KiB.
const LONGEST: usize = 4096;

/// What an event says: its message, then its fields as `name=value`; printable, in one line of bounded length.
pub(super) fn text(event: &Event<'_>) -> String {
    let mut words = Words::default();
    event.record(&mut words);
    let mut line = words.message;
    if *event.metadata().level() >= Level::DEBUG {
        line.insert_str(0, &format!("{}: ", event.metadata().target()));
    }
    line.push_str(&words.fields);
    if line.len() > LONGEST {
        let end = line.char_indices().map(|(at, _)| at).take_while(|&at| at <= LONGEST).last();
        line.truncate(end.unwrap_or(0));
        line.push('…');
    }
    line
}

/// A level as people call it.
pub(super) fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn add(&mut self, field: &Field, value: &str) {
        let value = printable(value);
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }
}
