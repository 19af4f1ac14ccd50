//! By which name, in which directory, the kernel came to an inode: kept where opens are told of, because a request to open
//! names only the inode.
//!
//! There, files are not shared by the trees of several snapshots, nor by several places that show one snapshot: an inode
//! has one path, unless it has several names within one tree. Of these the one counts by which it was found last.

use super::inodes::{Inodes, ROOT};
use crate::tree::{FileType, Identity, Node};

/// No tree is deeper: what is farther from the top than this does not lead to it.
pub(super) const DEEPEST: usize = 8192;

/// The last step to an inode.
#[derive(Debug)]
pub(super) struct Trail {
    /// The number of the directory.
    parent: u64,
    /// Its name there.
    name: Box<[u8]>,
    /// It is the top of a tree: its identity does not follow from that of the directory above.
    is_top: bool,
}

/// The way from the root to an inode.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// Its names, with a slash before each.
    pub path: Vec<u8>,
    /// The number of the nearest top of a tree.
    pub top: Option<u64>,
    /// It begins at the root.
    pub is_whole: bool,
}

impl Trail {
    /// To what is called `name` in the directory `parent`.
    pub fn new(parent: u64, name: &[u8], kind: FileType, identity: Identity) -> Self {
        let is_top = kind == FileType::Dir && matches!(identity, Identity::Key(_));
        Trail { parent, name: name.into(), is_top }
    }

    /// To `node`.
    pub fn to(parent: u64, name: &[u8], node: &Node) -> Self {
        Self::new(parent, name, node.meta.kind, node.meta.identity)
    }
}

impl Inodes {
    /// The number of the top of the tree that the directory `ino` is in; the directory itself may be it.
    pub fn top_of(&self, mut ino: u64) -> Option<u64> {
        for _ in 0..DEEPEST {
            let (parent, is_top) = self.trail(ino, |trail| (trail.parent, trail.is_top))?;
            if is_top {
                return Some(ino);
            }
            ino = parent;
        }
        None
    }

    /// How the kernel came to `ino`. Where it has forgotten a directory on the way, the way begins below that.
    pub fn way_to(&self, mut ino: u64) -> Way {
        let (mut way, mut names) = (Way::default(), Vec::new());
        while names.len() < DEEPEST {
            if ino == ROOT {
                way.is_whole = true;
                break;
            }
            let step = self.trail(ino, |trail| (trail.parent, trail.name.clone(), trail.is_top));
            let Some((parent, name, is_top)) = step else { break };
            if is_top {
                way.top.get_or_insert(ino);
            }
            names.push(name);
            ino = parent;
        }
        for name in names.iter().rev() {
            way.path.push(b'/');
            way.path.extend_from_slice(name);
        }
        way
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fuse::inodes::{Origin, Place};
    use crate::tree::{Content, Meta, Time, Validity};

    fn node() -> Node {
        let meta = Meta::directory(Time::default(), Validity::Forever);
        Node { meta, content: Content::Special, xattrs: None }
    }

    /// Enters a directory, or the top of a tree, and answers its number.
    fn enter(inodes: &Inodes, parent: u64, name: &str, identity: u128, is_top: bool) -> u64 {
        let origin = Origin::Held { parent, name: None, node: node() };
        let place = Place { origin: Arc::new(origin), at: 0, plain: true };
        let told = if is_top { Identity::Key(identity) } else { Identity::Path };
        let trail = Trail::new(parent, name.as_bytes(), FileType::Dir, told);
        inodes.enter(identity, place, Some(trail))
    }

    #[test]
    fn a_way_leads_from_the_root_through_the_top_of_its_tree() {
        let inodes = Inodes::new(node());
        let set = enter(&inodes, ROOT, "h@+home", 20, false);
        let date = enter(&inodes, set, "20260301_030000", 30, true);
        let dir = enter(&inodes, date, "a", 40, false);
        let file = enter(&inodes, dir, "b", 50, false);
        let path = b"/h@+home/20260301_030000/a/b".to_vec();
        assert_eq!(inodes.way_to(file), Way { path, top: Some(date), is_whole: true });
        assert_eq!(
            (inodes.top_of(dir), inodes.top_of(date), inodes.top_of(set)),
            (Some(date), Some(date), None)
        );
        assert_eq!(inodes.way_to(set), Way { path: b"/h@+home".into(), top: None, is_whole: true });
        assert_eq!(inodes.way_to(ROOT), Way { is_whole: true, ..Way::default() });
        // By another name in another directory: the last one counts.
        assert_eq!(enter(&inodes, date, "again", 50, false), file);
        assert_eq!(inodes.way_to(file).path, b"/h@+home/20260301_030000/again");
    }

    #[test]
    fn what_was_forgotten_is_where_a_way_begins() {
        let inodes = Inodes::new(node());
        let set = enter(&inodes, ROOT, "s", 20, false);
        let date = enter(&inodes, set, "d", 30, true);
        let file = enter(&inodes, date, "f", 40, false);
        assert!(inodes.forget(set, 1));
        assert_eq!(inodes.way_to(file), Way { path: b"/d/f".into(), top: Some(date), is_whole: false });
        assert!(inodes.forget(date, 1));
        assert_eq!(inodes.way_to(file), Way { path: b"/f".into(), top: None, is_whole: false });
        assert_eq!((inodes.top_of(date), inodes.way_to(date)), (None, Way::default()));
    }

    #[test]
    fn a_way_that_leads_nowhere_ends() {
        let inodes = Inodes::new(node());
        let one = enter(&inodes, 77, "one", 20, false);
        let other = enter(&inodes, one, "other", 30, false);
        enter(&inodes, other, "one", 20, false);
        assert_eq!(inodes.top_of(one), None);
        assert!(!inodes.way_to(one).is_whole);
    }
}
