//! Lists a bucket: page after page, in stretches beside each other where an earlier listing tells where to cut.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::rows::{self, Row};
use super::table::{Block, Packer, Table};
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Shared;
use crate::store::bucket::{Bucket, Extent, Mark, Version};

/// Stretches listed at a time, and how many blocks make one worth it.
const STRETCHES: usize = 16;
const WORTH: usize = 4;

/// Objects of one key, of which more is not taken in: a block has to hold them.
const MOST_VERSIONS: usize = 100_000;

/// Which keys are listed together: those behind the first, up to and with the second.
type Cut = (Option<Arc<str>>, Option<Arc<str>>);

/// What a stretch held.
#[derive(Default)]
struct Gathered {
    blocks: Vec<Block>,
    changes: Vec<i64>,
    objects: u64,
    bytes: u64,
}

/// Takes in versions and packs them by key.
struct Gatherer {
    extent: Extent,
    packer: Packer,
    gathered: Gathered,
    /// Those of one key.
    versions: Vec<Version>,
}

impl Gatherer {
    fn new(extent: Extent) -> Self {
        Gatherer { extent, packer: Packer::default(), gathered: Gathered::default(), versions: Vec::new() }
    }

    fn take(&mut self, version: Version) -> Result<()> {
        match self.versions.last().map(|last| version.key.cmp(&last.key)) {
            Some(std::cmp::Ordering::Less) => {
                let says =
                    format!("the server does not list keys in their order: {:?} came late", version.key);
                return Err(Error::new(Kind::Unsupported, says));
            }
            Some(std::cmp::Ordering::Greater) => self.pack()?,
            _ => {}
        }
        if self.versions.len() >= MOST_VERSIONS {
            let says = format!("{:?} has more than {MOST_VERSIONS} versions", version.key);
            return Err(Error::new(Kind::Unsupported, says));
        }
        self.versions.push(version);
        Ok(())
    }

    /// Packs the versions of one key.
    fn pack(&mut self) -> Result<()> {
        let Some(key) = self.versions.first().map(|version| version.key.clone()) else { return Ok(()) };
        let changes = self.versions.iter().map(|version| version.changed);
        match self.extent {
            Extent::Versions => self.gathered.changes.extend(changes),
            Extent::Latest => {
                let newest = self.gathered.changes.drain(..).chain(changes).max();
                self.gathered.changes.extend(newest);
            }
        }
        let (versions, Gathered { objects, bytes, .. }) = (&mut self.versions, &mut self.gathered);
        self.packer.row(&key, |to| {
            let begin = to.len();
            rows::put(to, versions);
            let row = to.get(begin..).and_then(Row::first);
            if let Some((_, content)) = row.and_then(|(row, _)| row.at(None)) {
                *objects += 1;
                *bytes = bytes.saturating_add(content.size);
            }
        })?;
        self.versions.clear();
        Ok(())
    }

    fn end(mut self) -> Result<Gathered> {
        self.pack()?;
        self.packer.end()?;
        Ok(Gathered { blocks: self.packer.blocks, ..self.gathered })
    }
}

/// Lists the keys behind `after`, up to and with `until`.
async fn stretch(
    bucket: &dyn Bucket,
    shared: &Shared,
    extent: Extent,
    (after, until): Cut,
) -> Result<Gathered> {
    let mut gatherer = Gatherer::new(extent);
    let mut mark = after.clone().map(|key| Mark { key: key.to_string(), version: None });
    loop {
        let page = bucket.page(extent, mark.as_ref()).await?;
        let is_last = |version: &Version| until.as_deref().is_some_and(|until| *version.key > *until);
        let ends = page.versions.last().is_some_and(is_last) || page.next.is_none();
        let (after, until) = (after.clone(), until.clone());
        gatherer = shared
            .pool
            .run(move || {
                let within = |version: &Version| until.as_deref().is_none_or(|until| *version.key <= *until);
                // Some servers begin with what they were to go on behind.
                let is_new = |version: &Version| after.as_deref().is_none_or(|after| *version.key > *after);
                let mut new = page.versions.into_iter().filter(is_new).take_while(within);
                new.try_for_each(|version| gatherer.take(version))?;
                Ok::<_, Error>(gatherer)
            })
            .await??;
        if ends {
            return shared.pool.run(move || gatherer.end()).await?;
        }
        if page.next == mark {
            let says = "the server lists the same page again and again";
            return Err(Error::new(Kind::Unsupported, says));
        }
        mark = page.next;
    }
}

/// Lists everything. What `known` has in common with it is taken over from there.
pub(super) async fn gather(
    bucket: &dyn Bucket,
    shared: &Shared,
    extent: Extent,
    known: Option<&Table>,
) -> Result<Table> {
    let mut stretches = Vec::new();
    for cut in cuts(known) {
        stretches.push(stretch(bucket, shared, extent, cut));
    }
    let gathered = try_join_all(stretches).await?;
    let mut all = Gathered::default();
    for part in gathered {
        all.blocks.extend(part.blocks);
        all.changes.extend(part.changes);
        all.objects += part.objects;
        all.bytes = all.bytes.saturating_add(part.bytes);
    }
    if extent == Extent::Latest {
        all.changes = all.changes.into_iter().max().into_iter().collect();
    }
    if let Some(known) = known {
        let places: HashMap<u128, &Block> = known.blocks.iter().map(|block| (block.digest, block)).collect();
        for block in &mut all.blocks {
            if let Some(known) = places.get(&block.digest) {
                block.place = known.place.clone();
            }
        }
    }
    Ok(Table::new(all.blocks, all.changes, all.objects, all.bytes))
}

/// Where stretches begin and end: behind a key, up to and with another.
fn cuts(known: Option<&Table>) -> Vec<Cut> {
    let blocks = known.map_or(&[][..], |table| &table.blocks);
    let each = blocks.len().div_ceil(STRETCHES).max(WORTH);
    let mut cuts = Vec::new();
    let mut after = None;
    for last in blocks.chunks(each).filter_map(|chunk| chunk.last()) {
        let until = Some(Arc::clone(&last.last));
        cuts.push((std::mem::replace(&mut after, until.clone()), until));
    }
    // What was written behind the last key belongs to the last stretch.
    match cuts.last_mut() {
        Some(last) => last.1 = None,
        None => cuts.push((None, None)),
    }
    cuts
}
