//! Tests of the client against a fake agent over a real socket pair.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::*;
use crate::agent::{AgentCommand, ShutdownMode};

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// An agent as it is in the guest: it answers in order, and forgets half a message at the mark.
#[derive(Default)]
struct Guest {
    files: BTreeMap<String, Vec<u8>>,
    open: BTreeMap<i64, (String, usize)>,
    /// How often a program is still running when asked.
    running: u32,
    heard: Vec<String>,
    /// What it refuses.
    refuses: &'static str,
}

impl Guest {
    fn answer(&mut self, message: &Value) -> Option<Value> {
        let command = message["execute"].as_str().expect("a command");
        let arguments = &message["arguments"];
        self.heard.push(command.to_owned());
        if command == self.refuses {
            return Some(json!({"error": {"class": "CommandNotFound", "desc": "forbidden"}}));
        }
        let handle = || arguments["handle"].as_i64().expect("a handle");
        let value = match command {
            "guest-sync" | "guest-sync-delimited" => arguments["id"].clone(),
            "guest-shutdown" => return None,
            "guest-exec" => json!({"pid": 7}),
            "guest-exec-status" if self.running > 0 => {
                self.running -= 1;
                json!({"exited": false})
            }
            "guest-exec-status" => {
                json!({"exited": true, "exitcode": 3, "out-data": BASE64.encode("out\n"), "err-data": BASE64.encode(b"\xff")})
            }
            "guest-file-open" => {
                let path = arguments["path"].as_str().expect("a path").to_owned();
                if arguments["mode"] == "w" {
                    self.files.insert(path.clone(), Vec::new());
                } else if !self.files.contains_key(&path) {
                    return Some(
                        json!({"error": {"class": "GenericError", "desc": "No such file or directory"}}),
                    );
                }
                self.open.insert(1000, (path, 0));
                json!(1000)
            }
            "guest-file-write" => {
                let data = BASE64.decode(arguments["buf-b64"].as_str().expect("data")).expect("base64");
                // It may take less than it was given.
                let taken = &data[..data.len().min(100_000)];
                let path = &self.open[&handle()].0;
                self.files.get_mut(path).expect("open").extend_from_slice(taken);
                json!({"count": taken.len(), "eof": false})
            }
            "guest-file-read" => {
                let count = usize::try_from(arguments["count"].as_u64().expect("count")).expect("small");
                let (path, at) = self.open.get_mut(&handle()).expect("open");
                let rest = &self.files[path.as_str()][*at..];
                let data = &rest[..rest.len().min(count)];
                *at += data.len();
                json!({"count": data.len(), "buf-b64": BASE64.encode(data), "eof": data.len() < count})
            }
            "guest-file-close" => {
                self.open.remove(&handle());
                json!({})
            }
            "guest-network-get-interfaces" => json!([
                {"name": "lo"},
                {"name": "enp1s0", "hardware-address": "6a:01:00:00:00:01", "ip-addresses": [
                    {"ip-address": "fd00::1", "ip-address-type": "ipv6", "prefix": 64},
                    {"ip-address": "fe80::1%enp1s0", "ip-address-type": "ipv6", "prefix": 64},
                ]},
            ]),
            _ => json!({}),
        };
        Some(json!({ "return": value }))
    }

    async fn serve(mut self, mut stream: UnixStream) -> Self {
        let mut buffer = Vec::new();
        loop {
            if let Some(at) = buffer.iter().rposition(|&byte| byte == SENTINEL) {
                buffer.drain(..=at);
            }
            while let Some(at) = buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=at).collect();
                let message: Value = serde_json::from_slice(&line).expect("JSON");
                let Some(answer) = self.answer(&message) else { continue };
                let mut bytes = encode(&answer);
                if message["execute"] == "guest-sync-delimited" {
                    bytes.insert(0, SENTINEL);
                }
                if stream.write_all(&bytes).await.is_err() {
                    return self;
                }
            }
            if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                return self;
            }
        }
    }
}

fn agent_of(guest: Guest) -> (GuestAgent, JoinSet<Guest>) {
    let (near, far) = UnixStream::pair().expect("a pair");
    let mut tasks = JoinSet::new();
    tasks.spawn(guest.serve(far));
    (GuestAgent::new(near), tasks)
}

async fn end(agent: GuestAgent, mut tasks: JoinSet<Guest>) -> Guest {
    drop(agent);
    tasks.join_next().await.expect("a task").expect("no panic")
}

#[tokio::test]
async fn the_channel_gets_in_step_once() {
    let (agent, tasks) = agent_of(Guest::default());
    agent.ping(PATIENCE).await.expect("an answer");
    agent.ping(PATIENCE).await.expect("an answer");
    assert_eq!(end(agent, tasks).await.heard, ["guest-sync-delimited", "guest-ping", "guest-ping"]);
}

#[tokio::test]
async fn stale_answers_are_passed_over() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    far.write_all(b"{\"return\": {\"stale\": 1}}\n{\"ret\xff{\"return\": 999}\n").await.expect("write");
    let mut tasks = JoinSet::new();
    tasks.spawn(Guest::default().serve(far));
    let answer = GuestAgent::new(near).execute("guest-ping", None, PATIENCE).await.expect("an answer");
    assert_eq!(answer, json!({}));
}

#[tokio::test]
async fn an_agent_that_does_not_answer_is_told_with_advice_and_may_answer_later() {
    let (near, far) = UnixStream::pair().expect("a pair");
    let agent = GuestAgent::new(near);
    let limit = Duration::from_millis(20);
    let error = agent.ping(limit).await.expect_err("no answer");
    assert!(matches!(&error, AgentError::NoAnswer { command, .. } if command == "guest-ping"));
    assert!(error.to_string().contains("within 0.02 s") && error.to_string().contains("hint:"), "{error}");
    // The agent starts, and finds two questions.
    let mut tasks = JoinSet::new();
    tasks.spawn(Guest::default().serve(far));
    agent.ping(PATIENCE).await.expect("an answer");
    agent.ping(PATIENCE).await.expect("an answer");
}

#[tokio::test]
async fn a_call_given_up_in_the_midst_does_not_give_its_answer_to_the_next() {
    let (near, mut far) = UnixStream::pair().expect("a pair");
    let agent = GuestAgent::new(near);
    let hear = async |stream: &mut UnixStream, word: &str| {
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(word) || !heard.ends_with(b"\n") {
            assert!(stream.read_buf(&mut heard).await.expect("read") > 0);
        }
        let start = heard.iter().rposition(|&byte| byte == b'{' || byte == SENTINEL).expect("a message");
        let text = String::from_utf8_lossy(&heard[start..]).into_owned();
        text.chars().filter(char::is_ascii_digit).collect::<String>()
    };
    let first = async {
        let id = hear(&mut far, "guest-sync-delimited").await;
        far.write_all(&[SENTINEL]).await.expect("write");
        far.write_all(format!("{{\"return\": {id}}}\n").as_bytes()).await.expect("write");
        hear(&mut far, "guest-first").await;
    };
    tokio::select! {
        () = first => {}
        _ = agent.execute("guest-first", None, PATIENCE) => panic!("it was not answered"),
    }
    far.write_all(b"{\"return\": \"first\"}\n").await.expect("write");
    let mut tasks = JoinSet::new();
    tasks.spawn(Guest::default().serve(far));
    let answer = agent.execute("guest-second", None, PATIENCE).await.expect("an answer");
    assert_eq!(answer, json!({}));
}

#[tokio::test]
async fn a_program_is_run_to_its_end() {
    let (agent, _tasks) = agent_of(Guest { running: 3, ..Guest::default() });
    let output = agent.run(&AgentCommand::shell("exit 3"), PATIENCE, PATIENCE).await.expect("it ended");
    assert_eq!((output.status, output.signal, output.success()), (Some(3), None, false));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"\xff"[..]));
}

#[tokio::test]
async fn a_program_that_does_not_end_is_told() {
    let (agent, _tasks) = agent_of(Guest { running: u32::MAX, ..Guest::default() });
    let limit = Duration::from_millis(50);
    let error = agent.run(&AgentCommand::new("sleep"), limit, PATIENCE).await.expect_err("too long");
    assert!(matches!(&error, AgentError::StillRunning { program, .. } if program == "sleep"), "{error}");
}

#[tokio::test]
async fn files_are_copied_both_ways() {
    let (agent, tasks) = agent_of(Guest::default());
    let content: Vec<u8> = (0..=250_u8).cycle().take(300_000).collect();
    let sent = agent.copy_to(&mut content.as_slice(), "/tmp/x", PATIENCE).await.expect("sent");
    let mut back = Vec::new();
    let received = agent.copy_from("/tmp/x", &mut back, PATIENCE).await.expect("received");
    assert_eq!((sent, received), (300_000, 300_000));
    assert!(back == content);
    let guest = end(agent, tasks).await;
    assert!(guest.open.is_empty(), "files are closed");
}

#[tokio::test]
async fn a_file_that_is_not_there_is_an_error_with_the_agents_words() {
    let (agent, _tasks) = agent_of(Guest::default());
    let error = agent.copy_from("/none", &mut Vec::new(), PATIENCE).await.expect_err("none");
    assert!(error.to_string().contains("`guest-file-open`") && error.to_string().contains("No such file"));
}

#[tokio::test]
async fn a_file_is_closed_when_the_copy_fails() {
    let (agent, tasks) = agent_of(Guest { refuses: "guest-file-write", ..Guest::default() });
    let error = agent.copy_to(&mut &b"x"[..], "/x", PATIENCE).await.expect_err("refused");
    assert!(matches!(&error, AgentError::Command { command, .. } if command == "guest-file-write"));
    assert!(error.to_string().contains("hint: the agent is too old"), "{error}");
    assert!(end(agent, tasks).await.open.is_empty());
}

#[tokio::test]
async fn a_shutdown_that_is_not_refused_is_success() {
    let (agent, tasks) = agent_of(Guest::default());
    agent.shutdown(ShutdownMode::Reboot, PATIENCE).await.expect("begun");
    agent.ping(PATIENCE).await.expect("still in step");
    let heard = end(agent, tasks).await.heard;
    assert_eq!(heard, ["guest-sync-delimited", "guest-shutdown", "guest-sync", "guest-ping"]);
}

#[tokio::test]
async fn a_shutdown_that_is_refused_is_an_error() {
    let (agent, _tasks) = agent_of(Guest { refuses: "guest-shutdown", ..Guest::default() });
    let error = agent.shutdown(ShutdownMode::Powerdown, PATIENCE).await.expect_err("refused");
    assert!(matches!(error, AgentError::Command { .. }), "{error}");
    agent.ping(PATIENCE).await.expect("gets in step again");
}

#[tokio::test]
async fn interfaces_are_read() {
    let (agent, _tasks) = agent_of(Guest::default());
    let interfaces = agent.network_interfaces(PATIENCE).await.expect("interfaces");
    assert_eq!(interfaces[0].addresses, []);
    let card = &interfaces[1];
    assert_eq!((card.name.as_str(), card.mac.as_deref()), ("enp1s0", Some("6a:01:00:00:00:01")));
    let addresses: Vec<String> =
        card.addresses.iter().map(|a| format!("{}/{}", a.address, a.prefix)).collect();
    assert_eq!(addresses, ["fd00::1/64", "fe80::1/64"]);
}

#[tokio::test]
async fn the_end_of_the_vm_ends_the_wait() {
    let (near, far) = UnixStream::pair().expect("a pair");
    let agent = GuestAgent::new(near);
    let (result, ()) = tokio::join!(agent.ping(PATIENCE), async { drop(far) });
    let error = result.expect_err("closed");
    assert!(matches!(error, AgentError::Closed { .. }), "{error}");
}
