//! Which entries of a directory have attributes of `trusted.`, which only others may see: they are asked about a whole
//! directory once, for whoever wants to know of an entry of it, and ahead of who copies one directory after the other.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::entries::Entries;
use crate::tree::Cookie;

/// What is known of a directory.
#[derive(Default)]
pub(super) struct Trusted {
    /// Positions of those that have some.
    known: OnceLock<HashSet<Cookie>>,
    /// Held by who asks: whoever comes meanwhile waits for the same answer.
    asking: Mutex<()>,
    is_wanted: AtomicBool,
    is_expected: AtomicBool,
}

/// So many directories are asked about ahead after the last in which somebody wanted to know: who only reads what is in
/// them costs no more than that.
const AHEAD: usize = 4;

/// How many directories of a tree may be asked about before anybody wants to know.
#[derive(Default)]
pub(super) struct Allowance(AtomicUsize);

impl Allowance {
    /// Somebody wants to know of a directory, and will of others.
    pub(super) fn renew(&self) {
        self.0.store(AHEAD, Ordering::Relaxed);
    }

    /// Whether one more may be asked about.
    pub(super) fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

impl Trusted {
    /// Whether the entry at `at` has some, if that is known.
    pub(super) fn has(&self, at: Cookie) -> Option<bool> {
        Some(self.known.get()?.contains(&at))
    }

    /// Notes that somebody wants to know. Whether that is the first time.
    pub(super) fn want(&self) -> bool {
        is_first(&self.is_wanted)
    }

    /// Notes that somebody is likely to want to know. Whether nobody does yet, and this is the first time.
    pub(super) fn expect(&self, allowance: &Allowance) -> bool {
        let is_open = self.known.get().is_none() && !self.is_expected.load(Ordering::Relaxed);
        is_open && allowance.take() && is_first(&self.is_expected)
    }

    /// Has it known of `entries`, whose it is: `names` asks for the names of those that have some. Blocks. Errors: those
    /// of `names`; whoever comes next asks again.
    pub(super) fn ask(
        &self,
        entries: &Entries,
        names: impl FnOnce() -> rustix::io::Result<Vec<Vec<u8>>>,
    ) -> rustix::io::Result<()> {
        if self.known.get().is_some() {
            return Ok(());
        }
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.known.get().is_none() {
            let names = names()?;
            let places = names.iter().filter_map(|name| entries.find(name)).map(|found| found.at).collect();
            self.known.get_or_init(|| places);
        }
        Ok(())
    }
}

fn is_first(noted: &AtomicBool) -> bool {
    !noted.load(Ordering::Relaxed) && !noted.swap(true, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use rustix::io::Errno;

    use super::super::entries::{Names, Reading};
    use super::super::stat::Stat;
    use super::*;

    fn entries(names: &[&str]) -> Entries {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let open = fs::File::open(dir.path()).unwrap();
        let (_, device) = Stat::of(&open).unwrap();
        let omit = &mut |name: &[u8], e| panic!("{name:?}: {e}");
        Entries::read(&Names::list(&open).unwrap(), Reading { dir: &open, device, is_near: true, omit })
            .unwrap()
    }

    #[test]
    fn however_many_want_to_know_one_asks_and_all_are_told() {
        let entries = entries(&["marked", "plain"]);
        let asked = AtomicUsize::new(0);
        let at = |name: &[u8]| entries.find(name).unwrap().at;
        assert_eq!(entries.trusted.has(at(b"marked")), None);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let names = || {
                        asked.fetch_add(1, Ordering::Relaxed);
                        // Long enough for the others to come meanwhile.
                        std::thread::sleep(Duration::from_millis(50));
                        Ok(vec![b"marked".to_vec(), b"gone since".to_vec()])
                    };
                    entries.trusted.ask(&entries, names).unwrap();
                    assert_eq!(entries.trusted.has(at(b"marked")), Some(true));
                    assert_eq!(entries.trusted.has(at(b"plain")), Some(false));
                });
            }
        });
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_question_that_failed_is_no_answer() {
        let entries = entries(&["file"]);
        let at = entries.find(b"file").unwrap().at;
        assert_eq!(entries.trusted.ask(&entries, || Err(Errno::IO)), Err(Errno::IO));
        assert_eq!(entries.trusted.has(at), None, "nor is it known that there are none");
        entries.trusted.ask(&entries, || Ok(vec![b"file".to_vec()])).unwrap();
        assert_eq!(entries.trusted.has(at), Some(true));
        entries.trusted.ask(&entries, || panic!("it is known")).unwrap();
    }

    #[test]
    fn the_first_who_wants_to_know_is_told_so_and_some_are_asked_about_ahead() {
        let (allowance, trusted) = (Allowance::default(), Trusted::default());
        assert!(!trusted.expect(&allowance), "nobody wants to know anything");
        assert!(trusted.want() && !trusted.want() && !trusted.want());
        allowance.renew();
        let others: Vec<Trusted> = (0..=AHEAD).map(|_| Trusted::default()).collect();
        let expected = |other: &&Trusted| other.expect(&allowance);
        assert_eq!(others.iter().filter(expected).count(), AHEAD);
        allowance.renew();
        assert_eq!(others.iter().filter(expected).count(), 1, "each once, and the last is not forgotten");
        let known = entries(&["file"]);
        known.trusted.ask(&known, || Ok(Vec::new())).unwrap();
        assert!(!known.trusted.expect(&allowance), "it is known");
    }
}
