//! Running commands so that a failed one shows itself and the end of what it said.

use std::{
    io::{BufRead as _, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How many lines of a failed command's output its error shows.
const SHOWN_LINES: usize = 20;
/// How long a program that is asked to end may take to clean up.
const GRACE: Duration = Duration::from_secs(20);

/// A command's words as one would type them: cargo is `cargo`, wherever it lies.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let words = program.file_name().into_iter().chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// Quotes a word for a shell, if it needs that.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a command to its end; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", show(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", show(command));
    }
    Ok(())
}

/// Runs a command that has nothing to say unless it fails; gives its standard output.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", show(command)))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let all = said + &String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        bail!("`{}` failed: {status}; it said at its end:\n{}", show(command), last_lines(&all));
    }
    Ok(said)
}

/// Runs a command for its standard output; what it says on standard error is shown as it comes.
pub(crate) fn output_shown(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", show(command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", show(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("the output of `{}`", show(command)))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

/// How a command that was watched ended.
pub(crate) enum End {
    Exited(ExitStatus),
    /// It was ended by us, after this long.
    TimeLimit(Duration),
}

/// Runs a command, hands over each line of its standard output as it comes, and ends the command
/// at its time limit.
pub(crate) fn watch(
    command: &mut Command,
    limit: Duration,
    mut each_line: impl FnMut(&str),
) -> anyhow::Result<End> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", show(command)))?;
    let stdout = child.stdout.take().expect("standard output was asked for");
    let (sender, lines) = mpsc::channel();
    // Ends with the pipe, or, when a process left behind still holds the pipe, with ours.
    thread::spawn(move || read_lines(stdout, &sender));

    let end = Instant::now() + limit;
    loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => each_line(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                end_politely(&mut child, &lines, &mut each_line)?;
                return Ok(End::TimeLimit(limit));
            }
        }
    }
    Ok(End::Exited(child.wait().context("cannot wait for a command")?))
}

fn read_lines(stdout: impl Read, sender: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
        if sender.send(text).is_err() {
            return;
        }
        line.clear();
    }
}

/// SIGTERM, then, after [`GRACE`], SIGKILL.
fn end_politely(
    child: &mut Child,
    lines: &mpsc::Receiver<String>,
    each_line: &mut impl FnMut(&str),
) -> anyhow::Result<()> {
    // The child is not reaped yet, so the number is still its own.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let end = Instant::now() + GRACE;
    while let Ok(line) = lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
        each_line(&line);
    }
    child.kill().context("cannot end a command")?;
    child.wait().context("cannot wait for a command")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failed_command_shows_itself_and_the_end_of_its_output() {
        let error =
            output(&mut shell("seq 100; echo no space left >&2; exit 3")).expect_err("it exits with 3");
        let text = error.to_string();
        assert!(text.starts_with("`sh -c 'seq 100; echo no space left >&2; exit 3'` failed: exit status: 3"));
        assert!(text.ends_with("99\n100\nno space left"), "{text}");
        assert!(!text.contains("\n50\n"), "{text}");
    }

    #[test]
    fn a_command_that_does_not_exist_is_named() {
        let error = run(&mut Command::new("no-such-command")).expect_err("there is no such command");
        assert_eq!(error.to_string(), "cannot start `no-such-command`");
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("qemu-utils=1:7.2+dfsg-7"), "qemu-utils=1:7.2+dfsg-7");
    }

    #[test]
    fn watching_hands_over_lines_and_the_status() {
        let mut seen = Vec::new();
        let end = watch(&mut shell("echo one; printf two; exit 4"), Duration::from_secs(60), |line| {
            seen.push(line.to_owned());
        });
        assert!(matches!(end, Ok(End::Exited(status)) if status.code() == Some(4)));
        assert_eq!(seen, ["one", "two"]);
    }

    #[test]
    fn watching_ends_a_command_that_hangs() {
        let end = watch(&mut shell("exec sleep 600"), Duration::from_millis(50), |_| ());
        assert!(matches!(end, Ok(End::TimeLimit(_))));
    }
}
