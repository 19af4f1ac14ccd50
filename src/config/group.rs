//! Many repositories as one source: what is said once and holds for every member.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access::AccessDraft;
use super::given::Entry;
use super::location::{self, Location, Pattern, Spelled};
use super::members;
use super::source::{self, Draft};
use super::{Access, Credentials, Password, S3Access, Source, wire};
use crate::error::{Context, Error, Kind, Result};

/// Many repositories. A member's own settings are made when it is opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its directory in the root.
    pub name: String,
    /// How it is called in messages.
    pub title: String,
    /// Where members are.
    pub places: Vec<Place>,
    /// What else names members.
    pub list: Option<MemberList>,
    /// The password of all members whose own is not said.
    #[serde(skip)]
    pub password: Password,
    /// Each member has a password of its own, so that there is none to ask for now.
    pub has_member_passwords: bool,
    /// How the place lets us in, for listing and for members of which nothing else is said.
    pub credentials: Credentials,
    /// How often members are listed, where that is not said of all.
    pub refresh: Option<Duration>,
    /// How old the newest snapshot of a member may become.
    pub expect_every: Duration,
    access: Option<AccessDraft>,
    said: Vec<Entry>,
    #[serde(with = "wire::path")]
    base: PathBuf,
    typed: bool,
}

/// Where members are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// Wherever a pattern leads.
    Pattern(Pattern),
    /// One member.
    Single(Location),
}

/// What names members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberList {
    /// The lines of a file.
    File(#[serde(with = "wire::path")] PathBuf),
    /// The lines that a command prints.
    Command(String),
}

/// What is known of a member before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberAt {
    /// Where it is; nothing else is said of it.
    Location(Location),
    /// What a line says of it.
    Line(members::Line),
}

impl Group {
    /// The group that `draft`, made from all of `said`, describes. Errors: a name that cannot stand in the root.
    pub(super) fn new(
        draft: Draft,
        urls: Vec<Spelled>,
        said: &[Entry],
        base: &Path,
        typed: bool,
    ) -> Result<Self> {
        let mut password = None;
        let mut places = Vec::with_capacity(urls.len());
        for Spelled { location, password: in_url } in urls {
            places.push(Pattern::of(&location).map_or(Place::Single(location), Place::Pattern));
            password = password.or(in_url);
        }
        let name = match (&draft.name, places.first()) {
            (Some(name), _) => name.clone(),
            (None, Some(Place::Pattern(pattern))) => pattern.fixed.last(),
            (None, _) => String::new(),
        };
        if source::is_reserved(&name) {
            let says = "a group needs a name of its own (name = \"…\"), which is its directory";
            return Err(Error::new(Kind::Usage, says).context(draft.place));
        }
        let (common, credentials) = draft.secrets(&name, password, typed);
        let has_member_passwords = draft.has_member_passwords();
        // Its own name and places are not its members'.
        let of_members = |entry: &&Entry| {
            !["name", "url", "members-file", "members-command"].contains(&entry.name().as_str())
        };
        Ok(Group {
            title: name.clone(),
            name,
            places,
            password: if has_member_passwords { Password::default() } else { common },
            has_member_passwords,
            credentials,
            refresh: draft.refresh,
            expect_every: draft.expect_every.unwrap_or(source::EXPECT_EVERY),
            list: draft.members,
            access: draft.access,
            said: said.iter().filter(of_members).cloned().collect(),
            base: base.to_owned(),
            typed,
        })
    }

    /// The settings of the member called `name`. Errors, which name it: what its line says wrong.
    pub fn member(&self, name: &str, at: &MemberAt) -> Result<Source> {
        let title = format!("{}/{name}", self.title);
        let named = || title.clone();
        let own = match at {
            MemberAt::Location(_) => Vec::new(),
            MemberAt::Line(line) => line.entries().context(named)?,
        };
        let says = |word: &str| own.iter().any(|entry| entry.name().starts_with(word));
        let said: Vec<Entry> = self.said.iter().chain(&own).cloned().collect();
        let draft = source::member_draft(&self.title, &said).context(named)?;
        let url = match (at, draft.urls.first()) {
            (MemberAt::Location(location), _) => location.clone().into(),
            (MemberAt::Line(_), Some(url)) => location::parse(url, &self.base).context(named)?,
            (MemberAt::Line(_), None) => return Err(Error::new(Kind::Usage, "has no url").context(title)),
        };
        // Of all else, the group's was read once, or stood in an environment that is gone.
        let own_password = self.has_member_passwords || says("password");
        let own_key = draft.s3_secret.is_by_member() || says("s3-key-id") || says("s3-secret");
        let own_login = draft.rest_password.is_by_member() || says("rest-password") || url.password.is_some();
        let mut source = draft.source(url, Some(name), &self.base, self.typed)?;
        if !own_password {
            source.password = self.password.clone();
        }
        let Credentials { s3, rest, .. } = &mut source.credentials;
        *s3 = self.s3_of(std::mem::take(s3), own_key, says);
        if !own_login {
            rest.password = self.credentials.rest.password.clone();
        }
        rest.user = rest.user.take().or_else(|| self.credentials.rest.user.clone());
        source.title = title;
        // One share for all members.
        if let Some(share) = &mut source.cache_share {
            share.of.clone_from(&self.title);
        }
        Ok(source)
    }

    /// How a member of whom `own` is said is let in by S3: as somebody of its own where its line says who that is, else as
    /// the group. What else the line says of S3 counts either way.
    fn s3_of(&self, own: S3Access, own_key: bool, says: impl Fn(&str) -> bool) -> S3Access {
        let nobody = Password::default;
        let S3Access { region, addressing, role, .. } = own.clone();
        let who = if says("s3-anonymous") {
            own
        } else if own_key {
            S3Access { anonymous: false, ..own }
        } else if says("s3-profile") {
            S3Access { key_id: None, secret: nobody(), session: nobody(), anonymous: false, ..own }
        } else {
            self.credentials.s3.clone()
        };
        S3Access { region, addressing, role, ..who }
    }

    /// Every location that it names.
    pub fn locations(&self) -> Vec<Location> {
        let location = |place: &Place| match place {
            Place::Pattern(pattern) => pattern.fixed.clone(),
            Place::Single(location) => location.clone(),
        };
        self.places.iter().map(location).collect()
    }

    /// Whether anything was said of who may enter all members.
    pub fn has_access(&self) -> bool {
        self.access.is_some()
    }

    /// Owner and mode of the directory of `member`, found at `at`; `None` when nothing was said of it or there is no such
    /// user. May ask a network.
    pub fn access(&self, member: &str, at: &MemberAt) -> Option<Access> {
        self.said_access(at)?.of(member)
    }

    /// The same without asking anybody; `None` when somebody would have to be asked.
    pub fn known_access(&self, member: &str, at: &MemberAt) -> Option<Option<Access>> {
        self.said_access(at).map_or(Some(None), |access| access.known(member))
    }

    /// What a line says wrong lets nobody in.
    fn said_access(&self, at: &MemberAt) -> Option<Cow<'_, AccessDraft>> {
        let own = match at {
            MemberAt::Line(line) => line.access().ok()?,
            MemberAt::Location(_) => None,
        };
        own.map(Cow::Owned).or(self.access.as_ref().map(Cow::Borrowed))
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{Described, check_table, draft};
    use super::super::{Login, file};
    use super::*;

    fn group(text: &str) -> Result<Group> {
        let entries = file::entries(Path::new("c.toml"), &format!("[[source]]\n{text}\n"))?;
        let table = &entries[0].tables()?[0];
        check_table(&table[0].place, table)?;
        match draft(&table[0].place, table)?.describe(table, Path::new("/etc/backupfs"), false)? {
            Described::Group(group) => Ok(group),
            Described::Source(source) => panic!("a source: {source:?}"),
        }
    }

    fn place(path: &str) -> MemberAt {
        MemberAt::Location(Location::Local(path.into()))
    }

    fn line(text: &str) -> MemberAt {
        MemberAt::Line(members::lines("list", text.as_bytes(), true).remove(0).unwrap().1)
    }

    #[test]
    fn a_star_or_a_list_makes_a_group_called_by_its_last_fixed_name() {
        for (text, name, places) in [
            ("url = '/srv/restic/*'", "restic", 1),
            ("url = 's3:https://h.x/b/cback-*'", "b", 1),
            ("url = 's3:https://h.x/cback-*'", "h.x", 1),
            ("url = ['/srv/a/*', '/srv/b/*', '/srv/c']", "a", 2 + 1),
            ("name = 'all'\nurl = ['/srv/a', '/srv/b']", "all", 2),
            ("name = 'all'\nmembers-command = 'list-members'", "all", 0),
            ("name = 'all'\nmembers-file = '/etc/members'\nurl = '/srv/a'", "all", 1),
        ] {
            let group = group(text).unwrap();
            assert_eq!((group.name.as_str(), group.places.len()), (name, places), "{text}");
        }
        for unnamed in [
            "members-command = 'x'",
            "url = ['/srv/a', '/srv/b']",
            "url = '/srv/at/*'",
            "url = '/srv/x@+y/*'",
        ] {
            let error = group(unnamed).unwrap_err().to_string();
            assert!(error.starts_with("c.toml:2: a group needs a name"), "{unnamed}: {error}");
        }
    }

    #[test]
    fn what_is_said_of_a_group_is_said_of_its_members() {
        let group = group(
            "url = '/srv/restic/*'\nset = 'cernbox@+{member}'\nhost = 'h'\ncache-share = '1G'\npassword-file = '/keys/{member}'\n\
             access = { user = '{member}', mode = '0750' }",
        )
        .unwrap();
        assert!(group.has_member_passwords && group.password.is_unsaid());
        let member = group.member("jdoe", &place("/srv/restic/jdoe")).unwrap();
        assert_eq!((member.name.as_str(), member.title.as_str()), ("jdoe", "restic/jdoe"));
        assert_eq!(member.cache_share.as_ref().unwrap().of, "restic", "one for all of them");
        assert_eq!(member.location.to_string(), "/srv/restic/jdoe");
        assert_eq!(
            (member.set.as_deref(), member.filter.hosts.as_slice()),
            (Some("cernbox@+{member}"), &["h".to_owned()][..])
        );
        let error = member.password.read("jdoe", "t").unwrap_err().to_string();
        assert!(error.starts_with("password file /keys/jdoe"), "{error}");
        let access = |name: &str| group.access(name, &place("/srv/restic/x"));
        assert_eq!(access("root"), Some(Access { uid: 0, gid: 0, perm: 0o750 }));
        assert_eq!(access("no such user"), None);
    }

    #[test]
    fn a_line_says_who_may_enter_its_member() {
        let group =
            group("name = 'all'\nmembers-command = 'x'\naccess = { user = 'root', mode = '0755' }").unwrap();
        let perm = |text: &str| group.access("root", &line(text)).map(|access| access.perm);
        assert_eq!(perm(r#"{"url": "/a"}"#), Some(0o755));
        assert_eq!(perm(r#"{"url": "/a", "access": {"user": "{member}", "mode": "0700"}}"#), Some(0o700));
        assert_eq!(perm(r#"{"url": "/a", "access": {"user": "no such user"}}"#), None, "not the group's");
        let open = self::group("name = 'all'\nmembers-command = 'x'").unwrap();
        let own = line(r#"{"url": "/a", "access": "5:5:0750"}"#);
        assert_eq!(open.known_access("a", &own), Some(Some(Access { uid: 5, gid: 5, perm: 0o750 })));
        assert_eq!(open.known_access("a", &line("/a")), Some(None));
        let unasked = line(r#"{"url": "/a", "access": {"user": "{member}"}}"#);
        assert_eq!(open.known_access("never asked for", &unasked), None);
    }

    #[test]
    fn one_password_serves_all_members_once_it_was_read() {
        let mut group = group("url = '/srv/restic/*'\npassword-command = 'printf shared'").unwrap();
        group.password = Password::known(super::super::Secret::new(b"read before".to_vec().into()));
        let member = group.member("a", &place("/srv/restic/a")).unwrap();
        assert_eq!(member.password.known_bytes(), Some(&b"read before"[..]));
    }

    #[test]
    fn a_line_says_what_is_different() {
        let mut group =
            group("name = 'all'\nmembers-command = 'x'\npassword-command = 'printf shared'\ns3-region = 'r'")
                .unwrap();
        group.password = Password::known(super::super::Secret::new(b"shared".to_vec().into()));
        let plain = group.member("a", &line(r#"{"name": "a", "url": "s3:https://h.x/a"}"#)).unwrap();
        assert_eq!(plain.location.to_string(), "s3:https://h.x/a");
        assert_eq!(plain.password.known_bytes(), Some(&b"shared"[..]));
        let own = line(
            r#"{"name": "b", "url": "s3:https://h.x/b", "password": "hunter2", "s3-key-id": "AK", "s3-secret": "hunter3"}"#,
        );
        let own = group.member("b", &own).unwrap();
        assert_eq!(own.password.read("b", "t").unwrap().as_bytes(), b"hunter2");
        assert_eq!(own.credentials.s3.secret.read("b", "t").unwrap().as_bytes(), b"hunter3");
        assert_eq!(
            (own.credentials.s3.key_id.as_deref(), own.credentials.s3.region.as_deref()),
            (Some("AK"), Some("r"))
        );
        assert!(!format!("{own:?}").contains("hunter"));
        let error = group.member("c", &line(r#"{"name": "c", "url": "rest:h"}"#)).unwrap_err().to_string();
        assert!(error.starts_with("all/c: rest: what follows is no URL"), "{error}");
    }

    #[test]
    fn a_line_that_says_where_does_not_say_who() {
        let mut group = group("name = 'all'\nmembers-command = 'x'\ns3-region = 'r'").unwrap();
        let known = |text: &str| Password::known(super::super::Secret::new(text.as_bytes().to_vec().into()));
        // As an environment leaves them.
        let Credentials { s3, rest, .. } = &mut group.credentials;
        (s3.key_id, s3.secret, s3.session) = (Some("AK".into()), known("secret"), known("token"));
        (rest.user, rest.password) = (Some("me".into()), known("word"));
        let s3 = |more: &str| {
            let text = format!(r#"{{"name": "a", "url": "s3:https://h.x/a", {more}}}"#);
            let S3Access { key_id, secret, session, region, role, profile, anonymous, .. } =
                group.member("a", &line(&text)).unwrap().credentials.s3;
            let secrets = (secret.known_bytes().is_some(), session.known_bytes().is_some());
            (key_id, secrets, region.unwrap(), role.or(profile), anonymous)
        };
        let key = || Some("AK".to_owned());
        assert_eq!(s3(r#""s3-region": "q""#), (key(), (true, true), "q".into(), None, false));
        assert_eq!(s3(r#""s3-role": "x""#), (key(), (true, true), "r".into(), Some("x".into()), false));
        assert_eq!(s3(r#""s3-profile": "p""#), (None, (false, false), "r".into(), Some("p".into()), false));
        assert_eq!(
            s3(r#""s3-key-id": "own""#),
            (Some("own".into()), (false, false), "r".into(), None, false)
        );
        assert!(s3(r#""s3-anonymous": true"#).4);
        let rest = |url: &str, more: &str| {
            let text = format!(r#"{{"name": "a", "url": "{url}"{more}}}"#);
            let Login { user, password } = group.member("a", &line(&text)).unwrap().credentials.rest;
            (user.unwrap(), password.known_bytes().map(<[u8]>::to_vec).unwrap())
        };
        let login = |user: &str, word: &str| (user.to_owned(), word.as_bytes().to_vec());
        assert_eq!(rest("rest:https://h.x/", r#", "rest-user": "you""#), login("you", "word"));
        assert_eq!(rest("rest:https://h.x/", r#", "rest-password": "own""#), login("me", "own"));
        assert_eq!(rest("rest:https://you:own@h.x/", "").1, b"own");
    }

    #[test]
    fn a_group_goes_through_the_hand_over() {
        let group = group("url = '/srv/*'\naccess = { user = '{member}' }\nset = 'x@+{member}'").unwrap();
        let wire = serde_json::to_string(&group).unwrap();
        let back: Group = serde_json::from_str(&wire).unwrap();
        assert_eq!(format!("{back:?}"), format!("{group:?}"));
    }
}
