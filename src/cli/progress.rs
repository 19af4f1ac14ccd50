//! A bar on stderr for work that may be long; nothing when stderr is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that goes away with its work.
pub struct Bar(ProgressBar);

/// A bar that says what is being done.
pub fn bar(what: &'static str) -> Bar {
    let bar = ProgressBar::new(0).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    Bar(bar)
}

impl Bar {
    /// So many of so many are done.
    pub fn at(&self, done: usize, all: usize) {
        self.0.set_length(all as u64);
        self.0.set_position(done as u64);
    }

    /// One more is done.
    pub fn one_more(&self) {
        self.0.inc(1);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
