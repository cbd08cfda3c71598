//! Running programs in the guest.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::channel::{GuestAgent, unexpected};
use super::error::AgentError;

/// The first wait before the agent is asked whether a program has ended. The agent tells it to
/// nobody by itself, so asking again is inherent in the protocol.
const ASK_MIN: Duration = Duration::from_millis(20);

/// The longest wait between two questions; the wait doubles up to it.
const ASK_MAX: Duration = Duration::from_millis(500);

/// A program to run in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCommand {
    /// Its path, or its name on the agent's PATH.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// `NAME=value`; empty for the agent's own environment.
    pub env: Vec<String>,
    /// What it reads.
    pub input: Vec<u8>,
}

impl AgentCommand {
    /// A program with no arguments and no input.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), args: Vec::new(), env: Vec::new(), input: Vec::new() }
    }

    /// A line for the shell.
    pub fn shell(line: impl Into<String>) -> Self {
        Self { args: vec!["-c".to_owned(), line.into()], ..Self::new("/bin/sh") }
    }
}

/// How a program in the guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOutput {
    /// Its exit status, if it exited.
    pub status: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// Its errors.
    pub stderr: Vec<u8>,
    /// The agent kept only the first 16 MiB of either.
    pub cut: bool,
}

impl AgentOutput {
    /// Whether it exited with status 0.
    pub fn success(&self) -> bool {
        self.status == Some(0)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ExecStatus {
    exited: bool,
    #[serde(rename = "exitcode")]
    status: Option<i32>,
    signal: Option<i32>,
    #[serde(default)]
    out_data: String,
    #[serde(default)]
    err_data: String,
    #[serde(default)]
    out_truncated: bool,
    #[serde(default)]
    err_truncated: bool,
}

impl GuestAgent {
    /// Runs a program to its end, within `limit`; each answer of the agent may take `answer_limit`.
    /// Other calls go on meanwhile.
    ///
    /// # Errors
    ///
    /// When the program cannot be started, or has not ended in time; not when it fails.
    pub async fn run(
        &self,
        program: &AgentCommand,
        limit: Duration,
        answer_limit: Duration,
    ) -> Result<AgentOutput, AgentError> {
        let mut arguments = json!({ "path": program.path, "arg": program.args, "capture-output": true });
        if !program.env.is_empty() {
            arguments["env"] = json!(program.env);
        }
        if !program.input.is_empty() {
            arguments["input-data"] = json!(BASE64.encode(&program.input));
        }
        let end = Instant::now() + limit;
        let started = self.execute("guest-exec", Some(arguments), answer_limit).await?;
        let pid = started.get("pid").and_then(Value::as_i64);
        let pid = pid.ok_or_else(|| unexpected("guest-exec", &started))?;

        let command = "guest-exec-status";
        let mut wait = ASK_MIN;
        loop {
            let answer = self.execute(command, Some(json!({ "pid": pid })), answer_limit).await?;
            let status = ExecStatus::deserialize(&answer).map_err(|_| unexpected(command, &answer))?;
            if status.exited {
                let decode = |data: &str| BASE64.decode(data).map_err(|_| unexpected(command, &answer));
                return Ok(AgentOutput {
                    status: status.status,
                    signal: status.signal,
                    stdout: decode(&status.out_data)?,
                    stderr: decode(&status.err_data)?,
                    cut: status.out_truncated || status.err_truncated,
                });
            }
            if Instant::now() >= end {
                return Err(AgentError::StillRunning { program: program.path.clone(), limit });
            }
            sleep(wait.min(end - Instant::now())).await;
            wait = (wait * 2).min(ASK_MAX);
        }
    }
}
