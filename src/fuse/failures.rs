//! The log of failed requests: one line for one cause, however often it is met.
//!
//! Read-ahead, retries of the kernel and retries of tools meet the same damage many times. A message that was logged
//! within the last minute is counted, not repeated.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::answer::Call;
use crate::error::{Error, Kind};

const QUIET: Duration = Duration::from_secs(60);
/// Causes remembered at a time; beyond it, all are forgotten rather than any kept for ever.
const REMEMBERED: usize = 1024;

/// Shared by everything that answers.
#[derive(Clone, Default)]
pub(super) struct Failures(Arc<Mutex<HashMap<String, Met>>>);

struct Met {
    logged: Instant,
    repeats: u64,
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
        let Some(repeats) = self.due(&message) else { return };
        match error.kind() {
            Kind::Internal => error!(operation, ino, repeats, "{message}"),
            Kind::Stale | Kind::Invalid => info!(operation, ino, repeats, "{message}"),
            _ => warn!(operation, ino, repeats, "{message}"),
        }
    }

    /// How often `message` was met since it was last logged, if it is time to log it.
    fn due(&self, message: &str) -> Option<u64> {
        let now = Instant::now();
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(met) = met.get_mut(message) {
            if now.duration_since(met.logged) < QUIET {
                met.repeats += 1;
                return None;
            }
            met.logged = now;
            return Some(std::mem::take(&mut met.repeats));
        }
        if met.len() >= REMEMBERED {
            met.clear();
        }
        met.insert(message.to_owned(), Met { logged: now, repeats: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cause_is_logged_once_and_others_are_not_held_back() {
        let failures = Failures::default();
        assert_eq!(failures.due("pack ab: bad MAC"), Some(0));
        assert_eq!(failures.due("pack ab: bad MAC"), None);
        assert_eq!(failures.due("pack cd: bad MAC"), Some(0));
        assert_eq!(failures.0.lock().unwrap()["pack ab: bad MAC"].repeats, 1);
    }

    #[test]
    fn repeats_are_told_when_a_cause_comes_back_after_a_while() {
        let failures = Failures::default();
        failures.due("store is down");
        failures.due("store is down");
        failures.0.lock().unwrap().get_mut("store is down").unwrap().logged -= QUIET;
        assert_eq!(failures.due("store is down"), Some(1));
        assert_eq!(failures.due("store is down"), None);
    }

    #[test]
    fn a_flood_of_causes_is_not_remembered_without_bound() {
        let failures = Failures::default();
        for i in 0..3 * REMEMBERED {
            failures.due(&format!("pack {i}"));
        }
        assert!(failures.0.lock().unwrap().len() <= REMEMBERED);
    }
}
