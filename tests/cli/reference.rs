//! The documentation says what the program says: docs/cli.md is the help of every command, and docs/options.md names
//! every argument of `mount`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// The help of every command that is shown, as docs/cli.md holds it.
fn reference() -> String {
    let mut root = backupfs::cli::command().term_width(100);
    root.build();
    let mut text = String::from(
        "# Commands\n\n\
         What `backupfs --help` and `backupfs COMMAND --help` print. A test writes this page (`BLESS=1 cargo test --test cli reference`).\n",
    );
    let help = root.render_long_help();
    write!(text, "\n## backupfs\n\n```text\n{help}```\n").unwrap();
    for verb in root.get_subcommands_mut().filter(|verb| !verb.is_hide_set()) {
        let help = verb.render_long_help();
        write!(text, "\n## backupfs {}\n\n```text\n{help}```\n", verb.get_name()).unwrap();
    }
    text
}

#[test]
fn the_command_reference_is_what_the_program_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let reference = reference();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &reference).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == reference, "docs/cli.md is out of date: BLESS=1 cargo test --test cli reference");
}

#[test]
fn every_argument_of_mount_is_in_the_table_of_options() {
    let table = include_str!("../../docs/options.md");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let places = rows.flat_map(|row| row.split('|').nth(2).unwrap().split(", "));
    let words: BTreeSet<&str> = places.map(|place| place.trim().trim_matches('`')).collect();
    let documented: BTreeSet<String> =
        words.iter().filter_map(|word| word.strip_prefix("--")).map(str::to_owned).collect();
    let mut root = backupfs::cli::command();
    root.build();
    let mount = root.find_subcommand("mount").unwrap();
    let known = mount.get_arguments().filter_map(|argument| argument.get_long()).map(str::to_owned);
    let known: BTreeSet<String> =
        known.filter(|long| !["help", "version"].contains(&long.as_str())).collect();
    assert_eq!(documented, known);
}
