//! The servers behind stores, for `status`: a process serves one mount, so the list of them is a static.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How a server is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its scheme, name and port; no secrets.
    pub name: String,
    /// For how long it has been held to be down; `None` while it is up.
    pub down_for: Option<Duration>,
    /// What the last failure was, however long ago.
    pub error: Option<String>,
    /// Requests under way.
    pub in_flight: usize,
    /// Requests that may be under way.
    pub limit: usize,
    /// Requests answered or failed since the process started.
    pub requests: u64,
    /// Of those, the ones that failed.
    pub failures: u64,
    /// Of those, the ones that were repeated.
    pub retries: u64,
}

/// Whatever knows how a server is doing.
pub trait Report: Send + Sync {
    /// How it is doing now. Never waits.
    fn report(&self) -> Link;
}

static REPORTS: Mutex<Vec<Weak<dyn Report>>> = Mutex::new(Vec::new());

/// Has `report` shown as long as it lives.
pub fn register(report: &Arc<dyn Report>) {
    let mut reports = REPORTS.lock().unwrap_or_else(PoisonError::into_inner);
    reports.retain(|report| report.strong_count() > 0);
    reports.push(Arc::downgrade(report));
}

/// Every server in use, by name.
pub fn all() -> Vec<Link> {
    let reports = REPORTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut links: Vec<Link> =
        reports.iter().filter_map(Weak::upgrade).map(|report| report.report()).collect();
    links.sort_by(|a, b| a.name.cmp(&b.name));
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str);

    impl Report for Named {
        fn report(&self) -> Link {
            let name = self.0.to_owned();
            Link {
                name,
                down_for: None,
                error: None,
                in_flight: 0,
                limit: 1,
                requests: 0,
                failures: 0,
                retries: 0,
            }
        }
    }

    fn shown(names: &[&str]) -> Vec<String> {
        all().into_iter().map(|link| link.name).filter(|name| names.contains(&&**name)).collect()
    }

    #[test]
    fn what_is_registered_is_shown_by_name_while_it_lives() {
        let names = ["links-a", "links-b"];
        let (b, a): (Arc<dyn Report>, Arc<dyn Report>) =
            (Arc::new(Named(names[1])), Arc::new(Named(names[0])));
        register(&b);
        register(&a);
        assert_eq!(shown(&names), names);
        drop(a);
        assert_eq!(shown(&names), ["links-b"]);
    }
}
