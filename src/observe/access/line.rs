//! An open as a line of JSON.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::Opened;
use crate::observe::{is_unfit, json_name};

/// Of a path that is longer only the end is told.
const LONGEST: usize = 16 << 10;

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    uid: u32,
    source: Option<&'a str>,
    snapshot: Option<&'a str>,
    id: Option<&'a str>,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    incomplete: Option<bool>,
}

#[derive(Serialize)]
struct Gap {
    time: String,
    lost: u64,
}

/// What was opened at `time` below `mountpoint`, with the end of the line.
pub(super) fn opened(time: Timestamp, mountpoint: &Path, opened: &Opened) -> String {
    let mut path = opened.path.as_slice();
    let mut whole = Vec::new();
    let is_whole = opened.is_whole && path.len() <= LONGEST;
    if is_whole {
        whole.extend_from_slice(mountpoint.as_os_str().as_bytes());
        whole.extend_from_slice(path);
        path = &whole;
    } else {
        path = path.get(path.len().saturating_sub(LONGEST)..).unwrap_or_default();
    }
    let (path, path_base64) = json_name(path);
    let snapshot = opened.snapshot.as_ref();
    text(&Line {
        time: shown(time),
        uid: opened.uid,
        source: snapshot.map(|snapshot| snapshot.source.as_str()),
        snapshot: snapshot.map(|snapshot| snapshot.name.as_str()),
        id: snapshot.map(|snapshot| snapshot.id.as_str()),
        path,
        path_base64,
        links: (opened.links > 1).then_some(opened.links),
        incomplete: (!is_whole).then_some(true),
    })
}

/// That `lost` opens before `time` are not in the log, with the end of the line.
pub(super) fn gap(time: Timestamp, lost: u64) -> String {
    text(&Gap { time: shown(time), lost })
}

fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// One line, whatever is in it, that a terminal shows as it is meant. Such characters are only within strings.
fn text(line: &impl Serialize) -> String {
    // Maps of strings and numbers cannot fail.
    let json = serde_json::to_string(line).unwrap_or_default();
    let mut text = String::with_capacity(json.len() + 1);
    for c in json.chars() {
        if is_unfit(c) {
            // Writing to a String cannot fail. All of them are in the first plane of Unicode.
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::Snapshot;
    use super::*;

    fn open(path: &[u8]) -> Opened {
        let (source, name, id) = ("home".into(), "20260301_030000".into(), "ab12".into());
        let snapshot = Some(Snapshot { source, name, id });
        Opened { uid: 1000, snapshot, path: path.into(), is_whole: true, links: 1 }
    }

    fn told(what: &Opened) -> String {
        opened(Timestamp::UNIX_EPOCH, "/mnt".as_ref(), what)
    }

    #[test]
    fn a_line_says_who_and_what() {
        assert_eq!(
            told(&open(b"/h@+home/20260301_030000/a b")),
            "{\"time\":\"1970-01-01T00:00:00.000Z\",\"uid\":1000,\"source\":\"home\",\
             \"snapshot\":\"20260301_030000\",\"id\":\"ab12\",\"path\":\"/mnt/h@+home/20260301_030000/a b\"}\n"
        );
        assert!(told(&Opened { links: 3, ..open(b"/a") }).ends_with("\"path\":\"/mnt/a\",\"links\":3}\n"));
        let unknown = told(&Opened { snapshot: None, is_whole: false, ..open(b"/b/a") });
        assert!(
            unknown.ends_with(
                "\"source\":null,\"snapshot\":null,\"id\":null,\"path\":\"/b/a\",\"incomplete\":true}\n"
            ),
            "{unknown}"
        );
        assert_eq!(gap(Timestamp::UNIX_EPOCH, 7), "{\"time\":\"1970-01-01T00:00:00.000Z\",\"lost\":7}\n");
    }

    #[test]
    fn a_path_without_end_is_cut_at_its_beginning() {
        let line = told(&open(&[b"/x".repeat(100_000).as_slice(), b"/end"].concat()));
        assert!(line.len() < LONGEST + 300 && line.ends_with("/end\",\"incomplete\":true}\n"));
    }

    proptest! {
        #[test]
        fn any_name_is_one_printable_line_and_no_byte_of_it_is_lost(name in prop::collection::vec(any::<u8>(), 1..60)) {
            let path = [b"/".as_slice(), &name].concat();
            let line = told(&open(&path));
            prop_assert!(line.ends_with('\n') && !line[..line.len() - 1].contains(is_unfit), "{line:?}");
            let parsed: Value = serde_json::from_str(&line).unwrap();
            let bytes = match parsed.get("path_base64").and_then(Value::as_str) {
                Some(exact) => {
                    use base64::Engine as _;
                    base64::engine::general_purpose::STANDARD.decode(exact).unwrap()
                }
                None => parsed["path"].as_str().unwrap().as_bytes().to_vec(),
            };
            prop_assert_eq!(bytes, [b"/mnt".as_slice(), &path].concat());
        }
    }
}
