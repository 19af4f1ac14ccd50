//! `backupfs check`: can everything be opened, and does every snapshot have a root.

use std::collections::HashSet;

use serde::Serialize;
use tokio::runtime::Runtime;

use super::args::Repositories;
use super::exit::Code;
use super::print::{self, Column};
use super::progress::{self, Bar};
use super::sandbox::Sandbox;
use crate::config::{Config, Location};
use crate::daemon;
use crate::error::{Error, Kind, Result};
use crate::tree::{Content, Snapshot, Source, Time};

/// Tries every source at once, reads the root of every snapshot, and says what is wrong
///
/// File contents are not read. Of a group the members are listed, and none is opened.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    /// Check as a mount would read: without the rights that it gives up, which are printed first
    #[arg(long)]
    sandbox: bool,
    #[command(flatten)]
    repositories: Repositories,
}

/// How far sources are looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// They are opened, and their snapshots listed.
    Opened,
    /// The root of every snapshot is read, too.
    Roots,
}

/// What was found out about one repository.
#[derive(Serialize)]
pub struct Finding {
    /// How it is called.
    pub source: String,
    /// `local`, `s3`, …
    pub kind: &'static str,
    /// Where it is, without secrets.
    pub url: String,
    /// How long one small request takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
    /// The repository's identity, once it could be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// How many it has.
    pub snapshots: usize,
    /// Of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<usize>,
    /// What is wrong.
    pub problems: Vec<String>,
    /// What to do when it cannot be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<&'static str>,
    /// The time of the newest snapshot.
    #[serde(skip)]
    newest: Option<Time>,
}

impl Args {
    /// Prints a line for each repository and one for each problem.
    pub fn run(self) -> Result<Code> {
        let mut config = self.repositories.config()?;
        // Before there is another thread, which would keep what it has.
        let sandbox =
            self.sandbox.then(|| Sandbox::enter(&mut config, &self.repositories.typed())).transpose()?;
        let findings = findings(config, Depth::Roots)?;
        let sound = findings.iter().all(|finding| finding.problems.is_empty());
        let sandbox = sandbox.map(Sandbox::with_keys);
        if let (true, Some(sandbox)) = (self.json, &sandbox) {
            print::json(&serde_json::json!({ "sandbox": sandbox, "sources": findings }))?;
        } else if self.json {
            print::json(&findings)?;
        } else {
            print::stdout(sandbox.map(|sandbox| sandbox.text()).unwrap_or_default().as_bytes())?;
            print::stdout(text(&findings).as_bytes())?;
        }
        Ok(if sound { Code::Ok } else { Code::Failed })
    }
}

/// Opens every source and lists every group, all at once. Errors: no threads can be started.
pub fn findings(mut config: Config, depth: Depth) -> Result<Vec<Finding>> {
    // Once for all that follows; what cannot be read is told of the source that needs it.
    config.sources.iter_mut().for_each(|source| drop(source.read_secrets()));
    config.groups.iter_mut().for_each(|group| drop(group.read_secrets()));
    let runtime = daemon::runtime()?;
    let mut findings = examine(&config, &runtime, depth);
    findings.extend(groups(&config, &runtime));
    // What hangs is not waited for.
    runtime.shutdown_background();
    Ok(findings)
}

fn examine(config: &Config, runtime: &Runtime, depth: Depth) -> Vec<Finding> {
    let (opened, _at_end) = daemon::open_sources(config, runtime.handle());
    let all = opened.iter().flatten().map(|source| source.snapshots().len()).sum();
    let bar = (depth == Depth::Roots).then(|| progress::bar("reading roots"));
    if let Some(bar) = &bar {
        bar.at(0, all);
    }
    let far = daemon::round_trips(config, runtime.handle());
    let examined = config.sources.iter().zip(opened).zip(far);
    examined
        .map(|((source, opened), far)| {
            let mut found = Finding::of(&source.title, source.place_kind(), source.location.to_string());
            found.round_trip_ms = far.ok().map(|far| far.as_secs_f64() * 1000.0);
            match opened {
                Ok(source) => found.look_into(&*source, runtime, bar.as_ref()),
                Err(error) => found.fail(&error),
            }
            found
        })
        .collect()
}

/// A finding for each group.
fn groups(config: &Config, runtime: &Runtime) -> Vec<Finding> {
    let listed = config.groups.iter().zip(daemon::members(config, runtime.handle()));
    listed
        .map(|(group, members)| {
            let place = group.locations().into_iter().next();
            let kind = place.as_ref().map_or("list", Location::kind);
            let mut found = Finding::of(&group.title, kind, place.map(|p| p.to_string()).unwrap_or_default());
            match members {
                Ok(members) => found.members = Some(members),
                Err(error) => found.fail(&error),
            }
            found
        })
        .collect()
}

/// What to do about a source that cannot be opened.
fn remedy(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Password => "check its password-file or password-command",
        Kind::Denied => "check its keys or login, and that they may list and read",
        Kind::NotFound | Kind::NotDirectory => "check its url",
        Kind::Unavailable | Kind::TimedOut => "check that its server is up and can be reached from here",
        Kind::Invalid | Kind::Unsupported => "check that its url names a restic repository",
        Kind::Corrupt => "run `restic check` on it",
        _ => return None,
    })
}

impl Finding {
    /// One about which nothing is known yet.
    pub fn of(title: &str, kind: &'static str, url: String) -> Self {
        Finding {
            source: title.to_owned(),
            kind,
            url,
            round_trip_ms: None,
            id: None,
            snapshots: 0,
            members: None,
            problems: Vec::new(),
            remedy: None,
            newest: None,
        }
    }

    fn fail(&mut self, error: &Error) {
        self.problems.push(error.to_string());
        self.remedy = remedy(error.kind());
    }

    /// By how many minutes the newest snapshot is ahead of this machine's clock; `None` when that is what clocks differ by.
    pub fn minutes_ahead(&self) -> Option<i64> {
        let now = jiff::Timestamp::now().as_second();
        let minutes = self.newest?.secs.saturating_sub(now) / 60;
        (minutes >= 5).then_some(minutes)
    }

    /// Without a bar roots are left alone.
    fn look_into(&mut self, source: &dyn Source, runtime: &Runtime, bar: Option<&Bar>) {
        // Before anything is read: what is met on the way is told in words of its own.
        let left_out = source.health().omitted;
        let mut snapshots = source.snapshots().to_vec();
        snapshots.sort_by_key(|snapshot| snapshot.time.instant);
        self.newest = snapshots.last().map(|snapshot| snapshot.time.instant);
        if let Some(bar) = bar {
            self.read_roots(source, &snapshots, runtime, bar);
        }
        self.problems.extend(source.health().error.map(|error| error.to_string()));
        if left_out > 0 {
            self.problems.push(format!("{left_out} left out when it was opened, as the warnings say"));
        }
        self.id = Some(source.id().to_owned());
        self.snapshots = snapshots.len();
    }

    fn read_roots(&mut self, source: &dyn Source, snapshots: &[Snapshot], runtime: &Runtime, bar: &Bar) {
        let mut sound = HashSet::new();
        for snapshot in snapshots {
            bar.one_more();
            // Snapshots of the same tree and paths have the same roots.
            if sound.contains(&(&snapshot.content, &snapshot.paths)) {
                continue;
            }
            let damaged = damaged_roots(source, snapshot, runtime);
            if damaged.is_empty() {
                sound.insert((&snapshot.content, &snapshot.paths));
            }
            self.problems.extend(damaged);
        }
    }
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
    let columns = [
        Column("SOURCE", false),
        Column("KIND", false),
        Column("URL", false),
        Column("ROUND TRIP", true),
        Column("SNAPSHOTS", true),
        Column("STATE", false),
    ];
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
        text.extend(finding.remedy.map(|remedy| format!("; {remedy}")));
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
        let state = match (&self.id, self.members, self.problems.len()) {
            (None, Some(members), 0) => print::count(members, "member"),
            (None, ..) => "cannot be opened".to_owned(),
            (Some(_), _, 0) => "sound".to_owned(),
            (Some(_), _, n) => print::count(n, "problem"),
        };
        let far = self.round_trip_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
        let snapshots = self.id.as_ref().map_or_else(|| "-".to_owned(), |_| self.snapshots.to_string());
        vec![shown(&self.source), self.kind.to_owned(), shown(&self.url), far, snapshots, state]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(source: &str, id: Option<&str>, problems: &[&str]) -> Finding {
        let problems = problems.iter().map(|problem| (*problem).to_owned()).collect();
        let remedy = id.is_none().then_some("check it");
        Finding {
            id: id.map(str::to_owned),
            snapshots: 3,
            problems,
            remedy,
            ..Finding::of(source, "local", "/u".into())
        }
    }

    #[test]
    fn sound_repositories_are_a_table_and_nothing_else() {
        let findings = [finding("/srv/a", Some("id"), &[]), finding("/srv/longer", Some("id"), &[])];
        let expected = "SOURCE       KIND   URL  ROUND TRIP  SNAPSHOTS  STATE\n\
             /srv/a       local  /u            -          3  sound\n\
             /srv/longer  local  /u            -          3  sound\n";
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
        assert_eq!(
            problems,
            "/srv/a: snapshot 1: gone\n/srv/a: 2 left out\\n\nb: wrong password; check it\n"
        );
    }
}
