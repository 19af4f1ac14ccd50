//! `backupfs automap`: a map of autofs, made of the configuration.

use std::path::PathBuf;

use super::exit::Code;
use super::print;
use crate::config::{self, Typed};
use crate::error::{Error, Kind, Result};

/// Prints what autofs needs to mount a source or profile when somebody looks at it
///
/// With a key, what a program map is asked for; without one, a whole map, as a file could hold it. Names that hold other
/// characters than letters, digits, dots, dashes and underscores are no keys.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory that somebody looked for
    #[arg(allow_hyphen_values = true)]
    key: Option<String>,
    /// A configuration file [default: /etc/backupfs/config.toml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Args {
    /// Prints the entry of one key or of all. A key is what any user of the machine makes up.
    pub fn run(self) -> Result<Code> {
        if let Some(key) = self.key.as_deref().filter(|key| !is_key(key)) {
            let says = format!("\"{key}\" is no key: letters, digits, dots, dashes and underscores are");
            return Err(Error::new(Kind::Usage, says));
        }
        let mut names = config::names(&Typed { file: self.config.clone(), ..Typed::default() })?;
        names.retain(|name| is_key(name));
        let option = self.option()?;
        let text = match &self.key {
            Some(key) if names.contains(key) => entry(key, &option),
            Some(key) => {
                return Err(Error::new(Kind::Usage, format!("no source or profile is called \"{key}\"")));
            }
            None => names.iter().map(|name| format!("{name} {}", entry(name, &option))).collect(),
        };
        print::stdout(text.as_bytes())?;
        Ok(Code::Ok)
    }

    /// The option that names the configuration, where it is not the machine's.
    fn option(&self) -> Result<String> {
        let Some(file) = &self.config else { return Ok(String::new()) };
        let file = std::path::absolute(file).map_err(|e| Error::io("the configuration file", e))?;
        // The words of an entry are separated by blanks, options by commas, and what autofs puts in begins with & or $.
        let is_plain = |c: char| c.is_alphanumeric() || "/._-+@".contains(c);
        match file.to_str().filter(|file| file.chars().all(is_plain)) {
            Some(file) => Ok(format!(",config={file}")),
            None => Err(Error::new(Kind::Usage, "a map cannot name a configuration file of such a name")),
        }
    }
}

/// Whether a name can be a key: what it holds means nothing to autofs, to a shell or as an option.
fn is_key(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    name.bytes().all(is_plain) && !name.is_empty() && !name.starts_with(['.', '-'])
}

fn entry(key: &str, option: &str) -> String {
    format!("-fstype=backupfs,ro{option} :{key}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_nothing_to_anybody() {
        for key in ["home", "web-1", "a.b_c", "7"] {
            assert!(is_key(key), "{key}");
        }
        for key in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            ";id",
            "$(x)",
            "`x`",
            "-o",
            "-fstype=ext4",
            "a b",
            "a\nb",
            "&",
            "ä",
            "a,b",
            "a:b",
            "*",
        ] {
            assert!(!is_key(key), "{key:?}");
        }
    }

    #[test]
    fn the_configuration_is_named_unless_it_is_the_machine_s() {
        let option = |config: Option<&str>| Args { key: None, config: config.map(PathBuf::from) }.option();
        assert_eq!(option(None).unwrap(), "");
        assert_eq!(option(Some("/srv/b.toml")).unwrap(), ",config=/srv/b.toml");
        for odd in ["/srv/a b", "/srv/a,b", "/srv/&", "/srv/$x", "/srv/a\nb"] {
            assert!(option(Some(odd)).is_err(), "{odd}");
        }
    }
}
