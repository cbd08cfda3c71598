//! `cargo xtask setup`: makes a Debian 12 machine ready, and says nothing when it is.
//!
//! Each part looks at the machine and gives the [`Step`]s that are missing; this module takes them:
//! directly as root, through sudo otherwise. Where there is neither, it prints them, for somebody
//! who may. So what is done and what is advised cannot differ.

mod account;
mod devices;
mod packages;

use std::{
    io::IsTerminal as _,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, bail};

use crate::{command, error::Advise as _, place, user};

/// One thing that is missing on the machine, and the commands that bring it about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// What is done, as in "installing ovmf".
    what: String,
    commands: Vec<Vec<String>>,
    need: Need,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing works without it.
    Must,
    /// Things are slower, or done in another way, without it.
    May,
}

impl Step {
    fn new(what: impl Into<String>, need: Need, commands: &[&[&str]]) -> Step {
        let words = |command: &&[&str]| command.iter().map(|&word| word.to_owned()).collect();
        Step { what: what.into(), commands: commands.iter().map(words).collect(), need }
    }

    /// The commands, as one would type them.
    fn typed(&self) -> impl Iterator<Item = String> {
        self.commands
            .iter()
            .map(|words| words.iter().map(|word| command::quote(word)).collect::<Vec<_>>().join(" "))
    }
}

/// By what right steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Root,
    /// `asks`: it may ask for a password, as there is a terminal.
    Sudo {
        asks: bool,
    },
    None,
}

impl Right {
    fn find() -> Right {
        if user::is_root() {
            return Right::Root;
        }
        let silent = Command::new("sudo")
            .args(["-n", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match silent {
            Ok(status) if status.success() => Right::Sudo { asks: false },
            Ok(_) if std::io::stdin().is_terminal() => Right::Sudo { asks: true },
            _ => Right::None,
        }
    }

    fn command(self, words: &[String]) -> Command {
        let mut command = match self {
            Right::Sudo { asks } => {
                let mut sudo = Command::new("sudo");
                sudo.args(if asks { &[][..] } else { &["-n"] });
                sudo.args(words);
                sudo
            }
            Right::Root | Right::None => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            }
        };
        command.stdin(if self == (Right::Sudo { asks: true }) { Stdio::inherit() } else { Stdio::null() });
        command
    }
}

/// The command `setup`.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    ensure()?;
    Ok(ExitCode::SUCCESS)
}

/// Looks for what is missing and brings it about.
pub(crate) fn ensure() -> anyhow::Result<()> {
    let clone = place::clone();
    // Found out when something is missing, and only then: sudo may be logged, or ask.
    let mut right = None;
    let mut left = Vec::new();
    // In this order: what one brings, the next may need (modprobe, useradd).
    let parts: [&dyn Fn() -> anyhow::Result<Vec<Step>>; 5] = [
        &|| packages::missing_lists(&clone),
        &|| packages::missing(&clone),
        &devices::missing,
        &account::missing,
        &account::lacking_rights,
    ];
    for part in parts {
        let steps = part()?;
        if steps.is_empty() {
            continue;
        }
        let right = *right.get_or_insert_with(Right::find);
        for step in steps {
            match right {
                // Parts that could not be taken one after the other may name the same step.
                Right::None if left.contains(&step) => {}
                Right::None => left.push(step),
                _ => take(&step, right)?,
            }
        }
    }
    advise(&left)
}

fn take(step: &Step, right: Right) -> anyhow::Result<()> {
    eprintln!("setup: {}", step.what);
    for words in &step.commands {
        let attempt = || command::output(&mut right.command(words)).with_context(|| step.what.clone());
        let mut done = attempt();
        if done.is_err() && packages::is_install(words) {
            // Lists of some age name versions that the mirror no longer has.
            take(&packages::update(), right)?;
            done = attempt();
        }
        match (done, step.need) {
            (Ok(_), _) => {}
            (Err(error), Need::Must) => return Err(error).hint(hint_on(&words[0])),
            (Err(error), Need::May) => {
                eprintln!("setup: going on without that: {error:#}");
                break;
            }
        }
    }
    Ok(())
}

fn hint_on(program: &str) -> &'static str {
    match program {
        "env" => "are the package sources in /etc/apt right, and is there a network?",
        _ => "in a container, give it the devices: --device /dev/net/tun --device /dev/kvm",
    }
}

/// Says what to run to somebody who may not.
fn advise(steps: &[Step]) -> anyhow::Result<()> {
    let must: Vec<&Step> = steps.iter().filter(|step| step.need == Need::Must).collect();
    for step in steps.iter().filter(|step| step.need == Need::May) {
        let typed: Vec<String> = step.typed().collect();
        eprintln!("setup: going on without {}; as root: {}", step.what, typed.join(" && "));
    }
    if must.is_empty() {
        return Ok(());
    }
    let mut text =
        "this takes root, and there is no sudo to be had without a password. As root, run:".to_owned();
    for step in must {
        text.push_str("\n  # ");
        text.push_str(&step.what);
        for line in step.typed() {
            text.push_str("\n  ");
            text.push_str(&line);
        }
    }
    let failed: anyhow::Result<()> = (|| bail!("the machine is not ready"))();
    failed.hint(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(need: Need) -> Step {
        Step::new(
            "opening /dev/net/tun",
            need,
            &[&["sh", "-c", "modprobe tun; true"], &["chmod", "0666", "x"]],
        )
    }

    #[test]
    fn a_step_is_typed_as_a_shell_takes_it() {
        let typed: Vec<String> = step(Need::Must).typed().collect();
        assert_eq!(typed, ["sh -c 'modprobe tun; true'", "chmod 0666 x"]);
    }

    #[test]
    fn whoever_may_not_is_told_what_to_run() {
        let error = advise(&[step(Need::Must)]).expect_err("it must be done");
        assert_eq!(error.to_string(), "the machine is not ready");
        assert!(advise(&[step(Need::May)]).is_ok());
        assert!(advise(&[]).is_ok());
    }

    #[test]
    fn a_step_that_fails_is_an_error_only_when_it_must_be_done() {
        let fails = |need| Step::new("failing", need, &[&["false"]]);
        assert!(take(&fails(Need::Must), Right::Root).is_err());
        assert!(take(&fails(Need::May), Right::Root).is_ok());
    }
}
