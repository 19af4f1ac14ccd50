//! Lists of members: what a file holds or a command prints, a line for each.
//!
//! A line is a location, a name and a location, or a JSON object with the keys of `[[source]]`. Lines stay as they are,
//! a hundred bytes each, until somebody looks at their member.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use zeroize::Zeroizing;

use super::access::AccessDraft;
use super::given::{Entry, Given};
use super::password::owner_is_trusted;
use super::source;
use super::{MemberList, command, location};
use crate::error::{Error, Kind, Result};

/// What one line says of a member.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    text: Arc<Zeroizing<String>>,
    /// It says who may enter.
    pub has_access: bool,
    /// It holds a secret itself.
    pub has_secret: bool,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line(…)")
    }
}

/// The members that `text` lists, each with its name. Empty lines and those that begin with `#` are left out. A line
/// that is none of a member's is an error of its own, which says where it is (`from`, and which line) and repeats
/// nothing. Secrets may stand only where `secrets` says so.
pub fn lines(from: &str, text: &[u8], secrets: bool) -> Vec<Result<(String, Line)>> {
    let lines = text.split(|byte| *byte == b'\n').zip(1..);
    let lines = lines.map(|(line, number)| (line.trim_ascii(), number));
    lines
        .filter(|(line, _)| !line.is_empty() && !line.starts_with(b"#"))
        .map(|(line, number): (&[u8], usize)| {
            let place = format!("{from}:{number}");
            let line = std::str::from_utf8(line).map_err(|_| wrong(&place, "is no text in UTF-8"))?;
            named(line, &place, secrets)
        })
        .collect()
}

/// No list is longer.
const LONGEST: u64 = 256 << 20;

/// The members that `list` names, read or asked for now, as [`lines`] has them. Errors: a list that cannot be had, and
/// `Denied` for a file that others may write to.
pub fn listed(list: &MemberList) -> Result<Vec<Result<(String, Line)>>> {
    match list {
        MemberList::File(path) => {
            let name = path.display().to_string();
            Ok(lines(&name, &from_file(path)?, false))
        }
        MemberList::Command(line) => {
            let text = command::output(line, "", LONGEST);
            let text = text.map_err(|e| e.with_kind(Kind::Unavailable).context("members-command"))?;
            Ok(lines("members-command", &text, true))
        }
    }
}

/// What lies in `path`. Lines may name commands, which run as whoever mounts: a file that others may write to would let
/// them run what they like.
fn from_file(path: &Path) -> Result<Vec<u8>> {
    let failed = |e| Error::io(format!("members-file {}", path.display()), e);
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let wrong = match (owner_is_trusted(meta.uid()), meta.mode() & 0o022) {
        (false, _) => "belongs to another user (chown it to root or to whoever mounts)",
        (true, 0) => {
            let mut text = Vec::new();
            file.take(LONGEST).read_to_end(&mut text).map_err(failed)?;
            return Ok(text);
        }
        (true, _) => "can be written to by others (chmod go-w)",
    };
    let why = "and lines of it may name commands to run";
    Err(Error::new(Kind::Denied, format!("members-file {} {wrong}, {why}", path.display())))
}

fn named(line: &str, place: &str, secrets: bool) -> Result<(String, Line)> {
    let text = Arc::new(Zeroizing::new(line.to_owned()));
    let mut line = Line { text, has_access: false, has_secret: false };
    let entries = line.entries_at(place)?;
    line.has_access = entries.iter().any(|entry| entry.key == "access");
    line.has_secret = entries.iter().any(source::is_secret);
    if !secrets && line.has_secret {
        return Err(wrong(place, "a password does not belong here, where others can read it"));
    }
    let text = |key: &str| entries.iter().find(|entry| entry.key == key).and_then(|entry| entry.text().ok());
    let url = text("url").ok_or_else(|| wrong(place, "a member needs a url"))?;
    let name = match text("name") {
        Some(name) => name.to_owned(),
        None => location::parse(url.as_ref(), "/".as_ref()).map_err(|e| e.context(place))?.location.last(),
    };
    Ok((name, line))
}

impl Line {
    /// What it says, as entries. Errors: `Usage`, which repeats nothing.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        self.entries_at("members")
    }

    /// Who may enter, where it says so. Errors: as [`Line::entries`].
    pub(super) fn access(&self) -> Result<Option<AccessDraft>> {
        if !self.has_access {
            return Ok(None);
        }
        let access = self.entries()?.into_iter().filter(|entry| entry.key == "access").collect::<Vec<_>>();
        Ok(source::draft("members", &access)?.access)
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn entries_at(&self, place: &str) -> Result<Vec<Entry>> {
        if self.text.starts_with('{') {
            return object(&self.text, place);
        }
        let mut words = self.text.split_ascii_whitespace();
        let (first, second) = (words.next(), words.next());
        if words.next().is_some() {
            return Err(wrong(place, "a member is URL, NAME URL, or a JSON object"));
        }
        let entry = |key: &str, text: &str| Entry {
            key: key.to_owned(),
            place: place.to_owned(),
            value: Given::Text(text.to_owned()),
        };
        Ok(match (first, second) {
            (Some(name), Some(url)) => vec![entry("name", name), entry("url", url)],
            (url, _) => url.iter().map(|url| entry("url", url)).collect(),
        })
    }
}

fn object(text: &str, place: &str) -> Result<Vec<Entry>> {
    let Ok(Value::Object(object)) = serde_json::from_str(text) else {
        return Err(wrong(place, "is no JSON object"));
    };
    let entry = |(key, value): (String, Value)| {
        let value = given(value, place)
            .ok_or_else(|| wrong(place, &format!("{key}: is nothing that can be said here")))?;
        Ok(Entry { key, place: place.to_owned(), value })
    };
    object.into_iter().map(entry).collect()
}

fn given(value: Value, place: &str) -> Option<Given> {
    Some(match value {
        Value::String(text) => Given::Text(text),
        Value::Bool(flag) => Given::Flag(flag),
        Value::Number(number) => Given::Number(number.as_i64()?),
        Value::Array(items) => {
            let text = |item: Value| if let Value::String(text) = item { Some(text) } else { None };
            Given::List(items.into_iter().map(text).collect::<Option<_>>()?)
        }
        Value::Object(object) => {
            let entry =
                |(key, value)| Some(Entry { key, place: place.to_owned(), value: given(value, place)? });
            Given::Table(object.into_iter().map(entry).collect::<Option<_>>()?)
        }
        Value::Null => return None,
    })
}

fn wrong(place: &str, why: &str) -> Error {
    Error::new(Kind::Usage, format!("{place}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_location_a_name_and_one_or_an_object() {
        let text = b"# members\n\n/srv/restic/a\n b  s3:https://h.x/b \r\n{\"name\": \"c\", \"url\": \"/c\", \"tag\": [\"x\"]}";
        let names: Vec<String> = lines("list", text, false).into_iter().map(|line| line.unwrap().0).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let (_, c) = lines("list", text, false).remove(2).unwrap();
        let entries = c.entries().unwrap();
        let tag = entries.iter().find(|entry| entry.key == "tag").unwrap();
        assert_eq!(tag.value, Given::List(vec!["x".into()]));
    }

    #[test]
    fn a_wrong_line_costs_itself_and_is_not_repeated() {
        let text = b"/a\n{\"name\": \"hunter2\"\n{\"name\": \"x\"}\na b hunter2\n\xff\n{\"url\": null}\n/b";
        let found = lines("list", text, true);
        let wrong: Vec<String> =
            found.iter().filter_map(|line| Some(line.as_ref().err()?.to_string())).collect();
        assert_eq!(
            wrong,
            [
                "list:2: is no JSON object",
                "list:3: a member needs a url",
                "list:4: a member is URL, NAME URL, or a JSON object",
                "list:5: is no text in UTF-8",
                "list:6: url: is nothing that can be said here",
            ]
        );
        assert_eq!(found.iter().flatten().count(), 2);
    }

    #[test]
    fn a_file_that_others_may_write_to_names_nobody() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("members");
        std::fs::write(&path, "/a\n").unwrap();
        let read = |mode: u32| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            listed(&MemberList::File(path.clone())).map(|found| found.len())
        };
        for mode in [0o600, 0o644, 0o444] {
            assert_eq!(read(mode).unwrap(), 1, "{mode:o}");
        }
        for mode in [0o620, 0o602, 0o666] {
            let error = read(mode).unwrap_err();
            assert_eq!(error.kind(), Kind::Denied, "{mode:o}");
            assert!(error.to_string().contains("chmod go-w"), "{error}");
        }
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(1000), None).unwrap();
            let error = read(0o600).unwrap_err();
            assert!(error.kind() == Kind::Denied && error.to_string().contains("another user"), "{error}");
        }
    }

    #[test]
    fn a_line_may_say_who_may_enter() {
        let access = |text: &str| lines("list", text.as_bytes(), false).remove(0).unwrap().1.access();
        assert!(access("/access").unwrap().is_none());
        assert!(access(r#"{"url": "/a"}"#).unwrap().is_none());
        let said = access(r#"{"url": "/a", "access": {"user": "root", "mode": "0750"}}"#).unwrap().unwrap();
        assert_eq!(said.of("a").map(|access| access.perm), Some(0o750));
        access(r#"{"url": "/a", "access": {"user": "no such user"}}"#).unwrap_err();
    }

    #[test]
    fn secrets_stand_only_in_what_a_command_prints() {
        let text = br#"{"url": "/a", "password": "hunter2"}"#;
        let error = lines("list", text, false).remove(0).unwrap_err().to_string();
        assert_eq!(error, "list:1: a password does not belong here, where others can read it");
        let (_, line) = lines("list", text, true).remove(0).unwrap();
        assert!(!format!("{line:?}").contains("hunter2"));
    }
}
