//! `backupfs doctor`: does this machine let backups be mounted, and do their sources answer.

use std::path::PathBuf;

use super::args::Repositories;
use super::check::{self, Depth};
use super::exit::Code;
use super::print::{self, Column};
use crate::config::{self, Config};
use crate::daemon::doctor::{self, Finding, Plan, State};
use crate::error::{Error, Result};

/// Looks for what keeps backups from being mounted or read here, and says what to do about it
///
/// Looks at the kernel, FUSE, AppArmor, programs that walk file systems at night, the clock, the cache directory, /etc/fstab,
/// systemd and autofs, the table of mounts, and opens every source. Nothing is changed; a mount is tried in a directory of
/// its own. Exit code 0 says that all is well, 32 that there is a problem; notes are no problems.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where you mount or want to mount [default: what the configuration and /etc/fstab say, else /mnt/backups]
    mountpoint: Option<PathBuf>,
    /// Look at the machine whose root lies here, such as an image; sources are left out
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repositories: Repositories,
}

impl Args {
    /// Prints a line for each finding.
    pub fn run(mut self) -> Result<Code> {
        if let Some(root) = &self.root
            && self.repositories.config.is_none()
        {
            let file = root.join("etc/backupfs/config.toml");
            self.repositories.config = file.exists().then_some(file);
        }
        let (config, told) = self.configuration();
        let mut plan = Plan::of(config.as_ref(), self.mountpoint.take(), self.repositories.config.clone());
        if config.is_none() && self.root.is_none() {
            // What is wrong with the configuration is told already.
            plan.cache_dir =
                config::resolve_cache(&self.repositories.typed()).ok().flatten().map(|(dir, _)| dir);
        }
        let mut findings = doctor::examine(self.root.as_deref(), &plan)?;
        findings.push(told);
        if let Some(config) = config.filter(|_| self.root.is_none()) {
            findings.extend(sources(config)?);
        }
        let problems = findings.iter().filter(|finding| finding.state == State::Problem).count();
        if self.json {
            print::json(&findings)?;
        } else {
            print::stdout(text(&findings, problems).as_bytes())?;
        }
        Ok(if problems == 0 { Code::Ok } else { Code::Failed })
    }

    /// What is configured, and how that was found.
    fn configuration(&self) -> (Option<Config>, Finding) {
        const CHECK: &str = "configuration";
        let none = || {
            let how =
                "write /etc/backupfs/config.toml (docs/options.md), or name one: backupfs doctor -r REPO";
            Finding::note(CHECK, "no sources are configured", how)
        };
        let is_typed = !self.repositories.repo.is_empty() || self.repositories.config.is_some();
        // Another machine's is not ours.
        if self.root.is_some() && !is_typed {
            return (None, none());
        }
        match self.repositories.config() {
            Ok(config) => {
                let (sources, groups) = (config.sources.len(), config.groups.len());
                let says =
                    format!("{} and {}", print::count(sources, "source"), print::count(groups, "group"));
                (Some(config), Finding::ok(CHECK, says))
            }
            Err(_) if !is_typed && !config::has_files(&self.repositories.typed()) => (None, none()),
            Err(error) => (None, mistake(CHECK, &error)),
        }
    }
}

fn mistake(check: &'static str, error: &Error) -> Finding {
    Finding::problem(check, error.to_string(), "correct it: docs/options.md has every key and its values")
}

/// A finding for each source and group.
fn sources(config: Config) -> Result<Vec<Finding>> {
    let found = check::findings(config, Depth::Opened)?;
    Ok(found.iter().map(source).collect())
}

fn source(found: &check::Finding) -> Finding {
    const CHECK: &str = "source";
    let far = found.round_trip_ms.map(|ms| format!(", {ms:.1} ms away")).unwrap_or_default();
    let url = if found.url == found.source { String::new() } else { format!(" {}", found.url) };
    let place = format!("{} ({}{url}{far})", found.source, found.kind);
    if !found.problems.is_empty() {
        // What is told of a source begins with its name.
        let own = format!("{}: ", found.source);
        let problems: Vec<&str> =
            found.problems.iter().map(|problem| problem.strip_prefix(&own).unwrap_or(problem)).collect();
        let says = format!("{place}: {}", problems.join("; "));
        let usual = || format!("backupfs check tells more of {}", found.source);
        let remedy = found.remedy.map_or_else(usual, str::to_owned);
        return Finding::problem(CHECK, says, remedy);
    }
    if let Some(minutes) = found.minutes_ahead() {
        let says = format!("{place}: its newest snapshot is {minutes} minutes in the future");
        return Finding::problem(CHECK, says, "set the clock of this machine, or of the one that was saved");
    }
    let holds = match found.members {
        Some(members) => print::count(members, "member"),
        None => print::count(found.snapshots, "snapshot"),
    };
    Finding::ok(CHECK, format!("{place}: {holds}"))
}

fn text(findings: &[Finding], problems: usize) -> String {
    let shown = |text: &str| print::visible(text.as_bytes());
    let rows = findings.iter().flat_map(|finding| {
        let state = match finding.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Problem => "PROBLEM",
        };
        let remedy = finding
            .remedy
            .as_ref()
            .map(|remedy| vec![String::new(), String::new(), format!("-> {}", shown(remedy))]);
        [vec![state.to_owned(), finding.check.to_owned(), shown(&finding.says)]].into_iter().chain(remedy)
    });
    let columns = [Column("", false), Column("", false), Column("", false)];
    let mut text = print::table(&columns, &rows.collect::<Vec<_>>());
    text.push_str(&match problems {
        0 => "\nAll is well.\n".to_owned(),
        n => format!("\n{}.\n", print::count(n, "problem")),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn each_finding_is_a_line_and_its_remedy_another() {
        let findings = [
            Finding::ok("kernel", "Linux 6.18"),
            Finding::note("allow-other", "only root\n", "write it"),
            Finding::problem("updatedb", "walks", "stop it"),
        ];
        assert_eq!(
            text(&findings, 1),
            "ok       kernel       Linux 6.18\n\
             note     allow-other  only root\\n\n\
             \x20                     -> write it\n\
             PROBLEM  updatedb     walks\n\
             \x20                     -> stop it\n\n1 problem.\n"
        );
        assert!(text(&findings[..1], 0).ends_with("\nAll is well.\n"));
    }

    #[test]
    fn a_source_is_named_once() {
        let mut found = check::Finding::of("/srv/a", "local", "/srv/a".into());
        found.problems = vec!["/srv/a: gone".into(), "2 left out".into()];
        assert_eq!(source(&found).says, "/srv/a (local): gone; 2 left out");
        let mut named = check::Finding::of("home", "s3", "s3:h/b".into());
        named.round_trip_ms = Some(1.25);
        named.snapshots = 1;
        let told = source(&named);
        assert_eq!(
            (told.state, told.says.as_str()),
            (State::Ok, "home (s3 s3:h/b, 1.2 ms away): 1 snapshot")
        );
    }

    #[test]
    fn mistakes_are_told_with_where_to_read_on() {
        let error = Error::new(Kind::Usage, "config.toml:2: unknown key \"a\"");
        let found = mistake("configuration", &error);
        assert_eq!((found.state, found.says.as_str()), (State::Problem, "config.toml:2: unknown key \"a\""));
        assert!(found.remedy.unwrap().contains("docs/options.md"));
    }
}
