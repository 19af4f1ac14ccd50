//! The known word that a mistyped one was probably meant to be.

/// The nearest of `known`, if it is near enough to be worth suggesting: at most a third of the letters differ.
pub fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed: String = typed.to_ascii_lowercase().replace('_', "-");
    known
        .map(|word| (distance(&typed, &word.replace('_', "-")), word))
        .filter(|(distance, word)| distance * 3 <= word.len().max(typed.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// How many letters have to be inserted, deleted or replaced to turn `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (pair, to) in row.windows(2).zip(&b) {
            let &[diagonal, above] = pair else { break };
            left = (diagonal + usize::from(from != *to)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshtein() {
        for (a, b, d) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("refresh", "refesh", 1)] {
            assert_eq!(distance(a, b), d, "{a} {b}");
            assert_eq!(distance(b, a), d, "{b} {a}");
        }
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["refresh", "time", "timeout", "allow_other"];
        assert_eq!(nearest("refesh", known.into_iter()), Some("refresh"));
        assert_eq!(nearest("timout", known.into_iter()), Some("timeout"));
        assert_eq!(nearest("ALLOW-OTHERS", known.into_iter()), Some("allow_other"));
        assert_eq!(nearest("compression", known.into_iter()), None);
    }
}
