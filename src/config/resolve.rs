//! The command line, the configuration file and the environment, put together.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::general::{self, CacheDir, General};
use super::given::apply;
use super::password::{Origin, Password, shared};
use super::source::Draft;
use super::{Config, Filter, Source, Typed, file, options};
use crate::error::{Error, Kind, Result};

/// Where the configuration of the machine is.
const SYSTEM_FILE: &str = "/etc/backupfs/config.toml";

/// Where root keeps indexes.
const SYSTEM_CACHE: &str = "/var/cache/backupfs";

/// What resolving depends on besides the command line.
pub struct Surroundings {
    /// `RESTIC_REPOSITORY`.
    pub repository: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
    /// `XDG_CACHE_HOME`.
    pub cache_home: Option<OsString>,
    /// `BACKUPFS_CACHE_DIR`.
    pub cache_dir: Option<OsString>,
    /// Whether this is root, whose cache is the machine's.
    pub is_root: bool,
    /// [`SYSTEM_FILE`], but for tests.
    pub system_file: PathBuf,
    /// What relative paths count from.
    pub directory: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Result<Self> {
        Ok(Surroundings {
            repository: std::env::var_os("RESTIC_REPOSITORY").filter(|value| !value.is_empty()),
            home: std::env::var_os("HOME"),
            cache_home: std::env::var_os("XDG_CACHE_HOME"),
            cache_dir: std::env::var_os("BACKUPFS_CACHE_DIR").filter(|value| !value.is_empty()),
            is_root: rustix::process::geteuid().is_root(),
            system_file: SYSTEM_FILE.into(),
            directory: std::env::current_dir()
                .map_err(|e| Error::io("the working directory", e).with_kind(Kind::System))?,
        })
    }
}

/// What was typed, the configuration file and the environment, together.
pub fn resolve(typed: &Typed, around: &Surroundings) -> Result<Config> {
    let mut general = General::default();
    let repositories = typed_repositories(typed, around);
    if typed.hot.is_some() && repositories.len() != 1 {
        return Err(Error::new(Kind::Usage, "--repo-hot belongs to exactly one -r"));
    }
    let mut sources = match repositories {
        repositories if repositories.is_empty() => configured(typed, around, &mut general)?,
        repositories => finish(repositories, &around.directory, true)?,
    };
    for options in &typed.options {
        apply(general::KEYS, &mut general, &options::entries(options)?)?;
    }
    let typed_filter =
        Filter { hosts: typed.hosts.clone(), tags: typed.tags.clone(), paths: typed.paths.clone() };
    for source in &mut sources {
        source.filter = first_filter([&typed_filter, &source.filter, &general.filter]);
        source.key_hint = source.key_hint.take().or_else(|| typed.key_hint.clone());
    }
    say_password(typed, around, &mut sources);
    check_names(&sources)?;
    let General { names, refresh, memory, cache_dir, cache_size, offline_max, mount, .. } = general;
    let cache_dir = said_cache_dir(cache_dir, around);
    Ok(Config { sources, names, refresh, memory, cache_dir, cache_size, offline_max, mount })
}

/// Where the cache is and how large it may become, whatever the sources are.
pub fn resolve_cache(typed: &Typed, around: &Surroundings) -> Result<Option<(PathBuf, u64)>> {
    let mut general = General::default();
    if let Some((path, text)) = read_file(typed, around)? {
        apply(general::KEYS, &mut general, &file::entries(&path, &text)?)?;
    }
    for options in &typed.options {
        apply(general::KEYS, &mut general, &options::entries(options)?)?;
    }
    let General { cache_dir, cache_size, .. } = general;
    Ok(said_cache_dir(cache_dir, around).map(|path| (path, cache_size)))
}

/// Where the cache is by what was said, and else by custom.
fn said_cache_dir(said: Option<CacheDir>, around: &Surroundings) -> Option<PathBuf> {
    match said {
        Some(CacheDir::At(path)) => Some(path),
        Some(CacheDir::Nowhere) => None,
        None => usual_cache_dir(around),
    }
}

/// Where indexes are kept when no option says it: what the environment says, else the machine's place for root and the
/// user's for others.
fn usual_cache_dir(around: &Surroundings) -> Option<PathBuf> {
    match around.cache_dir.as_deref().map(CacheDir::of_environment) {
        Some(CacheDir::At(path)) => return Some(around.directory.join(path)),
        Some(CacheDir::Nowhere) => return None,
        None if around.is_root => return Some(SYSTEM_CACHE.into()),
        None => {}
    }
    let absolute =
        |value: &Option<OsString>| value.as_ref().map(PathBuf::from).filter(|path| path.is_absolute());
    let cache_home = || absolute(&around.home).map(|home| home.join(".cache"));
    absolute(&around.cache_home).or_else(cache_home).map(|home| home.join("backupfs"))
}

/// What `-r` says, or restic's environment when neither `-r` nor `-c` does.
fn typed_repositories(typed: &Typed, around: &Surroundings) -> Vec<Draft> {
    let draft = |place: &str, url: &OsString| Draft {
        url: Some(url.clone()),
        hot: typed.hot.clone(),
        place: place.to_owned(),
        ..Draft::default()
    };
    if typed.repos.is_empty() && typed.file.is_none() {
        return around.repository.iter().map(|url| draft("RESTIC_REPOSITORY", url)).collect();
    }
    typed.repos.iter().map(|url| draft("-r", url)).collect()
}

/// The sources of the configuration file, whose options go to `general`.
fn configured(typed: &Typed, around: &Surroundings, general: &mut General) -> Result<Vec<Source>> {
    let nothing = || {
        let says = "no repository given: use -r REPO, RESTIC_REPOSITORY, or a configuration file";
        Error::new(Kind::Usage, format!("{says} ({SYSTEM_FILE})"))
    };
    let (path, text) = read_file(typed, around)?.ok_or_else(nothing)?;
    apply(general::KEYS, general, &file::entries(&path, &text)?)?;
    let base = path.parent().unwrap_or(Path::new("/"));
    let sources = finish(std::mem::take(&mut general.sources), base, false)?;
    if sources.is_empty() {
        return Err(Error::new(Kind::Usage, format!("{}: holds no [[source]]", path.display())));
    }
    Ok(sources)
}

fn finish(drafts: Vec<Draft>, base: &Path, typed: bool) -> Result<Vec<Source>> {
    drafts.into_iter().map(|draft| draft.finish(base, typed)).collect()
}

/// The configuration file that was named, else the machine's, else the user's, if there is one.
fn read_file(typed: &Typed, around: &Surroundings) -> Result<Option<(PathBuf, String)>> {
    let read = |path: PathBuf| match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(e) if e.kind() == ErrorKind::NotFound && typed.file.is_none() => Ok(None),
        // The machine's file may be for root alone; an ordinary user has one of his own.
        Err(e) if e.kind() == ErrorKind::PermissionDenied && path == around.system_file => Ok(None),
        Err(e) => Err(Error::io(format!("configuration file {}", path.display()), e).with_kind(Kind::Usage)),
    };
    let home = around.home.as_ref().map(Path::new).filter(|home| home.is_absolute());
    let user_file = home.map(|home| home.join(".config/backupfs/config.toml"));
    let candidates = match &typed.file {
        Some(named) => vec![around.directory.join(named)],
        None => std::iter::once(around.system_file.clone()).chain(user_file).collect(),
    };
    for candidate in candidates {
        if let Some(found) = read(candidate)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Of each list the first that says something.
fn first_filter(filters: [&Filter; 3]) -> Filter {
    let first = |list: fn(&Filter) -> &Vec<String>| {
        filters.into_iter().map(list).find(|list| !list.is_empty()).cloned().unwrap_or_default()
    };
    Filter { hosts: first(|f| &f.hosts), tags: first(|f| &f.tags), paths: first(|f| &f.paths) }
}

/// Lets the sources that say nothing of a password use what the command line says, or ask together.
fn say_password(typed: &Typed, around: &Surroundings, sources: &mut [Source]) {
    let together = !typed.repos.is_empty();
    let said = match (&typed.password_command, &typed.password_file) {
        (Some(command), _) => Origin::Command(command.clone()),
        (None, Some(file)) => Origin::File(around.directory.join(file)),
        (None, None) if together => shared(),
        (None, None) => return,
    };
    for source in sources.iter_mut().filter(|source| source.password.is_unsaid()) {
        source.password = Password::new(said.clone(), true);
    }
}

/// Gives every source a name and a place of its own. Errors: two that have the same.
fn check_names(sources: &[Source]) -> Result<()> {
    for (i, source) in sources.iter().enumerate() {
        for other in sources.iter().skip(i + 1) {
            if source.location == other.location {
                return Err(Error::new(Kind::Usage, format!("{} is given twice", source.location)));
            }
            if source.title == other.title {
                return Err(Error::new(Kind::Usage, format!("two sources are called {}", source.title)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Owner, Xattrs};
    use super::*;

    /// A machine of its own, with configuration files.
    struct Machine {
        dir: tempfile::TempDir,
        repository: Option<OsString>,
    }

    impl Machine {
        fn new() -> Self {
            Machine { dir: tempfile::tempdir().unwrap(), repository: None }
        }

        fn file(&self, path: &str, text: &str) -> PathBuf {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }

        fn resolve(&self, typed: Typed) -> Result<Config> {
            let around = Surroundings {
                repository: self.repository.clone(),
                home: Some(self.dir.path().join("home").into()),
                cache_home: None,
                cache_dir: None,
                is_root: false,
                system_file: self.dir.path().join("etc/config.toml"),
                directory: "/work-dir".into(),
            };
            resolve(&typed, &around)
        }
    }

    fn repos(repos: &[&str]) -> Typed {
        Typed { repos: repos.iter().map(OsString::from).collect(), ..Typed::default() }
    }

    #[test]
    fn a_repository_needs_no_file() {
        let config = Machine::new().resolve(repos(&["/srv/a", "b"])).unwrap();
        let paths: Vec<_> = config.sources.iter().map(|s| s.location.to_string()).collect();
        assert_eq!(paths, ["/srv/a", "/work-dir/b"]);
        assert_eq!(config.sources[1].name, "b");
    }

    #[test]
    fn the_environment_counts_only_when_nothing_was_typed() {
        let mut machine = Machine::new();
        machine.repository = Some("/srv/env".into());
        assert_eq!(machine.resolve(Typed::default()).unwrap().sources[0].title, "/srv/env");
        assert_eq!(machine.resolve(repos(&["/srv/a"])).unwrap().sources[0].title, "/srv/a");
        let file = machine.file("c.toml", "[[source]]\nurl = 'repo'\n");
        let config = machine.resolve(Typed { file: Some(file), ..Typed::default() }).unwrap();
        assert_eq!(config.sources[0].location.as_path().unwrap(), machine.dir.path().join("repo"));
    }

    #[test]
    fn the_machine_s_file_comes_before_the_user_s() {
        let machine = Machine::new();
        let error = machine.resolve(Typed::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().starts_with("no repository given"), "{error}");
        machine.file("home/.config/backupfs/config.toml", "[[source]]\nurl = '/user'\n");
        assert_eq!(machine.resolve(Typed::default()).unwrap().sources[0].title, "/user");
        machine.file("etc/config.toml", "[[source]]\nurl = '/machine'\n");
        assert_eq!(machine.resolve(Typed::default()).unwrap().sources[0].title, "/machine");
    }

    #[test]
    fn a_named_file_must_be_there_and_hold_a_source() {
        let machine = Machine::new();
        let named =
            |file: PathBuf| machine.resolve(Typed { file: Some(file), ..Typed::default() }).unwrap_err();
        let error = named("absent.toml".into());
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("/work-dir/absent.toml"), "{error}");
        assert!(named(machine.file("empty.toml", "")).to_string().contains("holds no [[source]]"));
    }

    #[test]
    fn options_on_the_command_line_override_the_file() {
        let machine = Machine::new();
        machine
            .file("etc/config.toml", "owner = 'root'\nxattrs = 'user'\nhost = 'f'\n[[source]]\nurl = '/a'\n");
        let typed = Typed { options: vec!["owner=mounter".into(), "noxattr,rw".into()], ..Typed::default() };
        let config = machine.resolve(typed).unwrap();
        assert_eq!((config.mount.owner, config.mount.xattrs), (Owner::Mounter, Xattrs::None));
        assert_eq!(config.sources[0].filter.hosts, ["f"]);
    }

    #[test]
    fn the_nearest_filter_wins_list_by_list() {
        let machine = Machine::new();
        machine.file(
            "etc/config.toml",
            "host = 'general'\ntag = 'general'\n[[source]]\nurl = '/a'\nhost = 'own'\n[[source]]\nurl = '/b'\n",
        );
        let typed = Typed { paths: vec!["/home".into()], ..Typed::default() };
        let config = machine.resolve(typed).unwrap();
        let filter = |hosts: &str| Filter {
            hosts: vec![hosts.into()],
            tags: vec!["general".into()],
            paths: vec!["/home".into()],
        };
        assert_eq!(config.sources[0].filter, filter("own"));
        assert_eq!(config.sources[1].filter, filter("general"));
    }

    #[test]
    fn a_hot_part_belongs_to_one_repository() {
        let mut machine = Machine::new();
        let hot = |typed: Typed| Typed { hot: Some("hot".into()), ..typed };
        let config = machine.resolve(hot(repos(&["/srv/a"]))).unwrap();
        assert_eq!(config.sources[0].hot.as_ref().unwrap().to_string(), "/work-dir/hot");
        let error = machine.resolve(hot(repos(&["/srv/a", "/srv/b"]))).unwrap_err();
        assert_eq!(error.to_string(), "--repo-hot belongs to exactly one -r");
        assert_eq!(machine.resolve(hot(Typed::default())).unwrap_err().kind(), Kind::Usage);
        machine.repository = Some("/srv/env".into());
        assert!(machine.resolve(hot(Typed::default())).unwrap().sources[0].hot.is_some());
    }

    #[test]
    fn the_same_repository_or_name_twice_is_an_error() {
        let machine = Machine::new();
        let error = machine.resolve(repos(&["/srv/a", "local:/srv/a"])).unwrap_err();
        assert_eq!(error.to_string(), "/srv/a is given twice");
        machine.file(
            "etc/config.toml",
            "[[source]]\nname = 'x'\nurl = '/a'\n[[source]]\nname = 'x'\nurl = '/b'\n",
        );
        assert_eq!(machine.resolve(Typed::default()).unwrap_err().to_string(), "two sources are called x");
    }

    #[test]
    fn a_typed_password_serves_the_sources_that_have_none() {
        let machine = Machine::new();
        machine.file(
            "etc/config.toml",
            "[[source]]\nurl = '/a'\npassword-command = 'printf own'\n[[source]]\nurl = '/b'\n",
        );
        let typed = Typed { password_command: Some("printf typed".into()), ..Typed::default() };
        let config = machine.resolve(typed).unwrap();
        let passwords: Vec<_> = config
            .sources
            .iter()
            .map(|s| s.password.read("none", "t").unwrap().as_bytes().to_vec())
            .collect();
        assert_eq!(passwords, [b"own".to_vec(), b"typed".to_vec()]);
    }

    #[test]
    fn the_cache_is_where_it_was_said_or_where_it_belongs() {
        let cache = |option: &str, variable: &str, cache_home: &str, home: &str, is_root: bool| {
            let some = |text: &str| Some(OsString::from(text)).filter(|text| !text.is_empty());
            let around = Surroundings {
                repository: None,
                home: some(home),
                cache_home: some(cache_home),
                cache_dir: some(variable),
                is_root,
                system_file: "/none".into(),
                directory: "/work-dir".into(),
            };
            let options = some(option).map(|said| format!("cache-dir={}", said.display()));
            let typed = Typed { options: options.into_iter().collect(), ..repos(&["/srv/a"]) };
            resolve(&typed, &around).unwrap().cache_dir.map(|path| path.to_str().unwrap().to_owned())
        };
        let place = |path: &str| Some(path.to_owned());
        assert_eq!(cache("/c", "/v", "/x", "/h", true), place("/c"));
        assert_eq!(cache("none", "/v", "/x", "/h", true), None);
        assert_eq!(cache("", "/v", "/x", "/h", true), place("/v"));
        assert_eq!(cache("", "v", "/x", "/h", false), place("/work-dir/v"));
        assert_eq!(cache("", "none", "/x", "/h", false), None);
        assert_eq!(cache("", "", "/x", "/h", true), place("/var/cache/backupfs"));
        assert_eq!(cache("", "", "/x", "/h", false), place("/x/backupfs"));
        assert_eq!(cache("", "", "x", "/h", false), place("/h/.cache/backupfs"));
        assert_eq!(cache("", "", "", "", false), None);
        assert_eq!(cache("", "", "x", "h", false), None);
    }

    #[test]
    fn a_relative_home_is_no_home() {
        let machine = Machine::new();
        let around = Surroundings {
            repository: None,
            home: Some("".into()),
            cache_home: None,
            cache_dir: None,
            is_root: false,
            system_file: machine.dir.path().join("none"),
            directory: machine.dir.path().into(),
        };
        machine.file(".config/backupfs/config.toml", "[[source]]\nurl = '/a'\n");
        assert_eq!(resolve(&Typed::default(), &around).unwrap_err().kind(), Kind::Usage);
    }
}
