//! Pages of segments that were read and checked: a bounded number of them, so that small repositories are looked up in
//! memory and large ones keep what is asked for again and again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::layout::PAGE;
use crate::error::Result;

/// So many pages are kept: 8 MiB, which is 170,000 blobs.
const KEPT: usize = 2048;

/// A page of any file that is open: the file's number in this process, and the page's in the file.
type Key = (u64, u64);

/// Each page has one slot where it may be.
pub struct Pages {
    slots: Box<[Mutex<Option<Slot>>]>,
    files: AtomicU64,
}

struct Slot {
    key: Key,
    page: Box<[u8; PAGE]>,
}

impl Default for Pages {
    fn default() -> Self {
        let slots = std::iter::repeat_with(Mutex::default).take(KEPT).collect();
        Pages { slots, files: AtomicU64::new(0) }
    }
}

impl Pages {
    /// A number for a file that is opened.
    pub(super) fn number(&self) -> u64 {
        self.files.fetch_add(1, Ordering::Relaxed)
    }

    /// What `read` makes of a page, which `load` brings when it is not here. `read` must not ask for another page, whose
    /// slot may be the same.
    pub(super) fn with<T>(
        &self,
        key: Key,
        load: impl FnOnce(&mut [u8; PAGE]) -> Result<()>,
        read: impl FnOnce(&[u8; PAGE]) -> T,
    ) -> Result<T> {
        // Neighbours in a file never share a slot; files begin anywhere.
        let at = key.0.wrapping_mul(0x9E37_79B9).wrapping_add(key.1) % KEPT as u64;
        let Some(slot) = usize::try_from(at).ok().and_then(|at| self.slots.get(at)) else {
            let mut page = [0; PAGE];
            load(&mut page)?;
            return Ok(read(&page));
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = slot.as_ref().filter(|held| held.key == key) {
            return Ok(read(&held.page));
        }
        // Out of its slot while it is written to, so that no half of a page is ever found.
        let mut page = slot.take().map_or_else(|| Box::new([0; PAGE]), |held| held.page);
        load(&mut page)?;
        let answer = read(&page);
        *slot = Some(Slot { key, page });
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};

    #[test]
    fn a_page_is_loaded_once_until_another_takes_its_place() {
        let pages = Pages::default();
        let loads = std::cell::Cell::new(0);
        let get = |page: u64| {
            let load = |bytes: &mut [u8; PAGE]| {
                loads.set(loads.get() + 1);
                bytes.fill(u8::try_from(page % 251).unwrap());
                Ok(())
            };
            pages.with((3, page), load, |bytes| u64::from(bytes[PAGE - 1])).unwrap()
        };
        for page in [1, 2, 1, 2, KEPT as u64 - 1, 1] {
            assert_eq!(get(page), page % 251);
        }
        assert_eq!(loads.get(), 3);
        let same_slot = 1 + KEPT as u64;
        assert_eq!((get(same_slot), get(1)), (same_slot % 251, 1));
        assert_eq!(loads.get(), 5);
    }

    #[test]
    fn what_could_not_be_loaded_is_not_kept() {
        let pages = Pages::default();
        let fail = |bytes: &mut [u8; PAGE]| {
            bytes.fill(9);
            Err(Error::new(Kind::Corrupt, "damaged"))
        };
        assert!(pages.with((0, 0), fail, |_| ()).is_err());
        assert!(pages.with((0, 0), fail, |_| ()).is_err(), "asked for again");
        assert_eq!(pages.with((0, 0), |_| Ok(()), |page| page.len()).unwrap(), PAGE);
        assert_ne!(pages.number(), pages.number());
    }
}
