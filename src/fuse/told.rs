//! What the access log is told of an open.

use super::state::{State, ready};
use crate::observe::access::{Opened, Snapshot};
use crate::tree::{Node, OWN_XATTRS};

impl State {
    /// Tells the access log, if there is one, that `uid` opened `ino`. Files that are in no snapshot are made up, and not
    /// told of.
    pub fn tell_opened(&self, ino: u64, uid: u32) {
        let Some(log) = &self.options.access_log else { return };
        let Some(known) = self.inodes.get(ino) else { return };
        let identity = known.identity;
        if log.knows(uid, identity) {
            return;
        }
        let way = self.inodes.way_to(ino);
        let labels = match way.top {
            Some(top) => self.inodes.get(top).and_then(|top| labels(&ready(top.node())?)),
            None => way.is_whole.then_some(None),
        };
        let snapshot = match labels {
            Some(None) => return,
            Some(found) => found,
            None => None,
        };
        let links = ready(known.node()).map_or(1, |node| node.meta.nlink);
        log.tell(identity, Opened { uid, snapshot, path: way.path, is_whole: way.is_whole, links });
    }
}

/// Of which snapshot the top of a tree says that it is, if of any; `None` where it cannot say so at once.
fn labels(top: &Node) -> Option<Option<Snapshot>> {
    let Some(xattrs) = &top.xattrs else { return Some(None) };
    let label = |name: &[u8]| {
        let value = ready(xattrs.get(&[OWN_XATTRS, name].concat()))?;
        Some(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    };
    let (source, name, id) = (label(b"source")?, label(b"snapshot")?, label(b"id")?);
    Some(source.zip(name).zip(id).map(|((source, name), id)| Snapshot { source, name, id }))
}
