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

use super::crypto::MasterKey;
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

/// Tries `password` on the key files `candidates` (id and content), those first whose id begins with `hint`, and
/// returns the first that opens.
///
/// Slow by design: scrypt takes up to seconds of processor time per key. Errors: `Password` when it opens none of
/// those that could be tried, with those that could not named in the message; `Corrupt` when there was none to try.
pub fn unlock(candidates: &[(Id, Bytes)], password: &[u8], hint: Option<&str>) -> Result<Unlocked> {
    let hinted = |id: &Id| hint.is_some_and(|hint| !hint.is_empty() && id.to_string().starts_with(hint));
    let (first, others): (Vec<_>, Vec<_>) = candidates.iter().partition(|(id, _)| hinted(id));
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
    let untried = keys.saturating_sub(refused + unusable.len());
    if untried > 0 {
        message.push_str(&format!("; {untried} more not tried (a key hint names the one to try first)"));
    }
    Error::new(kind, message)
}

/// The master key in `file`, or `None` when the password is not this key's.
fn try_key(file: &[u8], password: &[u8]) -> Result<Option<MasterKey>> {
    let file: KeyFile = serde_json::from_slice(file).map_err(malformed)?;
    let user_key = file.derive(password)?;
    let data = decode(&file.data).context(|| "data")?;
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
