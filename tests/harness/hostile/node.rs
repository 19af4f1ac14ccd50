//! Nodes of trees, as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

/// A regular file of these blobs, with all fields that restic writes.
pub fn file(name: &str, content: &[&str]) -> Value {
    let node = json!({"type": "file", "mode": 0o644, "size": 1, "links": 1, "content": content});
    with(node, times(name))
}

/// A directory.
pub fn dir(name: &str, subtree: &str) -> Value {
    let node = json!({"type": "dir", "mode": 0o755 | 1_u32 << 31, "subtree": subtree, "content": null});
    with(node, times(name))
}

/// A symbolic link.
pub fn symlink(name: &str, target: &str) -> Value {
    let node = json!({"type": "symlink", "mode": 0o777 | 1_u32 << 27, "linktarget": target, "content": null});
    with(node, times(name))
}

fn times(name: &str) -> Value {
    let time = "2026-01-02T03:04:05.000000006+01:00";
    json!({"name": name, "mtime": time, "atime": time, "ctime": time, "uid": 0, "gid": 0, "inode": 0})
}

/// `node` with `fields` in the place of its own. A field whose value is the string `"-"` is taken out.
pub fn with(mut node: Value, fields: Value) -> Value {
    let own = node.as_object_mut().unwrap();
    for (name, value) in fields.as_object().unwrap() {
        match value {
            Value::String(text) if text == "-" => drop(own.remove(name)),
            value => drop(own.insert(name.clone(), value.clone())),
        }
    }
    node
}

/// A name of any bytes as restic quotes it.
pub fn quote(name: &[u8]) -> String {
    let mut quoted = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                c if u32::from(c) < 0x80 && c.is_control() => {
                    write!(quoted, "\\x{:02x}", u32::from(c)).unwrap()
                }
                c if c.is_control() => write!(quoted, "\\u{:04x}", u32::from(c)).unwrap(),
                c => quoted.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(quoted, "\\x{byte:02x}").unwrap();
        }
    }
    quoted
}
