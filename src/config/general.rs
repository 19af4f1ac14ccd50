//! The table of options: what `-o` and the top of the configuration file may say.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use super::given::{Entry, Given, Key, apply, find};
use super::{Level, Log, Mount, Names, Owner, TimeStyle, Xattrs, accounts, source, values};
use crate::error::Result;

/// Everything but the command line's own choice of repositories.
pub struct General {
    /// What each `[[source]]` says, and where it is said.
    pub sources: Vec<(String, Vec<Entry>)>,
    pub names: Names,
    pub refresh: Duration,
    pub memory: u64,
    /// What was said of the cache directory.
    pub cache_dir: Option<CacheDir>,
    pub cache_size: u64,
    pub offline_max: Option<Duration>,
    pub mount: Mount,
}

impl Default for General {
    fn default() -> Self {
        General {
            sources: Vec::new(),
            names: Names { time: TimeStyle::Recorded, format: "%Y%m%d_%H%M%S".into(), rename: Vec::new() },
            refresh: Duration::from_secs(60),
            memory: 128 << 20,
            cache_dir: None,
            cache_size: 10 << 30,
            offline_max: None,
            mount: Mount {
                mountpoint: None,
                allow_other: false,
                noexec: false,
                xattrs: Xattrs::All,
                owner: Owner::Recorded,
                uids: Vec::new(),
                gids: Vec::new(),
                uid: None,
                gid: None,
                timeout: Duration::from_secs(60),
                mount_timeout: Duration::from_secs(60),
                log: Log::default(),
                access_log: None,
                metrics_socket: None,
            },
        }
    }
}

/// Less memory than this could not hold the largest blob and what surrounds it.
const LEAST_MEMORY: u64 = 16 << 20;

/// The table; docs/options.md explains each.
pub const KEYS: &[Key<General>] = &[
    Key { name: "access-log", set: |g, e| e.absolute_path().map(|v| g.mount.access_log = Some(v)) },
    Key { name: "allow_other", set: |g, e| e.flag().map(|v| g.mount.allow_other = v) },
    Key { name: "cache-dir", set: |g, e| cache_dir(e).map(|v| g.cache_dir = Some(v)) },
    Key { name: "cache-size", set: |g, e| e.size().map(|v| g.cache_size = v) },
    Key { name: "config", set: config },
    Key { name: "gid", set: |g, e| id(e, accounts::group).map(|v| g.mount.gid = Some(v)) },
    Key { name: "idmap", set: idmap },
    Key { name: "log", set: |g, e| e.absolute_path().map(|v| g.mount.log.file = Some(v)) },
    Key { name: "log-level", set: |g, e| e.choice(LEVELS).map(|v| g.mount.log.level = v) },
    Key { name: "memory", set: memory },
    Key { name: "metrics-socket", set: |g, e| e.absolute_path().map(|v| g.mount.metrics_socket = Some(v)) },
    Key { name: "mount-timeout", set: |g, e| e.duration().map(|v| g.mount.mount_timeout = v) },
    Key { name: "mountpoint", set: |g, e| e.absolute_path().map(|v| g.mount.mountpoint = Some(v)) },
    Key { name: "noexec", set: |g, e| e.flag().map(|v| g.mount.noexec = v) },
    Key {
        name: "noxattr",
        set: |g, e| e.flag().map(|v| g.mount.xattrs = if v { Xattrs::None } else { Xattrs::All }),
    },
    Key { name: "offline-max", set: |g, e| offline_max(e).map(|v| g.offline_max = v) },
    Key { name: "owner", set: |g, e| e.choice(OWNERS).map(|v| g.mount.owner = v) },
    Key { name: "refresh", set: |g, e| e.duration().map(|v| g.refresh = v) },
    Key { name: "rename", set: renames },
    Key { name: "source", set: sources },
    Key { name: "time", set: |g, e| e.choice(TIMES).map(|v| g.names.time = v) },
    Key { name: "time-format", set: time_format },
    Key { name: "timeout", set: |g, e| e.duration().map(|v| g.mount.timeout = v) },
    Key { name: "uid", set: |g, e| id(e, accounts::user).map(|v| g.mount.uid = Some(v)) },
    Key { name: "xattrs", set: |g, e| e.choice(XATTRS).map(|v| g.mount.xattrs = v) },
];

const LEVELS: &[(&str, Level)] = &[
    ("error", Level::Error),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("debug", Level::Debug),
    ("trace", Level::Trace),
];
const OWNERS: &[(&str, Owner)] =
    &[("recorded", Owner::Recorded), ("mounter", Owner::Mounter), ("root", Owner::Root)];
const TIMES: &[(&str, TimeStyle)] =
    &[("recorded", TimeStyle::Recorded), ("utc", TimeStyle::Utc), ("local", TimeStyle::Local)];
const XATTRS: &[(&str, Xattrs)] = &[("all", Xattrs::All), ("user", Xattrs::User), ("none", Xattrs::None)];

impl General {
    /// Takes what is said of the whole, and answers what is said of every source. Errors: as [`apply`].
    pub fn take(&mut self, entries: Vec<Entry>) -> Result<Vec<Entry>> {
        let mut of_sources = Vec::new();
        for entry in entries {
            match find(KEYS, &entry) {
                Some(key) => (key.set)(self, &entry)?,
                None if source::is_shared(&entry) => of_sources.push(entry),
                None => return Err(entry.unknown(names())),
            }
        }
        Ok(of_sources)
    }
}

/// What `-o` and the top of a file may say.
pub fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name).chain(source::shared_names())
}

/// What a cache directory may be called when there is to be none.
const NO_CACHE: &str = "none";

/// Where indexes are kept for later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheDir {
    /// Nowhere.
    Nowhere,
    /// Here.
    At(PathBuf),
}

impl CacheDir {
    /// What a variable of the environment says.
    pub fn of_environment(value: &OsStr) -> Self {
        if value == NO_CACHE { CacheDir::Nowhere } else { CacheDir::At(value.into()) }
    }
}

fn cache_dir(entry: &Entry) -> Result<CacheDir> {
    if entry.text()? == NO_CACHE { Ok(CacheDir::Nowhere) } else { entry.absolute_path().map(CacheDir::At) }
}

/// Which file this is has been looked at before any file was read.
fn config(_: &mut General, entry: &Entry) -> Result<()> {
    if entry.place == "-o" { Ok(()) } else { Err(entry.wrong("means nothing in a configuration file")) }
}

/// An id, by name or number.
fn id(entry: &Entry, of: fn(&str) -> Option<u32>) -> Result<u32> {
    match &entry.value {
        Given::Number(number) => u32::try_from(*number).ok(),
        _ => of(entry.text()?),
    }
    .ok_or_else(|| entry.wrong("nobody is called so"))
}

/// A length of time, or `off` for any.
fn offline_max(entry: &Entry) -> Result<Option<Duration>> {
    if entry.text().is_ok_and(|text| text == "off") { Ok(None) } else { entry.duration().map(Some) }
}

fn memory(general: &mut General, entry: &Entry) -> Result<()> {
    general.memory = entry.size()?;
    if general.memory < LEAST_MEMORY { Err(entry.wrong("must be 16M or more")) } else { Ok(()) }
}

fn idmap(general: &mut General, entry: &Entry) -> Result<()> {
    general.mount.uids.clear();
    general.mount.gids.clear();
    for text in entry.list()?.iter().flat_map(|text| text.split([' ', '+'])).filter(|text| !text.is_empty()) {
        let (users, groups, range) = values::id_range(text).ok_or_else(|| {
            entry.wrong(format_args!(
                "\"{text}\" must be u:RECORDED:SHOWN[:COUNT], or g: for groups, or b: for both"
            ))
        })?;
        general.mount.uids.extend(users.then_some(range));
        general.mount.gids.extend(groups.then_some(range));
    }
    Ok(())
}

fn time_format(general: &mut General, entry: &Entry) -> Result<()> {
    let format = entry.text()?;
    let example = jiff::fmt::strtime::format(format, &jiff::Zoned::default())
        .map_err(|why| entry.wrong(format_args!("\"{format}\": {why}")))?;
    if example.contains('/') || example.contains("@+") || example.starts_with('.') || example.len() > 200 {
        return Err(
            entry.wrong(format_args!("\"{format}\" makes \"{example}\", which is no name for a directory"))
        );
    }
    general.names.format = format.to_owned();
    Ok(())
}

fn sources(general: &mut General, entry: &Entry) -> Result<()> {
    for table in entry.tables()? {
        let place = table.first().map_or(&entry.place, |first| &first.place).clone();
        general.sources.push((place, table.clone()));
    }
    Ok(())
}

/// A rule as it is being read.
#[derive(Default)]
pub struct Rule {
    from: Option<String>,
    to: Option<String>,
}

/// What `[[rename]]` may say.
pub const RULE_KEYS: &[Key<Rule>] = &[
    Key { name: "from", set: |rule, e| pattern(e).map(|from| rule.from = Some(from)) },
    Key { name: "to", set: |rule, e| e.text().map(|v| rule.to = Some(v.to_owned())) },
];

/// A rule as sed has it: `s/FROM/TO/`, with any other sign for the slashes.
fn substitution(entry: &Entry, text: &str) -> Result<(String, String)> {
    let wrong = || entry.wrong(format_args!("\"{text}\" must be s/FROM/TO/, or [[rename]] in a file"));
    let rest = text.strip_prefix('s').ok_or_else(wrong)?;
    let sign =
        rest.chars().next().filter(|sign| sign.is_ascii_punctuation() && *sign != '\\').ok_or_else(wrong)?;
    let parts: Vec<&str> = rest.split(sign).collect();
    let ["", from, to, ""] = parts.as_slice() else { return Err(wrong()) };
    if from.is_empty() || to.is_empty() {
        return Err(wrong());
    }
    let from = Entry { value: Given::Text((*from).to_owned()), ..entry.clone() };
    Ok((pattern(&from)?, (*to).to_owned()))
}

fn pattern(entry: &Entry) -> Result<String> {
    let pattern = entry.text()?;
    match regex::bytes::Regex::new(pattern) {
        Ok(_) => Ok(pattern.to_owned()),
        Err(why) => {
            let why = why.to_string();
            Err(entry.wrong(why.lines().last().unwrap_or("is no regular expression").trim()))
        }
    }
}

fn renames(general: &mut General, entry: &Entry) -> Result<()> {
    if let Given::Text(_) | Given::List(_) = entry.value {
        for text in entry.list()? {
            general.names.rename.push(substitution(entry, &text)?);
        }
        return Ok(());
    }
    for table in entry.tables()? {
        let mut rule = Rule::default();
        apply(RULE_KEYS, &mut rule, table)?;
        let (Some(from), Some(to)) = (rule.from, rule.to) else {
            return Err(entry.wrong("needs both from and to"));
        };
        general.names.rename.push((from, to));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{IdRange, file, options};
    use super::*;

    fn typed(text: &str) -> Result<General> {
        let mut general = General::default();
        general.take(options::entries(text)?)?;
        Ok(general)
    }

    fn written(text: &str) -> Result<General> {
        let mut general = General::default();
        general.take(file::entries(Path::new("c.toml"), text)?)?;
        Ok(general)
    }

    #[test]
    fn every_option_does_what_it_says() {
        let all = "allow_other,noexec,xattrs=user,owner=mounter,idmap=u:1000:2000+b:0:100000:10,timeout=2min,\
                   mount-timeout=5s,memory=48M,refresh=10s,time=utc,time-format=%F,log=/var/log/b,log-level=debug,metrics-socket=/run/b.sock,\
                   access-log=/var/log/b.access,mountpoint=/mnt/b,cache-dir=/var/c,cache-size=5G,offline-max=7d";
        let general = typed(all).unwrap();
        let mount = &general.mount;
        assert!(mount.allow_other && mount.noexec);
        assert_eq!((mount.xattrs, mount.owner), (Xattrs::User, Owner::Mounter));
        let range = |recorded, shown, count| IdRange { recorded, shown, count };
        assert_eq!(mount.uids, [range(1000, 2000, 1), range(0, 100_000, 10)]);
        assert_eq!(mount.gids, [range(0, 100_000, 10)]);
        assert_eq!(mount.timeout, Duration::from_secs(120));
        assert_eq!(mount.mount_timeout, Duration::from_secs(5));
        assert_eq!((general.memory, general.refresh), (48 << 20, Duration::from_secs(10)));
        assert_eq!((general.names.time, general.names.format.as_str()), (TimeStyle::Utc, "%F"));
        assert_eq!(mount.log, Log { file: Some(PathBuf::from("/var/log/b")), level: Level::Debug });
        assert_eq!(mount.access_log.as_deref(), Some(Path::new("/var/log/b.access")));
        assert_eq!(mount.metrics_socket.as_deref(), Some(Path::new("/run/b.sock")));
        assert_eq!(mount.mountpoint.as_deref(), Some(Path::new("/mnt/b")));
        assert_eq!(general.cache_dir, Some(CacheDir::At("/var/c".into())));
        assert_eq!(
            (general.cache_size, general.offline_max),
            (5 << 30, Some(Duration::from_secs(7 * 86_400)))
        );
        assert_eq!(typed("offline-max=1d,offline-max=off").unwrap().offline_max, None);
        assert_eq!(typed("cache-dir=none").unwrap().cache_dir, Some(CacheDir::Nowhere));
    }

    #[test]
    fn what_is_for_sources_is_handed_on() {
        let mut general = General::default();
        let left = general.take(options::entries("host=lab*,noexec,tag=a\\,b,s3_region=x").unwrap()).unwrap();
        let keys: Vec<_> = left.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["host", "tag", "s3_region"]);
        assert!(general.mount.noexec);
        let error = general.take(options::entries("s3-regoin=x").unwrap()).unwrap_err().to_string();
        assert_eq!(error, "-o: unknown option \"s3-regoin\"; did you mean \"s3-region\"?");
        let error = general.take(options::entries("url=/x").unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("-o: unknown option \"url\""), "{error}");
    }

    #[test]
    fn the_last_word_wins() {
        assert_eq!(typed("noxattr,xattrs=user").unwrap().mount.xattrs, Xattrs::User);
        assert_eq!(typed("xattrs=user,noxattr").unwrap().mount.xattrs, Xattrs::None);
        assert!(!typed("allow_other,allow_other=false").unwrap().mount.allow_other);
    }

    #[test]
    fn wrong_values_are_named() {
        for (options, says) in [
            ("memory=1M", "-o: memory: must be 16M or more"),
            ("owner=me", "-o: owner: \"me\" is not one of recorded, mounter, root"),
            ("time-format=%Y/%m", "no name for a directory"),
            ("time-format=%Y%", "-o: time-format: "),
            ("idmap=u:1", "-o: idmap: \"u:1\" must be"),
            ("log=relative", "absolute path"),
            ("cache-dir=relative", "absolute path"),
            ("source=/x", "belongs into a configuration file"),
            ("password=x", "does not belong here"),
            ("remount", "unknown option \"remount\""),
        ] {
            let error = typed(options).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn the_file_says_the_same_in_its_own_types() {
        let general = written(
            "allow-other = true\nmemory = 67108864\nrefresh = 5\nidmap = [\"u:1:2\", \"g:3:4\"]\nnoxattr = true\n\
             [[rename]]\nfrom = '^lab(\\d+)'\nto = 'node$1'\n",
        )
        .unwrap();
        assert!(general.mount.allow_other);
        assert_eq!((general.memory, general.refresh), (64 << 20, Duration::from_secs(5)));
        assert_eq!((general.mount.uids.len(), general.mount.gids.len()), (1, 1));
        assert_eq!(general.mount.xattrs, Xattrs::None);
        assert_eq!(general.names.rename, [("^lab(\\d+)".to_owned(), "node$1".to_owned())]);
    }

    #[test]
    fn rules_can_be_typed_as_sed_has_them() {
        let rules = typed("rename=s/^lab(\\d+)/node$1/,rename=s|a/b|c|").unwrap().names.rename;
        assert_eq!(
            rules,
            [("^lab(\\d+)".to_owned(), "node$1".to_owned()), ("a/b".to_owned(), "c".to_owned())]
        );
        assert_eq!(written("rename = ['s/a/b/', 's/c/d/']\n").unwrap().names.rename.len(), 2);
        for wrong in ["a/b", "s/a", "s/a/b", "s/a/b/g", "s//b/", "s/a//", "sxaxbx", "s"] {
            let error = typed(&format!("rename={wrong}")).err().unwrap().to_string();
            assert!(error.contains("must be s/FROM/TO/"), "{error}");
        }
        let error = typed("rename=s/(/b/").err().unwrap().to_string();
        assert!(error.starts_with("-o: rename: error: unclosed group"), "{error}");
    }

    #[test]
    fn rules_are_checked_where_they_are_written() {
        let error = written("[[rename]]\nfrom = '('\nto = 'x'\n").err().unwrap().to_string();
        assert!(error.starts_with("c.toml:2: from: error: unclosed group"), "{error}");
        let error = written("\n[[rename]]\nfrom = 'a'\n").err().unwrap().to_string();
        assert_eq!(error, "c.toml:2: rename: needs both from and to");
        let error = written("[[rename]]\nfrm = 'a'\n").err().unwrap().to_string();
        assert_eq!(error, "c.toml:2: unknown key \"frm\"; did you mean \"from\"?");
    }
}
