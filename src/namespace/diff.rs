//! What the kernel must forget when one tree takes the place of another.

use std::collections::HashMap;

use super::calendar::{LATEST, day_name};
use super::state::{Date, Set, State};
use crate::tree::Change;

/// The names of the root's own directories.
pub(super) const CURRENT: &[u8] = b"current";
/// See [`CURRENT`].
pub(super) const AT: &[u8] = b"at";

/// Every directory in which a name appeared, went, or means another node. What lies below `at/<when>` is left out:
/// such answers are kept no longer than `refresh` anyway.
pub(super) fn changes(old: &State, new: &State) -> Vec<Change> {
    let mut out = Vec::new();
    let (mut root, mut current) = (Vec::new(), Vec::new());
    let (mut before, mut after) = (old.sets.iter().peekable(), new.sets.iter().peekable());
    loop {
        let order = match (before.peek(), after.peek()) {
            (Some(one), Some(other)) => one.name.cmp(&other.name),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => break,
        };
        let was = if order.is_le() { before.next() } else { None };
        let is = if order.is_ge() { after.next() } else { None };
        let Some(Set { name, .. }) = is.or(was) else { continue };
        if was.is_none() || is.is_none() {
            root.push(name.to_vec());
        }
        if newest(old, was) != newest(new, is) {
            current.push(name.to_vec());
        }
        let names = set_changes((old, was), (new, is));
        if !names.is_empty() {
            out.push(Change { dir: vec![name.to_vec()], names });
        }
    }
    let days = old.days.symmetric_difference(&new.days).filter_map(|day| day_name(*day));
    let at: Vec<Vec<u8>> = days.map(String::into_bytes).collect();
    let whole = [(vec![], root), (vec![CURRENT.to_vec()], current), (vec![AT.to_vec()], at)];
    out.extend(whole.into_iter().filter(|(_, n)| !n.is_empty()).map(|(dir, names)| Change { dir, names }));
    out
}

/// Every date that was read from `member` and can be read elsewhere: what is known of it leads to a source that does
/// not answer now.
pub(super) fn read_elsewhere(state: &State, member: u32) -> Vec<Change> {
    let lost =
        |date: &&Date| date.copies.len() > 1 && date.copies.first().is_some_and(|c| c.member == member);
    let (mut out, mut current) = (Vec::new(), Vec::new());
    for set in &state.sets {
        let names: Vec<_> = set.dates.iter().filter(lost).flat_map(|date| all_names(state, date)).collect();
        if set.newest().as_ref().is_some_and(lost) {
            current.push(set.name.to_vec());
        }
        if !names.is_empty() {
            out.push(Change { dir: vec![set.name.to_vec()], names });
        }
    }
    if !current.is_empty() {
        out.push(Change { dir: vec![CURRENT.to_vec()], names: current });
    }
    out
}

fn set_changes((old, was): (&State, Option<&Set>), (new, is): (&State, Option<&Set>)) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut before: HashMap<u128, &Date> = dates_of(was).iter().map(|date| (date.id, date)).collect();
    for date in dates_of(is) {
        match before.remove(&date.id) {
            None => names.extend(all_names(new, date)),
            Some(then) if reading(old, then) != reading(new, date) => {
                names.extend(all_names(old, then));
                names.extend(all_names(new, date));
            }
            Some(then) if then.listed != date.listed => {
                names.extend([&then.listed, &date.listed].map(|name| name.as_bytes().to_vec()));
            }
            Some(_) => {}
        }
    }
    names.extend(before.into_values().flat_map(|gone| all_names(old, gone)));
    let latest = |set: Option<&Set>| set.and_then(Set::newest).map(|date| date.listed.clone());
    if latest(was) != latest(is) {
        names.push(LATEST.into());
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn dates_of(set: Option<&Set>) -> &[Date] {
    set.map_or(&[], |set| &set.dates)
}

/// Every name under which a date can have been looked up.
fn all_names(state: &State, date: &Date) -> Vec<Vec<u8>> {
    let short = [&date.listed, &date.plain].map(|name| name.as_bytes().to_vec());
    short.into_iter().chain(state.long_names(date).map(String::into_bytes)).collect()
}

/// The snapshot that a date is read from first.
fn reading<'a>(state: &'a State, date: &Date) -> Option<(u32, &'a str)> {
    let copy = *date.copies.first()?;
    Some((copy.member, &state.snapshot(copy)?.id))
}

fn newest<'a>(state: &'a State, set: Option<&Set>) -> Option<(u128, Option<(u32, &'a str)>)> {
    let date = set?.newest()?;
    Some((date.id, reading(state, date)))
}

#[cfg(test)]
mod tests {
    use crate::error::{Error, Kind};
    use crate::namespace::fake::{self, Describe, FakeSource};
    use crate::namespace::testbed::Bed;
    use crate::tree::Snapshot;

    fn taken(short: &str, time: &str) -> Snapshot {
        fake::snapshot(short).host("h").paths(&["/a"]).at(time)
    }

    #[tokio::test(start_paused = true)]
    async fn every_name_that_comes_goes_or_changes_is_told() {
        let (one, two) = (taken("aa", "2026-03-01T03:00:00Z"), taken("bb", "2026-03-02T03:00:00Z"));
        let source = FakeSource::with("r", vec![one.clone()]);
        let bed = Bed::new(&[&source]);
        bed.ns.refresh().await;
        assert!(bed.told().is_empty(), "no news");

        source.put(vec![one.clone(), two.clone()]);
        bed.ns.refresh().await;
        let [day, current, set] = &bed.told()[..] else { panic!("three directories") };
        assert_eq!(day, "/at: 2026-03-02");
        assert!(
            set.starts_with("/h@+a: 20260302_030000 20260302_030000-") && set.ends_with(" latest"),
            "{set}"
        );
        assert!(
            set.contains(" 20260302_030000-bbbbbbbb "),
            "a look-up of the long form may have failed before: {set}"
        );
        assert_eq!(current, "/current: h@+a");

        source.put(vec![two.clone(), fake::snapshot("cc").host("i").at("2026-03-02T01:00:00Z")]);
        bed.ns.refresh().await;
        let told = bed.told();
        assert_eq!(told.len(), 5, "{told:?}");
        assert_eq!(told[0], "/: i@+");
        assert_eq!(told[1], "/at: 2026-03-01");
        assert_eq!(told[2], "/current: i@+", "the newest of the other set is the same");
        assert!(told[3].starts_with("/h@+a: 20260301_030000 ") && !told[3].contains("latest"), "{told:?}");
        assert!(told[4].starts_with("/i@+: 20260302_010000 ") && told[4].ends_with("latest"), "{told:?}");

        source.put(vec![two]);
        bed.ns.refresh().await;
        let told = bed.told();
        assert_eq!(told[0], "/: i@+", "gone");
        assert_eq!(told[1], "/current: i@+");
        assert!(told[2].starts_with("/i@+: 20260302_010000 "), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_becomes_long_is_told() {
        let one = taken("aa", "2026-03-01T03:00:00Z");
        let source = FakeSource::with("r", vec![one.clone()]);
        let bed = Bed::new(&[&source]);
        source.put(vec![one, taken("bb", "2026-03-01T03:00:00Z")]);
        bed.ns.refresh().await;
        let told = bed.told().join("\n");
        for name in ["20260301_030000 ", "20260301_030000-aaaaaaaa ", "20260301_030000-bbbbbbbb ", "latest"] {
            assert!(told.contains(name), "{name}: {told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_date_that_is_read_elsewhere_now_is_told() {
        let one = taken("aa", "2026-03-01T03:00:00Z");
        let copy = fake::snapshot("bb").copy_of(&one);
        let (first, second) = (FakeSource::with("a", vec![one]), FakeSource::with("b", vec![copy]));
        let bed = Bed::new(&[&first, &second]);
        let identity = bed.at("h@+a/20260301_030000").meta.identity;
        first.put(vec![]);
        bed.ns.refresh().await;
        let told = bed.told();
        assert!(told[0].starts_with("/current: h@+a") || told[1].starts_with("/current: h@+a"), "{told:?}");
        assert!(told.iter().any(|line| line.starts_with("/h@+a: 20260301_030000 ")), "{told:?}");
        assert_eq!(bed.at("h@+a/20260301_030000").meta.identity, identity, "the same place, the same data");
        assert_eq!(bed.id("h@+a/20260301_030000"), "bb".repeat(32));
    }
    #[tokio::test(start_paused = true)]
    async fn when_a_source_goes_down_dates_with_other_copies_are_looked_up_again() {
        let (one, two) = (taken("aa", "2026-03-01T03:00:00Z"), taken("bb", "2026-03-02T03:00:00Z"));
        let copy = fake::snapshot("cc").copy_of(&two);
        let (first, second) = (FakeSource::with("a", vec![one, two]), FakeSource::with("b", vec![copy]));
        let bed = Bed::new(&[&first, &second]);
        let down = || Some(Error::new(Kind::Unavailable, "away"));
        second.down(down());
        bed.ns.refresh().await;
        assert!(bed.told().is_empty(), "nothing was read from it");
        second.down(None);
        first.down(down());
        bed.ns.refresh().await;
        let [current, set] = &bed.told()[..] else { panic!("two directories") };
        assert_eq!(current, "/current: h@+a");
        assert!(set.starts_with("/h@+a: 20260302_030000 ") && !set.contains("20260301"), "{set}");
        assert_eq!(bed.id("h@+a/20260302_030000"), "cc".repeat(32));
        bed.ns.refresh().await;
        assert!(bed.told().is_empty(), "told once");
    }
}
