//! The thin binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next();
    if words.next().is_some_and(|word| word == "simulate-backend") {
        return ExitCode::from(convexinfra::simulator::main_with(program.into_iter().chain(words)));
    }
    ExitCode::from(64)
}
