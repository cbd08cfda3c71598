//! One virtual machine: images, overlays, configuration disks, QMP and engines.
//!
//! - [`image`]: from what a distribution publishes to what QEMU opens, once per machine.
//! - [`disk`]: the small disks by which configuration reaches a guest.
//! - [`engine`]: from a planned VM to a running QEMU process.
//! - [`qmp`]: steering QEMU and hearing what happens to a VM.
//! - [`agent`]: acting inside a guest without its network.
//! - [`thaw`]: telling a guest that it goes on after a freeze.

#![forbid(unsafe_code)]

pub mod agent;
pub mod disk;
pub mod engine;
pub mod image;
pub mod qmp;
pub mod thaw;
pub mod unlinked;
