//! Several segments become one, in one pass over their rows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::row::{MOST_PACKS, Row};
use super::segment::{Body, Covered, Segment, Tally};
use super::stack::Shown;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;

/// Takes what a merge gives: all rows in order, then all packs in order.
pub(super) trait Output {
    /// The next row.
    fn row(&mut self, row: &Row) -> Result<()>;

    /// The next pack.
    fn pack(&mut self, pack: &Id) -> Result<()>;
}

/// A segment, and how each of its files is shown. Files that are hidden are left out.
pub(super) type Input<'a> = (&'a Segment, &'a [Shown]);

/// What a merge of `inputs` in memory gives.
pub(super) fn in_memory(inputs: &[Input<'_>]) -> Result<Segment> {
    let mut memory = Memory::default();
    let files = merge(inputs, &mut memory)?;
    Ok(Segment { files, body: Body::Memory { packs: memory.packs, rows: memory.rows } })
}

#[derive(Default)]
struct Memory {
    packs: Vec<Id>,
    rows: Vec<Row>,
}

impl Output for Memory {
    fn row(&mut self, row: &Row) -> Result<()> {
        self.rows.push(*row);
        Ok(())
    }

    fn pack(&mut self, pack: &Id) -> Result<()> {
        self.packs.push(*pack);
        Ok(())
    }
}

/// Merges `inputs` into `output`; the files of the outcome. Rows of index files that are gone are left out where a
/// current file marks no deletion and names the same blob. Errors: an input that cannot be read, or what `output` says.
pub(super) fn merge(inputs: &[Input<'_>], output: &mut dyn Output) -> Result<Vec<Covered>> {
    let (mut files, numbering) = renumber(inputs)?;
    let mut tally = Tally::new(&mut files);
    let mut rows = Merged::new(inputs, &numbering)?;
    let mut same: Vec<(Row, Shown)> = Vec::new();
    loop {
        let next = rows.next().transpose()?;
        let ends = match (&next, same.first()) {
            (Some((row, _)), Some((first, _))) => (row.id, row.kind()) != (first.id, first.kind()),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if ends {
            let replaced = same.iter().any(|(row, shown)| *shown == Shown::Current && !row.is_deleted());
            for (row, shown) in same.drain(..) {
                if shown == Shown::Gone && replaced {
                    tally.leave_out(&row);
                } else {
                    tally.count(&row);
                    output.row(&row)?;
                }
            }
        }
        match next {
            Some(row) => same.push(row),
            None => break,
        }
    }
    for (input, numbers) in inputs.iter().zip(&numbering) {
        let kept = numbers.iter().enumerate().filter(|(_, first)| first.is_some());
        for pack in kept.flat_map(|(file, _)| input.0.packs_of(file)) {
            let unreadable = || Error::new(Kind::Corrupt, "a page of packs is damaged");
            output.pack(&input.0.pack(pack).ok_or_else(unreadable)?)?;
        }
    }
    Ok(files)
}

/// By input and file, the number that the file's first pack gets; `None` for those that are left out.
type Numbering = Vec<Vec<Option<u32>>>;

/// Numbers the packs of all files that are kept anew.
fn renumber(inputs: &[Input<'_>]) -> Result<(Vec<Covered>, Numbering)> {
    let mut files = Vec::new();
    let mut numbering = Vec::new();
    let mut next = 0_u32;
    for (segment, shown) in inputs {
        let mut numbers = Vec::with_capacity(segment.files.len());
        for (at, (file, shown)) in segment.files.iter().zip(*shown).enumerate() {
            if *shown == Shown::Hidden {
                numbers.push(None);
                continue;
            }
            numbers.push(Some(next));
            match files.last_mut().filter(|last: &&mut Covered| last.id == file.id) {
                // Parts of one file.
                Some(last) => {
                    last.whole &= file.whole;
                    last.malformed += file.malformed;
                }
                None => files.push(Covered { first_pack: next, blobs: 0, bytes: 0, ..*file }),
            }
            let packs = segment.packs_of(at);
            next = next.saturating_add(packs.end.saturating_sub(packs.start));
        }
        numbering.push(numbers);
    }
    if next > MOST_PACKS {
        return Err(Error::new(Kind::Unsupported, "more packs than a segment can hold"));
    }
    Ok((files, numbering))
}

type Rows<'a> = Box<dyn Iterator<Item = Result<Row>> + Send + 'a>;

/// The rows of all inputs in one order, with their new pack numbers.
struct Merged<'a> {
    inputs: &'a [Input<'a>],
    numbering: &'a Numbering,
    rows: Vec<Rows<'a>>,
    /// The next row of each input, as it is in the input.
    heads: BinaryHeap<Reverse<(Row, usize)>>,
}

impl<'a> Merged<'a> {
    fn new(inputs: &'a [Input<'a>], numbering: &'a Numbering) -> Result<Self> {
        let rows = inputs.iter().map(|(segment, _)| segment.scan()).collect();
        let mut merged = Merged { inputs, numbering, rows, heads: BinaryHeap::new() };
        for input in 0..inputs.len() {
            merged.pull(input)?;
        }
        Ok(merged)
    }

    /// Puts the next row of an input among the heads.
    fn pull(&mut self, input: usize) -> Result<()> {
        if let Some(row) = self.rows.get_mut(input).and_then(Iterator::next).transpose()? {
            self.heads.push(Reverse((row, input)));
        }
        Ok(())
    }

    /// A row as the outcome has it; `None` when its file is left out.
    fn renumbered(&self, row: Row, input: usize) -> Option<(Row, Shown)> {
        let (segment, shown) = self.inputs.get(input)?;
        let file = segment.file_of(row.pack());
        let first = (*self.numbering.get(input)?.get(file)?)?;
        let within = row.pack().checked_sub(segment.files.get(file)?.first_pack)?;
        Some((row.in_pack(first.checked_add(within)?), *shown.get(file)?))
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<(Row, Shown)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Reverse((row, input)) = *self.heads.peek()?;
            match self.rows.get_mut(input).and_then(Iterator::next).transpose() {
                // Replacing the head in place sifts once instead of twice.
                Ok(Some(next)) => {
                    if let Some(mut head) = self.heads.peek_mut() {
                        *head = Reverse((next, input));
                    }
                }
                Ok(None) => drop(self.heads.pop()),
                Err(error) => return Some(Err(error)),
            }
            if let Some(kept) = self.renumbered(row, input) {
                return Some(Ok(kept));
            }
        }
    }
}
