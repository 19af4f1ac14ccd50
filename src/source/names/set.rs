//! `host@+path`: the name of a set as it stands on a file system.

use std::sync::Arc;

/// What stands between host and path.
const MARK: &[u8] = b"@+";

/// A name that is a set's already, which is shown byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetName {
    /// Before the mark.
    pub host: Arc<str>,
    /// Behind it, each `+` being a `/` and each `%XX` its byte.
    pub path: Arc<[u8]>,
}

impl SetName {
    /// What `name` says; `None` when it holds no `@+`.
    pub fn of(name: &[u8]) -> Option<Self> {
        let at = name.windows(MARK.len()).position(|pair| pair == MARK)?;
        let (host, rest) = name.split_at_checked(at)?;
        let mut path = vec![b'/'];
        let mut rest = rest.get(MARK.len()..)?;
        while let [byte, tail @ ..] = rest {
            rest = tail;
            path.push(match (byte, escaped(tail)) {
                (b'%', Some(byte)) => {
                    rest = tail.get(2..)?;
                    byte
                }
                (b'+', _) => b'/',
                (byte, _) => *byte,
            });
        }
        Some(SetName { host: super::text(host), path: path.into() })
    }
}

/// The byte that the first two digits of `text` stand for.
fn escaped(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_path_stand_around_the_first_mark() {
        for (name, host, path) in [
            (&b"db@+srv+mysql"[..], "db", &b"/srv/mysql"[..]),
            (b"db@+", "db", b"/"),
            (b"@+home", "", b"/home"),
            (b"me@host@+a@+b", "me@host", b"/a@/b"),
            (b"pc@+a%2Bb+c%20d%25", "pc", b"/a+b/c d%"),
            (b"pc@+%zz%2", "pc", b"/%zz%2"),
            (b"p\xff@+\xfe", "p%FF", b"/\xfe"),
        ] {
            let read = SetName::of(name).unwrap();
            assert_eq!((&*read.host, &*read.path), (host, path), "{name:?}");
        }
        for other in [&b"plain"[..], b"a@b+c", b"", b"@", b"a+@"] {
            assert_eq!(SetName::of(other), None);
        }
    }
}
