//! Follows functions and owners, and puts what they do into the runner's one queue.

use std::sync::Arc;

use camino::Utf8PathBuf;
use steading_api::{Client, ClientError, FreezeRequest, ProcessEvent, ProcessSpec, Streams, chain};
use steading_group::OpenedGroup;
use steading_report::VmSign;
use steading_sys::signal::{Received, Signals};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::exit_code;
use crate::frozen;
use crate::run::forks::{Fork, Forks, this_program};
use crate::run::pictures;
use crate::suite::{FunctionId, SectionId};
use crate::watch::{News, Watch};

/// Whatever comes from outside.
pub(crate) enum RunnerInput {
    /// A function did something.
    Process(FunctionId, ProcessEvent),
    /// A function cannot be started, or nothing more can be learnt about it.
    Lost(FunctionId, ClientError),
    /// A function's fork is up, whose logs are there.
    Forked(FunctionId, Client, Utf8PathBuf),
    /// It has failed, and its testnet was kept as it was at that moment.
    Frozen(FunctionId, Box<OpenedGroup>),
    /// There is no fork for it.
    Unforked(FunctionId, String),
    Signal(Received),
    /// The owner complains about itself, or a guest's kernel does.
    Problem(String),
    /// The owner of a fork has complained, perhaps not for the first time.
    LastWord(String),
    /// Something happened to a VM.
    Vm(String, VmSign),
    /// The group's owner is no more.
    OwnerEnded,
}

/// Starts a function and passes on what it does, until it has ended.
pub(crate) struct FunctionFollower {
    pub(crate) id: FunctionId,
    pub(crate) spec: ProcessSpec,
    /// Where the run's logs go.
    pub(crate) log_dir: Utf8PathBuf,
    pub(crate) forks: Arc<Forks>,
    pub(crate) freeze_on_failure: bool,
    pub(crate) inputs: mpsc::Sender<RunnerInput>,
}

impl FunctionFollower {
    /// In the group itself, once that was kept as the setups of this section left it.
    pub(crate) async fn in_group(self, client: Client, after: Option<SectionId>) {
        let followed = async {
            if let Some(point) = after {
                self.forks.freeze(point).await?;
            }
            self.forks.thawed().await?;
            self.follow(&client).await
        };
        if let Err(error) = followed.await {
            self.tell(RunnerInput::Lost(self.id, error)).await;
        }
    }

    /// In a fork of its own, of the testnet as the setups of this section left it.
    pub(crate) async fn in_fork(self, point: SectionId, attempt: u32) {
        match self.forks.fork(point, &self.spec.name, attempt).await {
            Ok(fork) => self.in_own(fork, &[]).await,
            Err(error) => self.tell(RunnerInput::Unforked(self.id, chain(&error))).await,
        }
    }

    /// In its own freshly booted testnet, after these setups.
    pub(crate) async fn in_anew(self, setups: Vec<String>, attempt: u32) {
        match self.forks.boot(&self.spec.name, attempt).await {
            Ok(fork) => self.in_own(fork, &setups).await,
            Err(error) => self.tell(RunnerInput::Unforked(self.id, chain(&error))).await,
        }
    }

    async fn in_own(&self, fork: Fork, setups: &[String]) {
        self.tell(RunnerInput::Forked(self.id, fork.client.clone(), fork.log_dir.clone())).await;
        let mut listening = JoinSet::new();
        let name = self.spec.name.clone();
        listening.spawn(listen_to_owner(fork.client.clone(), self.inputs.clone(), Some(name.clone())));
        let followed = async {
            for setup in setups {
                self.set_up(&fork.client, setup).await?;
            }
            self.follow(&fork.client).await.map_err(|error| gone(&error))
        };
        if let Err(reason) = followed.await {
            self.tell(RunnerInput::Unforked(self.id, reason)).await;
        }
        let complaints = fork.tear_down().await;
        for line in complaints.lines() {
            self.tell(RunnerInput::LastWord(format!("the fork of {name}: {line}"))).await;
        }
    }

    /// Runs a setup; what it says is said in the name of the function that it is for.
    async fn set_up(&self, client: &Client, setup: &str) -> Result<(), String> {
        let spec = ProcessSpec {
            name: setup.to_owned(),
            argv: vec![this_program(), "__function".to_owned(), setup.to_owned()],
            env: Vec::new(),
            streams: Streams::Lines,
        };
        let mut events = client.start_process(&spec).await.map_err(|error| gone(&error))?;
        while let Some(event) = events.next().await.map_err(|error| gone(&error))? {
            match event {
                ProcessEvent::Ended { status, .. } if !has_failed(status) => return Ok(()),
                ProcessEvent::Ended { .. } => {
                    return Err(format!("{setup} failed in the freshly booted testnet"));
                }
                // As long as a setup runs, that is what is ended when the time is over.
                event @ (ProcessEvent::Started { .. } | ProcessEvent::Line { .. }) => {
                    self.tell(RunnerInput::Process(self.id, event)).await;
                }
                ProcessEvent::Output { .. } | ProcessEvent::Note { .. } => {}
            }
        }
        Err(gone(&ClientError::Ended))
    }

    async fn follow(&self, client: &Client) -> Result<(), ClientError> {
        let mut events = client.start_process(&self.spec).await?;
        while let Some(event) = events.next().await? {
            let is_last = matches!(event, ProcessEvent::Ended { .. });
            if let ProcessEvent::Ended { status, .. } = &event
                && has_failed(*status)
            {
                pictures::take(client, &self.spec.name, &self.log_dir).await;
                if self.freeze_on_failure {
                    self.freeze(client).await;
                }
            }
            self.tell(RunnerInput::Process(self.id, event)).await;
            if is_last {
                return Ok(());
            }
        }
        Err(ClientError::Ended)
    }

    /// Keeps the testnet as it is.
    async fn freeze(&self, client: &Client) {
        const ID: &str = "failure";
        let request = FreezeRequest { id: Some(ID.to_owned()), ..FreezeRequest::default() };
        let frozen = async {
            // Of one group, the first failure counts.
            if client.freezes().await?.iter().any(|freeze| freeze.id == ID) {
                return Ok(None);
            }
            client.freeze(&request).await?;
            frozen::open(client, ID).await.map(Some)
        };
        match frozen.await {
            Ok(None) => {}
            Ok(Some(opened)) => self.tell(RunnerInput::Frozen(self.id, Box::new(opened))).await,
            Err(error) => {
                let why = chain(error.as_ref());
                let what = format!("cannot freeze the testnet of {}: {why}", self.spec.name);
                self.tell(RunnerInput::Problem(what)).await;
            }
        }
    }

    async fn tell(&self, input: RunnerInput) {
        // Nobody listens any more only when the run is over.
        let _ = self.inputs.send(input).await;
    }
}

fn gone(error: &ClientError) -> String {
    format!("its testnet has ended: {}", chain(error))
}

fn has_failed(status: Option<i32>) -> bool {
    let fine = [exit_code::RETURNED_OK, exit_code::RETURNED_SKIP].map(i32::from);
    status.is_none_or(|status| !fine.contains(&status))
}

pub(crate) async fn pass_on_signals(signals: Signals, inputs: mpsc::Sender<RunnerInput>) {
    while let Ok(signal) = signals.next_received().await {
        if inputs.send(RunnerInput::Signal(signal)).await.is_err() {
            return;
        }
    }
}

/// Passes on what an owner complains about, that of the group or of a function's fork; the stream of
/// records ends with it.
pub(crate) async fn listen_to_owner(client: Client, inputs: mpsc::Sender<RunnerInput>, fork: Option<String>) {
    if let Ok(mut watch) = Watch::begin(&client).await {
        while let Some(news) = watch.next().await {
            let input = match (news, &fork) {
                // Of the VMs of forks there are too many.
                (News::Vm(..), Some(_)) => continue,
                (News::Vm(vm, sign), None) => RunnerInput::Vm(vm, sign),
                (News::Problem(message), Some(function)) => {
                    RunnerInput::Problem(format!("the fork of {function}: {message}"))
                }
                (News::Problem(message), None) => RunnerInput::Problem(message),
            };
            let _ = inputs.send(input).await;
        }
    }
    if fork.is_none() {
        // Nobody listens any more only when the run is over.
        let _ = inputs.send(RunnerInput::OwnerEnded).await;
    }
}
