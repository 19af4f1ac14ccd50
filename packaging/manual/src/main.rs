//! Writes the manual pages: `backupfs-manual DIRECTORY` puts them into `DIRECTORY/man1`, `man5`, `man8`.
//!
//! What they say comes from where it is said already: commands and their options from the definitions that `--help`
//! prints, the configuration and the mount helper from `docs/`. Only examples and what ties the pages together are
//! written for them, in `text/`.

mod commands;
mod documents;
mod markdown;
mod page;

use std::path::Path;
use std::process::ExitCode;

use page::Page;

/// Every page: commands first, then files and helpers.
fn pages() -> Vec<Page> {
    let mut pages = commands::pages();
    pages.extend(documents::pages());
    pages
}

/// Writes all pages below `directory`.
fn write(directory: &Path) -> std::io::Result<()> {
    for page in pages() {
        let folder = directory.join(format!("man{}", page.section));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(page.file_name()), page.text)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(directory), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: backupfs-manual DIRECTORY");
        return ExitCode::from(1);
    };
    match write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backupfs-manual: {}: {error}", directory.display());
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test may stop where it fails"
    )]

    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_pages_have_one_name() {
        let names: BTreeSet<String> = pages().iter().map(Page::file_name).collect();
        assert_eq!(names.len(), pages().len());
    }

    #[test]
    fn what_a_page_refers_to_is_a_page_here_or_of_another_package() {
        const OF_OTHERS: &[&str] = &[
            "auto.master(5)",
            "automount(8)",
            "fstab(5)",
            "fuse(4)",
            "fusermount3(1)",
            "mount(8)",
            "rclone(1)",
            "restic(1)",
            "ssh(1)",
            "systemd.automount(5)",
            "systemd.exec(5)",
            "umount(8)",
            "zfs(8)",
        ];
        let known: BTreeSet<String> = pages().iter().map(|p| format!("{}({})", p.name, p.section)).collect();
        for page in pages() {
            for reference in page::references(&page.text) {
                assert!(
                    known.contains(&reference) || OF_OTHERS.contains(&reference.as_str()),
                    "{}: {reference}",
                    page.file_name()
                );
            }
        }
    }
}
