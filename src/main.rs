//! Parses the command line, runs the verb, prints the error chain, exits.

fn main() -> std::process::ExitCode {
    backupfs::cli::main()
}
