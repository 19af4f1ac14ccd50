//! Members at their places, and how they come and go while the tree is shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::build::Contribution;
use super::calendar::Calendar;
use super::clock::time_of;
use super::group::Group;
use super::place::Placer;
use super::setname::Renames;
use super::{GROUPS, Member, Members, Namespace, diff};
use crate::error::Result;
use crate::tree::Change;

/// A member and what goes with it.
pub(super) struct Seat {
    pub member: Member,
    pub placer: Placer,
    pub watch: Watch,
}

/// Members by number.
pub(super) type Seated = Vec<(usize, Arc<Seat>)>;

/// How the asking of one source goes.
#[derive(Default)]
pub(super) struct Watch {
    pub busy: AtomicBool,
    pub failing: AtomicBool,
}

/// A seat for `member`, and what its source contributes so far. Errors: `Usage`, as [`Namespace::new`] has them.
pub(super) fn take(
    member: Member,
    renames: &Renames,
    calendar: &Calendar,
) -> Result<(Arc<Seat>, Contribution)> {
    let placer = Placer::new(&member)?;
    let list = member.source.snapshots();
    let placement = placer.place(&member, &list, renames, calendar);
    if let Some(error) = placement.refused.into_iter().next() {
        return Err(error);
    }
    let repository = member.source.id().into();
    let contribution = Contribution { repository, list, placed: placement.placed.into() };
    Ok((Arc::new(Seat { member, placer, watch: Watch::default() }), contribution))
}

impl Contribution {
    /// What a seat contributes whose member was let go of.
    pub(super) fn nothing() -> Self {
        Contribution { repository: "".into(), list: Arc::default(), placed: Arc::default() }
    }
}

impl Namespace {
    /// Lets go of the sources and groups that `gone` says by name, and takes in others, in one step: a source that is
    /// replaced is never missing from the tree. What is open goes on. Errors, which leave all as it is: as
    /// [`Namespace::new`].
    pub fn exchange(
        self: &Arc<Self>,
        gone: impl Fn(&str) -> bool,
        members: Vec<Member>,
        groups: Vec<Arc<dyn Members>>,
    ) -> Result<()> {
        let seated = members.into_iter().map(|member| take(member, &self.renames, &self.calendar));
        let new = seated.collect::<Result<Vec<_>>>()?;
        let mut desk = self.desk.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let desk = &mut *desk;
        let mut seats = self.seats.load().to_vec();
        for (seat, contribution) in seats.iter_mut().zip(&mut desk.contributions) {
            if let Some(old) = seat.take_if(|seat| gone(seat.member.source.name())) {
                old.member.source.retire();
                *contribution = Contribution::nothing();
            }
        }
        for (seat, contribution) in new {
            seats.push(Some(seat));
            desk.contributions.push(contribution);
        }
        self.seats.store(Arc::new(seats));
        // Who may enter may have been said anew.
        self.guards.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        let old = self.state.load_full();
        let state = Arc::new(desk.book.build(&desk.contributions, Some(&old), self.clock.now()));
        self.state.store(state.clone());
        let mut names = self.exchange_groups(gone, groups);
        if self.options.shared {
            names.extend(state.sets.iter().map(|set| set.name.to_vec()));
        }
        diff::changes(&old, &state).into_iter().for_each(|change| self.tell(change));
        if !names.is_empty() {
            self.tell(Change { dir: Vec::new(), names });
        }
        Ok(())
    }

    /// The same for groups; answers the names of those that come and go.
    fn exchange_groups(
        self: &Arc<Self>,
        gone: impl Fn(&str) -> bool,
        new: Vec<Arc<dyn Members>>,
    ) -> Vec<Vec<u8>> {
        let (going, mut groups): (Vec<_>, Vec<_>) =
            self.groups.load().iter().cloned().partition(|group| gone(group.name()));
        let mut names: Vec<Vec<u8>> = going.iter().map(|group| group.name().as_bytes().to_vec()).collect();
        // Positions grow: those of groups that are gone may still be in a listing under way.
        let known = groups.iter().chain(&going).map(|group| group.at + 1).max().unwrap_or(GROUPS);
        for (at, members) in (known..).zip(new) {
            names.push(members.name().as_bytes().to_vec());
            groups.push(Group::new(members, at, Arc::downgrade(self), self.clock.now()));
        }
        self.groups.store(Arc::new(groups));
        names
    }

    /// How often a source is to be asked for news.
    pub(super) fn period_of(&self, seat: &Seat) -> Duration {
        seat.member.refresh.unwrap_or(self.options.refresh)
    }

    /// How long what a source lists is still as new as it is to be, from whenever that is: it may have been kept. Nothing
    /// when it is older, or of a time that is still to come: then the clock was wrong, now or before.
    pub(super) fn rest_of(&self, seat: &Seat) -> Duration {
        let period = self.period_of(seat);
        // Whoever lists nothing yet was asked just now.
        let Some(listed) = seat.member.source.health().listed else { return period };
        let (listed, now) = (time_of(listed), self.clock.now());
        let age = i128::from(now.secs) - i128::from(listed.secs);
        let age = age * 1_000_000_000 + i128::from(now.nanos) - i128::from(listed.nanos);
        match u64::try_from(age) {
            Ok(age) => period.saturating_sub(Duration::from_nanos(age)),
            Err(_) => Duration::ZERO,
        }
    }
}

impl Watch {
    /// Whether it failed before; notes whether it does now.
    pub(super) fn turned(&self, failing: bool) -> bool {
        self.failing.swap(failing, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Kind;
    use crate::namespace::fake::{self, Describe, FakeSource};
    use crate::namespace::testbed::{Bed, list, member};
    use crate::namespace::{Access, Options};

    fn source(name: &str, host: &str) -> Arc<FakeSource> {
        FakeSource::with(name, vec![fake::snapshot("aa").host(host)])
    }

    #[test]
    fn sources_come_and_go_and_the_others_stay_as_they_are() {
        let (kept, going) = (source("kept", "k"), source("going", "g"));
        let bed = Bed::new(&[&going, &kept]);
        let before = bed.entries("/");
        let (set, date) = (bed.at("g@+"), bed.at("g@+/20260301_030000"));
        bed.ns.exchange(|name| name == "going", vec![member(&source("new", "n"))], Vec::new()).unwrap();
        assert_eq!(bed.ls("/"), ["current", "at", "k@+", "n@+"]);
        assert_eq!(bed.entries("/")[2], before[3], "the same directory at the same position");
        assert!(list(&set, 0).is_empty());
        assert_eq!(list(&date, 0)[0].name, "id", "what is open goes on");
        let told = bed.told();
        assert!(
            told.contains(&"/: g@+ n@+".to_owned()) && told.contains(&"/current: g@+ n@+".to_owned()),
            "{told:?}"
        );
    }

    #[test]
    fn a_source_that_is_replaced_is_read_anew_under_the_same_names() {
        let bed = Bed::new(&[&source("a", "h")]);
        let other = FakeSource::with(
            "a",
            vec![fake::snapshot("aa").host("h"), fake::snapshot("bb").host("h").at("2026-03-02T03:00:00Z")],
        );
        bed.ns.exchange(|name| name == "a", vec![member(&other)], Vec::new()).unwrap();
        assert_eq!(bed.ls("h@+"), ["latest", "20260301_030000", "20260302_030000"]);
        assert!(bed.told().iter().any(|line| line.starts_with("/h@+:") && line.contains("latest")));
    }

    #[test]
    fn what_cannot_be_shown_changes_nothing() {
        let bed = Bed::new(&[&source("a", "h")]);
        let wrong = Member { zone: Some("Nowhere".into()), ..member(&source("b", "i")) };
        let error = bed.ns.exchange(|_| true, vec![wrong], Vec::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert_eq!(bed.ls("/"), ["current", "at", "h@+"]);
        assert!(bed.told().is_empty());
    }

    #[test]
    fn who_may_enter_is_said_anew() {
        let closed = || {
            let snapshot = fake::snapshot("aa").host("h");
            let source = FakeSource::with("a", vec![snapshot.clone()]);
            let node = fake::dir(fake::owned(0, 0, 0o755), vec![]);
            source.tree(&snapshot, 0, Ok(fake::opened("a", node, crate::tree::Ancestors::Unknown)));
            source
        };
        let bed = Bed::shared(&[&closed()]);
        let perm = |bed: &Bed| bed.at("h@+").meta.perm;
        assert_eq!(perm(&bed), 0o700);
        let access = Some(Access { uid: 7, gid: 8, perm: 0o751 });
        let opened = Member { access, ..member(&closed()) };
        bed.ns.exchange(|name| name == "a", vec![opened], Vec::new()).unwrap();
        assert_eq!(perm(&bed), 0o751);
        assert!(bed.told().contains(&"/: h@+".to_owned()), "the kernel has to ask again");
    }

    #[tokio::test(start_paused = true)]
    async fn each_source_is_asked_as_often_as_was_said_of_it() {
        let (often, seldom) = (FakeSource::new("often"), FakeSource::new("seldom"));
        let every = |source, secs| Member { refresh: Some(Duration::from_secs(secs)), ..member(source) };
        let bed = Bed::with(vec![every(&often, 10), every(&seldom, 3_600)], Options::default(), "UTC");
        let task = bed.ns.spawn_refresh();
        often.put(vec![fake::snapshot("aa").host("o")]);
        seldom.put(vec![fake::snapshot("bb").host("s")]);
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert!(bed.has("o@+") && !bed.has("s@+"));
        tokio::time::sleep(Duration::from_secs(3_580)).await;
        assert!(!bed.has("s@+"));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(bed.has("s@+"));
        // One that comes later is asked too.
        let late = FakeSource::new("late");
        bed.ns.exchange(|_| false, vec![every(&late, 10)], Vec::new()).unwrap();
        late.put(vec![fake::snapshot("cc").host("l")]);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(bed.has("l@+"));
        task.abort();
    }
}
