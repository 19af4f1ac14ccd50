//! Searching among ids. They are hashes, so that their value tells their position within a few entries.

/// The first of `len` sorted entries that is not `below` an id that begins with `prefix`.
pub(super) fn first(len: usize, prefix: u64, below: impl Fn(usize) -> bool) -> usize {
    let guess = (u128::from(prefix) * len as u128) >> 64;
    let guess = usize::try_from(guess).unwrap_or(0);
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
                let found = first(entries.len(), wanted, |at| entries[at] < wanted);
                prop_assert_eq!(found, entries.partition_point(|entry| *entry < wanted));
                let halved = halve(0, entries.len(), |at| entries[at] < wanted);
                prop_assert_eq!(halved, found);
            }
        }
    }
}
