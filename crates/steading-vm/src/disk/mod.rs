//! Configuration disks: small FAT disks by which a test's declaration reaches a guest.
//!
//! They are made here, without `mkfs` or loop devices, into files without a name; the same content
//! always gives the same bytes. FAT is what every guest can read, and what cloud-init and the
//! `CONFIG` convention expect.

mod cloud_init;
mod config;
mod error;
mod fat;
mod fat_names;
mod fat_node;

pub use cloud_init::{CloudInitDisk, cloud_init_disk};
pub use config::{check_config_dir, config_disk};
pub use error::DiskError;
