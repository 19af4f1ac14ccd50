//! The import table of the rooms.

use std::collections::BTreeSet;
use std::path::Path;

use crate::rust::{Named, paths};
use crate::{files, text};

/// Every room and those it may import.
const TABLE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("locked", &[]),
    ("observe", &["error"]),
    ("tree", &["error"]),
    ("store", &["error", "locked", "observe"]),
    ("cache", &["error", "locked", "observe", "store"]),
    ("source", &["error", "locked", "observe", "tree", "store", "cache"]),
    ("namespace", &["error", "observe", "tree"]),
    ("fuse", &["error", "observe", "tree"]),
    ("config", &["error", "locked"]),
    (
        "daemon",
        &["error", "locked", "observe", "tree", "store", "cache", "source", "namespace", "fuse", "config"],
    ),
    ("cli", &["config", "daemon", "error", "locked", "observe", "tree"]),
];

/// The rooms of `source` that kinds share; they know none of them, and the later may use the earlier.
const SHARED: &[&str] = &["chunked", "names", "host"];

/// Libraries whose types stay in one room.
const BORDERS: &[(&str, &str)] = &[("fuser", "fuse"), ("clap", "cli"), ("tracing_subscriber", "observe")];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "core", "manager", "helper", "helpers", "misc"];

/// Where a file of `src/` stands in the crate: `src/a/b.rs` and `src/a/b/mod.rs` are both `a::b`.
fn module(file: &Path) -> Vec<String> {
    let inner = file.strip_prefix("src").unwrap().with_extension("");
    let mut module: Vec<_> = inner.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    module.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
    module
}

/// What is wrong with a file of room `module[0]` naming `named`, if anything.
fn breach(module: &[&str], named: &Named, table: &[(&str, &[&str])]) -> Option<String> {
    let (room, target) = (*module.first()?, named.path.first()?.as_str());
    if named.foreign {
        let (library, home) = BORDERS.iter().find(|(library, _)| *library == target)?;
        return (room != *home)
            .then(|| format!("{room} imports the library {library}, which belongs to {home}"));
    }
    if target != room {
        let known = table.iter().any(|(name, _)| *name == target);
        let allowed = table.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, allowed)| allowed);
        return (known && !allowed.contains(&target)).then(|| format!("{room} imports {target}"));
    }
    match (module, &named.path[1..]) {
        (["source", kind, ..], [other, ..])
            if other != kind && !may_share(kind, other) && is_kind(other)
                || is_kind(kind) && other == "*" =>
        {
            Some(format!("source::{kind} imports source::{other}"))
        }
        _ => None,
    }
}

/// Whether `kind` may use `other` because that is shared.
fn may_share(kind: &str, other: &str) -> bool {
    let place = |name| SHARED.iter().position(|shared| *shared == name);
    place(other).is_some_and(|other| place(kind).is_none_or(|kind| other < kind))
}

/// Kinds are modules of `source`; items of `source` itself start with a capital or stand in no file of that name.
fn is_kind(name: &str) -> bool {
    let folder = Path::new("src/source").join(name);
    crate::root().join(&folder).is_dir() || crate::root().join(folder.with_extension("rs")).is_file()
}

#[test]
fn rooms_import_what_the_table_allows() {
    let mut breaches = Vec::new();
    for file in files("src", ".rs") {
        let module = module(&file);
        let module: Vec<_> = module.iter().map(String::as_str).collect();
        for named in paths(&text(&file), &module) {
            if let Some(breach) = breach(&module, &named, TABLE) {
                breaches.push(format!("{}:{}: {breach}", file.display(), named.line));
            }
        }
    }
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn the_table_names_every_room_and_only_rooms() {
    let rooms: BTreeSet<_> =
        files("src", ".rs").iter().filter_map(|file| module(file).into_iter().next()).collect();
    let table: BTreeSet<_> = TABLE.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, table);
    let allowed: BTreeSet<_> =
        TABLE.iter().flat_map(|(_, allowed)| *allowed).map(|room| (*room).to_owned()).collect();
    assert!(allowed.is_subset(&table));
}

#[test]
fn the_table_has_no_cycles() {
    // A room that imports only rooms already placed can be placed below them.
    let mut placed = BTreeSet::new();
    while placed.len() < TABLE.len() {
        let next = TABLE.iter().find(|(room, allowed)| {
            !placed.contains(room) && allowed.iter().all(|below| placed.contains(below))
        });
        placed.insert(next.expect("a cycle in the table").0);
    }
}

#[test]
fn names_say_something() {
    let empty: Vec<_> = files("src", ".rs")
        .into_iter()
        .filter(|file| module(file).iter().any(|part| EMPTY_NAMES.contains(&part.as_str())))
        .collect();
    assert!(empty.is_empty(), "{empty:?}");
}

#[test]
fn breaches_are_seen() {
    let say = |module: &[&str], source: &str| -> Vec<String> {
        paths(source, module).iter().filter_map(|named| breach(module, named, TABLE)).collect()
    };
    assert_eq!(
        say(&["fuse", "inode"], "use crate::{tree::Node, store::ObjectStore};"),
        ["fuse imports store"]
    );
    assert_eq!(say(&["fuse"], "fn f() { super::namespace::g() }"), ["fuse imports namespace"]);
    assert_eq!(
        say(&["source", "restic", "open"], "use super::super::chunked::Id; use crate::source::restic::x;"),
        Vec::<String>::new()
    );
    assert_eq!(
        say(&["source", "kopia"], "use crate::source::restic::format;"),
        ["source::kopia imports source::restic"]
    );
    assert_eq!(
        say(&["source", "chunked"], "use super::restic::x;"),
        ["source::chunked imports source::restic"]
    );
    assert_eq!(say(&["source", "host"], "use super::chunked::hash;"), Vec::<String>::new());
    assert_eq!(say(&["source", "chunked"], "use super::host::x;"), ["source::chunked imports source::host"]);
    assert_eq!(
        say(&["tree"], "use fuser::FileAttr;"),
        ["tree imports the library fuser, which belongs to fuse"]
    );
}
