//! Runs suites whose testnet or guests are wrong, as their users would, and looks at what is said,
//! at the exit status, and at what is left.

mod broker;
mod frozen;
mod guests;
mod host;
mod images;
mod libvirt;
mod support;
