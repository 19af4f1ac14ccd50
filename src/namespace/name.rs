//! Bytes of names: escaping what may not stand in a file name, and cutting what is too long for one.
//!
//! A set name is `<host>@+<path with "/" as "+">`. Escaping keeps it readable and one-to-one: two different hosts or
//! paths never meet in one name, except where the design wants them to (relative paths count from `/`, repeated and
//! trailing slashes mean nothing).

use sha2::{Digest, Sha256};

/// Longest name that the kernel takes, in bytes.
pub(super) const LONGEST: usize = 255;

/// What tells set names from every other name of the root.
pub(super) const MARK: &[u8] = b"@+";

/// What a missing host, user or tag is called.
pub(super) const UNKNOWN: &str = "unknown";

// "~" and eight hexadecimal digits.
const TAIL: usize = 9;

/// `text` as part of a generated name: `%`, `/`, NUL and control characters are percent-escaped, and an `@` that a `+`
/// follows.
pub(super) fn text(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        let mark = *byte == b'@' && tail.first() == Some(&b'+');
        rest = push(&mut out, *byte, tail, mark);
    }
    out
}

/// `path` as part of a generated name: its components joined by `+`, in which `+` is escaped too. Windows paths
/// (`C:\Users`, `\\server\share`) lose their colon and backslashes; the root is empty.
pub(super) fn path(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for part in components(path) {
        if !out.is_empty() {
            out.push(b'+');
        }
        if matches!(part, b"." | b"..") {
            part.iter().for_each(|_| out.extend_from_slice(b"%2E"));
            continue;
        }
        let mut rest = part;
        while let [byte, tail @ ..] = rest {
            rest = push(&mut out, *byte, tail, *byte == b'+');
        }
    }
    out
}

/// The components of a recorded path, without its empty ones.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (drive, windows) = match path {
        [letter, b':'] | [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic() => {
            (path.get(..1), true)
        }
        [b'\\', b'\\', ..] => (None, true),
        _ => (None, false),
    };
    let rest = if drive.is_some() { path.get(2..).unwrap_or_default() } else { path };
    let parts = rest.split(move |b| *b == b'/' || (windows && *b == b'\\'));
    drive.into_iter().chain(parts.filter(|part| !part.is_empty()))
}

/// Appends one byte, or a whole control character of two bytes, escaped where it must be; answers what is left.
fn push<'a>(out: &mut Vec<u8>, byte: u8, tail: &'a [u8], also: bool) -> &'a [u8] {
    match (byte, tail) {
        // U+0080 to U+009F: control characters too, and some terminals obey them.
        (0xC2, [second @ 0x80..=0x9F, rest @ ..]) => {
            escape(out, byte);
            escape(out, *second);
            return rest;
        }
        (b'%' | b'/' | 0..=0x1F | 0x7F, _) => escape(out, byte),
        _ if also => escape(out, byte),
        _ => out.push(byte),
    }
    tail
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(format!("%{byte:02X}").as_bytes());
}

/// `name` itself when it is short enough, otherwise its beginning and `~<8 hexadecimal digits of its hash>`. The cut
/// never falls into an escape or a UTF-8 character, and keeps the mark of a set name.
pub(super) fn fit(name: Vec<u8>) -> Vec<u8> {
    if name.len() <= LONGEST {
        return name;
    }
    let kept = |room: usize| name.get(..cut(&name, room)).unwrap_or_default();
    let mut short = kept(LONGEST - TAIL).to_vec();
    if !holds_mark(&short) {
        short = kept(LONGEST - TAIL - MARK.len()).to_vec();
        short.extend_from_slice(MARK);
    }
    short.push(b'~');
    short.extend_from_slice(digest8(&name).as_bytes());
    short
}

/// Where to cut `name` so that at most `room` bytes stay and nothing is torn.
fn cut(name: &[u8], room: usize) -> usize {
    let mut end = room.min(name.len());
    // A byte that continues a character belongs to what is before it; invalid UTF-8 is not followed for ever.
    for _ in 0..3 {
        if name.get(end).is_some_and(|b| b & 0xC0 == 0x80) {
            end = end.saturating_sub(1);
        }
    }
    let start = end.saturating_sub(2);
    let percent = name.get(start..end).and_then(|last| last.iter().position(|b| *b == b'%'));
    percent.map_or(end, |at| start + at)
}

/// Whether `name` can be a set's.
pub(super) fn holds_mark(name: &[u8]) -> bool {
    name.windows(MARK.len()).any(|pair| pair == MARK)
}

/// Whether `name` can stand in a directory at all: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.
pub(super) fn shows(name: &[u8]) -> bool {
    (1..=LONGEST).contains(&name.len())
        && !name.iter().any(|b| matches!(b, 0 | b'/'))
        && !matches!(name, b"." | b"..")
}

/// The first eight hexadecimal digits of the SHA-256 of `bytes`.
pub(super) fn digest8(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(4).map(|b| format!("{b:02x}")).collect()
}

/// A number that stands for these parts in this order, and practically for no others.
pub(super) fn key(parts: &[&[u8]]) -> u128 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().first_chunk().copied().map_or(0, u128::from_be_bytes)
}

/// The eight characters that tell a snapshot from others of its second: the beginning of its id where that is
/// hexadecimal, as restic prints it, otherwise of the id's hash.
pub(super) fn id8(id: &str) -> String {
    match id.get(..8) {
        Some(short) if id.bytes().all(|b| b.is_ascii_hexdigit()) => short.to_owned(),
        _ => digest8(id.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(host: &str, of: &[u8]) -> Vec<u8> {
        fit([&text(host.as_bytes())[..], MARK, &path(of)].concat())
    }

    fn shown(host: &str, of: &str) -> String {
        String::from_utf8(set(host, of.as_bytes())).unwrap()
    }

    #[test]
    fn the_examples_of_the_design() {
        for (host, of, name) in [
            ("laptop", "/home/lab", "laptop@+home+lab"),
            ("host", "/", "host@+"),
            ("PC", r"C:\Users\lab", "PC@+C+Users+lab"),
            ("PC", r"C:\", "PC@+C"),
            ("PC", "C:", "PC@+C"),
            ("PC", "C:/Users/lab", "PC@+C+Users+lab"),
            ("PC", r"\\server\share\dir", "PC@+server+share+dir"),
            ("h", "/a+b", "h@+a%2Bb"),
            ("h", "/50%", "h@+50%25"),
            ("h", "/a\nb\u{7f}", "h@+a%0Ab%7F"),
            ("h", "/a\u{85}b", "h@+a%C2%85b"),
            ("a@+b", "/c", "a%40+b@+c"),
            ("a@b", "/c", "a@b@+c"),
            ("a@", "/c", "a@@+c"),
            ("a/b\0", "/c", "a%2Fb%00@+c"),
            ("h", "src", "h@+src"),
            ("h", "./src/../x", "h@+%2E+src+%2E%2E+x"),
            ("h", ".", "h@+%2E"),
            ("h", "//a///b/", "h@+a+b"),
            ("h", r"/a\b", r"h@+a\b"),
            ("h", "/c:/x", "h@+c:+x"),
            ("h", "/été", "h@+été"),
        ] {
            assert_eq!(shown(host, of), name, "{host} {of}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters_and_escapes() {
        let whole = set("h", format!("/{}", "a".repeat(252)).as_bytes());
        assert_eq!(whole.len(), 255, "a name that fits is not cut");
        let long = shown("h", &format!("/{}", "a".repeat(300)));
        assert_eq!(long.len(), 255);
        assert!(long.starts_with("h@+aaa") && long.as_bytes()[246] == b'~');
        for shift in 0..4 {
            let tail = "é%".repeat(100);
            let name = set("h", format!("/{}{tail}", "a".repeat(shift)).as_bytes());
            let body = &name[..name.len() - TAIL];
            assert!(std::str::from_utf8(body).is_ok(), "torn character");
            assert!(body.ends_with("é".as_bytes()) || body.ends_with(b"%25"), "torn escape");
            assert!(name.len() > 250 && name.len() <= 255);
        }
        let (one, two) = (shown("h", &"/x".repeat(200)), shown("h", &"/x".repeat(201)));
        assert_ne!(one, two, "different paths stay different");
    }

    #[test]
    fn a_host_too_long_for_the_name_keeps_the_mark() {
        let name = shown(&"h".repeat(300), "/home");
        assert!(name.len() <= 255 && name.contains("@+~"), "{name}");
    }

    #[test]
    fn short_ids_are_restic_s_or_a_hash() {
        assert_eq!(id8("0123456789abcdef"), "01234567");
        assert_eq!(id8("tank/home@daily"), digest8(b"tank/home@daily"));
        assert_eq!(id8("abc").len(), 8);
        assert_eq!(digest8(b""), "e3b0c442");
    }

    #[test]
    fn keys_tell_parts_apart() {
        assert_eq!(key(&[b"a", b"b"]), key(&[b"a", b"b"]));
        for other in [&[b"ab".as_slice(), b""][..], &[b"", b"ab"], &[b"b", b"a"], &[b"a", b"b", b""]] {
            assert_ne!(key(&[b"a", b"b"]), key(other), "{other:?}");
        }
    }

    /// Undoes the escaping, as a program reading set names would.
    fn parse(name: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let unescape = |part: &[u8]| {
            let mut out = Vec::new();
            let mut bytes = part.iter();
            while let Some(byte) = bytes.next() {
                if *byte == b'%' {
                    let digits = [*bytes.next().unwrap(), *bytes.next().unwrap()];
                    out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                } else {
                    out.push(*byte);
                }
            }
            out
        };
        let at = name.windows(2).position(|w| w == MARK).unwrap();
        let parts = name[at + 2..].split(|b| *b == b'+').filter(|p| !p.is_empty());
        (unescape(&name[..at]), parts.map(unescape).collect())
    }

    proptest! {
        #[test]
        fn escaping_can_be_undone(
            host in proptest::collection::vec(any::<u8>(), 1..20),
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..8), 0..4),
        ) {
            let parts: Vec<Vec<u8>> = parts
                .into_iter()
                .map(|p| p.into_iter().filter(|b| *b != b'/').collect::<Vec<u8>>())
                .filter(|p| !p.is_empty())
                .collect();
            let of = parts.iter().flat_map(|p| [b"/", &p[..]].concat()).collect::<Vec<u8>>();
            let name = fit([&text(&host)[..], MARK, &path(&of)].concat());
            prop_assert_eq!(parse(&name), (host, parts));
        }

        #[test]
        fn every_name_can_be_shown(
            host in proptest::collection::vec(any::<u8>(), 0..400),
            of in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let name = fit([&text(&host)[..], MARK, &path(&of)].concat());
            prop_assert!(shows(&name) && holds_mark(&name));
            prop_assert!(!name.iter().any(|b| *b < 0x20 || *b == 0x7f));
        }

        #[test]
        fn long_utf8_is_never_torn(host in "\\PC{0,200}", of in "(/\\PC{0,40}){0,8}") {
            prop_assert!(String::from_utf8(set(&host, of.as_bytes())).is_ok());
        }
    }
}
