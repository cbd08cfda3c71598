//! What a freeze is to one VM: hold, save, commit; then load and run. Until it is committed, each
//! step can be taken back, and the VM goes on as if nothing had been.

use steading_api::{Failure, FailureKind, VmState, chain};
use steading_logs::VmEvent;
use steading_logs::journal::Power;
use steading_vm::engine::{self, EngineError, FrozenVm, Machine, Saved, Successors};
use steading_vm::qmp::{QmpEvent, TimedEvent};

use super::task::Control;

/// A VM that stands still for a freeze.
pub(super) struct Held {
    /// Whether its CPUs ran before; none if it is off.
    state: VmState,
    saved: Option<Kept>,
    /// What QEMU told meanwhile.
    events: Vec<TimedEvent>,
}

struct Kept {
    machine: Option<Saved>,
    successors: Successors,
}

/// A VM that was frozen while it was on, and is to go on from there.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) frozen: FrozenVm,
    /// What it was doing.
    pub(super) state: VmState,
}

impl Control {
    pub(super) async fn hold(&mut self) -> Result<(), Failure> {
        if self.standing.is_some() {
            return Err(self.refusal(FailureKind::BadRequest, "it is frozen already"));
        }
        let state = self.view.borrow().status.state;
        if let Some(process) = &self.running
            && state == VmState::Running
        {
            let stopped = process.qmp.stop().await;
            stopped.map_err(|error| self.refusal(FailureKind::Failed, &chain(&error)))?;
        }
        self.held = Some(Held { state, saved: None, events: Vec::new() });
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

    async fn try_save(&mut self) -> Result<Kept, EngineError> {
        let machine = match (&mut self.running, &mut self.held) {
            (Some(process), Some(held)) => {
                let super::task::Running { qmp, memory, events, .. } = process;
                let Some(memory) = memory else {
                    let reason = "its memory is not in a file of the group's own".to_owned();
                    return Err(EngineError::State { vm: self.plan.name.clone(), action: "write", reason });
                };
                Some(engine::save(&self.plan.name, qmp, memory, events, &mut held.events).await?)
            }
            _ => None,
        };
        Ok(Kept { machine, successors: self.files.successors()? })
    }

    /// From here on there is no way back: the process, whose memory is kept, must not run again.
    pub(super) async fn commit(&mut self) -> Result<FrozenVm, Failure> {
        let Some(Held { state, saved: Some(saved), .. }) = self.held.take() else {
            return Err(self.refusal(FailureKind::VmEnded, "it ended while it was frozen"));
        };
        let failed =
            |control: &Self, error: std::io::Error| control.refusal(FailureKind::Failed, &chain(&error));
        let was_on = saved.machine.is_some();
        let frozen = self.files.freeze(saved.successors, saved.machine);
        let frozen = frozen.map_err(|error| failed(self, error))?;
        let kept = frozen.try_clone().map_err(|error| failed(self, error))?;
        if let Some(mut process) = self.running.take() {
            let _ = engine::kill(process.pid);
            process.exit.ended().await;
            self.has_taken(&process.exit);
            process.streams.join_all().await;
        }
        if was_on {
            self.view.send_modify(|view| {
                view.status.state = VmState::Frozen;
                view.status.pid = None;
                view.qmp = None;
                view.agent = None;
                view.thaw = None;
            });
            self.standing = Some(Standing { frozen, state });
        }
        Ok(kept)
    }

    pub(super) async fn release(&mut self) -> Result<(), Failure> {
        let Some(mut held) = self.held.take() else { return Ok(()) };
        let Some(process) = &mut self.running else { return Ok(()) };
        // What has written its state down goes on by itself only when it is told to, even to pause.
        let mut outcome = process.qmp.cont().await;
        if held.state != VmState::Running && outcome.is_ok() {
            outcome = process.qmp.stop().await;
        }
        while let Ok(event) = process.events.try_recv() {
            held.events.push(event);
        }
        self.tell_others(held.events).await;
        outcome.map_err(|error| self.refusal(FailureKind::Failed, &chain(&error)))
    }

    pub(super) async fn load(&mut self) -> Result<(), Failure> {
        let Some(Standing { frozen, state }) = self.standing.take() else { return Ok(()) };
        let mut events = Vec::new();
        let loaded = self.try_load(&frozen, &mut events).await;
        match loaded {
            Ok(()) => {
                self.view.send_modify(|view| view.status.state = VmState::Paused);
                self.held = Some(Held { state, saved: None, events });
                Ok(())
            }
            Err(error) => {
                self.is_off(chain(&error)).await;
                Err(self.refusal(FailureKind::Failed, &chain(&error)))
            }
        }
    }

    async fn try_load(&mut self, frozen: &FrozenVm, events: &mut Vec<TimedEvent>) -> Result<(), EngineError> {
        let launched = self.launch(|vm| Machine::go_on(&vm.plan, &vm.shared.qemu, &vm.files, frozen)).await;
        let (mut running, agent) = launched?;
        let loaded = engine::load(&self.plan.name, &running.qmp, &mut running.events, events).await;
        if let Err(error) = loaded {
            let _ = engine::kill(running.pid);
            running.exit.ended().await;
            self.has_taken(&running.exit);
            let said = running.streams.join_all().await.concat();
            let said = said.trim();
            return Err(match error {
                EngineError::State { vm, action, reason } if !said.is_empty() => {
                    EngineError::State { vm, action, reason: format!("{reason}: {said}") }
                }
                error => error,
            });
        }
        self.is_on(running, agent);
        Ok(())
    }

    pub(super) async fn run(&mut self) -> Result<(), Failure> {
        let Some(mut held) = self.held.take() else { return Ok(()) };
        let Some(process) = &mut self.running else {
            return Err(self.refusal(FailureKind::VmEnded, "it ended while it was loaded"));
        };
        if held.state == VmState::Running {
            let ran = process.qmp.cont().await;
            ran.map_err(|error| self.refusal(FailureKind::Failed, &chain(&error)))?;
        }
        let Some(process) = &mut self.running else { return Ok(()) };
        while let Ok(event) = process.events.try_recv() {
            held.events.push(event);
        }
        let boot = self.view.borrow().status.boot;
        self.shared.log.go_on(&self.plan.name, boot).await;
        self.view.send_modify(|view| view.status.state = held.state);
        self.tell_others(held.events).await;
        let was_off = *self.power.borrow() == Power::Off;
        if was_off {
            // A fork in a group of its own.
            self.shared.log.event(&self.plan.name, VmEvent::Forked { boot }).await;
            self.power.send_replace(Power::On { start: boot });
        }
        Ok(())
    }

    /// What has nothing to do with a freeze is told as ever.
    async fn tell_others(&mut self, events: Vec<TimedEvent>) {
        for event in events {
            match event.event {
                QmpEvent::Stop | QmpEvent::Resume | QmpEvent::Migration { .. } => {}
                event => self.event(event).await,
            }
        }
    }
}
