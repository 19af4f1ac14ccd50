//! Shares: what the stores of one name may take of the cache together, where that was said.
//!
//! What belongs to a share lies in segments of its own, which go before the share is exceeded, whatever else there is room
//! for. An empty file `<share>.<segment>` in a directory beside the segments tells that a segment is a share's; one that
//! is lost makes it everybody's, which costs nothing but exactness.

use super::key::Owner;
use super::segment::Number;
use crate::cache::Folder;
use crate::error::{Kind, Result};

/// The directory of what tells.
const FOLDER: &str = "shares";

/// A share consists of so many segments at least.
const SEGMENTS: u64 = 8;

/// No segment of a share is smaller.
const SMALLEST: u64 = 128 << 10;

/// A part of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    of: Owner,
    /// Bytes it may take.
    pub bytes: u64,
}

impl Share {
    /// That of all who say the same `name`.
    pub fn new(name: &str, bytes: u64) -> Self {
        Share { of: Owner::of(name), bytes }
    }

    /// What one of its segments may grow to, where any may grow to `usual`.
    pub(super) fn segment_size(self, usual: u64) -> u64 {
        usual.min((self.bytes / SEGMENTS).max(SMALLEST))
    }

    fn name(self, number: Number) -> String {
        format!("{:016x}.{:08x}", self.of.0, number.0)
    }

    /// Tells that a segment is this share's.
    pub(super) fn mark(self, folder: &Folder, number: Number) -> Result<()> {
        folder.below(FOLDER)?.create(&self.name(number)).map(drop)
    }
}

/// Which segments belong to shares.
#[derive(Debug, Default)]
pub(super) struct Marks(Vec<(Owner, Number)>);

impl Marks {
    /// Those in `folder`, where there are only the segments `held`: what tells of others is removed, because numbers may
    /// come again.
    pub(super) fn read(folder: &Folder, held: &[Number]) -> Result<Self> {
        let folder = match folder.below(FOLDER) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(Marks::default()),
            folder => folder?,
        };
        let mut marks = Vec::new();
        for name in folder.names()? {
            match parse(&name) {
                Some((owner, number)) if held.contains(&number) => marks.push((owner, number)),
                Some(_) => folder.remove(&name)?,
                None => {}
            }
        }
        Ok(Marks(marks))
    }

    /// Whether a segment is `share`'s, or with `None` nobody's.
    pub(super) fn is_of(&self, share: Option<Share>, number: Number) -> bool {
        let mut of = self.0.iter().filter(|(_, marked)| *marked == number).map(|(owner, _)| *owner);
        match share {
            Some(share) => of.any(|owner| owner == share.of),
            None => of.next().is_none(),
        }
    }
}

fn parse(name: &str) -> Option<(Owner, Number)> {
    let (owner, number) =
        name.split_once('.').filter(|(owner, number)| owner.len() == 16 && number.len() == 8)?;
    Some((Owner(u64::from_str_radix(owner, 16).ok()?), Number(u32::from_str_radix(number, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_whose_a_segment_is_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(&dir.path().join("cache")).unwrap();
        let (one, other) = (Share::new("one", 1 << 20), Share::new("other", 1 << 20));
        let [a, b, c] = [2, 4, 6].map(Number);
        one.mark(&folder, a).unwrap();
        other.mark(&folder, b).unwrap();
        let marks = Marks::read(&folder, &[a, b, c]).unwrap();
        assert!(marks.is_of(Some(one), a) && marks.is_of(Some(other), b) && marks.is_of(None, c));
        assert!(!marks.is_of(Some(one), b) && !marks.is_of(None, a) && !marks.is_of(Some(one), c));
        let fewer = Marks::read(&folder, &[b]).unwrap();
        assert!(fewer.is_of(None, a), "its number may come again");
        assert!(Marks::read(&folder, &[a, b]).unwrap().is_of(None, a));
    }

    #[test]
    fn segments_of_a_share_are_small_enough_to_go_one_by_one() {
        assert_eq!(Share::new("x", 80 << 20).segment_size(1 << 30), 10 << 20);
        assert_eq!(Share::new("x", 80 << 20).segment_size(1 << 20), 1 << 20);
        assert_eq!(Share::new("x", 1).segment_size(1 << 20), SMALLEST);
    }
}
