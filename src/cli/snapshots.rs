//! `backupfs snapshots`.

use std::collections::HashSet;

use super::args::Repositories;
use super::browse::Browser;
use super::exit::Code;
use super::print::{self, Column};
use crate::error::Result;

/// Lists every snapshot with the directory that shows it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repositories: Repositories,
}

/// One date of one set, as the table has it.
#[derive(Default)]
struct Line {
    set: String,
    date: String,
    id: String,
    host: String,
    tags: String,
    source: String,
}

impl Args {
    /// Prints one line for each date of each set.
    pub fn run(self) -> Result<Code> {
        let browser = Browser::open(&self.repositories)?;
        let rows = browser.tree().namespace.snapshots();
        if self.json {
            print::json(&rows)?;
        } else {
            let lines = rows.into_iter().map(|row| Line {
                set: row.set,
                date: row.date,
                id: row.id,
                host: row.host.unwrap_or_default(),
                tags: row.tags.join(","),
                source: row.source,
            });
            print::stdout(text(&lines.collect::<Vec<_>>()).as_bytes())?;
        }
        Ok(browser.code())
    }
}

/// The table. Sources have a column only where there are several.
fn text(lines: &[Line]) -> String {
    let sources: HashSet<&str> = lines.iter().map(|line| line.source.as_str()).collect();
    let snapshots: HashSet<(&str, &str)> =
        lines.iter().map(|line| (line.source.as_str(), line.id.as_str())).collect();
    let mut headings = vec!["SET", "DATE", "ID", "HOST", "TAGS"];
    if sources.len() > 1 {
        headings.push("REPOSITORY");
    }
    let columns: Vec<Column> = headings.into_iter().map(|heading| Column(heading, false)).collect();
    let cells = |line: &Line| {
        let id = line.id.get(..8).unwrap_or(&line.id);
        let cells = [line.set.as_str(), &line.date, id, &line.host, &line.tags, &line.source]
            .into_iter()
            .take(columns.len());
        cells.map(|cell| print::visible(cell.as_bytes())).collect()
    };
    let rows: Vec<Vec<String>> = lines.iter().map(cells).collect();
    format!("{}{}\n", print::table(&columns, &rows), print::count(snapshots.len(), "snapshot"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(set: &str, id: &str, source: &str) -> Line {
        let [set, id, source] = [set, id, source].map(str::to_owned);
        Line { set, date: "20260301_030000".into(), id, host: "s".into(), tags: "a,b".into(), source }
    }

    #[test]
    fn a_snapshot_of_two_paths_has_two_lines_and_counts_once() {
        let lines = [line("s@+etc", "0123456789ab", "/r"), line("s@+srv", "0123456789ab", "/r")];
        assert_eq!(
            text(&lines),
            "SET     DATE             ID        HOST  TAGS\n\
             s@+etc  20260301_030000  01234567  s     a,b\n\
             s@+srv  20260301_030000  01234567  s     a,b\n\
             1 snapshot\n"
        );
    }

    #[test]
    fn several_repositories_are_told_apart() {
        let text = text(&[line("s@+etc", "01", "/r1"), line("s@+\x1betc", "01", "/r2")]);
        assert!(text.starts_with("SET         DATE             ID  HOST  TAGS  REPOSITORY\n"), "{text}");
        assert!(text.contains("s@+\\x1betc  20260301_030000  01  s     a,b   /r2\n2 snapshots\n"), "{text}");
    }
}
