//! What `.backupfs/metrics` and the metrics socket tell, for monitoring that reads OpenMetrics.
//!
//! There is a series for each source, group, server and set of the root, never for a member of a group: those may be
//! tens of thousands. Sets are bounded, and those that matter, the oldest, come first.

use super::Namespace;
use super::clock::time_of;
use super::coverage::{Age, Coverage};
use crate::observe::openmetrics::{Exposition, Type};
use crate::observe::{links, metrics, waiting};
use crate::tree::SourceHealth;

/// So many sets have series of their own.
const MOST_SETS: usize = 2_000;

impl Namespace {
    /// Everything that is counted, as OpenMetrics has it.
    pub fn metrics(&self) -> String {
        let mut out = Exposition::default();
        out.metric("build", Type::Gauge, "The program.").sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.expose_sources(&mut out);
        self.expose_groups(&mut out);
        let state = self.state.load();
        expose_sets(&mut out, &self.ages(&state));
        let dates: usize = state.sets.iter().map(|set| set.dates.len()).sum();
        out.metric("dates", Type::Gauge, "Dates shown, of all sets.").sample(&[], dates);
        expose_servers(&mut out);
        expose_process(&mut out);
        out.finish()
    }

    fn expose_sources(&self, out: &mut Exposition) {
        let seats = self.seated();
        let sources: Vec<_> = seats.iter().map(|(_, seat)| &seat.member.source).collect();
        let told: Vec<(&str, SourceHealth)> = sources.iter().map(|s| (s.name(), s.health())).collect();
        out.metric("source_up", Type::Gauge, "Whether the last listing of a source succeeded.");
        for (source, health) in &told {
            let is_up = health.error.is_none() && health.listed.is_some();
            out.sample(&[("source", source)], u8::from(is_up));
        }
        out.metric("source_listed_timestamp_seconds", Type::Gauge, "When a source was listed last.");
        for (source, health) in &told {
            if let Some(listed) = health.listed {
                out.sample(&[("source", source)], time_of(listed).secs);
            }
        }
        out.metric("source_omitted", Type::Gauge, "Damaged or unshowable things met in a source.");
        for (source, health) in &told {
            out.sample(&[("source", source)], health.omitted);
        }
        out.metric("source_snapshots", Type::Gauge, "Snapshots in a source.");
        for source in sources {
            out.sample(&[("source", source.name())], source.snapshots().len());
        }
    }

    fn expose_groups(&self, out: &mut Exposition) {
        let groups = self.groups.load();
        out.metric("group_up", Type::Gauge, "Whether the last listing of a group succeeded.");
        for group in groups.iter() {
            let (members, _, error) = group.state();
            out.sample(&[("group", group.name())], u8::from(error.is_none() && members.is_some()));
        }
        out.metric("group_members", Type::Gauge, "Members that a group listed.");
        for group in groups.iter() {
            out.sample(&[("group", group.name())], group.state().0.unwrap_or(0));
        }
        out.metric("group_open_members", Type::Gauge, "Members of a group that are open.");
        for group in groups.iter() {
            out.sample(&[("group", group.name())], group.state().1);
        }
        out.metric(
            "group_counted_members",
            Type::Gauge,
            "Members by the age of their newest snapshot, when it was counted last.",
        );
        for group in groups.iter() {
            let Some(last) = group.surveyed() else { continue };
            for (state, members) in [("fresh", last.fresh), ("late", last.late), ("unknown", last.unknown)] {
                out.sample(&[("group", group.name()), ("state", state)], members);
            }
        }
    }
}

fn expose_sets(out: &mut Exposition, ages: &[Age]) {
    let Coverage { sets, fresh } = Coverage::of(ages);
    out.metric("sets", Type::Gauge, "Backup sets shown, without those of groups.").sample(&[], sets);
    out.metric("fresh_sets", Type::Gauge, "Those whose newest snapshot is not older than expected.");
    out.sample(&[], fresh);
    let told = || ages.iter().take(MOST_SETS);
    out.metric("set_newest_timestamp_seconds", Type::Gauge, "When the newest snapshot of a set was taken.");
    told().for_each(|age| out.sample(&[("set", &age.set)], age.newest.secs));
    out.metric("set_expected_seconds", Type::Gauge, "How old the newest snapshot of a set may become.");
    told().for_each(|age| out.sample(&[("set", &age.set)], age.expected.as_secs()));
}

fn expose_servers(out: &mut Exposition) {
    let links = links::all();
    out.metric("server_up", Type::Gauge, "Whether a server is held to be up.");
    for link in &links {
        out.sample(&[("server", &link.name)], u8::from(link.down_for.is_none()));
    }
    out.metric("server_requests", Type::Counter, "Requests to a server that were answered or failed.");
    links.iter().for_each(|link| out.sample(&[("server", &link.name)], link.requests));
    out.metric("server_failures", Type::Counter, "Requests to a server that failed.");
    links.iter().for_each(|link| out.sample(&[("server", &link.name)], link.failures));
    out.metric("server_retries", Type::Counter, "Requests to a server that were repeated.");
    links.iter().for_each(|link| out.sample(&[("server", &link.name)], link.retries));
    out.metric("server_requests_in_flight", Type::Gauge, "Requests to a server that are under way.");
    links.iter().for_each(|link| out.sample(&[("server", &link.name)], link.in_flight));
    out.metric("server_requests_limit", Type::Gauge, "Requests to a server that may be under way.");
    links.iter().for_each(|link| out.sample(&[("server", &link.name)], link.limit));
}

fn expose_process(out: &mut Exposition) {
    out.metric("waiting_requests", Type::Gauge, "Requests of the kernel that wait for something.");
    out.sample(&[], waiting::count());
    out.metric("longest_wait_seconds", Type::Gauge, "How long one of them has waited.");
    out.sample(&[], waiting::longest().map_or(0.0, |request| request.since.elapsed().as_secs_f64()));
    for counter in metrics::ALL {
        out.metric(counter.name, Type::Counter, counter.help).sample(&[], counter.value());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::namespace::fake::{self, Describe, FakeSource};
    use crate::namespace::testbed::Bed;

    fn exposed() -> String {
        let up = FakeSource::with("a \"b\"", vec![fake::snapshot("aa").host("h").at("2026-03-10T03:00:00Z")]);
        Bed::new(&[&up, &FakeSource::new("c").unlisted()]).ns.metrics()
    }

    #[test]
    fn sources_and_sets_have_series_of_their_own() {
        let text = exposed();
        for line in [
            "backupfs_source_up{source=\"a \\\"b\\\"\"} 1",
            "backupfs_source_up{source=\"c\"} 0",
            "backupfs_source_snapshots{source=\"a \\\"b\\\"\"} 1",
            "backupfs_sets 1",
            "backupfs_fresh_sets 1",
            "backupfs_set_newest_timestamp_seconds{set=\"h@+\"} 1773111600",
            "backupfs_set_expected_seconds{set=\"h@+\"} 86400",
            "# UNIT backupfs_store_bytes bytes",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(!text.contains("source_listed_timestamp_seconds{source=\"c\"}"));
    }

    #[test]
    fn it_is_well_formed() {
        let text = exposed();
        assert!(text.ends_with("\n# EOF\n"));
        let (mut current, mut kinds) = (String::new(), HashSet::new());
        for line in text.lines().filter(|line| *line != "# EOF") {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["#", "TYPE", name, kind] = words[..] {
                assert!(kinds.insert(name.to_owned()), "{name} is there twice");
                current = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            } else if words[0] != "#" {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(name, current, "samples follow their metric");
                assert!(words.last().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(metrics::ALL.iter().all(|counter| kinds.contains(&format!("backupfs_{}", counter.name))));
    }

    #[test]
    fn of_thousands_of_sets_the_oldest_are_told() {
        let taken =
            |n: usize| fake::snapshot(&format!("{n:08x}")).host(&format!("h{n}")).at("2026-03-01T00:00:00Z");
        let mut list: Vec<_> = (0..MOST_SETS).map(taken).collect();
        list.push(fake::snapshot("ff").host("oldest").at("2020-01-01T00:00:00Z"));
        let text = Bed::new(&[&FakeSource::with("r", list)]).ns.metrics();
        assert_eq!(text.matches("backupfs_set_newest_timestamp_seconds{").count(), MOST_SETS);
        assert!(text.contains("backupfs_set_newest_timestamp_seconds{set=\"oldest@+\"}"));
    }
}
