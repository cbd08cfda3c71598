//! The disk that cloud-init reads.
//!
//! cloud-init's NoCloud data source takes a FAT or ISO 9660 file system with the label `cidata` or
//! `CIDATA`, holding `user-data`, `meta-data` and perhaps `network-config`
//! (<https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>). A label in lower case is
//! against the rules of FAT, so it is `CIDATA` here.

use std::fs::File;

use steading_plan::{Sha256, VmName};

use super::DiskError;
use super::fat::{self};
use super::fat_node::{Node, NodeContent};
use crate::unlinked;

/// What cloud-init is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudInitDisk {
    /// `user-data`: `#cloud-config` and YAML, or a script that starts with `#!`.
    pub user_data: String,
    /// `meta-data` (YAML). If there is none, `instance-id` is derived from the rest, so that changed
    /// data counts as a new instance, and `local-hostname` is `steading`.
    pub meta_data: Option<String>,
    /// `network-config` (YAML, netplan's version 1 or 2), without which cloud-init uses DHCP.
    pub network_config: Option<String>,
}

impl CloudInitDisk {
    /// The data of the VM `name`, whose host name it becomes.
    pub fn new(name: &VmName, user_data: impl Into<String>) -> Self {
        let user_data = user_data.into();
        let seed = format!("{name}\0{user_data}");
        Self { meta_data: Some(meta_data(name.as_ref(), &seed)), user_data, network_config: None }
    }
}

/// Makes the disk, in memory.
pub fn cloud_init_disk(data: &CloudInitDisk) -> Result<File, DiskError> {
    let network = data.network_config.as_deref();
    let seed = || format!("{}\0{}", data.user_data, network.unwrap_or_default());
    let meta = data.meta_data.clone().unwrap_or_else(|| meta_data("steading", &seed()));
    let file = |name: &str, text: &str| Node {
        name: name.to_owned(),
        path: name.into(),
        content: NodeContent::Bytes(text.as_bytes().to_vec()),
    };
    let mut files = vec![file("meta-data", &meta)];
    files.extend(network.map(|text| file("network-config", text)));
    files.push(file("user-data", &data.user_data));

    let error = |source| DiskError::Write { place: "memory".to_owned(), source };
    let disk = unlinked::in_memory("steading-cidata").map_err(error)?;
    fat::write(&disk, "memory", *b"CIDATA     ", &files)?;
    Ok(disk)
}

fn meta_data(host_name: &str, seed: &str) -> String {
    let mut id = Sha256::of(seed).to_string();
    id.truncate(16);
    format!("instance-id: {host_name}-{id}\nlocal-hostname: {host_name}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fat::tests::read_back;

    fn data() -> CloudInitDisk {
        CloudInitDisk { user_data: "#cloud-config\n{}\n".to_owned(), meta_data: None, network_config: None }
    }

    fn text(data: &CloudInitDisk, name: &str) -> Option<String> {
        let (_, files) = read_back(&cloud_init_disk(data).expect("disk"));
        files.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    #[test]
    fn the_disk_has_the_label_and_the_files_that_cloud_init_looks_for() {
        let full = CloudInitDisk {
            meta_data: Some("instance-id: a\n".to_owned()),
            network_config: Some("version: 2\n".to_owned()),
            ..data()
        };
        let (label, files) = read_back(&cloud_init_disk(&full).expect("disk"));
        assert_eq!(label, "CIDATA");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["meta-data", "network-config", "user-data"]);
        assert_eq!(files["user-data"], full.user_data.as_bytes());
        assert_eq!(files["meta-data"], b"instance-id: a\n");
        assert_eq!(files["network-config"], b"version: 2\n");
        assert_eq!(text(&data(), "network-config"), None);
    }

    #[test]
    fn other_user_data_is_another_instance() {
        let other = CloudInitDisk { user_data: "#!/bin/sh\n".to_owned(), ..data() };
        let meta = text(&data(), "meta-data").expect("always there");
        assert!(meta.contains("local-hostname: steading\n"), "{meta}");
        assert_eq!(text(&data(), "meta-data").as_ref(), Some(&meta));
        assert_ne!(text(&other, "meta-data").expect("always there"), meta);
    }

    #[test]
    fn the_name_of_a_vm_becomes_its_host_name() {
        let name: VmName = "alpha".parse().expect("a name");
        let meta = CloudInitDisk::new(&name, "#cloud-config\n").meta_data.expect("made");
        assert!(
            meta.starts_with("instance-id: alpha-") && meta.ends_with("local-hostname: alpha\n"),
            "{meta}"
        );
    }
}
