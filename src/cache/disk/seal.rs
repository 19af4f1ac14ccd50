//! The cache's own key, for what its store keeps as plain text: AES-256-GCM, a nonce of its own for each entry.
//!
//! It lies beside what it seals, in a file for its owner alone: a segment that gets elsewhere tells nothing without it,
//! and who may not write to the cache cannot forge what it holds.

use std::io::{Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use crate::cache::Folder;
use crate::error::{Error, Kind, Result};
use crate::locked::Locked;

const NAME: &str = "key";
const LENGTH: usize = 32;
const NONCE: usize = 12;

/// The key, in locked memory. What the cipher makes of it is made for each entry, within a microsecond, and wiped after:
/// it would lie where it likes.
pub(super) struct Seal(Locked<[u8; LENGTH]>);

impl Seal {
    /// The key of the cache in `folder`, made if there is none.
    pub(super) fn open(folder: &Folder) -> Result<Self> {
        match Self::existing(folder) {
            Err(error) if error.kind() == Kind::NotFound => {}
            // What it sealed is lost with it, and a miss each.
            Err(error) if error.kind() == Kind::Corrupt => folder.remove(NAME)?,
            other => return other,
        }
        let mut bytes = Zeroizing::new([0; LENGTH]);
        aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| Error::new(Kind::System, "no random numbers"))?;
        let name = format!("{NAME}.{}", std::process::id());
        folder.remove(&name)?;
        let mut file = folder.create(&name)?;
        let written = file.write_all(&*bytes).map_err(|e| Error::io("the key of the cache", e));
        if let Err(error) = written.and_then(|()| folder.finish_first(&file, &name, NAME)) {
            // The first error is the one to tell.
            let _ = folder.remove(&name);
            return Err(error);
        }
        Self::existing(folder)
    }

    fn existing(folder: &Folder) -> Result<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(64));
        let read = folder.open_file(NAME)?.take(33).read_to_end(&mut bytes);
        read.map_err(|e| Error::io("the key of the cache", e))?;
        let key: &[u8; LENGTH] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| Error::new(Kind::Corrupt, "the key of the cache is damaged"))?;
        Ok(Seal(Locked::new(*key)))
    }

    fn cipher(&self) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM, self.0.as_slice()).ok()
    }

    /// `plain` sealed, for the place that `about` tells.
    pub(super) fn seal(&self, about: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self.cipher()?.seal_in_place_append_tag(Aad::from(about), &mut sealed).ok()?;
        sealed.extend(nonce.as_ref());
        Some(sealed)
    }

    /// What was sealed for the place that `about` tells; `None` for anything else.
    pub(super) fn open_sealed(&self, about: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (text, nonce) = sealed.split_last_chunk::<NONCE>()?;
        let mut text = text.to_vec();
        let (cipher, nonce) = (self.cipher()?, Nonce::assume_unique_for_key(*nonce));
        let length = cipher.open_in_place(nonce, Aad::from(about), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_in_its_place_with_the_same_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let seal = Seal::open(&folder).unwrap();
        let again = Seal::open(&folder).unwrap();
        for plain in [&b""[..], b"plain text of some length"] {
            let sealed = seal.seal(b"here", plain).unwrap();
            assert!(plain.is_empty() || !sealed.windows(5).any(|part| part == b"plain"));
            assert_eq!(again.open_sealed(b"here", &sealed).unwrap(), plain);
            assert!(again.open_sealed(b"there", &sealed).is_none());
            for at in 0..sealed.len() {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                assert!(seal.open_sealed(b"here", &damaged).is_none(), "byte {at}");
                assert!(seal.open_sealed(b"here", &sealed[..at]).is_none(), "{at} bytes");
            }
        }
        let other = tempfile::tempdir().unwrap();
        let other = Seal::open(&Folder::open(other.path()).unwrap()).unwrap();
        assert!(other.open_sealed(b"here", &seal.seal(b"here", b"x").unwrap()).is_none());
    }

    #[test]
    fn a_damaged_key_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        for length in [0, 31, 33] {
            std::fs::write(dir.path().join(NAME), vec![1; length]).unwrap();
            assert_eq!(Seal::existing(&folder).err().unwrap().kind(), Kind::Corrupt, "{length}");
            let sealed = Seal::open(&folder).unwrap().seal(b"here", b"x").unwrap();
            assert_eq!(Seal::open(&folder).unwrap().open_sealed(b"here", &sealed).unwrap(), b"x");
        }
    }
}
