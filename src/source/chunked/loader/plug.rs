//! Announcements that wait a moment for others, where a request takes long: several directories' files lie side by side,
//! and come by one read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::ahead::Read;
use super::{Duty, Inner, PER_BLOB, Place, weight};
use crate::source::chunked::plan::batches;

/// Blobs that were announced and not asked for yet.
#[derive(Default)]
pub(super) struct Plug(Mutex<Vec<(Place, Duty)>>);

impl Plug {
    /// Bytes that they will take.
    pub fn weight(&self) -> u64 {
        self.lock().iter().map(|(place, _)| weight(place) + PER_BLOB).sum()
    }

    /// Adds some; true when there were none.
    fn add(&self, blobs: Vec<(Place, Duty)>) -> bool {
        let mut held = self.lock();
        let is_first = held.is_empty() && !blobs.is_empty();
        held.extend(blobs);
        is_first
    }

    fn take(&self) -> Vec<(Place, Duty)> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Place, Duty)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Asks for blobs a moment later, together with what is announced until then.
    pub(super) fn plug(self: &Arc<Self>, blobs: Vec<(Place, Duty)>) {
        if !self.plug.add(blobs) {
            return;
        }
        let inner = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(inner.tuning.patience).await;
            inner.fetch_ahead(inner.plug.take(), None);
        });
    }

    /// Asks for blobs ahead, in few reads. What finds no room is as if nobody had asked.
    pub(super) fn fetch_ahead(self: &Arc<Self>, blobs: Vec<(Place, Duty)>, interest: Option<Weak<()>>) {
        for batch in batches(blobs, &self.tuning) {
            let Some(room) = self.shared.room_ahead(batch.weight()) else { continue };
            self.begin_ahead(Read { batch, room: Arc::new(room) }, interest.clone());
        }
        self.begin_reads_ahead();
    }
}
