//! Encrypted units and key files.

use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use poly1305::Poly1305;
use serde_json::{Value, json};

/// The keys of a repository, or those that a password gives.
pub struct Key {
    encrypt: [u8; 32],
    k: [u8; 16],
    r: [u8; 16],
}

/// Parameters of a key file.
#[derive(Clone, Copy)]
pub struct Scrypt {
    pub n: u64,
    pub r: u64,
    pub p: u64,
}

impl Scrypt {
    /// As quick as it gets.
    pub const QUICK: Scrypt = Scrypt { n: 16, r: 1, p: 1 };
}

impl Key {
    /// A key that everybody knows.
    pub fn known() -> Self {
        Key { encrypt: [7; 32], k: [8; 16], r: [9; 16] }
    }

    /// `plain` as an encrypted unit.
    pub fn seal(&self, iv: [u8; 16], plain: &[u8]) -> Vec<u8> {
        let mut ciphertext = plain.to_vec();
        ctr::Ctr128BE::<aes::Aes256>::new(&self.encrypt.into(), &iv.into()).apply_keystream(&mut ciphertext);
        let mut pad = iv.into();
        aes::Aes128::new(&self.k.into()).encrypt_block(&mut pad);
        let mut once = [0; 32];
        once[..16].copy_from_slice(&self.r);
        once[16..].copy_from_slice(&pad);
        let mac = Poly1305::new(&once.into()).compute_unpadded(&ciphertext);
        [&iv[..], &ciphertext, &mac].concat()
    }

    /// The key file that gives this key to whoever knows `password`.
    pub fn file(&self, password: &str, by: Scrypt) -> Value {
        let salt = [5; 64];
        let mut derived = [0; 64];
        let log_n = u8::try_from(by.n.ilog2()).unwrap();
        let parameters =
            scrypt::Params::new(log_n, by.r.try_into().unwrap(), by.p.try_into().unwrap()).unwrap();
        scrypt::scrypt(password.as_bytes(), &salt, &parameters, &mut derived).unwrap();
        let outer = Key {
            encrypt: derived[..32].try_into().unwrap(),
            k: derived[32..48].try_into().unwrap(),
            r: derived[48..].try_into().unwrap(),
        };
        let mac = json!({"k": STANDARD.encode(self.k), "r": STANDARD.encode(self.r)});
        let master = json!({"mac": mac, "encrypt": STANDARD.encode(self.encrypt)});
        let data = outer.seal([1; 16], master.to_string().as_bytes());
        json!({
            "created": "2026-01-01T00:00:00Z", "username": "u", "hostname": "h", "kdf": "scrypt",
            "N": by.n, "r": by.r, "p": by.p, "salt": STANDARD.encode(salt), "data": STANDARD.encode(data),
        })
    }
}
