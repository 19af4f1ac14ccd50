//! `backupfs ls`: a path of the tree, without a mount.
//!
//! On a terminal names are escaped as [`print::visible`] says; into a pipe or a file they go byte for byte, as with `ls`.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use super::args::Repositories;
use super::browse::{Browser, components};
use super::exit::Code;
use super::print::{self, Column};
use crate::error::{Error, Kind, Result};
use crate::observe::json_name;
use crate::tree::{Content, FileType, Meta, Node};

/// Lists a path of the backups without mounting them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A path as a mount would show it: SET, SET/DATE/dir, current/SET/dir, at/2026-03-01/SET [default: the root]
    #[arg(value_name = "PATH", default_value = "", hide_default_value = true)]
    inside: OsString,
    /// Mode, owner, size and time of each entry
    #[arg(short, long)]
    long: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repositories: Repositories,
}

/// A node and its name.
type Named = (Vec<u8>, Node);

/// One entry as JSON has it.
#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_base64: Option<String>,
    r#type: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    nlink: u32,
    size: u64,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
}

impl Args {
    /// Prints the entries of a directory, or the one entry that is something else.
    pub fn run(self) -> Result<Code> {
        let browser = Browser::open(&self.repositories)?;
        let path = components(self.inside.as_bytes());
        let node = browser.find(&path, !self.long)?.ok_or_else(|| self.missing())?;
        if let (Content::Dir(dir), false, false) = (&node.content, self.long, self.json) {
            print::stdout(&lines(browser.names(dir)?))?;
            return Ok(browser.code());
        }
        let (entries, damaged) = self.entries(&browser, &path, node)?;
        if self.json {
            print::json(&entries.iter().map(|(name, node)| row(name, node)).collect::<Vec<_>>())?;
        } else if self.long {
            print::stdout(&long(&entries))?;
        } else {
            print::stdout(&lines(entries.into_iter().map(|(name, _)| name).collect()))?;
        }
        Ok(if damaged { Code::Failed } else { browser.code() })
    }

    /// The named nodes to show, and whether some of them could not be had: each of those costs a line on stderr.
    fn entries(&self, browser: &Browser, path: &[Vec<u8>], node: Node) -> Result<(Vec<Named>, bool)> {
        let Content::Dir(dir) = &node.content else {
            return Ok((vec![(path.join(&b'/'), node)], false));
        };
        let mut entries = Vec::new();
        let mut damaged = false;
        for (name, node) in browser.children(dir)? {
            match node {
                Ok(node) => entries.push((name, node)),
                Err(error) => {
                    damaged = true;
                    let error = print::visible(error.to_string().as_bytes());
                    eprintln!("backupfs: {}: {error}", print::visible(&name));
                }
            }
        }
        Ok((entries, damaged))
    }

    fn missing(&self) -> Error {
        let path = print::visible(self.inside.as_bytes());
        Error::new(Kind::NotFound, format!("{path}: no such file or directory in these backups"))
    }
}

/// A name for stdout.
fn shown(name: &[u8], terminal: bool) -> Vec<u8> {
    if terminal { print::visible(name).into_bytes() } else { name.to_vec() }
}

fn lines(names: Vec<Vec<u8>>) -> Vec<u8> {
    let terminal = std::io::stdout().is_terminal();
    names.into_iter().flat_map(|name| [shown(&name, terminal), b"\n".to_vec()].concat()).collect()
}

/// The lines of `ls -l`, with numbers for owners: their names on the host that was backed up may be others here.
fn long(entries: &[Named]) -> Vec<u8> {
    let terminal = std::io::stdout().is_terminal();
    let columns = [false, true, true, true, true, false].map(|right| Column("", right));
    let rows: Vec<Vec<String>> = entries.iter().map(|(_, node)| attributes(&node.meta)).collect();
    let mut text = Vec::new();
    for (line, (name, node)) in print::table(&columns, &rows).lines().zip(entries) {
        text.extend_from_slice(line.as_bytes());
        text.extend_from_slice(b"  ");
        text.extend(shown(name, terminal));
        if let Content::Symlink(target) = &node.content {
            text.extend_from_slice(b" -> ");
            text.extend(shown(target, terminal));
        }
        text.push(b'\n');
    }
    text
}

fn attributes(meta: &Meta) -> Vec<String> {
    let size = match device(meta) {
        Some((major, minor)) => format!("{major}, {minor}"),
        None => meta.size.to_string(),
    };
    vec![
        print::mode(meta.kind, meta.perm),
        meta.nlink.to_string(),
        meta.uid.to_string(),
        meta.gid.to_string(),
        size,
        print::local_minute(meta.mtime),
    ]
}

/// Major and minor number of a device.
fn device(meta: &Meta) -> Option<(u32, u32)> {
    let rdev = meta.rdev;
    let parts = ((rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & !0xff));
    matches!(meta.kind, FileType::Block | FileType::Char).then_some(parts)
}

fn row(name: &[u8], node: &Node) -> Row {
    let (name, name_base64) = json_name(name);
    let (target, target_base64) = match &node.content {
        Content::Symlink(target) => {
            let (text, exact) = json_name(target);
            (Some(text), exact)
        }
        _ => (None, None),
    };
    let meta = &node.meta;
    Row {
        name,
        name_base64,
        r#type: print::kind(meta.kind),
        mode: format!("{:04o}", meta.perm),
        uid: meta.uid,
        gid: meta.gid,
        nlink: meta.nlink,
        size: meta.size,
        mtime: print::utc(meta.mtime),
        target,
        target_base64,
        device: device(meta),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::tree::{Time, Validity};

    fn meta(kind: FileType) -> Meta {
        Meta { kind, ..Meta::directory(Time { secs: 86_400, nanos: 7 }, Validity::Forever) }
    }

    fn node(meta: Meta, content: Content) -> Node {
        Node { meta, content, xattrs: None }
    }

    #[test]
    fn device_numbers_come_apart_as_the_kernel_packs_them() {
        let of = |rdev| device(&Meta { rdev, ..meta(FileType::Char) });
        assert_eq!(of(0x0103), Some((1, 3)));
        assert_eq!(of(0xabc0_1234), Some((0x12, 0xa_bc34)));
        assert_eq!(device(&meta(FileType::File)), None);
    }

    #[test]
    fn json_tells_everything_about_an_odd_link() {
        let link = Meta { perm: 0o777, uid: 5, gid: 6, size: 2, ..meta(FileType::Symlink) };
        let row = row(b"a\xff", &node(link, Content::Symlink(Bytes::from_static(b"\xfe/"))));
        let json = serde_json::to_value(row).unwrap();
        let expected = serde_json::json!({
            "name": "a\u{fffd}", "name_base64": "Yf8=", "type": "symlink", "mode": "0777", "uid": 5, "gid": 6,
            "nlink": 1, "size": 2, "mtime": "1970-01-02T00:00:00.000000007Z", "target": "\u{fffd}/",
            "target_base64": "/i8=",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn long_lines_align_and_show_targets() {
        let entries = [
            (b"short".to_vec(), node(Meta { size: 12_345, ..meta(FileType::File) }, Content::Special)),
            (b"l\n".to_vec(), node(meta(FileType::Symlink), Content::Symlink(Bytes::from_static(b"to")))),
            (b"null".to_vec(), node(Meta { rdev: 0x0103, ..meta(FileType::Char) }, Content::Special)),
        ];
        let text = String::from_utf8(long(&entries)).unwrap();
        let when = print::local_minute(Time { secs: 86_400, nanos: 7 });
        // Tests write into no terminal, so names come out byte for byte.
        assert_eq!(
            text,
            format!(
                "-rwxr-xr-x  1  0  0  12345  {when}  short\nlrwxr-xr-x  1  0  0      0  {when}  l\n -> to\n\
                 crwxr-xr-x  1  0  0   1, 3  {when}  null\n"
            )
        );
    }
}
