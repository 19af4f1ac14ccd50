//! Holds docs/options.md against the tables of keys: every key is in it, in the right column, and nothing else is.

use std::collections::BTreeSet;

use super::given::Key;
use super::{Source, access, general, source};

const OPTIONS: &str = include_str!("../../docs/options.md");

/// What only a file can say, because it has keys of its own.
const FILE_ONLY: &[&str] = &["source"];

/// What no file can say, because it names the file.
const OPTION_ONLY: &[&str] = &["config"];

/// The documented options that can be given at `place`.
fn documented(place: &str) -> BTreeSet<&'static str> {
    let rows = OPTIONS.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells
        .filter(|cells| cells[2].split(", ").any(|at| at == format!("`{place}`")))
        .map(|cells| cells[1].trim_matches('`'))
        .collect()
}

fn known<T>(keys: &[Key<T>]) -> BTreeSet<&'static str> {
    keys.iter().map(|key| key.name).collect()
}

#[test]
fn every_key_is_documented_where_it_can_be_said() {
    let general: BTreeSet<_> = general::names().collect();
    let in_files = general.iter().copied().filter(|name| !OPTION_ONLY.contains(name)).collect();
    assert_eq!(documented("file"), in_files);
    let typed = general.into_iter().filter(|name| !FILE_ONLY.contains(name)).collect();
    assert_eq!(documented("-o"), typed);
    assert_eq!(documented("[[source]]"), known(source::KEYS));
    assert_eq!(documented("[[rename]]"), known(general::RULE_KEYS));
    assert_eq!(documented("access"), known(access::KEYS));
}

#[test]
fn the_example_is_a_configuration() {
    let example = OPTIONS.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let example = example.replace("www-data", "root");
    let entries = super::file::entries(std::path::Path::new("c.toml"), &example).unwrap();
    let mut read = general::General::default();
    assert!(read.take(entries).unwrap().is_empty());
    assert_eq!(read.sources.len(), 2);
    assert!(read.mount.allow_other);
}

#[test]
fn the_example_has_a_source_of_each_kind() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/example.toml");
    let typed = super::Typed { file: Some(file.into()), ..super::Typed::default() };
    let config = super::resolve(&typed).unwrap();
    let places: BTreeSet<&str> = config.sources.iter().map(Source::place_kind).collect();
    assert_eq!(places, ["directory", "local", "objects", "rclone", "rest", "s3", "sftp", "zfs"].into());
    let groups: Vec<_> =
        config.groups.iter().map(|group| (group.name.as_str(), group.places.len())).collect();
    assert_eq!(groups, [("users", 1), ("projects", 0)]);
}
