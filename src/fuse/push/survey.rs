//! The files of one directory that are worth fetching, in the orders in which tools read them.

use crate::tree::Cookie;

/// The order in which somebody reads the files of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// As they are listed: `tar`, `rsync`, a shell's `*` where names are listed sorted.
    Listing,
    /// By inode number: `cp` and what else is built on fts.
    Inode,
}

/// A file worth pushing or fetching ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its position in the listing.
    pub at: Cookie,
    /// Its number, by which the kernel knows it.
    pub ino: u64,
    /// How many bytes of it are fetched.
    pub size: u32,
}

/// How far apart, in files, two reads of one sequence may be: tools skip files, and several of them take turns.
const NEAR: usize = 64;

/// The files of a directory that are worth fetching.
pub(super) struct Survey {
    /// In the order of the listing.
    files: Vec<Candidate>,
    /// Positions in `files`, by inode number.
    by_inode: Vec<u32>,
}

impl Survey {
    /// `files` as listed, at most 2^32.
    pub fn new(files: Vec<Candidate>) -> Self {
        let mut by_inode: Vec<(u64, u32)> = files.iter().map(|file| file.ino).zip(0..).collect();
        by_inode.sort_unstable();
        Survey { files, by_inode: by_inode.into_iter().map(|(_, number)| number).collect() }
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// The file that is read as number `rank` by who reads in `order`.
    pub fn file(&self, order: Order, rank: usize) -> Option<Candidate> {
        match order {
            Order::Listing => self.files.get(rank).copied(),
            Order::Inode => self.files.get(*self.by_inode.get(rank)? as usize).copied(),
        }
    }

    /// As number what the file at `at` with number `ino` is read; nothing for others.
    pub fn rank(&self, order: Order, at: Cookie, ino: u64) -> Option<usize> {
        match order {
            Order::Listing => self.files.binary_search_by_key(&at, |file| file.at).ok(),
            Order::Inode => {
                let number = |index: &u32| self.files.get(*index as usize).map(|file| file.ino);
                self.by_inode.binary_search_by_key(&Some(ino), number).ok()
            }
        }
    }

    /// The order in which `reads` (position, number) follow each other closely, if there is one, and the greatest rank
    /// among them. Several readers that take turns go back now and then.
    pub fn order_of(&self, reads: &[(Cookie, u64)]) -> Option<(Order, usize)> {
        let orders = [Order::Listing, Order::Inode].into_iter().filter_map(|order| {
            let ranks: Vec<usize> =
                reads.iter().filter_map(|(at, ino)| self.rank(order, *at, *ino)).collect();
            let (least, greatest) = (*ranks.iter().min()?, *ranks.iter().max()?);
            let is_near = ranks.len() > 1 && greatest - least <= NEAR;
            is_near.then_some((!ranks.is_sorted(), greatest - least, order, greatest))
        });
        orders
            .min_by_key(|(goes_back, span, ..)| (*goes_back, *span))
            .map(|(_, _, order, rank)| (order, rank))
    }

    /// Whether `rank` is in `ranks` or near them.
    pub fn is_near(rank: usize, ranks: std::ops::Range<usize>) -> bool {
        rank.saturating_add(NEAR) >= ranks.start && rank <= ranks.end.max(ranks.start).saturating_add(NEAR)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `count` files at positions 10, 20, … whose numbers are in no order.
    pub fn survey(count: u64) -> Survey {
        let file = |n: u64| Candidate { at: n * 10, ino: number(n), size: 4096 };
        Survey::new((1..=count).map(file).collect())
    }

    /// The number of the file at position `n * 10`.
    pub fn number(n: u64) -> u64 {
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
    }

    fn read(file: Candidate) -> (Cookie, u64) {
        (file.at, file.ino)
    }

    #[test]
    fn ranks_and_files_are_inverse_in_both_orders() {
        let survey = survey(500);
        for order in [Order::Listing, Order::Inode] {
            for rank in 0..survey.len() {
                let file = survey.file(order, rank).unwrap();
                assert_eq!(survey.rank(order, file.at, file.ino), Some(rank));
            }
            assert_eq!(survey.file(order, 500), None);
        }
        let numbers: Vec<u64> = (0..500).map(|rank| survey.file(Order::Inode, rank).unwrap().ino).collect();
        assert!(numbers.is_sorted());
        assert_eq!(survey.rank(Order::Listing, 15, 3), None, "not one of them");
        assert_eq!(survey.rank(Order::Inode, 10, 2), None, "not one of them");
    }

    #[test]
    fn the_order_of_reads_is_recognised() {
        let survey = survey(5000);
        for order in [Order::Listing, Order::Inode] {
            let reads: Vec<_> = [100, 101, 110].map(|rank| read(survey.file(order, rank).unwrap())).to_vec();
            assert_eq!(survey.order_of(&reads), Some((order, 110)));
        }
        let turns: Vec<_> =
            [102, 101, 130].map(|rank| read(survey.file(Order::Listing, rank).unwrap())).to_vec();
        assert_eq!(survey.order_of(&turns), Some((Order::Listing, 130)));
        let far: Vec<_> = [100, 1100, 3100].map(|n| read(survey.file(Order::Listing, n).unwrap())).to_vec();
        assert_eq!(survey.order_of(&far), None);
        assert_eq!(survey.order_of(&[(1, 2), (3, 4)]), None, "none of them");
    }
}
