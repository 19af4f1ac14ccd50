//! Opening a date: the first copy that can be had, dressed as the place where it is shown wants it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::guard::{ROOT_ONLY, replacement};
use super::labels::{ACCESS_ACL, Labels};
use super::name::shows;
use crate::error::{Context, Error, Kind, Result};
use crate::tree::{
    Ancestor, Ancestors, Content, Cookie, Dir, Entry, Identity, Listing, Meta, Node, Opened, Sink, Snapshot,
    Source, Step, Validity,
};

/// How long a copy may keep one waiting while there is another to try.
const PATIENCE: Duration = Duration::from_secs(5);

/// One place to read a date from.
pub(super) struct Candidate {
    pub source: Arc<dyn Source>,
    pub snapshot: Snapshot,
    /// Index in the snapshot's paths.
    pub path: usize,
    /// Who may pass where the ancestors are not recorded.
    pub access: Option<Ancestor>,
}

/// How the place where a date is shown wants it.
pub(super) struct Place {
    pub identity: Identity,
    pub validity: Validity,
    /// The name of the date.
    pub name: Arc<str>,
    /// Whether others are let in.
    pub shared: bool,
    /// What the directory above it shows of the ancestors.
    pub passed: Option<Ancestor>,
}

impl Candidate {
    fn open(&self) -> Step<Opened> {
        self.source.open(&self.snapshot.id, self.path)
    }

    /// What lay above the path, as far as it decides who may pass.
    pub(super) fn above(&self, ancestors: &Ancestors) -> Vec<Ancestor> {
        match ancestors {
            Ancestors::Recorded(above) => above.clone(),
            Ancestors::Unknown => vec![self.access.unwrap_or(ROOT_ONLY)],
        }
    }
}

/// Opens the first of `candidates` that answers; sources known to be down are asked last. Errors: the first one's, a
/// path that a snapshot lists and its tree lacks being `Corrupt`.
pub(super) fn open_first(mut candidates: Vec<Candidate>) -> Step<(Candidate, Opened)> {
    if candidates.len() > 1 {
        candidates.sort_by_cached_key(|candidate| candidate.source.health().error.is_some());
    }
    let mut failed = None;
    let mut left = candidates.into_iter();
    while let Some(candidate) = left.next() {
        match candidate.open() {
            Step::Ready(Ok(opened)) => return Step::ok((candidate, opened)),
            Step::Ready(Err(error)) => {
                failed.get_or_insert(explain(error));
            }
            Step::Wait(first) => {
                return Step::wait(async move {
                    let mut waiting = (candidate, Step::Wait(first));
                    loop {
                        let (candidate, step) = waiting;
                        match patient(&candidate, step, left.len() > 0).await {
                            Ok(opened) => return Ok((candidate, opened)),
                            Err(error) => failed.get_or_insert(explain(error)),
                        };
                        let Some(next) = left.next() else { return Err(first_of(failed)) };
                        let step = next.open();
                        waiting = (next, step);
                    }
                });
            }
        }
    }
    Step::err(first_of(failed))
}

async fn patient(candidate: &Candidate, step: Step<Opened>, others: bool) -> Result<Opened> {
    if !others {
        return step.resolve().await;
    }
    let answer = tokio::time::timeout(PATIENCE, step.resolve()).await;
    answer.unwrap_or_else(|_| {
        let name = candidate.source.name();
        Err(Error::new(Kind::TimedOut, format!("{name}: no answer yet, trying another copy")))
    })
}

fn explain(error: Error) -> Error {
    // The snapshot promises its paths: to lack one is damage, not an answer about the name that was looked up.
    if error.kind() == Kind::NotFound { error.with_kind(Kind::Corrupt) } else { error }
}

fn first_of(failed: Option<Error>) -> Error {
    failed.unwrap_or_else(|| Error::new(Kind::Internal, "a date without a snapshot"))
}

/// Makes the node to show of an opened path.
pub(super) fn dress(candidate: Candidate, opened: Opened, place: Place) -> Step<Node> {
    let above = if place.shared { candidate.above(&opened.ancestors) } else { Vec::new() };
    let node = match opened.node.content {
        Content::Dir(_) => opened.node,
        _ => holder(opened.name, opened.node, candidate.snapshot.time.instant),
    };
    let acl = match &node.xattrs {
        Some(xattrs)
            if node.meta.has_xattrs
                && replacement(&node.meta, true, &above, place.passed.as_ref()).is_some() =>
        {
            xattrs.get(ACCESS_ACL).map(|acl| Ok(acl.is_some()))
        }
        _ => Step::ok(false),
    };
    acl.map(move |acl| {
        let shown = replacement(&node.meta, acl, &above, place.passed.as_ref());
        let Ancestor { uid, gid, perm } =
            shown.unwrap_or(Ancestor { perm: node.meta.perm, ..Ancestor::of(&node.meta) });
        let labels = Labels {
            source: candidate.source,
            snapshot: candidate.snapshot,
            path: candidate.path,
            name: place.name,
            recorded: node.xattrs,
            without_acl: shown.is_some(),
        };
        let (identity, validity) = (place.identity, place.validity);
        let meta = Meta { uid, gid, perm, identity, validity, has_xattrs: true, ..node.meta };
        Ok(Node { meta, content: node.content, xattrs: Some(Arc::new(labels)) })
    })
}

/// The error of a date, saying which one.
pub(super) fn named<T>(step: Result<T>, set: &[u8], date: &str) -> Result<T> {
    step.context(|| format!("{}/{date}", set.escape_ascii()))
}

/// A directory around a path that is none: a file, or what came from stdin.
fn holder(name: Arc<[u8]>, node: Node, time: crate::tree::Time) -> Node {
    let name = if shows(&name) { name } else { b"content".as_slice().into() };
    let meta = Meta::directory(time, Validity::Forever);
    Node { meta, content: Content::Dir(Arc::new(Holder(Arc::new(Held { name, node })))), xattrs: None }
}

struct Holder(Arc<Held>);

struct Held {
    name: Arc<[u8]>,
    node: Node,
}

impl Dir for Holder {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        Step::ok((*self.0.name == *name).then(|| self.0.node.clone()))
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        Step::ok(self.0.clone())
    }
}

impl Listing for Held {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        if from == 0 {
            let Meta { kind, identity, .. } = self.node.meta;
            let entry =
                Entry { at: 0, next: 1, name: &self.name, kind, identity, meta: Some(self.node.meta) };
            let (ControlFlow::Continue(()) | ControlFlow::Break(())) = sink.entry(&entry);
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        (at == 0).then(|| self.node.clone())
    }
}

#[cfg(test)]
mod tests {
    use crate::error::{Error, Kind};
    use crate::namespace::fake::{
        self, Describe, FakeSource, dir, file, opened, owned, recorded, with_xattrs,
    };
    use crate::namespace::testbed::{Bed, dir as as_dir, list, member};
    use crate::namespace::{Access, Options};
    use crate::tree::{Ancestors, Content, FileType, Identity, Snapshot, Step};

    const DATE: &str = "h@+home+lab+pub/20260301_030000";
    const CURRENT: &str = "current/h@+home+lab+pub";

    fn taken(short: &str) -> Snapshot {
        fake::snapshot(short).host("h").paths(&["/home/lab/pub"])
    }

    fn down() -> Option<Error> {
        Some(Error::new(Kind::Unavailable, "the server is away"))
    }

    /// Owner, group and mode as shown.
    fn shown(bed: &Bed, path: &str) -> (u32, u32, u16) {
        let meta = bed.at(path).meta;
        (meta.uid, meta.gid, meta.perm)
    }

    #[test]
    fn a_date_carries_the_recorded_attributes_of_its_path() {
        let snapshot = taken("aa");
        let source = FakeSource::with("r", vec![snapshot.clone()]);
        let node = with_xattrs(dir(owned(7, 8, 0o1711), vec![]), &[("user.comment", "x")]);
        let recorded_meta = node.meta;
        source.tree(&snapshot, 0, Ok(opened("pub", node, Ancestors::Unknown)));
        let bed = Bed::new(&[&source]);
        for path in [DATE, CURRENT] {
            let meta = bed.at(path).meta;
            assert_eq!((meta.uid, meta.gid, meta.perm, meta.mtime), (7, 8, 0o1711, recorded_meta.mtime));
            assert_eq!(bed.xattr(path, "user.comment").as_deref(), Some("x"));
            assert_eq!(bed.xattr(path, "user.backupfs.snapshot").as_deref(), Some("20260301_030000"));
        }
    }

    #[test]
    fn one_snapshot_shown_in_several_places_is_several_directories() {
        let bed = Bed::new(&[&FakeSource::with("r", vec![taken("aa")])]);
        let paths = [
            DATE,
            &format!("{DATE}-aaaaaaaa"),
            CURRENT,
            "at/2026-03-01/h@+home+lab+pub",
            "at/today/h@+home+lab+pub",
        ];
        let mut keys: Vec<u128> = Vec::new();
        for path in paths {
            let Identity::Key(key) = bed.at(path).meta.identity else {
                panic!("{path} has no identity of its own")
            };
            assert!(!keys.contains(&key), "{path}");
            keys.push(key);
            assert_eq!(bed.at(path).meta.identity, Identity::Key(key), "and always the same");
        }
        let again = Bed::new(&[&FakeSource::with("r", vec![taken("aa")])]);
        assert_eq!(again.at(DATE).meta.identity, Identity::Key(keys[0]), "over remounts too");
    }

    #[test]
    fn a_path_that_is_a_file_is_shown_in_a_directory() {
        let snapshot = fake::snapshot("aa").host("h").paths(&["/db/dump.sql"]);
        let source = FakeSource::with("r", vec![snapshot.clone()]);
        source.tree(&snapshot, 0, Ok(opened("dump.sql", file(b"select"), recorded(&[]))));
        let bed = Bed::new(&[&source]);
        let date = bed.at("h@+db+dump.sql/20260301_030000");
        assert_eq!((date.meta.kind, date.meta.perm, date.meta.uid), (FileType::Dir, 0o755, 0));
        assert_eq!(date.meta.mtime, snapshot.time.instant);
        let entries = list(&date, 0);
        assert_eq!(entries.len(), 1);
        let node = bed.at("h@+db+dump.sql/20260301_030000/dump.sql");
        assert_eq!((entries[0].name.as_str(), entries[0].meta), ("dump.sql", Some(node.meta)));
        assert_eq!(node.meta.size, 6);
        assert!(list(&date, entries[0].at + 1).is_empty());
        let Step::Ready(listing) = as_dir(&date).listing() else { panic!("waits") };
        let listing = listing.unwrap();
        assert!(matches!(listing.node(0).unwrap().content, Content::File(_)) && listing.node(1).is_none());
        assert!(!bed.has("current/h@+db+dump.sql/other"));
    }

    #[test]
    fn a_file_without_a_usable_name_is_called_content() {
        let snapshot = taken("aa");
        let source = FakeSource::with("r", vec![snapshot.clone()]);
        source.tree(&snapshot, 0, Ok(opened("..", file(b"x"), recorded(&[]))));
        let bed = Bed::new(&[&source]);
        assert_eq!(bed.ls(DATE), ["content"]);
    }

    #[test]
    fn a_damaged_tree_costs_its_date_alone() {
        let (bad, good) = (taken("aa"), taken("bb").at("2026-03-02T03:00:00Z"));
        let source = FakeSource::with("r", vec![bad.clone(), good]);
        source.tree(&bad, 0, Err(Error::new(Kind::Corrupt, "tree 1234: bad MAC")));
        let bed = Bed::new(&[&source]);
        assert_eq!(
            bed.ls("h@+home+lab+pub"),
            ["latest", "20260301_030000", "20260302_030000"],
            "listed all the same"
        );
        let error = bed.find(DATE).err().unwrap();
        assert_eq!(error.kind(), Kind::Corrupt);
        let text = error.to_string();
        assert!(text.starts_with("h@+home+lab+pub/20260301_030000: r: snapshot aaaa"), "{text}");
        assert_eq!(text.matches("snapshot").count(), 1, "{text}");
        assert!(bed.has("h@+home+lab+pub/20260302_030000") && bed.has(CURRENT));
        source.tree(&bad, 0, Err(Error::new(Kind::NotFound, "no /home in the tree")));
        assert_eq!(
            bed.find(DATE).err().unwrap().kind(),
            Kind::Corrupt,
            "a listed name is never said not to exist"
        );
    }

    #[test]
    fn a_date_is_read_from_the_first_copy_that_is_up() {
        let one = taken("aa");
        let (first, second) = (
            FakeSource::with("a", vec![one.clone()]),
            FakeSource::with("b", vec![fake::snapshot("bb").copy_of(&one)]),
        );
        let bed = Bed::new(&[&first, &second]);
        assert_eq!(bed.xattr(DATE, "user.backupfs.source").as_deref(), Some("a"));
        assert_eq!(second.opens(), 0);
        first.down(down());
        let opens = first.opens();
        assert_eq!(bed.xattr(DATE, "user.backupfs.source").as_deref(), Some("b"));
        assert_eq!(bed.id(DATE), "bb".repeat(32));
        assert_eq!(first.opens(), opens, "a source known to be down is asked last");
        second.down(down());
        assert!(
            bed.find(DATE).err().unwrap().to_string().contains(": a: snapshot aaaa"),
            "the first one's error"
        );
        first.down(None);
        first.tree(&one, 0, Err(Error::new(Kind::Corrupt, "bad MAC")));
        second.down(None);
        assert_eq!(bed.id(DATE), "bb".repeat(32), "damage in one copy");
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_does_not_answer_gives_way_to_the_next() {
        let one = taken("aa");
        let (first, second) = (
            FakeSource::with("a", vec![one.clone()]),
            FakeSource::with("b", vec![fake::snapshot("bb").copy_of(&one)]),
        );
        let bed = Bed::new(&[&first, &second]);
        first.stall(true);
        let node = bed.wait(&format!("{DATE}/id")).await.unwrap().unwrap();
        assert_eq!(node.meta.size, 64);
        let started = tokio::time::Instant::now();
        bed.wait(DATE).await.unwrap().unwrap();
        assert_eq!(started.elapsed(), super::PATIENCE);
        second.stall(true);
        let slow = bed.wait(DATE);
        tokio::pin!(slow);
        assert!(
            tokio::time::timeout(super::PATIENCE * 4, &mut slow).await.is_err(),
            "the last one may take its time"
        );
        second.stall(false);
        assert!(slow.await.unwrap().is_some());
    }

    #[test]
    fn in_a_shared_mount_the_set_keeps_out_whom_the_ancestors_kept_out() {
        let snapshot = taken("aa");
        let source = FakeSource::with("r", vec![snapshot.clone()]);
        let above = recorded(&[(0, 0, 0o755), (0, 0, 0o755), (1000, 1000, 0o700)]);
        source.tree(&snapshot, 0, Ok(opened("pub", dir(owned(1000, 50, 0o755), vec![]), above)));
        let bed = Bed::shared(&[&source]);
        assert_eq!(shown(&bed, "h@+home+lab+pub"), (1000, 1000, 0o700));
        assert_eq!(shown(&bed, DATE), (1000, 50, 0o755), "below it the date shows its own");
        for path in [CURRENT, "at/today/h@+home+lab+pub", "at/2026-03-01/h@+home+lab+pub"] {
            assert_eq!(shown(&bed, path), (1000, 1000, 0o700), "{path}: nothing above it keeps anyone out");
        }
        let private = Bed::new(&[&source]);
        assert_eq!(shown(&private, "h@+home+lab+pub"), (0, 0, 0o755));
        assert_eq!(shown(&private, CURRENT), (1000, 50, 0o755), "a private mount shows what was recorded");
    }

    #[test]
    fn a_date_with_stricter_ancestors_than_the_newest_is_protected_itself() {
        let (old, new) = (taken("aa"), taken("bb").at("2026-03-02T03:00:00Z"));
        let source = FakeSource::with("r", vec![old.clone(), new.clone()]);
        let tree = |perm| {
            opened("pub", dir(owned(1000, 50, 0o755), vec![]), recorded(&[(0, 0, 0o755), (1000, 1000, perm)]))
        };
        source.tree(&old, 0, Ok(tree(0o700)));
        source.tree(&new, 0, Ok(tree(0o755)));
        let bed = Bed::shared(&[&source]);
        assert_eq!(shown(&bed, "h@+home+lab+pub").2 & 0o111, 0o111);
        assert_eq!(shown(&bed, DATE), (1000, 1000, 0o700));
        assert_eq!(shown(&bed, "h@+home+lab+pub/20260302_030000"), (1000, 50, 0o755));
    }

    #[tokio::test(start_paused = true)]
    async fn what_dates_rely_on_never_loosens_while_the_mount_lives() {
        let (old, new) = (taken("aa"), taken("bb").at("2026-03-02T03:00:00Z"));
        let source = FakeSource::with("r", vec![old.clone()]);
        let tree = |perm| opened("pub", dir(owned(1000, 50, 0o755), vec![]), recorded(&[(1000, 1000, perm)]));
        source.tree(&old, 0, Ok(tree(0o700)));
        source.tree(&new, 0, Ok(tree(0o755)));
        let bed = Bed::shared(&[&source]);
        assert_eq!(shown(&bed, DATE), (1000, 50, 0o755), "kept out by the set directory");
        source.put(vec![old, new]);
        bed.ns.refresh().await;
        assert_eq!(
            shown(&bed, "h@+home+lab+pub"),
            (1000, 1000, 0o700),
            "whoever keeps the date's inode stays safe"
        );
    }

    #[test]
    fn unknown_ancestors_leave_the_set_to_root_or_to_whom_the_source_says() {
        let snapshot = taken("aa");
        let source = FakeSource::with("r", vec![snapshot.clone()]);
        source.tree(&snapshot, 0, Ok(opened("pub", dir(owned(1000, 50, 0o755), vec![]), Ancestors::Unknown)));
        let bed = Bed::shared(&[&source]);
        assert_eq!(shown(&bed, "h@+home+lab+pub"), (0, 0, 0o700));
        assert_eq!(shown(&bed, CURRENT), (0, 0, 0o700));
        let mut lab = member(&source);
        lab.access = Some(Access { uid: 0, gid: 50, perm: 0o750 });
        let bed = Bed::with(vec![lab], Options { shared: true, ..Options::default() }, "UTC");
        assert_eq!(shown(&bed, "h@+home+lab+pub"), (0, 50, 0o750));
        assert_eq!(shown(&bed, DATE), (1000, 50, 0o755));
        assert_eq!(shown(&bed, CURRENT), (0, 50, 0o750));
    }

    #[test]
    fn an_acl_does_not_speak_where_the_mode_of_another_directory_is_shown() {
        let snapshot = taken("aa");
        let source = FakeSource::with("r", vec![snapshot.clone()]);
        let tree = |above| {
            let node = dir(owned(1000, 1000, 0o750), vec![]);
            opened(
                "pub",
                with_xattrs(node, &[("system.posix_acl_access", "u:bob:x"), ("user.a", "b")]),
                recorded(above),
            )
        };
        source.tree(&snapshot, 0, Ok(tree(&[(1000, 1000, 0o750)])));
        let bed = Bed::shared(&[&source]);
        assert_eq!(shown(&bed, CURRENT), (0, 0, 0o700), "bob could not pass the ancestor");
        assert_eq!(bed.xattr(CURRENT, "system.posix_acl_access"), None);
        assert_eq!(bed.xattr(CURRENT, "user.a").as_deref(), Some("b"));
        assert_eq!(
            bed.xattr(DATE, "system.posix_acl_access").as_deref(),
            Some("u:bob:x"),
            "the set keeps bob out"
        );
        source.tree(&snapshot, 0, Ok(tree(&[(0, 0, 0o755)])));
        let bed = Bed::shared(&[&source]);
        assert_eq!(shown(&bed, CURRENT), (1000, 1000, 0o750), "open ancestors: as recorded");
        assert_eq!(bed.xattr(CURRENT, "system.posix_acl_access").as_deref(), Some("u:bob:x"));
    }

    #[test]
    fn a_damaged_newest_tree_does_not_shut_the_set() {
        let (old, new) = (taken("aa"), taken("bb").at("2026-03-02T03:00:00Z"));
        let source = FakeSource::with("r", vec![old, new.clone()]);
        source.tree(&new, 0, Err(Error::new(Kind::Corrupt, "bad MAC")));
        let bed = Bed::shared(&[&source]);
        assert_eq!(shown(&bed, "h@+home+lab+pub"), (0, 0, 0o755));
        assert!(bed.has(DATE));
    }

    #[test]
    fn a_date_does_not_rely_on_a_set_that_is_not_settled() {
        let old = taken("aa");
        let newer = |n| taken(&format!("b{n}")).at(&format!("2026-03-1{n}T03:00:00Z"));
        let newer: Vec<Snapshot> = (0..8).map(newer).collect();
        let source = FakeSource::with("r", [&newer[..], std::slice::from_ref(&old)].concat());
        for damaged in &newer {
            source.tree(damaged, 0, Err(Error::new(Kind::Corrupt, "bad MAC")));
        }
        let private = recorded(&[(1000, 1000, 0o700)]);
        source.tree(&old, 0, Ok(opened("pub", dir(owned(1000, 50, 0o755), vec![]), private)));
        let bed = Bed::shared(&[&source]);
        assert_eq!(
            shown(&bed, "h@+home+lab+pub"),
            (0, 0, 0o700),
            "nothing could be learnt in reasonable time"
        );
        assert_eq!(shown(&bed, DATE), (1000, 1000, 0o700), "the set may open when a good snapshot comes");
    }

    #[test]
    fn while_a_source_is_down_nobody_is_let_into_a_set_that_was_never_seen() {
        let source = FakeSource::with("r", vec![taken("aa")]);
        let bed = Bed::shared(&[&source]);
        source.down(down());
        assert_eq!(bed.ls("/"), ["current", "at", "h@+home+lab+pub"], "listing opens nothing");
        assert!(bed.entries("/")[2].meta.is_none());
        assert_eq!(bed.find("h@+home+lab+pub").err().unwrap().kind(), Kind::Unavailable);
        source.down(None);
        assert!(bed.has("h@+home+lab+pub"));
        source.down(down());
        assert!(bed.has("h@+home+lab+pub") && bed.entries("/")[2].meta.is_some(), "known by now");
    }
}
