//! What the process that was started by hand tells the one that serves, and what that answers.
//!
//! Both are the same program, so the form needs no version: frames of a length and bytes. Passwords go as they are, in
//! frames of their own, so that no copy of them stays in a parser's buffer.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::confine::Limits;
use super::programs::Inherited;
use crate::config::{Config, Password, Secret, Typed};
use crate::error::{Error, Kind, Result};

/// What to serve, and where.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders {
    /// What to open; every password is known.
    pub config: Config,
    /// Where to mount: absolute, checked.
    #[serde(with = "crate::config::wire::path")]
    pub mountpoint: PathBuf,
    /// It was mounted by somebody else, who gave its device.
    pub given: bool,
    /// Stay where it was started.
    pub foreground: bool,
    /// What to read the configuration files by when they are to be read again.
    pub typed: Option<Typed>,
    /// What the serving process is confined to; `None` where it keeps what it has.
    pub limits: Option<Limits>,
    /// What programs get of the environment of whoever mounts.
    #[serde(skip)]
    pub inherited: Inherited,
}

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The tree can be walked. What is worth telling, a line each.
    Ready(Vec<String>),
    /// Nothing is mounted.
    Failed(Kind, String),
}

/// No frame is longer; a configuration of a hundred thousand sources is shorter.
const LONGEST: u32 = 256 << 20;

impl Orders {
    /// Writes them with the sources' secrets. Errors: a password of a repository that was not read yet is `Internal`.
    pub fn send(&self, to: &mut impl Write) -> Result<()> {
        self.send_head(to)?;
        send(to, &self.inherited.to_bytes())?;
        let passwords = self.config.sources.iter().map(|source| &source.password);
        let of_groups = self.config.groups.iter().filter(|group| !group.has_member_passwords);
        if passwords.chain(of_groups.map(|group| &group.password)).any(|p| p.known_bytes().is_none()) {
            return Err(Error::new(Kind::Internal, "a password was not read before the hand-over"));
        }
        for secret in self.config.secrets() {
            // No secret is empty: that stands for none.
            send(to, secret.known_bytes().unwrap_or_default())?;
        }
        Ok(())
    }

    /// Writes them without anything secret: what a broker reads before them.
    pub fn send_head(&self, to: &mut impl Write) -> Result<()> {
        send(to, &json(self)?)
    }

    /// Reads what `send_head` wrote.
    pub fn receive_head(from: &mut impl Read) -> Result<Self> {
        parse(&receive(from)?)
    }

    /// Reads what `send` wrote.
    pub fn receive(from: &mut impl Read) -> Result<Self> {
        let mut orders = Self::receive_head(from)?;
        orders.inherited = Inherited::from_bytes(&receive(from)?);
        for secret in orders.config.secrets_mut() {
            let bytes = receive(from)?;
            if !bytes.is_empty() {
                *secret = Password::known(Secret::new(bytes));
            }
        }
        Ok(orders)
    }
}

impl Answer {
    /// Writes it.
    pub fn send(&self, to: &mut impl Write) -> Result<()> {
        send(to, &json(self)?)
    }

    /// Reads what `send` wrote.
    pub fn receive(from: &mut impl Read) -> Result<Self> {
        parse(&receive(from)?)
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::caused_by(Kind::Internal, "hand-over", e))
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::caused_by(Kind::Internal, "hand-over", e))
}

fn send(to: &mut impl Write, bytes: &[u8]) -> Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or_else(|| Error::new(Kind::Usage, "the configuration is too large"))?;
    to.write_all(&length.to_le_bytes()).and_then(|()| to.write_all(bytes)).map_err(broken)
}

fn receive(from: &mut impl Read) -> Result<Zeroizing<Vec<u8>>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).map_err(broken)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(Error::new(Kind::Internal, "hand-over: not a frame"));
    }
    let mut bytes = Zeroizing::new(vec![0; length as usize]);
    from.read_exact(&mut bytes).map_err(broken)?;
    Ok(bytes)
}

fn broken(error: io::Error) -> Error {
    Error::io("hand-over", error).with_kind(Kind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::config::resolve;

    fn orders() -> Orders {
        let typed = Typed {
            repos: vec!["/srv/a".into(), OsStr::from_bytes(b"/srv/\xff").into(), "/srv/group/*".into()],
            options: vec!["owner=root,idmap=u:1:2,refresh=5s,log=/l".into()],
            ..Typed::default()
        };
        let mut config = resolve(&typed).unwrap();
        for (i, source) in config.sources.iter_mut().enumerate() {
            source.password = Password::known(Secret::new(Zeroizing::new(format!("pw \0{i}").into_bytes())));
        }
        config.groups[0].password = Password::known(Secret::new(Zeroizing::new(b"group".to_vec())));
        config.sources[1].credentials.rest.password =
            Password::known(Secret::new(Zeroizing::new(b"rest".to_vec())));
        Orders {
            config,
            mountpoint: OsStr::from_bytes(b"/mnt/\xfe").into(),
            given: false,
            foreground: true,
            typed: Some(typed),
            limits: Some(Limits { search: true, ..Limits::default() }),
            inherited: Inherited::of_process(),
        }
    }

    #[test]
    fn orders_arrive_as_they_were_sent() {
        let sent = orders();
        let mut wire = Vec::new();
        sent.send(&mut wire).unwrap();
        let received = Orders::receive(&mut wire.as_slice()).unwrap();
        assert_eq!(format!("{received:?}"), format!("{sent:?}"));
        for (i, source) in received.config.sources.iter().enumerate() {
            assert_eq!(source.password.known_bytes(), Some(format!("pw \0{i}").as_bytes()));
        }
        assert_eq!(received.config.groups[0].password.known_bytes(), Some(&b"group"[..]));
        let rest = |n: usize| received.config.sources[n].credentials.rest.password.known_bytes();
        assert_eq!((rest(0), rest(1)), (None, Some(&b"rest"[..])));
    }

    #[test]
    fn a_password_that_was_not_read_does_not_go() {
        let mut orders = orders();
        orders.config.sources[1].password = Password::default();
        assert_eq!(orders.send(&mut Vec::new()).unwrap_err().kind(), Kind::Internal);
    }

    #[test]
    fn an_end_in_the_middle_or_a_wild_length_is_an_error() {
        let mut wire = Vec::new();
        orders().send(&mut wire).unwrap();
        for cut in [0, 3, 4, 100, wire.len() - 1] {
            assert_eq!(Orders::receive(&mut &wire[..cut]).unwrap_err().kind(), Kind::Interrupted, "{cut}");
        }
        assert_eq!(Answer::receive(&mut &[0xff; 100][..]).unwrap_err().kind(), Kind::Internal);
    }

    #[test]
    fn answers_keep_the_kind_of_error() {
        let mut wire = Vec::new();
        Answer::Failed(Kind::System, "no /dev/fuse".into()).send(&mut wire).unwrap();
        let Answer::Failed(kind, message) = Answer::receive(&mut wire.as_slice()).unwrap() else { panic!() };
        assert_eq!((kind, message.as_str()), (Kind::System, "no /dev/fuse"));
    }
}
