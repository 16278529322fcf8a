//! Picks the role of this process before any thread or async runtime exists.

fn main() -> std::process::ExitCode {
    wharf::cli::main(std::env::args_os())
}
