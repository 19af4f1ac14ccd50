//! Searching among ids. They are hashes, so that their value tells their position within a few entries.

/// Guesses that are made before looking around the last one. Each leaves about the square root of the distance.
const GUESSES: usize = 2;

/// A guess is good that is so near.
const NEAR: u64 = 8;

/// The first of `len` sorted entries that is not `below` an id that begins with `prefix`, as an entry does with
/// `prefix_at` it.
pub(super) fn first(
    len: usize,
    prefix: u64,
    prefix_at: impl Fn(usize) -> u64,
    below: impl Fn(usize) -> bool,
) -> usize {
    let guess = guess(len, prefix, prefix_at);
    let (mut low, mut high) = (guess, guess);
    let mut step = 8;
    while low > 0 && !below(low - 1) {
        low = low.saturating_sub(step);
        step *= 2;
    }
    step = 8;
    while high < len && below(high) {
        high = (high + step).min(len);
        step *= 2;
    }
    halve(low, high, below)
}

/// About where an id that begins with `prefix` is, if ids are spread evenly; else anywhere from 0 to `len`.
fn guess(len: usize, prefix: u64, prefix_at: impl Fn(usize) -> u64) -> usize {
    let distance = u64::MAX / (len as u64).max(1);
    let mut guess = prefix / distance.max(1);
    for _ in 0..GUESSES {
        guess = guess.min((len as u64).saturating_sub(1));
        let there = usize::try_from(guess).map_or(0, &prefix_at);
        let off = prefix.abs_diff(there) / distance.max(1);
        guess = if prefix < there { guess.saturating_sub(off) } else { guess.saturating_add(off) };
        if off <= NEAR {
            break;
        }
    }
    usize::try_from(guess).map_or(len, |guess| guess.min(len))
}

/// The first of the sorted entries from `low` that is not `below`, or `high`.
pub(super) fn halve(mut low: usize, mut high: usize, below: impl Fn(usize) -> bool) -> usize {
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_what_a_plain_search_finds(
            mut entries in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..9, (u64::MAX - 9)..=u64::MAX], 0..200),
            wanted: u64,
            nth: prop::sample::Index,
        ) {
            entries.sort_unstable();
            let known = entries.get(nth.index(200)).copied().unwrap_or(wanted);
            for wanted in [wanted, known, known.saturating_add(1)] {
                let found = first(entries.len(), wanted, |at| entries.get(at).copied().unwrap_or(0), |at| entries[at] < wanted);
                prop_assert_eq!(found, entries.partition_point(|entry| *entry < wanted));
                let halved = halve(0, entries.len(), |at| entries[at] < wanted);
                prop_assert_eq!(halved, found);
            }
        }
    }
}
