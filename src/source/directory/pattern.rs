//! Where snapshots lie: a path in which named parts stand for what is different.
//!
//! `/srv/rsync/{host}/{time}`: a part stands for one byte or more within a name, a `*` for the same without a name, and
//! neither for the dot that a hidden name begins with. A name in which two parts stand is cut where the time, if it is one
//! of them, begins as a date does, and else as early as can be.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use crate::error::{Error, Kind, Result};
use crate::tree::Part;

/// The part that is the time of a snapshot, or its name.
pub(super) const TIME: &str = "time";
/// The part that is a number, which moves from one snapshot to the next as they grow older.
pub(super) const NUMBER: &str = "n";
/// The part that is a whole name of the form `host@+path`.
pub(super) const SET: &str = "set";

/// What a date looks like at the beginning of a time.
const DATE: &str = "[0-9]{4}[-._]?[0-9]{2}[-._]?[0-9]{2}";

/// A path with named parts.
#[derive(Debug)]
pub struct Pattern {
    /// What lies above the first part: an absolute path.
    pub(super) fixed: PathBuf,
    /// The names below, the first with a part.
    pub(super) levels: Vec<Level>,
    parts: Vec<Arc<str>>,
}

/// One name of a pattern.
#[derive(Debug)]
pub(super) enum Level {
    /// Without parts.
    Plain(OsString),
    /// With parts.
    Parts(Parts),
}

/// A name with parts in it.
#[derive(Debug)]
pub(super) struct Parts {
    /// What it must look like, the strictest first.
    shapes: Vec<Regex>,
    /// By the groups of the shapes.
    names: Vec<Arc<str>>,
    /// The whole name is that of a set.
    pub is_set: bool,
    /// The directory of this name was made for the snapshot: it may tell the time.
    pub is_dated: bool,
}

impl Pattern {
    /// Reads a pattern. Errors: `Usage`, when it is no absolute path, a part has no name or no end, or two have the same.
    pub fn parse(path: &Path) -> Result<Self> {
        let refuse = |why: &str| Error::new(Kind::Usage, why);
        let mut components = path.components();
        if components.next() != Some(Component::RootDir) {
            return Err(refuse("a pattern is an absolute path"));
        }
        let mut pattern = Pattern { fixed: "/".into(), levels: Vec::new(), parts: Vec::new() };
        for component in components {
            let Component::Normal(name) = component else {
                return Err(refuse("\"..\" has no place in a pattern"));
            };
            match level(name.as_bytes(), &mut pattern.parts).map_err(|why| refuse(&why))? {
                Level::Plain(name) if pattern.levels.is_empty() => pattern.fixed.push(name),
                level => pattern.levels.push(level),
            }
        }
        Ok(pattern)
    }

    /// The names of its parts, in order.
    pub fn parts(&self) -> &[Arc<str>] {
        &self.parts
    }

    /// Whether it has a part of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parts.iter().any(|part| **part == *name)
    }
}

/// Reads one name; parts are added to `known`.
fn level(name: &[u8], known: &mut Vec<Arc<str>>) -> std::result::Result<Level, String> {
    if !name.iter().any(|byte| matches!(byte, b'{' | b'*')) {
        return Ok(Level::Plain(OsStr::from_bytes(name).to_owned()));
    }
    let (mut names, mut pieces, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rest, mut is_behind_part) = (name, false);
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'{' | b'*')) {
        let (text, tail) = rest.split_at_checked(at).unwrap_or((rest, b""));
        if text.is_empty() && is_behind_part {
            return Err("nothing stands between two parts of one name".to_owned());
        }
        let (part, tail) = part(tail)?;
        if let Some(part) = &part {
            if known.contains(part) {
                return Err(format!("two parts of the pattern are called {{{part}}}"));
            }
            known.push(Arc::clone(part));
            names.push(Arc::clone(part));
        }
        pieces.push((text, part));
        texts.push(text);
        (rest, is_behind_part) = (tail, true);
    }
    texts.push(rest);
    let holds_mark = texts.iter().any(|text| text.windows(2).any(|pair| pair == b"@+"));
    let is_set = holds_mark || names.iter().any(|name| **name == *SET);
    let has_date = names.iter().any(|name| **name == *TIME) && pieces.len() > 1;
    let strict = has_date.then(|| shape(&pieces, rest, true));
    let shapes = strict.into_iter().chain([shape(&pieces, rest, false)]);
    let shapes = shapes.collect::<std::result::Result<_, _>>().map_err(|e| e.to_string())?;
    let is_dated = names.iter().any(|name| matches!(&**name, TIME | NUMBER));
    Ok(Level::Parts(Parts { shapes, names, is_set, is_dated }))
}

/// The part that `text` begins with, and what follows; a star has no name.
fn part(text: &[u8]) -> std::result::Result<(Option<Arc<str>>, &[u8]), String> {
    let Some(inner) = text.strip_prefix(b"{") else { return Ok((None, text.get(1..).unwrap_or_default())) };
    let end = inner.iter().position(|byte| *byte == b'}').ok_or("a { without its }")?;
    let (name, rest) = inner.split_at_checked(end).ok_or("a { without its }")?;
    let is_name = |name: &[u8]| {
        !name.is_empty()
            && name.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    match std::str::from_utf8(name).ok().filter(|name| is_name(name.as_bytes())) {
        Some(name) => Ok((Some(name.into()), rest.get(1..).unwrap_or_default())),
        None => Err(format!("{{{}}} is no name for a part (a-z, 0-9, - and _)", name.escape_ascii())),
    }
}

/// What a name of these pieces looks like: texts, the part behind each, and the last text.
fn shape(
    pieces: &[(&[u8], Option<Arc<str>>)],
    last: &[u8],
    is_strict: bool,
) -> std::result::Result<Regex, regex::Error> {
    let mut shape = String::from("^");
    let text = |shape: &mut String, text: &[u8]| {
        text.iter().for_each(|byte| shape.push_str(&format!("\\x{byte:02X}")))
    };
    for (number, (before, part)) in pieces.iter().enumerate() {
        text(&mut shape, before);
        let stands_for = match part.as_deref() {
            Some(NUMBER) => "[0-9]+",
            Some(TIME) if is_strict => &format!("{DATE}.*?"),
            _ if number == 0 && before.is_empty() => "[^.].*?",
            _ => ".+?",
        };
        match part {
            Some(_) => shape.push_str(&format!("({stands_for})")),
            None => shape.push_str(stands_for),
        }
    }
    text(&mut shape, last);
    shape.push('$');
    RegexBuilder::new(&shape).unicode(false).dot_matches_new_line(true).build()
}

impl Parts {
    /// What each part stands for in `name`; `None` when it does not look like this.
    pub(super) fn matched(&self, name: &[u8]) -> Option<Vec<Part>> {
        let found = self.shapes.iter().find_map(|shape| shape.captures(name))?;
        let groups = found.iter().skip(1).flatten().map(|group| Arc::from(group.as_bytes()));
        Some(self.names.iter().cloned().zip(groups).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pattern: &str) -> Result<Pattern> {
        Pattern::parse(Path::new(pattern))
    }

    /// What the parts of the first level stand for in `name`.
    fn matched(pattern: &str, name: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
        let pattern = parse(&format!("/{pattern}")).unwrap();
        let Level::Parts(parts) = &pattern.levels[0] else { panic!("no parts") };
        let found = parts.matched(name)?;
        Some(found.into_iter().map(|(name, value)| (name.to_string(), value.to_vec())).collect())
    }

    #[test]
    fn a_pattern_is_what_is_fixed_and_levels_below() {
        let pattern = parse("/srv/rsync/{host}/.snap/{time}/home").unwrap();
        assert_eq!((pattern.fixed.to_str(), pattern.levels.len()), (Some("/srv/rsync"), 4));
        assert!(matches!(&pattern.levels[1], Level::Plain(name) if name == ".snap"));
        assert_eq!(pattern.parts().iter().map(|p| &**p).collect::<Vec<_>>(), ["host", "time"]);
        assert!(pattern.has("host") && !pattern.has("n"));
        let plain = parse("/srv//tree/.").unwrap();
        assert_eq!((plain.fixed.to_str(), plain.levels.len()), (Some("/srv/tree"), 0));
    }

    #[test]
    fn parts_stand_for_what_is_different() {
        for (pattern, name, values) in [
            ("{time}", "20260301_030000", &["20260301_030000"][..]),
            ("{interval}.{n}", "daily.0", &["daily", "0"]),
            ("{interval}.{n}", "a.b.12", &["a.b", "12"]),
            ("{host}-{time}", "web-1-2026-03-01", &["web-1", "2026-03-01"]),
            ("{host}-{time}", "web-before", &["web", "before"]),
            ("{time}-{host}", "2026-03-01-web-1", &["2026-03-01", "web-1"]),
            ("snap_{time}.d", "snap_x.d", &["x"]),
            ("*.{time}", "a.b", &["b"]),
            ("{host}@+{path}", "pc@+home+lab", &["pc", "home+lab"]),
            ("[{host}]", "[a]", &["a"]),
        ] {
            let found: Vec<_> =
                matched(pattern, name.as_bytes()).unwrap().into_iter().map(|(_, v)| v).collect();
            assert_eq!(
                found,
                values.iter().map(|v| v.as_bytes().to_vec()).collect::<Vec<_>>(),
                "{pattern} {name}"
            );
        }
        for (pattern, name) in [
            ("{time}", ""),
            ("{time}", ".sync"),
            ("*", ".hidden"),
            ("{interval}.{n}", "daily.x"),
            ("{interval}.{n}", "daily."),
            ("snap_{time}", "snap_"),
            ("snap_{time}", "xsnap_1"),
            ("[{host}]", "a"),
        ] {
            assert_eq!(matched(pattern, name.as_bytes()), None, "{pattern} {name}");
        }
        assert_eq!(matched("a{x}\u{e9}", b"a\xff\n\xc3\xa9"), Some(vec![("x".into(), b"\xff\n".to_vec())]));
    }

    #[test]
    fn a_name_that_is_a_set_s_is_known() {
        for (pattern, expected) in
            [("{host}@+{path}", true), ("{set}", true), ("x@+{n}", true), ("{host}", false)]
        {
            let pattern = parse(&format!("/{pattern}")).unwrap();
            assert!(matches!(&pattern.levels[0], Level::Parts(parts) if parts.is_set == expected));
        }
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_said() {
        for (pattern, says) in [
            ("/a/{host}/{time}/{host}", "two parts of the pattern are called {host}"),
            ("/a/{host", "a { without its }"),
            ("/a/{}", "{} is no name for a part"),
            ("/a/{Host}", "{Host} is no name for a part"),
            ("/a/{host}{time}", "nothing stands between"),
            ("/a/../{time}", "\"..\" has no place"),
            ("a/{time}", "an absolute path"),
        ] {
            let error = parse(pattern).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{pattern}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
