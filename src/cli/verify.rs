//! `backupfs verify`: are the contents of files still there.

use jiff::Timestamp;

use super::args::Repositories;
use super::exit::Code;
use super::print::{self, Column};
use super::progress;
use crate::config;
use crate::daemon::{self, Share, Stop, Verified, Wish};
use crate::error::{Error, Kind, Result};

/// Reads files from the repositories themselves, past all caches, and says which are damaged
///
/// Every directory is read, and of all files those of --sample: with 1/30 a thirtieth, another each day, so that after
/// thirty days each was read once. Every blob is authenticated and checked against its id. Ctrl-C keeps what is done:
/// the next run with the same --sample goes on with it. Nothing is written to a repository.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this source, group, or member of a group (GROUP/MEMBER)
    source: Option<String>,
    /// Which share of all files: 1/30 for a thirtieth [default: all]
    #[arg(long, value_name = "PART/OF")]
    sample: Option<String>,
    /// Fetch no more than this much a second (such as 20M)
    #[arg(long, value_name = "SIZE")]
    rate: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    repositories: Repositories,
}

impl Args {
    /// Prints a line for each source and one for each thing that is damaged.
    pub fn run(self) -> Result<Code> {
        let wrong = |text: &str| {
            Error::new(Kind::Usage, format!("--sample: \"{text}\" must be a share such as 1/30"))
        };
        let share = self.sample.as_deref().map(|text| Share::parse(text).ok_or_else(|| wrong(text)));
        let share = share.transpose()?.unwrap_or(Share::ALL);
        let rate = self.rate.as_deref().map(config::size).transpose()?;
        if rate == Some(0) {
            return Err(Error::new(Kind::Usage, "--rate: must be more than nothing"));
        }
        let config = self.repositories.config()?;
        let runtime = daemon::runtime()?;
        let stop = Stop::default();
        let signalled = stop.clone();
        daemon::on_interrupt(&runtime, move || signalled.set())?;
        let bar = progress::bar("reading files");
        let told = |found: &Verified| bar.at(found.snapshots, found.snapshots_of);
        let wish = Wish { share, rate, only: self.source.as_deref(), stop: stop.clone(), told: &told };
        let found = daemon::verify(&config, &wish, &runtime)?;
        drop(bar);
        if self.json {
            print::json(&serde_json::json!({
                "sample": share.to_string(),
                "complete": found.iter().all(|found| found.complete),
                "sound": found.iter().all(Verified::is_sound),
                "sources": found,
            }))?;
        } else {
            print::stdout(text(&found, share, stop.is_set()).as_bytes())?;
        }
        // What a task still reads is of no interest.
        runtime.shutdown_background();
        Ok(match () {
            () if found.iter().any(|found| !found.damaged.is_empty()) => Code::Failed,
            () if stop.is_set() => Code::Interrupted,
            () if found.iter().all(Verified::is_sound) => Code::Ok,
            () => Code::Failed,
        })
    }
}

fn text(all: &[Verified], share: Share, interrupted: bool) -> String {
    let columns = [
        Column("SOURCE", false),
        Column("SNAPSHOTS", true),
        Column("DIRECTORIES", true),
        Column("FILES", true),
        Column("READ", true),
        Column("DAMAGED", true),
        Column("STATE", false),
    ];
    let mut text = print::table(&columns, &all.iter().map(|found| cells(found, share)).collect::<Vec<_>>());
    for found in all.iter().filter(|found| !found.damaged.is_empty()) {
        text.push('\n');
        for damaged in &found.damaged {
            text.push_str(&format!("{}\n", print::visible(damaged.error.as_bytes())));
        }
        let mut packs: Vec<&str> =
            found.damaged.iter().filter_map(|damaged| damaged.pack.as_deref()).collect();
        packs.sort_unstable();
        packs.dedup();
        if !packs.is_empty() {
            text.push_str(&format!(
                "{}: damaged packs: {}\n",
                print::visible(found.source.as_bytes()),
                packs.join(" ")
            ));
        }
    }
    if interrupted {
        text.push_str("\ninterrupted: the same command goes on with it\n");
    }
    text
}

fn cells(found: &Verified, share: Share) -> Vec<String> {
    let mut state = match (&found.error, found.complete) {
        (Some(error), _) => error.clone(),
        (None, false) => "not finished".to_owned(),
        (None, true) if !found.damaged.is_empty() => "damaged".to_owned(),
        (None, true) if found.flaws > 0 => format!(
            "readable, with {}; see above",
            print::count(found.flaws.try_into().unwrap_or(usize::MAX), "flaw")
        ),
        (None, true) if found.resumed => "sound, with what was read before".to_owned(),
        (None, true) => "sound".to_owned(),
    };
    if found.error.is_none() && share != Share::ALL {
        let day = i64::try_from(found.day).unwrap_or(0).saturating_mul(86_400);
        let day = Timestamp::from_second(day).map(|day| day.strftime("%F").to_string());
        state += &format!("; {share} of all files, the part of {}", day.unwrap_or_default());
    }
    [
        found.source.clone(),
        format!("{} of {}", found.snapshots, found.snapshots_of),
        found.directories.to_string(),
        found.files.to_string(),
        print::size(found.bytes),
        found.damaged.len().to_string(),
        state,
    ]
    .map(|cell| print::visible(cell.as_bytes()))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Damaged;

    fn found() -> Verified {
        Verified {
            source: "home".into(),
            complete: true,
            snapshots: 7,
            snapshots_of: 7,
            directories: 12,
            files: 30,
            bytes: 1 << 20,
            ..Verified::default()
        }
    }

    #[test]
    fn what_is_sound_is_a_line() {
        assert_eq!(
            text(&[found()], Share::ALL, false),
            "SOURCE  SNAPSHOTS  DIRECTORIES  FILES     READ  DAMAGED  STATE\n\
             home       7 of 7           12     30  1.0 MiB        0  sound\n"
        );
    }

    #[test]
    fn what_is_damaged_is_named_with_its_packs_once() {
        let damaged = |path: &str, pack: &str| Damaged {
            snapshot: "ab".into(),
            path: path.into(),
            pack: Some(pack.into()),
            blob: None,
            error: format!("home: snapshot ab: {path}: data blob\n of pack {pack}"),
        };
        let damaged = vec![damaged("/a", "p2"), damaged("/b", "p1"), damaged("/c", "p2")];
        let text = text(&[Verified { damaged, ..found() }], Share::ALL, true);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert!(lines[0].ends_with("3  damaged"));
        assert_eq!(lines[2], "home: snapshot ab: /a: data blob\\n of pack p2");
        assert_eq!(
            lines[5..],
            ["home: damaged packs: p1 p2", "", "interrupted: the same command goes on with it"]
        );
    }

    #[test]
    fn what_was_not_looked_at_is_said() {
        let state = |found: Verified| cells(&found, Share::ALL).pop().unwrap();
        assert_eq!(state(Verified { complete: false, ..found() }), "not finished");
        assert_eq!(state(Verified { error: Some("no\nroute".into()), ..found() }), "no\\nroute");
        assert_eq!(state(Verified { flaws: 2, ..found() }), "readable, with 2 flaws; see above");
        assert_eq!(state(Verified { resumed: true, ..found() }), "sound, with what was read before");
        let part = cells(&Verified { day: 20_000, ..found() }, Share::parse("1/30").unwrap()).pop().unwrap();
        assert_eq!(part, "sound; 1/30 of all files, the part of 2024-10-04");
    }
}
