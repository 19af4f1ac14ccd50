//! `backupfs check`: can everything be opened, and does every snapshot have a root.

use std::collections::HashSet;

use serde::Serialize;
use tokio::runtime::Runtime;

use super::args::Repositories;
use super::exit::Code;
use super::print::{self, Column};
use super::progress::{self, Bar};
use crate::config::Config;
use crate::daemon;
use crate::error::{Error, Result};
use crate::tree::{Content, Snapshot, Source};

/// Opens every repository, reads the root of every snapshot, and says what is wrong
///
/// File contents are not read.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repositories: Repositories,
}

/// What was found out about one repository.
#[derive(Serialize)]
struct Finding {
    source: String,
    /// The repository's identity, once it could be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    snapshots: usize,
    problems: Vec<String>,
}

impl Args {
    /// Prints a line for each repository and one for each problem.
    pub fn run(self) -> Result<Code> {
        let config = self.repositories.config()?;
        let findings = examine(&config, &daemon::runtime()?);
        let sound = findings.iter().all(|finding| finding.problems.is_empty());
        if self.json {
            print::json(&findings)?;
        } else {
            print::stdout(text(&findings).as_bytes())?;
        }
        Ok(if sound { Code::Ok } else { Code::Failed })
    }
}

fn examine(config: &Config, runtime: &Runtime) -> Vec<Finding> {
    let opened = daemon::open_sources(config, runtime.handle());
    let all = opened.iter().flatten().map(|source| source.snapshots().len()).sum();
    let bar = progress::bar("reading roots");
    bar.at(0, all);
    let examined = config.sources.iter().zip(opened);
    examined.map(|(source, opened)| finding(&source.title, opened.as_deref(), runtime, &bar)).collect()
}

fn finding(
    title: &str,
    opened: std::result::Result<&dyn Source, &Error>,
    runtime: &Runtime,
    bar: &Bar,
) -> Finding {
    let source = match opened {
        Ok(source) => source,
        Err(error) => {
            let problems = vec![error.to_string()];
            return Finding { source: title.to_owned(), id: None, snapshots: 0, problems };
        }
    };
    // Before anything is read: what is met on the way is told in words of its own.
    let left_out = source.health().omitted;
    let mut snapshots = source.snapshots().to_vec();
    snapshots.sort_by_key(|snapshot| snapshot.time.instant);
    let mut problems = Vec::new();
    let mut sound = HashSet::new();
    for snapshot in &snapshots {
        bar.one_more();
        // Snapshots of the same tree and paths have the same roots.
        if sound.contains(&(&snapshot.content, &snapshot.paths)) {
            continue;
        }
        let damaged = damaged_roots(source, snapshot, runtime);
        if damaged.is_empty() {
            sound.insert((&snapshot.content, &snapshot.paths));
        }
        problems.extend(damaged);
    }
    problems.extend(source.health().error.map(|error| error.to_string()));
    if left_out > 0 {
        problems.push(format!("{left_out} left out when it was opened, as the warnings say"));
    }
    let id = Some(source.id().to_owned());
    Finding { source: title.to_owned(), id, snapshots: snapshots.len(), problems }
}

/// Reads the root of every path of a snapshot and answers what went wrong.
fn damaged_roots(source: &dyn Source, snapshot: &Snapshot, runtime: &Runtime) -> Vec<String> {
    let root = |i| async move {
        let opened = source.open(&snapshot.id, i).resolve().await?;
        if let Content::Dir(dir) = &opened.node.content {
            dir.listing().resolve().await?;
        }
        Ok(())
    };
    let roots = (0..snapshot.paths.len()).map(|i| runtime.block_on(root(i)));
    roots.filter_map(|read: Result<()>| Some(read.err()?.to_string())).collect()
}

fn text(findings: &[Finding]) -> String {
    let rows: Vec<Vec<String>> = findings.iter().map(Finding::cells).collect();
    let columns = [Column("REPOSITORY", false), Column("SNAPSHOTS", true), Column("STATE", false)];
    let mut text = print::table(&columns, &rows);
    for finding in findings {
        for problem in &finding.problems {
            // What the repository says of itself begins with its name.
            let named = if problem.starts_with(&finding.source) {
                String::new()
            } else {
                format!("{}: ", finding.source)
            };
            text.push_str(&format!("\n{}{}", shown(&named), shown(problem)));
        }
    }
    if findings.iter().any(|finding| !finding.problems.is_empty()) {
        text.push('\n');
    }
    text
}

fn shown(text: &str) -> String {
    print::visible(text.as_bytes())
}

impl Finding {
    fn cells(&self) -> Vec<String> {
        let state = match (&self.id, self.problems.len()) {
            (None, _) => "cannot be opened".to_owned(),
            (Some(_), 0) => "sound".to_owned(),
            (Some(_), n) => print::count(n, "problem"),
        };
        vec![shown(&self.source), self.snapshots.to_string(), state]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(source: &str, id: Option<&str>, problems: &[&str]) -> Finding {
        let problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
        Finding { source: source.to_owned(), id: id.map(str::to_owned), snapshots: 3, problems }
    }

    #[test]
    fn sound_repositories_are_a_table_and_nothing_else() {
        let findings = [finding("/srv/a", Some("id"), &[]), finding("/srv/longer", Some("id"), &[])];
        let expected =
            "REPOSITORY   SNAPSHOTS  STATE\n/srv/a               3  sound\n/srv/longer          3  sound\n";
        assert_eq!(text(&findings), expected);
    }

    #[test]
    fn every_problem_names_its_repository_once() {
        let findings = [
            finding("/srv/a", Some("id"), &["/srv/a: snapshot 1: gone", "2 left out\n"]),
            finding("b", None, &["b: wrong password"]),
        ];
        let text = text(&findings);
        let (table, problems) = text.split_once("\n\n").unwrap();
        assert!(table.contains("2 problems") && table.ends_with("cannot be opened"), "{table}");
        assert_eq!(problems, "/srv/a: snapshot 1: gone\n/srv/a: 2 left out\\n\nb: wrong password\n");
    }
}
