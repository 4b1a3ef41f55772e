//! `whimbrel completions` and `whimbrel man`: made from the same definition as `--help`, so that none can be
//! stale.

use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use whimbrel_core::policy::presets;
use whimbrel_lab::output::{FinishedFile, WholeFile};

use super::args::{Args, CompletionsArgs, ManArgs};
use super::failure::Failure;
use super::print;

/// Prints the completions of a shell.
pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    print(&script(args.shell)?)
}

/// Prints a manual page, or writes them all.
pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    if let Some(directory) = &args.out {
        return write(directory);
    }
    let program = program();
    match &args.command {
        None => print(&page(program)?),
        Some(name) => match commands(&program).into_iter().find(|command| command.get_name() == name) {
            Some(command) => print(&page(command)?),
            None => Err(unknown(name, &program)),
        },
    }
}

fn program() -> Command {
    let mut program = Args::command().disable_help_subcommand(true);
    program.build();
    program
}

/// The commands, each under the name of its page: `whimbrel-explain`.
fn commands(program: &Command) -> Vec<Command> {
    let named = |command: &Command| {
        let page = format!("{}-{}", program.get_name(), command.get_name());
        command.clone().display_name(page)
    };
    program.get_subcommands().map(named).collect()
}

fn script(shell: Shell) -> Result<String, Failure> {
    let (mut program, mut script) = (program(), Vec::new());
    clap_complete::generate(shell, &mut program, "whimbrel", &mut script);
    String::from_utf8(script).map_err(Failure::failed)
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

fn unknown(name: &str, program: &Command) -> Failure {
    let names: Vec<&str> = program.get_subcommands().map(Command::get_name).collect();
    let near = presets::nearest_name(name, names.iter().copied());
    let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let known = names.join(", ");
    Failure::BadInput(anyhow::anyhow!("no command `{name}`{near} There are {known}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELLS: [Shell; 5] = [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh];

    /// Every command with its flags, as the definition has them.
    fn flags() -> Vec<(String, Vec<String>)> {
        let program = program();
        let long = |command: &Command| {
            let names = command.get_arguments().filter(|argument| !argument.is_hide_set());
            names.filter_map(|argument| argument.get_long()).map(str::to_owned).collect()
        };
        program.get_subcommands().map(|command| (command.get_name().to_owned(), long(command))).collect()
    }

    #[test]
    fn completions_know_every_command_and_every_flag() {
        let flags = flags();
        assert!(flags.len() >= 7 && flags.iter().map(|(_, names)| names.len()).sum::<usize>() > 25);
        for shell in SHELLS {
            let script = script(shell).expect("a script");
            for (command, names) in &flags {
                assert!(script.contains(command.as_str()), "{shell}: no {command}");
                for name in names {
                    // Fish writes `-l seed`.
                    let known =
                        script.contains(&format!("--{name}")) || script.contains(&format!("-l {name}"));
                    assert!(known, "{shell}: no --{name} of {command}");
                }
            }
        }
    }

    #[test]
    fn every_command_has_a_page_with_all_its_flags() {
        let program = program();
        let flags = flags();
        let whole = page(program.clone()).expect("a page");
        for (command, (name, names)) in commands(&program).into_iter().zip(&flags) {
            assert!(whole.contains(&format!("whimbrel\\-{name}(1)")), "{name} is not named in whimbrel.1");
            let page = page(command).expect("a page");
            assert!(page.contains(&format!("whimbrel\\-{name}")), "{name}: {page}");
            for flag in names {
                let escaped = format!("\\-\\-{}", flag.replace('-', "\\-"));
                assert!(page.contains(&escaped), "{name}: no --{flag} in {page}");
            }
        }
    }

    #[test]
    fn an_unknown_command_is_answered_by_the_nearest() {
        let failure = unknown("expalin", &program());
        assert!(failure.message().is_some_and(|message| message.contains("`explain`")), "{failure:?}");
    }
}
