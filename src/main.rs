//! Picks the role of this process before any thread or async runtime exists: a supervisor that executed itself, or the
//! command line.
//!
//! SIGPIPE stays ignored, as Rust has it: a command whose reader went away sees an error that it takes for its end,
//! and no broken connection ends a supervisor. A container's process gets the default dispositions from the runtime.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = wharf::supervise::take_role(&arguments) {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    wharf::cli::main(arguments)
}
