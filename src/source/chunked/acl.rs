//! The form of POSIX ACLs in extended attributes, as the kernel demands it: an ACL that it cannot read makes the node
//! unusable, so such an attribute is better not shown.

/// Names of the attributes that hold one.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// Of directories: what new entries inherit.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: [u8; 4] = 2u32.to_le_bytes();
const NOBODY: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Whether `value` is an ACL: version 2, then entries of tag (u16), permissions (u16) and id (u32), little-endian, in the
/// order owner, users, group, groups, mask, others, each of the three base entries once, a mask whenever users or
/// groups are named.
pub fn is_valid(value: &[u8]) -> bool {
    let Some(entries) = value.strip_prefix(&VERSION) else { return false };
    let (entries, []) = entries.as_chunks::<8>() else { return false };
    let mut last = 0;
    let mut named = false;
    for &[tag_low, tag_high, perm_low, perm_high, id @ ..] in entries {
        let tag = u16::from_le_bytes([tag_low, tag_high]);
        let follows = match tag {
            USER_OBJ => last == 0,
            USER => matches!(last, USER_OBJ | USER),
            GROUP_OBJ => matches!(last, USER_OBJ | USER),
            GROUP => matches!(last, GROUP_OBJ | GROUP),
            MASK => matches!(last, GROUP_OBJ | GROUP),
            OTHER => last == MASK || (matches!(last, GROUP_OBJ) && !named),
            _ => false,
        };
        let is_named = matches!(tag, USER | GROUP);
        named |= is_named;
        let readable =
            u16::from_le_bytes([perm_low, perm_high]) <= 7 && (!is_named || u32::from_le_bytes(id) != NOBODY);
        if !follows || !readable {
            return false;
        }
        last = tag;
    }
    last == OTHER
}

/// The permission bits that the access ACL `value` leaves: the group gets what its own entry grants and no named user
/// (who may be in it) is denied; the others what nobody named is denied. In the mode of a node with an ACL the group
/// bits are the mask, so plain bits alone would let in more.
pub fn grants(value: &[u8]) -> u16 {
    let entries =
        || value.get(VERSION.len()..).unwrap_or_default().as_chunks::<8>().0.iter().map(tag_and_perm);
    let granted = |wanted: &'static [u16]| {
        entries().filter(move |(tag, _)| wanted.contains(tag)).fold(7, |granted, (_, perm)| granted & perm)
    };
    let mask = granted(&[MASK]);
    let group = granted(&[GROUP_OBJ, USER]) & mask;
    let named = entries().any(|(tag, _)| matches!(tag, USER | GROUP));
    let others = if named { granted(&[USER, GROUP]) & mask } else { 7 };
    0o700 | group << 3 | others
}

fn tag_and_perm(&[tag_low, tag_high, perm_low, perm_high, ..]: &[u8; 8]) -> (u16, u16) {
    (u16::from_le_bytes([tag_low, tag_high]), u16::from_le_bytes([perm_low, perm_high]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut value = VERSION.to_vec();
        for (tag, perm, id) in entries {
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&perm.to_le_bytes());
            value.extend_from_slice(&id.to_le_bytes());
        }
        value
    }

    const OWNER_ENTRY: (u16, u16, u32) = (USER_OBJ, 7, NOBODY);
    const GROUP_ENTRY: (u16, u16, u32) = (GROUP_OBJ, 5, NOBODY);
    const MASK_ENTRY: (u16, u16, u32) = (MASK, 7, NOBODY);
    const OTHER_ENTRY: (u16, u16, u32) = (OTHER, 0, NOBODY);
    const USER_ENTRY: (u16, u16, u32) = (USER, 6, 1000);
    const NAMED_GROUP: (u16, u16, u32) = (GROUP, 4, 1000);

    #[test]
    fn acls_as_setfacl_writes_them_are_valid() {
        for entries in [
            &[OWNER_ENTRY, GROUP_ENTRY, OTHER_ENTRY][..],
            &[OWNER_ENTRY, GROUP_ENTRY, MASK_ENTRY, OTHER_ENTRY],
            &[OWNER_ENTRY, USER_ENTRY, GROUP_ENTRY, MASK_ENTRY, OTHER_ENTRY],
            &[
                OWNER_ENTRY,
                USER_ENTRY,
                USER_ENTRY,
                GROUP_ENTRY,
                NAMED_GROUP,
                NAMED_GROUP,
                MASK_ENTRY,
                OTHER_ENTRY,
            ],
        ] {
            assert!(is_valid(&acl(entries)), "{entries:?}");
        }
    }

    #[test]
    fn what_the_kernel_would_refuse_is_not() {
        for entries in [
            &[][..],
            &[OWNER_ENTRY],
            &[OWNER_ENTRY, GROUP_ENTRY],
            &[GROUP_ENTRY, OTHER_ENTRY],
            &[OWNER_ENTRY, OTHER_ENTRY],
            &[OWNER_ENTRY, OWNER_ENTRY, GROUP_ENTRY, OTHER_ENTRY],
            &[OWNER_ENTRY, GROUP_ENTRY, GROUP_ENTRY, OTHER_ENTRY],
            &[OWNER_ENTRY, GROUP_ENTRY, OTHER_ENTRY, OTHER_ENTRY],
            &[OWNER_ENTRY, GROUP_ENTRY, MASK_ENTRY],
            &[OWNER_ENTRY, GROUP_ENTRY, MASK_ENTRY, MASK_ENTRY, OTHER_ENTRY],
            &[GROUP_ENTRY, OWNER_ENTRY, OTHER_ENTRY],
            &[OWNER_ENTRY, USER_ENTRY, GROUP_ENTRY, OTHER_ENTRY],
            &[OWNER_ENTRY, GROUP_ENTRY, NAMED_GROUP, OTHER_ENTRY],
            &[OWNER_ENTRY, GROUP_ENTRY, USER_ENTRY, MASK_ENTRY, OTHER_ENTRY],
            &[OWNER_ENTRY, USER_ENTRY, MASK_ENTRY, OTHER_ENTRY],
            &[OWNER_ENTRY, (USER, 6, NOBODY), GROUP_ENTRY, MASK_ENTRY, OTHER_ENTRY],
            &[(USER_OBJ, 8, NOBODY), GROUP_ENTRY, OTHER_ENTRY],
            &[OWNER_ENTRY, GROUP_ENTRY, OTHER_ENTRY, (0x40, 0, NOBODY)],
            &[OWNER_ENTRY, (0, 0, 0), GROUP_ENTRY, OTHER_ENTRY],
        ] {
            assert!(!is_valid(&acl(entries)), "{entries:?}");
        }
    }

    #[test]
    fn version_and_length_must_be_right() {
        let good = acl(&[OWNER_ENTRY, GROUP_ENTRY, OTHER_ENTRY]);
        for length in 0..good.len() {
            assert!(!is_valid(&good[..length]), "{length}");
        }
        assert!(!is_valid(&[&good[..], &[0]].concat()));
        let mut other_version = good;
        other_version[0] = 3;
        assert!(!is_valid(&other_version));
    }

    #[test]
    fn cuts_the_bits_that_would_let_in_whom_it_keeps_out() {
        let user = |perm| (USER, perm, 1000);
        let (group, others) = ((GROUP_OBJ, 5, NOBODY), (OTHER, 5, NOBODY));
        for (what, entries, left) in [
            ("a plain one", vec![OWNER_ENTRY, group, others], 0o757),
            (
                "a named user adds nothing",
                vec![OWNER_ENTRY, user(7), (GROUP_OBJ, 4, NOBODY), MASK_ENTRY, others],
                0o747,
            ),
            (
                "a denied user, of the group or not",
                vec![OWNER_ENTRY, user(0), group, MASK_ENTRY, others],
                0o700,
            ),
            (
                "one of two users is denied",
                vec![OWNER_ENTRY, user(7), user(4), group, MASK_ENTRY, others],
                0o744,
            ),
            ("a denied group", vec![OWNER_ENTRY, group, (GROUP, 0, 1000), MASK_ENTRY, others], 0o750),
            ("the mask counts for all", vec![OWNER_ENTRY, user(7), group, (MASK, 4, NOBODY), others], 0o744),
        ] {
            assert_eq!(grants(&acl(&entries)), left, "{what}");
        }
        assert_eq!(grants(&[]), 0o777);
        assert_eq!(grants(&acl(&[user(0)])[..9]), 0o777, "an entry cut short is none");
    }
}
