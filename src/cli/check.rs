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
    let snapshots = source.snapshots();
    let mut problems = Vec::new();
    let mut sound = HashSet::new();
    for snapshot in snapshots.iter() {
        bar.one_more();
        // Snapshots of the same tree and paths have the same roots.
        if !sound.contains(&(&snapshot.content, &snapshot.paths)) {
            match roots(source, snapshot, runtime) {
                Ok(()) => {
                    sound.insert((&snapshot.content, &snapshot.paths));
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
    }
    let health = source.health();
    problems.extend(health.error.map(|error| error.to_string()));
    if health.omitted > 0 {
        problems.push(format!("{} left out because of damage or an impossible name", health.omitted));
    }
    Finding {
        source: title.to_owned(),
        id: Some(source.id().to_owned()),
        snapshots: snapshots.len(),
        problems,
    }
}

/// Reads the root of every path of a snapshot. Errors name the snapshot.
fn roots(source: &dyn Source, snapshot: &Snapshot, runtime: &Runtime) -> Result<()> {
    for (i, path) in snapshot.paths.iter().enumerate() {
        let root = async {
            let opened = source.open(&snapshot.id, i).resolve().await?;
            if let Content::Dir(dir) = &opened.node.content {
                dir.listing().resolve().await?;
            }
            Ok(())
        };
        let named =
            |e: Error| e.context(format!("snapshot {}, path {}", snapshot.id, String::from_utf8_lossy(path)));
        runtime.block_on(root).map_err(named)?;
    }
    Ok(())
}

fn text(findings: &[Finding]) -> String {
    let rows: Vec<Vec<String>> = findings.iter().map(Finding::cells).collect();
    let columns = [Column("REPOSITORY", false), Column("SNAPSHOTS", true), Column("STATE", false)];
    let mut text = print::table(&columns, &rows);
    for finding in findings {
        for problem in &finding.problems {
            text.push_str(&format!("\n{}: {}", shown(&finding.source), shown(problem)));
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
