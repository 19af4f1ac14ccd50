//! Open descriptors: few at a time, however many snapshots are known and however many files are open.

use std::any::Any;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use rustix::process::{Resource, getrlimit};

/// What must stay while a descriptor is open: a clone's mount, a hold. Dropped when no descriptor needs it.
pub type Lease = Arc<dyn Any + Send + Sync>;

/// An open descriptor, and what keeps the file system there that it is on.
pub struct Descriptor {
    fd: OwnedFd,
    lease: Option<Lease>,
}

impl Descriptor {
    /// `fd`, which needs `lease`.
    pub fn leased(fd: OwnedFd, lease: Lease) -> Self {
        Descriptor { fd, lease: Some(lease) }
    }

    /// What it needs.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.lease.clone()
    }

    /// `fd`, opened below this: it needs the same.
    pub(super) fn below(&self, fd: OwnedFd) -> Self {
        Descriptor { fd, lease: self.lease.clone() }
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Self {
        Descriptor { fd, lease: None }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The part of the descriptors that a process may have which is spent here.
const PART: u64 = 4;

/// So many slots are filled at a time: within these bounds, whatever the process may have.
const BOUNDS: std::ops::RangeInclusive<u64> = 16..=512;

/// A place for a descriptor that can be opened again: it empties when others need the descriptors more.
#[derive(Default)]
pub(super) struct Slot(Mutex<Option<Arc<Descriptor>>>);

/// The filled slots, in the order in which they were filled. Its lock is never taken while a slot's is held.
static FILLED: Mutex<VecDeque<Weak<Slot>>> = Mutex::new(VecDeque::new());

impl Slot {
    /// What is in it.
    pub(super) fn get(&self) -> Option<Arc<Descriptor>> {
        self.lock().clone()
    }

    /// Puts `descriptor` in; the slot that was filled first is emptied when there are too many.
    pub(super) fn fill(self: &Arc<Self>, descriptor: Descriptor) -> Arc<Descriptor> {
        let descriptor = Arc::new(descriptor);
        *self.lock() = Some(Arc::clone(&descriptor));
        let oldest = {
            let mut filled = FILLED.lock().unwrap_or_else(PoisonError::into_inner);
            filled.push_back(Arc::downgrade(self));
            if filled.len() > most() {
                filled.retain(|slot| slot.strong_count() > 0);
            }
            if filled.len() > most() { filled.pop_front() } else { None }
        };
        if let Some(oldest) = oldest.and_then(|slot| slot.upgrade())
            && !Arc::ptr_eq(&oldest, self)
        {
            oldest.empty();
        }
        descriptor
    }

    /// Closes what is in it as soon as nobody uses it.
    pub(super) fn empty(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Descriptor>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn most() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / PART;
        usize::try_from(allowed.clamp(*BOUNDS.start(), *BOUNDS.end())).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn of_very_many_slots_only_some_are_filled() {
        let slots: Vec<Arc<Slot>> = (0..2 * most()).map(|_| Arc::default()).collect();
        for slot in &slots {
            slot.fill(null().into());
        }
        let filled = slots.iter().filter(|slot| slot.get().is_some()).count();
        // Other tests fill some too.
        assert!((1..=most()).contains(&filled), "{filled} of at most {}", most());
        assert!(slots[0].get().is_none());
        slots[0].fill(null().into());
        assert!(slots[0].get().is_some(), "what is opened again is there");
    }

    #[test]
    fn what_a_descriptor_needs_stays_as_long_as_it() {
        let lease: Lease = Arc::new(());
        let top = Descriptor::leased(null(), Arc::clone(&lease));
        let slot = Arc::new(Slot::default());
        let below = slot.fill(top.below(null()));
        drop(top);
        assert_eq!(Arc::strong_count(&lease), 2);
        slot.empty();
        assert!(slot.get().is_none());
        assert_eq!(Arc::strong_count(&lease), 2, "somebody still uses it");
        drop(below);
        assert_eq!(Arc::strong_count(&lease), 1);
    }
}
