//! What goes on right now, as lines: a line for each VM that comes up and for each function that
//! runs. Pure: the clock and the size of the screen are told to it, and who draws is somebody else.

use std::net::Ipv6Addr;
use std::time::Duration;

use owo_colors::OwoColorize as _;
use steading_logs::VmEvent;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::{Event, ImageStep, PlannedVm, VmSign};

/// Columns that stay free at the end of lines: for what a terminal echoes when Ctrl-C is typed.
const SPARE: usize = 3;

/// Rows that stay free, so that what was printed last can be seen.
const ROWS_SPARE: usize = 4;

/// The columns of a VM's line: its name, the longest address there is, the longest state, and seconds.
const NAME: usize = 13;
const ADDRESS: usize = 39;
const STATE: usize = 14;

/// Of a name at least so much is shown next to a whole state and address.
const NAME_LEAST: usize = 6;

/// How far a VM is that comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Image(ImageStep),
    Starting,
    Booting,
    Reachable,
    Answering,
}

#[derive(Debug)]
struct VmLine {
    name: String,
    address: Ipv6Addr,
    state: State,
    /// Since when it is started, and until when that took.
    since: Duration,
    until: Option<Duration>,
}

#[derive(Debug)]
struct FunctionLine {
    name: String,
    since: Duration,
    waits_for: Option<String>,
}

/// The group waits for room.
#[derive(Debug)]
struct QueueLine {
    needs: String,
    place: Option<(usize, usize)>,
    held: String,
    since: Duration,
}

/// Everything that goes on.
#[derive(Debug, Default)]
pub(crate) struct Board {
    queue: Option<QueueLine>,
    planned: Vec<PlannedVm>,
    vms: Vec<VmLine>,
    functions: Vec<FunctionLine>,
}

/// How large a screen is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Board {
    /// Takes an event that came so long after the beginning.
    pub(crate) fn take(&mut self, event: &Event, now: Duration) {
        match event {
            Event::Planned { vms, .. } => {
                self.planned.clone_from(vms);
                let starting: Vec<PlannedVm> = vms.iter().filter(|vm| vm.autostart).cloned().collect();
                self.vms = starting.into_iter().map(|vm| line(vm, State::Waiting, now)).collect();
            }
            Event::Queued { needs, place, held } => {
                let since = self.queue.as_ref().map_or(now, |queue| queue.since);
                let (needs, held) = (needs.clone(), held.clone());
                self.queue = Some(QueueLine { needs, place: *place, held, since });
            }
            Event::Admitted { .. } => self.queue = None,
            Event::Preparing { vm, step } => self.set(vm, State::Image(*step), now),
            Event::Starting => {
                for vm in &mut self.vms {
                    (vm.state, vm.since) = (State::Starting, now);
                }
            }
            Event::Vm { vm, sign } => self.sign(vm, sign, now),
            Event::Started { name } => {
                let name = name.clone();
                self.functions.push(FunctionLine { name, since: now, waits_for: None });
            }
            Event::Waiting { name, what } => {
                if let Some(function) = self.functions.iter_mut().find(|function| function.name == *name) {
                    function.waits_for.clone_from(what);
                }
            }
            Event::Retried { name, .. } => {
                if let Some(function) = self.functions.iter_mut().find(|function| function.name == *name) {
                    (function.since, function.waits_for) = (now, None);
                }
            }
            Event::Ended { name, .. } => self.functions.retain(|function| function.name != *name),
            Event::CommandEnded { .. } | Event::Finished { .. } | Event::Error { .. } => {
                self.queue = None;
                self.vms.clear();
                self.functions.clear();
            }
            _ => {}
        }
    }

    fn sign(&mut self, vm: &str, sign: &VmSign, now: Duration) {
        match sign {
            VmSign::Spoke => self.advance(vm, State::Booting, now),
            VmSign::Event(VmEvent::On { .. }) => {
                self.vms.retain(|line| line.name != vm);
                if let Some(vm) = self.planned.iter().find(|planned| planned.name == vm) {
                    self.vms.push(line(vm.clone(), State::Starting, now));
                }
            }
            VmSign::Event(VmEvent::Reachable) => self.advance(vm, State::Reachable, now),
            VmSign::Event(VmEvent::Answering) => self.advance(vm, State::Answering, now),
            VmSign::Event(VmEvent::Off { .. }) => self.vms.retain(|line| line.name != vm),
            // Of these a line of their own tells more.
            VmSign::Event(
                VmEvent::Paused
                | VmEvent::Resumed
                | VmEvent::Panicked
                | VmEvent::Suspended
                | VmEvent::Woken
                | VmEvent::Frozen { .. }
                | VmEvent::Forked { .. },
            ) => {}
        }
    }

    /// A VM whose console speaks after it has answered is no less up.
    fn advance(&mut self, vm: &str, state: State, now: Duration) {
        let is_up = |line: &VmLine| line.name == vm && line.state == State::Answering;
        if !self.vms.iter().any(is_up) {
            self.set(vm, state, now);
        }
    }

    fn set(&mut self, vm: &str, state: State, now: Duration) {
        if let Some(line) = self.vms.iter_mut().find(|line| line.name == vm) {
            line.state = state;
            line.until = (state == State::Answering).then_some(now);
        }
    }

    /// How long ago a VM that comes up was started.
    pub(crate) fn since_start(&self, vm: &str, now: Duration) -> Option<Duration> {
        let line = self.vms.iter().find(|line| line.name == vm)?;
        Some(now.saturating_sub(line.since))
    }

    /// The lines of VMs, once all that were to come up are up; then nothing is going on with them.
    pub(crate) fn take_up(&mut self, size: Size, now: Duration) -> Vec<String> {
        if self.vms.iter().any(|vm| vm.state != State::Answering) {
            return Vec::new();
        }
        std::mem::take(&mut self.vms).iter().map(|vm| vm.shown(width(size), now)).collect()
    }

    /// Whether seconds pass on it.
    pub(crate) fn is_moving(&self) -> bool {
        !self.vms.is_empty() || !self.functions.is_empty()
    }

    /// All lines, none wider than the screen, and fewer than it has rows.
    pub(crate) fn lines(&self, size: Size, now: Duration) -> Vec<String> {
        let width = width(size);
        let room = size.rows.saturating_sub(ROWS_SPARE).max(2);
        let functions = self.functions.iter().map(|function| function.shown(width, now)).collect();
        let functions: Vec<String> =
            cut(functions, room.div_ceil(2).max(room.saturating_sub(self.vms.len())), width);
        let answering = self.vms.iter().filter(|vm| vm.state == State::Answering).count();
        let vms: Vec<String> = self.vms.iter().map(|vm| vm.shown(width, now)).collect();
        let queue = self.queue.iter().flat_map(|queue| queue.shown(width, now));
        let queue: Vec<String> = queue.take(room - functions.len()).collect();
        let rows = room - functions.len() - queue.len();
        let mut lines = if vms.len() > rows {
            // Those that are not up yet are what is waited for.
            let shown =
                self.vms.iter().filter(|vm| vm.state != State::Answering).take(rows.saturating_sub(1));
            let shown: Vec<String> = shown.map(|vm| vm.shown(width, now)).collect();
            let more = format!("  … {} VMs, {answering} answer", self.vms.len());
            shown.into_iter().chain([shortened(&more, width)]).collect()
        } else {
            vms
        };
        lines.extend(queue);
        lines.extend(functions);
        lines
    }
}

/// The first of them, and the number of the others, in at most that many lines.
fn cut(mut lines: Vec<String>, most: usize, width: usize) -> Vec<String> {
    if lines.len() > most {
        let more = lines.len() + 1 - most;
        lines.truncate(most - 1);
        lines.push(shortened(&format!("  … {more} more run"), width));
    }
    lines
}

fn line(vm: PlannedVm, state: State, now: Duration) -> VmLine {
    VmLine { name: vm.name, address: vm.address, state, since: now, until: None }
}

const fn width(size: Size) -> usize {
    size.columns.saturating_sub(SPARE)
}

impl State {
    fn shown(self) -> String {
        match self {
            Self::Waiting => "waiting".to_owned(),
            Self::Image(ImageStep::Hashing { percent }) => format!("hashing {percent}%"),
            Self::Image(ImageStep::Unpacking { percent, .. }) => format!("unpacking {percent}%"),
            Self::Image(ImageStep::Waiting) => "image awaited".to_owned(),
            Self::Starting => "starting".to_owned(),
            Self::Booting => "booting".to_owned(),
            Self::Reachable => "address is up".to_owned(),
            Self::Answering => "answers".to_owned(),
        }
    }
}

impl QueueLine {
    fn shown(&self, width: usize, now: Duration) -> [String; 2] {
        let seconds = seconds(now.saturating_sub(self.since));
        let place =
            self.place.map_or_else(|| "no place yet".to_owned(), |(at, of)| format!("place {at} of {of}"));
        let room = width.saturating_sub(3 + seconds.width());
        let first = padded(&shortened(&format!("waiting for {}: {place}", self.needs), room), room);
        let second = shortened(&format!("    {}", self.held), width);
        [format!("  {first} {seconds}"), format!("{}", second.dimmed())]
    }
}

impl VmLine {
    fn shown(&self, width: usize, now: Duration) -> String {
        let state = padded(&self.state.shown(), STATE);
        let state = match self.state {
            State::Answering => format!("{}", state.green()),
            _ => state,
        };
        let seconds = seconds(self.until.unwrap_or(now).saturating_sub(self.since));
        let fixed = 2 + 1 + STATE + 1 + seconds.width();
        if width < fixed + NAME_LEAST {
            return self.narrow(width, &seconds);
        }
        let (name, address) = match width.checked_sub(fixed + ADDRESS + 1) {
            Some(room) if room >= NAME_LEAST => (room.min(NAME), Some(self.address.to_string())),
            // An address that is cut is none.
            _ => ((width - fixed).min(NAME), None),
        };
        let name = padded(&shortened(&self.name, name), name);
        let address = address.map(|address| format!(" {}", padded(&address, ADDRESS).dimmed()));
        format!("  {name}{} {state} {seconds}", address.unwrap_or_default())
    }

    /// On a screen where not all has room: the name first, then the seconds, then as much of the state as fits.
    fn narrow(&self, width: usize, seconds: &str) -> String {
        let name = shortened(&self.name, NAME.min(width.saturating_sub(2)));
        let Some(room) = width.checked_sub(2 + name.width() + 1 + seconds.width()) else {
            return shortened(&format!("  {name}"), width);
        };
        let state = match room.checked_sub(1) {
            Some(room) if room >= 3 => format!(" {}", padded(&shortened(&self.state.shown(), room), room)),
            _ => " ".repeat(room),
        };
        format!("  {name}{state} {seconds}")
    }
}

impl FunctionLine {
    fn shown(&self, width: usize, now: Duration) -> String {
        let seconds = seconds(now.saturating_sub(self.since));
        let room = width.saturating_sub(3 + seconds.width());
        let name = shortened(&self.name, room);
        let rest = room.saturating_sub(name.width() + 2);
        // A few letters of a reason tell nothing.
        let reason = self.waits_for.as_deref().filter(|_| rest >= 8).map(|what| shortened(what, rest));
        let reason = reason.unwrap_or_default();
        let gap = room.saturating_sub(name.width() + reason.width());
        format!("  {name}{}{} {seconds}", " ".repeat(gap), reason.dimmed())
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:>4} s", duration.as_secs())
}

fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// At most so many columns of a text, with `…` where something is missing. Nothing in it moves a
/// cursor.
pub(crate) fn shortened(text: &str, width: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.width() <= width {
        return clean;
    }
    let mut room = width.saturating_sub(1);
    let kept = clean.chars().take_while(|c| {
        let columns = c.width().unwrap_or(0);
        let fits = columns <= room;
        room = room.saturating_sub(columns);
        fits
    });
    kept.chain(['…']).collect()
}

/// A text in lines that fit a screen with two columns before each, broken between words.
pub(crate) fn folded(text: &str, columns: usize) -> Vec<String> {
    let room = columns.saturating_sub(SPARE + 2).max(1);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= room => line.extend([" ", word]),
            _ => lines.push(shortened(word, room)),
        }
    }
    lines
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
