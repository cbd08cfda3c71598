//! The router daemon: dnsmasq, told by a pipe what to do, so that there is no file to leave behind.

use std::io::Write as _;
use std::process::ChildStdin;

use rustix::process::{Pid, Signal};
use steading_api::chain;
use steading_sys::process::Program;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;

use crate::GroupError;
use crate::log::Log;
use steading_sys::processes::{ExitWatch, Processes};

/// What dnsmasq says when its sockets are open.
const STARTED: &str = "started, version";

/// How it is started.
#[derive(Debug)]
pub(crate) enum Way<'a> {
    /// As a program that has our capabilities, told what to do by this.
    Configured(&'a str),
    /// As what the launcher becomes, by this command line. It derives what to do.
    Launched(Vec<String>),
}

/// A running router daemon.
#[derive(Debug)]
pub(crate) struct Router {
    pid: Pid,
    exit: ExitWatch,
    lines: tokio::io::Lines<BufReader<pipe::Receiver>>,
    _stdin: Option<ChildStdin>,
}

impl Router {
    /// Starts it and waits until it serves.
    pub(crate) async fn start(way: Way<'_>, processes: &Processes) -> Result<Self, GroupError> {
        let words = ["dnsmasq", "--keep-in-foreground", "--conf-file=-", "--pid-file="];
        let (argv, configuration) = match way {
            Way::Configured(configuration) => (words.map(str::to_owned).into(), Some(configuration)),
            Way::Launched(argv) => (argv, None),
        };
        let program = Program {
            argv,
            package: Some("dnsmasq-base"),
            env: Vec::new(),
            cwd: None,
            fds: Vec::new(),
            network_capabilities: true,
        };
        let (started, exit) = processes.start(|| program.start(), |started| started.pid)?;
        // A pipe holds 64 KiB; a larger configuration is taken as dnsmasq reads it.
        let mut stdin = started.stdin;
        let (written, stdin) = match configuration {
            Some(configuration) => {
                let written = stdin.write_all(configuration.as_bytes());
                // It reads to the end.
                drop(stdin);
                (written, None)
            }
            // By its end the launcher is told of ours.
            None => (Ok(()), Some(stdin)),
        };
        let errors = pipe::Receiver::from_owned_fd(started.stderr.into())
            .map_err(GroupError::io("read what the router daemon says"))?;
        let mut lines = BufReader::new(errors).lines();
        let mut said = Vec::new();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains(STARTED) {
                return Ok(Self { pid: started.pid, exit, lines, _stdin: stdin });
            }
            said.push(line);
        }
        if let Err(error) = written {
            said.push(error.to_string());
        }
        if said.is_empty() {
            said.push("it said nothing".to_owned());
        }
        Err(GroupError::RouterEnded { said: said.join("; ").trim().to_owned() })
    }

    /// The way to its end.
    pub(crate) fn end(&self) -> RouterEnd {
        RouterEnd { pid: self.pid, exit: self.exit.clone() }
    }

    /// Writes to the log what it says, and that it ended, should it.
    pub(crate) async fn run(mut self, log: Log) {
        while let Ok(Some(line)) = self.lines.next_line().await {
            log.driver(None, &line).await;
        }
        let exit = self.exit.ended().await;
        log.warn(None, &format!("the router daemon has ended ({exit:?}): guests get no addresses any more"))
            .await;
    }
}

/// Runs the router daemon of a fork, whose guests know it, from some moment on.
pub(crate) async fn run_from(
    moment: impl Future<Output = ()>,
    configuration: String,
    processes: Processes,
    log: Log,
) {
    moment.await;
    match Router::start(Way::Configured(&configuration), &processes).await {
        Ok(router) => router.run(log).await,
        Err(error) => {
            let why = chain(&error);
            log.warn(None, &format!("guests that boot get no addresses: {why}")).await;
        }
    }
}

/// Ends the router daemon of a group whose end the kernel does not see.
#[derive(Debug)]
pub(crate) struct RouterEnd {
    pid: Pid,
    exit: ExitWatch,
}

impl RouterEnd {
    /// Ends it, and waits for that.
    pub(crate) async fn ended(mut self) {
        if !self.exit.has_ended() {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
            self.exit.ended().await;
        }
    }
}
