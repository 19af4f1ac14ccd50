//! `.backupfs/`: files that are written when somebody looks.
//!
//! Each look-up gives a file of its own, which keeps the bytes it was given: a reader never sees half of one rendering
//! and half of the next, and sizes are always right.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::Namespace;
use super::name::key;
use crate::error::{Error, Kind};
use crate::tree::{
    Content, Cookie, Dir, Entry, File, FileType, Identity, Listing, Meta, Node, Reader, Sink, Step, Validity,
};

const NAMES: [&[u8]; 3] = [b"README", b"metrics", b"status.json"];

const README: &str = "\
This is a backupfs mount: every backup snapshot as ordinary directories. It cannot be written to.

HOST@+PATH/           one backup set; the slashes of the path are written +
HOST@+PATH/DATE/      what PATH held at that moment
HOST@+PATH/latest     a link to the newest date
current/HOST@+PATH/   the newest date of each set, as a directory
at/WHEN/HOST@+PATH/   each set as of a moment: 2026-03-01, 20260301_120000, 2026-03-01T12:00Z, today, yesterday

Find a lost file:     ls -l SET/*/path/to/file
Restore it:           cp -a SET/DATE/path/to/file path/to/file.restored
Compare two dates:    diff -r SET/DATE SET/ANOTHER-DATE

status.json beside this file says how the backups' sources are doing, and metrics the same for monitoring (OpenMetrics).
`getfattr -n user.backupfs.id SET/DATE` answers which snapshot a date is; also source, snapshot, time, tags and
original-path.
";

/// The directory `.backupfs`.
pub(super) struct Generated(pub Arc<Namespace>);

impl Generated {
    fn render(&self, name: &[u8]) -> Option<Node> {
        let bytes = match name {
            b"README" => Bytes::from_static(README.as_bytes()),
            b"metrics" => self.0.metrics().into(),
            b"status.json" => {
                let mut text = serde_json::to_vec_pretty(&self.0.status()).unwrap_or_default();
                text.push(b'\n');
                text.into()
            }
            _ => return None,
        };
        let serial = self.0.serial.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let size = u64::try_from(bytes.len()).ok()?;
        let meta = Meta {
            kind: FileType::File,
            perm: 0o444,
            size,
            blocks: size.div_ceil(512),
            identity: self.0.own(Identity::Key(key(&[
                b"generated",
                name,
                &self.0.started.secs.to_be_bytes(),
                &serial,
            ]))),
            ..Meta::directory(self.0.clock.now(), Validity::For(Duration::ZERO))
        };
        Some(Node { meta, content: Content::File(Arc::new(Rendered(bytes))), xattrs: None })
    }
}

impl Dir for Generated {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        Step::ok(self.render(name))
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        let files = NAMES.iter().filter_map(|name| Some((*name, self.render(name)?))).collect();
        Step::ok(Arc::new(Files(files)))
    }
}

struct Files(Vec<(&'static [u8], Node)>);

impl Listing for Files {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        for (at, (name, node)) in (0..).zip(&self.0).skip_while(|(at, _)| *at < from) {
            let Meta { kind, identity, .. } = node.meta;
            if sink.entry(&Entry { at, next: at + 1, name, kind, identity, meta: Some(node.meta) }).is_break()
            {
                return;
            }
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        self.0.get(usize::try_from(at).ok()?).map(|(_, node)| node.clone())
    }
}

struct Rendered(Bytes);

impl File for Rendered {
    fn open(&self) -> Step<Arc<dyn Reader>> {
        Step::ok(Arc::new(Rendered(self.0.clone())))
    }
}

impl Reader for Rendered {
    fn read_at(&self, offset: u64, len: usize) -> Step<Bytes> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        Step::ok(self.0.slice(start..start.saturating_add(len).min(self.0.len())))
    }

    fn next_hole(&self, offset: u64) -> Step<u64> {
        let end = u64::try_from(self.0.len()).unwrap_or(u64::MAX);
        match offset {
            _ if offset <= end => Step::ok(end),
            _ => Step::err(Error::new(Kind::Invalid, "an offset beyond the end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::fake::{self, FakeSource};
    use crate::namespace::testbed::Bed;

    fn read(node: &Node) -> String {
        let Content::File(file) = &node.content else { panic!("no file") };
        let Step::Ready(reader) = file.open() else { panic!("waits") };
        let reader = reader.unwrap();
        let Step::Ready(bytes) = reader.read_at(0, usize::MAX) else { panic!("waits") };
        let Step::Ready(tail) = reader.read_at(node.meta.size - 1, 100) else { panic!("waits") };
        assert_eq!(&tail.unwrap()[..], b"\n", "files of text end with a line");
        let Step::Ready(beyond) = reader.read_at(node.meta.size + 5, 1) else { panic!("waits") };
        assert!(beyond.unwrap().is_empty());
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn each_look_up_gives_a_file_of_its_own_that_stays_as_it_is() {
        let source = FakeSource::new("r");
        let bed = Bed::new(&[&source]);
        let before = bed.at(".backupfs/status.json");
        source.put(vec![fake::snapshot("aa")]);
        bed.ns.refresh().await;
        let after = bed.at(".backupfs/status.json");
        assert_ne!(before.meta.identity, after.meta.identity);
        assert_eq!(before.meta.validity, Validity::For(Duration::ZERO));
        for (node, sets) in [(&before, 0), (&after, 1), (&before, 0)] {
            let text = read(node);
            assert_eq!(node.meta.size, u64::try_from(text.len()).unwrap());
            let status: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(status["sets"], sets);
        }
    }

    #[test]
    fn the_directory_is_unlisted_and_lists_its_files() {
        let bed = Bed::new(&[]);
        assert_eq!(bed.ls("/"), ["current", "at"]);
        assert_eq!(bed.ls(".backupfs"), ["README", "metrics", "status.json"]);
        assert!(!bed.has(".backupfs/other"));
        assert!(read(&bed.at(".backupfs/README")).contains("cannot be written to"));
        let dir = crate::namespace::testbed::dir(&bed.at(".backupfs"));
        let Step::Ready(listing) = dir.listing() else { panic!("waits") };
        let listing = listing.unwrap();
        let mut identities = Vec::new();
        listing.visit(1, &mut |entry: &Entry<'_>| {
            identities.push((entry.at, entry.identity));
            std::ops::ControlFlow::Break(())
        });
        assert_eq!(
            identities,
            [(1, listing.node(1).unwrap().meta.identity)],
            "what is listed is what is got"
        );
        assert!(listing.node(3).is_none());
    }

    #[test]
    fn a_rendered_file_has_no_holes() {
        let bed = Bed::new(&[]);
        let node = bed.at(".backupfs/README");
        let Content::File(file) = &node.content else { panic!("no file") };
        let Step::Ready(Ok(reader)) = file.open() else { panic!("waits") };
        assert!(matches!(reader.next_hole(3), Step::Ready(Ok(end)) if end == node.meta.size));
        assert!(matches!(reader.next_data(3), Step::Ready(Ok(Some(3)))));
        assert!(
            matches!(reader.next_hole(node.meta.size + 1), Step::Ready(Err(e)) if e.kind() == Kind::Invalid)
        );
    }
}
