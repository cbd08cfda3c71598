//! What a program says of itself and of each of its commands, from `--help` run for real.

use std::process::Command;

use camino::Utf8Path;

use crate::command;

/// The width that clap wraps at where there is no terminal, which is what the pages are made for.
const COLUMNS: &str = "100";

/// A command, and the commands below it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Help {
    /// With the program's name: `steading image ls`.
    pub(super) name: String,
    pub(super) text: String,
    pub(super) commands: Vec<Help>,
}

impl Help {
    /// What it is for: the first paragraph.
    pub(super) fn about(&self) -> &str {
        self.text.split("\n\n").next().unwrap_or_default()
    }

    /// This command, and all below it, each before those below it.
    pub(super) fn all(&self) -> Vec<&Help> {
        let mut all = vec![self];
        all.extend(self.commands.iter().flat_map(Help::all));
        all
    }
}

/// Asks a program, and goes on with each command that it names.
pub(super) fn of(program: &Utf8Path) -> anyhow::Result<Help> {
    ask(program, &[])
}

fn ask(program: &Utf8Path, words: &[&str]) -> anyhow::Result<Help> {
    let mut asked = Command::new(program);
    asked.args(words).arg("--help").env("COLUMNS", COLUMNS).env_remove("CLICOLOR_FORCE");
    let text = command::output(&mut asked)?;
    let mut commands = Vec::new();
    for name in commands_of(&text) {
        commands.push(ask(program, &[words, &[name]].concat())?);
    }
    let name = std::iter::once(program.file_name().unwrap_or_default()).chain(words.iter().copied());
    // An empty line of the help is padded to where its text begins.
    let text = text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    Ok(Help { name: name.collect::<Vec<_>>().join(" "), text, commands })
}

/// The names in the list that begins with `Commands:`; their descriptions may go on below them.
fn commands_of(text: &str) -> Vec<&str> {
    let list = text.lines().skip_while(|line| *line != "Commands:").skip(1);
    list.take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Tests.\n\nUsage: x [COMMAND]\n\nCommands:\n  run   Run them, which\n        goes on here\n  \
                        list  List them\n  help  Print this\n\nOptions:\n  -h, --help\n          Print help\n";

    #[test]
    fn commands_are_found_and_help_is_none() {
        assert_eq!(commands_of(TEXT), ["run", "list"]);
        assert!(commands_of("Run them.\n\nUsage: x run\n").is_empty());
    }

    #[test]
    fn a_command_says_what_it_is_for_and_comes_before_those_below_it() {
        let leaf = Help { name: "x run".to_owned(), text: "Run them.".to_owned(), commands: Vec::new() };
        let help = Help { name: "x".to_owned(), text: TEXT.to_owned(), commands: vec![leaf] };
        assert_eq!(help.about(), "Tests.");
        assert_eq!(help.all().iter().map(|help| help.name.as_str()).collect::<Vec<_>>(), ["x", "x run"]);
    }
}
