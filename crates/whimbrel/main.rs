//! The program `whimbrel`. What it does is in [`cli`]; what it does it with is the library.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
