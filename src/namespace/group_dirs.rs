//! The directories of groups: the one that lists members, and the light handle that stands for each member's tree.

use std::sync::Arc;

use super::Namespace;
use super::dirs::{directory, entry, following, root};
use super::group::{Group, Roster};
use crate::error::{Error, Kind};
use crate::tree::{
    Ancestor, Content, Cookie, Dir, FileType, Identity, Listing, Meta, Node, Sink, Step, Time,
};

/// The directory of a group.
pub(super) fn group(ns: &Arc<Namespace>, group: &Arc<Group>) -> Node {
    directory(group_meta(ns, group), GroupDir { ns: ns.clone(), group: group.clone() })
}

/// Its attributes.
pub(super) fn group_meta(ns: &Namespace, group: &Group) -> Meta {
    following(ns, group.changed().unwrap_or(ns.started))
}

fn member_meta(ns: &Namespace, changed: Time, Ancestor { uid, gid, perm }: Ancestor) -> Meta {
    Meta { uid, gid, perm, ..following(ns, changed) }
}

struct GroupDir {
    ns: Arc<Namespace>,
    group: Arc<Group>,
}

impl GroupDir {
    fn member(&self, roster: &Roster, member: Arc<str>) -> Step<Node> {
        let (ns, group, changed) = (self.ns.clone(), self.group.clone(), roster.changed);
        self.group.guard(&member, ns.options.shared).map(move |shown| {
            let meta = member_meta(&ns, changed, shown);
            Ok(directory(meta, MemberDir { group, member }))
        })
    }
}

impl Clone for GroupDir {
    fn clone(&self) -> Self {
        GroupDir { ns: self.ns.clone(), group: self.group.clone() }
    }
}

impl Dir for GroupDir {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        self.ns.touch();
        let (dir, name) = (self.clone(), name.to_vec());
        self.group.roster().then(move |roster| match dir.group.member(&roster, &name) {
            Some(member) => dir.member(&roster, member).map(|node| Ok(Some(node))),
            // "No such member" is only for who knows them all.
            None => dir.group.gap().map_or_else(|| Step::ok(None), Step::err),
        })
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        self.ns.touch();
        let dir = self.clone();
        self.group.roster().map(move |roster| Ok(Arc::new(GroupListing { dir, roster }) as Arc<dyn Listing>))
    }
}

struct GroupListing {
    dir: GroupDir,
    roster: Arc<Roster>,
}

impl GroupListing {
    fn meta(&self) -> Option<Meta> {
        let shown = self.dir.group.known_guard(self.dir.ns.options.shared)?;
        Some(member_meta(&self.dir.ns, self.roster.changed, shown))
    }
}

impl Listing for GroupListing {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        let meta = self.meta();
        for (name, at) in self.roster.from(from) {
            if sink.entry(&entry(*at, name.as_bytes(), FileType::Dir, Identity::Path, meta)).is_break() {
                return;
            }
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        let meta = self.meta()?;
        let (member, _) = self.roster.from(at).next().filter(|(_, found)| *found == at)?;
        Some(directory(meta, MemberDir { group: self.dir.group.clone(), member: member.clone() }))
    }
}

/// Stands for the root of a member's tree, and holds nothing of it: the kernel may know many.
struct MemberDir {
    group: Arc<Group>,
    member: Arc<str>,
}

impl MemberDir {
    fn tree(&self) -> Step<Arc<dyn Dir>> {
        self.group.tree(&self.member).map(|tree| match root(&tree).content {
            Content::Dir(dir) => Ok(dir),
            _ => Err(Error::new(Kind::Internal, "a root that is no directory")),
        })
    }
}

impl Dir for MemberDir {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        let name = name.to_vec();
        self.tree().then(move |dir| dir.lookup(&name))
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        self.tree().then(|dir| dir.listing())
    }
}
