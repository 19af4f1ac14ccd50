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

/// How many letters have to be inserted, deleted, replaced or swapped with the next to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Row `i` holds the distances of the first `i` letters of `a` to every beginning of `b`.
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    let known = |rows: &[Vec<usize>], i: usize, j: usize| {
        rows.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0)
    };
    for (i, from) in a.iter().enumerate() {
        rows.push(vec![i + 1]);
        for (j, to) in b.iter().enumerate() {
            let replaced = known(&rows, i, j) + usize::from(from != to);
            let mut least = replaced.min(known(&rows, i, j + 1) + 1).min(known(&rows, i + 1, j) + 1);
            let before =
                |letters: &[char], at: usize| at.checked_sub(1).and_then(|at| letters.get(at)).copied();
            if before(&a, i) == Some(*to) && before(&b, j) == Some(*from) {
                least = least.min(known(&rows, i - 1, j - 1) + 1);
            }
            if let Some(row) = rows.last_mut() {
                row.push(least);
            }
        }
    }
    known(&rows, a.len(), b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_mistakes() {
        for (a, b, d) in [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("refresh", "refesh", 1),
            ("sftp", "sfpt", 1),
            ("abc", "cab", 2),
        ] {
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
