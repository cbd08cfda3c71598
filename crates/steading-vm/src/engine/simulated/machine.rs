//! A simulated machine that runs.

use std::collections::HashMap;
use std::time::Duration;

use steading_sys::process::Exit;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::script::{Script, ScriptStep};
use crate::engine::machine::MachineEvent;

/// The signal by which a machine ends whose power is cut.
const SIGKILL: i32 = 9;

/// How much of a line that does not end is kept, in bytes.
const LINE_MAX: usize = 4096;

/// How long a guest takes to power off, unless its script says otherwise.
const POWER_OFF: Duration = Duration::from_millis(20);

/// What the owner of the group does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlOrder {
    Pause,
    Resume,
    Press,
    CutPower,
    StayWhenOff(bool),
    BootAgain,
}

/// Whether the guest goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guest {
    /// It does its steps.
    Runs,
    /// It panicked, or has nothing more to do but to answer.
    Waits { answers: bool },
    /// It is off, and its machine stays.
    Off,
}

/// What is to happen next, and when.
#[derive(Clone, Copy, Debug)]
enum Next {
    Step,
    PowerOff,
}

/// The machine. Time that it spends paused does not count.
#[derive(Debug)]
pub(super) struct SimulatedMachine {
    script: Script,
    boot: u32,
    console: OwnedWriteHalf,
    typed: OwnedReadHalf,
    /// What was typed since the last end of a line.
    unread: Vec<u8>,
    events: mpsc::UnboundedSender<MachineEvent>,
    guest: Guest,
    at: usize,
    next: Option<(Instant, Next)>,
    paused_at: Option<Instant>,
    stays_when_off: bool,
    uses_button: bool,
    power_off: Duration,
    answers: HashMap<String, ScriptStep>,
}

/// How the machine ended, and what it says of that.
type End = (Exit, String);

impl SimulatedMachine {
    pub(super) fn new(
        script: Script,
        boot: u32,
        console: UnixStream,
        events: mpsc::UnboundedSender<MachineEvent>,
    ) -> Self {
        let (typed, console) = console.into_split();
        let mut machine = Self {
            script,
            boot,
            console,
            typed,
            unread: Vec::new(),
            events,
            guest: Guest::Off,
            at: 0,
            next: None,
            paused_at: None,
            stays_when_off: false,
            uses_button: true,
            power_off: POWER_OFF,
            answers: HashMap::new(),
        };
        machine.boots();
        machine
    }

    /// Runs until it ends.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<ControlOrder>) -> End {
        let mut buffer = [0; 1024];
        loop {
            let due = self.next.filter(|_| self.paused_at.is_none());
            let time = due.map_or_else(Instant::now, |(time, _)| time);
            let listens = self.paused_at.is_none() && self.guest != Guest::Off;
            let end = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    // Nobody has its controls any more.
                    None => Some((Exit::Signal(SIGKILL), String::new())),
                },
                () = sleep_until(time), if due.is_some() => self.due().await,
                read = self.typed.read(&mut buffer), if listens => match read {
                    Ok(length @ 1..) => self.answer(&buffer[..length]).await,
                    _ => Some((Exit::Signal(SIGKILL), String::new())),
                },
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn boots(&mut self) {
        (self.guest, self.at) = (Guest::Runs, 0);
        (self.uses_button, self.power_off) = (true, POWER_OFF);
        self.answers.clear();
        self.next = Some((Instant::now(), Next::Step));
    }

    fn boots_again(&mut self) {
        self.boot += 1;
        self.tell(MachineEvent::Reset);
        self.boots();
    }

    fn tell(&self, event: MachineEvent) {
        // The group may be ending.
        let _ = self.events.send(event);
    }

    async fn print(&mut self, text: &str) {
        // A console that nobody reads any more is that of a group that is ending.
        let _ = self.console.write_all(format!("{text}\r\n").as_bytes()).await;
    }

    fn order(&mut self, order: ControlOrder) -> Option<End> {
        match order {
            ControlOrder::CutPower => return Some((Exit::Signal(SIGKILL), String::new())),
            ControlOrder::StayWhenOff(stays) => self.stays_when_off = stays,
            ControlOrder::Pause if self.paused_at.is_none() => {
                self.paused_at = Some(Instant::now());
                self.tell(MachineEvent::Paused);
            }
            ControlOrder::Resume => self.resumes(),
            ControlOrder::Press
                if self.uses_button && matches!(self.guest, Guest::Runs | Guest::Waits { answers: true }) =>
            {
                self.next = Some((Instant::now() + self.power_off, Next::PowerOff));
                // A second press finds it on its way.
                self.uses_button = false;
            }
            ControlOrder::BootAgain => {
                self.boots_again();
                self.resumes();
            }
            ControlOrder::Pause | ControlOrder::Press => {}
        }
        None
    }

    fn resumes(&mut self) {
        if let Some(paused_at) = self.paused_at.take() {
            if let Some((time, _)) = &mut self.next {
                *time += paused_at.elapsed();
            }
            self.tell(MachineEvent::Resumed);
        }
    }

    async fn due(&mut self) -> Option<End> {
        match self.next.take()?.1 {
            Next::PowerOff => self.powers_off().await,
            Next::Step => {
                let Some(step) = self.script.step(self.boot, self.at) else {
                    self.guest = Guest::Waits { answers: true };
                    return None;
                };
                self.at += 1;
                self.next = Some((Instant::now(), Next::Step));
                self.does(step).await
            }
        }
    }

    async fn powers_off(&mut self) -> Option<End> {
        self.print("reboot: Power down").await;
        self.tell(MachineEvent::GuestOff);
        if !self.stays_when_off {
            return Some((Exit::Status(0), String::new()));
        }
        (self.guest, self.next, self.paused_at) = (Guest::Off, None, Some(Instant::now()));
        self.tell(MachineEvent::Paused);
        None
    }

    /// Answers the lines that are whole by now. A guest that has panicked reads none.
    async fn answer(&mut self, typed: &[u8]) -> Option<End> {
        self.unread.extend_from_slice(typed);
        while let Some(end) = self.unread.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let answers = matches!(self.guest, Guest::Runs | Guest::Waits { answers: true });
            let step = self.answers.get(String::from_utf8_lossy(&line).trim()).filter(|_| answers).cloned();
            if let Some(step) = step
                && let Some(end) = self.does(step).await
            {
                return Some(end);
            }
        }
        self.unread.truncate(LINE_MAX);
        None
    }

    async fn does(&mut self, step: ScriptStep) -> Option<End> {
        match step {
            ScriptStep::Print(text) => self.print(&text).await,
            ScriptStep::Wait(time) => self.next = Some((Instant::now() + time, Next::Step)),
            ScriptStep::Panic => {
                self.print("Kernel panic - not syncing: simulated").await;
                (self.guest, self.next) = (Guest::Waits { answers: false }, None);
                self.tell(MachineEvent::Panicked);
            }
            ScriptStep::PowerOff => return self.powers_off().await,
            ScriptStep::Reset => self.boots_again(),
            ScriptStep::Suspend => self.tell(MachineEvent::Suspended),
            ScriptStep::Wake => self.tell(MachineEvent::Woken),
            ScriptStep::Die(status) => return Some((Exit::Status(status), "the script says so".to_owned())),
            ScriptStep::UseButton(uses) => self.uses_button = uses,
            ScriptStep::PowerOffTakes(time) => self.power_off = time,
            ScriptStep::On(line, step) => drop(self.answers.insert(line, *step)),
        }
        None
    }
}
