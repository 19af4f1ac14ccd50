//! The other places of a blob whose first place did not yield it, and why a blob could not be had.

use std::sync::Arc;

use bytes::Bytes;

use super::fetch::Origin;
use super::{Duty, Inner, is_plausible, weight};
use crate::error::{Error, Kind, Result};
use crate::source::chunked::{BlobKind, Id, Place, Standing};

/// So many places of a blob are tried.
const PLACES: usize = 16;

/// Bytes that came wrong are fetched so many times more.
const ONCE_MORE: usize = 3;

impl Inner {
    /// Brings a blob that its first place did not yield.
    pub(super) async fn rescue(self: &Arc<Self>, duty: Duty, failures: Vec<(Place, Error)>) {
        match self.anywhere(BlobKind::Data, duty.key(), failures).await {
            Ok(blob) => self.keep(duty, blob),
            Err(error) => duty.land(Err(error)),
        }
    }

    /// A blob from whichever place yields it: current ones, the first wrong one again, those of a new listing, those
    /// marked for deletion, those of index files that are gone. `failures` are the places that failed already.
    pub(super) async fn anywhere(
        self: &Arc<Self>,
        kind: BlobKind,
        id: &Id,
        mut failures: Vec<(Place, Error)>,
    ) -> Result<Bytes> {
        let index = self.packs.index();
        let current = index.places(kind, id).into_iter().filter(|place| place.standing == Standing::Live);
        if let Some(blob) = self.try_places(kind, id, current, &mut failures).await {
            return Ok(blob);
        }
        if let Some(blob) = self.read_again(kind, id, &mut failures).await {
            return Ok(blob);
        }
        let missing = |(_, error): &(Place, Error)| matches!(error.kind(), Kind::NotFound | Kind::Corrupt);
        if failures.is_empty() || failures.iter().any(missing) {
            self.packs.relist(index.generation()).await;
        }
        let places = self.packs.index().places(kind, id).into_iter();
        match self.try_places(kind, id, places, &mut failures).await {
            Some(blob) => Ok(blob),
            None => Err(verdict(kind, id, failures)),
        }
    }

    /// The blob from the first place that gave wrong bytes: they may have been mixed up or cut on their way.
    async fn read_again(
        self: &Arc<Self>,
        kind: BlobKind,
        id: &Id,
        failures: &mut [(Place, Error)],
    ) -> Option<Bytes> {
        let wrong =
            |(place, error): &&mut (Place, Error)| error.kind() == Kind::Corrupt && is_plausible(place);
        let (place, error) = failures.iter_mut().find(wrong)?;
        for _ in 0..ONCE_MORE {
            match self.read_copy(kind, *id, *place).await {
                Ok(blob) => {
                    tracing::debug!("{}: blob {id} came wrong: {error}", self.packs.name());
                    return Some(blob);
                }
                Err(again) => *error = again,
            }
            if error.kind() != Kind::Corrupt {
                break;
            }
        }
        None
    }

    async fn try_places(
        self: &Arc<Self>,
        kind: BlobKind,
        id: &Id,
        places: impl Iterator<Item = Place>,
        failures: &mut Vec<(Place, Error)>,
    ) -> Option<Bytes> {
        for place in places.take(PLACES) {
            if failures.iter().any(|(tried, _)| tried.pack == place.pack && tried.offset == place.offset) {
                continue;
            }
            match self.read_place(kind, id, place).await {
                Ok(blob) => {
                    self.tell_of_rescue(id, failures);
                    return Some(blob);
                }
                Err(error) => failures.push((place, error)),
            }
        }
        None
    }

    async fn read_place(self: &Arc<Self>, kind: BlobKind, id: &Id, place: Place) -> Result<Bytes> {
        if !is_plausible(&place) {
            return Err(Error::new(Kind::Corrupt, format!("claims {} bytes", place.size)));
        }
        let answer = self.read_copy(kind, *id, place).await;
        match &answer {
            Err(error) if error.kind() == Kind::Corrupt && self.packs.distrust(kind, &place.pack) => {
                self.tell_of_rescue(id, &[(place, error.clone())]);
                self.read_copy(kind, *id, place).await
            }
            _ => answer,
        }
    }

    async fn read_copy(self: &Arc<Self>, kind: BlobKind, id: Id, place: Place) -> Result<Bytes> {
        if let Some(plain) = self.kept_blob(kind, id, place).await {
            return Ok(plain);
        }
        let room = self.part.room_for(weight(&place)).await;
        let (offset, length) = (u64::from(place.offset), u64::from(place.length));
        let stored = self.read(&room, kind, &place.pack, offset, length).await?;
        let inner = Arc::clone(self);
        let decode = move || inner.decode_one(kind, &id, &place, &stored, Origin::Store);
        let plain = self.shared.pool.run(decode).await?;
        if plain.is_err() {
            self.forget_near(&place.pack);
        }
        plain
    }

    fn tell_of_rescue(&self, id: &Id, failures: &[(Place, Error)]) {
        let Some((place, error)) = failures.iter().find(|(_, error)| error.kind() == Kind::Corrupt) else {
            return;
        };
        if self.packs.damage().first((place.pack, place.offset)) {
            let repository = self.packs.name();
            tracing::warn!(
                "{repository}: pack {} at {}: {error}; blob {id} was read elsewhere",
                place.pack,
                place.offset
            );
        }
    }
}

/// Why a blob could not be had: what may pass with time goes before what is lost, and a missing pack is damage.
fn verdict(kind: BlobKind, id: &Id, failures: Vec<(Place, Error)>) -> Error {
    let what = match kind {
        BlobKind::Data => "data blob",
        BlobKind::Tree => "tree blob",
    };
    let lost = |error: &Error| matches!(error.kind(), Kind::NotFound | Kind::Corrupt);
    let places = failures.len();
    match failures.into_iter().min_by_key(|(_, error)| lost(error)) {
        None => Error::new(Kind::Corrupt, format!("{what} {id} is in no index file")),
        Some((place, error)) => {
            let kind = if lost(&error) { Kind::Corrupt } else { error.kind() };
            let others =
                if places > 1 { format!(" (and {} more places)", places - 1) } else { String::new() };
            let at = format!("{what} {id} at {} of pack {}{others}", place.offset, place.pack);
            error.with_kind(kind).context(at)
        }
    }
}
