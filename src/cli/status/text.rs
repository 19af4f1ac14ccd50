//! A mount's status for people.

use super::told::{Age, Counters, Group, Server, Source, Status, Waiting};
use crate::cli::print::{self, Column};

/// So many sets are shown, the oldest, unless all are asked for.
const SETS: usize = 20;

/// Everything that `status` says of the mount at `mountpoint`.
pub(super) fn mount(mountpoint: &str, status: &Status, all_sets: bool) -> String {
    let (sets, dates) = (print::count(status.sets, "set"), print::count(status.dates, "date"));
    let mut text = format!("{mountpoint}: {sets}, {dates}\n");
    if !status.sources.is_empty() {
        text += &table(
            &["REPOSITORY", "SNAPSHOTS>", "NEWEST", "LISTED", "STATE"],
            status.sources.iter().map(source).collect(),
        );
    }
    if !status.groups.is_empty() {
        text += &table(
            &["GROUP", "MEMBERS>", "OPEN>", "FRESH>", "LATE>", "UNKNOWN>", "STATE"],
            status.groups.iter().map(group).collect(),
        );
    }
    text += &sets_of(status, all_sets);
    if !status.servers.is_empty() {
        text += &table(
            &["SERVER", "REQUESTS>", "FAILED>", "UNDER WAY>", "STATE"],
            status.servers.iter().map(server).collect(),
        );
    }
    text + &work(&status.counters) + &waiting(&status.waiting)
}

/// A table; headings that end in `>` are of columns that stand on the right.
fn table(headings: &[&'static str], rows: Vec<Vec<String>>) -> String {
    let column = |heading: &&'static str| match heading.strip_suffix('>') {
        Some(heading) => Column(heading, true),
        None => Column(heading, false),
    };
    let shown = |row: Vec<String>| row.iter().map(|cell| print::visible(cell.as_bytes())).collect();
    print::table(
        &headings.iter().map(column).collect::<Vec<_>>(),
        &rows.into_iter().map(shown).collect::<Vec<_>>(),
    )
}

/// Whether it is up, and if not why.
fn state(error: Option<&str>, is_up: bool) -> String {
    match (error, is_up) {
        (Some(error), false) => format!("down: {error}"),
        (Some(error), true) => error.to_owned(),
        (None, false) => "not listed yet".to_owned(),
        (None, true) => "up".to_owned(),
    }
}

fn source(source: &Source) -> Vec<String> {
    let mut state = state(source.error.as_deref(), source.up);
    if source.up && source.error.is_none() && source.omitted > 0 {
        state += &format!("; {} left out, see the log", source.omitted);
    }
    let or_none = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        source.name.clone(),
        source.snapshots.to_string(),
        or_none(&source.newest),
        or_none(&source.listed),
        state,
    ]
}

fn group(group: &Group) -> Vec<String> {
    let number = |n: Option<usize>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let last = group.survey.last.as_ref();
    let mut state = state(group.error.as_deref(), group.up);
    match (group.survey.counting, last) {
        (Some(counted), _) => state += &format!("; counting snapshots, {counted} members so far"),
        (None, Some(last)) => state += &format!("; counted at {}", last.as_of),
        (None, None) => {}
    }
    state.extend(last.and_then(|last| last.why_unknown.as_ref()).map(|why| format!("; unknown: {why}")));
    vec![
        group.name.clone(),
        number(group.members),
        group.open.to_string(),
        number(last.map(|last| last.fresh)),
        number(last.map(|last| last.late)),
        number(last.map(|last| last.unknown)),
        state,
    ]
}

/// How many sets are as fresh as expected, and the oldest of them.
fn sets_of(status: &Status, all: bool) -> String {
    if status.ages.is_empty() {
        return String::new();
    }
    let shown = if all { status.ages.len() } else { SETS };
    let rows = status.ages.iter().take(shown).map(set).collect();
    let mut text = table(&["SET", "NEWEST", "AGE>", "EXPECTED>", "STATE"], rows);
    if let Some(more @ 1..) = status.ages.len().checked_sub(shown) {
        text += &format!("and {} that are newer (--all)\n", print::count(more, "set"));
    }
    let super::told::Coverage { sets, fresh, percent } = status.coverage;
    text + &format!("coverage: {fresh} of {} as new as expected ({percent} %)\n", print::count(sets, "set"))
}

fn set(age: &Age) -> Vec<String> {
    let state = if age.late { "late" } else { "fresh" };
    vec![
        age.set.clone(),
        age.newest.clone(),
        length(age.age_seconds),
        length(age.expected_seconds),
        state.to_owned(),
    ]
}

fn server(server: &Server) -> Vec<String> {
    let state = match (server.down_seconds, &server.error) {
        (None, _) => "up".to_owned(),
        (Some(down), None) => format!("down for {down} s"),
        (Some(down), Some(error)) => format!("down for {down} s: {error}"),
    };
    vec![
        server.name.clone(),
        server.requests.to_string(),
        server.failures.to_string(),
        format!("{} of {}", server.in_flight, server.limit),
        state,
    ]
}

/// What was done, in two lines; nothing when nothing was.
pub(super) fn work(done: &Counters) -> String {
    let mut text = String::new();
    let requests = done.requests();
    if requests > 0 {
        text += &format!(
            "kernel: {requests} requests, {} answered from memory; {} of file data served\n",
            percent(requests.saturating_sub(done.fuse_waits), requests),
            print::size(done.served()),
        );
    }
    if done.store_reads + done.store_lists > 0 {
        let (reads, lists) = (done.store_reads, done.store_lists);
        text += &format!(
            "repositories: {reads} reads, {lists} listings, {} fetched\n",
            print::size(done.store_bytes)
        );
    }
    let asked = done.cache_hits + done.cache_misses;
    if asked > 0 {
        text += &format!(
            "disk cache: {} of {asked} found, {}\n",
            percent(done.cache_hits, asked),
            print::size(done.cache_hit_bytes)
        );
    }
    text
}

/// What was done between two looks.
pub(super) fn lately(then: &Counters, now: &Counters, pause: std::time::Duration) -> String {
    let requests = now.requests().saturating_sub(then.requests());
    let fetched = now.store_bytes.saturating_sub(then.store_bytes);
    let served = now.served().saturating_sub(then.served());
    format!(
        "last {} s: {requests} requests, {} fetched, {} served\n",
        pause.as_secs(),
        print::size(fetched),
        print::size(served)
    )
}

fn waiting(waiting: &Waiting) -> String {
    let Some(longest) = &waiting.longest else { return String::new() };
    let (operation, inode) = (print::visible(longest.operation.as_bytes()), longest.inode);
    format!(
        "waiting: {}, longest the {operation} of inode {inode}: {} s\n",
        print::count(waiting.requests, "request"),
        longest.seconds
    )
}

/// A share, never rounded up.
fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// A length of time in its two largest units.
pub(super) fn length(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let Some(first) = units.iter().position(|(unit, _)| seconds >= *unit) else { return "0 s".to_owned() };
    let mut rest = seconds;
    let mut words = Vec::new();
    for (unit, name) in units.iter().skip(first).take(2) {
        if rest >= *unit {
            words.push(format!("{} {name}", rest / unit));
        }
        rest %= unit;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    fn shown(mut told: Value, more: Value) -> String {
        told.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        mount("/mnt", &Status::deserialize(&told).unwrap(), false)
    }

    fn nothing() -> Value {
        json!({ "sets": 0, "dates": 0, "sources": [] })
    }

    #[test]
    fn lengths_of_time_are_read_at_a_glance() {
        let shown = [0, 59, 60, 3_600, 3_661, 86_400, 90_061, 8_640_059].map(length);
        assert_eq!(shown, ["0 s", "59 s", "1 min", "1 h", "1 h 1 min", "1 d", "1 d 1 h", "100 d"]);
    }

    #[test]
    fn the_oldest_sets_are_shown_and_how_many_are_fresh() {
        let age = |n: u64, late| {
            json!({ "set": format!("h{n}@+"), "newest": "2026-03-01T03:00:00Z", "age_seconds": n * 3600,
                    "expected_seconds": 86_400, "late": late })
        };
        let ages: Vec<Value> = (1..=25).rev().map(|n| age(n, n > 24)).collect();
        let text = shown(
            nothing(),
            json!({ "ages": ages, "coverage": { "sets": 25, "fresh": 24, "percent": 96.0 } }),
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "SET    NEWEST                    AGE  EXPECTED  STATE");
        assert_eq!(lines[2], "h25@+  2026-03-01T03:00:00Z  1 d 1 h       1 d  late");
        assert_eq!(
            lines[22..],
            ["and 5 sets that are newer (--all)", "coverage: 24 of 25 sets as new as expected (96 %)"]
        );
    }

    #[test]
    fn members_are_told_by_number_and_why_some_are_not_known() {
        let counted = json!({ "as_of": "2026-03-01T03:00:00Z", "fresh": 5, "late": 2, "unknown": 1,
                              "why_unknown": "no\naccess", "oldest": [] });
        let group = |name: &str, survey: Value| json!({ "name": name, "up": true, "error": null, "members": 8, "open": 1, "survey": survey });
        let groups = [
            group("done", json!({ "counting": null, "last": counted })),
            group("going", json!({ "counting": 3, "last": null })),
        ];
        let text = shown(nothing(), json!({ "groups": groups }));
        assert!(
            text.contains("done         8     1      5     2        1  up; counted at 2026-03-01T03:00:00Z; unknown: no\\naccess\n")
                && text.contains("going        8     1      -     -        -  up; counting snapshots, 3 members so far\n"),
            "{text}"
        );
    }

    #[test]
    fn what_was_done_and_what_waits_is_told_in_words() {
        let counters = json!({
            "fuse_read": 900, "fuse_lookup": 100, "fuse_waits": 1, "fuse_read_bytes": 3 << 20, "fuse_pushed_bytes": 1 << 20,
            "store_reads": 4, "store_lists": 2, "store_bytes": 1 << 20, "cache_hits": 2, "cache_misses": 1, "cache_hit_bytes": 5,
        });
        let waiting =
            json!({ "requests": 2, "longest": { "operation": "read", "inode": 7, "seconds": 1.5 } });
        let text = shown(nothing(), json!({ "counters": counters, "waiting": waiting }));
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            [
                "kernel: 1000 requests, 99.9 % answered from memory; 4.0 MiB of file data served",
                "repositories: 4 reads, 2 listings, 1.0 MiB fetched",
                "disk cache: 66.6 % of 3 found, 5 B",
                "waiting: 2 requests, longest the read of inode 7: 1.5 s",
            ]
        );
        assert_eq!(shown(nothing(), json!({})), "/mnt: 0 sets, 0 dates\n");
    }
}
