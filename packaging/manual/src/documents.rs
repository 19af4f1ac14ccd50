//! The pages about files and helpers, made of the documents that are read in `docs/`.

use crate::markdown;
use crate::page::{self, Page};

/// The pages of this module that a reader of backupfs(1) is pointed to, besides that of the configuration.
pub const HELPERS: [(&str, u8); 2] = [("backupfs-autofs", 5), ("mount.backupfs", 8)];

/// A page that a document of `docs/` becomes.
struct Document {
    name: &'static str,
    section: u8,
    about: &'static str,
    /// What stands before the document's own text; it begins with a heading.
    before: &'static str,
    /// Its title is left out; empty where no document says it.
    text: &'static str,
    /// What stands behind it.
    after: &'static str,
    see_also: &'static [(&'static str, u8)],
}

const EXAMPLE: &str =
    concat!("\n## Example\n\n```toml\n", include_str!("../../../docs/example.toml"), "```\n");

const DOCUMENTS: &[Document] = &[
    Document {
        name: "backupfs.conf",
        section: 5,
        about: "configuration of backupfs, and the table of all its options",
        before: include_str!("../text/backupfs.conf.md"),
        text: include_str!("../../../docs/options.md"),
        after: EXAMPLE,
        see_also: &[("backupfs", 1), ("backupfs-mount", 1), ("backupfs-check", 1), ("mount.backupfs", 8)],
    },
    Document {
        name: "backupfs-autofs",
        section: 5,
        about: "backups that are mounted when somebody looks at them",
        before: include_str!("../text/backupfs-autofs.md"),
        text: "",
        after: "",
        see_also: &[
            ("mount.backupfs", 8),
            ("backupfs.conf", 5),
            ("auto.master", 5),
            ("automount", 8),
            ("backupfs", 1),
        ],
    },
    Document {
        name: "mount.backupfs",
        section: 8,
        about: "what mount(8) calls to mount backups",
        before: include_str!("../text/mount.backupfs.md"),
        text: include_str!("../../../docs/mount.md"),
        after: "",
        see_also: &[("backupfs", 1), ("backupfs-mount", 1), ("backupfs.conf", 5), ("fstab", 5), ("mount", 8)],
    },
];

/// A page for each document.
pub fn pages() -> Vec<Page> {
    DOCUMENTS.iter().map(page).collect()
}

fn page(document: &Document) -> Page {
    let text = format!("{}\n{}\n{}", document.before, body(document.text), document.after);
    let parts = [markdown::roff(&text), page::see_also(document.see_also)];
    Page::new(document.name, document.section, document.about, parts)
}

/// A document without its title.
fn body(text: &str) -> &str {
    text.split_once("\n\n").map_or("", |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

    use super::*;

    #[test]
    fn a_document_loses_its_title() {
        assert_eq!(body("# T\n\nText.\n\n## More\n"), "Text.\n\n## More\n");
        assert_eq!(body("# T"), "");
    }

    #[test]
    fn every_option_of_the_table_is_in_the_page() {
        let text =
            pages().into_iter().find(|page| page.name == "backupfs.conf").unwrap().text.replace("\\-", "-");
        let options =
            include_str!("../../../docs/options.md").lines().filter_map(|line| line.strip_prefix("| `"));
        let mut seen = 0;
        for option in options.map(|row| row.split('`').next().unwrap()) {
            assert!(text.contains(&format!("\\fB{option}\\fR")), "{option}");
            seen += 1;
        }
        assert!(seen > 60, "{seen} options");
    }
}
