//! Picks the role of this process before any thread or async runtime exists: a supervisor that executed itself, or the
//! command line.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = wharf::supervise::take_role(&arguments) {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    wharf::cli::main(arguments)
}
