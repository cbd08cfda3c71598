//! A fault of the network or the file server, held by a test function: undone when it is dropped.

use std::sync::Arc;

use steading_api::ActiveFault;

use crate::session::Session;

/// Holds a fault of the network, or of the file server. It is undone when this is dropped, and with the function's process,
/// however that ends.
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

    /// Which fault it is.
    pub fn fault(&self) -> &F {
        &self.fault
    }

    /// Undoes the fault, now.
    ///
    /// # Errors
    ///
    /// When it is undone already, by `fault undo` say, or the kernel refuses.
    pub fn undo(mut self) -> anyhow::Result<()> {
        self.held = false;
        Ok(self.session.runtime.block_on(self.session.client.undo_fault(self.id))?)
    }

    /// Has the fault stay when this function has ended: one that `setup` makes for all tests.
    ///
    /// # Errors
    ///
    /// When it is undone already.
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
