//! The pages of the program and its verbs, from the definitions that `--help` prints.

use clap_mangen::Man;
use roff::{Roff, roman};

use crate::markdown;
use crate::page::{self, Page};

/// What only the page of the program itself says.
const PROGRAM: &str = include_str!("../text/backupfs.md");

/// Examples of each verb: a heading of the second level, then what stands in its page.
const EXAMPLES: &str = include_str!("../text/examples.md");

/// backupfs(1) and a page for each verb that is shown, and for each verb of a verb.
pub fn pages() -> Vec<Page> {
    let mut root = backupfs::cli::command();
    root.build();
    let mut pages = Vec::new();
    collect(&root, "backupfs", &mut pages);
    pages
}

fn collect(command: &clap::Command, name: &str, pages: &mut Vec<Page>) {
    pages.push(page(command, name));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        collect(verb, &format!("{name}-{}", verb.get_name()), pages);
    }
}

fn page(command: &clap::Command, name: &str) -> Page {
    let mut parts = vec![generated(command)];
    if name == "backupfs" {
        parts.push(markdown::roff(PROGRAM));
    }
    if let Some(examples) = examples(name) {
        parts.push(markdown::roff(&format!("## Examples\n{examples}")));
    }
    parts.extend([exit_status(command), page::see_also(&related(command, name))]);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    Page::new(name, 1, &about, parts)
}

/// What clap knows of a command: synopsis, description, options, verbs.
fn generated(command: &clap::Command) -> String {
    let man = Man::new(command.clone());
    let mut text = Vec::new();
    // Writing into memory cannot fail.
    let _ = man.render_synopsis_section(&mut text);
    let _ = man.render_description_section(&mut text);
    let _ = man.render_options_section(&mut text);
    if command.get_subcommands().any(|verb| !verb.is_hide_set()) {
        let _ = man.render_subcommands_section(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The exit codes that the help of every command lists, one a line.
fn exit_status(command: &clap::Command) -> String {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for code in help.trim_start_matches("Exit codes: ").split(" · ") {
        let (number, meaning) = code.split_once(' ').unwrap_or((code, ""));
        roff.control("TP", []).text([roman(number)]).text([roman(meaning)]);
    }
    roff.render()
}

/// What EXAMPLES holds of the page called `name`, without the heading.
fn examples(name: &str) -> Option<&'static str> {
    let sections = EXAMPLES.split("\n## ").skip(1);
    let (_, text) =
        sections.filter_map(|section| section.split_once('\n')).find(|(heading, _)| *heading == name)?;
    Some(text)
}

/// What to read next: every verb from the program's page, the program from everywhere else.
fn related<'a>(command: &'a clap::Command, name: &str) -> Vec<(&'a str, u8)> {
    let mut pages = Vec::new();
    if name != "backupfs" {
        pages.push(("backupfs", 1));
    }
    pages.push(("backupfs.conf", 5));
    if ["backupfs", "backupfs-mount", "backupfs-umount"].contains(&name) {
        pages.extend(crate::documents::HELPERS);
    }
    if command.get_name() == "mount" {
        pages.extend([("backupfs-umount", 1), ("fuse", 4)]);
    }
    pages
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it fails")]

    use super::*;

    fn named(name: &str) -> String {
        pages().into_iter().find(|page| page.name == name).unwrap_or_else(|| panic!("no page {name}")).text
    }

    #[test]
    fn every_verb_that_is_shown_has_a_page_with_examples() {
        for verb in backupfs::cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let text = named(&format!("backupfs-{}", verb.get_name()));
            assert!(text.contains(".SH EXAMPLES"), "{}: text/examples.md has none", verb.get_name());
            assert!(text.contains(".SH \"EXIT STATUS\""), "{}", verb.get_name());
        }
        named("backupfs-cache-purge");
        assert!(pages().iter().all(|page| page.name != "backupfs-serve"), "hidden verbs stay hidden");
    }

    #[test]
    fn examples_belong_to_a_page() {
        let names: Vec<String> = pages().into_iter().map(|page| page.name).collect();
        for section in EXAMPLES.split("\n## ").skip(1) {
            let heading = section.lines().next().unwrap().to_owned();
            assert!(names.contains(&heading), "{heading}");
        }
    }

    /// The program takes every command line that the pages show.
    #[test]
    fn examples_are_understood() {
        let mut seen = 0;
        for line in [EXAMPLES, PROGRAM].iter().flat_map(|text| text.lines()).map(str::trim) {
            let typed = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ ")).unwrap_or_default();
            let typed = typed.split(" > ").next().unwrap_or_default();
            let Some(command) = typed.strip_prefix("backupfs") else { continue };
            let words = std::iter::once("backupfs").chain(command.split_whitespace());
            let words = words.map(|word| word.trim_matches('\''));
            if let Err(error) = backupfs::cli::command().try_get_matches_from(words) {
                panic!("{line}: {error}");
            }
            seen += 1;
        }
        assert!(seen >= 20, "{seen} examples");
    }

    #[test]
    fn exit_codes_stand_one_a_line() {
        let text = named("backupfs-check");
        let codes: Vec<&str> = text.lines().filter(|line| line.parse::<u8>().is_ok()).collect();
        assert_eq!(codes, ["0", "1", "2", "4", "8", "32"]);
    }
}
