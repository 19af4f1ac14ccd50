//! Which extended attributes of a node are shown, and with which values.
//!
//! Linux can carry values of 64 KiB and lists of 64 KiB. What is larger, or has a name that Linux has no room for, is
//! hidden and logged: an error there would make `rsync -X` fail for the whole file.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failures::Failures;
use super::owner::Owners;
use super::{XattrPolicy, acl};
use crate::error::Result;
use crate::tree::{FileType, Meta, Node, Step, TRUSTED_XATTRS as TRUSTED};
use bytes::Bytes;

/// The label of SELinux, for which `ls -l` asks each file until it hears that the file system has none.
const LABEL: &[u8] = b"security.selinux";

const LIMIT: usize = 64 * 1024;
const NAME_LIMIT: usize = 255;

/// The rules of a mount.
#[derive(Clone)]
pub(super) struct Rules {
    pub policy: XattrPolicy,
    /// Whether anything may have ACLs.
    acls: bool,
    pub owners: Arc<Owners>,
    pub failures: Failures,
    /// Whether the kernel was told of a file that has attributes.
    attributed: Arc<AtomicBool>,
}

impl Rules {
    /// Nothing was shown yet.
    pub fn new(policy: XattrPolicy, acls: bool, owners: Arc<Owners>, failures: Failures) -> Self {
        Rules { policy, acls, owners, failures, attributed: Arc::default() }
    }

    /// Takes note of a node that the kernel is told of. Directories do not count: made-up ones have attributes of ours.
    pub fn shown(&self, meta: &Meta) {
        if meta.has_xattrs && meta.kind != FileType::Dir && !self.attributed.load(Ordering::Relaxed) {
            self.attributed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether `name` can be had in this mount at all. Labels cannot, as far as anybody knows, until a file with
    /// attributes was met: whoever backs up labels has them on every file. Nor can ACLs where no source has any; one that
    /// has may have been added since.
    pub fn supports(&self, name: &[u8]) -> bool {
        let is_rare = name == LABEL || !self.acls && is_acl(name);
        self.shows(name) && (!is_rare || self.attributed.load(Ordering::Relaxed))
    }

    /// The value of `name` as shown, or `None`.
    pub fn get(&self, node: &Node, name: &[u8]) -> Step<Option<Bytes>> {
        let Some(xattrs) = node.xattrs.as_ref().filter(|_| self.shows(name)) else { return Step::ok(None) };
        let is_acl = is_acl(name);
        let rules = self.clone();
        xattrs.get(name).map(move |value| {
            let value = match value {
                Some(value) if is_acl => acl::translate(&value, &rules.owners),
                value => value,
            };
            Ok(value.filter(|value| value.len() <= LIMIT))
        })
    }

    /// The names as listxattr(2) returns them, each ended by a NUL. `trusted.` is for the privileged, as elsewhere.
    pub fn list(&self, node: &Node, privileged: bool) -> Step<Bytes> {
        let is_shown = privileged && self.shows(TRUSTED);
        if !(node.meta.has_xattrs || is_shown) || self.policy == XattrPolicy::None {
            return Step::ok(Bytes::new());
        }
        let Some(xattrs) = node.xattrs.clone() else { return Step::ok(Bytes::new()) };
        let (rules, node) = (self.clone(), node.clone());
        let names = if is_shown { xattrs.names() } else { xattrs.names_but_trusted() };
        names.then(move |mut names| {
            names.retain(|name| rules.shows(name) && (privileged || !name.starts_with(TRUSTED)));
            rules.showable(&node, names)
        })
    }

    /// The attributes of `node`, with its group bits cut where its ACL is not shown and hence not enforced.
    pub fn meta(&self, node: &Node) -> Step<Meta> {
        let meta = node.meta;
        match &node.xattrs {
            Some(xattrs) if meta.has_xattrs && self.cuts() => xattrs.get(acl::ACCESS).map(move |value| {
                let perm = value.map_or(meta.perm, |acl| acl::cut_group(meta.perm, &acl));
                Ok(Meta { perm, ..meta })
            }),
            _ => Step::ok(meta),
        }
    }

    /// Whether ACLs are not shown, so that group bits have to be cut.
    pub fn cuts(&self) -> bool {
        self.policy != XattrPolicy::All
    }

    fn shows(&self, name: &[u8]) -> bool {
        match self.policy {
            XattrPolicy::All => true,
            XattrPolicy::User => name.starts_with(b"user."),
            XattrPolicy::None => false,
        }
    }

    /// Leaves out what has no value that could be shown: only asking for it tells.
    fn showable(&self, node: &Node, names: Vec<Bytes>) -> Step<Bytes> {
        let mut values: Vec<(Bytes, Step<Option<Bytes>>)> = Vec::with_capacity(names.len());
        for name in names {
            let value = self.get(node, &name);
            values.push((name, value));
        }
        if values.iter().all(|(_, value)| matches!(value, Step::Ready(_))) {
            let ready = values.into_iter().filter_map(|(name, value)| match value {
                Step::Ready(value) => Some((name, value)),
                Step::Wait(_) => None,
            });
            return Step::Ready(self.joined(ready));
        }
        let rules = self.clone();
        Step::wait(async move {
            let mut resolved = Vec::with_capacity(values.len());
            for (name, value) in values {
                resolved.push((name, value.resolve().await));
            }
            rules.joined(resolved.into_iter())
        })
    }

    fn joined(&self, values: impl Iterator<Item = (Bytes, Result<Option<Bytes>>)>) -> Result<Bytes> {
        let mut list = Vec::new();
        let mut hidden = Vec::new();
        for (name, value) in values {
            let fits = !name.is_empty()
                && name.len() <= NAME_LIMIT
                && !name.contains(&0)
                && list.len() + name.len() < LIMIT;
            if value?.is_some() && fits {
                list.extend_from_slice(&name);
                list.push(0);
            } else {
                hidden.push(String::from_utf8_lossy(&name).into_owned());
            }
        }
        if !hidden.is_empty() {
            self.failures
                .mention(&format!("extended attributes that Linux cannot carry are not shown: {hidden:?}"));
        }
        Ok(list.into())
    }
}

fn is_acl(name: &[u8]) -> bool {
    name == acl::ACCESS || name == acl::DEFAULT
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::error::{Error, Kind};
    use crate::fuse::{IdMap, Owner};
    use crate::tree::{Content, Time, Validity, Xattrs};

    struct Map(BTreeMap<&'static str, Vec<u8>>);

    impl Xattrs for Map {
        fn get(&self, name: &[u8]) -> Step<Option<Bytes>> {
            let value = self.0.iter().find(|(n, _)| n.as_bytes() == name).map(|(_, v)| v.clone().into());
            if name == b"user.slow" { Step::wait(async { Ok(value) }) } else { Step::ok(value) }
        }
        fn names(&self) -> Step<Vec<Bytes>> {
            Step::ok(self.0.keys().filter(|n| !n.contains("hidden")).map(|n| n.as_bytes().into()).collect())
        }
    }

    fn node(attributes: &[(&'static str, Vec<u8>)], has_xattrs: bool) -> Node {
        let meta = Meta::directory(Time::default(), Validity::Forever);
        let map = Map(attributes.iter().cloned().collect());
        Node {
            meta: Meta { has_xattrs, perm: 0o770, ..meta },
            content: Content::Special,
            xattrs: Some(Arc::new(map)),
        }
    }

    fn rules(policy: XattrPolicy) -> Rules {
        let owners = Arc::new(Owners::new(Owner::Recorded, IdMap::default()));
        Rules::new(policy, true, owners, Failures::default())
    }

    fn now<T>(step: Step<T>) -> T {
        let Step::Ready(result) = step else { panic!("waits") };
        result.unwrap()
    }

    fn sample() -> Node {
        node(
            &[
                ("security.capability", vec![1]),
                ("system.posix_acl_access", acl::tests::sample()),
                ("trusted.secret", vec![2]),
                ("user.comment", b"hello".to_vec()),
                ("user.hidden", vec![3]),
                ("user.huge", vec![0; LIMIT + 1]),
            ],
            true,
        )
    }

    #[test]
    fn all_lists_all_that_linux_can_carry_and_trusted_only_to_the_privileged() {
        let list = now(rules(XattrPolicy::All).list(&sample(), true));
        assert_eq!(
            &list[..],
            b"security.capability\0system.posix_acl_access\0trusted.secret\0user.comment\0"
        );
        let list = now(rules(XattrPolicy::All).list(&sample(), false));
        assert_eq!(&list[..], b"security.capability\0system.posix_acl_access\0user.comment\0");
    }

    #[test]
    fn what_a_mount_does_not_show_is_not_supported_and_labels_only_once_a_file_has_attributes() {
        let user = rules(XattrPolicy::User);
        assert!(user.supports(b"user.x") && !user.supports(acl::ACCESS) && !user.supports(LABEL));
        let all = rules(XattrPolicy::All);
        assert!(all.supports(acl::ACCESS) && all.supports(b"security.capability") && !all.supports(LABEL));
        all.shown(&sample().meta);
        all.shown(&Meta { kind: FileType::File, has_xattrs: false, ..sample().meta });
        assert!(!all.supports(LABEL), "of a directory, and of a file without any");
        all.clone().shown(&Meta { kind: FileType::File, ..sample().meta });
        assert!(all.supports(LABEL));
        user.shown(&Meta { kind: FileType::File, ..sample().meta });
        assert!(!user.supports(LABEL));
    }

    #[test]
    fn acls_are_not_supported_where_no_source_has_any_until_a_file_with_attributes_is_met() {
        let none = Rules { acls: false, ..rules(XattrPolicy::All) };
        assert!(!none.supports(acl::ACCESS) && !none.supports(acl::DEFAULT) && none.supports(b"user.x"));
        none.shown(&Meta { kind: FileType::File, ..sample().meta });
        assert!(none.supports(acl::ACCESS) && none.supports(acl::DEFAULT));
        let user = Rules { acls: false, ..rules(XattrPolicy::User) };
        user.shown(&Meta { kind: FileType::File, ..sample().meta });
        assert!(!user.supports(acl::ACCESS));
    }

    #[test]
    fn user_shows_only_its_name_space_and_none_nothing() {
        let user = rules(XattrPolicy::User);
        assert_eq!(&now(user.list(&sample(), true))[..], b"user.comment\0");
        assert_eq!(now(user.get(&sample(), b"security.capability")), None);
        assert_eq!(now(user.get(&sample(), b"user.comment")).unwrap(), "hello");
        let none = rules(XattrPolicy::None);
        assert!(now(none.list(&sample(), true)).is_empty());
        assert_eq!(now(none.get(&sample(), b"user.comment")), None);
    }

    /// Those of a file whose `trusted.` nobody tells.
    struct Untold;

    impl Xattrs for Untold {
        fn get(&self, _: &[u8]) -> Step<Option<Bytes>> {
            Step::ok(Some("value".into()))
        }
        fn names(&self) -> Step<Vec<Bytes>> {
            Step::Ready(Err(Error::new(Kind::Unavailable, "nobody tells")))
        }
        fn names_but_trusted(&self) -> Step<Vec<Bytes>> {
            Step::ok(vec!["user.comment".into()])
        }
    }

    #[test]
    fn nobody_is_asked_about_what_is_not_shown() {
        let untold = Node { xattrs: Some(Arc::new(Untold)), ..sample() };
        assert_eq!(&now(rules(XattrPolicy::All).list(&untold, false))[..], b"user.comment\0");
        assert_eq!(&now(rules(XattrPolicy::User).list(&untold, true))[..], b"user.comment\0");
        let Step::Ready(told) = rules(XattrPolicy::All).list(&untold, true) else { panic!("waits") };
        assert_eq!(told.unwrap_err().kind(), Kind::Unavailable);
    }

    #[test]
    fn unlisted_attributes_answer_by_name_even_where_none_are_listed() {
        let node = node(&[("user.hidden", vec![7])], false);
        assert_eq!(now(rules(XattrPolicy::All).get(&node, b"user.hidden")).unwrap(), &[7u8][..]);
        assert!(now(rules(XattrPolicy::All).list(&node, true)).is_empty());
    }

    #[test]
    fn what_is_too_large_or_malformed_is_not_shown_by_name_either() {
        let all = rules(XattrPolicy::All);
        assert_eq!(now(all.get(&sample(), b"user.huge")), None);
        let junk = node(&[("system.posix_acl_access", b"junk".to_vec())], true);
        assert_eq!(now(all.get(&junk, acl::ACCESS)), None);
        assert!(now(all.list(&junk, true)).is_empty());
    }

    #[test]
    fn a_list_is_cut_before_the_kernels_limit() {
        let names: Vec<_> =
            (0..400).map(|i| (Bytes::from(format!("user.{i:0245}")), Ok(Some(Bytes::new())))).collect();
        let list = rules(XattrPolicy::All).joined(names.into_iter()).unwrap();
        assert!(list.len() <= LIMIT && list.len() > LIMIT - 256, "{}", list.len());
        assert!(list.ends_with(b"\0"));
    }

    #[tokio::test]
    async fn a_value_that_has_to_be_waited_for_is_waited_for() {
        let slow = node(&[("user.slow", vec![1]), ("user.a", vec![2])], true);
        let list = rules(XattrPolicy::All).list(&slow, true);
        assert!(matches!(list, Step::Wait(_)));
        assert_eq!(&list.resolve().await.unwrap()[..], b"user.a\0user.slow\0");
    }

    #[test]
    fn group_bits_are_cut_exactly_where_the_acl_is_not_shown() {
        assert_eq!(now(rules(XattrPolicy::All).meta(&sample())).perm, 0o770);
        assert_eq!(now(rules(XattrPolicy::None).meta(&sample())).perm, 0o740);
        assert_eq!(now(rules(XattrPolicy::User).meta(&sample())).perm, 0o740);
        let without = node(&[("user.comment", vec![])], true);
        assert_eq!(now(rules(XattrPolicy::None).meta(&without)).perm, 0o770);
    }
}
