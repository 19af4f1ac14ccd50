//! Encrypted units: 16 bytes of IV, the ciphertext, 16 bytes of MAC.
//!
//! AES-256 in counter mode under one key; Poly1305-AES, over the ciphertext alone, under two others. The MAC is
//! checked before a byte is decrypted.

use aes::cipher::array::{Array, sizes::U16};
use aes::cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper};
use aes::{Aes128, Aes256};
use ctr::{CtrCore, flavors::Ctr128BE};
use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Kind, Result};

/// By how much a unit is longer than its plaintext.
pub const OVERHEAD: usize = 32;

type Block = Array<u8, U16>;

/// The key of a repository, or the one that a password gives for a key file. Wiped when dropped, never printed.
pub struct MasterKey {
    encrypt: Aes256,
    k: Aes128,
    r: Zeroizing<[u8; 16]>,
}

impl MasterKey {
    /// Takes the encryption key and the two halves of the MAC key. `Corrupt` when one of them is all zero: restic
    /// takes that for damage.
    pub fn from_parts(encrypt: [u8; 32], k: [u8; 16], r: [u8; 16]) -> Result<Self> {
        let (mut encrypt, mut k, r) = (encrypt, k, Zeroizing::new(r));
        let zero = |part: &[u8]| part.iter().all(|&byte| byte == 0);
        let weak = zero(&encrypt) || zero(&k) || zero(r.as_slice());
        let key = MasterKey { encrypt: Aes256::new((&encrypt).into()), k: Aes128::new((&k).into()), r };
        encrypt.zeroize();
        k.zeroize();
        if weak {
            return Err(Error::new(Kind::Corrupt, "a part of the key is all zero"));
        }
        Ok(key)
    }

    /// The plaintext of `unit`. Errors: `Corrupt` when it is shorter than 32 bytes, its MAC is wrong or its IV is all
    /// zero.
    pub fn open(&self, unit: &[u8]) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        self.open_into(unit, &mut plain)?;
        Ok(plain)
    }

    /// Like [`open`](Self::open), into a buffer that the caller reuses. After an error the buffer is empty.
    pub fn open_into(&self, unit: &[u8], plain: &mut Vec<u8>) -> Result<()> {
        plain.clear();
        let (iv, ciphertext, mac) = split(unit)?;
        self.verify(iv, ciphertext, mac)?;
        if iv.iter().all(|&byte| byte == 0) {
            return Err(Error::new(Kind::Corrupt, "the initialisation vector is all zero"));
        }
        plain.try_reserve_exact(ciphertext.len()).map_err(|e| {
            Error::caused_by(Kind::System, format!("no memory for {} bytes", ciphertext.len()), e)
        })?;
        plain.extend_from_slice(ciphertext);
        self.keystream(iv).apply_keystream(plain);
        Ok(())
    }

    fn keystream(&self, iv: &Block) -> StreamCipherCoreWrapper<CtrCore<&Aes256, Ctr128BE>> {
        StreamCipherCoreWrapper::from_core(CtrCore::inner_iv_init(&self.encrypt, iv))
    }

    /// Compares in constant time.
    fn verify(&self, iv: &Block, ciphertext: &[u8], mac: &Block) -> Result<()> {
        let ours = self.mac(iv, ciphertext);
        let differing = ours.iter().zip(mac).fold(0, |bits, (a, b)| bits | (a ^ b));
        if std::hint::black_box(differing) != 0 {
            return Err(Error::new(Kind::Corrupt, "the message authentication code is wrong"));
        }
        Ok(())
    }

    fn mac(&self, iv: &Block, ciphertext: &[u8]) -> Block {
        let mut once = Zeroizing::new([0u8; 32]);
        let (r, s) = once.split_at_mut(16);
        r.copy_from_slice(self.r.as_slice());
        s.copy_from_slice(iv);
        if let Ok(s) = s.try_into() {
            self.k.encrypt_block(s);
        }
        let mut poly = Poly1305::new((&*once).into());
        // Whole blocks go through the parallel path; only the last, partial one needs the unpadded rule.
        let (blocks, tail) = ciphertext.split_at(ciphertext.len() - ciphertext.len() % 16);
        poly.update_padded(blocks);
        poly.compute_unpadded(tail)
    }
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
        self.keystream(&iv.into()).apply_keystream(&mut ciphertext);
        let mac = self.mac(&iv.into(), &ciphertext);
        [&iv[..], &ciphertext, &mac].concat()
    }
}
