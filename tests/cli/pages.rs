//! `whimbrel completions` and `whimbrel man`: what a shell and `man` are given.

use std::process::{Command, Stdio};

use crate::run::Fresh;

/// Whether a program can be started here.
fn there_is(program: &str) -> bool {
    let started = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    started.is_ok_and(|status| status.success())
}

/// What `--help` says there is.
fn commands(fresh: &Fresh) -> Vec<String> {
    let help = fresh.ok(&["--help"]);
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let first = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = first.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    names.filter(|name| name != "help").collect()
}

#[test]
fn bash_completes_commands_and_flags() {
    let fresh = Fresh::new();
    fresh.write("whimbrel.bash", fresh.ok(&["completions", "bash"]));
    if !there_is("bash") {
        return;
    }
    let complete = |words: &str, current: usize| {
        let script = format!(
            "source whimbrel.bash; COMP_WORDS=({words}); COMP_CWORD={current}; _whimbrel whimbrel \
             \"${{COMP_WORDS[{current}]}}\" \"${{COMP_WORDS[{current}-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut command = Command::new("bash");
        let output =
            command.args(["--norc", "-c", &script]).current_dir(fresh.path(".")).output().expect("bash");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete("whimbrel ex", 1), ["explain"]);
    for flag in ["--at", "--against", "--cell", "--plot"] {
        assert!(complete("whimbrel explain --", 2).contains(&flag.to_owned()), "{flag}");
    }
    assert_eq!(complete("whimbrel simulate --format js", 3), ["json"]);
    for words in
        ["whimbrel policies xen-c", "whimbrel compare --policy xen-c", "whimbrel explain --against xen-c"]
    {
        assert_eq!(complete(words, words.split(' ').count() - 1), ["xen-classic"], "{words}");
    }
    for words in ["whimbrel compare mem", "whimbrel simulate mem", "whimbrel tune xen-5 --over mem"] {
        assert_eq!(complete(words, words.split(' ').count() - 1), ["memory-bomb"], "{words}");
    }
}

#[test]
fn every_shell_is_given_something_with_every_command() {
    let fresh = Fresh::new();
    let commands = commands(&fresh);
    assert!(commands.iter().any(|name| name == "explain") && commands.len() >= 7, "{commands:?}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = fresh.ok(&["completions", shell]);
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell}: no {command}");
        }
    }
    let ended = fresh.run(&["completions", "csh"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("csh") && ended.err.contains("zsh"), "{}", ended.err);
}

#[test]
fn a_manual_page_is_printed_or_all_are_written() {
    let fresh = Fresh::new();
    let page = fresh.ok(&["man", "explain"]);
    assert!(page.contains(".TH whimbrel-explain 1") && page.contains("\\-\\-against"), "{page}");
    fresh.ok(&["man", "--out", "share/man1"]);
    let written = fresh.names();
    for name in commands(&fresh) {
        assert!(written.contains(&format!("share/man1/whimbrel-{name}.1")), "{name}: {written:?}");
    }
    // Commands that have commands of their own have a page for each.
    assert!(written.iter().any(|name| name.starts_with("share/man1/whimbrel-trace-")), "{written:?}");
    assert_eq!(fresh.read("share/man1/whimbrel-explain.1"), page);
    assert_eq!(fresh.read("share/man1/whimbrel.1"), fresh.ok(&["man"]));
    let ended = fresh.run(&["man", "expalin"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("`explain`"), "{}", ended.err);
}
