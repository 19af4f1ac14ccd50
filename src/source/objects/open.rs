//! Opening a bucket: listing it, or taking the listing that was kept.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::runtime::Handle;

use super::archive::{Archive, Opener, State};
use super::gather::gather;
use super::labels::Attributes;
use super::moments::Maker;
use super::pieces::Pieces;
use super::saved::Saved;
use super::table::{Cursor, Table};
use super::{History, Metadata, Spec};
use crate::error::{Context, Error, Kind, Result};
use crate::source::chunked::{Damage, Flights, Shared};
use crate::store::bucket::{Bucket, Extent, Pinned};
use crate::tree::Source;

/// So many objects tell whether the others have metadata.
const SAMPLE: usize = 8;

/// A kept listing of so few blocks is not worth to be believed at first: listing anew takes a page or two.
const FEW: usize = 4;

/// Opens a bucket: lists it, or takes the listing that was kept, however old: its health says from when it is, and a
/// refresh lists anew. Errors name the bucket: `Unavailable`, `Denied`, `Usage` (history was asked of a bucket that keeps no
/// versions).
pub async fn open(spec: Spec, shared: Arc<Shared>) -> Result<Arc<dyn Source>> {
    let name = spec.name.clone();
    open_named(spec, shared).await.context(|| name)
}

async fn open_named(spec: Spec, shared: Arc<Shared>) -> Result<Arc<dyn Source>> {
    let Spec { name, identity, bucket, host, path, drawer, history, zone, metadata } = spec;
    let history = history_of(&*bucket, history).await?;
    let extent = if history == History::Off { Extent::Latest } else { Extent::Versions };
    let saved = |drawer| Arc::new(Saved::new(drawer, &identity, extent == Extent::Versions));
    let saved = drawer.clone().map(saved);
    let kept = match saved.clone() {
        Some(saved) => tokio::task::spawn_blocking(move || saved.load()).await.ok().flatten(),
        None => None,
    };
    let table = match kept {
        Some(kept) if kept.blocks.len() >= FEW => kept,
        kept => gathered(&*bucket, &shared, extent, kept.as_ref(), saved.as_ref()).await?,
    };
    let number = shared.number();
    let asks = match metadata {
        Metadata::All => true,
        Metadata::Off => false,
        Metadata::Auto => has_metadata(&*bucket, &table, &shared, number).await,
    };
    let paths = Arc::from([Arc::from(path.into_bytes())]);
    let maker = Maker { identity, host: host.into(), paths, zone, history };
    let snapshots = maker.list(&table);
    let archive = Archive {
        title: name.into(),
        pieces: Pieces::new(Arc::clone(&bucket), Arc::clone(&shared), number),
        maker,
        bucket,
        extent,
        shared,
        number,
        drawer,
        saved,
        asks,
        directories: Flights::new(),
        damage: Damage::default(),
        state: ArcSwap::from_pointee(State { table: Arc::new(table), snapshots }),
        standing: Mutex::default(),
        runtime: Handle::current(),
    };
    Ok(Arc::new(Opener(Arc::new(archive))))
}

/// Which history can be shown of what is wanted. Errors: `Usage`.
async fn history_of(bucket: &dyn Bucket, wanted: Option<History>) -> Result<History> {
    if wanted == Some(History::Off) {
        return Ok(History::Off);
    }
    match (bucket.keeps_versions().await, wanted) {
        (Ok(true), wanted) => Ok(wanted.unwrap_or(History::Days)),
        (Ok(false), None) => Ok(History::Off),
        (Ok(false), Some(_)) => {
            let says = "the bucket keeps no versions, so it has no history to show: turn its versioning on, or leave \
                        `history` out";
            Err(Error::new(Kind::Usage, says))
        }
        // Whoever may not ask may be let see versions all the same.
        (Err(error), Some(wanted)) if error.kind() == Kind::Denied => Ok(wanted),
        (Err(error), None) if error.kind() == Kind::Denied => Ok(History::Off),
        (Err(error), _) => Err(error),
    }
}

/// Lists, and keeps what was listed.
pub(super) async fn gathered(
    bucket: &dyn Bucket,
    shared: &Arc<Shared>,
    extent: Extent,
    known: Option<&Table>,
    saved: Option<&Arc<Saved>>,
) -> Result<Table> {
    let table = gather(bucket, shared, extent, known).await?;
    let Some(saved) = saved.cloned() else { return Ok(table) };
    tokio::task::spawn_blocking(move || saved.keep(table))
        .await
        .map_err(|e| Error::caused_by(Kind::Internal, "keeping a listing ended", e))?
}

/// Whether any of a handful of objects has metadata that means something here.
async fn has_metadata(bucket: &dyn Bucket, table: &Table, shared: &Shared, number: u32) -> bool {
    let mut sample = Vec::new();
    let mut cursor = Cursor::new(table, shared, number);
    for nth in 0..SAMPLE {
        let block = table.blocks.len() * nth / SAMPLE;
        let after = block.checked_sub(1).and_then(|before| table.blocks.get(before));
        if cursor.seek(after.map_or("", |block| &block.last)).is_err() {
            return false;
        }
        // The first was the last of the block before; those of one block differ by how far on they are.
        for _ in 0..=nth {
            let Ok(Some(row)) = cursor.next() else { break };
            if let Some((past, content)) = row.at(None) {
                let version = (!past.id.is_empty()).then(|| past.id.to_owned());
                sample.push(Pinned { key: row.key.to_owned(), version, etag: content.etag.to_owned() });
            }
        }
    }
    sample.sort_by(|a, b| a.key.cmp(&b.key));
    sample.dedup();
    let step = sample.len().div_ceil(SAMPLE).max(1);
    let mut asked = Vec::new();
    for object in sample.iter().step_by(step) {
        asked.push(bucket.labels(object));
    }
    let found = join_all(asked).await;
    found.into_iter().any(|labels| labels.is_ok_and(|labels| !Attributes::of(&labels).is_empty()))
}
