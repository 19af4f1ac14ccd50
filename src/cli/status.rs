//! `backupfs status`: the mounts of this machine and how their repositories are doing.
//!
//! Each mount is asked through its own `.backupfs/status.json`, from a thread of its own: one that does not answer
//! costs a few seconds and a line, and hides none of the others.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::exit::Code;
use super::print::{self, Column};
use crate::daemon::{self, Mounted};
use crate::error::{Error, Kind, Result};

/// Shows what is mounted, and how the repositories behind it are doing
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this mount [default: all of this program]
    mountpoint: Option<PathBuf>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// A mount that answers from memory answers sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// A mount and what it says.
struct Report {
    mounted: Mounted,
    status: Result<Value>,
}

/// Of `status.json` what the table shows.
#[derive(Deserialize)]
struct Status {
    sets: usize,
    dates: usize,
    sources: Vec<Source>,
    #[serde(default)]
    servers: Vec<Server>,
}

/// A server that repositories are read from.
#[derive(Deserialize)]
struct Server {
    name: String,
    down_seconds: Option<u64>,
    error: Option<String>,
    in_flight: usize,
    limit: usize,
    requests: u64,
    failures: u64,
}

#[derive(Deserialize)]
struct Source {
    name: String,
    up: bool,
    error: Option<String>,
    listed: Option<String>,
    snapshots: u64,
    omitted: u64,
}

impl Args {
    /// Prints a paragraph for each mount.
    pub fn run(self) -> Result<Code> {
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
        let reports: Vec<Report> = ask_all(mounts, PATIENCE);
        let sound = reports.iter().all(Report::is_sound);
        if self.json {
            print::json(&reports.iter().map(Report::json).collect::<Vec<_>>())?;
        } else if reports.is_empty() {
            print::stdout(b"nothing is mounted\n")?;
        } else {
            print::stdout(reports.iter().map(Report::text).collect::<Vec<_>>().join("\n").as_bytes())?;
        }
        Ok(if sound { Code::Ok } else { Code::Failed })
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

    fn json(&self) -> Value {
        let (mountpoint, mountpoint_base64) =
            print::json_name(self.mounted.mountpoint.as_os_str().as_encoded_bytes());
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

    fn text(&self) -> String {
        let mountpoint = print::visible(self.mounted.mountpoint.as_os_str().as_encoded_bytes());
        let status = match self.parsed() {
            Ok(status) => status,
            Err(error) => return format!("{mountpoint}: {}\n", print::visible(error.to_string().as_bytes())),
        };
        let (sets, dates) = (print::count(status.sets, "set"), print::count(status.dates, "date"));
        let columns = [
            Column("REPOSITORY", false),
            Column("SNAPSHOTS", true),
            Column("LISTED", false),
            Column("STATE", false),
        ];
        let rows: Vec<Vec<String>> = status.sources.iter().map(Source::cells).collect();
        let sources = print::table(&columns, &rows);
        format!("{mountpoint}: {sets}, {dates}\n{sources}{}", servers(&status.servers))
    }
}

/// The servers, if there are any.
fn servers(servers: &[Server]) -> String {
    let columns = [
        Column("SERVER", false),
        Column("REQUESTS", true),
        Column("FAILED", true),
        Column("UNDER WAY", true),
        Column("STATE", false),
    ];
    match servers {
        [] => String::new(),
        _ => print::table(&columns, &servers.iter().map(Server::cells).collect::<Vec<_>>()),
    }
}

impl Server {
    fn cells(&self) -> Vec<String> {
        let state = match (self.down_seconds, &self.error) {
            (None, _) => "up".to_owned(),
            (Some(down), None) => format!("down for {down} s"),
            (Some(down), Some(error)) => format!("down for {down} s: {error}"),
        };
        let under_way = format!("{} of {}", self.in_flight, self.limit);
        [&self.name, &self.requests.to_string(), &self.failures.to_string(), &under_way, &state]
            .map(|cell| print::visible(cell.as_bytes()))
            .into()
    }
}

impl Source {
    fn cells(&self) -> Vec<String> {
        let state = match (&self.error, self.up) {
            (Some(error), _) => error.clone(),
            (None, false) => "not listed yet".to_owned(),
            (None, true) if self.omitted > 0 => format!("up; {} left out, see the log", self.omitted),
            (None, true) => "up".to_owned(),
        };
        let listed = self.listed.clone().unwrap_or_else(|| "-".to_owned());
        [&self.name, &self.snapshots.to_string(), &listed, &state]
            .map(|cell| print::visible(cell.as_bytes()))
            .into()
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
                "snapshots": 1, "bytes": 0, "objects": 0, "omitted": omitted,
            }],
        })
    }

    #[test]
    fn a_sound_mount_reads_as_a_table() {
        let report = report(Ok(status(true, None, 0)));
        assert!(report.is_sound());
        assert_eq!(
            report.text(),
            "/mnt/backups: 2 sets, 1 date\n\
             REPOSITORY  SNAPSHOTS  LISTED                STATE\n\
             /srv/r              1  2026-03-01T03:00:00Z  up\n"
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
            report.text().ends_with(
                "SERVER              REQUESTS  FAILED  UNDER WAY  STATE\n\
                 s3:https://a             100       7    3 of 32  up\n\
                 rest:http://b:8000       100       7    3 of 32  down for 90 s: timed\\nout\n"
            ),
            "{}",
            report.text()
        );
    }

    #[test]
    fn what_is_wrong_is_said_and_is_a_failure() {
        for (status, says) in [
            (Ok(status(false, Some("disk\ngone"), 0)), "disk\\ngone"),
            (Ok(status(true, None, 3)), "up; 3 left out, see the log"),
            (Ok(json!({})), "another version"),
            (Err(Error::new(Kind::TimedOut, "no answer within 5 s")), "/mnt/backups: no answer within 5 s\n"),
        ] {
            let report = report(status);
            assert!(!report.is_sound() && report.text().contains(says), "{}", report.text());
        }
    }

    #[test]
    fn a_mount_without_status_is_told_and_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".backupfs")).unwrap();
        std::fs::write(dir.path().join(".backupfs/status.json"), status(true, None, 0).to_string()).unwrap();
        let at = |path: &Path| Mounted { id: 1, mountpoint: path.to_owned(), source: String::new() };
        let reports = ask_all(vec![at(&dir.path().join("absent")), at(dir.path())], PATIENCE);
        assert!(reports[0].text().contains("cannot be asked: No such file"), "{}", reports[0].text());
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
        assert!(reports[0].text().contains("no answer within"), "{}", reports[0].text());
    }
}
