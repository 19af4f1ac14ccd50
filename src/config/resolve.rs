//! The command line, the configuration files and the environment, put together.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::general::{CacheDir, General};
use super::given::Entry;
use super::group::Group;
use super::password::{Origin, Password, shared};
use super::source::{self, Described, Draft};
use super::{Config, Credentials, Filter, Location, Source, Typed, files, options, spec};
use crate::error::{Error, Kind, Result};

/// Where root keeps indexes.
const SYSTEM_CACHE: &str = "/var/cache/backupfs";

/// What resolving depends on besides the command line.
pub struct Surroundings {
    /// The variables that count.
    pub environment: Environment,
    /// Whether this is root, whose cache is the machine's.
    pub is_root: bool,
    /// [`files::SYSTEM_FILE`], but for tests.
    pub system_file: PathBuf,
    /// What relative paths count from.
    pub directory: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Result<Self> {
        Ok(Surroundings {
            environment: Environment::of_process(),
            is_root: rustix::process::geteuid().is_root(),
            system_file: files::SYSTEM_FILE.into(),
            directory: std::env::current_dir()
                .map_err(|e| Error::io("the working directory", e).with_kind(Kind::System))?,
        })
    }
}

/// One source as it was said, before what is said of all.
struct Table {
    place: String,
    /// What relative locations count from.
    base: PathBuf,
    /// The location, where it was typed: it need not be text.
    url: Option<OsString>,
    said: Vec<Entry>,
}

/// What was typed, the configuration files and the environment, together.
pub fn resolve(typed: &Typed, around: &Surroundings) -> Result<Config> {
    let typed = &with_said_file(typed)?;
    match &typed.spec {
        Some(spec) => spec::resolve_spec(typed, spec, around),
        None => resolve_said(typed, around),
    }
}

/// `typed` with the file that `-o config=` names. Errors: repositories are named as well.
pub(super) fn with_said_file(typed: &Typed) -> Result<Typed> {
    let mut typed = typed.clone();
    for options in &typed.options {
        if let Some(entry) = options::entries(options)?.iter().rfind(|entry| entry.key == "config") {
            if !typed.repos.is_empty() {
                return Err(entry.wrong("excludes -r, which needs no configuration"));
            }
            typed.file = Some(entry.absolute_path()?);
        }
    }
    Ok(typed)
}

/// The same, where it was said which files or repositories count.
pub(super) fn resolve_said(typed: &Typed, around: &Surroundings) -> Result<Config> {
    let mut general = General::default();
    let mut tables = typed_repositories(typed, around)?;
    if typed.hot.is_some() && tables.len() != 1 {
        return Err(Error::new(Kind::Usage, "--repo-hot belongs to exactly one -r"));
    }
    let is_typed = !tables.is_empty();
    let mut of_all = Vec::new();
    if !is_typed {
        (tables, of_all) = configured(typed, around, &mut general)?;
    }
    let mut typed_options = Vec::new();
    for options in &typed.options {
        typed_options.extend(general.take(options::entries(options)?)?);
    }
    let (mut sources, mut groups) = (Vec::new(), Vec::new());
    for table in tables {
        match described(&table, &of_all, &typed_options, typed, is_typed)? {
            Described::Source(source) => sources.push(source),
            Described::Group(group) => groups.push(group),
        }
    }
    let mut typed_password = TypedPassword::of(typed, around);
    for source in &mut sources {
        let typed_filter =
            Filter { hosts: typed.hosts.clone(), tags: typed.tags.clone(), paths: typed.paths.clone() };
        source.filter = first_filter([&typed_filter, &source.filter]);
        source.key_hint = source.key_hint.take().or_else(|| typed.key_hint.clone());
        if is_typed {
            source.key_hint = source.key_hint.take().or_else(|| around.environment.text("RESTIC_KEY_HINT"));
        }
        typed_password.fill(&mut source.password);
        let places: Vec<&Location> = std::iter::once(&source.location).chain(&source.hot).collect();
        fill_credentials(&mut source.credentials, &places, around, is_typed);
    }
    for group in &mut groups {
        if !group.has_member_passwords {
            typed_password.fill(&mut group.password);
        }
        let places = group.locations();
        fill_credentials(&mut group.credentials, &places.iter().collect::<Vec<_>>(), around, is_typed);
    }
    check_names(&sources, &groups)?;
    let General { names, refresh, memory, cache_dir, cache_size, offline_max, mount, .. } = general;
    let cache_dir = said_cache_dir(cache_dir, around);
    Ok(Config {
        sources,
        groups,
        names,
        refresh,
        memory,
        cache_dir,
        cache_size,
        offline_max,
        mount,
        label: None,
        is_from_files: !is_typed,
    })
}

/// Where the cache is and how large it may become, whatever the sources are.
pub fn resolve_cache(typed: &Typed, around: &Surroundings) -> Result<Option<(PathBuf, u64)>> {
    let typed = &with_said_file(typed)?;
    let mut general = General::default();
    for file in files::read(typed, around)? {
        general.take(file.entries)?;
    }
    for options in &typed.options {
        general.take(options::entries(options)?)?;
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

/// What `table` describes, of which `of_all` and `typed_options` say something too.
fn described(
    table: &Table,
    of_all: &[Entry],
    typed_options: &[Entry],
    typed: &Typed,
    is_typed: bool,
) -> Result<Described> {
    source::check_table(&table.place, &table.said)?;
    // Later words win.
    let together =
        |own: &[Entry]| -> Vec<Entry> { of_all.iter().chain(own).chain(typed_options).cloned().collect() };
    let drafted = |own: &[Entry]| -> Result<(Draft, Vec<Entry>)> {
        let said = together(own);
        let mut draft = source::draft(&table.place, &said)?;
        if let Some(url) = &table.url {
            draft.urls = vec![url.clone()];
            draft.hot = typed.hot.clone().or(draft.hot);
        }
        Ok((draft, said))
    };
    let kind = drafted(&table.said)?.0.kind();
    let (place, own) = source::place_of(kind, &table.said)?;
    kind.check(&own)?;
    let (mut draft, said) = drafted(&own)?;
    draft.urls.extend(place);
    draft.describe(&said, &table.base, is_typed)
}

fn fill_credentials(
    credentials: &mut Credentials,
    places: &[&Location],
    around: &Surroundings,
    is_typed: bool,
) {
    if is_typed {
        around.environment.fill_typed(credentials);
    }
    around.environment.fill_s3(credentials, places);
}

/// Where indexes are kept when no option says it: what the environment says, else the machine's place for root and the
/// user's for others.
fn usual_cache_dir(around: &Surroundings) -> Option<PathBuf> {
    let environment = &around.environment;
    match environment.get("BACKUPFS_CACHE_DIR").map(CacheDir::of_environment) {
        Some(CacheDir::At(path)) => return Some(around.directory.join(path)),
        Some(CacheDir::Nowhere) => return None,
        None if around.is_root => return Some(SYSTEM_CACHE.into()),
        None => {}
    }
    let cache_home = || environment.absolute("HOME").map(|home| home.join(".cache"));
    environment.absolute("XDG_CACHE_HOME").or_else(cache_home).map(|home| home.join("backupfs"))
}

/// What `-r` says, or restic's environment when nothing that was typed says what to open.
fn typed_repositories(typed: &Typed, around: &Surroundings) -> Result<Vec<Table>> {
    let table = |place: &str, url: &OsString| Table {
        place: place.to_owned(),
        base: around.directory.clone(),
        url: Some(url.clone()),
        said: Vec::new(),
    };
    if typed.repos.is_empty() && typed.file.is_none() && typed.spec.is_none() {
        return Ok(around.environment.repository()?.iter().map(|(name, url)| table(name, url)).collect());
    }
    Ok(typed.repos.iter().map(|url| table("-r", url)).collect())
}

/// The sources of the configuration files and what is said there of all of them; other options go to `general`.
fn configured(
    typed: &Typed,
    around: &Surroundings,
    general: &mut General,
) -> Result<(Vec<Table>, Vec<Entry>)> {
    let files = files::read(typed, around)?;
    if files.is_empty() {
        let says = "no repository given: use -r REPO, RESTIC_REPOSITORY, or a configuration file";
        return Err(Error::new(Kind::Usage, format!("{says} ({})", files::SYSTEM_FILE)));
    }
    let (mut tables, mut of_all) = (Vec::new(), Vec::new());
    for file in &files {
        of_all.extend(general.take(file.entries.clone())?);
        let base = file.path.parent().unwrap_or(Path::new("/"));
        let found = std::mem::take(&mut general.sources).into_iter();
        tables.extend(found.map(|(place, said)| Table { place, base: base.to_owned(), url: None, said }));
    }
    if tables.is_empty() {
        let paths: Vec<String> = files.iter().map(|file| file.path.display().to_string()).collect();
        return Err(Error::new(Kind::Usage, format!("{}: holds no [[source]]", paths.join(", "))));
    }
    Ok((tables, of_all))
}

/// Of each list the first that says something.
fn first_filter(filters: [&Filter; 2]) -> Filter {
    let first = |list: fn(&Filter) -> &Vec<String>| {
        filters.into_iter().map(list).find(|list| !list.is_empty()).cloned().unwrap_or_default()
    };
    Filter { hosts: first(|f| &f.hosts), tags: first(|f| &f.tags), paths: first(|f| &f.paths) }
}

/// What the command line says of the password of every source that says nothing itself: several `-r` ask together.
struct TypedPassword(Option<Origin>);

impl TypedPassword {
    fn of(typed: &Typed, around: &Surroundings) -> Self {
        TypedPassword(match (&typed.password_command, &typed.password_file) {
            (Some(line), _) => Some(Origin::Command { line: line.clone(), member: String::new() }),
            (None, Some(file)) => Some(Origin::File(around.directory.join(file))),
            (None, None) => (!typed.repos.is_empty()).then(shared),
        })
    }

    fn fill(&mut self, password: &mut Password) {
        if let Some(said) = self.0.as_ref().filter(|_| password.is_unsaid()) {
            *password = Password::new(said.clone(), true);
        }
    }
}

/// Sees to it that every source has a name and a place of its own. Errors: two that have the same.
fn check_names(sources: &[Source], groups: &[Group]) -> Result<()> {
    for (i, source) in sources.iter().enumerate() {
        if sources.iter().skip(i + 1).any(|other| source.location == other.location) {
            return Err(Error::new(Kind::Usage, format!("{} is given twice", source.location)));
        }
    }
    let titles = || sources.iter().map(|s| &s.title).chain(groups.iter().map(|g| &g.title));
    for (i, title) in titles().enumerate() {
        if titles().skip(i + 1).any(|other| title == other) {
            return Err(Error::new(Kind::Usage, format!("two sources are called {title}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Owner, SourceKind, Xattrs};
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
            let environment = |name: &str| match name {
                "RESTIC_REPOSITORY" => self.repository.clone(),
                "HOME" => Some(self.dir.path().join("home").into()),
                _ => None,
            };
            let around = Surroundings {
                environment: Environment::from(environment),
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
    fn a_directory_is_said_by_its_path_or_as_a_url_and_no_password_is_asked_for() {
        let machine = Machine::new();
        let sources = |text: &str| -> Result<Vec<Source>> {
            let file = machine.file("c.toml", text);
            Ok(machine
                .resolve(Typed { file: Some(file), paths: vec!["/home".into()], ..Typed::default() })?
                .sources)
        };
        let found = sources(
            "path = '/of/all'\npassword-file = '/p'\n\
             [[source]]\nkind = 'directory'\npath = '/srv/rsync/{host}/{time}'\ntime-format = '%Y'\n\
             [[source]]\nurl = 'directory:backups/{n}'\n[[source]]\nurl = '/repo'\n",
        )
        .unwrap();
        let base = machine.dir.path();
        let places: Vec<_> =
            found.iter().map(|s| (s.kind, s.name.as_str(), s.local_place().unwrap())).collect();
        assert_eq!(
            places,
            [
                (SourceKind::Directory, "rsync", "/srv/rsync".into()),
                (SourceKind::Directory, "backups", base.join("backups")),
                (SourceKind::Restic, "repo", "/repo".into()),
            ]
        );
        assert_eq!(found[0].location.to_string(), "/srv/rsync/{host}/{time}");
        assert_eq!((found[0].place_kind(), found[2].place_kind()), ("directory", "local"));
        assert_eq!(found[0].time_format.as_deref(), Some("%Y"));
        assert_eq!(found[0].filter.paths, ["/home"], "what is typed filters");
        assert_eq!(found[1].filter.paths, ["/home"]);
        assert_eq!(found[0].password.known_bytes(), Some(&b""[..]));
        assert!(found[2].password.known_bytes().is_none());
    }

    #[test]
    fn what_a_kind_cannot_have_is_told_with_its_line() {
        let machine = Machine::new();
        for (text, says) in [
            ("kind = 'directory'", ":2: source: needs a path or url (where it is)"),
            (
                "kind = 'directory'\npath = '/a/{n}'\nurl = '/b'",
                ":3: path: says where it is, and so does url",
            ),
            (
                "path = '/a/{n}'\nkind = 'directory'\npassword-command = 'x'",
                ":4: password-command: means nothing for kind",
            ),
            (
                "kind = 'directory'\nurl = 's3:https://h.x/b'",
                ":2: s3:https://h.x/b: a directory of snapshots is a path",
            ),
            (
                "kind = 'directory'\nurl = ['/a/{n}', '/b/{n}']",
                ":2: a source of kind directory is at one place",
            ),
            (
                "kind = 'restic'\nurl = 'directory:/a/{n}'",
                ":2: source: its kind and its url (of kind directory) exclude",
            ),
            ("url = '/a'\ntime-format = '%Y'", ":3: time-format: means nothing for kind = \"restic\""),
        ] {
            let file = machine.file("c.toml", &format!("[[source]]\n{text}\n"));
            let error =
                machine.resolve(Typed { file: Some(file), ..Typed::default() }).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_star_in_a_pattern_of_directories_makes_no_group() {
        let config = Machine::new().resolve(repos(&["directory:/srv/*/{time}"])).unwrap();
        assert_eq!((config.sources.len(), config.groups.len()), (1, 0));
        assert_eq!(config.sources[0].kind, SourceKind::Directory);
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
    fn what_is_said_of_all_sources_is_the_default_of_each_and_what_is_typed_wins() {
        let machine = Machine::new();
        machine.file(
            "etc/config.toml",
            "s3-region = 'all'\nzone = '+01:00'\n[[source]]\nurl = 's3:a'\n[[source]]\nurl = 's3:b'\ns3-region = 'own'\n",
        );
        let regions = |options: &[&str]| {
            let options = options.iter().map(|o| (*o).to_owned()).collect();
            let config = machine.resolve(Typed { options, ..Typed::default() }).unwrap();
            assert!(config.sources.iter().all(|source| source.zone.as_deref() == Some("+01:00")));
            config.sources.into_iter().map(|s| s.credentials.s3.region.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(regions(&[]), ["all", "own"]);
        assert_eq!(regions(&["s3-region=typed,noexec"]), ["typed", "typed"]);
        let typed = Typed { options: vec!["name=home,set=x@+{path}".into()], ..repos(&["/srv/a"]) };
        let config = machine.resolve(typed).unwrap();
        assert_eq!(
            (config.sources[0].title.as_str(), config.sources[0].set.as_deref()),
            ("home", Some("x@+{path}"))
        );
    }

    #[test]
    fn conf_d_is_read_after_the_file_in_the_order_of_names() {
        let machine = Machine::new();
        machine.file("etc/conf.d/20.toml", "refresh = '20s'\n[[source]]\nurl = 'two'\n");
        machine.file("etc/conf.d/10.toml", "refresh = '10s'\n[[source]]\nurl = 'one'\n");
        machine.file("etc/conf.d/.hidden.toml", "wrong");
        machine.file("etc/conf.d/README", "wrong");
        let titles = || {
            let config = machine.resolve(Typed::default()).unwrap();
            assert_eq!(config.refresh.as_secs(), 20);
            config.sources.into_iter().map(|s| s.location.last()).collect::<Vec<_>>()
        };
        assert_eq!(titles(), ["one", "two"], "without config.toml too");
        let main = machine.file("etc/config.toml", "refresh = '5s'\n[[source]]\nurl = '/zero'\n");
        assert_eq!(titles(), ["zero", "one", "two"]);
        let named = machine.resolve(Typed { file: Some(main), ..Typed::default() }).unwrap();
        assert_eq!(named.sources.len(), 3, "named by -c it is the same configuration");
        machine.file("etc/conf.d/30.toml", "\nrefesh = '1s'\n");
        let error = machine.resolve(Typed::default()).unwrap_err().to_string();
        assert!(
            error.ends_with("conf.d/30.toml:2: unknown key \"refesh\"; did you mean \"refresh\"?"),
            "{error}"
        );
        let alone = machine.file("etc/other.toml", "[[source]]\nurl = '/a'\n");
        assert_eq!(
            machine.resolve(Typed { file: Some(alone), ..Typed::default() }).unwrap().sources.len(),
            1
        );
    }

    #[test]
    fn groups_stand_beside_sources() {
        let machine = Machine::new();
        let config =
            machine.resolve(repos(&["/srv/a", "/srv/restic/*", "s3:https://h.x/b/cback-*"])).unwrap();
        let names: Vec<_> = config.groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!((config.sources.len(), names), (1, vec!["restic", "b"]));
        let error = machine.resolve(repos(&["/srv/a/b/*", "/srv/b/*"])).unwrap_err();
        assert_eq!(error.to_string(), "two sources are called b");
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
            let environment = |name: &str| match name {
                "BACKUPFS_CACHE_DIR" => Some(variable.into()),
                "XDG_CACHE_HOME" => Some(cache_home.into()),
                "HOME" => Some(home.into()),
                _ => None,
            };
            let around = Surroundings {
                environment: Environment::from(environment),
                is_root,
                system_file: "/none".into(),
                directory: "/work-dir".into(),
            };
            let options = (!option.is_empty()).then(|| format!("cache-dir={option}"));
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
            environment: Environment::from(|name| (name == "HOME").then(|| "relative".into())),
            is_root: false,
            system_file: machine.dir.path().join("none"),
            directory: machine.dir.path().into(),
        };
        machine.file(".config/backupfs/config.toml", "[[source]]\nurl = '/a'\n");
        assert_eq!(resolve(&Typed::default(), &around).unwrap_err().kind(), Kind::Usage);
    }
}
