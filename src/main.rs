//! The thin binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    convexinfra::cli::main(std::env::args_os().collect())
}
