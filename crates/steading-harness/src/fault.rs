//! The guard of a fault, which undoes it when it is dropped.

use std::sync::Arc;

use steading_api::ActiveFault;

use crate::session::Session;

/// The guard of a fault of the network or of the file server. The fault is undone when the guard is dropped, or when the
/// process of the function ends in any way.
#[must_use = "a fault is undone when its guard is dropped"]
pub struct FaultGuard<F = ActiveFault> {
    session: Arc<Session>,
    id: u32,
    fault: F,
    /// Whether it is to be undone.
    held: bool,
}

impl<F> FaultGuard<F> {
    pub(crate) fn new(id: u32, fault: F, session: Arc<Session>) -> Self {
        Self { session, id, fault, held: true }
    }

    /// Returns the fault.
    pub fn fault(&self) -> &F {
        &self.fault
    }

    /// Undoes the fault now.
    ///
    /// # Errors
    ///
    /// When it is already undone, for example by `fault undo`, or the kernel refuses.
    pub fn undo(mut self) -> anyhow::Result<()> {
        self.held = false;
        Ok(self.session.runtime.block_on(self.session.client.undo_fault(self.id))?)
    }

    /// Keeps the fault after this function, for example a fault that `setup` makes for all tests.
    ///
    /// # Errors
    ///
    /// When it is already undone.
    pub fn keep(mut self) -> anyhow::Result<()> {
        self.held = false;
        Ok(self.session.runtime.block_on(self.session.client.keep_fault(self.id))?)
    }
}

impl<F> Drop for FaultGuard<F> {
    fn drop(&mut self) {
        if self.held {
            // One that cannot be undone here is so at the end of the function.
            let _ = self.session.runtime.block_on(self.session.client.undo_fault(self.id));
        }
    }
}
