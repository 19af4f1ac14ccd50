//! Who may enter what a source shows, as `access` says it.

use serde::{Deserialize, Serialize};

use super::given::{Entry, Given, Key, apply};
use super::source::MEMBER;
use super::{Access, accounts};
use crate::error::Result;

/// Owner and mode as they were said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AccessDraft {
    user: Account,
    group: Account,
    perm: Option<u16>,
}

/// Whose something is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Account {
    /// An id.
    Is(u32),
    /// A name that is another for each member.
    Named(String),
}

impl Default for Account {
    fn default() -> Self {
        Account::Is(0)
    }
}

/// What `access` may say.
pub const KEYS: &[Key<AccessDraft>] = &[
    Key { name: "group", set: |a, e| account(e, accounts::group, "no such group").map(|v| a.group = v) },
    Key { name: "mode", set: |a, e| mode(e).map(|v| a.perm = Some(v)) },
    Key { name: "user", set: |a, e| account(e, accounts::user, "no such user").map(|v| a.user = v) },
];

/// A table, or `USER:GROUP:MODE` where only text can be said.
pub fn read(entry: &Entry) -> Result<AccessDraft> {
    let mut access = AccessDraft::default();
    let Ok(text) = entry.text() else {
        apply(KEYS, &mut access, entry.table()?)?;
        return Ok(access);
    };
    let [user, group, mode]: [&str; 3] = text
        .split(':')
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| entry.wrong("must be { user, group, mode } or USER:GROUP:MODE"))?;
    for (key, said) in [("user", user), ("group", group), ("mode", mode)] {
        let value = Given::Text(said.to_owned());
        let one = Entry { key: key.to_owned(), place: entry.place.clone(), value };
        apply(KEYS, &mut access, &[one])?;
    }
    Ok(access)
}

fn account(entry: &Entry, find: fn(&str) -> Option<u32>, missing: &str) -> Result<Account> {
    let text = entry.text()?;
    if text.contains(MEMBER) {
        return Ok(Account::Named(text.to_owned()));
    }
    find(text).map(Account::Is).ok_or_else(|| entry.wrong(missing))
}

/// Only as text: whether a bare 750 was meant to be octal is anyone's guess.
fn mode(entry: &Entry) -> Result<u16> {
    let mode = u16::from_str_radix(entry.text()?, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| entry.wrong("must be permissions such as \"0750\""))
}

impl AccessDraft {
    /// What it comes to for `member`; `None` when there is no such user or group. May ask a network.
    pub fn of(&self, member: &str) -> Option<Access> {
        // Who names a member does not choose a number with it.
        let known = |find: fn(&str) -> Option<u32>| move |name: &str| Some(find(name));
        self.with(member, known(accounts::user_named), known(accounts::group_named)).flatten()
    }

    /// The same as far as it is known without asking; `None` when somebody would have to ask.
    pub fn known(&self, member: &str) -> Option<Option<Access>> {
        self.with(member, accounts::known_user, accounts::known_group)
    }

    fn with(
        &self,
        member: &str,
        user: impl Fn(&str) -> Option<Option<u32>>,
        group: impl Fn(&str) -> Option<Option<u32>>,
    ) -> Option<Option<Access>> {
        let uid = self.user.id(member, user)?;
        let gid = self.group.id(member, group)?;
        let perm = self.perm.unwrap_or(0o700);
        Some(uid.zip(gid).map(|(uid, gid)| Access { uid, gid, perm }))
    }
}

impl Account {
    fn id(&self, member: &str, find: impl Fn(&str) -> Option<Option<u32>>) -> Option<Option<u32>> {
        match self {
            Account::Is(id) => Some(Some(*id)),
            Account::Named(name) => find(&name.replace(MEMBER, member)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file;
    use super::*;

    fn said(text: &str) -> Result<AccessDraft> {
        read(&file::entries(Path::new("c.toml"), &format!("access = {text}\n"))?[0])
    }

    #[test]
    fn it_is_a_table_or_three_words() {
        let expected = Some(Access { uid: 5, gid: 0, perm: 0o750 });
        assert_eq!(said("{ user = '5', mode = '0750' }").unwrap().of("x"), expected);
        assert_eq!(said("'5:root:750'").unwrap().of("x"), expected);
        assert!(said("'5:root'").unwrap_err().to_string().contains("USER:GROUP:MODE"));
    }

    #[test]
    fn a_member_is_a_name_and_never_a_number() {
        let member = said("{ user = '{member}' }").unwrap();
        assert_eq!(member.of("root"), Some(Access { uid: 0, gid: 0, perm: 0o700 }));
        assert_eq!((member.of("nobody is called x"), member.of("0")), (None, None));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, says) in [
            ("{ mode = 750 }", "c.toml:1: mode: must be a text in quotes"),
            ("{ mode = '0999' }", "c.toml:1: mode: must be permissions"),
            ("{ user = 'no such one' }", "c.toml:1: user: no such user"),
        ] {
            let error = said(text).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
