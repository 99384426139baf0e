//! The thin binary: everything is in the library.

use std::path::Path;
use std::process::ExitCode;

// No runtime and no threads before `detach`: it becomes another program and has to keep its lock.
fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next();
    match words.next().as_deref().and_then(|word| word.to_str()) {
        Some("detach") => {
            let run = words.next().unwrap_or_default();
            ExitCode::from(convexinfra::provider::process::detach_main(Path::new(&run)))
        }
        Some("simulate-backend") => ExitCode::from(convexinfra::simulator::main_with(program.into_iter().chain(words))),
        _ => ExitCode::from(convexinfra::model::Exit::Usage.code()),
    }
}
