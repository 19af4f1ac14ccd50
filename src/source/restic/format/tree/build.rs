//! From records in tree order to a finished tree: unique names, and an order to find them by.

use super::record::{Arenas, Record};
use super::{Flaw, Tree};
use crate::source::chunked::Id;

impl Tree {
    /// Of equal names only the last stays; the others are reported. `splices` come with the number of records before
    /// them.
    pub(super) fn build(
        mut records: Vec<Record>,
        mut arenas: Arenas,
        splices: Vec<(u32, Id)>,
        flaw: &mut dyn FnMut(Flaw),
    ) -> Tree {
        let (mut splice_at, splices): (Vec<_>, Vec<_>) = splices.into_iter().unzip();
        let mut by_name = Vec::new();
        if !records.is_sorted_by(|a, b| name(&arenas, a) < name(&arenas, b)) {
            by_name = ordered(&arenas, &records);
            let superseded = superseded(&arenas, &records, &by_name);
            if superseded.contains(&true) {
                for (record, _) in records.iter().zip(&superseded).filter(|(_, superseded)| **superseded) {
                    let name = String::from_utf8_lossy(name(&arenas, record)).into_owned();
                    flaw(Flaw { name, reason: "left out: a later entry has the same name".into() });
                }
                let mut stays = superseded.iter().map(|gone| u32::from(!gone));
                let (mut passed, mut staying) = (0, 0);
                for at in &mut splice_at {
                    staying += stays.by_ref().take((*at - passed) as usize).sum::<u32>();
                    passed = std::mem::replace(at, staying);
                }
                let mut gone = superseded.iter();
                records.retain(|_| gone.next() != Some(&true));
                by_name = ordered(&arenas, &records);
            }
        }
        records.shrink_to_fit();
        arenas.shrink();
        Tree { records, by_name, arenas, splices, splice_at }
    }
}

fn name<'a>(arenas: &'a Arenas, record: &Record) -> &'a [u8] {
    arenas.bytes(record.name, record.name_len.into())
}

/// Positions by name, equal names in tree order.
fn ordered(arenas: &Arenas, records: &[Record]) -> Vec<u32> {
    let mut order: Vec<_> = (0u32..).zip(records).map(|(at, record)| (name(arenas, record), at)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| at).collect()
}

/// For each record, whether a later one has its name.
fn superseded(arenas: &Arenas, records: &[Record], by_name: &[u32]) -> Vec<bool> {
    let mut superseded = vec![false; records.len()];
    let name_at = |at: u32| records.get(at as usize).map(|record| name(arenas, record));
    for pair in by_name.windows(2) {
        let &[earlier, later] = pair else { continue };
        if name_at(earlier) == name_at(later)
            && let Some(gone) = superseded.get_mut(earlier as usize)
        {
            *gone = true;
        }
    }
    superseded
}
