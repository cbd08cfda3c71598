//! Decides what runs when. Pure: it knows the shape of a suite, what has ended and how, and says
//! what to start or to leave out next. It has no clock and starts nothing itself.

use std::collections::HashMap;

use crate::suite::{FunctionId, SectionId, SectionItem, SectionOrder, SuiteShape};

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Start this function.
    Start(FunctionId),
    /// Report this test as left out, for this reason.
    Skip(FunctionId, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SectionState {
    Waiting,
    Running,
    Passed,
    Failed,
    /// Left out, and reported so if it is a test.
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Setup,
    Items,
    Teardown,
    Done,
}

/// Where a run stands.
#[derive(Debug)]
pub(crate) struct Schedule<'a> {
    shape: &'a SuiteShape,
    functions: Vec<SectionState>,
    phases: Vec<Phase>,
    running: usize,
    /// How many functions may run at once.
    slots: usize,
    /// Why nothing but teardowns starts any more.
    stopped: Option<String>,
    /// Not even teardowns start any more.
    abandoned: bool,
    /// The suite's own teardowns wait until this is taken back.
    held: bool,
    /// Skips that are known but not reported yet.
    skips: Vec<Step>,
}

impl<'a> Schedule<'a> {
    /// A schedule that leaves out the tests in `left_out`, each with its reason.
    pub(crate) fn new(shape: &'a SuiteShape, left_out: &HashMap<FunctionId, String>, slots: usize) -> Self {
        let mut schedule = Self {
            shape,
            functions: vec![SectionState::Waiting; shape.functions],
            phases: vec![Phase::Setup; shape.sections.len()],
            running: 0,
            slots: slots.max(1),
            stopped: None,
            abandoned: false,
            held: false,
            skips: Vec::new(),
        };
        let mut ids: Vec<_> = left_out.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            schedule.skip(id, &left_out[&id]);
        }
        schedule.close_empty(SuiteShape::ROOT);
        schedule
    }

    /// The suite's own teardowns wait until [`Self::release`], and its setups run even if no test
    /// is selected.
    pub(crate) fn hold(mut self) -> Self {
        self.held = true;
        self.phases[SuiteShape::ROOT.0] = Phase::Setup;
        self
    }

    /// Lets the suite's teardowns go.
    pub(crate) fn release(&mut self) {
        self.held = false;
    }

    /// Whether there is nothing to wait for but [`Self::release`].
    pub(crate) fn is_holding(&self) -> bool {
        self.held && self.running == 0 && self.phases[SuiteShape::ROOT.0] == Phase::Teardown
    }

    /// Whether everything is over.
    pub(crate) fn is_done(&self) -> bool {
        self.running == 0 && self.phases[SuiteShape::ROOT.0] == Phase::Done
    }

    /// What can be done now. Each step is given once.
    pub(crate) fn next(&mut self) -> Vec<Step> {
        let mut steps = std::mem::take(&mut self.skips);
        self.visit(SuiteShape::ROOT, &mut steps);
        steps.append(&mut self.skips);
        steps
    }

    /// A function that was started has ended.
    pub(crate) fn ended(&mut self, id: FunctionId, passed: bool) {
        debug_assert_eq!(self.functions[id.0], SectionState::Running);
        self.functions[id.0] = if passed { SectionState::Passed } else { SectionState::Failed };
        self.running -= 1;
    }

    /// Starts no setup and no test any more.
    pub(crate) fn stop(&mut self, reason: &str) {
        self.stopped.get_or_insert_with(|| reason.to_owned());
        self.held = false;
    }

    /// Starts nothing any more.
    pub(crate) fn abandon(&mut self, reason: &str) {
        self.stop(reason);
        self.abandoned = true;
    }

    /// A section without a test to run does nothing.
    fn close_empty(&mut self, section: SectionId) -> bool {
        let mut is_empty = true;
        for item in &self.shape[section].items {
            is_empty &= match *item {
                SectionItem::Test(id) => self.functions[id.0] == SectionState::Out,
                SectionItem::Section(id) => self.close_empty(id),
            };
        }
        if is_empty {
            self.phases[section.0] = Phase::Done;
        }
        is_empty
    }

    /// Takes a section as far as it gets; whether it is done.
    fn visit(&mut self, section: SectionId, steps: &mut Vec<Step>) -> bool {
        loop {
            let is_over = match self.phases[section.0] {
                Phase::Setup => self.set_up(section, steps),
                Phase::Items => self.run_items(section, steps),
                Phase::Teardown => self.tear_down(section, steps),
                Phase::Done => return true,
            };
            if !is_over {
                return false;
            }
            self.phases[section.0] = match self.phases[section.0] {
                Phase::Setup => Phase::Items,
                Phase::Items => Phase::Teardown,
                Phase::Teardown | Phase::Done => Phase::Done,
            };
        }
    }

    fn set_up(&mut self, section: SectionId, steps: &mut Vec<Step>) -> bool {
        for &id in &self.shape[section].setups {
            match self.functions[id.0] {
                SectionState::Passed => {}
                SectionState::Running => return false,
                SectionState::Waiting if self.stopped.is_none() => {
                    self.start(id, steps);
                    return false;
                }
                SectionState::Failed | SectionState::Waiting | SectionState::Out => return true,
            }
        }
        true
    }

    /// Why no test of a section may run, if so: a setup of its own has failed, or was not run.
    fn blocked(&self, section: SectionId) -> Option<String> {
        let setups = &self.shape[section].setups;
        if setups.iter().any(|id| self.functions[id.0] == SectionState::Failed) {
            return Some("its setup failed".to_owned());
        }
        self.stopped.clone()
    }

    fn run_items(&mut self, section: SectionId, steps: &mut Vec<Step>) -> bool {
        if let Some(reason) = self.blocked(section) {
            self.skip_waiting(section, &reason);
        }
        let shape = self.shape;
        let room = match shape[section].order {
            SectionOrder::Sequential => 1,
            SectionOrder::Parallel(at_most) => at_most,
        };
        let (mut active, mut all_done) = (0, true);
        for item in &shape[section].items {
            if active >= room {
                return false;
            }
            let is_done = match *item {
                SectionItem::Test(id) => self.run_test(id, steps),
                SectionItem::Section(id) => self.visit(id, steps),
            };
            active += usize::from(!is_done);
            all_done &= is_done;
        }
        all_done
    }

    fn run_test(&mut self, id: FunctionId, steps: &mut Vec<Step>) -> bool {
        if self.functions[id.0] == SectionState::Waiting {
            self.start(id, steps);
        }
        !matches!(self.functions[id.0], SectionState::Waiting | SectionState::Running)
    }

    fn tear_down(&mut self, section: SectionId, steps: &mut Vec<Step>) -> bool {
        if self.held && section == SuiteShape::ROOT {
            return false;
        }
        let was_entered = self.was_entered(section);
        for &id in &self.shape[section].teardowns {
            match self.functions[id.0] {
                SectionState::Running => return false,
                SectionState::Waiting if was_entered && !self.abandoned => {
                    self.start(id, steps);
                    return false;
                }
                SectionState::Waiting => self.functions[id.0] = SectionState::Out,
                SectionState::Passed | SectionState::Failed | SectionState::Out => {}
            }
        }
        true
    }

    /// Whether anything of a section was started.
    fn was_entered(&self, section: SectionId) -> bool {
        let was_started = |id: &FunctionId| {
            matches!(
                self.functions[id.0],
                SectionState::Passed | SectionState::Failed | SectionState::Running
            )
        };
        let shape = &self.shape[section];
        shape.setups.iter().any(was_started)
            || shape.items.iter().any(|item| match item {
                SectionItem::Test(id) => was_started(id),
                SectionItem::Section(id) => self.was_entered(*id),
            })
    }

    fn start(&mut self, id: FunctionId, steps: &mut Vec<Step>) {
        if self.running < self.slots {
            self.running += 1;
            self.functions[id.0] = SectionState::Running;
            steps.push(Step::Start(id));
        }
    }

    fn skip(&mut self, id: FunctionId, reason: &str) {
        self.functions[id.0] = SectionState::Out;
        self.skips.push(Step::Skip(id, reason.to_owned()));
    }

    /// Leaves out all that has not begun in a section, but teardowns of what has.
    fn skip_waiting(&mut self, section: SectionId, reason: &str) {
        let shape = self.shape;
        for item in &shape[section].items {
            match *item {
                SectionItem::Test(id) if self.functions[id.0] == SectionState::Waiting => {
                    self.skip(id, reason);
                }
                SectionItem::Test(_) => {}
                SectionItem::Section(id) => self.skip_waiting(id, reason),
            }
        }
        for id in &shape[section].setups {
            if self.functions[id.0] == SectionState::Waiting {
                self.functions[id.0] = SectionState::Out;
            }
        }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
