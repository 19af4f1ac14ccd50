//! POSIX ACLs as extended attributes hold them: a version and entries of tag, permissions and id, little-endian.

use bytes::{BufMut, Bytes, BytesMut};

use super::owner::Owners;

/// Attribute of the ACL that decides access.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// Attribute of the ACL that new entries of a directory inherit.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
/// Owner, named user, owning group, named group, mask, others.
const TAGS: [u16; 6] = [0x01, USER, GROUP_OBJ, GROUP, 0x10, 0x20];

struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// The same ACL with the ids of named users and groups as `owners` shows them; `None` when it is malformed.
pub(super) fn translate(acl: &[u8], owners: &Owners) -> Option<Bytes> {
    let mut shown = BytesMut::with_capacity(acl.len());
    shown.put_u32_le(VERSION);
    for entry in parse(acl)? {
        let id = match entry.tag {
            USER => owners.user(entry.id),
            GROUP => owners.group(entry.id),
            _ => entry.id,
        };
        shown.put_u16_le(entry.tag);
        shown.put_u16_le(entry.perm);
        shown.put_u32_le(id);
    }
    Some(shown.freeze())
}

/// `perm` with its group bits cut to what the ACL grants the owning group. With an ACL the group bits of a mode are the
/// ACL's mask: where the ACL itself is not shown, they would promise the group what only named users were given.
pub(super) fn cut_group(perm: u16, acl: &[u8]) -> u16 {
    let group = parse(acl).and_then(|entries| entries.into_iter().find(|e| e.tag == GROUP_OBJ));
    group.map_or(perm, |group| perm & (!0o070 | (group.perm & 0o7) << 3))
}

fn parse(acl: &[u8]) -> Option<Vec<Entry>> {
    let (version, entries) = acl.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
        return None;
    }
    entries
        .iter()
        .map(|&[t0, t1, p0, p1, i0, i1, i2, i3]| {
            let (tag, perm) = (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([p0, p1]));
            let id = u32::from_le_bytes([i0, i1, i2, i3]);
            (TAGS.contains(&tag) && perm <= 0o7).then_some(Entry { tag, perm, id })
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::fuse::{IdMap, IdRange, Owner};

    /// `user::rwx user:1001:rw- group::r-- group:50:rwx mask::rwx other::---`
    pub(crate) fn sample() -> Vec<u8> {
        let mut acl = 2u32.to_le_bytes().to_vec();
        for (tag, perm, id) in
            [(1u16, 7u16, !0u32), (2, 6, 1001), (4, 4, !0), (8, 7, 50), (16, 7, !0), (32, 0, !0)]
        {
            acl.extend(tag.to_le_bytes());
            acl.extend(perm.to_le_bytes());
            acl.extend(id.to_le_bytes());
        }
        acl
    }

    fn owners() -> Owners {
        let idmap = IdMap {
            uids: vec![IdRange { recorded: 1000, shown: 5000, count: 10 }],
            gids: vec![IdRange { recorded: 50, shown: 60, count: 1 }],
        };
        Owners::new(Owner::Recorded, idmap)
    }

    #[test]
    fn only_ids_of_named_users_and_groups_are_translated() {
        let shown = translate(&sample(), &owners()).unwrap();
        let mut expected = sample();
        expected[4 + 8 + 4..4 + 8 + 8].copy_from_slice(&5001u32.to_le_bytes());
        expected[4 + 24 + 4..4 + 24 + 8].copy_from_slice(&60u32.to_le_bytes());
        assert_eq!(shown, expected);
    }

    #[test]
    fn garbage_is_no_acl() {
        for cut in [0, 3, 5, 11, sample().len() - 1] {
            assert!(translate(&sample()[..cut], &owners()).is_none(), "{cut} bytes");
        }
        let mut version = sample();
        version[0] = 1;
        assert!(translate(&version, &owners()).is_none());
        let mut tag = sample();
        tag[4] = 3;
        assert!(translate(&tag, &owners()).is_none());
        let mut perm = sample();
        perm[6] = 8;
        assert!(translate(&perm, &owners()).is_none());
    }

    #[test]
    fn group_bits_fall_to_the_owning_groups_entry() {
        assert_eq!(cut_group(0o6770, &sample()), 0o6740);
        assert_eq!(cut_group(0o707, &sample()), 0o707);
        assert_eq!(cut_group(0o775, b"junk"), 0o775);
    }
}
