//! Encrypted units: 16 bytes of IV, the ciphertext, 16 bytes of MAC.
//!
//! AES-256 in counter mode under one key; Poly1305-AES, over the ciphertext alone, under two others. A unit goes through
//! all of it piece by piece, while the piece is in the processor's cache; nothing decrypted is given out before the MAC
//! over everything was found right.

use aes::Aes128;
use aes::cipher::array::{Array, sizes::U16};
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Kind, Result};
use crate::locked::Locked;

/// By how much a unit is longer than its plaintext.
pub const OVERHEAD: usize = 32;

const BLOCK: usize = 16;

/// Whole blocks that stay in the cache nearest to the processor, twice: stored and decrypted.
const PIECE: usize = 16 << 10;

type Block = Array<u8, U16>;

/// The key of a repository, or the one that a password gives for a key file. In locked memory, wiped when dropped, never
/// printed.
pub struct MasterKey(Locked<Parts>);

/// Nothing of them is elsewhere: ciphers keep what they make of a key in themselves.
struct Parts {
    encrypt: DecryptingKey,
    k: Aes128,
    r: [u8; 16],
}

impl MasterKey {
    /// Takes the encryption key and the two halves of the MAC key. `Corrupt` when one of them is all zero: restic
    /// takes that for damage.
    pub fn from_parts(encrypt: [u8; 32], k: [u8; 16], r: [u8; 16]) -> Result<Self> {
        let (mut encrypt, mut k, r) = (encrypt, k, Zeroizing::new(r));
        let zero = |part: &[u8]| part.iter().all(|&byte| byte == 0);
        let weak = zero(&encrypt) || zero(&k) || zero(r.as_slice());
        let cipher = UnboundCipherKey::new(&AES_256, &encrypt).and_then(DecryptingKey::ctr);
        let mac = Aes128::new((&k).into());
        encrypt.zeroize();
        k.zeroize();
        if weak {
            return Err(Error::new(Kind::Corrupt, "a part of the key is all zero"));
        }
        Ok(MasterKey(Locked::new(Parts { encrypt: cipher.map_err(|_| refused())?, k: mac, r: *r })))
    }

    /// The plaintext of `unit`. Errors: `Corrupt` when it is shorter than 32 bytes, its MAC is wrong or its IV is all
    /// zero.
    pub fn open(&self, unit: &[u8]) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        self.open_into(unit, &mut plain, |_| {})?;
        Ok(plain)
    }

    /// Like [`open`](Self::open), into a buffer that the caller reuses. `seen` is shown the plaintext in pieces, before
    /// it is known to be authentic: only for what is thrown away when this fails. After an error the buffer is empty.
    pub fn open_into(&self, unit: &[u8], plain: &mut Vec<u8>, seen: impl FnMut(&[u8])) -> Result<()> {
        plain.clear();
        let (iv, ciphertext, mac) = split(unit)?;
        plain.try_reserve_exact(ciphertext.len()).map_err(|e| {
            Error::caused_by(Kind::System, format!("no memory for {} bytes", ciphertext.len()), e)
        })?;
        let done = self.decrypt(iv, ciphertext, plain, seen).and_then(|ours| check(&ours, mac, iv));
        if done.is_err() {
            plain.clear();
        }
        done
    }

    /// Appends what `ciphertext` hides to `plain`; its MAC.
    fn decrypt(
        &self,
        iv: &Block,
        ciphertext: &[u8],
        plain: &mut Vec<u8>,
        mut seen: impl FnMut(&[u8]),
    ) -> Result<Block> {
        let mut mac = self.mac(iv);
        let mut counter = u128::from_be_bytes((*iv).into());
        let mut tail: &[u8] = &[];
        for piece in ciphertext.chunks(PIECE) {
            // Whole blocks go through the parallel path; only the last, partial one needs the unpadded rule.
            let (blocks, rest) = piece.split_at(piece.len() - piece.len() % BLOCK);
            mac.update_padded(blocks);
            tail = rest;
            let start = plain.len();
            plain.extend_from_slice(piece);
            let piece = plain.get_mut(start..).unwrap_or_default();
            self.apply_keystream(counter, piece)?;
            counter = counter.wrapping_add((blocks.len() / BLOCK) as u128);
            seen(piece);
        }
        Ok(mac.compute_unpadded(tail))
    }

    fn apply_keystream(&self, counter: u128, bytes: &mut [u8]) -> Result<()> {
        let context = DecryptionContext::Iv128(FixedLength::from(counter.to_be_bytes()));
        self.0.encrypt.decrypt(bytes, context).map(drop).map_err(|_| refused())
    }

    fn mac(&self, iv: &Block) -> Poly1305 {
        let mut once = Zeroizing::new([0u8; 32]);
        let (r, s) = once.split_at_mut(16);
        r.copy_from_slice(&self.0.r);
        s.copy_from_slice(iv);
        if let Ok(s) = s.try_into() {
            self.0.k.encrypt_block(s);
        }
        Poly1305::new((&*once).into())
    }
}

/// Whether a unit is authentic. Compares in constant time.
fn check(ours: &Block, theirs: &Block, iv: &Block) -> Result<()> {
    let differing = ours.iter().zip(theirs).fold(0, |bits, (a, b)| bits | (a ^ b));
    if std::hint::black_box(differing) != 0 {
        return Err(Error::new(Kind::Corrupt, "the message authentication code is wrong"));
    }
    if iv.iter().all(|&byte| byte == 0) {
        return Err(Error::new(Kind::Corrupt, "the initialisation vector is all zero"));
    }
    Ok(())
}

/// Nothing about a key of 32 bytes or a unit of any length makes the cipher refuse.
fn refused() -> Error {
    Error::new(Kind::Internal, "the cipher refused its input")
}

/// IV, ciphertext, MAC.
fn split(unit: &[u8]) -> Result<(&Block, &[u8], &Block)> {
    let parts = || {
        let (iv, rest) = unit.split_first_chunk::<16>()?;
        let (ciphertext, mac) = rest.split_last_chunk::<16>()?;
        Some((iv.into(), ciphertext, mac.into()))
    };
    parts().ok_or_else(|| {
        Error::new(Kind::Corrupt, format!("an encrypted unit of {} bytes is too short", unit.len()))
    })
}

#[cfg(test)]
impl MasterKey {
    /// The unit that [`open`](Self::open) opens.
    pub fn seal(&self, iv: [u8; 16], plain: &[u8]) -> Vec<u8> {
        let mut ciphertext = plain.to_vec();
        self.apply_keystream(u128::from_be_bytes(iv), &mut ciphertext).unwrap();
        let mac = self.mac(&iv.into()).compute_unpadded(&ciphertext);
        [&iv[..], &ciphertext, &mac].concat()
    }
}

#[cfg(test)]
mod tests {
    use aes::Aes256;
    use proptest::prelude::*;

    use super::super::seal::{PARTS, key, seal};
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn a_key_lies_in_locked_memory_with_all_that_ciphers_make_of_it() {
        let (key, other) = (key(), Box::new(0_u64));
        let flags = |at: *const u8| crate::locked::flags(at as usize);
        let has = |at: *const u8| flags(at).iter().any(|flag| flag == "dd");
        assert!(has((&raw const key.0.encrypt).cast()) && has((&raw const key.0.r).cast()));
        assert!(!has((&raw const *other).cast()), "what is no key is dumped");
        let lies_there = |needle: &[u8]| {
            // SAFETY: the parts of a key, padding included, read as bytes that may be anything.
            let all =
                unsafe { std::slice::from_raw_parts((&raw const *key.0).cast::<u8>(), size_of::<Parts>()) };
            all.windows(needle.len()).any(|part| part == needle)
        };
        // The first round of AES takes the beginning of the key as it is, whatever the order of bytes.
        let (encrypt, _, r) = PARTS;
        let word = u32::from_ne_bytes([encrypt[0], encrypt[1], encrypt[2], encrypt[3]]);
        assert!(lies_there(&r) && [word, word.swap_bytes()].iter().any(|w| lies_there(&w.to_ne_bytes())));
    }

    /// The first three test vectors of Bernstein's "The Poly1305-AES message-authentication code", appendix B.
    #[test]
    fn mac_is_bernsteins_poly1305_aes() {
        let vectors: [(&[u8], &str, &str, &str, &str); 3] = [
            (
                &hex::<2>("f3f6"),
                "851fc40c3467ac0be05cc20404f3f700",
                "ec074c835580741701425b623235add6",
                "fb447350c4e868c52ac3275cf9d4327e",
                "f4c633c3044fc145f84f335cb81953de",
            ),
            (
                b"",
                "a0f3080000f46400d0c7e9076c834403",
                "75deaa25c09f208e1dc4ce6b5cad3fbf",
                "61ee09218d29b0aaed7e154a2c5509cc",
                "dd3fab2251f11ac759f0887129cc2ee7",
            ),
            (
                &hex::<32>("663cea190ffb83d89593f3f476b6bc24d7e679107ea26adb8caf6652d0656136"),
                "48443d0bb0d21109c89a100b5ce2c208",
                "6acb5f61a7176dd320c5c1eb2edcdc74",
                "ae212a55399729595dea458bc621ff0e",
                "0ee1c16bb73f0f4fd19881753c01cdbe",
            ),
        ];
        for (message, r, k, nonce, mac) in vectors {
            let key = MasterKey::from_parts([1; 32], hex(k), hex(r)).unwrap();
            let ours = key.mac(&hex(nonce).into()).compute_unpadded(message);
            assert_eq!(ours.as_slice(), hex::<16>(mac), "{} bytes", message.len());
        }
    }

    /// NIST SP 800-38A, F.5.5.
    #[test]
    fn ciphertext_is_aes_256_in_counter_mode() {
        let encrypt = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let key = MasterKey::from_parts(encrypt, [1; 16], [1; 16]).unwrap();
        let plain = hex::<32>("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        let unit = key.seal(hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"), &plain);
        let expected = hex::<32>("601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5");
        assert_eq!(unit[16..48], expected);
        assert_eq!(key.open(&unit).unwrap(), plain);
    }

    #[test]
    fn counter_carries_through_all_sixteen_bytes() {
        let (encrypt, ..) = PARTS;
        let block_cipher = Aes256::new(&encrypt.into());
        let unit = key().seal([0xff; 16], &[0; 48]);
        for (counter, block) in [u128::MAX, 0, 1].into_iter().zip(unit[16..].chunks(16)) {
            let mut expected = Block::from(counter.to_be_bytes());
            block_cipher.encrypt_block(&mut expected);
            assert_eq!(block, expected.as_slice(), "counter {counter:#x}");
        }
    }

    #[test]
    fn a_unit_cut_anywhere_does_not_open() {
        let unit = seal(b"0123456789abcdef!");
        for length in 0..unit.len() {
            assert_eq!(key().open(&unit[..length]).unwrap_err().kind(), Kind::Corrupt, "{length} bytes");
        }
        assert_eq!(key().open(&seal(b"")).unwrap(), b"");
    }

    #[test]
    fn zero_vectors_and_zero_keys_are_refused() {
        let unit = key().seal([0; 16], b"plain");
        assert_eq!(key().open(&unit).unwrap_err().to_string(), "the initialisation vector is all zero");
        let (encrypt, k, r) = PARTS;
        for (encrypt, k, r) in [([0; 32], k, r), (encrypt, [0; 16], r), (encrypt, k, [0; 16])] {
            assert_eq!(MasterKey::from_parts(encrypt, k, r).err().unwrap().kind(), Kind::Corrupt);
        }
    }

    #[test]
    fn the_buffer_is_empty_after_a_failure() {
        let mut buffer = b"of before".to_vec();
        key().open_into(&seal(b"x")[1..], &mut buffer, |_| {}).unwrap_err();
        assert_eq!(buffer, b"");
    }

    proptest! {
        #[test]
        fn opens_what_was_sealed(plain in proptest::collection::vec(any::<u8>(), 0..300), iv in 1u128..) {
            let unit = key().seal(iv.to_be_bytes(), &plain);
            prop_assert_eq!(unit.len(), plain.len() + OVERHEAD);
            prop_assert_eq!(key().open(&unit).unwrap(), plain);
        }

        #[test]
        fn one_wrong_bit_anywhere_is_noticed(plain in proptest::collection::vec(any::<u8>(), 0..100), bit: usize) {
            let mut unit = seal(&plain);
            let bit = bit % (unit.len() * 8);
            unit[bit / 8] ^= 1 << (bit % 8);
            let error = key().open(&unit).unwrap_err();
            prop_assert_eq!(error.to_string(), "the message authentication code is wrong");
        }

        #[test]
        fn any_length_of_pieces_comes_back_and_is_shown_once(extra in 0usize..40, pieces in 0usize..4, iv in 1u128..) {
            let length = (pieces * PIECE + extra).saturating_sub(20);
            let plain: Vec<u8> = (0..=250).cycle().zip([3, 7].into_iter().cycle()).map(|(a, b): (u8, u8)| a ^ b).take(length).collect();
            let (mut opened, mut shown) = (Vec::new(), Vec::new());
            let unit = key().seal(iv.to_be_bytes(), &plain);
            key().open_into(&unit, &mut opened, |piece| shown.extend_from_slice(piece)).unwrap();
            prop_assert!(opened == plain && shown == plain, "{} bytes", length);
        }
    }

    #[test]
    fn a_wrong_bit_in_any_piece_is_noticed() {
        let unit = seal(&vec![7; 3 * PIECE + 5]);
        for at in [0, 16, 16 + PIECE, 16 + 2 * PIECE + 99, 16 + 3 * PIECE + 4, unit.len() - 1] {
            let mut wrong = unit.clone();
            wrong[at] ^= 1;
            let mut buffer = Vec::new();
            let error = key().open_into(&wrong, &mut buffer, |_| {}).unwrap_err();
            assert_eq!((error.kind(), buffer.len()), (Kind::Corrupt, 0), "byte {at}");
        }
    }
}
