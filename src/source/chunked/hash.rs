//! What nodes are identified by: hashes of everything that makes them what they are.

use super::Id;

/// Hashes parts so that no two lists of parts look alike: the first half of [`Id::of`].
pub fn hash(parts: &[&[u8]]) -> u128 {
    Id::of(parts).half()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b"", b"a"]), hash(&[b"a", b""]));
        assert_ne!(hash(&[b"a"]), hash(&[b"a", b""]));
        assert_eq!(hash(&[&[7; 5000], b"x"]), hash(&[&[7; 5000], b"x"]));
    }

    #[test]
    fn it_is_sha_256_cut_to_its_first_half() {
        // SHA-256 of eight zero bytes, the length of an empty part.
        let expected = 0xaf55_70f5_a181_0b7a_f78c_af4b_c70a_660f_u128;
        assert_eq!(hash(&[b""]).to_le_bytes(), expected.to_be_bytes());
    }
}
