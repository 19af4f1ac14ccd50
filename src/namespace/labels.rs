//! `user.backupfs.*`: what a set or a date is, for those who ask by name.
//!
//! Never listed, so that `cp -a` does not copy them; what the backup itself recorded is listed as ever.

use std::sync::Arc;

use bytes::Bytes;

use super::calendar::rfc3339;
use crate::tree::{OWN_XATTRS, Snapshot, Source, Step, Xattrs};

/// The access ACL, which must go where the mode of another directory is shown.
pub(super) const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// The extended attributes of a set (then of its newest date) or of a date.
pub(super) struct Labels {
    pub source: Arc<dyn Source>,
    pub snapshot: Snapshot,
    /// Index in the snapshot's paths.
    pub path: usize,
    /// The name of the date.
    pub name: Arc<str>,
    /// What was recorded with the directory.
    pub recorded: Option<Arc<dyn Xattrs>>,
    /// Owner and mode are not the recorded ones, so a recorded access ACL must not speak.
    pub without_acl: bool,
}

impl Labels {
    fn label(&self, name: &[u8]) -> Option<Bytes> {
        let of = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
        match name.strip_prefix(OWN_XATTRS)? {
            b"source" => of(self.source.name()),
            b"snapshot" => of(&self.name),
            b"time" => of(&rfc3339(&self.snapshot.time)),
            b"tags" => of(&self.snapshot.tags.join(",")),
            b"original-path" => self.snapshot.paths.get(self.path).map(|path| Bytes::copy_from_slice(path)),
            b"id" => of(&self.snapshot.id),
            _ => None,
        }
    }
}

impl Labels {
    /// Names that were recorded, but for the ACL where that is not shown.
    fn recorded(&self, names: impl FnOnce(&dyn Xattrs) -> Step<Vec<Bytes>>) -> Step<Vec<Bytes>> {
        let Some(recorded) = &self.recorded else { return Step::ok(Vec::new()) };
        let hidden = if self.without_acl { ACCESS_ACL } else { b"" };
        names(&**recorded).map(move |names| Ok(names.into_iter().filter(|name| **name != *hidden).collect()))
    }
}

impl Xattrs for Labels {
    fn get(&self, name: &[u8]) -> Step<Option<Bytes>> {
        if let Some(value) = self.label(name) {
            return Step::ok(Some(value));
        }
        match &self.recorded {
            Some(recorded) if !(self.without_acl && name == ACCESS_ACL) => recorded.get(name),
            _ => Step::ok(None),
        }
    }

    fn names(&self) -> Step<Vec<Bytes>> {
        self.recorded(|recorded| recorded.names())
    }

    fn names_but_trusted(&self) -> Step<Vec<Bytes>> {
        self.recorded(|recorded| recorded.names_but_trusted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::fake::{self, Describe, FakeSource};

    fn get(labels: &Labels, name: &str) -> Option<String> {
        let Step::Ready(value) = labels.get(name.as_bytes()) else { panic!("waits") };
        value.unwrap().map(|v| String::from_utf8(v.to_vec()).unwrap())
    }

    fn names(labels: &Labels) -> Vec<Bytes> {
        let Step::Ready(names) = labels.names() else { panic!("waits") };
        names.unwrap()
    }

    /// A file's of which all may see one attribute.
    struct Two;

    impl Xattrs for Two {
        fn get(&self, _: &[u8]) -> Step<Option<Bytes>> {
            Step::ok(None)
        }
        fn names(&self) -> Step<Vec<Bytes>> {
            Step::ok(vec!["trusted.a".into(), "user.b".into()])
        }
        fn names_but_trusted(&self) -> Step<Vec<Bytes>> {
            Step::ok(vec!["user.b".into()])
        }
    }

    #[test]
    fn for_whom_names_are_is_passed_on() {
        let labels = Labels {
            source: FakeSource::new("home"),
            snapshot: fake::snapshot("ab"),
            path: 0,
            name: "20260301_030000".into(),
            recorded: Some(Arc::new(Two)),
            without_acl: true,
        };
        assert_eq!(names(&labels), ["trusted.a", "user.b"]);
        let Step::Ready(names) = labels.names_but_trusted() else { panic!("waits") };
        assert_eq!(names.unwrap(), ["user.b"]);
    }

    #[test]
    fn labels_answer_by_name_and_are_not_listed() {
        let recorded = [("user.comment", "x"), ("system.posix_acl_access", "acl")];
        let mut labels = Labels {
            source: FakeSource::new("home"),
            snapshot: fake::snapshot("ab")
                .at("2026-03-01T03:00:00+01:00")
                .tags(&["a", "b"])
                .paths(&["/x", "/y"]),
            path: 1,
            name: "20260301_030000".into(),
            recorded: fake::with_xattrs(fake::file(b""), &recorded).xattrs,
            without_acl: false,
        };
        for (name, value) in [
            ("source", "home"),
            ("snapshot", "20260301_030000"),
            ("time", "2026-03-01T03:00:00+01:00"),
            ("tags", "a,b"),
            ("original-path", "/y"),
            ("id", &"ab".repeat(32)),
        ] {
            assert_eq!(get(&labels, &format!("user.backupfs.{name}")).as_deref(), Some(value));
        }
        assert_eq!(get(&labels, "user.backupfs.other"), None);
        assert_eq!(get(&labels, "user.comment").as_deref(), Some("x"));
        assert_eq!(names(&labels), ["user.comment", "system.posix_acl_access"]);
        labels.without_acl = true;
        assert_eq!(get(&labels, "system.posix_acl_access"), None);
        assert_eq!(names(&labels), ["user.comment"]);
        labels.recorded = None;
        assert!(names(&labels).is_empty());
    }
}
