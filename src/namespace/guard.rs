//! Who may pass: the permissions of directories that were above a backed-up path, carried by those shown above it.
//!
//! A shared mount shows `<set>/<date>` in place of `/home/lab/private/…`: whoever could not pass `private` must not pass
//! here. Permissions are compared exactly, as the sets of users whom they let search: for a comparison of two it is
//! enough to try the owners, the groups and a stranger. Root passes everything and is left out.

use crate::tree::{Ancestor, Meta};

/// Only root.
pub(super) const ROOT_ONLY: Ancestor = Ancestor { uid: 0, gid: 0, perm: 0o700 };

/// Everyone may search and read.
pub(super) const OPEN: Ancestor = Ancestor { uid: 0, gid: 0, perm: 0o755 };

const SEARCH: u16 = 0o1;
const READ: u16 = 0o4;

/// Some user: one of the owners in question or a stranger, in some of the groups in question.
#[derive(Clone, Copy)]
struct Someone {
    uid: Option<u32>,
    gids: [Option<u32>; 2],
}

/// Everybody whom two directories could treat differently.
fn everybody(one: &Ancestor, other: &Ancestor) -> impl Iterator<Item = Someone> {
    let (gid, second) = (Some(one.gid), Some(other.gid));
    let memberships = [[None, None], [gid, None], [None, second], [gid, second]];
    let uids = [None, Some(one.uid), Some(other.uid)];
    let users = uids.into_iter().filter(|uid| *uid != Some(0));
    users.flat_map(move |uid| memberships.map(|gids| Someone { uid, gids }))
}

/// Which of the three classes of a mode a user falls into, as the shift of its bits.
fn class(of: &Ancestor, who: Someone) -> u16 {
    if who.uid == Some(of.uid) {
        6
    } else if who.gids.contains(&Some(of.gid)) {
        3
    } else {
        0
    }
}

fn allows(of: &Ancestor, who: Someone, bit: u16) -> bool {
    of.perm >> class(of, who) & bit != 0
}

/// Whether nobody may search `one` who may not search `other`.
pub(super) fn as_strict(one: &Ancestor, other: &Ancestor) -> bool {
    everybody(one, other).all(|who| !allows(one, who, SEARCH) || allows(other, who, SEARCH))
}

/// Of directories above each other the one that nobody may pass who may not pass all; of several such the one that
/// more may read, then the one that fewer may write. Only root where there is no such one, everyone where there are no directories. Who may not search it
/// may not list what is shown in its place either.
pub(super) fn strictest(above: &[Ancestor]) -> Ancestor {
    let strict = above.iter().filter(|one| above.iter().all(|other| as_strict(one, other)));
    let rank = |one: &Ancestor| ((one.perm & 0o444).count_ones(), (!one.perm & 0o222).count_ones());
    let best = strict.reduce(|best, one| if rank(one) > rank(best) { one } else { best });
    match (best, above) {
        (Some(one), _) => Ancestor { perm: one.perm & !(!one.perm << 2 & 0o444), ..*one },
        (None, []) => OPEN,
        (None, _) => ROOT_ONLY,
    }
}

/// What the directory `own` must show instead of its owner and mode where it stands for all that was above it: `above`
/// without what `passed` (shown above it) already keeps out. `None`: its own do. `acl` says that an access ACL decides
/// who may search `own`, which no mode can stand for.
pub(super) fn replacement(
    own: &Meta,
    acl: bool,
    above: &[Ancestor],
    passed: Option<&Ancestor>,
) -> Option<Ancestor> {
    let open = |one: &Ancestor| one.perm & 0o111 == 0o111;
    let kept_out = |one: &Ancestor| open(one) || passed.is_some_and(|passed| as_strict(passed, one));
    let own = Ancestor::of(own);
    let mut all: Vec<Ancestor> = above.iter().filter(|one| !kept_out(one)).copied().collect();
    let lists = |one: &Ancestor, who| allows(&own, who, READ) && !allows(one, who, SEARCH);
    let enough = |one: &Ancestor| as_strict(&own, one) && !everybody(&own, one).any(|who| lists(one, who));
    if all.is_empty() || (!acl && all.iter().all(enough)) {
        return None;
    }
    if acl {
        return Some(ROOT_ONLY);
    }
    all.push(own);
    let mut shown = strictest(&all);
    // Its owner and mode come from above, so what they let be read is cut to what the directory itself lets.
    for shift in [0, 3, 6] {
        let of_class = |who: &Someone| class(&shown, *who) == shift;
        if everybody(&shown, &own).filter(of_class).any(|who| !allows(&own, who, READ)) {
            shown.perm &= !(READ << shift);
        }
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::namespace::fake::owned;

    fn dir(uid: u32, gid: u32, perm: u16) -> Ancestor {
        Ancestor { uid, gid, perm }
    }

    #[test]
    fn the_strictest_of_a_chain_is_the_one_nobody_passes_who_may_not_pass_all() {
        let (root, lab, private) = (dir(0, 0, 0o755), dir(1000, 1000, 0o750), dir(1000, 1000, 0o700));
        assert_eq!(strictest(&[root, lab, private]), private);
        assert_eq!(strictest(&[root, private, lab]), private, "in any order");
        assert_eq!(strictest(&[root, lab]), lab);
        assert_eq!(strictest(&[dir(0, 0, 0o711), root]), root, "of equally strict ones the readable one");
        assert_eq!(
            strictest(&[dir(0, 0, 0o777), dir(7, 7, 0o755), root]),
            dir(7, 7, 0o755),
            "then the first unwritable"
        );
        assert_eq!(strictest(&[dir(1, 1, 0o744)]), dir(1, 1, 0o700), "who may not pass may not list");
        assert_eq!(strictest(&[]), OPEN);
    }

    #[test]
    fn without_a_single_strictest_one_only_root_passes() {
        assert_eq!(strictest(&[dir(1000, 1000, 0o700), dir(1001, 1001, 0o700)]), ROOT_ONLY);
        assert_eq!(strictest(&[dir(0, 10, 0o750), dir(0, 20, 0o750)]), ROOT_ONLY);
        assert_eq!(strictest(&[dir(0, 10, 0o750), dir(7, 20, 0o700)]), ROOT_ONLY, "7 is not in group 10");
        assert_eq!(
            strictest(&[dir(0, 0, 0o700), dir(7, 7, 0o700)]),
            dir(0, 0, 0o700),
            "root is stricter than all"
        );
    }

    #[test]
    fn a_class_that_is_shut_out_counts_even_when_others_are_not() {
        let not_the_group = dir(5, 50, 0o705);
        assert!(!as_strict(&dir(0, 0, 0o755), &not_the_group));
        assert!(as_strict(&not_the_group, &dir(0, 0, 0o755)));
        assert!(!as_strict(&dir(1, 50, 0o755), &not_the_group), "the group passes the first");
        assert!(!as_strict(&dir(5, 1, 0o755), &dir(5, 1, 0o655)), "the owner has no search permission");
    }

    #[test]
    fn own_attributes_stay_where_they_keep_out_enough() {
        let private = dir(1000, 1000, 0o700);
        let open = [dir(0, 0, 0o755), dir(0, 0, 0o1777)];
        assert_eq!(
            replacement(&owned(7, 7, 0o777), false, &open, None),
            None,
            "nothing above keeps anyone out"
        );
        assert_eq!(
            replacement(&owned(7, 7, 0o777), true, &open, None),
            None,
            "then an ACL does not matter either"
        );
        assert_eq!(replacement(&owned(1000, 1000, 0o700), false, &[open[0], private], None), None);
        assert_eq!(
            replacement(&owned(1000, 9, 0o755), false, &[private], Some(&private)),
            None,
            "kept out above"
        );
        assert_eq!(replacement(&owned(1000, 9, 0o755), false, &[private], Some(&ROOT_ONLY)), None);
    }

    #[test]
    fn a_directory_below_a_stricter_one_shows_that_one() {
        let private = dir(1000, 1000, 0o700);
        let shown = |own, acl, above: &[Ancestor]| replacement(&own, acl, above, Some(&OPEN));
        assert_eq!(shown(owned(1000, 1000, 0o755), false, &[OPEN, private]), Some(private));
        assert_eq!(shown(owned(1001, 1001, 0o700), false, &[private]), Some(ROOT_ONLY));
        assert_eq!(
            shown(owned(1000, 1000, 0o744), false, &[private]),
            Some(private),
            "listing is passing too"
        );
        assert_eq!(
            shown(owned(1000, 1000, 0o700), true, &[private]),
            Some(ROOT_ONLY),
            "an ACL may let others in"
        );
        let group = dir(0, 50, 0o750);
        assert_eq!(
            shown(owned(0, 50, 0o711), false, &[group]),
            Some(dir(0, 50, 0o710)),
            "its own reading is kept"
        );
        assert_eq!(shown(owned(9, 9, 0o711), false, &[group]), Some(dir(0, 50, 0o710)));
        assert_eq!(shown(owned(9, 9, 0o755), false, &[group]), Some(group));
    }

    fn ancestor() -> impl Strategy<Value = Ancestor> {
        (0u32..4, 0u32..4, 0u16..0o1000).prop_map(|(uid, gid, perm)| Ancestor { uid, gid, perm })
    }

    /// What the kernel would say, for a user in any of the groups.
    fn may(one: &Ancestor, uid: u32, gids: &[u32], bit: u16) -> bool {
        let shift = match () {
            () if uid == one.uid => 6,
            () if gids.contains(&one.gid) => 3,
            () => 0,
        };
        one.perm >> shift & bit != 0
    }

    proptest! {
        #[test]
        fn nobody_passes_what_is_shown_who_could_not_pass_the_original(
            above in proptest::collection::vec(ancestor(), 0..4),
            own in ancestor(),
            passed in proptest::option::of(ancestor()),
            uid in 1u32..6,
            gids in proptest::collection::vec(0u32..6, 0..3),
        ) {
            let could = |bit| above.iter().all(|a| may(a, uid, &gids, SEARCH)) && may(&own, uid, &gids, bit);
            let set = strictest(&above);
            if may(&set, uid, &gids, SEARCH) {
                prop_assert!(above.iter().all(|a| may(a, uid, &gids, SEARCH)));
            }
            let meta = owned(own.uid, own.gid, own.perm);
            let shown = replacement(&meta, false, &above, passed.as_ref()).unwrap_or(own);
            let reaches = passed.as_ref().is_none_or(|p| may(p, uid, &gids, SEARCH));
            for bit in [SEARCH, READ] {
                if reaches && may(&shown, uid, &gids, bit) {
                    prop_assert!(could(bit), "{shown:?} lets {uid} {gids:?} do {bit}");
                }
            }
        }
    }
}
