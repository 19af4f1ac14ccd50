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
