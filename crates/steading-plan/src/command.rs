//! How an engine is told to start a VM.
//!
//! What is printed is what runs: a [`Launch`] is derived once, with the plan. A VM that was frozen since starts
//! with the same command line, edited in two places ([`QemuCommand::with_layers`], [`QemuCommand::going_on`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::handle::Handle;

/// How a VM is started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Launch {
    /// As a QEMU process of the group's owner.
    Qemu(QemuCommand),
    /// As a domain of the group's libvirt.
    Libvirt(Domain),
    /// As a script that its kernel file holds.
    Simulated,
    /// By the VM that it runs inside of.
    #[default]
    Nested,
}

impl Launch {
    /// Whether the group's owner opens files for a machine that boots them. The VM that runs another downloads
    /// what that starts from.
    pub const fn boots_files(&self) -> bool {
        matches!(self, Self::Qemu(_) | Self::Libvirt(_))
    }
}

impl fmt::Display for Launch {
    /// The command line, or the domain as XML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qemu(command) => f.write_str(&command.0.join(" ")),
            Self::Libvirt(domain) => f.write_str(&domain.0),
            Self::Simulated => f.write_str("simulated by the script in its kernel file"),
            Self::Nested => f.write_str("started by the VM that it runs inside of"),
        }
    }
}

/// A domain, as XML (libvirt's "Domain XML format").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Domain(String);

impl Domain {
    pub(crate) fn new(xml: String) -> Self {
        Self(xml)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The arguments of one QEMU process; the first is the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QemuCommand(Vec<String>);

/// How the option of the guest's memory begins, and how it says that writes go to the file.
pub(crate) const MEMORY: &str = "memory-backend-file,id=memory";
pub(crate) const SHARED: &str = "share=on";

/// The node of the image, and how that of the VM's own layer begins.
pub(crate) const IMAGE: &str = "image";
pub(crate) const OVERLAY: &str = "qcow2,node-name=disk";

impl QemuCommand {
    pub(crate) fn new(argv: Vec<String>) -> Self {
        Self(argv)
    }

    /// The program and its arguments.
    pub fn argv(&self) -> &[String] {
        &self.0
    }

    /// The same with this many frozen layers between the image and the VM's own layer. Their files have the
    /// numbers of [`Handle::layer_number`].
    #[must_use]
    pub fn with_layers(mut self, layers: u32) -> Self {
        let overlay = self.0.iter().position(|arg| arg.starts_with(OVERLAY));
        let Some(overlay) = overlay.filter(|_| layers > 0) else { return self };
        let mut below = IMAGE.to_owned();
        let mut nodes = Vec::new();
        for layer in 0..layers {
            let (file, node) = (format!("layer{layer}-file"), format!("layer{layer}"));
            nodes.extend(file_node(Handle::layer_number(layer), &file, "read-only=on"));
            let value = format!("qcow2,node-name={node},file={file},backing={below},read-only=on");
            nodes.extend(["-blockdev".to_owned(), value]);
            below = node;
        }
        self.0[overlay] = self.0[overlay].replace(&format!("backing={IMAGE}"), &format!("backing={below}"));
        // Before the option's name.
        self.0.splice(overlay - 1..overlay - 1, nodes);
        self
    }

    /// The same for a VM that goes on from a frozen one. It sees the frozen memory and writes to a copy of its
    /// own, page by page, and it waits for the state of its devices.
    #[must_use]
    pub fn going_on(mut self) -> Self {
        if let Some(memory) = self.0.iter_mut().find(|arg| arg.starts_with(MEMORY)) {
            *memory = memory.replace(SHARED, "share=off");
        }
        self.0.extend(["-incoming", "defer"].map(str::to_owned));
        self
    }
}

/// The options for a file that QEMU gets open. It has no lock: it belongs to this VM alone, or is read-only.
pub(crate) fn file_node(number: u32, node: &str, more: &str) -> [String; 4] {
    let path = format!("/dev/fdset/{number}");
    [
        "-add-fd".to_owned(),
        format!("fd={number},set={number}"),
        "-blockdev".to_owned(),
        format!("file,node-name={node},filename={path},locking=off,{more}"),
    ]
}
