//! The runner: one queue of all that comes from outside, one place that acts on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;
use steading_api::{Client, Ending, Note, ProcessEvent, ProcessSpec, Streams, chain};
use steading_group::stored::{StoredError, write_archive};
use steading_group::{GroupError, OpenedGroup};
use steading_plan::{Handle, env_vars};
use steading_report::{Event, Failure, Kind, Metric, Outcome, Report, ReportError, Row, Summary};
use steading_sys::signal::{ENDING, Received, Signals, not_ignored};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::bring_up::RunningGroup;
use crate::decision::{self, AttemptEnd, Course, Decision, OnInterrupt};
use crate::frozen::file_name;
use crate::handle::GroupHandle;
use crate::interrupts::Interrupts;
use crate::run::attempt::Attempt;
use crate::run::follow::{FunctionFollower, RunnerInput, listen_to_owner, pass_on_signals};
use crate::run::forks::{self, Forks, this_program};
use crate::run::{Mode, Selection, verdict};
use crate::schedule::{Schedule, Step};
use crate::suite::{Declared, ForkFallback, FunctionId, Role, RunsIn};
use crate::watch::{ReportedProblems, redrawing};

/// How long an orderly teardown of the group may take.
const TEARDOWN_LIMIT: Duration = Duration::from_secs(10);

/// How many inputs may wait. A function that floods is held up by its pipe.
const INPUTS_WAITING: usize = 256;

/// Why nothing is started any more once the first interrupt has come.
const INTERRUPTED: &str = "interrupted";

/// Why a test that makes faults is not run.
const NO_FAULTS: &str = "it makes faults of the network, which need namespaces";

/// Runs the functions of one group.
pub(crate) struct Runner<'a> {
    suite: &'a Declared,
    selection: &'a Selection,
    handle: Box<dyn GroupHandle>,
    client: Client,
    forks: Arc<Forks>,
    /// Why there are no forks, if there are none.
    unforkable: Option<String>,
    /// Whether there can be faults of the network.
    has_faults: bool,
    report: &'a Report,
    log_dir: &'a Utf8Path,
    schedule: Schedule<'a>,
    running: HashMap<FunctionId, Attempt>,
    /// How attempts before the present one failed.
    before: HashMap<FunctionId, Failure>,
    overall_end: Instant,
    interrupts: Interrupts,
    course: Course,
    summary: Summary,
    reported: ReportedProblems,
    /// The testnet of the first function that failed, as it was then.
    kept: Option<(String, Box<OpenedGroup>)>,
    inputs: mpsc::Receiver<RunnerInput>,
    sender: mpsc::Sender<RunnerInput>,
    tasks: JoinSet<()>,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(
        suite: &'a Declared,
        selection: &'a Selection,
        up: RunningGroup,
        report: &'a Report,
        log_dir: &'a Utf8Path,
    ) -> Result<Self, GroupError> {
        let RunningGroup { handle, needed, reserved, more, .. } = up;
        let mut summary = Summary::new(&suite.name);
        summary.reserve(reserved);
        let signals = Signals::open(&not_ignored(&[ENDING.as_slice(), &[Signal::USR1]].concat()))
            .map_err(|source| GroupError::Io { action: "wait for signals", source })?;
        let (sender, inputs) = mpsc::channel(INPUTS_WAITING);
        let client = handle.client();
        let at_most = selection.forks.unwrap_or_else(|| forks::at_most(needed));
        let forks = Arc::new(Forks::new(client.clone(), log_dir, at_most, more));
        let mut tasks = JoinSet::new();
        tasks.spawn(pass_on_signals(signals, sender.clone()));
        tasks.spawn(listen_to_owner(client.clone(), sender.clone(), None));
        let mut schedule = Schedule::new(&suite.tree.shape, &selection.left_out, selection.slots);
        if selection.stay {
            schedule = schedule.hold();
        }
        let overall_end = Instant::now() + suite.overall_limit;
        Ok(Self {
            overall_end: suite.deadline.map_or(overall_end, |deadline| deadline.min(overall_end)),
            interrupts: Interrupts::default(),
            course: Course::default(),
            running: HashMap::new(),
            before: HashMap::new(),
            summary,
            reported: ReportedProblems::default(),
            kept: None,
            suite,
            selection,
            handle,
            client,
            forks,
            has_faults: true,
            unforkable: selection.no_forks.then(|| "--no-forks was given".to_owned()),
            report,
            log_dir,
            schedule,
            inputs,
            sender,
            tasks,
        })
    }

    /// Runs everything to its end, and returns the exit status.
    pub(crate) async fn run(mut self) -> u8 {
        // When it cannot be asked, its end comes next.
        if let Ok(status) = self.client.status().await {
            self.unforkable = self.unforkable.take().or(status.unforkable);
            self.has_faults = status.has_namespaces;
        }
        loop {
            let steps = self.schedule.next();
            if !steps.is_empty() {
                for step in steps {
                    match step {
                        Step::Start(id) => self.start(id, 1),
                        Step::Skip(id, reason) => self.skip(id, reason),
                    }
                }
                // What ended at once may let something else begin.
                continue;
            }
            if self.schedule.is_done() {
                return self.finish().await;
            }
            if self.schedule.is_holding() && !self.course.is_staying() {
                self.course.stay();
                let (socket, owner) = (self.client.endpoint().to_string(), self.handle.owner());
                self.report.tell(&Event::Staying { socket, owner });
            }
            let report = self.report;
            let input = match self.deadline() {
                // However much there is to be taken: a function that prints without end has one.
                Some(deadline) if deadline <= Instant::now() => {
                    self.time_is_over().await;
                    continue;
                }
                Some(deadline) => redrawing(report, timeout_at(deadline.into(), self.inputs.recv())).await,
                None => Ok(redrawing(report, self.inputs.recv()).await),
            };
            match input {
                Ok(Some(input)) => self.take(input).await,
                // The runner has a sender of its own, so the queue has no end.
                Ok(None) => {}
                Err(_) => self.time_is_over().await,
            }
        }
    }

    async fn take(&mut self, input: RunnerInput) {
        match input {
            RunnerInput::Process(id, event) => self.process(id, event),
            RunnerInput::Lost(id, error) => {
                if error.kind().is_none() {
                    // Nobody but the owner's end breaks a connection.
                    self.owner_has_ended();
                }
                self.lost(id, chain(&error));
            }
            RunnerInput::Forked(id, client, log_dir) => self.forked(id, client, &log_dir),
            // One is enough: each takes the memory of its guests until the end.
            RunnerInput::Frozen(id, opened) => {
                self.kept.get_or_insert((self.suite.tree[id].name.clone(), opened));
            }
            RunnerInput::Unforked(id, reason) => self.lost(id, reason),
            RunnerInput::Vm(vm, sign) => self.report.tell(&Event::Vm { vm, sign }),
            RunnerInput::Problem(message) => {
                self.reported.add(&message);
                warn(&mut self.summary, self.report, message);
            }
            RunnerInput::LastWord(message) => {
                if self.reported.add(&message) {
                    warn(&mut self.summary, self.report, message);
                }
            }
            RunnerInput::Signal(Received { signal: Signal::USR1, .. }) => self.tell_waits().await,
            RunnerInput::Signal(received) => {
                if let Some(count) = self.interrupts.take(received, Instant::now()) {
                    self.interrupt(received.signal, count).await;
                }
            }
            RunnerInput::OwnerEnded => self.owner_has_ended(),
        }
    }

    fn owner_has_ended(&mut self) {
        self.schedule.abandon(self.course.end_owner());
    }

    /// The group has failed a function.
    fn lost(&mut self, id: FunctionId, reason: String) {
        let Some(attempt) = self.running.get(&id) else { return };
        let outcome = attempt.ended(AttemptEnd::Lost { reason });
        self.end(id, outcome);
    }

    fn process(&mut self, id: FunctionId, event: ProcessEvent) {
        let function = &self.suite.tree[id];
        let name = function.name.clone();
        let Some(attempt) = self.running.get_mut(&id) else { return };
        match event {
            ProcessEvent::Started { pid } => attempt.pid = Some(pid),
            ProcessEvent::Line { text } => {
                attempt.said(text.clone());
                self.report.tell(&Event::Line { name, text });
            }
            ProcessEvent::Note { note: Note::Metric { name: metric, value } } => {
                self.summary.add_metric(Metric { function: name, name: metric, value });
            }
            ProcessEvent::Note { note } => {
                let what = match &note {
                    Note::Waiting { what } => Some(what.clone()),
                    _ => None,
                };
                attempt.noted(note);
                self.report.tell(&Event::Waiting { name, what });
            }
            // Functions are asked for lines.
            ProcessEvent::Output { .. } => {}
            ProcessEvent::Ended { status, signal, left } => {
                let outcome = attempt.ended(AttemptEnd::Process { status, signal });
                if !left.is_empty() {
                    self.report.tell(&Event::Left { name, processes: left });
                }
                self.end(id, outcome);
            }
        }
    }

    fn start(&mut self, id: FunctionId, attempt: u32) {
        let function = &self.suite.tree[id];
        let spec = ProcessSpec {
            name: function.name.clone(),
            argv: vec![this_program(), "__function".to_owned(), function.name.clone()],
            env: vec![(env_vars::STEADING_ATTEMPT.to_owned(), attempt.to_string())],
            streams: Streams::Lines,
        };
        let follower = FunctionFollower {
            id,
            spec,
            log_dir: self.log_dir.to_owned(),
            forks: Arc::clone(&self.forks),
            freeze_on_failure: self.selection.freeze_on_failure,
            inputs: self.sender.clone(),
        };
        if function.options.needs_faults && !self.has_faults {
            self.running.insert(id, Attempt::new(attempt, function.limit));
            self.end(id, Outcome::Skipped { reason: NO_FAULTS.to_owned() });
            return;
        }
        let task = match (self.suite.tree.place(id), &self.unforkable) {
            (RunsIn::Fork(_, ForkFallback::Skip), Some(reason)) => {
                let reason = format!("it needs a fork of the testnet: {reason}");
                self.running.insert(id, Attempt::new(attempt, function.limit));
                self.end(id, Outcome::Skipped { reason });
                return;
            }
            (RunsIn::Fork(_, ForkFallback::Boot), Some(_)) => {
                let setups = self.suite.tree.setups(id).iter();
                let setups = setups.map(|setup| self.suite.tree[*setup].name.clone()).collect();
                self.running.insert(id, Attempt::waiting(attempt));
                self.tasks.spawn(follower.in_anew(setups, attempt))
            }
            (RunsIn::Fork(point, _), None) => {
                self.running.insert(id, Attempt::waiting(attempt));
                self.tasks.spawn(follower.in_fork(point, attempt))
            }
            (place, _) => {
                if attempt == 1 {
                    self.report.tell(&Event::Started { name: function.name.clone() });
                }
                self.running.insert(id, Attempt::new(attempt, function.limit));
                self.forks.enter_group();
                let after = match place {
                    RunsIn::After(point) if self.unforkable.is_none() => Some(point),
                    _ => None,
                };
                self.tasks.spawn(follower.in_group(self.client.clone(), after))
            }
        };
        if let Some(attempt) = self.running.get_mut(&id) {
            attempt.task = Some(task);
        }
    }

    /// A function's fork is up: it begins now.
    fn forked(&mut self, id: FunctionId, client: Client, log_dir: &Utf8Path) {
        let function = &self.suite.tree[id];
        let Some(attempt) = self.running.get_mut(&id) else { return };
        if attempt.number == 1 {
            self.report.tell(&Event::Started { name: function.name.clone() });
        }
        attempt.begins(function.limit);
        let dir = log_dir.strip_prefix(self.log_dir).map(Utf8Path::to_string);
        attempt.fork = Some((client, dir.unwrap_or_default()));
    }

    fn skip(&mut self, id: FunctionId, reason: String) {
        let name = &self.suite.tree[id].name;
        let outcome = Outcome::Skipped { reason };
        // What was not asked for is not worth a line.
        if self.selection.mode == Mode::Tests {
            self.report.tell(&Event::Ended { name: name.clone(), outcome: outcome.clone(), seconds: 0.0 });
            self.summary.add(Row::new(name, Kind::Test, outcome));
        }
    }

    /// A function's attempt is over: there is another one, or this is its outcome.
    fn end(&mut self, id: FunctionId, outcome: Outcome) {
        let Some(attempt) = self.running.remove(&id) else { return };
        let function = &self.suite.tree[id];
        if !matches!(self.suite.tree.place(id), RunsIn::Fork(..)) {
            self.forks.leave_group();
        }
        let attempts = decision::attempts(function.role, function.options.retries, self.selection.retries);
        let is_time_over = Instant::now() >= self.overall_end;
        let before = self.before.remove(&id);
        let numbers = (attempt.number, attempts);
        let outcome = match self.course.after_attempt(outcome, numbers, before, is_time_over) {
            Decision::Retry { number, failure } => {
                self.report.tell(&Event::Retried {
                    name: function.name.clone(),
                    failure: failure.clone(),
                    attempt: (number, attempts),
                });
                self.before.insert(id, failure);
                self.start(id, number);
                return;
            }
            Decision::Final(outcome) => outcome,
        };
        let has_failed = matches!(outcome, Outcome::Failed(_));
        let name = function.name.clone();
        let (began, seconds) = (Some(attempt.began_at), attempt.began.elapsed().as_secs_f64());
        let fork = attempt.fork.as_ref().map(|(_, dir)| dir.clone());
        self.report.tell(&Event::Ended { name: name.clone(), outcome: outcome.clone(), seconds });
        let kind = kind(function.role);
        self.summary.add(Row { name, kind, outcome, began, seconds, fork, lines: attempt.lines() });
        self.schedule.ended(id, !has_failed);
        if has_failed && self.selection.fail_fast && function.role == Role::Test {
            self.schedule.stop("a test has failed and --fail-fast was given");
        }
    }

    /// The soonest moment at which something must be done, whatever comes.
    fn deadline(&self) -> Option<Instant> {
        let overall = self.is_overall_limited().then_some(self.overall_end);
        self.running.values().map(|attempt| attempt.deadline).chain(overall).min()
    }

    /// The limit of the whole run ends setups and tests, and is no limit for who looks at a testnet.
    fn is_overall_limited(&self) -> bool {
        !self.course.is_staying() && self.running.keys().any(|id| self.is_overall_limited_one(*id))
    }

    fn is_overall_limited_one(&self, id: FunctionId) -> bool {
        let is_ending = self.running.get(&id).is_some_and(|attempt| attempt.cut_short.is_some());
        self.suite.tree[id].role != Role::Teardown && !is_ending
    }

    async fn time_is_over(&mut self) {
        let now = Instant::now();
        let is_overall = self.is_overall_limited() && now >= self.overall_end;
        let overall_limit = self.suite.overall_limit.as_secs();
        if is_overall {
            self.schedule.stop(&format!("the time limit of the whole run ({overall_limit} s) is reached"));
        }
        let mut late: Vec<FunctionId> = self.running.keys().copied().collect();
        late.retain(|id| {
            (is_overall && self.is_overall_limited_one(*id)) || now >= self.running[id].deadline
        });
        for id in late {
            let Some(attempt) = self.running.get(&id) else { continue };
            if let Some(failure) = attempt.cut_short.clone() {
                // It was told to end and has not: the group itself is stuck.
                if let Some(task) = &attempt.task {
                    task.abort();
                }
                self.end(id, Outcome::Failed(failure));
                continue;
            }
            let overall = is_overall && now < attempt.deadline;
            let own = self.suite.tree[id].limit.as_secs();
            let seconds = if overall { overall_limit } else { own };
            self.cut_short(id, Failure::TimedOut { seconds, overall }, Signal::TERM).await;
        }
    }

    /// Asks a function to end, with this signal.
    async fn cut_short(&mut self, id: FunctionId, failure: Failure, signal: Signal) {
        let grace = self.selection.grace;
        let Some(attempt) = self.running.get_mut(&id) else { return };
        attempt.cut_short(failure, grace);
        let client = attempt.fork.as_ref().map_or(&self.client, |(client, _)| client);
        if let Some(pid) = attempt.pid {
            // It may have ended by itself meanwhile; its end comes in any case.
            let asked = client.ask_process_to_end(pid, Ending::new(signal.as_raw(), grace));
            let _ = tokio::time::timeout(TEARDOWN_LIMIT, asked).await;
        } else if let Some(task) = &attempt.task {
            // It waits for its fork.
            task.abort();
            let failure = attempt.cut_short.clone().unwrap_or(Failure::Interrupted);
            self.end(id, Outcome::Failed(failure));
        }
    }

    async fn interrupt(&mut self, signal: Signal, count: u32) {
        let response = self.course.interrupt(count);
        if response == OnInterrupt::Leave {
            self.schedule.release();
            // What runs from here on is asked anew.
            self.interrupts = Interrupts::after(Instant::now());
            return;
        }
        self.report.tell(&Event::Interrupted { again: count > 1, grace: self.selection.grace });
        if response == OnInterrupt::Kill {
            self.schedule.abandon(INTERRUPTED);
            self.handle.kill();
            return;
        }
        self.schedule.stop(INTERRUPTED);
        let ids: Vec<FunctionId> = self.running.keys().copied().collect();
        for id in ids {
            if self.suite.tree[id].role != Role::Teardown {
                self.cut_short(id, Failure::Interrupted, signal).await;
            }
        }
    }

    async fn tell_waits(&self) {
        let mut ids: Vec<FunctionId> = self.running.keys().copied().collect();
        ids.sort_unstable();
        let functions = ids.iter().map(|id| self.running[id].wait(&self.suite.tree[*id].name)).collect();
        let status = tokio::time::timeout(TEARDOWN_LIMIT, self.client.status()).await;
        let vms = status.ok().and_then(Result::ok).map(|status| status.vms).unwrap_or_default();
        let vms = vms.into_iter().map(|vm| (vm.name.to_string(), vm.state.as_str().to_owned())).collect();
        self.report.tell(&Event::Waits { functions, vms });
    }

    /// Tears the group down, checks the rules, and judges.
    async fn finish(mut self) -> u8 {
        if !self.course.is_interrupted() {
            // Those of the last functions are still being torn down; one that takes longer is ended.
            let _ = tokio::time::timeout(TEARDOWN_LIMIT, self.forks.all_ended()).await;
        }
        self.tasks.shutdown().await;
        let asked = tokio::time::timeout(TEARDOWN_LIMIT, self.client.tear_down()).await;
        if !matches!(asked, Ok(Ok(()))) {
            self.handle.kill();
        }
        // The end of an owner that was asked to is awaited as long as it may take, then enforced.
        let kill = self.handle.killer();
        let waited = tokio::task::spawn_blocking(move || self.handle.farewell());
        match tokio::time::timeout(TEARDOWN_LIMIT, waited).await {
            Ok(Ok(Ok(problems))) => {
                for problem in problems.lines().filter(|problem| self.reported.add(problem)) {
                    warn(&mut self.summary, self.report, problem.to_owned());
                }
            }
            Ok(_) => {}
            Err(_) => kill(),
        }
        let mut summary = self.summary;
        let is_whole = self.course.is_whole() && self.selection.mode == Mode::Tests;
        if is_whole && self.selection.left_out.is_empty() {
            for (name, outcome) in verdict::check(&self.suite.rules, &summary, self.log_dir) {
                summary.add(Row::new(&name, Kind::Check, outcome));
            }
        }
        if let Err(error) = summary.write(self.log_dir) {
            self.report.tell(&Event::Warning { message: chain(&error) });
        }
        if let Err(error) = write_forks(&summary, self.log_dir) {
            self.report.tell(&Event::Warning { message: chain(&error) });
        }
        // What cannot be shown was run all the same.
        let page = steading_report::write(self.log_dir)
            .map_err(|error| self.report.tell(&Event::Warning { message: chain(&error) }));
        let report = page.ok().map(Utf8PathBuf::into_string);
        if let Some((name, opened)) = self.kept {
            self.report.tell(&match keep(&opened, self.log_dir, self.selection.without_images) {
                Ok(file) => Event::Kept { name, file: file.into_string() },
                Err(error) => Event::Warning { message: chain(&error) },
            });
        }
        let (log_dir, again) = (self.log_dir.to_string(), verdict::again(&summary));
        self.report.tell(&Event::Finished { summary: summary.clone(), log_dir, report, again });
        // Who brings a testnet up to look at it ends that by an interrupt.
        self.course.exit_code(&summary, self.selection.mode == Mode::Tests)
    }
}

fn warn(summary: &mut Summary, report: &Report, message: String) {
    summary.add_warning(message.clone());
    report.tell(&Event::Warning { message });
}

/// Makes a page for each fork: its log, with the function that ran there.
fn write_forks(summary: &Summary, log_dir: &Utf8Path) -> Result<(), ReportError> {
    for row in summary.rows() {
        let Some(dir) = row.fork.as_ref().map(|fork| log_dir.join(fork)) else { continue };
        let mut own = Summary::new(&format!("{}, in a fork of {}", row.name, summary.suite()));
        own.add(Row { fork: None, ..row.clone() });
        own.write(&dir)?;
        steading_report::write(&dir)?;
    }
    Ok(())
}

/// Writes the testnet of a failure next to the logs of its run.
fn keep(opened: &OpenedGroup, log_dir: &Utf8Path, without_images: bool) -> Result<Utf8PathBuf, StoredError> {
    let file = log_dir.join(file_name());
    write_archive(opened, log_dir, &file, |handle| handle != Handle::Image || !without_images)?;
    Ok(file)
}

const fn kind(role: Role) -> Kind {
    match role {
        Role::Setup => Kind::Setup,
        Role::Test => Kind::Test,
        Role::Teardown => Kind::Teardown,
    }
}
