//! Simulated machines: scripts that behave like machines, within the owner of a group.
//!
//! They are for tests of everything but guests: bring-up, waits, failures, logs and reports of a whole group
//! take milliseconds, and a group can have hundreds. They have a console, a power button and a plug; they have no
//! network, no disk and no agent. The [script](script) of a machine is the file that it boots as its kernel.

mod machine;
mod script;

use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use steading_plan::{Boot, Handle, VmName, VmPlan};
use steading_sys::processes::ExitWatch;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::control::{Boxed, Button, Control, ControlError};
use super::error::EngineError;
use super::frozen::Saved;
use super::machine::{Machine, Start, VmEngine};
use machine::{ControlOrder, SimulatedMachine};
use script::Script;

/// The engine of a group whose machines are simulated.
#[derive(Debug)]
pub(super) struct Simulated;

/// Reads the script of a VM, so that one that makes no sense is refused before there is a group.
pub(super) fn check(vm: &VmPlan) -> Result<(), EngineError> {
    let Boot::Kernel { kernel, .. } = &vm.spec.boot else { return Ok(()) };
    let script = fs_err::read(kernel)
        .map_err(|source| EngineError::Refused { vm: vm.name.clone(), why: source.to_string() })?;
    parse(vm, &script).map(drop)
}

fn parse(vm: &VmPlan, bytes: &[u8]) -> Result<Script, EngineError> {
    Script::parse(vm.name.as_str(), bytes)
        .map_err(|error| EngineError::Refused { vm: vm.name.clone(), why: error.to_string() })
}

impl VmEngine for Simulated {
    fn start<'a>(&'a self, vm: Start<'a>) -> Boxed<'a, Result<Machine, EngineError>> {
        Box::pin(async move {
            let socket = |source| EngineError::Socket { vm: vm.plan.name.clone(), source };
            let bytes = match vm.files.get(Handle::Kernel) {
                Some(file) => fs_err::read(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(socket)?,
                None => Vec::new(),
            };
            let script = parse(vm.plan, &bytes)?;
            let (console, theirs) = UnixStream::pair().map_err(socket)?;
            let (events, seen) = mpsc::unbounded_channel();
            let (orders, taken) = mpsc::unbounded_channel();
            let (ended, exit) = ExitWatch::channel();
            let machine = SimulatedMachine::new(script, vm.boot, theirs, events);
            let mut tasks = JoinSet::new();
            tasks.spawn(async move {
                let (exit, reason) = machine.run(taken).await;
                ended.send(exit);
                reason
            });
            let control = Arc::new(SimulatedControl { vm: vm.plan.name.clone(), orders });
            Ok(Machine { pid: None, exit, control, events: seen, console, agent: None, errors: None, tasks })
        })
    }
}

/// The controls of a simulated machine.
#[derive(Debug)]
struct SimulatedControl {
    vm: VmName,
    orders: mpsc::UnboundedSender<ControlOrder>,
}

impl SimulatedControl {
    fn order(&self, order: ControlOrder) -> Boxed<'_, Result<(), ControlError>> {
        let sent = self.orders.send(order).map_err(|_| ControlError::Off);
        Box::pin(async { sent })
    }
}

impl Control for SimulatedControl {
    fn pause(&self) -> Boxed<'_, Result<(), ControlError>> {
        self.order(ControlOrder::Pause)
    }

    fn resume(&self) -> Boxed<'_, Result<(), ControlError>> {
        self.order(ControlOrder::Resume)
    }

    fn press(&self, _: Button) -> Boxed<'_, Result<(), ControlError>> {
        self.order(ControlOrder::Press)
    }

    fn cut_power(&self) {
        // A machine that has ended takes no orders.
        let _ = self.orders.send(ControlOrder::CutPower);
    }

    fn stay_when_off(&self, stays: bool) -> Boxed<'_, Result<(), ControlError>> {
        self.order(ControlOrder::StayWhenOff(stays))
    }

    fn boot_again(&self) -> Boxed<'_, Result<(), ControlError>> {
        self.order(ControlOrder::BootAgain)
    }

    fn save(&self) -> Boxed<'_, Result<Saved, EngineError>> {
        Box::pin(async { Err(EngineError::NoFreeze { vm: self.vm.clone() }) })
    }
}
