//! What a freeze is to one VM: hold, save, commit; then load and run. Until it is committed, each
//! step can be taken back, and the VM goes on as if nothing had been.

use std::sync::Arc;

use steading_api::{Failure, FailureKind, VmState, chain};
use steading_logs::VmEvent;
use steading_logs::journal::Power;
use steading_vm::engine::{EngineError, FrozenVm, MachineEvent};

use super::standing::{Hold, SavedVm, Standing};
use super::task::Tended;

impl Tended {
    pub(super) async fn hold(&mut self) -> Result<(), Failure> {
        if self.standing.is_some() {
            return Err(self.refusal(FailureKind::BadRequest, "it is frozen already"));
        }
        let state = self.view.borrow().status.state;
        if let Some(process) = &self.running
            && state == VmState::Running
        {
            let stopped = process.control.pause().await;
            stopped.map_err(|error| self.refusal(FailureKind::Failed, &chain(&error)))?;
        }
        self.held = Some(Hold { state, saved: None });
        Ok(())
    }

    pub(super) async fn save(&mut self) -> Result<(), Failure> {
        let saved =
            self.try_save().await.map_err(|error| self.refusal(FailureKind::Failed, &chain(&error)))?;
        match &mut self.held {
            Some(held) => held.saved = Some(saved),
            None => return Err(self.refusal(FailureKind::VmEnded, "it ended while it was frozen")),
        }
        Ok(())
    }

    async fn try_save(&mut self) -> Result<SavedVm, EngineError> {
        let machine = match &self.running {
            Some(process) => Some(process.control.save().await?),
            None => None,
        };
        Ok(SavedVm { machine, successors: self.files.successors()? })
    }

    /// From here on there is no way back: the process, whose memory is kept, must not run again.
    pub(super) async fn commit(&mut self) -> Result<FrozenVm, Failure> {
        let Some(Hold { state, saved: Some(saved), .. }) = self.held.take() else {
            return Err(self.refusal(FailureKind::VmEnded, "it ended while it was frozen"));
        };
        let failed = |vm: &Self, error: std::io::Error| vm.refusal(FailureKind::Failed, &chain(&error));
        let was_on = saved.machine.is_some();
        let frozen = self.files.freeze(saved.successors, saved.machine);
        let frozen = frozen.map_err(|error| failed(self, error))?;
        let kept = frozen.try_clone().map_err(|error| failed(self, error))?;
        if let Some(mut process) = self.running.take() {
            process.control.cut_power();
            process.exit.ended().await;
            self.has_taken(&process.exit);
            process.tasks.join_all().await;
        }
        if was_on {
            self.view.send_modify(|view| {
                view.status.state = VmState::Frozen;
                view.status.pid = None;
                view.control = None;
                view.agent = None;
            });
            self.standing = Some(Standing { frozen, state });
        }
        Ok(kept)
    }

    pub(super) async fn release(&mut self) -> Result<(), Failure> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let Some(process) = &self.running else { return Ok(()) };
        // What has saved its state goes on by itself only when it is told to, even to pause.
        let mut outcome = process.control.resume().await;
        if held.state != VmState::Running && outcome.is_ok() {
            outcome = process.control.pause().await;
        }
        self.show_others().await;
        outcome.map_err(|error| self.refusal(FailureKind::Failed, &chain(&error)))
    }

    pub(super) async fn load(&mut self) -> Result<(), Failure> {
        let Some(Standing { frozen, state }) = self.standing.take() else { return Ok(()) };
        let boot = self.view.borrow().status.boot;
        let engine = Arc::clone(&self.common.engine);
        let loaded = engine.go_on(self.start_of(boot), &frozen).await;
        match loaded {
            Ok(machine) => {
                self.is_on(machine);
                self.view.send_modify(|view| view.status.state = VmState::Paused);
                self.held = Some(Hold { state, saved: None });
                Ok(())
            }
            Err(error) => {
                self.is_off(chain(&error)).await;
                Err(self.refusal(FailureKind::Failed, &chain(&error)))
            }
        }
    }

    pub(super) async fn run(&mut self) -> Result<(), Failure> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let Some(process) = &self.running else {
            return Err(self.refusal(FailureKind::VmEnded, "it ended while it was loaded"));
        };
        if held.state == VmState::Running {
            let ran = process.control.resume().await;
            ran.map_err(|error| self.refusal(FailureKind::Failed, &chain(&error)))?;
        }
        let boot = self.view.borrow().status.boot;
        self.common.log.go_on(&self.plan.name, boot).await;
        self.view.send_modify(|view| view.status.state = held.state);
        self.show_others().await;
        let was_off = *self.power.borrow() == Power::Off;
        if was_off {
            // A fork in a group of its own.
            self.common.log.event(&self.plan.name, VmEvent::Forked { boot }).await;
            self.power.send_replace(Power::On { start: boot });
        }
        Ok(())
    }

    /// Shows what has happened meanwhile and has nothing to do with a freeze.
    async fn show_others(&mut self) {
        while let Some(event) = self.running.as_mut().and_then(|process| process.events.try_recv().ok()) {
            match event {
                MachineEvent::Paused | MachineEvent::Resumed => {}
                event => self.event(event).await,
            }
        }
    }
}
