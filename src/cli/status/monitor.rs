//! The status as Nagios and its like want it: one line that says how it is and why, figures, and an exit code.

use std::fmt::Write;
use std::time::Duration;

use super::text::length;
use super::told::{Group, Status};
use crate::cli::exit::Code;
use crate::cli::print;
use crate::error::Result;

/// So many are named of those that have the same wrong with them.
const NAMED: usize = 10;

/// How it is; the worst last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    #[default]
    Ok,
    Warning,
    /// Worse than a warning: nobody knows whether it is critical.
    Unknown,
    Critical,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Ok => "OK",
            Severity::Warning => "WARNING",
            Severity::Unknown => "UNKNOWN",
            Severity::Critical => "CRITICAL",
        }
    }

    pub(super) fn code(self) -> Code {
        match self {
            Severity::Ok => Code::Ok,
            Severity::Warning => Code::Warning,
            Severity::Unknown => Code::Unknown,
            Severity::Critical => Code::Critical,
        }
    }
}

/// How mounts are, while they are looked at one after the other.
#[derive(Default)]
pub(super) struct Verdict {
    reasons: Vec<(Severity, String)>,
    sets: usize,
    fresh: usize,
    members: usize,
    oldest: u64,
}

impl Verdict {
    /// Of mounts that answered or did not, where nothing may be older than `limit`.
    pub(super) fn of(mounts: &[(String, Result<Status>)], limit: Duration) -> Self {
        let mut verdict = Verdict::default();
        if mounts.is_empty() {
            verdict.add(Severity::Unknown, "nothing is mounted".to_owned());
        }
        for (mountpoint, status) in mounts {
            match status {
                Ok(status) => verdict.look_at(mountpoint, status, limit.as_secs()),
                Err(error) => verdict.add(Severity::Unknown, format!("{mountpoint}: {error}")),
            }
        }
        verdict
    }

    fn add(&mut self, severity: Severity, reason: String) {
        self.reasons.push((severity, reason));
    }

    fn look_at(&mut self, mountpoint: &str, status: &Status, limit: u64) {
        self.sets += status.coverage.sets;
        self.fresh += status.coverage.fresh;
        let ages = status.ages.iter().map(|age| (age.set.as_str(), Some(age.age_seconds), age.late));
        self.look_at_ages("set", "", ages.collect(), limit);
        for source in &status.sources {
            match (&source.error, source.up) {
                (Some(error), _) => self.add(Severity::Warning, format!("{}: {error}", source.name)),
                (None, false) => self.add(Severity::Unknown, format!("{}: not listed yet", source.name)),
                (None, true) if source.omitted > 0 => {
                    self.add(Severity::Warning, format!("{}: {} left out", source.name, source.omitted));
                }
                (None, true) => {}
            }
        }
        status.groups.iter().for_each(|group| self.look_at_group(group, limit));
        if status.ages.is_empty() && status.groups.is_empty() {
            self.add(Severity::Critical, format!("{mountpoint}: no snapshot at all"));
        }
    }

    fn look_at_group(&mut self, group: &Group, limit: u64) {
        let Group { name, error, survey, .. } = group;
        if let Some(error) = error {
            self.add(Severity::Warning, format!("{name}: {error}"));
        }
        let Some(last) = &survey.last else {
            return self.add(Severity::Unknown, format!("{name}: its members are not counted yet"));
        };
        self.members += last.fresh + last.late + last.unknown;
        if let (1.., why) = (last.unknown, last.why_unknown.as_deref().unwrap_or("no reason told")) {
            let unknown = print::count(last.unknown, "member");
            self.add(Severity::Unknown, format!("{name}: of {unknown} the age is not known: {why}"));
        }
        let is_late = |age: Option<u64>| age.is_none_or(|age| age > survey.expected_seconds);
        let ages =
            last.oldest.iter().map(|one| (one.member.as_str(), one.age_seconds, is_late(one.age_seconds)));
        self.look_at_ages("member", &format!(" of {name}"), ages.collect(), limit);
    }

    /// Ages by name: none stands for what has no snapshot. `what` they are, and `of` what.
    fn look_at_ages(&mut self, what: &str, of: &str, ages: Vec<(&str, Option<u64>, bool)>, limit: u64) {
        self.oldest = ages.iter().filter_map(|(_, age, _)| *age).max().unwrap_or(0).max(self.oldest);
        let (too_old, rest): (Vec<_>, Vec<_>) =
            ages.into_iter().partition(|(_, age, _)| age.is_none_or(|age| age > limit));
        let late: Vec<_> = rest.into_iter().filter(|(.., is_late)| *is_late).collect();
        for (severity, why, named) in [
            (Severity::Critical, format!("older than {}", length(limit)), too_old),
            (Severity::Warning, "later than expected".to_owned(), late),
        ] {
            if !named.is_empty() {
                let count = print::count(named.len(), what);
                self.add(severity, format!("{count}{of} {why}: {}", names(&named)));
            }
        }
    }

    pub(super) fn severity(&self) -> Severity {
        self.reasons.iter().map(|(severity, _)| *severity).max().unwrap_or_default()
    }

    /// The line, without its end.
    pub(super) fn line(&self) -> String {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
        let reasons: Vec<&str> = reasons.into_iter().map(|(_, reason)| reason.as_str()).collect();
        let says = match reasons.as_slice() {
            [] => format!("the oldest newest snapshot is {} old", length(self.oldest)),
            reasons => reasons.join("; "),
        };
        // What stands behind a bar is figures.
        let says = print::visible(says.as_bytes()).replace('|', "\\x7c");
        let mut line = format!("BACKUPS {}: {says} |", self.severity().word());
        let Verdict { sets, fresh, members, oldest, .. } = self;
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            " sets={sets};;;0 fresh={fresh};;;0;{sets} oldest={oldest}s;;;0 members={members};;;0"
        );
        line
    }
}

fn names(ages: &[(&str, Option<u64>, bool)]) -> String {
    let named = |(name, age, _): &(&str, Option<u64>, bool)| match age {
        Some(age) => format!("{name} ({})", length(*age)),
        None => format!("{name} (no snapshot)"),
    };
    let mut words: Vec<String> = ages.iter().take(NAMED).map(named).collect();
    words.extend(ages.len().checked_sub(NAMED).filter(|more| *more > 0).map(|more| format!("{more} more")));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;
    use crate::error::{Error, Kind};

    const HOUR: u64 = 3_600;

    fn set(name: &str, hours: u64) -> Value {
        json!({ "set": name, "newest": "", "age_seconds": hours * HOUR, "expected_seconds": 24 * HOUR, "late": hours > 24 })
    }

    fn mount(ages: &[Value], more: Value) -> (String, Result<Status>) {
        let mut told = json!({
            "sets": ages.len(), "dates": 1, "ages": ages, "sources": [],
            "coverage": { "sets": ages.len(), "fresh": ages.iter().filter(|age| age["late"] == false).count(), "percent": 0.0 },
        });
        told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("/mnt".to_owned(), Ok(Status::deserialize(&told).unwrap()))
    }

    fn verdict(mounts: &[(String, Result<Status>)]) -> (u8, String) {
        let verdict = Verdict::of(mounts, Duration::from_secs(36 * HOUR));
        (verdict.severity().code().number(), verdict.line())
    }

    #[test]
    fn fresh_sets_are_ok_with_their_figures() {
        let (code, line) = verdict(&[mount(&[set("a@+", 20), set("b@+", 3)], json!({}))]);
        assert_eq!(code, 0);
        assert_eq!(
            line,
            "BACKUPS OK: the oldest newest snapshot is 20 h old | sets=2;;;0 fresh=2;;;0;2 oldest=72000s;;;0 members=0;;;0"
        );
    }

    #[test]
    fn late_is_a_warning_and_older_than_the_limit_critical_and_both_are_named() {
        let (code, line) = verdict(&[mount(&[set("a@+", 30), set("b@+", 3)], json!({}))]);
        assert_eq!(code, 1);
        assert!(line.starts_with("BACKUPS WARNING: 1 set later than expected: a@+ (1 d 6 h) |"), "{line}");
        let (code, line) = verdict(&[mount(&[set("o|d\n@+", 60), set("a@+", 30)], json!({}))]);
        assert_eq!(code, 2);
        assert!(
            line.starts_with(
                "BACKUPS CRITICAL: 1 set older than 1 d 12 h: o\\x7cd\\n@+ (2 d 12 h); 1 set later than expected: a@+ (1 d 6 h) |"
            ),
            "{line}"
        );
    }

    #[test]
    fn what_cannot_be_known_is_unknown_and_worse_than_a_warning() {
        assert_eq!(verdict(&[]).0, 3);
        let dead = || ("/dead".to_owned(), Err(Error::new(Kind::TimedOut, "no answer within 5 s")));
        let (code, line) = verdict(&[mount(&[set("a@+", 30)], json!({})), dead()]);
        assert_eq!(code, 3);
        assert!(line.starts_with("BACKUPS UNKNOWN: /dead: no answer within 5 s; 1 set later"), "{line}");
        assert_eq!(verdict(&[mount(&[set("a@+", 90)], json!({})), dead()]).0, 2);
    }

    #[test]
    fn a_source_that_is_down_is_a_warning_and_no_snapshot_at_all_critical() {
        let source = |up: bool, error: Value, omitted: u64| json!({ "sources": [{ "name": "r", "up": up, "error": error, "listed": null, "snapshots": 1, "newest": null, "omitted": omitted }] });
        let sets = [set("a@+", 1)];
        assert_eq!(verdict(&[mount(&sets, source(false, json!("refused"), 0))]).0, 1);
        assert_eq!(verdict(&[mount(&sets, source(true, Value::Null, 2))]).0, 1);
        assert_eq!(verdict(&[mount(&sets, source(false, Value::Null, 0))]).0, 3);
        assert_eq!(verdict(&[mount(&[], source(true, Value::Null, 0))]).0, 2);
    }

    #[test]
    fn members_count_as_sets_do() {
        let group = |survey: Value| json!({ "groups": [{ "name": "g", "up": true, "error": null, "members": 3, "open": 0, "survey": survey }] });
        let counted = |unknown: usize, oldest: Value| {
            json!({ "counting": null, "expected_seconds": 24 * HOUR, "last": {
                "as_of": "", "fresh": 1, "late": 2, "unknown": unknown, "why_unknown": "no access", "oldest": oldest } })
        };
        assert_eq!(verdict(&[mount(&[], group(json!({ "counting": 1, "last": null })))]).0, 3);
        let oldest =
            json!([{ "member": "m", "age_seconds": null }, { "member": "n", "age_seconds": 30 * HOUR }]);
        let (code, line) = verdict(&[mount(&[], group(counted(0, oldest)))]);
        assert_eq!(code, 2);
        assert!(line.contains("1 member of g older than 1 d 12 h: m (no snapshot); 1 member of g later than expected: n (1 d 6 h)"), "{line}");
        let (code, line) = verdict(&[mount(&[], group(counted(4, json!([]))))]);
        assert_eq!(code, 3);
        assert!(line.contains("g: of 4 members the age is not known: no access"), "{line}");
    }

    #[test]
    fn not_everybody_is_named() {
        let many: Vec<Value> = (0..100).map(|n| set(&format!("h{n}@+"), 60)).collect();
        let (_, line) = verdict(&[mount(&many, json!({}))]);
        assert!(line.contains("100 sets older than") && line.contains(", 90 more |"), "{line}");
    }
}
