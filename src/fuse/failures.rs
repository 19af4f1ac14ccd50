//! The log of failed requests: one line for one cause, however often it is met, and a bounded number of lines.
//!
//! Read-ahead, retries of the kernel and retries of tools meet the same damage many times. A cause that was logged
//! lately is counted, not repeated; and of very many causes only the first of each minute are named.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::answer::Call;
use crate::error::{Error, Kind};

const WINDOW: Duration = Duration::from_secs(60);
/// Causes named in one window.
const NAMED: usize = 100;

/// Shared by everything that answers.
#[derive(Clone, Default)]
pub(super) struct Failures(Arc<Mutex<Window>>);

/// What was met since `began`.
#[derive(Default)]
struct Window {
    began: Option<Instant>,
    // How often each named cause was met.
    causes: HashMap<String, u64>,
    unnamed: u64,
}

impl Failures {
    /// Logs a failed request, unless its cause was logged lately.
    pub fn note(&self, call: Call, error: &Error) {
        let Call { operation, ino, .. } = call;
        let message = error.to_string();
        // What people run into every day is no news.
        if matches!(
            error.kind(),
            Kind::NotFound | Kind::NoAttribute | Kind::NotDirectory | Kind::IsDirectory | Kind::Interrupted
        ) {
            debug!(operation, ino, "{message}");
            return;
        }
        if !self.is_news(&message) {
            return;
        }
        match error.kind() {
            Kind::Internal => error!(operation, ino, "{message}"),
            Kind::Stale | Kind::Invalid => info!(operation, ino, "{message}"),
            _ => warn!(operation, ino, "{message}"),
        }
    }

    /// Logs something that is worth one line and fails nothing.
    pub fn mention(&self, message: &str) {
        if self.is_news(message) {
            info!("{message}");
        }
    }

    /// Counts `message`; true when it is to be logged.
    fn is_news(&self, message: &str) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.is_none_or(|began| began.elapsed() >= WINDOW) {
            let before = std::mem::take(&mut *window);
            window.began = Some(Instant::now());
            if let Some(sum) = before.sum() {
                info!("{sum}");
            }
        }
        if let Some(met) = window.causes.get_mut(message) {
            *met += 1;
            return false;
        }
        if window.causes.len() >= NAMED {
            window.unnamed += 1;
            return false;
        }
        window.causes.insert(message.to_owned(), 1);
        true
    }
}

impl Window {
    /// What was not logged in it.
    fn sum(&self) -> Option<String> {
        let repeats: u64 = self.causes.values().map(|met| met - 1).sum();
        let Window { unnamed, .. } = self;
        (repeats + unnamed > 0).then(|| {
            format!("in the last minute {repeats} failures more of known causes, {unnamed} of others")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass_time(failures: &Failures) {
        let mut window = failures.0.lock().unwrap();
        window.began = Instant::now().checked_sub(WINDOW);
        assert!(window.began.is_some(), "this machine has been up for a minute");
    }

    fn sum(failures: &Failures) -> Option<String> {
        failures.0.lock().unwrap().sum()
    }

    #[test]
    fn one_cause_is_logged_once_and_others_are_not_held_back() {
        let failures = Failures::default();
        assert!(failures.is_news("pack ab: bad MAC"));
        assert_eq!(sum(&failures), None);
        assert!(!failures.is_news("pack ab: bad MAC"));
        assert!(failures.is_news("pack cd: bad MAC"));
        assert!(sum(&failures).unwrap().contains(" 1 failures more of known causes, 0 of others"));
    }

    #[test]
    fn a_cause_that_comes_back_after_a_while_is_news_again() {
        let failures = Failures::default();
        assert!(failures.is_news("store is down"));
        assert!(!failures.is_news("store is down"));
        pass_time(&failures);
        assert!(failures.is_news("store is down"));
        assert_eq!(sum(&failures), None);
    }

    #[test]
    fn a_flood_of_causes_fills_neither_the_log_nor_memory() {
        let failures = Failures::default();
        let logged = (0..10 * NAMED).filter(|i| failures.is_news(&format!("pack {i}"))).count();
        assert_eq!(logged, NAMED);
        assert_eq!(failures.0.lock().unwrap().causes.len(), NAMED);
        assert!(sum(&failures).unwrap().ends_with(" 900 of others"));
    }
}
