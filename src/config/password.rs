//! Where a password comes from, and the bytes themselves, which nobody sees.

use std::fmt;

use zeroize::Zeroizing;

use crate::error::Result;

/// A password's bytes: wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Where the password of one source comes from.
#[derive(Clone, Debug, Default)]
pub struct Password {}

impl Secret {
    /// The bytes, to be wiped by whoever takes them.
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Password {
    /// The password for the source called `name` (`title` in messages); may run a command or ask on the terminal.
    pub fn read(&self, _name: &str, _title: &str) -> Result<Secret> {
        todo!()
    }
}
