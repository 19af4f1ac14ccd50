//! Where a password comes from, and the bytes themselves, which nobody sees.
//!
//! Order: the service manager's credential of that name, what the configuration or the command line says, restic's
//! environment variables, the terminal. Never an argument: every user can read those.

use std::ffi::OsString;
use std::fmt;
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::{Zeroize, Zeroizing};

use super::command;
use crate::error::{Context, Error, Kind, Result};
use crate::locked::Locked;

/// A password's bytes: in locked memory, wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Locked<[u8]>);

/// Where the password of one source comes from. Clones share what was typed at a prompt.
#[derive(Clone, Debug, Default)]
pub struct Password {
    origin: Origin,
    /// Whose file it is: one that an administrator's configuration names has to be private.
    typed: bool,
}

/// Whether the same was said: what it leads to may be different by now.
impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        let is_same = match (&self.origin, &other.origin) {
            (Origin::Unsaid, Origin::Unsaid) => true,
            (Origin::Shared(one), Origin::Shared(other)) => Arc::ptr_eq(one, other),
            (Origin::File(one), Origin::File(other)) => one == other,
            (
                Origin::Command { line, member },
                Origin::Command { line: other_line, member: other_member },
            ) => (line, member) == (other_line, other_member),
            (Origin::Known(one), Origin::Known(other)) => one == other,
            _ => false,
        };
        is_same && self.typed == other.typed
    }
}

/// What was said about a password.
#[derive(Clone, Debug, Default)]
pub enum Origin {
    /// Nothing: the environment or the terminal tells.
    #[default]
    Unsaid,
    /// The first thing that one of several `-r` without a word on passwords finds out, the others use too.
    Shared(Arc<Mutex<Option<Secret>>>),
    /// A file holds it.
    File(PathBuf),
    /// A command prints it: `line`, in whose words `{member}` stands for `member`.
    Command {
        /// As it was said.
        line: String,
        /// Of whom.
        member: String,
    },
    /// This is it.
    Known(Secret),
}

/// No password is longer.
const LONGEST: usize = 64 << 10;

impl Secret {
    /// Takes the bytes as they are.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Secret(Locked::from(bytes.as_slice()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, where they are.
    pub fn into_locked(self) -> Locked<[u8]> {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Password {
    /// A password that comes from `origin`; `typed` when the command line says so, not a configuration file.
    pub(super) fn new(origin: Origin, typed: bool) -> Self {
        Password { origin, typed }
    }

    /// Whether nothing was said about it.
    pub(super) fn is_unsaid(&self) -> bool {
        matches!(self.origin, Origin::Unsaid)
    }

    /// A password that was read already.
    pub fn known(secret: Secret) -> Self {
        Password { origin: Origin::Known(secret), typed: true }
    }

    /// The file that it is in, if it was said to be in one.
    pub fn file(&self) -> Option<&Path> {
        match &self.origin {
            Origin::File(file) => Some(file),
            _ => None,
        }
    }

    /// Whether a program tells it.
    pub fn is_command(&self) -> bool {
        matches!(self.origin, Origin::Command { .. })
    }

    /// The bytes of a password that was read already.
    pub fn known_bytes(&self) -> Option<&[u8]> {
        match &self.origin {
            Origin::Known(secret) => Some(secret.as_bytes()),
            _ => None,
        }
    }

    /// Reads what was said; where nothing was and the service manager left none for `name`, it stays unsaid.
    /// Errors: as [`Password::read`].
    pub(super) fn settle(&mut self, name: &str) -> Result<()> {
        if !self.is_unsaid() || credential(std::env::var_os("CREDENTIALS_DIRECTORY"), name).is_some() {
            *self = Password::known(self.read(name, name)?);
        }
        Ok(())
    }

    /// The password for the source called `name` (`title` in messages); may run a command or ask on the terminal.
    /// Errors: `Password` when there is none, `Denied` when a file of it is readable by others.
    pub fn read(&self, name: &str, title: &str) -> Result<Secret> {
        if let Origin::Known(secret) = &self.origin {
            return Ok(secret.clone());
        }
        if let Some(file) = credential(std::env::var_os("CREDENTIALS_DIRECTORY"), name) {
            return from_file(&file, true);
        }
        let secret = match &self.origin {
            Origin::Known(secret) => secret.clone(),
            Origin::File(file) => from_file(file, self.typed)?,
            Origin::Command { line, member } => from_command(line, member)?,
            Origin::Unsaid => unsaid(title)?,
            Origin::Shared(first) => {
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                match &*first {
                    Some(secret) => secret.clone(),
                    None => first.insert(unsaid(title)?).clone(),
                }
            }
        };
        if secret.0.is_empty() {
            return Err(Error::new(Kind::Password, "the password is empty"));
        }
        Ok(secret)
    }
}

/// The file in which the service manager left the password of `name`, if it did.
fn credential(directory: Option<OsString>, name: &str) -> Option<PathBuf> {
    let file = PathBuf::from(directory.filter(|d| !d.is_empty())?).join(format!("{name}.password"));
    (!name.contains('/') && file.is_file()).then_some(file)
}

/// What restic's environment variables say, else what is typed on the terminal.
fn unsaid(title: &str) -> Result<Secret> {
    let said = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(line) = said("RESTIC_PASSWORD_COMMAND") {
        return from_command(&line.to_string_lossy(), "").context(|| "RESTIC_PASSWORD_COMMAND");
    }
    if let Some(file) = said("RESTIC_PASSWORD_FILE") {
        return from_file(Path::new(&file), true).context(|| "RESTIC_PASSWORD_FILE");
    }
    if let Some(password) = said("RESTIC_PASSWORD") {
        return Ok(Secret::new(Zeroizing::new(password.into_vec())));
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::new(
            Kind::Password,
            "no password: use --password-file, --password-command, or restic's RESTIC_PASSWORD_FILE",
        ));
    }
    let typed = rpassword::prompt_password(format!("password of {title}: "))
        .map_err(|e| Error::io("cannot ask for the password", e).with_kind(Kind::Password))?;
    Ok(Secret::new(Zeroizing::new(typed.into_bytes())))
}

/// The password in `file`. Unless `typed`, a file that others can read is refused; restic's own users keep theirs as
/// they like.
fn from_file(file: &Path, typed: bool) -> Result<Secret> {
    let failed = |e| Error::io(format!("password file {}", file.display()), e);
    let open = std::fs::File::open(file).map_err(failed)?;
    let meta = open.metadata().map_err(failed)?;
    if meta.is_file() && (meta.mode() & 0o077 != 0 || !owner_is_trusted(meta.uid())) {
        if !typed {
            let says = format!("password file {} must be its owner's alone (chmod 600)", file.display());
            return Err(Error::new(Kind::Denied, says));
        }
        tracing::info!(file = %file.display(), "others can read this password file");
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    open.take(LONGEST as u64).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Secret::new(clean(&bytes)))
}

/// Whether what belongs to `uid` is nobody else's to change: root's, or ours.
pub(super) fn owner_is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

fn from_command(line: &str, member: &str) -> Result<Secret> {
    let bytes = command::output(line, member, LONGEST as u64).context(|| "password command")?;
    Ok(Secret::new(clean(&bytes)))
}

/// The password that a file holds, as restic reads it: UTF-16 with a byte order mark becomes UTF-8, the mark and white
/// space around the text go, other bytes stay.
fn clean(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let decoded = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => Zeroizing::new(rest.to_vec()),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        plain => Zeroizing::new(plain.to_vec()),
    };
    Zeroizing::new(trimmed(&decoded).to_vec())
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Zeroizing<Vec<u8>> {
    let (pairs, _) = bytes.as_chunks::<2>();
    let units = Zeroizing::new(pairs.iter().map(|pair| unit(*pair)).collect::<Vec<u16>>());
    let mut text = String::from_utf16_lossy(&units);
    let bytes = Zeroizing::new(text.as_bytes().to_vec());
    text.zeroize();
    bytes
}

/// Without the white space at both ends; bytes that are no text are none.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let head = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let bytes = bytes.get(head.len() - head.trim_start().len()..).unwrap_or_default();
    let tail = bytes
        .utf8_chunks()
        .last()
        .filter(|chunk| chunk.invalid().is_empty())
        .map_or("", |chunk| chunk.valid());
    bytes.get(..bytes.len() - (tail.len() - tail.trim_end().len())).unwrap_or_default()
}

/// Where the password of every `-r` without a word on passwords comes from.
pub(super) fn shared() -> Origin {
    Origin::Shared(Arc::default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(bytes: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("home.password");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn files_are_cleaned_as_restic_does() {
        for (bytes, password) in [
            (&b"secret\n"[..], &b"secret"[..]),
            (b"  \t secret word \r\n\n", b"secret word"),
            (b"\xef\xbb\xbfsecret\n", b"secret"),
            (b"\xff\xfes\0\xe9\0\n\0", "sé".as_bytes()),
            (b"\xfe\xff\0s\0\xe9\0\n", "sé".as_bytes()),
            (b" \xff\xffa \n", b"\xff\xffa"),
            (b"\n\xffa\xff", b"\xffa\xff"),
            ("\u{a0}x\u{2003}\n".as_bytes(), b"x"),
            (b"", b""),
            (b" \n", b""),
            (b"a\0b", b"a\0b"),
        ] {
            assert_eq!(clean(bytes).as_slice(), password, "{bytes:?}");
        }
    }

    #[test]
    fn a_configured_file_must_be_private_and_a_typed_one_need_not() {
        let (_dir, path) = file(b"x\n", 0o644);
        assert_eq!(from_file(&path, true).unwrap().as_bytes(), b"x");
        let error = from_file(&path, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(from_file(&path, false).unwrap().as_bytes(), b"x");
    }

    #[test]
    fn an_empty_or_missing_password_is_an_error() {
        let (dir, path) = file(b"\n", 0o600);
        let read = |path: PathBuf| Password::new(Origin::File(path), true).read("n", "t").unwrap_err();
        assert_eq!(read(path).kind(), Kind::Password);
        let missing = read(dir.path().join("absent"));
        assert!(missing.to_string().contains("absent: No such file"), "{missing}");
    }

    #[test]
    fn credentials_are_found_by_the_source_s_name() {
        let (dir, path) = file(b"x", 0o600);
        let directory = || Some(dir.path().as_os_str().to_owned());
        assert_eq!(credential(directory(), "home"), Some(path));
        assert_eq!(credential(directory(), "other"), None);
        assert_eq!(credential(directory(), "../home"), None);
        assert_eq!(credential(None, "home"), None);
        assert_eq!(credential(Some(OsString::new()), "home"), None);
    }

    #[test]
    fn commands_run_and_their_output_is_cleaned() {
        let password = Password::new(
            Origin::Command { line: "printf ' %s \\n' 's3cret word'".into(), member: String::new() },
            true,
        );
        assert_eq!(password.read("n", "t").unwrap().as_bytes(), b"s3cret word");
    }

    #[test]
    fn nothing_prints_a_password() {
        let password = Password::known(Secret::new(Zeroizing::new(b"hunter2".to_vec())));
        assert!(!format!("{password:?}").contains("hunter2"));
        assert_eq!(password.read("n", "t").unwrap().as_bytes(), b"hunter2");
    }
}
