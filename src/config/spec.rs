//! What mount(8) calls the thing to mount: all that is configured, a profile, one source, or a repository.
//!
//! A profile is a file beside `config.toml` that stands alone, as if `-c` had named it. mount(8) turns a word into an
//! absolute path where something of that name lies in its directory (`home` becomes `/home`), so such a path still
//! means the name unless a repository lies there. What could mean two things is an error, never a guess.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::nearest::nearest;
use super::resolve::{Surroundings, resolve_said};
use super::{Config, Typed, files};
use crate::error::{Error, Kind, Result};

/// These stand for all that is configured.
const EVERYTHING: &[&str] = &["all", "backupfs", "none"];

/// What a specification comes to.
enum Meaning {
    Everything,
    /// The name, and the file of it.
    Profile(String, PathBuf),
    /// The name.
    Source(String),
    Repository(OsString),
}

/// Puts the configuration together that `spec` means, about which `typed` says the rest. Errors: `Usage`.
pub fn resolve_spec(typed: &Typed, spec: &OsStr, around: &Surroundings) -> Result<Config> {
    let with = |label: String, mut config: Config| {
        config.label = Some(label);
        config
    };
    match meaning(spec, typed, around)? {
        Meaning::Everything => resolve_said(typed, around),
        Meaning::Profile(name, file) => {
            Ok(with(name, resolve_said(&Typed { file: Some(file), ..typed.clone() }, around)?))
        }
        Meaning::Source(name) => {
            let mut config = resolve_said(typed, around)?;
            config.sources.retain(|source| source.name == name);
            config.groups.retain(|group| group.name == name);
            Ok(with(name, config))
        }
        Meaning::Repository(url) => {
            resolve_said(&Typed { repos: vec![url], file: None, ..typed.clone() }, around)
        }
    }
}

fn meaning(spec: &OsStr, typed: &Typed, around: &Surroundings) -> Result<Meaning> {
    // As maps of autofs have it.
    let bytes = spec.as_bytes().strip_prefix(b":").unwrap_or(spec.as_bytes());
    let spec = OsStr::from_bytes(bytes);
    if bytes.is_empty() {
        return Err(Error::new(Kind::Usage, "what to mount is empty: give \"all\", a name, or a repository"));
    }
    let path = Path::new(spec);
    let is_word = !bytes.contains(&b'/') && !bytes.contains(&b':');
    // What is not there was not made a path by mount(8).
    let was_word = || path.is_absolute() && path.exists() && !holds_repository(path);
    let name = match (is_word, path.file_name().and_then(OsStr::to_str)) {
        (true, None) => {
            return Err(Error::new(Kind::Usage, "what to mount is neither a name nor a repository"));
        }
        (_, Some(name)) if is_word || was_word() => name,
        _ => return Ok(Meaning::Repository(spec.to_owned())),
    };
    let sources = sources(typed, around)?;
    match named(name, is_word, &sources, typed, around)? {
        Some(meaning) => Ok(meaning),
        None if is_word => Err(unknown(name, &sources, typed, around)),
        None => Ok(Meaning::Repository(spec.to_owned())),
    }
}

/// What a name means where `sources` are configured; `None` when it is nobody's. Errors: it could mean two things.
fn named(
    name: &str,
    is_word: bool,
    sources: &[String],
    typed: &Typed,
    around: &Surroundings,
) -> Result<Option<Meaning>> {
    let is_source = match sources.iter().filter(|source| *source == name).count() {
        2.. => {
            let says = format!("several sources are called {name}; give each a name of its own (name = …)");
            return Err(Error::new(Kind::Usage, says));
        }
        count => count == 1,
    };
    let is_everything = is_word && EVERYTHING.contains(&name);
    match (is_everything, is_source, profile(name, typed, around)) {
        (true, false, None) => Ok(Some(Meaning::Everything)),
        (false, true, None) => Ok(Some(Meaning::Source(name.to_owned()))),
        (false, false, Some(file)) => Ok(Some(Meaning::Profile(name.to_owned(), file))),
        (false, false, None) => Ok(None),
        (true, ..) => {
            let says =
                format!("{name} stands for all that is configured, and a source or profile is called so too");
            Err(Error::new(Kind::Usage, format!("{says}; rename it")))
        }
        (false, true, Some(file)) => {
            let says = format!("{name} is a source and a profile ({})", file.display());
            Err(Error::new(Kind::Usage, format!("{says}; rename one of them")))
        }
    }
}

/// Whether a restic or Kopia repository lies at `path`, as far as its files' names tell.
fn holds_repository(path: &Path) -> bool {
    ["config", "kopia.repository", "kopia.repository.f"].iter().any(|name| path.join(name).is_file())
}

/// The names of what is configured; none where there are no files, or no sources in them.
fn sources(typed: &Typed, around: &Surroundings) -> Result<Vec<String>> {
    let files = files::read(typed, around)?;
    if !files.iter().flat_map(|file| &file.entries).any(|entry| entry.key == "source") {
        return Ok(Vec::new());
    }
    let config = resolve_said(typed, around)?;
    let names = config.sources.into_iter().map(|source| source.name);
    Ok(names.chain(config.groups.into_iter().map(|group| group.name)).collect())
}

/// The names that mean a source or a profile, in alphabetical order.
pub fn names(typed: &Typed, around: &Surroundings) -> Result<Vec<String>> {
    // What the environment names is nobody's configuration.
    let typed = Typed { spec: Some("all".into()), ..typed.clone() };
    let sources = sources(&typed, around)?;
    let mut names = sources.clone();
    for file in files::candidates(&typed, around) {
        let Some(Ok(beside)) = file.parent().map(std::fs::read_dir) else { continue };
        let files = beside.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        let names_of = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
        names.extend(names_of.filter_map(|path| path.file_stem()?.to_str().map(str::to_owned)));
    }
    names.sort_unstable();
    names.dedup();
    let is_one = |name: &String| {
        let meaning = named(name, true, &sources, &typed, around);
        matches!(meaning, Ok(Some(Meaning::Source(_) | Meaning::Profile(..))))
    };
    names.retain(is_one);
    Ok(names)
}

/// The file of the profile called `name`, if there is one.
fn profile(name: &str, typed: &Typed, around: &Surroundings) -> Option<PathBuf> {
    if name.starts_with('.') || name == "config" {
        return None;
    }
    let file = |beside: PathBuf| beside.parent().map(|parent| parent.join(format!("{name}.toml")));
    files::candidates(typed, around).into_iter().filter_map(file).find(|file| file.is_file())
}

fn unknown(name: &str, sources: &[String], typed: &Typed, around: &Surroundings) -> Error {
    let files: Vec<String> =
        files::candidates(typed, around).iter().map(|file| file.display().to_string()).collect();
    let hint = nearest(name, sources.iter().map(String::as_str))
        .map(|near| format!("; did you mean \"{near}\"?"))
        .unwrap_or_default();
    let says = format!("no source of {} is called \"{name}\", and no file beside it", files.join(" or "));
    Error::new(Kind::Usage, format!("{says} {name}.toml{hint} (a repository is a path or an address)"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::environment::Environment;
    use super::super::resolve::resolve;
    use super::*;

    const CONFIG: &str = "refresh = '7s'\n[[source]]\nname = 'home'\nurl = '/srv/home'\n\
                          [[source]]\nurl = '/srv/web'\n[[source]]\nname = 'users'\nurl = '/srv/users/*'\n";

    /// A machine with a configuration and a profile `lab`.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Machine(tempfile::tempdir().unwrap());
            machine.file("etc/config.toml", CONFIG);
            machine.file("etc/lab.toml", "[[source]]\nurl = 'one'\n[[source]]\nurl = 'two'\n");
            machine
        }

        fn file(&self, path: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }

        fn around(&self) -> Surroundings {
            let environment = |name: &str| match name {
                "RESTIC_REPOSITORY" => Some("/srv/of-the-environment".into()),
                "HOME" => Some(self.0.path().join("home").into()),
                _ => None,
            };
            Surroundings {
                environment: Environment::from(environment),
                is_root: false,
                system_file: self.0.path().join("etc/config.toml"),
                directory: "/".into(),
            }
        }

        fn mean(&self, spec: impl AsRef<OsStr>, options: &[&str]) -> Result<Config> {
            let around = self.around();
            let options = options.iter().map(|option| (*option).to_owned()).collect();
            resolve(&Typed { spec: Some(spec.as_ref().to_owned()), options, ..Typed::default() }, &around)
        }

        /// What is shown, and what the mount is called.
        fn shows(&self, spec: impl AsRef<OsStr>) -> (Vec<String>, Option<String>) {
            let config = self.mean(spec, &[]).unwrap();
            let sources = config.sources.into_iter().map(|source| source.name);
            (sources.chain(config.groups.into_iter().map(|group| group.name)).collect(), config.label)
        }

        fn refuses(&self, spec: impl AsRef<OsStr>) -> String {
            let error = self.mean(spec, &[]).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{error}");
            error.to_string()
        }
    }

    fn only(name: &str) -> (Vec<String>, Option<String>) {
        (vec![name.to_owned()], Some(name.to_owned()))
    }

    #[test]
    fn words_mean_everything_a_source_a_group_or_a_profile() {
        let machine = Machine::new();
        for everything in EVERYTHING {
            let (names, label) = machine.shows(everything);
            assert_eq!((names.join(" "), label), ("home web users".to_owned(), None), "{everything}");
        }
        for name in ["home", ":home", "web", "users"] {
            assert_eq!(machine.shows(name), only(name.trim_start_matches(':')), "{name}");
        }
        let (names, label) = machine.shows("lab");
        assert_eq!((names.join(" "), label.as_deref()), ("one two".to_owned(), Some("lab")));
        assert_eq!(machine.mean("home", &[]).unwrap().refresh.as_secs(), 7, "what is said of all holds");
        assert!(machine.mean("lab", &[]).unwrap().is_from_files, "it can be read again");
    }

    #[test]
    fn a_profile_stands_alone() {
        let machine = Machine::new();
        assert_eq!(machine.mean("lab", &[]).unwrap().refresh.as_secs(), 60);
        assert_eq!(machine.mean("lab", &["refresh=9s"]).unwrap().refresh.as_secs(), 9);
        fs::remove_file(machine.0.path().join("etc/config.toml")).unwrap();
        assert_eq!(machine.shows("lab").0.len(), 2, "no other file is needed");
        machine.file("home/.config/backupfs/mine.toml", "[[source]]\nurl = '/m'\n");
        assert_eq!(machine.shows("mine").0, ["m"], "a user has profiles of his own");
    }

    #[test]
    fn a_path_that_mount_made_of_a_word_means_the_word() {
        let machine = Machine::new();
        let at = |name: &str| {
            let path = machine.0.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        assert_eq!(machine.shows(at("here/home")), only("home"));
        assert_eq!(machine.shows(at("here/lab")).1.as_deref(), Some("lab"));
        // A repository of that name is itself.
        machine.file("repository/home/config", "x");
        let config = machine.mean(at("repository/home"), &[]).unwrap();
        assert_eq!(config.sources[0].location.as_path().unwrap(), machine.0.path().join("repository/home"));
        assert_eq!((config.label, config.is_from_files), (None, false));
        // Nothing was there to make a path of.
        let config = machine.mean("/no/such/home", &[]).unwrap();
        assert_eq!(config.sources[0].location.to_string(), "/no/such/home");
    }

    #[test]
    fn anything_else_is_a_repository() {
        let machine = Machine::new();
        fs::remove_file(machine.0.path().join("etc/config.toml")).unwrap();
        for spec in ["/srv/repo", "./repo", "s3:https://h.x/b", "sftp:u@h:/p", "rest:https://h.x/r"] {
            let config = machine.mean(spec, &[]).unwrap();
            assert_eq!(config.sources.len(), 1, "{spec}");
            assert!(!config.is_from_files, "{spec}");
        }
        let config = machine.mean("/srv/cback-*", &[]).unwrap();
        assert_eq!(config.groups.len(), 1);
    }

    #[test]
    fn what_could_mean_two_things_is_an_error() {
        let machine = Machine::new();
        machine.file("etc/home.toml", "[[source]]\nurl = '/x'\n");
        assert!(machine.refuses("home").contains("is a source and a profile"));
        machine.file("etc/all.toml", "[[source]]\nurl = '/x'\n");
        assert!(machine.refuses("all").contains("stands for all that is configured"));
        machine.file("etc/config.toml", "[[source]]\nurl = '/a/x'\n[[source]]\nurl = '/b/x'\n");
        assert!(machine.refuses("x").contains("several sources are called x"));
    }

    #[test]
    fn a_name_that_is_nobody_s_is_an_error_with_the_nearest() {
        let machine = Machine::new();
        let says = machine.refuses("hone");
        assert!(says.contains("is called \"hone\"") && says.contains("did you mean \"home\"?"), "{says}");
        assert!(says.contains("etc/config.toml"), "{says}");
        for spec in ["config", ".hidden", ""] {
            machine.refuses(spec);
        }
        // A file at fault is told of, whatever it is that is to be mounted.
        machine.file("etc/config.toml", "a = = 1\n");
        for spec in ["lab", "none", "home"] {
            assert!(machine.refuses(spec).contains("config.toml:1"), "{spec}");
        }
    }

    #[test]
    fn names_are_those_that_mean_one_thing() {
        let machine = Machine::new();
        machine.file("etc/web.toml", "");
        machine.file("etc/none.toml", "");
        machine.file("etc/notes.txt", "");
        let around = machine.around();
        assert_eq!(names(&Typed::default(), &around).unwrap(), ["home", "lab", "users"]);
    }

    #[test]
    fn another_configuration_has_its_own_names() {
        let machine = Machine::new();
        let file = machine.file("other/config.toml", "[[source]]\nname = 'far'\nurl = '/far'\n");
        machine.file("other/near.toml", "[[source]]\nurl = '/near'\n");
        let option = format!("config={}", file.display());
        for name in ["far", "near"] {
            assert_eq!(machine.mean(name, &[&option]).unwrap().label.as_deref(), Some(name));
        }
        assert!(machine.mean("home", &[&option]).is_err());
        let relative = machine.mean("home", &["config=config.toml"]).unwrap_err().to_string();
        assert_eq!(relative, "-o: config: must be an absolute path");
    }
}
