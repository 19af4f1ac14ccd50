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
