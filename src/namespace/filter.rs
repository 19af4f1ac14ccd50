//! Which snapshots are shown.

use super::name::components;
use super::options::Filter;
use crate::tree::Snapshot;

impl Filter {
    /// Whether host and tags of `snapshot` are wanted.
    pub(super) fn wants(&self, snapshot: &Snapshot) -> bool {
        let host = snapshot.host.as_deref().unwrap_or_default();
        let tagged = |list: &String| match list.as_str() {
            "" => snapshot.tags.is_empty(),
            list => list.split(',').all(|want| snapshot.tags.iter().any(|tag| like(want, tag.as_bytes()))),
        };
        any(&self.hosts, |want| like(want, host.as_bytes())) && any(&self.tags, tagged)
    }

    /// Whether `path`, one of those a snapshot recorded, is wanted.
    pub(super) fn wants_path(&self, path: &[u8]) -> bool {
        any(&self.paths, |want| {
            if want.contains(['*', '?']) {
                return like(want, path);
            }
            let mut have = components(path);
            components(want.as_bytes()).all(|part| have.next() == Some(part))
        })
    }
}

fn any(wanted: &[String], is: impl FnMut(&String) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(is)
}

/// Whether `text` is like `pattern`, in which `*` is any bytes and `?` any one byte.
fn like(pattern: &str, text: &[u8]) -> bool {
    let (mut rest, mut text) = (pattern.as_bytes(), text);
    // Where to go on when the bytes taken by the last `*` were too few.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (rest, text) {
            ([b'*', after @ ..], _) => {
                star = Some((after, text));
                rest = after;
            }
            ([want, after @ ..], [have, tail @ ..]) if *want == b'?' || want == have => {
                (rest, text) = (after, tail);
            }
            ([], []) => return true,
            _ => match star {
                Some((after, [_, tail @ ..])) => {
                    star = Some((after, tail));
                    (rest, text) = (after, tail);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::fake::{self, Describe};

    fn filter(hosts: &[&str], tags: &[&str], paths: &[&str]) -> Filter {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Filter { hosts: owned(hosts), tags: owned(tags), paths: owned(paths) }
    }

    #[test]
    fn patterns_know_star_and_question_mark() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("*.example.org", "db.example.org", true),
            ("db?", "db1", true),
            ("db?", "db", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("laptop", "laptop2", false),
        ] {
            assert_eq!(like(pattern, text.as_bytes()), matches, "{pattern} {text}");
        }
        assert!(!like(&"a*".repeat(40), &[b'b'; 10_000]), "no exponential time");
    }

    #[test]
    fn of_every_list_one_entry_must_match() {
        let snapshot = fake::snapshot("ab").host("db1").tags(&["daily", "prod"]).paths(&["/srv"]);
        for (filter, wanted) in [
            (filter(&[], &[], &[]), true),
            (filter(&["db*"], &[], &[]), true),
            (filter(&["web", "db1"], &["weekly", "daily,prod"], &[]), true),
            (filter(&["db1"], &["daily,test"], &[]), false),
            (filter(&["web"], &["daily"], &[]), false),
            (filter(&[], &[""], &[]), false),
        ] {
            assert_eq!(filter.wants(&snapshot), wanted, "{filter:?}");
        }
        let bare = fake::snapshot("cd").paths(&["/"]);
        assert!(filter(&[], &[""], &[]).wants(&bare), "an empty tag list asks for snapshots without tags");
        assert!(!filter(&["*?"], &[], &[]).wants(&bare), "a missing host matches no name");
    }

    #[test]
    fn a_path_below_a_plain_pattern_is_wanted_too() {
        let plain = filter(&[], &[], &["/home/lab/"]);
        assert!(plain.wants_path(b"/home/lab") && plain.wants_path(b"/home/lab/x"));
        assert!(!plain.wants_path(b"/home/labor") && !plain.wants_path(b"/home"));
        let wild = filter(&[], &[], &["/home/*", "C:\\Users"]);
        assert!(wild.wants_path(b"/home/lab/x") && wild.wants_path(b"C:\\Users\\lab"));
        assert!(!wild.wants_path(b"/srv"));
    }
}
