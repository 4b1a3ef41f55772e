//! The arguments of `whimbrel completions` and `whimbrel man`.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use clap_complete::Shell;

/// Print what a shell needs to complete whimbrel's commands and flags.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel completions bash > ~/.local/share/bash-completion/completions/whimbrel
  whimbrel completions zsh > ~/.zfunc/_whimbrel
  whimbrel completions fish > ~/.config/fish/completions/whimbrel.fish

docs/install.md says where each shell looks.")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Print the manual page of whimbrel or of one of its commands, or write all of them.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  whimbrel man | man -l -
  whimbrel man explain | man -l -
  whimbrel man --out ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The command, such as explain or trace import; without one, whimbrel itself.
    pub(crate) command: Vec<String>,
    /// Writes whimbrel.1 and a page for every command into this directory, made if it does not exist.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub(crate) out: Option<PathBuf>,
}
