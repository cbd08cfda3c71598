//! The owner of the group's log: one task that takes what everybody else has to tell.

use std::sync::Arc;

use jiff::Timestamp;
use steading_logs::journal::FollowEvent;
use steading_logs::{
    ConsoleSign, FaultEvent, FileAccess, Record, Stream, TestLog, TextMatch, TextWait, VmEvent, WARNING,
};
use steading_plan::{VmName, text};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// How much is shown of each last line of a console, in bytes.
const TAIL_LINE_MAX: usize = 1000;

/// So many messages may wait. More hold up those who send: a console, and with it its guest, for
/// as long as the disk takes.
const WAITING: usize = 256;

enum Message {
    Console(VmName, Vec<u8>, oneshot::Sender<Vec<ConsoleSign>>),
    Boot(VmName, oneshot::Sender<u32>),
    Reset(VmName, oneshot::Sender<Option<u32>>),
    GoOn(VmName, u32),
    Journal(VmName, Box<FollowEvent>),
    Driver(Option<VmName>, String),
    Warning(Option<VmName>, String),
    Event(VmName, VmEvent),
    Fault(FaultEvent, String),
    Access(Option<VmName>, Box<FileAccess>, String),
    Test(Option<String>, String),
    Tail(VmName, usize, oneshot::Sender<Vec<String>>),
    Positions(VmName, oneshot::Sender<Positions>),
    Look(VmName, TextWait, oneshot::Sender<(Option<TextMatch>, TextWait)>),
    Subscribe(oneshot::Sender<broadcast::Receiver<Arc<Record>>>),
    Flushes(oneshot::Sender<watch::Receiver<u64>>),
    Flush(oneshot::Sender<()>),
    Finish(oneshot::Sender<Vec<String>>),
}

/// Where a console stands.
#[derive(Debug)]
pub(crate) struct Positions {
    /// Where what is kept begins.
    pub(crate) start: u64,
    /// Where the present boot begins.
    pub(crate) boot: u64,
    /// Changes with each new text.
    pub(crate) progress: watch::Receiver<u64>,
}

/// A handle to the log.
#[derive(Clone, Debug)]
pub(crate) struct Log(mpsc::Sender<Message>);

/// The task behind it.
pub(crate) struct LogTask {
    log: TestLog,
    messages: mpsc::Receiver<Message>,
    /// What went wrong with its files.
    problems: Vec<String>,
}

impl Log {
    pub(crate) fn new(log: TestLog) -> (Self, LogTask) {
        let (sender, messages) = mpsc::channel(WAITING);
        (Self(sender), LogTask { log, messages, problems: Vec::new() })
    }

    pub(crate) async fn console(&self, vm: &VmName, bytes: &[u8]) -> Vec<ConsoleSign> {
        self.ask(|reply| Message::Console(vm.clone(), bytes.to_vec(), reply)).await.unwrap_or_default()
    }

    /// Marks a boot and returns its number.
    pub(crate) async fn boot(&self, vm: &VmName) -> u32 {
        self.ask(|reply| Message::Boot(vm.clone(), reply)).await.unwrap_or_default()
    }

    /// Marks a reset and returns the boot's number, if it begins one.
    pub(crate) async fn reset(&self, vm: &VmName) -> Option<u32> {
        self.ask(|reply| Message::Reset(vm.clone(), reply)).await.flatten()
    }

    /// Marks that a VM goes on from where it was frozen, in this boot.
    pub(crate) async fn go_on(&self, vm: &VmName, boot: u32) {
        self.tell(Message::GoOn(vm.clone(), boot)).await;
    }

    pub(crate) async fn journal(&self, vm: &VmName, event: FollowEvent) {
        self.tell(Message::Journal(vm.clone(), Box::new(event))).await;
    }

    pub(crate) async fn driver(&self, vm: Option<&VmName>, message: &str) {
        self.tell(Message::Driver(vm.cloned(), message.to_owned())).await;
    }

    /// What happened to a VM.
    pub(crate) async fn event(&self, vm: &VmName, event: VmEvent) {
        self.tell(Message::Event(vm.clone(), event)).await;
    }

    /// A fault of the network has begun or ended.
    pub(crate) async fn fault(&self, event: FaultEvent, message: String) {
        self.tell(Message::Fault(event, message)).await;
    }

    /// Somebody has asked the file server for something.
    pub(crate) async fn access(&self, vm: Option<VmName>, access: FileAccess, message: String) {
        self.tell(Message::Access(vm, Box::new(access), message)).await;
    }

    /// What is not as it should be; the runner tells it to people.
    pub(crate) async fn warn(&self, vm: Option<&VmName>, message: &str) {
        self.tell(Message::Warning(vm.cloned(), message.to_owned())).await;
    }

    pub(crate) async fn test(&self, function: Option<String>, message: String) {
        self.tell(Message::Test(function, message)).await;
    }

    pub(crate) async fn tail(&self, vm: &VmName, count: usize) -> Vec<String> {
        self.ask(|reply| Message::Tail(vm.clone(), count, reply)).await.unwrap_or_default()
    }

    pub(crate) async fn positions(&self, vm: &VmName) -> Option<Positions> {
        self.ask(|reply| Message::Positions(vm.clone(), reply)).await
    }

    pub(crate) async fn look(&self, vm: &VmName, wait: TextWait) -> Option<(Option<TextMatch>, TextWait)> {
        self.ask(|reply| Message::Look(vm.clone(), wait, reply)).await
    }

    pub(crate) async fn subscribe(&self) -> Option<broadcast::Receiver<Arc<Record>>> {
        self.ask(Message::Subscribe).await
    }

    /// Changes whenever more of `log.jsonl` can be read; closed when all of it can.
    pub(crate) async fn flushes(&self) -> Option<watch::Receiver<u64>> {
        self.ask(Message::Flushes).await
    }

    /// Has all that was merged by now be in `log.jsonl`.
    pub(crate) async fn flush(&self) {
        // One that is ending flushes by itself.
        let _ = self.ask(Message::Flush).await;
    }

    /// Writes all that is left. Nothing is taken after it. Returns what went wrong with the log, also what was
    /// told as a warning: those who listened may have left a moment before.
    pub(crate) async fn finish(&self) -> Vec<String> {
        self.ask(Message::Finish).await.unwrap_or_default()
    }

    async fn tell(&self, message: Message) {
        // The log ends last; then there is nobody to tell.
        let _ = self.0.send(message).await;
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(message(reply)).await;
        answer.await.ok()
    }
}

impl LogTask {
    /// Takes messages until it is told to finish, or everybody is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let deadline = self.log.deadline();
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(Message::Finish(reply)) => {
                        let last = self.log.finish();
                        self.problems.extend(last.iter().map(|problem| steading_api::chain(problem)));
                        // Who asked may have given up.
                        let _ = reply.send(self.problems);
                        return;
                    }
                    Some(message) => self.take(message),
                    None => {
                        self.log.finish();
                        return;
                    }
                },
                () = due => self.log.tick(),
            }
            for problem in self.log.take_problems() {
                let problem = steading_api::chain(&problem);
                self.problems.push(problem.clone());
                self.warn(None, problem);
            }
        }
    }

    fn warn(&mut self, vm: Option<VmName>, message: String) {
        let record = Record::new(Timestamp::now(), vm, Stream::Driver, message);
        self.log.record(Record { priority: Some(WARNING), ..record });
    }

    /// Who asked and did not wait for the answer does not want it.
    fn take(&mut self, message: Message) {
        let log = &mut self.log;
        match message {
            Message::Warning(vm, message) => self.warn(vm, message),
            Message::Event(vm, event) => log.vm_event(&vm, event),
            Message::Fault(event, message) => {
                let record = Record::new(Timestamp::now(), None, Stream::Driver, message);
                log.record(Record { fault: Some(event), ..record });
            }
            Message::Access(vm, access, message) => {
                let record = Record::new(Timestamp::now(), vm, Stream::Driver, message);
                log.record(Record { access: Some(*access), ..record });
            }
            Message::Console(vm, bytes, reply) => {
                let _ = reply.send(log.console_bytes(&vm, &bytes));
            }
            Message::Boot(vm, reply) => {
                let _ = reply.send(log.mark_boot(&vm));
            }
            Message::Reset(vm, reply) => {
                let _ = reply.send(log.mark_reset(&vm));
            }
            Message::GoOn(vm, boot) => log.go_on(&vm, boot),
            Message::Journal(vm, event) => log.journal_event(&vm, *event),
            Message::Driver(vm, message) => log.driver(vm.as_ref(), &message),
            Message::Test(function, message) => log.test(function.as_deref(), &message),
            Message::Tail(vm, count, reply) => {
                let console = log.console_entry(&vm);
                let shown = |line: &str| text::bounded(&text::one_line(line), TAIL_LINE_MAX).into_owned();
                let _ = reply.send(console.tail(count).into_iter().map(shown).collect());
            }
            Message::Positions(vm, reply) => {
                let console = log.console_entry(&vm);
                let positions = Positions {
                    start: console.text().start(),
                    boot: console.boot_start(),
                    progress: console.progress(),
                };
                let _ = reply.send(positions);
            }
            Message::Look(vm, mut wait, reply) => {
                let found = wait.look(log.console_entry(&vm).text());
                let _ = reply.send((found, wait));
            }
            Message::Subscribe(reply) => {
                let _ = reply.send(log.subscribe());
            }
            Message::Flushes(reply) => {
                let _ = reply.send(log.flushes());
            }
            Message::Flush(reply) => {
                log.flush();
                let _ = reply.send(());
            }
            Message::Finish(_) => unreachable!("run takes it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::*;

    #[tokio::test]
    async fn what_went_wrong_with_the_log_is_said_at_its_end_whoever_heard_it_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(dir.path()).expect("a path in UTF-8");
        // It takes nothing (full(4)).
        std::os::unix::fs::symlink("/dev/full", dir.join("log.jsonl")).expect("a link");
        let (log, task) = Log::new(TestLog::open(dir).expect("a log"));
        let running = tokio::spawn(task.run());
        log.driver(None, "something").await;
        let mut records = log.subscribe().await.expect("records");
        // It is written after a moment.
        while records.recv().await.expect("a record").priority != Some(WARNING) {}
        let problems = log.finish().await;
        running.await.expect("it ends");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("No space left on device"), "{problems:?}");
    }
}
