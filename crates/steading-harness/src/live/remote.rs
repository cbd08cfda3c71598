//! The wrapper of a command in a guest. It ends the command when the client ends, and reports how much input the
//! command has not read, so that it can be given back.
//!
//! SSH supports neither: when a connection breaks, sshd lets a command without a terminal run on, and input
//! that was sent is in a pipe of the guest whether the command reads it or not.

use crate::vm::quoted;

/// Tells its process group, then becomes what the command is run by.
const PLAIN: &str = r#"echo "$0 $$" >&2; exec "${SHELL:-/bin/sh}" -c "$1""#;

/// The same, and counts what the command has left of its input.
const COUNTING: &str = r#"echo "$0 $$" >&2; "${SHELL:-/bin/sh}" -c "$1"; s=$?
echo "$0 end" >&2; echo "$0 left $(wc -c)" >&2; exit $s"#;

/// Waits next to the command. Its input has the command's process group, then names of signals for it, and
/// `ended`. When it ends without that, since the connection has broken or this program was killed, the group gets
/// SIGTERM, and 10 s later SIGKILL. (The protocol has signals of its own, which sshd refuses for root.)
pub(super) const GUARD: &str = "read group || exit 0
while read word; do test \"$word\" = ended && exit 0; kill -\"$word\" \"-$group\" 2>/dev/null; done
kill -TERM \"-$group\" 2>/dev/null || exit 0
n=0; while [ $n -lt 100 ] && kill -0 \"-$group\" 2>/dev/null; do sleep 0.1; n=$((n + 1)); done
kill -KILL \"-$group\" 2>/dev/null";

/// A wrapped command, which reports about itself on its standard error.
#[derive(Debug)]
pub(super) struct Wrapped {
    /// The line for the guest's login shell.
    pub(super) line: String,
    /// What no command prints by chance; all that is said about it begins so.
    token: String,
}

impl Wrapped {
    /// The token must be different for each command.
    pub(super) fn new(command: &str, token: &str, counts_input: bool) -> Self {
        let script = if counts_input { COUNTING } else { PLAIN };
        let token = format!("steading-exec-{token}");
        let line = format!("exec /bin/sh -c {} {token} {}", quoted(script), quoted(command));
        Self { line, token }
    }

    /// What takes these words out of the standard error.
    pub(super) fn sieve(&self) -> CommandFilter {
        CommandFilter { token: self.token.clone().into_bytes(), held: Vec::new() }
    }
}

/// What the wrapper reports about its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandNote {
    /// It runs, in this process group of the guest.
    Group(u32),
    /// It has ended, and wants the end of its input.
    End,
    /// How many bytes of its input it has not read.
    Left(u64),
}

/// Removes the reports of the wrapper from the standard error of the command.
#[derive(Debug)]
pub(super) struct CommandFilter {
    token: Vec<u8>,
    /// What may be the beginning of a word.
    held: Vec<u8>,
}

impl CommandFilter {
    /// Returns what the command itself has written, and the reports.
    pub(super) fn push(&mut self, bytes: &[u8]) -> (Vec<u8>, Vec<CommandNote>) {
        self.held.extend_from_slice(bytes);
        let (mut passed, mut words) = (Vec::new(), Vec::new());
        while let Some(at) = find(&self.held, &self.token) {
            passed.extend(self.held.drain(..at));
            let Some(end) = self.held.iter().position(|&byte| byte == b'\n') else { return (passed, words) };
            let line: Vec<u8> = self.held.drain(..=end).collect();
            let text = String::from_utf8_lossy(&line[self.token.len()..]);
            words.extend(word(text.trim()));
        }
        // A word may begin in the last bytes.
        let longest = self.held.len().min(self.token.len() - 1);
        let begins = |length: &usize| self.token.starts_with(&self.held[self.held.len() - length..]);
        let held = (1..=longest).rev().find(begins).unwrap_or(0);
        passed.extend(self.held.drain(..self.held.len() - held));
        (passed, words)
    }

    /// What was held back, at the end.
    pub(super) fn finish(self) -> Vec<u8> {
        self.held
    }
}

fn find(bytes: &[u8], token: &[u8]) -> Option<usize> {
    bytes.windows(token.len()).position(|window| window == token)
}

fn word(text: &str) -> Option<CommandNote> {
    match text.split_once(' ') {
        None if text == "end" => Some(CommandNote::End),
        None => text.parse().ok().map(CommandNote::Group),
        Some(("left", count)) => count.trim().parse().ok().map(CommandNote::Left),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn words_are_taken_out_wherever_the_stream_is_cut() {
        let wrapped = Wrapped::new("true", "7", true);
        let stream = b"steading-exec-7 42\nsteading-exec-8 an error without endsteading-exec-7 end\nsteading-exec-7 left  12\nst";
        for size in 1..=stream.len() {
            let mut sieve = wrapped.sieve();
            let (mut passed, mut words) = (Vec::new(), Vec::new());
            for piece in stream.chunks(size) {
                let (more, told) = sieve.push(piece);
                passed.extend(more);
                words.extend(told);
            }
            passed.extend(sieve.finish());
            assert_eq!(String::from_utf8_lossy(&passed), "steading-exec-8 an error without endst", "{size}");
            assert_eq!(words, [CommandNote::Group(42), CommandNote::End, CommandNote::Left(12)], "{size}");
        }
    }

    /// Runs it here, as a guest would.
    fn run(wrapped: &Wrapped, input: &[u8]) -> (Option<i32>, String, Vec<CommandNote>) {
        let mut command = Command::new("sh");
        command
            .args(["-c", &wrapped.line])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let (_, words) = wrapped.sieve().push(&output.stderr);
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), words)
    }

    #[test]
    fn a_wrapped_command_keeps_its_status_quotes_and_input_and_the_rest_is_counted() {
        let command = r#"read first; echo "it's $first"; exit 3"#;
        let (status, said, words) = run(&Wrapped::new(command, "1", true), b"one\ntwo\nthree\n");
        assert_eq!((status, said.as_str()), (Some(3), "it's one\n"));
        // Shells read lines from a pipe byte by byte (POSIX.1-2017, `read`).
        assert!(
            matches!(words[..], [CommandNote::Group(_), CommandNote::End, CommandNote::Left(10)]),
            "{words:?}"
        );
        let (status, said, words) = run(&Wrapped::new(command, "1", false), b"one\n");
        assert_eq!((status, said.as_str()), (Some(3), "it's one\n"));
        assert!(matches!(words[..], [CommandNote::Group(_)]), "{words:?}");
    }

    #[test]
    fn a_guard_ends_the_process_group_when_its_input_ends_and_leaves_it_when_it_is_told() {
        for (told, is_ended) in [("", true), ("KILL\nended\n", true), ("CONT\nended\n", false)] {
            let mut command = Command::new("setsid");
            command.args(["sh", "-c", "echo $$; exec sleep 1000"]).stdout(Stdio::piped());
            let mut sleeper = command.spawn().unwrap();
            let mut group = [0; 32];
            let read = sleeper.stdout.as_mut().unwrap().read(&mut group).unwrap();
            let group = String::from_utf8_lossy(&group[..read]).trim().to_owned();
            let mut guard = Command::new("sh").args(["-c", GUARD]).stdin(Stdio::piped()).spawn().unwrap();
            guard.stdin.take().unwrap().write_all(format!("{group}\n{told}").as_bytes()).unwrap();
            if is_ended {
                assert_eq!(sleeper.wait().unwrap().code(), None);
            }
            guard.wait().unwrap();
            assert_eq!(sleeper.try_wait().unwrap().is_some(), is_ended);
            sleeper.kill().unwrap();
            sleeper.wait().unwrap();
        }
    }
}
