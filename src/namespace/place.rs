//! Where the snapshots of one member belong: the set, the plain name and the identity of each.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::calendar::{self, Calendar};
use super::name::{self, key};
use super::options::Member;
use super::setname::{Renames, Template};
use crate::error::{Context, Error, Result};
use crate::tree::{Snapshot, Time};

/// Identifies a date: what one host saved of one path at one instant. Copies of a snapshot have the same, whatever
/// their repository.
pub(super) type DateId = u128;

/// One path of one snapshot in one set.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub set: Arc<[u8]>,
    /// The name of the date unless others of the set have it too.
    pub plain: Arc<str>,
    pub date: DateId,
    pub instant: Time,
    /// The day in the mount's zone.
    pub day: i32,
    /// Index in the member's list.
    pub snapshot: u32,
    /// Index in the snapshot's paths.
    pub path: u32,
}

/// How one member's snapshots are named.
pub(super) struct Placer {
    template: Template,
    zone: Option<TimeZone>,
}

/// What placing a list gave.
#[derive(Default)]
pub(super) struct Placement {
    pub placed: Vec<Placed>,
    /// Rename rules that made impossible names; the sets go by the names they had before.
    pub refused: Vec<Error>,
}

impl Placer {
    /// Checks what the configuration says of a member. Errors: `Usage`, naming the member.
    pub(super) fn new(member: &Member) -> Result<Self> {
        let of = || format!("source {}", member.member);
        let template = Template::parse(member.set.as_deref(), &member.parts).context(of)?;
        let zone = member.zone.as_deref().map(calendar::zone).transpose().context(of)?;
        Ok(Placer { template, zone })
    }

    /// The zone of snapshots that record none.
    pub(super) fn zone(&self) -> Option<&TimeZone> {
        self.zone.as_ref()
    }

    /// Places all snapshots of `list` that the member's filter wants.
    pub(super) fn place(
        &self,
        member: &Member,
        list: &[Snapshot],
        renames: &Renames,
        calendar: &Calendar,
    ) -> Placement {
        let mut out = Placement::default();
        let mut sets = HashSet::new();
        for (index, snapshot) in (0u32..).zip(list).filter(|(_, s)| member.filter.wants(s)) {
            let plain = match &snapshot.given.label {
                Some(label) if calendar::is_name(label) => label.clone(),
                _ => calendar.name(&snapshot.time, self.zone.as_ref()).into(),
            };
            let instant = snapshot.time.instant;
            let day = calendar.day(instant);
            for (path, recorded) in (0u32..).zip(snapshot.paths.iter()) {
                if !member.filter.wants_path(recorded) {
                    continue;
                }
                let date = date_id(snapshot, recorded);
                for made in self.template.expand(snapshot, recorded, &member.member) {
                    let set = renames.apply(made.clone()).unwrap_or_else(|error| {
                        out.refused.push(error.context(format!("source {}", member.member)));
                        name::fit(made)
                    });
                    let (set, plain) = (shared(&mut sets, set), plain.clone());
                    out.placed.push(Placed { set, plain, date, instant, day, snapshot: index, path });
                }
            }
        }
        out
    }
}

/// `name`, in memory once.
fn shared(names: &mut HashSet<Arc<[u8]>>, name: Vec<u8>) -> Arc<[u8]> {
    match names.get(name.as_slice()) {
        Some(known) => known.clone(),
        None => {
            let new: Arc<[u8]> = name.into();
            names.insert(new.clone());
            new
        }
    }
}

fn date_id(snapshot: &Snapshot, path: &[u8]) -> DateId {
    let Time { secs, nanos } = snapshot.time.instant;
    let host = snapshot.host.as_deref();
    key(&[
        &[u8::from(host.is_some())],
        host.unwrap_or_default().as_bytes(),
        &name::path(path),
        snapshot.content.as_bytes(),
        &secs.to_be_bytes(),
        &nanos.to_be_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::fake::{self, Describe, FakeSource};
    use crate::namespace::{Filter, Rename, TimeStyle};
    use crate::tree::Given;

    fn member() -> Member {
        Member {
            source: FakeSource::new("repo"),
            set: None,
            parts: Vec::new(),
            member: "home".into(),
            filter: Filter::default(),
            access: None,
            zone: None,
            refresh: None,
            expect_every: crate::namespace::EXPECT_EVERY,
        }
    }

    fn place(member: &Member, list: &[Snapshot], rename: &[Rename]) -> Placement {
        let calendar = Calendar::new(TimeStyle::Recorded, "%Y%m%d_%H%M%S", TimeZone::UTC).unwrap();
        Placer::new(member).unwrap().place(member, list, &Renames::new(rename).unwrap(), &calendar)
    }

    #[test]
    fn a_snapshot_of_several_paths_is_in_a_set_for_each() {
        let list = [
            fake::snapshot("ab").host("h").paths(&["/a", "/b"]),
            fake::snapshot("cd").host("h").paths(&["/b"]),
        ];
        let found = place(&member(), &list, &[]).placed;
        let places: Vec<_> = found.iter().map(|p| (&p.set[..], p.snapshot, p.path)).collect();
        assert_eq!(places, [(&b"h@+a"[..], 0, 0), (b"h@+b", 0, 1), (b"h@+b", 1, 0)]);
        assert!(Arc::ptr_eq(&found[1].set, &found[2].set), "names are shared");
        assert_ne!(found[0].date, found[1].date);
    }

    #[test]
    fn filters_leave_out_snapshots_and_paths() {
        let list = [
            fake::snapshot("ab").host("h").paths(&["/a", "/b"]),
            fake::snapshot("cd").host("i").paths(&["/b"]),
        ];
        let mut member = member();
        member.filter = Filter { hosts: vec!["h".into()], paths: vec!["/b".into()], ..Filter::default() };
        let found = place(&member, &list, &[]).placed;
        assert_eq!(found.iter().map(|p| (p.snapshot, p.path)).collect::<Vec<_>>(), [(0, 1)]);
    }

    #[test]
    fn a_snapshot_that_tells_no_time_is_called_as_it_is_given() {
        let labelled = |label: &str| {
            let given = Given { label: Some(label.into()), ..Given::default() };
            place(&member(), &[fake::snapshot("ab").given(given)], &[]).placed.remove(0)
        };
        let placed = labelled("before the upgrade");
        assert_eq!((&*placed.plain, placed.instant.secs), ("before the upgrade", 1_772_334_000));
        for no_name in ["latest", "", "a/b", "a\nb", "..", &"x".repeat(241)] {
            assert_eq!(&*labelled(no_name).plain, "20260301_030000", "{no_name:?}");
        }
    }

    #[test]
    fn a_date_is_host_path_instant_and_content() {
        let one = fake::snapshot("ab").host("h").paths(&["/a"]).content("t");
        let same = fake::snapshot("cd").host("h").paths(&["/a/"]).content("t").tags(&["copy"]).user("u");
        let differ = [
            one.clone().host("i"),
            one.clone().paths(&["/b"]),
            one.clone().content("u"),
            one.clone().at("2026-03-01T03:00:00.000000001Z"),
            Snapshot { host: None, ..one.clone() },
        ];
        let id = |snapshot: &Snapshot| date_id(snapshot, &snapshot.paths[0]);
        assert_eq!(id(&one), id(&same));
        for other in &differ {
            assert_ne!(id(&one), id(other), "{other:?}");
        }
    }

    #[test]
    fn a_refused_rename_is_reported_and_the_set_keeps_its_name() {
        let list = [fake::snapshot("ab").host("h").paths(&["/a"])];
        let found = place(&member(), &list, &[Rename { from: ".*".into(), to: "current".into() }]);
        assert_eq!(&found.placed[0].set[..], b"h@+a");
        assert!(found.refused[0].to_string().starts_with("source home: rename"), "{}", found.refused[0]);
    }

    #[test]
    fn bad_zones_and_templates_name_the_member() {
        for bad in [
            Member { zone: Some("Nowhere".into()), ..member() },
            Member { set: Some("{host}".into()), ..member() },
        ] {
            let error = Placer::new(&bad).err().unwrap();
            assert!(error.to_string().starts_with("source home:"), "{error}");
        }
    }
}
