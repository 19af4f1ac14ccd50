//! Whose things are shown as whose.

use super::{IdMap, IdRange, Owner};

/// Translation of recorded ids into shown ones.
#[derive(Clone, Debug)]
pub(super) struct Owners {
    owner: Owner,
    idmap: IdMap,
    mounter: (u32, u32),
    /// What is shown of every node, where it was said.
    fixed: (Option<u32>, Option<u32>),
}

impl Owners {
    /// For this process as the mounter.
    pub fn new(owner: Owner, idmap: IdMap) -> Self {
        let mounter = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Owners { owner, idmap, mounter, fixed: (None, None) }
    }

    /// The same, but that everything belongs to this user and this group, where they are given.
    #[must_use]
    pub fn fixed(self, uid: Option<u32>, gid: Option<u32>) -> Self {
        Owners { fixed: (uid, gid), ..self }
    }

    /// Owner and group of a node that was recorded with these.
    pub fn of(&self, uid: u32, gid: u32) -> (u32, u32) {
        let (uid, gid) = match self.owner {
            Owner::Recorded => (self.user(uid), self.group(gid)),
            Owner::Mounter => self.mounter,
            Owner::Root => (0, 0),
        };
        (self.fixed.0.unwrap_or(uid), self.fixed.1.unwrap_or(gid))
    }

    /// The user that a recorded user id stands for.
    pub fn user(&self, uid: u32) -> u32 {
        translate(&self.idmap.uids, uid)
    }

    /// The group that a recorded group id stands for.
    pub fn group(&self, gid: u32) -> u32 {
        translate(&self.idmap.gids, gid)
    }
}

/// The first range that holds the id decides.
fn translate(ranges: &[IdRange], id: u32) -> u32 {
    ranges
        .iter()
        .find_map(|range| {
            let offset = id.checked_sub(range.recorded).filter(|offset| *offset < range.count)?;
            range.shown.checked_add(offset)
        })
        .unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(recorded: u32, shown: u32, count: u32) -> IdRange {
        IdRange { recorded, shown, count }
    }

    #[test]
    fn the_first_range_that_holds_an_id_decides_and_others_stay() {
        let ranges = [range(1000, 2000, 2), range(1001, 9, 5), range(u32::MAX, 7, 1)];
        let shown: Vec<_> = [999, 1000, 1001, 1002, 1006, u32::MAX].map(|id| translate(&ranges, id)).into();
        assert_eq!(shown, [999, 2000, 2001, 10, 1006, 7]);
    }

    #[test]
    fn a_range_that_would_pass_the_end_of_ids_translates_nothing_there() {
        assert_eq!(translate(&[range(0, u32::MAX, 10)], 0), u32::MAX);
        assert_eq!(translate(&[range(0, u32::MAX, 10)], 1), 1);
    }

    #[test]
    fn mounter_and_root_own_everything_where_asked_for() {
        let idmap = IdMap { uids: vec![range(1, 100, 1)], gids: vec![range(2, 200, 1)] };
        assert_eq!(Owners::new(Owner::Recorded, idmap.clone()).of(1, 2), (100, 200));
        assert_eq!(Owners::new(Owner::Root, idmap.clone()).of(1, 2), (0, 0));
        let one = Owners::new(Owner::Root, idmap.clone()).fixed(Some(7), None);
        assert_eq!(one.of(1, 2), (7, 0));
        assert_eq!(Owners::new(Owner::Recorded, idmap.clone()).fixed(None, Some(8)).of(1, 2), (100, 8));
        let mounter = Owners::new(Owner::Mounter, idmap).of(1, 2);
        assert_eq!(mounter, (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()));
    }
}
