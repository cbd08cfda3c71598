//! What a simulated machine does, as text.
//!
//! ```text
//! #!steading-simulated
//! print Linux version 6.1
//! wait 200ms
//! print n1 login:
//! power-off takes 50ms
//! on "uname" print Linux
//! on "crash" panic
//! boot 1: die 3
//! ```
//!
//! The first line says that it is a script; a machine that boots any other file prints that it boots, and a
//! prompt. Each further line is a step, and steps happen one after another, from the first at each boot. A step
//! behind `boot N:` happens in that boot alone. Lines that begin with `#` are comments.
//!
//! | step | effect |
//! | --- | --- |
//! | `print TEXT` | writes a line on the console |
//! | `wait TIME` | does nothing for that long (`200ms`, `1.5s`) |
//! | `panic` | the kernel panics and says so; nothing more happens by itself |
//! | `power-off` | the guest powers off |
//! | `reset` | the guest boots again |
//! | `suspend`, `wake` | the guest suspends itself, and goes on |
//! | `die STATUS` | the machine ends as a program that fails |
//! | `ignore power-button`, `use power-button` | the power button has no effect from now on, or has one again |
//! | `power-off takes TIME` | how long a press of the power button takes from now on |
//! | `on "TEXT" STEP` | from now on that step happens when this line is typed on the console |

use std::time::Duration;

use thiserror::Error;

/// How a script begins.
const MARK: &str = "#!steading-simulated";

/// The longest wait that is taken for one, in seconds: a year.
const WAIT_MAX: f64 = 365.0 * 86400.0;

/// A script.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Script {
    steps: Vec<(Option<u32>, ScriptStep)>,
}

/// One step of a script.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ScriptStep {
    Print(String),
    Wait(Duration),
    Panic,
    PowerOff,
    Reset,
    Suspend,
    Wake,
    Die(i32),
    UseButton(bool),
    PowerOffTakes(Duration),
    On(String, Box<ScriptStep>),
}

/// A script that makes no sense.
#[derive(Debug, Error, PartialEq)]
#[error("line {line} of its script: {why}: {text:?}\nhint: docs/design/simulated.md lists the steps")]
pub(super) struct ScriptError {
    line: usize,
    text: String,
    why: &'static str,
}

impl Script {
    /// Reads a script. A file that is none stands for a machine that boots without incident.
    pub(super) fn parse(vm: &str, bytes: &[u8]) -> Result<Self, ScriptError> {
        let is_script = bytes.starts_with(MARK.as_bytes());
        let Some(text) = std::str::from_utf8(bytes).ok().filter(|_| is_script) else {
            let said = ["Linux version 0 (simulated)".to_owned(), format!("{vm} login:")];
            return Ok(Self { steps: said.map(|line| (None, ScriptStep::Print(line))).into() });
        };
        let lines = (1..).zip(text.lines()).skip(1).map(|(line, text)| (line, text.trim()));
        let lines = lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'));
        let steps = lines.map(|(line, text)| {
            numbered(text).map_err(|why| ScriptError { line, text: text.to_owned(), why })
        });
        Ok(Self { steps: steps.collect::<Result<_, _>>()? })
    }

    /// The step at this place, in this boot.
    pub(super) fn step(&self, boot: u32, at: usize) -> Option<ScriptStep> {
        let steps = self.steps.iter().filter(|(only, _)| only.is_none_or(|only| only == boot));
        steps.map(|(_, step)| step).nth(at).cloned()
    }
}

fn numbered(text: &str) -> Result<(Option<u32>, ScriptStep), &'static str> {
    match text.strip_prefix("boot ").and_then(|rest| rest.split_once(':')) {
        Some((number, rest)) => {
            let number = number.trim().parse().map_err(|_| "expected the number of a boot")?;
            Ok((Some(number), step(rest.trim())?))
        }
        None => Ok((None, step(text)?)),
    }
}

fn step(text: &str) -> Result<ScriptStep, &'static str> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    match (word, rest) {
        ("print", text) => Ok(ScriptStep::Print(text.to_owned())),
        ("wait", time) => Ok(ScriptStep::Wait(duration(time)?)),
        ("panic", "") => Ok(ScriptStep::Panic),
        ("power-off", "") => Ok(ScriptStep::PowerOff),
        ("power-off", rest) => {
            let time = rest.strip_prefix("takes ").ok_or("expected `power-off takes TIME`")?;
            Ok(ScriptStep::PowerOffTakes(duration(time.trim())?))
        }
        ("reset", "") => Ok(ScriptStep::Reset),
        ("suspend", "") => Ok(ScriptStep::Suspend),
        ("wake", "") => Ok(ScriptStep::Wake),
        ("die", status) => {
            let status = status.parse().ok().filter(|status| (0..=255).contains(status));
            status.map(ScriptStep::Die).ok_or("expected an exit status (0 to 255)")
        }
        ("ignore", "power-button") => Ok(ScriptStep::UseButton(false)),
        ("use", "power-button") => Ok(ScriptStep::UseButton(true)),
        ("on", rest) => {
            let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
            let (line, then) = quoted.ok_or("expected a line in quotes")?;
            Ok(ScriptStep::On(line.to_owned(), Box::new(step(then.trim())?)))
        }
        _ => Err("unknown step"),
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "expected a time such as 200ms or 1.5s";
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').ok_or(EXPECTED)?, 1.0),
    };
    let seconds = number.parse::<f64>().map_err(|_| EXPECTED)? * unit;
    if !(0.0..=WAIT_MAX).contains(&seconds) {
        return Err(EXPECTED);
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Script, ScriptError> {
        Script::parse("n1", format!("{MARK}\n{text}").as_bytes())
    }

    #[test]
    fn steps_are_read_in_their_order() {
        let script =
            parse("print hello world\n\n# a comment\nwait 1.5s\non \"a b\" die 3\nboot 2: panic\n").unwrap();
        let steps: Vec<_> = (0..).map_while(|at| script.step(1, at)).collect();
        let on = ScriptStep::On("a b".to_owned(), Box::new(ScriptStep::Die(3)));
        let hello = ScriptStep::Print("hello world".to_owned());
        assert_eq!(steps, [hello, ScriptStep::Wait(Duration::from_millis(1500)), on]);
        assert_eq!(script.step(2, 3), Some(ScriptStep::Panic));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        for (text, why) in [
            ("print a\njump", "line 3"),
            ("wait soon", "200ms"),
            ("wait -1s", "200ms"),
            ("wait 1e300s", "200ms"),
            ("wait NaNs", "200ms"),
            ("die 256", "exit status"),
            ("on hello panic", "quotes"),
            ("boot x: panic", "number of a boot"),
            ("ignore everything", "unknown step"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn any_other_file_boots() {
        let script = Script::parse("n1", b"MZ\x90\xff").unwrap();
        assert_eq!(script.step(7, 1), Some(ScriptStep::Print("n1 login:".to_owned())));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*(\n\\PC*){0,5}") {
            let _ = parse(&text);
        }
    }
}
