//! One attempt at a function, as the runner knows it: its output, its notes, and the meaning of its end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steading_api::{Client, Note};
use steading_report::{Failure, Outcome, Wait};

use tokio::task::AbortHandle;

use crate::decision::{self, AttemptEnd};

/// How many of a failed function's last lines are shown again at the end.
const LINES_KEPT: usize = 20;

/// How long the end of a function may take once it was killed.
const END_LIMIT: Duration = Duration::from_secs(15);

/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// One attempt at a function.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The first is 1.
    pub(crate) number: u32,
    pub(crate) began: Instant,
    /// The same moment by the host's clock.
    pub(crate) began_at: Timestamp,
    /// When something has to be done about it.
    pub(crate) deadline: Instant,
    /// Its number inside the group, once it has one.
    pub(crate) pid: Option<i32>,
    /// Its own fork of the testnet, once it has one: the way to it, and its logs within the run's.
    pub(crate) fork: Option<(Client, String)>,
    /// The task that follows it.
    pub(crate) task: Option<AbortHandle>,
    /// Why it was asked to end, if it was.
    pub(crate) cut_short: Option<Failure>,
    lines: VecDeque<String>,
    waits: Option<(String, Instant)>,
    skip: Option<String>,
}

impl Attempt {
    pub(crate) fn new(number: u32, limit: Duration) -> Self {
        let began = Instant::now();
        Self {
            number,
            began,
            began_at: Timestamp::now(),
            deadline: began + limit,
            pid: None,
            fork: None,
            task: None,
            cut_short: None,
            lines: VecDeque::new(),
            waits: None,
            skip: None,
        }
    }

    /// One that waits for its fork: it has no limit of its own yet.
    pub(crate) fn waiting(number: u32) -> Self {
        Self::new(number, FOREVER)
    }

    /// It begins now.
    pub(crate) fn begins(&mut self, limit: Duration) {
        if self.cut_short.is_none() {
            (self.began, self.began_at) = (Instant::now(), Timestamp::now());
            self.deadline = self.began + limit;
        }
    }

    pub(crate) fn said(&mut self, line: String) {
        if self.lines.len() == LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Takes a note about itself. A metric is the run's, and is not taken here.
    pub(crate) fn noted(&mut self, note: Note) {
        match note {
            Note::Waiting { what } => self.waits = Some((what, Instant::now())),
            Note::Going => self.waits = None,
            Note::Skip { reason } => self.skip = Some(reason),
            Note::Metric { .. } => {}
        }
    }

    /// It is asked to end for this reason, within this grace period.
    pub(crate) fn cut_short(&mut self, failure: Failure, grace: Duration) {
        if let Some((what, since)) = &self.waits {
            let line = format!(
                "when it was ended, it had waited for {:.0} s: {what}",
                since.elapsed().as_secs_f64()
            );
            self.said(line);
        }
        self.cut_short.get_or_insert(failure);
        // A time that no clock reaches is no limit.
        let limit = grace.checked_add(END_LIMIT).unwrap_or(FOREVER).min(FOREVER);
        self.deadline = Instant::now() + limit;
    }

    /// What its end means by itself.
    pub(crate) fn ended(&self, end: AttemptEnd) -> Outcome {
        decision::outcome(end, self.cut_short.as_ref(), self.skip.as_deref())
    }

    pub(crate) fn lines(self) -> Vec<String> {
        self.lines.into()
    }

    pub(crate) fn wait(&self, name: &str) -> Wait {
        let seconds = |since: Instant| since.elapsed().as_secs_f64();
        let what = self.waits.as_ref().map(|(what, since)| (what.clone(), seconds(*since)));
        Wait { name: name.to_owned(), seconds: seconds(self.began), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt() -> Attempt {
        Attempt::new(1, Duration::from_secs(1))
    }

    #[test]
    fn what_it_was_told_to_end_for_outweighs_how_it_ended() {
        let mut attempt = attempt();
        attempt.noted(Note::Waiting { what: "VM a: waiting for port 22".to_owned() });
        attempt.cut_short(Failure::Interrupted, Duration::ZERO);
        attempt.cut_short(Failure::TimedOut { seconds: 1, overall: true }, Duration::ZERO);
        assert_eq!(
            attempt.ended(AttemptEnd::Process { status: Some(80), signal: None }),
            Outcome::Failed(Failure::Interrupted)
        );
        assert!(attempt.lines()[0].ends_with("VM a: waiting for port 22"));
    }

    #[test]
    fn the_last_lines_are_kept() {
        let mut attempt = attempt();
        (0..30).for_each(|line| attempt.said(line.to_string()));
        let lines = attempt.lines();
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (LINES_KEPT, "10", "29"));
    }
}
