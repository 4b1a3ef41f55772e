//! `whimbrel completions`: made from the same definition as `--help`, and from the names of presets and workloads.
//!
//! Where a name or a file may stand, both are offered. Bash falls back on files when no name fits; what zsh and fish
//! need for that is added to what clap makes.

use std::fmt::Write as _;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use clap_complete::Shell;
use whimbrel_core::policy::presets::PRESETS;
use whimbrel_lab::workloads::{self, Set};

use super::args::CompletionsArgs;
use super::failure::Failure;
use super::pages::program;
use super::print;

/// Prints the completions of a shell.
pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    print(&script(args.shell)?)
}

/// The names that an argument takes.
#[derive(Clone, Copy, PartialEq)]
enum Names {
    Presets,
    Workloads,
}

impl Names {
    fn of(arg: &Arg) -> Option<Self> {
        match arg.get_id().as_str() {
            "policy" | "policies" | "against" => Some(Self::Presets),
            // Of `policies`; elsewhere it is an option, and anything.
            "name" if arg.is_positional() => Some(Self::Presets),
            "scenario" | "scenarios" | "run" | "over" | "hold_out" => Some(Self::Workloads),
            _ => None,
        }
    }

    fn list(self) -> Vec<&'static str> {
        match self {
            Self::Presets => PRESETS.iter().map(|preset| preset.name).collect(),
            Self::Workloads => {
                workloads::names().map(|(_, name)| name).chain(Set::ALL.map(Set::name)).collect()
            }
        }
    }

    /// The function of zsh that offers them and files.
    const fn function(self) -> &'static str {
        match self {
            Self::Presets => "_whimbrel_policies",
            Self::Workloads => "_whimbrel_workloads",
        }
    }
}

pub(super) fn script(shell: Shell) -> Result<String, Failure> {
    let mut program = program();
    if shell == Shell::Bash {
        program = with_values(program);
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, "whimbrel", &mut script);
    let script = String::from_utf8(script).map_err(Failure::failed)?;
    Ok(match shell {
        Shell::Zsh => zsh(&script, &program),
        Shell::Fish => script + &fish(&program),
        _ => script,
    })
}

/// Offered by bash as possible values; nothing is read with this definition.
fn with_values(command: Command) -> Command {
    let named = |arg: Arg| match Names::of(&arg) {
        Some(names) => arg.value_parser(PossibleValuesParser::new(names.list())),
        None => arg,
    };
    command.mut_args(named).mut_subcommands(with_values)
}

/// Every argument of every command that takes names.
fn named(command: &Command) -> Vec<(&Command, &Arg, Names)> {
    let own = command.get_arguments().filter_map(|arg| Some((command, arg, Names::of(arg)?)));
    own.chain(command.get_subcommands().flat_map(named)).collect()
}

/// Its lines end in what completes the value: files, or nothing in particular.
fn zsh(script: &str, program: &Command) -> String {
    let all = named(program);
    let names_of = |line: &str| {
        let hit = |arg: &Arg| match arg.get_long() {
            Some(long) => line.contains(&format!("--{long}=[")),
            None => [":", "::", "*:", "*::"]
                .iter()
                .any(|mark| line.starts_with(&format!("'{mark}{} -- ", arg.get_id()))),
        };
        all.iter().find(|(_, arg, _)| hit(arg)).map(|(_, _, names)| *names)
    };
    let mut text = String::new();
    for line in script.lines() {
        let ends = [":_files' \\", ":_default' \\"];
        let end = ends.iter().find(|end| line.ends_with(**end)).zip(names_of(line));
        match end {
            Some((end, names)) => {
                let _ = writeln!(text, "{}:{}' \\", &line[..line.len() - end.len()], names.function());
            }
            None => {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    let functions = [Names::Presets, Names::Workloads].map(|names| {
        let list = names.list().join(" ");
        format!("{}() {{ _alternative 'names:name:({list})' 'files:file:_files' }}\n", names.function())
    });
    // Before it calls itself.
    match text.rfind("if [ \"$funcstack[1]\"") {
        Some(at) => text.insert_str(at, &format!("{}\n", functions.concat())),
        None => text.push_str(&functions.concat()),
    }
    text
}

/// Lines that add names to those that complete files.
fn fish(program: &Command) -> String {
    let mut text = String::new();
    for (command, arg, names) in named(program) {
        // `trace record` is known by its last word.
        let of = match command.get_name() {
            "record" => "trace; and __fish_seen_subcommand_from record",
            name => name,
        };
        let option = arg.get_long().map_or_else(String::new, |long| format!(" -l {long} -r"));
        let list = names.list().join(" ");
        let _ = writeln!(
            text,
            "complete -c whimbrel -n \"__fish_whimbrel_using_subcommand {of}\"{option} -a \"{list}\""
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_that_takes_names_is_offered_them() {
        let program = program();
        let all = named(&program);
        assert!(all.len() >= 14, "{}", all.len());
        let (zsh, fish) = (script(Shell::Zsh).expect("zsh"), script(Shell::Fish).expect("fish"));
        for names in [Names::Presets, Names::Workloads] {
            let count = all.iter().filter(|(_, _, of)| *of == names).count();
            // Once more where the function is.
            assert_eq!(zsh.matches(names.function()).count(), count + 1, "{}", names.function());
            assert_eq!(fish.matches(&format!("-a \"{}\"", names.list().join(" "))).count(), count);
        }
    }
}
