//! `backupfs status`: the mounts of this machine and how their repositories are doing.
//!
//! Each mount is asked through its own `.backupfs/status.json`, from a thread of its own: one that does not answer
//! costs a few seconds and a line, and hides none of the others.

mod monitor;
mod text;
mod told;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use self::monitor::{Severity, Verdict};
use self::told::{Counters, Status};
use super::exit::Code;
use super::print;
use crate::config;
use crate::daemon::{self, Mounted};
use crate::error::{Error, Kind, Result};
use crate::observe::json_name;

/// Shows what is mounted, how the repositories behind it are doing, and how old their newest snapshots are
///
/// With --fail-older-than it is a plugin for Nagios and its like: one line first, and exit code 0 OK, 1 WARNING (a set
/// is later than its expect-every, or a repository does not answer), 2 CRITICAL (a set is older than AGE), 3 UNKNOWN.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this mount [default: all of this program]
    mountpoint: Option<PathBuf>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
    /// Be a monitoring plugin: critical when the newest snapshot of a set is older (such as 36h)
    #[arg(long, value_name = "AGE", conflicts_with_all = ["json", "watch"])]
    fail_older_than: Option<String>,
    /// Show it again every two seconds, or as often as said, until Ctrl-C
    #[arg(
        long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "json"
    )]
    watch: Option<u64>,
    /// Show every set, not only the oldest
    #[arg(long)]
    all: bool,
}

/// A mount that answers from memory answers sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a monitor waits for the members of groups to be counted: less than such programs wait for a plugin.
const COUNTING: Duration = Duration::from_secs(50);

/// A mount and what it says.
struct Report {
    mounted: Mounted,
    status: Result<Value>,
}

impl Args {
    /// Prints a paragraph for each mount.
    pub fn run(self) -> Result<Code> {
        if let Some(age) = &self.fail_older_than {
            return self.monitor(age).or_else(|error| {
                // Whatever goes wrong, a monitor reads it on stdout.
                print::stdout(
                    format!("BACKUPS UNKNOWN: {}\n", print::visible(error.to_string().as_bytes())).as_bytes(),
                )?;
                Ok(Severity::Unknown.code())
            });
        }
        if let Some(seconds) = self.watch {
            return self.watch(Duration::from_secs(seconds));
        }
        let reports = self.reports()?;
        if self.json {
            print::json(&reports.iter().map(Report::json).collect::<Vec<_>>())?;
        } else {
            print::stdout(self.text(&reports).as_bytes())?;
        }
        Ok(if reports.iter().all(Report::is_sound) { Code::Ok } else { Code::Failed })
    }

    fn reports(&self) -> Result<Vec<Report>> {
        let mut mounts = daemon::mounts()?;
        if let Some(typed) = &self.mountpoint {
            let here = std::fs::canonicalize(typed).unwrap_or_else(|_| typed.clone());
            mounts.retain(|mounted| mounted.mountpoint == here);
            if mounts.is_empty() {
                let says = format!(
                    "no backups are mounted at {}",
                    print::visible(typed.as_os_str().as_encoded_bytes())
                );
                return Err(Error::new(Kind::NotFound, says));
            }
        }
        Ok(ask_all(mounts, PATIENCE))
    }

    fn text(&self, reports: &[Report]) -> String {
        match reports {
            [] => "nothing is mounted\n".to_owned(),
            reports => reports.iter().map(|report| report.text(self.all)).collect::<Vec<_>>().join("\n"),
        }
    }

    /// One line for a monitor, and what people see behind it.
    fn monitor(&self, age: &str) -> Result<Code> {
        let limit = config::duration(age)?;
        let began = Instant::now();
        let mut reports = self.reports()?;
        while reports.iter().any(Report::is_counting) && began.elapsed() < COUNTING {
            std::thread::sleep(Duration::from_millis(300));
            reports = self.reports()?;
        }
        let mounts: Vec<_> = reports.iter().map(|report| (report.mountpoint(), report.parsed())).collect();
        let verdict = Verdict::of(&mounts, limit);
        print::stdout(format!("{}\n{}", verdict.line(), self.text(&reports)).as_bytes())?;
        Ok(verdict.severity().code())
    }

    /// The same again and again, with what was done in between.
    fn watch(&self, pause: Duration) -> Result<Code> {
        let clear = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        let mut before: Vec<(u64, Counters)> = Vec::new();
        loop {
            let reports = self.reports()?;
            let mut shown = format!("{clear}{}", self.text(&reports));
            let now: Vec<_> = reports.iter().filter_map(Report::counters).collect();
            for (mount, counters) in &now {
                let Some((_, then)) = before.iter().find(|(known, _)| known == mount) else { continue };
                shown += &text::lately(then, counters, pause);
            }
            before = now;
            print::stdout(shown.as_bytes())?;
            std::thread::sleep(pause);
        }
    }
}

/// Asks all mounts at once.
fn ask_all(mounts: Vec<Mounted>, patience: Duration) -> Vec<Report> {
    let asked: Vec<_> =
        mounts.into_iter().map(|mounted| (ask(mounted.mountpoint.clone()), mounted)).collect();
    let answered = asked.into_iter().map(|(answer, mounted)| {
        let late = |_| Err(Error::new(Kind::TimedOut, format!("no answer within {} s", patience.as_secs())));
        Report { status: answer.recv_timeout(patience).unwrap_or_else(late), mounted }
    });
    answered.collect()
}

/// Reads a mount's status on a thread that nobody waits for: it may never come back.
fn ask(mountpoint: PathBuf) -> mpsc::Receiver<Result<Value>> {
    let (tell, answer) = mpsc::channel();
    std::thread::spawn(move || {
        // Whoever asked may have lost patience.
        let _ = tell.send(read(&mountpoint));
    });
    answer
}

fn read(mountpoint: &Path) -> Result<Value> {
    let bytes =
        std::fs::read(mountpoint.join(".backupfs/status.json")).map_err(|e| match e.raw_os_error() {
            Some(libc::ENOTCONN) => {
                Error::new(Kind::Unavailable, "its server has died (backupfs umount takes it away)")
            }
            _ => Error::io("cannot be asked", e),
        })?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::caused_by(Kind::Corrupt, "its status cannot be read", e))
}

impl Report {
    fn is_sound(&self) -> bool {
        self.parsed().is_ok_and(|status| status.sources.iter().all(|source| source.up && source.omitted == 0))
    }

    fn parsed(&self) -> Result<Status> {
        let unknown = |e| Error::caused_by(Kind::Unsupported, "its status is of another version", e);
        Status::deserialize(self.status.as_ref().map_err(Clone::clone)?).map_err(unknown)
    }

    /// Whether members of a group are being counted for the first time.
    fn is_counting(&self) -> bool {
        let first = |group: &told::Group| {
            group.error.is_none() && group.survey.counting.is_some() && group.survey.last.is_none()
        };
        self.parsed().is_ok_and(|status| status.groups.iter().any(first))
    }

    /// Which mount it is, and what it counted.
    fn counters(&self) -> Option<(u64, Counters)> {
        Some((self.mounted.id, self.parsed().ok()?.counters))
    }

    fn mountpoint(&self) -> String {
        print::visible(self.mounted.mountpoint.as_os_str().as_encoded_bytes())
    }

    fn json(&self) -> Value {
        let (mountpoint, mountpoint_base64) =
            json_name(self.mounted.mountpoint.as_os_str().as_encoded_bytes());
        let mut fields = serde_json::Map::new();
        let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
        put("mountpoint", mountpoint.into());
        if let Some(exact) = mountpoint_base64 {
            put("mountpoint_base64", exact.into());
        }
        put("source", self.mounted.source.clone().into());
        match &self.status {
            Ok(status) => put("status", status.clone()),
            Err(error) => put("error", error.to_string().into()),
        };
        fields.into()
    }

    fn text(&self, all_sets: bool) -> String {
        match self.parsed() {
            Ok(status) => text::mount(&self.mountpoint(), &status, all_sets),
            Err(error) => {
                format!("{}: {}\n", self.mountpoint(), print::visible(error.to_string().as_bytes()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(status: Result<Value>) -> Report {
        Report {
            mounted: Mounted { id: 1, mountpoint: "/mnt/backups".into(), source: "/srv/r".into() },
            status,
        }
    }

    fn status(up: bool, error: Option<&str>, omitted: u64) -> Value {
        json!({
            "version": "9", "refresh_seconds": 60, "sets": 2, "dates": 1,
            "sources": [{
                "name": "/srv/r", "id": "ab", "up": up, "error": error, "listed": "2026-03-01T03:00:00Z",
                "snapshots": 1, "newest": "2026-02-28T03:00:00Z", "bytes": 0, "objects": 0, "omitted": omitted,
            }],
        })
    }

    #[test]
    fn a_sound_mount_reads_as_a_table() {
        let report = report(Ok(status(true, None, 0)));
        assert!(report.is_sound());
        assert_eq!(
            report.text(false),
            "/mnt/backups: 2 sets, 1 date\n\
             REPOSITORY  SNAPSHOTS  NEWEST                LISTED                STATE\n\
             /srv/r              1  2026-02-28T03:00:00Z  2026-03-01T03:00:00Z  up\n"
        );
        assert_eq!(report.json()["status"]["sources"][0]["id"], "ab");
    }

    #[test]
    fn servers_stand_below_the_repositories() {
        let mut told = status(true, None, 0);
        let server = |name: &str, down: Option<u64>| {
            json!({
                "name": name, "up": down.is_none(), "down_seconds": down, "error": "timed\nout", "in_flight": 3,
                "limit": 32, "requests": 100, "failures": 7, "retries": 7,
            })
        };
        told["servers"] = json!([server("s3:https://a", None), server("rest:http://b:8000", Some(90))]);
        let report = report(Ok(told));
        // Whether a repository suffers from it is for the repository to say.
        assert!(report.is_sound());
        assert!(
            report.text(false).ends_with(
                "SERVER              REQUESTS  FAILED  UNDER WAY  STATE\n\
                 s3:https://a             100       7    3 of 32  up\n\
                 rest:http://b:8000       100       7    3 of 32  down for 90 s: timed\\nout\n"
            ),
            "{}",
            report.text(false)
        );
    }

    #[test]
    fn what_is_wrong_is_said_and_is_a_failure() {
        for (status, says) in [
            (Ok(status(false, Some("disk\ngone"), 0)), "down: disk\\ngone"),
            (Ok(status(true, None, 3)), "up; 3 left out, see the log"),
            (Ok(json!({})), "another version"),
            (Err(Error::new(Kind::TimedOut, "no answer within 5 s")), "/mnt/backups: no answer within 5 s\n"),
        ] {
            let report = report(status);
            assert!(!report.is_sound() && report.text(false).contains(says), "{}", report.text(false));
        }
    }

    #[test]
    fn a_mount_without_status_is_told_and_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".backupfs")).unwrap();
        std::fs::write(dir.path().join(".backupfs/status.json"), status(true, None, 0).to_string()).unwrap();
        let at = |path: &Path| Mounted { id: 1, mountpoint: path.to_owned(), source: String::new() };
        let reports = ask_all(vec![at(&dir.path().join("absent")), at(dir.path())], PATIENCE);
        assert!(
            reports[0].text(false).contains("cannot be asked: No such file"),
            "{}",
            reports[0].text(false)
        );
        assert!(reports[1].is_sound());
    }

    #[test]
    fn a_mount_that_does_not_answer_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".backupfs")).unwrap();
        // Opening a pipe that nobody writes to waits for ever.
        let pipe = dir.path().join(".backupfs/status.json");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mounted = Mounted { id: 1, mountpoint: dir.path().to_owned(), source: String::new() };
        let reports = ask_all(vec![mounted], Duration::from_millis(10));
        assert!(reports[0].text(false).contains("no answer within"), "{}", reports[0].text(false));
    }
}
