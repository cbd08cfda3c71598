//! Events for people: talk on standard error, results on standard output, and nothing that needs
//! colour to be understood. On a terminal, what goes on stands in lines below what was printed; where
//! there is none, each change of state is a line.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use owo_colors::OwoColorize as _;
use steading_logs::VmEvent;
use unicode_width::UnicodeWidthStr as _;

use crate::board::{Board, folded, shortened};
use crate::output::{eprintln, println};
use crate::screen::{self, Screen};
use crate::{Event, Outcome, Summary, VmSign, Wait};

/// How often a screen that shows seconds is redrawn.
const REDRAWN_EVERY: Duration = Duration::from_millis(250);

/// Prints events as they come.
#[derive(Debug)]
pub struct Report {
    began: Instant,
    board: RefCell<Board>,
    /// None where nothing may move.
    screen: Option<Screen>,
    is_silent: bool,
    given_way: Cell<GivenWay>,
    /// What is told when the terminal is free again.
    kept: RefCell<Vec<Event>>,
}

/// Whether a program of the user writes to the same streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum GivenWay {
    #[default]
    No,
    /// It writes there, too: nothing moves, and each event is a line.
    Lines,
    /// It has the terminal for itself.
    Terminal,
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

impl Report {
    /// A report that counts its seconds from now.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            board: RefCell::default(),
            screen: Screen::of_stderr(),
            is_silent: false,
            given_way: Cell::default(),
            kept: RefCell::default(),
        }
    }

    /// A report that tells no event; data is printed.
    pub fn silent() -> Self {
        Self { screen: None, is_silent: true, ..Self::new() }
    }

    /// A program of the user writes to standard error, or has the whole terminal, until
    /// [`Self::take_back`]: nothing moves meanwhile. To one that has the terminal, only what is serious is
    /// told, and afterwards.
    pub fn give_way(&self, has_terminal: bool) {
        if let Some(screen) = &self.screen {
            screen.show(&[]);
        }
        self.given_way.set(if has_terminal { GivenWay::Terminal } else { GivenWay::Lines });
    }

    /// The program has ended.
    pub fn take_back(&self) {
        let before = self.given_way.replace(GivenWay::No);
        if before == GivenWay::No {
            return;
        }
        self.given_way.set(GivenWay::Lines);
        for event in self.kept.take() {
            self.tell(&event);
        }
    }

    /// Whether there are lines that move.
    pub fn is_live(&self) -> bool {
        self.moving().is_some()
    }

    fn moving(&self) -> Option<&Screen> {
        self.screen.as_ref().filter(|_| self.given_way.get() == GivenWay::No)
    }

    /// When [`Self::redraw`] is to be called, if at all.
    pub fn redraw_at(&self) -> Option<Instant> {
        (self.is_live() && self.board.borrow().is_moving()).then(|| Instant::now() + REDRAWN_EVERY)
    }

    /// Draws what goes on with the seconds that have passed.
    pub fn redraw(&self) {
        if let Some(screen) = self.moving() {
            screen.show(&self.board.borrow().lines(screen::size(), self.began.elapsed()));
        }
    }

    /// Prints a line of data.
    pub fn print(&self, line: &str) {
        // Where data goes elsewhere it is not in the way of what moves.
        match self.moving().filter(|_| screen::stdout_is_terminal()) {
            Some(screen) => screen.above(|| println!("{line}")),
            None => println!("{line}"),
        }
    }

    /// Prints an event.
    pub fn tell(&self, event: &Event) {
        if self.is_silent {
            return;
        }
        if self.given_way.get() == GivenWay::Terminal {
            if is_serious(event) {
                self.kept.borrow_mut().push(event.clone());
            }
            return;
        }
        let event = &event.safe();
        let now = self.began.elapsed();
        let mut board = self.board.borrow_mut();
        board.take(event, now);
        let Some(screen) = self.moving() else {
            let since_start = match event {
                Event::Vm { vm, .. } => board.since_start(vm, now),
                _ => None,
            };
            Lines { now, since_start, columns: None }.print(event);
            board.take_up(screen::UNBOUNDED, now);
            return;
        };
        let size = screen::size();
        let up = board.take_up(size, now);
        screen.show(&board.lines(size, now));
        let is_printed = !is_on_the_board(event);
        if is_printed || !up.is_empty() {
            screen.above(|| {
                if is_printed {
                    Lines { now, since_start: None, columns: Some(size.columns) }.print(event);
                }
                for line in &up {
                    eprintln!("{line}");
                }
            });
        }
    }
}

/// Whether an event must not be lost.
fn is_serious(event: &Event) -> bool {
    matches!(
        event,
        Event::Warning { .. }
            | Event::Error { .. }
            | Event::Left { .. }
            | Event::Interrupted { .. }
            | Event::CommandEnded { .. }
    )
}

/// Whether the board has all that an event tells.
fn is_on_the_board(event: &Event) -> bool {
    match event {
        Event::Queued { .. }
        | Event::Preparing { .. }
        | Event::Starting
        | Event::Started { .. }
        | Event::Waiting { .. } => true,
        Event::Vm { sign, .. } => matches!(
            sign,
            VmSign::Spoke | VmSign::Event(VmEvent::On { .. } | VmEvent::Reachable | VmEvent::Answering)
        ),
        _ => false,
    }
}

/// How events are printed as lines.
struct Lines {
    now: Duration,
    /// Of a VM that comes up: how long ago it was started.
    since_start: Option<Duration>,
    /// Names are shortened for a terminal of this width.
    columns: Option<usize>,
}

impl Lines {
    /// A name that has this much of the line for others.
    fn name(&self, name: &str, others: usize) -> String {
        self.columns
            .map_or_else(|| name.to_owned(), |columns| shortened(name, columns.saturating_sub(others).max(8)))
    }

    fn print_plan(&self, event: &Event) {
        let Event::Planned { suite, resources, vms, acceleration, reason } = event else { return };
        let plural = if vms.len() == 1 { "" } else { "s" };
        eprintln!("{} {} VM{plural}, {resources}", format!("{suite}:").bold(), vms.len());
        for vm in vms {
            eprintln!("  {:<16} {}", self.name(&vm.name, 44), vm.address);
        }
        let runs = format!("runs by {acceleration}: {reason}");
        for line in self.columns.map_or_else(|| vec![runs.clone()], |columns| folded(&runs, columns)) {
            eprintln!("  {line}");
        }
    }

    fn print(&self, event: &Event) {
        let seconds = self.now.as_secs_f64();
        match event {
            Event::Planned { .. } => self.print_plan(event),
            Event::Queued { needs, place, held } => {
                let place = place.map_or_else(
                    || "the queue is locked by a process that does not go on".to_owned(),
                    |(place, of)| format!("place {place} of {of}"),
                );
                eprintln!("{seconds:>7.1} s  waiting for {needs}: {place}; {held}");
            }
            Event::Admitted { needs, seconds: waited } => {
                eprintln!("{seconds:>7.1} s  {needs} are reserved, after {waited:.1} s");
            }
            Event::Starting => eprintln!("{seconds:>7.1} s  the group is started …"),
            Event::Vm { vm, sign } => {
                let after = self.since_start.map(|since| format!(" ({:.1} s)", since.as_secs_f64()));
                let text = format!("VM {vm}: {sign}{}", after.unwrap_or_default());
                eprintln!("{seconds:>7.1} s  {}", text.dimmed());
            }
            Event::Kept { name, file } => {
                println!("the testnet as it was when {name} failed: steading resume {file}");
            }
            Event::Warm { what } => eprintln!("{seconds:>7.1} s  the testnet: {what}"),
            Event::Preparing { vm, step } => eprintln!("{seconds:>7.1} s  VM {vm}: {step} …"),
            // What a function waits for is told when it fails by it.
            Event::Waiting { .. } => {}
            Event::Started { name } => eprintln!("{seconds:>7.1} s  {name} …"),
            Event::Line { name, text } => {
                eprintln!("{seconds:>7.1} s  {} {text}", format!("{name}|").dimmed());
            }
            // The summary has all of it.
            Event::Ended { name, outcome: Outcome::Skipped { reason }, .. } if self.columns.is_some() => {
                let (name, skipped) = (self.name(name, 32), "skipped".yellow());
                let reason = self.name(reason, 23 + name.width());
                eprintln!("{seconds:>7.1} s  {name} {skipped}: {reason}");
            }
            Event::Ended { name, outcome, seconds: took } => {
                let (name, verdict) = (self.name(name, 32), verdict(outcome));
                eprintln!("{seconds:>7.1} s  {name} {verdict} ({took:.1} s)");
            }
            Event::Retried { name, failure, attempt: (attempt, of) } => {
                let failed = "failed".yellow();
                eprintln!("{seconds:>7.1} s  {name} {failed}: {failure}; attempt {attempt} of {of} …");
            }
            Event::Waits { functions, vms } => waiting(seconds, functions, vms),
            Event::Left { name, processes } => {
                eprintln!("{seconds:>7.1} s  {name} had left running, now ended: {}", processes.join("; "));
            }
            Event::Interrupted { again: false, grace } => {
                let grace = grace.as_secs_f64();
                eprintln!(
                    "{seconds:>7.1} s  interrupted: ending what runs, within {grace} s; once more ends everything at once"
                );
            }
            Event::Interrupted { again: true, .. } => {
                eprintln!("{seconds:>7.1} s  interrupted again: ending at once");
            }
            Event::CommandEnded { status, log_dir } => {
                eprintln!("{seconds:>7.1} s  the command has ended with status {status}; logs: {log_dir}");
            }
            Event::Staying { socket, owner } => staying(seconds, socket, *owner),
            Event::Warning { message } => eprintln!("{} {message}", "warning:".yellow().bold()),
            Event::Error { message } => eprintln!("{} {message}", "error:".red().bold()),
            Event::Finished { summary, log_dir, report, again } => {
                finished(summary, log_dir, report.as_deref(), again.as_deref());
            }
        }
    }
}

fn waits(wait: &Wait) -> String {
    let Wait { name, seconds, what } = wait;
    match what {
        Some((what, since)) => format!("{name} has run for {seconds:.0} s; for {since:.0} s: {what}"),
        None => format!("{name} has run for {seconds:.0} s and waits for nothing that we know of"),
    }
}

fn verdict(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => format!("{}", "passed".green()),
        Outcome::Flaky { attempt, before } => {
            format!("{} at attempt {attempt}; the one before {before}", "flaky: passed".yellow())
        }
        Outcome::Failed(failure) => format!("{}: {failure}", "FAILED".red().bold()),
        Outcome::Skipped { reason } => format!("{}: {reason}", "skipped".yellow()),
    }
}

fn finished(summary: &Summary, log_dir: &str, report: Option<&str>, again: Option<&str>) {
    for row in summary.rows() {
        if let Outcome::Failed(failure) = &row.outcome {
            println!();
            let said = if row.lines.is_empty() { "" } else { "; it said last:" };
            println!("{} {} {failure}{said}", "FAILED".red().bold(), row.name.bold());
            for line in &row.lines {
                println!("    {line}");
            }
        }
    }
    if summary.failed() > 0 && !summary.warnings().is_empty() {
        println!();
        println!("{}", "while it ran:".bold());
        for warning in summary.warnings() {
            println!("    {warning}");
        }
    }
    println!();
    for row in summary.rows() {
        println!("{:>7.1} s  {:<44} {}", row.seconds, row.name, verdict(&row.outcome));
    }
    println!("logs: {log_dir}");
    if let Some(report) = report {
        println!("report: {report}");
    }
    if let Some(again) = again {
        println!("again, and look into the testnet: {again}");
    }
    for metric in summary.metrics() {
        println!("measured: {} = {} ({})", metric.name, metric.value, metric.function);
    }
    let flaky = match summary.flaky() {
        0 => String::new(),
        count => format!(", {count} flaky"),
    };
    let (passed, failed, skipped) = (summary.passed(), summary.failed(), summary.skipped());
    println!("{passed} passed, {failed} failed, {skipped} skipped{flaky}");
}
/// The testnet stays up.
fn staying(seconds: f64, socket: &str, owner: Option<i32>) {
    eprintln!("{seconds:>7.1} s  the testnet is up; Ctrl-C ends it");
    if let Some(owner) = owner {
        eprintln!(
            "  a shell inside its network: nsenter --user --preserve-credentials --net --target {owner}"
        );
    }
    eprintln!("  its control API: {socket}");
}

/// What functions wait for, and what VMs do.
fn waiting(seconds: f64, functions: &[Wait], vms: &[(String, String)]) {
    if functions.is_empty() {
        eprintln!("{seconds:>7.1} s  no function runs");
    }
    for wait in functions {
        eprintln!("{seconds:>7.1} s  {}", waits(wait));
    }
    for (vm, state) in vms {
        eprintln!("{seconds:>7.1} s  VM {vm} is {state}");
    }
}
