//! What happened when, as lanes side by side: the driver's functions, faults, what was asked of the file
//! server, and each VM's boots and pauses.

use jiff::Timestamp;
use serde::Serialize;
use steading_logs::{FaultEvent, FileAccess, VmEvent};
use steading_plan::VmName;

use crate::Summary;
use crate::log::{self, LogView};

/// All that happened, in milliseconds from the beginning.
#[derive(Debug, Serialize)]
pub(crate) struct Timeline {
    pub(crate) began: Timestamp,
    pub(crate) length: i64,
    pub(crate) lanes: Vec<Lane>,
}

/// What is known of one VM, or of the driver.
#[derive(Debug, Serialize)]
pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) spans: Vec<Span>,
}

/// Something that lasted.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Span {
    pub(crate) name: String,
    /// What it is, as a word for styles: passed, failed, flaky, skipped, booting, on, paused, panicked,
    /// fault, sent, unsent.
    pub(crate) class: &'static str,
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// More about it.
    pub(crate) detail: String,
}

/// How long a function can have taken, in milliseconds. The trace has microseconds, and those who read
/// it have numbers of 53 bits.
const LONGEST: i64 = (1 << 53) / 1000;

/// The lane of the driver.
pub(crate) const DRIVER: &str = "driver";

/// The lane of the network and the file server. No VM is called so: names have no blanks.
pub(crate) const FAULTS: &str = "network faults";

/// The lane of what was asked of the file server.
pub(crate) const FILES: &str = "file server";

impl Timeline {
    pub(crate) fn new(summary: &Summary, log: &LogView) -> Self {
        let began = beginning(summary, log);
        let millis = |time: Timestamp| time.as_millisecond() - began.as_millisecond();
        let functions: Vec<Span> = summary
            .rows()
            .iter()
            .filter_map(|row| {
                let start = millis(row.began?);
                #[expect(clippy::cast_possible_truncation, reason = "what is longer is cut to the longest")]
                let end = start + ((row.seconds * 1000.0) as i64).clamp(0, LONGEST);
                let (class, detail) = row.outcome.class_and_detail();
                Some(Span { name: row.name.clone(), class, start, end, detail })
            })
            .collect();
        let last = log.span.map_or(0, |(_, last)| millis(last));
        let length = functions.iter().map(|span| span.end).max().unwrap_or(0).max(last);
        let mut lanes = vec![Lane { name: DRIVER.to_owned(), spans: functions }];
        if !log.faults.is_empty() {
            let events: Vec<_> = log.faults.iter().map(|(time, event)| (millis(*time), event)).collect();
            lanes.push(Lane { name: FAULTS.to_owned(), spans: faults(&events, length) });
        }
        if !log.accesses.is_empty() {
            let spans = log.accesses.iter().map(|(end, vm, access)| {
                span(access, vm.as_ref(), millis(log::began(*end, access)), millis(*end))
            });
            lanes.push(Lane { name: FILES.to_owned(), spans: spans.collect() });
        }
        lanes.extend(log.vms.iter().map(|(name, events)| {
            let events: Vec<_> = events.iter().map(|(time, event)| (millis(*time), event)).collect();
            Lane { name: name.to_string(), spans: spans(&events, length) }
        }));
        Self { began, length, lanes }
    }
}

/// The first thing that is known to have happened.
fn beginning(summary: &Summary, log: &LogView) -> Timestamp {
    let functions = summary.rows().iter().filter_map(|row| row.began);
    functions.chain(log.span.map(|(first, _)| first)).min().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// From the beginning of each fault to its end. One that is active when the log ends was so to its end.
fn faults(events: &[(i64, &FaultEvent)], end: i64) -> Vec<Span> {
    let ended = |wanted: u32, since: usize| {
        events[since..].iter().find_map(|(time, event)| match event {
            FaultEvent::Ended { id } if *id == wanted => Some(*time),
            _ => None,
        })
    };
    let spans = events.iter().enumerate().filter_map(|(index, (start, event))| match event {
        FaultEvent::Began { id, what } => Some(Span {
            name: what.clone(),
            class: "fault",
            start: *start,
            end: ended(*id, index).unwrap_or(end),
            detail: format!("fault {id}"),
        }),
        FaultEvent::Ended { .. } => None,
    });
    spans.collect()
}

/// A request to the file server.
fn span(access: &FileAccess, vm: Option<&VmName>, start: i64, end: i64) -> Span {
    let FileAccess { file, method, status, sent, announced, first, faults, .. } = access;
    let is_good = status.is_some_and(|status| status < 400) && sent == announced;
    let answer = status.map_or("reset".to_owned(), |status| status.to_string());
    let mut detail = format!("{method}: {answer}, {sent} of {announced} bytes from {first}");
    detail.extend(faults.iter().map(|id| format!(", fault {id}")));
    let who = vm.map_or("driver", VmName::as_str);
    Span {
        name: format!("{who}: {file}"),
        class: if is_good { "sent" } else { "unsent" },
        start,
        end,
        detail,
    }
}

/// What lies between events. A VM that is on when the log ends was so to its end.
fn spans(events: &[(i64, &VmEvent)], end: i64) -> Vec<Span> {
    let mut spans = Vec::new();
    let (mut boot, mut answers) = (0, false);
    for (index, (start, event)) in events.iter().enumerate() {
        let until = events.get(index + 1).map_or(end, |(next, _)| *next);
        let (class, detail) = match event {
            VmEvent::On { boot: number } => {
                boot = *number;
                answers = false;
                ("booting", "it is booting".to_owned())
            }
            VmEvent::Answering => {
                answers = true;
                ("on", String::new())
            }
            VmEvent::Forked { boot: number } => {
                boot = *number;
                ("on", event.to_string())
            }
            VmEvent::Resumed | VmEvent::Woken | VmEvent::Frozen { .. } => {
                (if answers { "on" } else { "booting" }, freeze(event))
            }
            VmEvent::Paused | VmEvent::Suspended => ("paused", event.to_string()),
            VmEvent::Panicked => ("panicked", event.to_string()),
            // Off is no span, and one whose address is up boots on.
            VmEvent::Off { .. } | VmEvent::Reachable => continue,
        };
        spans.push(Span { name: format!("boot {boot}"), class, start: *start, end: until, detail });
    }
    spans
}

/// A freeze is told where it happened; that a VM goes on is seen.
fn freeze(event: &VmEvent) -> String {
    if matches!(event, VmEvent::Frozen { .. }) { event.to_string() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Outcome, Row};

    /// The sum was too large for a number.
    #[test]
    fn a_function_that_took_longer_than_any_time_has_an_end() {
        let began = |text: &str| Some(text.parse().unwrap());
        let mut summary = Summary::new("s");
        let row = |seconds| Row { seconds, ..Row::new("f", Kind::Test, Outcome::Passed) };
        summary.add(Row { began: began("2026-01-02T03:04:05Z"), ..row(-1e300) });
        summary.add(Row { began: began("2026-01-02T03:04:06Z"), ..row(1e300) });
        let timeline = Timeline::new(&summary, &LogView::default());
        let ends: Vec<_> = timeline.lanes[0].spans.iter().map(|span| (span.start, span.end)).collect();
        assert_eq!(ends, [(0, 0), (1000, 1000 + LONGEST)]);
    }

    #[test]
    fn a_fault_lasts_until_it_is_undone_or_to_the_end() {
        let began = |id, what: &str| FaultEvent::Began { id, what: what.to_owned() };
        let events = [began(1, "cut a"), began(2, "cut b"), FaultEvent::Ended { id: 1 }, began(1, "cut c")];
        let events: Vec<_> = [10, 20, 30, 40].into_iter().zip(&events).collect();
        let found: Vec<_> = faults(&events, 99)
            .into_iter()
            .map(|span| (span.name, span.class, span.start, span.end))
            .collect();
        let span = |name: &str, start, end| (name.to_owned(), "fault", start, end);
        assert_eq!(found, [span("cut a", 10, 30), span("cut b", 20, 99), span("cut c", 40, 99)]);
    }

    #[test]
    fn a_request_to_the_file_server_is_a_span_that_says_whether_all_was_sent() {
        let access = |sent, status| FileAccess {
            file: "update.img".to_owned(),
            method: "GET".to_owned(),
            status,
            first: 5,
            announced: 10,
            sent,
            microseconds: 2_000,
            faults: vec![3],
        };
        let n1: VmName = "n1".parse().unwrap();
        let end = Timestamp::from_second(1).unwrap();
        let accesses = vec![
            (end, Some(n1), access(10, Some(206))),
            (end, None, access(4, Some(200))),
            (end, None, access(0, None)),
        ];
        let log = LogView { accesses, ..LogView::default() };
        let timeline = Timeline::new(&Summary::new("s"), &log);
        let lane = timeline.lanes.iter().find(|lane| lane.name == FILES).unwrap();
        let found: Vec<_> = lane.spans.iter().map(|span| (span.name.as_str(), span.class)).collect();
        assert_eq!(
            found,
            [("n1: update.img", "sent"), ("driver: update.img", "unsent"), ("driver: update.img", "unsent")]
        );
        assert_eq!(lane.spans[0].end - lane.spans[0].start, 2);
        assert_eq!(lane.spans[0].detail, "GET: 206, 10 of 10 bytes from 5, fault 3");
    }

    #[test]
    fn a_vm_is_on_between_its_events_and_what_is_on_last_stays_on() {
        let events = [
            (10, &VmEvent::On { boot: 1 }),
            (15, &VmEvent::Answering),
            (20, &VmEvent::Paused),
            (30, &VmEvent::Resumed),
            (40, &VmEvent::Off { reason: "power cut".to_owned() }),
            (60, &VmEvent::On { boot: 2 }),
        ];
        let found: Vec<_> = spans(&events, 99)
            .into_iter()
            .map(|span| (span.name, span.class, span.start, span.end))
            .collect();
        let span = |name: &str, class, start, end| (name.to_owned(), class, start, end);
        assert_eq!(
            found,
            [
                span("boot 1", "booting", 10, 15),
                span("boot 1", "on", 15, 20),
                span("boot 1", "paused", 20, 30),
                span("boot 1", "on", 30, 40),
                span("boot 2", "booting", 60, 99),
            ]
        );
    }
}
