//! Key files, and opening one of them with a password.
//!
//! A key file holds scrypt's parameters and the master key as an encrypted unit under what scrypt makes of the
//! password; so a wrong password shows as a wrong MAC. The parameters come unauthenticated from the repository and are
//! bounded before any memory is taken.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::crypto::{MasterKey, OVERHEAD};
use crate::error::{Context, Error, Kind, Result};
use crate::source::chunked::Id;

/// Keys that are tried beside those that the hint names; as many as restic tries.
const MAX_TRIED: usize = 20;

/// N·r of one lane: its memory is 128 times that, a gibibyte. restic stays below 60 MiB, rustic takes 128.
const MAX_LANE: u64 = 1 << 23;

/// N·r·p: all lanes together, some seconds of one core. Both writers stay below 2^21.
const MAX_WORK: u64 = 1 << 24;

/// A key that opened.
pub struct Unlocked {
    /// The master key.
    pub key: MasterKey,
    /// The key file it came from.
    pub id: Id,
}

/// Of all key files of a repository those that [`unlock`] might try: the ones whose id begins with `hint` first, and one
/// more than it tries, so that it can tell that there are others.
pub fn worth_reading(mut ids: Vec<Id>, hint: Option<&str>) -> Vec<Id> {
    ids.sort_by_key(|id| !is_hinted(id, hint));
    let hinted = ids.iter().filter(|id| is_hinted(id, hint)).count();
    ids.truncate(hinted.min(MAX_TRIED) + MAX_TRIED + 1);
    ids
}

fn is_hinted(id: &Id, hint: Option<&str>) -> bool {
    hint.is_some_and(|hint| !hint.is_empty() && id.to_string().starts_with(hint))
}

/// Tries `password` on the key files `candidates` (id and content), those first whose id begins with `hint`, and
/// returns the first that opens.
///
/// Slow by design: scrypt takes up to seconds of processor time per key. Errors: `Password` when it opens none of
/// those that could be tried, with those that could not named in the message; `Corrupt` when there was none to try.
pub fn unlock(candidates: &[(Id, Bytes)], password: &[u8], hint: Option<&str>) -> Result<Unlocked> {
    let (first, others): (Vec<_>, Vec<_>) = candidates.iter().partition(|(id, _)| is_hinted(id, hint));
    if let (Some(hint), true) = (hint, first.is_empty()) {
        tracing::warn!(hint, "no key begins with the key hint");
    }
    let (mut refused, mut unusable) = (0, Vec::new());
    let limit = first.len() + MAX_TRIED;
    for (id, file) in first.into_iter().chain(others).take(limit) {
        match try_key(file, password) {
            Ok(Some(key)) => return Ok(Unlocked { key, id: *id }),
            Ok(None) => refused += 1,
            Err(error) => {
                tracing::warn!(key = %id, %error, "key file skipped");
                unusable.push(format!("key {}: {error}", id.short()));
            }
        }
    }
    Err(none_opened(candidates.len(), refused, &unusable))
}

fn none_opened(keys: usize, refused: usize, unusable: &[String]) -> Error {
    let kind = if refused == 0 { Kind::Corrupt } else { Kind::Password };
    let mut message = match (keys, refused) {
        (0, _) => "the repository has no key file".to_owned(),
        (_, 0) => "no key file can be used".to_owned(),
        (_, 1) => "wrong password: it does not open the key".to_owned(),
        (_, refused) => format!("wrong password: it opens none of {refused} keys"),
    };
    for reason in unusable {
        message.push_str("; ");
        message.push_str(reason);
    }
    if keys > refused + unusable.len() {
        message.push_str("; others were not tried (a key hint names the one to try first)");
    }
    Error::new(kind, message)
}

/// The master key in `file`, or `None` when the password is not this key's.
fn try_key(file: &[u8], password: &[u8]) -> Result<Option<MasterKey>> {
    let file: KeyFile = serde_json::from_slice(file).map_err(malformed)?;
    let user_key = file.derive(password)?;
    let data = decode(&file.data).context(|| "data")?;
    if data.len() < OVERHEAD {
        return Err(Error::new(Kind::Corrupt, format!("data of {} bytes", data.len())));
    }
    match user_key.open(&data) {
        Ok(plain) => master_key(&Zeroizing::new(plain)).map(Some),
        Err(_) => Ok(None),
    }
}

#[derive(Deserialize)]
struct KeyFile {
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

impl KeyFile {
    fn derive(&self, password: &[u8]) -> Result<MasterKey> {
        if self.kdf != "scrypt" {
            return Err(Error::new(Kind::Unsupported, format!("key derivation {:?}", self.kdf)));
        }
        let parameters = self.parameters()?;
        let salt = decode(&self.salt).context(|| "salt")?;
        let mut derived = Zeroizing::new([0; 64]);
        scrypt::scrypt(password, &salt, &parameters, derived.as_mut_slice())
            .map_err(|e| Error::caused_by(Kind::Internal, "scrypt", e))?;
        let (encrypt, mac) = derived.split_at(32);
        let (k, r) = mac.split_at(16);
        MasterKey::from_parts(part(encrypt)?, part(k)?, part(r)?)
    }

    fn parameters(&self) -> Result<scrypt::Params> {
        let KeyFile { n, r, p, .. } = *self;
        let bounded = || {
            let lane = n.checked_mul(r.into()).filter(|&lane| lane <= MAX_LANE)?;
            let _work = lane.checked_mul(p.into()).filter(|&work| work <= MAX_WORK)?;
            let log_n = n.is_power_of_two().then(|| n.trailing_zeros()).filter(|&log| log > 0)?;
            scrypt::Params::new(u8::try_from(log_n).ok()?, r, p).ok()
        };
        bounded().ok_or_else(|| {
            Error::new(Kind::Unsupported, format!("scrypt parameters out of bounds: N={n} r={r} p={p}"))
        })
    }
}

#[derive(Deserialize)]
struct Plain<'a> {
    #[serde(borrow)]
    mac: PlainMac<'a>,
    #[serde(borrow)]
    encrypt: Cow<'a, str>,
}

#[derive(Deserialize)]
struct PlainMac<'a> {
    #[serde(borrow)]
    k: Cow<'a, str>,
    #[serde(borrow)]
    r: Cow<'a, str>,
}

fn master_key(json: &[u8]) -> Result<MasterKey> {
    let plain: Plain = serde_json::from_slice(json).map_err(malformed)?;
    let decode = |text: &str| decode(text).map(Zeroizing::new);
    let (encrypt, k, r) = (decode(&plain.encrypt)?, decode(&plain.mac.k)?, decode(&plain.mac.r)?);
    MasterKey::from_parts(part(&encrypt)?, part(&k)?, part(&r)?)
}

fn part<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| {
        Error::new(Kind::Corrupt, format!("a part of the key has {} bytes, not {N}", bytes.len()))
    })
}

fn decode(base64: &str) -> Result<Vec<u8>> {
    STANDARD.decode(base64).map_err(|e| Error::caused_by(Kind::Corrupt, "malformed base64", e))
}

fn malformed(error: serde_json::Error) -> Error {
    // The position only: serde's message quotes the input, which may be the master key.
    Error::new(Kind::Corrupt, format!("malformed key (line {} column {})", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use super::super::seal::{key, key_file, key_file_of, master_key_json, seal, user_key};
    use super::*;

    const CHEAP: (u64, u32, u32) = (2, 1, 1);

    fn opens(unlocked: &Unlocked) -> bool {
        unlocked.key.open(&seal(b"hello")).unwrap() == b"hello"
    }

    fn failure(candidates: &[(Id, Bytes)]) -> Error {
        unlock(candidates, b"geheim", None).err().unwrap()
    }

    fn unusable() -> Vec<(&'static str, (Id, Bytes))> {
        let text =
            |json: &str| (super::super::seal::id(json.as_bytes()), Bytes::copy_from_slice(json.as_bytes()));
        vec![
            ("empty", text("")),
            ("junk", text("{]")),
            ("other derivation", text(r#"{"kdf":"argon2","N":2,"r":1,"p":1,"salt":"","data":""}"#)),
            ("bad salt", text(r#"{"kdf":"scrypt","N":2,"r":1,"p":1,"salt":"!","data":""}"#)),
            ("bad data", text(r#"{"kdf":"scrypt","N":2,"r":1,"p":1,"salt":"","data":"!"}"#)),
            ("short data", key_file_of(CHEAP, b"salt", &[0; 31])),
            ("N of 1", key_file_of((1, 8, 1), b"salt", &[0; 64])),
            ("N of no power of two", key_file_of((3, 8, 1), b"salt", &[0; 64])),
            ("N of 2^63", key_file_of((1 << 63, 8, 1), b"salt", &[0; 64])),
            ("lane of 2 GiB", key_file_of((1 << 21, 8, 1), b"salt", &[0; 64])),
            ("r of 0", key_file_of((2, 0, 1), b"salt", &[0; 64])),
            ("p of 0", key_file_of((2, 1, 0), b"salt", &[0; 64])),
            ("p of 2^32 - 1", key_file_of((2, 1, u32::MAX), b"salt", &[0; 64])),
            ("r and p that overflow", key_file_of((2, u32::MAX, u32::MAX), b"salt", &[0; 64])),
            ("negative N", text(r#"{"kdf":"scrypt","N":-2,"r":1,"p":1,"salt":"","data":""}"#)),
            ("plaintext of something else", key_file(b"geheim", CHEAP, r#"{"encrypt":"secret"}"#)),
            (
                "short master key",
                key_file(b"geheim", CHEAP, r#"{"mac":{"k":"AA==","r":"AA=="},"encrypt":"AA=="}"#),
            ),
            ("zero master key", {
                let zero = STANDARD.encode([0; 16]);
                let json = format!(
                    r#"{{"mac":{{"k":"{zero}","r":"{zero}"}},"encrypt":"{}"}}"#,
                    STANDARD.encode([0; 32])
                );
                key_file(b"geheim", CHEAP, &json)
            }),
        ]
    }

    #[test]
    fn opens_with_parameters_of_every_writer() {
        // restic 0.9 and later, with lanes; rustic; restic of old, with r = 1.
        for parameters in [(512, 8, 6), (1024, 8, 1), (2048, 1, 5), CHEAP] {
            let candidates = [key_file(b"geheim", parameters, &master_key_json())];
            let unlocked = unlock(&candidates, b"geheim", None).unwrap();
            assert!(opens(&unlocked), "{parameters:?}");
            assert_eq!(unlocked.id, candidates[0].0);
        }
    }

    /// RFC 7914 wrongly forbids N ≥ 2^16 with r = 1. The derived key comes from an implementation in Python written
    /// for this test from the RFC.
    #[test]
    fn opens_a_key_of_large_n_and_r_of_1() {
        let derived = "7e62805fb976f4381cf5c0dca7e9f8dec0951967acc202765efc30bbfb6b6902\
                       12153a310b941f6a4a566d88bcc45305c3b4f981acbe693e702fb1ff1d831230";
        let bytes: Vec<u8> =
            (0..64).map(|at| u8::from_str_radix(&derived[at * 2..at * 2 + 2], 16).unwrap()).collect();
        let data = user_key(&bytes.try_into().unwrap()).seal([1; 16], master_key_json().as_bytes());
        let candidates = [key_file_of((131_072, 1, 1), b"0123456789abcdef", &data)];
        assert!(opens(&unlock(&candidates, b"geheim", None).unwrap()));
    }

    #[test]
    fn a_wrong_password_is_told_from_damage() {
        let other = key_file(b"other", CHEAP, &master_key_json());
        let error = failure(std::slice::from_ref(&other));
        assert_eq!(error.kind(), Kind::Password);
        assert_eq!(error.to_string(), "wrong password: it does not open the key");
        let error = failure(&[other.clone(), other]);
        assert_eq!(error.to_string(), "wrong password: it opens none of 2 keys");
        assert_eq!(failure(&[]).to_string(), "the repository has no key file");
        assert_eq!(failure(&[]).kind(), Kind::Corrupt);
    }

    #[test]
    fn an_unusable_key_is_named_and_does_not_stand_in_the_way() {
        let good = key_file(b"geheim", CHEAP, &master_key_json());
        let wrong = key_file(b"other", CHEAP, &master_key_json());
        for (what, bad) in unusable() {
            let alone = failure(std::slice::from_ref(&bad));
            assert_eq!(alone.kind(), Kind::Corrupt, "{what}: {alone}");
            assert!(alone.to_string().contains(&format!("key {}", bad.0.short())), "{what}: {alone}");
            let beside_wrong = failure(&[bad.clone(), wrong.clone()]);
            assert_eq!(beside_wrong.kind(), Kind::Password, "{what}");
            assert!(beside_wrong.to_string().contains(&bad.0.short()), "{what}: {beside_wrong}");
            assert!(opens(&unlock(&[bad, good.clone()], b"geheim", None).unwrap()), "{what}");
        }
    }

    #[test]
    fn messages_hold_nothing_of_the_master_key() {
        let json = master_key_json().replace("\"mac\"", "\"mic\"");
        let secret = STANDARD.encode([7; 32]);
        assert!(json.contains(&secret));
        let error = failure(&[key_file(b"geheim", CHEAP, &json)]).to_string();
        assert!(!error.contains(&secret[..8]), "{error}");
        let json = format!(r#"{{"mac":"{secret}","encrypt":"{secret}"}}"#);
        let error = failure(&[key_file(b"geheim", CHEAP, &json)]).to_string();
        assert!(!error.contains(&secret[..8]), "{error}");
    }

    #[test]
    fn of_very_many_keys_few_are_read_and_the_hinted_ones_first() {
        let ids: Vec<Id> = (0..200).map(|n| Id([n; 32])).collect();
        assert_eq!(worth_reading(ids.clone(), None).len(), MAX_TRIED + 1);
        let hinted = worth_reading(ids.clone(), Some("c7"));
        assert_eq!((hinted[0], hinted.len()), (Id([0xc7; 32]), MAX_TRIED + 2));
        assert!(worth_reading(ids, Some("0")).len() <= 2 * MAX_TRIED + 1);
        assert_eq!(worth_reading(vec![Id([1; 32])], Some("ff")), [Id([1; 32])]);
    }

    #[test]
    fn the_hinted_key_comes_first_and_twenty_others_after_it() {
        let wrong = |n: u8| key_file(&[n], CHEAP, &master_key_json());
        let good = key_file(b"geheim", CHEAP, &master_key_json());
        let mut candidates: Vec<_> = (0..20).map(wrong).chain([good.clone()]).collect();
        let error = failure(&candidates);
        assert_eq!(error.kind(), Kind::Password);
        assert!(error.to_string().contains("none of 20 keys; others were not tried"), "{error}");
        for hint in [good.0.to_string(), good.0.short()] {
            assert_eq!(unlock(&candidates, b"geheim", Some(&hint)).unwrap().id, good.0);
        }
        candidates.remove(0);
        for hint in [None, Some(""), Some("ffffffff"), Some(&*candidates[3].0.short())] {
            assert_eq!(unlock(&candidates, b"geheim", hint).unwrap().id, good.0, "{hint:?}");
        }
    }

    #[test]
    fn the_key_is_the_one_that_was_stored() {
        let unlocked = unlock(&[key_file(b"geheim", CHEAP, &master_key_json())], b"geheim", None).unwrap();
        assert_eq!(key().open(&unlocked.key.seal([1; 16], b"both ways")).unwrap(), b"both ways");
    }
}
