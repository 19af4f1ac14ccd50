//! `backupfs completions`.

use super::exit::Code;
use super::print;
use crate::error::Result;

/// Prints completions for a shell
///
/// For bash: backupfs completions bash > /etc/bash_completion.d/backupfs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which shell
    shell: clap_complete::Shell,
}

impl Args {
    /// Prints the script.
    pub fn run(self) -> Result<Code> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "backupfs", &mut script);
        print::stdout(&script)?;
        Ok(Code::Ok)
    }
}
