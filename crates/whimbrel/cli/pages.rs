//! `whimbrel man`: made from the same definition as `--help`, so that none can be stale.

use std::path::Path;

use clap::Command;
use clap_mangen::Man;
use whimbrel_core::policy::presets;
use whimbrel_lab::output::{FinishedFile, WholeFile};

use super::args::{self, ManArgs};
use super::failure::Failure;
use super::print;

/// Prints a manual page, or writes them all.
pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    if let Some(directory) = &args.out {
        return write(directory);
    }
    let program = program();
    if args.command.is_empty() {
        return print(&page(program)?);
    }
    let name = args.command.join("-");
    match commands(&program).into_iter().find(|command| command.get_display_name() == Some(&page_name(&name)))
    {
        Some(command) => print(&page(command)?),
        None => Err(unknown(&args.command, &program)),
    }
}

pub(super) fn program() -> Command {
    let mut program = args::command().disable_help_subcommand(true);
    program.build();
    program
}

/// The commands and theirs, each under the name of its page: `whimbrel-explain`, `whimbrel-trace-import`.
fn commands(program: &Command) -> Vec<Command> {
    fn below(command: &Command, name: &str, into: &mut Vec<Command>) {
        for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = format!("{name}-{}", command.get_name());
            into.push(command.clone().display_name(&name));
            below(command, &name, into);
        }
    }
    let mut commands = Vec::new();
    below(program, program.get_name(), &mut commands);
    commands
}

fn page_name(command: &str) -> String {
    format!("whimbrel-{command}")
}

fn page(command: Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    let source = format!("whimbrel {}", env!("CARGO_PKG_VERSION"));
    Man::new(command).source(source).manual("Whimbrel").render(&mut page).map_err(Failure::failed)?;
    String::from_utf8(page).map_err(Failure::failed)
}

/// All or none.
fn write(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).map_err(|source| {
        Failure::Failed(anyhow::Error::new(source).context(format!("cannot make {}", directory.display())))
    })?;
    let program = program();
    let mut pages = vec![("whimbrel.1".to_owned(), page(program.clone())?)];
    for command in commands(&program) {
        let name = command.get_display_name().unwrap_or_default().to_owned();
        pages.push((format!("{name}.1"), page(command)?));
    }
    let written = pages.iter().map(|(name, text)| {
        let mut file = WholeFile::create(&directory.join(name))?;
        file.write(text)?;
        file.finish()
    });
    let finished = written.collect::<Result<Vec<_>, _>>().map_err(Failure::failed)?;
    let published = finished.into_iter().map(FinishedFile::publish).collect::<Result<Vec<_>, _>>();
    published.map(drop).map_err(Failure::failed)
}

fn unknown(command: &[String], program: &Command) -> Failure {
    let names: Vec<String> = commands(program)
        .iter()
        .filter_map(|command| Some(command.get_display_name()?.strip_prefix("whimbrel-")?.replace('-', " ")))
        .collect();
    let name = command.join(" ");
    let near = presets::nearest_name(&name, names.iter().map(String::as_str));
    let near = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
    Failure::BadInput(anyhow::anyhow!("there is no command `{name}`{near}; there are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;
    use crate::cli::completions::script;

    const SHELLS: [Shell; 5] = [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh];

    /// The flags of a command, as the definition has them.
    fn flags(command: &Command) -> Vec<String> {
        let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
        shown.filter_map(|argument| argument.get_long()).map(str::to_owned).collect()
    }

    #[test]
    fn completions_know_every_command_and_every_flag() {
        let commands = commands(&program());
        assert!(commands.len() >= 8 && commands.iter().flat_map(flags).count() > 25);
        for shell in SHELLS {
            let script = script(shell).expect("a script");
            for command in &commands {
                let name = command.get_name();
                assert!(script.contains(name), "{shell}: no {name}");
                for flag in flags(command) {
                    // Fish writes `-l seed`.
                    let known =
                        script.contains(&format!("--{flag}")) || script.contains(&format!("-l {flag}"));
                    assert!(known, "{shell}: no --{flag} of {name}");
                }
            }
        }
    }

    #[test]
    fn every_command_has_a_page_with_all_its_flags() {
        let program = program();
        let whole = page(program.clone()).expect("a page");
        let escaped = |text: &str| text.replace('-', "\\-");
        for command in program.get_subcommands() {
            let name = escaped(&format!("whimbrel-{}(1)", command.get_name()));
            assert!(whole.contains(&name), "{name} is not named in whimbrel.1");
        }
        for command in commands(&program) {
            let (name, flags) = (command.get_display_name().unwrap_or_default().to_owned(), flags(&command));
            let page = page(command).expect("a page");
            assert!(page.contains(&escaped(&name)), "{name}: {page}");
            for flag in flags {
                assert!(page.contains(&escaped(&format!("--{flag}"))), "{name}: no --{flag} in {page}");
            }
        }
    }

    #[test]
    fn an_unknown_command_is_answered_by_the_nearest() {
        let failure = unknown(&["expalin".to_owned()], &program());
        assert!(failure.message().is_some_and(|message| message.contains("`explain`")), "{failure:?}");
    }
}
