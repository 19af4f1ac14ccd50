//! What lies before a directory in its pack, kept for a moment.
//!
//! Writers store a directory after what it holds, so who goes down a path goes back in a pack. From a distant store a few
//! bytes take as long as many: a directory comes with what lies before it, and the next ones are there.

use bytes::Bytes;

use super::{BlobKind, Id, Inner};
use crate::error::{Error, Kind, Result};
use crate::source::chunked::plan::{part, short};
use crate::source::chunked::shared::Room;

impl Inner {
    /// A ranged read in its slot, within its time; its room is lent when it takes long.
    pub(super) async fn read(
        &self,
        room: &Room,
        kind: BlobKind,
        pack: &Id,
        offset: u64,
        length: u64,
    ) -> Result<Bytes> {
        let before = match kind {
            BlobKind::Tree => self.tuning.near.saturating_sub(length).min(offset),
            BlobKind::Data => 0,
        };
        if kind == BlobKind::Tree
            && let Some(near) = self.shared.near.find(self.number, pack, offset, length)
        {
            return Ok(near);
        }
        let read = async {
            let closed = |_| Error::new(Kind::Internal, "the loader was closed");
            let _slot = self.requests.acquire().await.map_err(closed)?;
            self.in_time(kind, pack, offset - before, before + length).await
        };
        let stored = room.lent(read).await?;
        if before == 0 {
            return Ok(stored);
        }
        self.shared.near.keep(self.number, *pack, offset - before, stored.clone());
        part(&stored, before, length).ok_or_else(short)
    }

    /// Lets go of what was kept of a pack: it was wrong.
    pub(super) fn forget_near(&self, pack: &Id) {
        self.shared.near.forget(self.number, pack);
    }
}
