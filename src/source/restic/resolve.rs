//! Finds a backed-up path in a snapshot's tree.
//!
//! The recorded path and the tree may disagree: a relative backup stores only the last components, a backup of `.` only
//! what is inside, a stream only a name. So the full path is tried, then each of its suffixes, then the root itself.

use std::sync::Arc;

use super::directory::{NO_TREE, TreeDir};
use super::format::tree::NodeRef;
use super::parsed::Parsed;
use super::snapshots::Held;
use super::view::{Place, View};
use crate::error::{Error, Kind, Result};
use crate::source::chunked::acl;
use crate::tree::{Ancestor, Ancestors, Content, FileType, Meta, Node, Opened, Validity};

/// The content of the path of `view`.
pub(super) async fn open(view: Arc<View>, held: Arc<Held>) -> Result<Opened> {
    let path = RecordedPath::new(&view.path);
    let name = path.components.last().map(|name| Arc::from(*name)).unwrap_or_default();
    let root = TreeDir { tree: held.tree, place: Place::root(Arc::clone(&view)), above: None };
    for skip in 0..path.components.len() {
        let Some(found) = walk(&root, path.components.get(skip..).unwrap_or_default()).await? else {
            continue;
        };
        let is_whole = path.is_absolute && skip == 0;
        let ancestors = if is_whole { Ancestors::Recorded(found.ancestors) } else { Ancestors::Unknown };
        return Ok(Opened { name, node: found.node, ancestors });
    }
    // The root of a tree has no node of its own.
    let meta = Meta::directory(held.snapshot.time.instant, Validity::Forever);
    let is_root = path.is_absolute && path.components.is_empty();
    let ancestors = if is_root { Ancestors::Recorded(Vec::new()) } else { Ancestors::Unknown };
    Ok(Opened { name, node: Node { meta, content: Content::Dir(Arc::new(root)), xattrs: None }, ancestors })
}

struct Found {
    node: Node,
    ancestors: Vec<Ancestor>,
}

/// Follows `names` from `root`. What is found is a root of its own: its place is that of the view.
async fn walk(root: &TreeDir, names: &[&[u8]]) -> Result<Option<Found>> {
    let mut ancestors = Vec::new();
    let mut dir = root.clone();
    for (at, name) in names.iter().enumerate() {
        let parsed: Arc<Parsed> = dir.parsed().resolve().await?;
        let Some((number, entry)) = parsed.find(name).and_then(|n| Some((n, parsed.entry(n)?))) else {
            return Ok(None);
        };
        if at + 1 == names.len() {
            let node = dir.node_at(&parsed, number, &entry, Some(Arc::clone(&root.place)));
            return Ok(Some(Found { node, ancestors }));
        }
        if entry.kind() != FileType::Dir {
            return Ok(None);
        }
        // A directory that lacks its tree is damage, and no reason to look elsewhere.
        let lost = || root.place.explain(Some(name), Error::new(Kind::Corrupt, NO_TREE));
        let tree = entry.subtree().ok_or_else(lost)?;
        ancestors.push(ancestor(&entry));
        dir = TreeDir { tree, place: Arc::clone(&root.place), above: None };
    }
    Ok(None)
}

/// Who may pass a directory, of whom plain permission bits can tell. Where it has an access ACL, these are cut until
/// they let in nobody whom the ACL keeps out.
fn ancestor(entry: &NodeRef<'_>) -> Ancestor {
    let granted =
        entry.xattrs().find(|(name, _)| *name == acl::ACCESS).map_or(0o777, |(_, value)| acl::grants(value));
    Ancestor { uid: entry.uid(), gid: entry.gid(), perm: entry.perm() & 0o777 & granted }
}

/// A recorded path in its components.
pub(super) struct RecordedPath<'a> {
    pub components: Vec<&'a [u8]>,
    is_absolute: bool,
}

impl<'a> RecordedPath<'a> {
    /// Splits at `/`, and of a path with a drive (`C:\Users\x`) at `\` too; the drive itself is a directory `C`.
    pub(super) fn new(path: &'a [u8]) -> Self {
        let named = |component: &&[u8]| !component.is_empty() && *component != b".";
        match path {
            [drive, b':', rest @ ..]
                if drive.is_ascii_alphabetic() && matches!(rest, [] | [b'\\' | b'/', ..]) =>
            {
                let folders = rest.split(|byte| matches!(byte, b'\\' | b'/'));
                let drive = path.get(..1).unwrap_or_default();
                RecordedPath {
                    components: std::iter::once(drive).chain(folders).filter(named).collect(),
                    is_absolute: true,
                }
            }
            _ => RecordedPath {
                components: path.split(|byte| *byte == b'/').filter(named).collect(),
                is_absolute: path.starts_with(b"/"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(path: &str) -> (Vec<String>, bool) {
        let path = RecordedPath::new(path.as_bytes());
        let text = |component: &&[u8]| String::from_utf8(component.to_vec()).unwrap();
        (path.components.iter().map(text).collect(), path.is_absolute)
    }

    #[test]
    fn paths_of_every_writer_fall_into_components() {
        for (path, components, is_absolute) in [
            ("/srv/data", &["srv", "data"][..], true),
            ("/", &[], true),
            ("//srv//data/", &["srv", "data"], true),
            ("src", &["src"], false),
            (".", &[], false),
            ("./src/./x", &["src", "x"], false),
            ("../x", &["..", "x"], false),
            (r"C:\Users\x", &["C", "Users", "x"], true),
            (r"C:/Users\x", &["C", "Users", "x"], true),
            (r"C:\", &["C"], true),
            ("C:", &["C"], true),
            ("C:x", &["C:x"], false),
            (r"/a\b/c", &["a\\b", "c"], true),
        ] {
            assert_eq!(
                split(path),
                (components.iter().map(|c| c.to_string()).collect(), is_absolute),
                "{path}"
            );
        }
    }
}
