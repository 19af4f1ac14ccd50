//! The restic repository format: cryptography and parsing, pure functions over bytes. No I/O.
