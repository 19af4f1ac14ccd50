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
                failed.get_or_insert(explain(error, &candidate));
            }
            Step::Wait(first) => {
                return Step::wait(async move {
                    let mut waiting = (candidate, Step::Wait(first));
                    loop {
                        let (candidate, step) = waiting;
                        match patient(step, left.len() > 0).await {
                            Ok(opened) => return Ok((candidate, opened)),
                            Err(error) => failed.get_or_insert(explain(error, &candidate)),
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

async fn patient(step: Step<Opened>, others: bool) -> Result<Opened> {
    if !others {
        return step.resolve().await;
    }
    let answer = tokio::time::timeout(PATIENCE, step.resolve()).await;
    answer.unwrap_or_else(|_| Err(Error::new(Kind::TimedOut, "no answer yet, trying another copy")))
}

fn explain(error: Error, candidate: &Candidate) -> Error {
    // The snapshot promises its paths: to lack one is damage, not an answer about the name that was looked up.
    let error = if error.kind() == Kind::NotFound { error.with_kind(Kind::Corrupt) } else { error };
    error.context(format!("{}: snapshot {}", candidate.source.name(), candidate.snapshot.id))
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
