//! What the tree holds and how its sources are doing, for `status`, `snapshots` and `df`.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::clock::time_of;
use super::coverage::{Coverage, json_of, written};
use super::group::Group;
use super::seat::Seat;
use super::state::at;
use super::{Namespace, SnapshotRow, calendar};
use crate::observe::links::{self, Link};
use crate::observe::{metrics, waiting};
use crate::tree::{SourceHealth, Time, Usage};

impl Namespace {
    /// All sources together; a repository that is configured twice counts once.
    pub fn usage(&self) -> Usage {
        let usage = |seat: Arc<Seat>| (seat.member.source.id().to_owned(), seat.member.source.health().usage);
        let usages: HashMap<String, Usage> = self.seated().into_iter().map(|(_, seat)| usage(seat)).collect();
        usages.values().fold(Usage::default(), |sum, one| Usage {
            bytes: sum.bytes.saturating_add(one.bytes),
            objects: sum.objects.saturating_add(one.objects),
        })
    }

    /// Every snapshot shown, by set and then by time; one row a date, which tells of the copy that is read first.
    pub fn snapshots(&self) -> Vec<SnapshotRow> {
        let state = self.state.load();
        let mut rows = Vec::new();
        for (set, date) in state.sets.iter().flat_map(|set| set.dates.iter().map(move |date| (set, date))) {
            let Some(copy) = date.copies.first() else { continue };
            let Some((snapshot, seat)) = state.snapshot(*copy).zip(self.seat(at(copy.member))) else {
                continue;
            };
            rows.push(SnapshotRow {
                set: String::from_utf8_lossy(&set.name).into_owned(),
                date: date.listed.to_string(),
                id: snapshot.id.to_string(),
                source: seat.member.source.name().to_owned(),
                time: calendar::rfc3339(&snapshot.time),
                host: snapshot.host.as_deref().map(str::to_owned),
                user: snapshot.user.as_deref().map(str::to_owned),
                path: String::from_utf8_lossy(state.path(*copy)).into_owned(),
                tags: snapshot.tags.iter().map(|tag| tag.to_string()).collect(),
            });
        }
        rows
    }

    /// What `.backupfs/status.json` holds. Whoever looks at it has the members of groups counted.
    pub fn status(&self) -> Value {
        let state = self.state.load();
        let now = self.clock.now();
        let ages = self.ages(&state);
        let groups = self.groups.load();
        if let Some(runtime) = self.runtime.get() {
            groups.iter().for_each(|group| group.begin_survey(runtime));
        }
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "refresh_seconds": self.options.refresh.as_secs(),
            "sets": state.sets.len(),
            "dates": state.sets.iter().map(|set| set.dates.len()).sum::<usize>(),
            "coverage": Coverage::of(&ages).json(),
            "ages": json_of(&ages),
            "sources": self.seated().iter().map(|(_, seat)| source_status(seat)).collect::<Vec<_>>(),
            "groups": groups.iter().map(|group| group_status(group, now)).collect::<Vec<_>>(),
            "servers": servers(),
            "waiting": waiting_status(),
            "counters": counters(),
        })
    }
}

fn source_status(seat: &Seat) -> Value {
    let source = &seat.member.source;
    let SourceHealth { listed, error, usage, omitted, .. } = source.health();
    let snapshots = source.snapshots();
    let newest = snapshots.iter().map(|snapshot| snapshot.time.instant).max();
    json!({
        "name": source.name(),
        "id": source.id(),
        "up": error.is_none() && listed.is_some(),
        "error": error.map(|error| error.to_string()),
        "listed": listed.map(|listed| written(time_of(listed))),
        "snapshots": snapshots.len(),
        "newest": newest.map(written),
        "bytes": usage.bytes,
        "objects": usage.objects,
        "omitted": omitted,
    })
}

fn group_status(group: &Group, now: Time) -> Value {
    let (members, open, error) = group.state();
    json!({
        "name": group.name(),
        "up": error.is_none() && members.is_some(),
        "error": error.map(|error| error.to_string()),
        "members": members,
        "open": open,
        "survey": group.survey_json(now),
    })
}

/// Requests of the kernel that wait, and the one that waits longest.
fn waiting_status() -> Value {
    let longest = waiting::longest().map(|request| {
        let seconds = request.since.elapsed().as_secs_f64();
        json!({ "operation": request.operation, "inode": request.ino, "seconds": (seconds * 10.0).floor() / 10.0 })
    });
    json!({ "requests": waiting::count(), "longest": longest })
}

/// The servers that sources are read from.
fn servers() -> Vec<Value> {
    let shown = |link: Link| {
        json!({
            "name": link.name,
            "up": link.down_for.is_none(),
            "down_seconds": link.down_for.map(|down| down.as_secs()),
            "error": link.error,
            "in_flight": link.in_flight,
            "limit": link.limit,
            "requests": link.requests,
            "failures": link.failures,
            "retries": link.retries,
        })
    };
    links::all().into_iter().map(shown).collect()
}

/// What this process has counted since it started.
fn counters() -> Value {
    metrics::ALL.iter().map(|counter| (counter.name.to_owned(), Value::from(counter.value()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use crate::namespace::fake::{self, Describe, FakeSource};
    use crate::namespace::testbed::Bed;

    #[test]
    fn rows_are_by_set_and_then_by_time() {
        let list = vec![
            fake::snapshot("bb").host("h").user("u").tags(&["x", "y"]).at("2026-03-02T03:00:00+01:00"),
            fake::snapshot("aa").host("h").at("2026-03-01T03:00:00Z"),
            fake::snapshot("cc").host("a").paths(&["/x", "/y"]).at("2026-03-03T03:00:00Z"),
        ];
        let rows = Bed::new(&[&FakeSource::with("repo", list)]).ns.snapshots();
        let brief: Vec<_> = rows.iter().map(|row| (&*row.set, &*row.date, &row.id[..2])).collect();
        let expected = [
            ("a@+x", "20260303_030000", "cc"),
            ("a@+y", "20260303_030000", "cc"),
            ("h@+", "20260301_030000", "aa"),
            ("h@+", "20260302_030000", "bb"),
        ];
        assert_eq!(brief, expected);
        let last = serde_json::to_value(&rows[3]).unwrap();
        assert_eq!(last["time"], "2026-03-02T03:00:00+01:00");
        assert_eq!(last["tags"], json!(["x", "y"]));
        assert_eq!((&last["host"], &last["user"], &last["path"]), (&json!("h"), &json!("u"), &json!("/")));
        assert_eq!(last["source"], "repo");
    }

    #[test]
    fn status_tells_of_each_source_whether_it_is_up_and_why_not() {
        let up = FakeSource::with("a", vec![fake::snapshot("aa").paths(&["/x", "/y"])]);
        let (down, new) = (FakeSource::new("b"), FakeSource::new("c").unlisted());
        down.down(Some(Error::new(Kind::Unavailable, "no route to host")));
        let status = Bed::new(&[&up, &down, &new]).ns.status();
        assert_eq!((&status["sets"], &status["dates"]), (&json!(2), &json!(2)));
        let brief =
            |source: &Value| json!([source["name"], source["up"], source["error"], source["snapshots"]]);
        let sources: Vec<Value> = status["sources"].as_array().unwrap().iter().map(brief).collect();
        let expected = [
            json!(["a", true, null, 1]),
            json!(["b", false, "no route to host", 0]),
            json!(["c", false, null, 0]),
        ];
        assert_eq!(sources, expected);
        assert_eq!(status["sources"][0]["listed"], "2026-03-10T12:00:00Z");
        assert_eq!(status["sources"][2]["listed"], Value::Null);
    }

    #[test]
    fn status_holds_every_counter() {
        let status = Bed::new(&[&FakeSource::new("a")]).ns.status();
        let counted = status["counters"].as_object().unwrap();
        assert!(metrics::ALL.iter().all(|counter| counted[counter.name].is_u64()));
        assert_eq!(counted.len(), metrics::ALL.len());
    }

    #[test]
    fn status_tells_of_each_server_whether_it_is_up_and_how_busy() {
        struct Down;
        impl links::Report for Down {
            fn report(&self) -> Link {
                Link {
                    name: "s3:https://status.example".into(),
                    down_for: Some(std::time::Duration::from_secs(7)),
                    error: Some("connection refused".into()),
                    in_flight: 1,
                    limit: 8,
                    requests: 30,
                    failures: 20,
                    retries: 10,
                }
            }
        }
        let down: std::sync::Arc<dyn links::Report> = std::sync::Arc::new(Down);
        links::register(&down);
        let status = Bed::new(&[&FakeSource::new("a")]).ns.status();
        let servers = status["servers"].as_array().unwrap();
        let shown = servers.iter().find(|server| server["name"] == "s3:https://status.example").unwrap();
        let expected = json!({
            "name": "s3:https://status.example", "up": false, "down_seconds": 7, "error": "connection refused",
            "in_flight": 1, "limit": 8, "requests": 30, "failures": 20, "retries": 10,
        });
        assert_eq!(*shown, expected);
    }

    #[test]
    fn a_repository_that_is_reached_twice_is_counted_once() {
        let bed = Bed::new(&[&FakeSource::new("a"), &FakeSource::new("b"), &FakeSource::new("a")]);
        assert_eq!(bed.ns.usage(), Usage { bytes: 2000, objects: 20 });
    }
}
