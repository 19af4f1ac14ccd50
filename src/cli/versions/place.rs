//! Which sets and which path below them a typed FILE means.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::history::Set;

/// A FILE that was written as a path of the tree: `SET/DATE/file`, `current/SET/file`.
#[derive(Debug, PartialEq, Eq)]
pub struct InTree {
    /// Names from the tree's root to the set.
    pub set: Vec<Vec<u8>>,
    /// Names below the set; the first may be a date if `dated` allows for it.
    pub rest: Vec<Vec<u8>>,
    /// Whether a date may come first.
    pub dated: bool,
}

/// Splits the names of a path of the tree at its set, the first name that holds `@+`. `None` without one.
pub fn in_tree(names: &[Vec<u8>]) -> Option<InTree> {
    let at = names.iter().position(|name| split(name).is_some())?;
    let (above, set_and_rest) = names.split_at(at);
    let (set, rest) = set_and_rest.split_first()?;
    let view = match above {
        [.., view] if view == b"current" => 1,
        [.., view, _when] if view == b"at" => 2,
        _ => 0,
    };
    let mut place = above.get(..above.len() - view)?.to_vec();
    place.push(set.clone());
    Some(InTree { set: place, rest: rest.to_vec(), dated: view == 0 })
}

/// A set from its place, whose last name is `host@+path`. `None` for another name.
pub fn set(place: Vec<Vec<u8>>) -> Option<Set> {
    let (host, path) = split(place.last()?)?;
    let path: Vec<u8> = path.iter().map(|byte| if *byte == b'+' { b'/' } else { *byte }).collect();
    let (host, path) = (unescape(host), [b"/", unescape(&path).as_slice()].concat());
    Some(Set { place, host, path })
}

fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = name.windows(2).position(|pair| pair == b"@+")?;
    Some((name.get(..at)?, name.get(at + 2..)?))
}

/// Reads `%2B` back; anything else stays.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// The names of `file` below the path of `set`; `None` when it lies elsewhere. `file` is absolute and [`cleaned`].
pub fn below(set: &Set, file: &Path) -> Option<Vec<Vec<u8>>> {
    let top = Path::new(std::ffi::OsStr::from_bytes(&set.path));
    let rest = file.strip_prefix(top).ok()?;
    Some(rest.components().map(|c| c.as_os_str().as_bytes().to_vec()).collect())
}

/// Whether two names are of one host: equal, or one is the other's first label.
pub fn same_host(a: &[u8], b: &[u8]) -> bool {
    let label =
        |name: &[u8]| name.split(|byte| *byte == b'.').next().unwrap_or_default().to_ascii_lowercase();
    let short = |name: &[u8]| !name.contains(&b'.');
    a.eq_ignore_ascii_case(b) || ((short(a) || short(b)) && label(a) == label(b))
}

/// Whether a host is one that `pattern` (with `*` and `?`) means.
pub fn matches(pattern: &str, host: &[u8]) -> bool {
    let expression = regex::escape(pattern).replace("\\*", ".*").replace("\\?", ".");
    regex::bytes::Regex::new(&format!("^(?s-u:{expression})$")).is_ok_and(|regex| regex.is_match(host))
}

/// `typed` counted from `here`, without `.` and `..`. Symbolic links stay: what they led to may be what was lost.
pub fn cleaned(typed: &Path, here: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in here.join(typed).components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

/// A name that stands beside `name` and tells the date: `thesis.20260301_030000.tex`.
pub fn beside(name: &[u8], date: &[u8]) -> Vec<u8> {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0).unwrap_or(name.len());
    let (stem, extension) = name.split_at(dot);
    [stem, b".", date, extension].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<Vec<u8>> {
        crate::cli::browse::components(path.as_bytes())
    }

    #[test]
    fn paths_of_the_tree_come_apart_at_their_set() {
        for (path, set, rest, dated) in [
            ("laptop@+home/20260301_030000/a/b", "laptop@+home", "20260301_030000/a/b", true),
            ("laptop@+home/a", "laptop@+home", "a", true),
            ("current/laptop@+home/a", "laptop@+home", "a", false),
            ("at/2026-03-01/laptop@+home/a@+b", "laptop@+home", "a@+b", false),
            ("group/member/laptop@+home/latest/a", "group/member/laptop@+home", "latest/a", true),
            ("group/member/current/laptop@+/a", "group/member/laptop@+", "a", false),
        ] {
            let expected = InTree { set: names(set), rest: names(rest), dated };
            assert_eq!(in_tree(&names(path)), Some(expected), "{path}");
        }
        assert_eq!(in_tree(&names("home/lab/thesis.tex")), None);
    }

    #[test]
    fn set_names_tell_host_and_path() {
        for (name, host, path) in [
            ("laptop@+home+lab", "laptop", "/home/lab"),
            ("server@+", "server", "/"),
            ("a@b@+x%2By+100%25", "a@b", "/x+y/100%"),
            ("a%40+b@+c", "a@+b", "/c"),
        ] {
            let set = set(names(name)).unwrap();
            assert_eq!(
                (set.host.as_slice(), set.path.as_slice()),
                (host.as_bytes(), path.as_bytes()),
                "{name}"
            );
        }
        assert!(set(names("current")).is_none());
    }

    #[test]
    fn files_lie_below_whole_components_only() {
        let set = set(names("laptop@+home+lab")).unwrap();
        assert_eq!(below(&set, Path::new("/home/lab/a/b")), Some(names("a/b")));
        assert_eq!(below(&set, Path::new("/home/lab")), Some(vec![]));
        assert_eq!(below(&set, Path::new("/home/label/a")), None);
        let all = super::set(names("laptop@+")).unwrap();
        assert_eq!(below(&all, Path::new("/etc/passwd")), Some(names("etc/passwd")));
    }

    #[test]
    fn hosts_with_and_without_a_domain_are_one() {
        for (a, b, same) in [
            ("laptop", "laptop", true),
            ("laptop", "Laptop.example.org", true),
            ("laptop.a.org", "laptop.b.org", false),
            ("laptop", "laptop2", false),
        ] {
            assert_eq!(same_host(a.as_bytes(), b.as_bytes()), same, "{a} {b}");
        }
    }

    #[test]
    fn hosts_are_chosen_by_patterns() {
        for (pattern, host, chosen) in [
            ("laptop", &b"laptop"[..], true),
            ("laptop", b"laptop2", false),
            ("lap*", b"laptop", true),
            ("l?ptop", b"laptop", true),
            ("l.ptop", b"laptop", false),
            ("*", b"\xff\n", true),
        ] {
            assert_eq!(matches(pattern, host), chosen, "{pattern}");
        }
    }

    #[test]
    fn typed_paths_are_counted_from_where_one_is() {
        for (typed, clean) in
            [("a", "/home/lab/a"), ("../x/./y", "/home/x/y"), ("/b/../../c", "/c"), (".", "/home/lab")]
        {
            assert_eq!(cleaned(Path::new(typed), Path::new("/home/lab")), Path::new(clean), "{typed}");
        }
    }

    #[test]
    fn restored_names_keep_their_extension() {
        for (name, beside_it) in [
            ("thesis.tex", "thesis.D.tex"),
            ("Makefile", "Makefile.D"),
            (".bashrc", ".bashrc.D"),
            ("a.tar.gz", "a.tar.D.gz"),
        ] {
            assert_eq!(beside(name.as_bytes(), b"D"), beside_it.as_bytes());
        }
    }
}
