//! libvirt: the domain of a VM, as XML (libvirt's "Domain XML format").
//!
//! It is the machine of the QEMU command line (`qemu.rs`), as far as libvirt can say it: the same
//! disks, cards at the same places, the same configuration. Files are named by the descriptors of one
//! process that holds them, so nothing has a name on the host here either.

use std::fmt::Write as _;

use super::{Capabilities, Cards, Guests, RequiredProgram};
use crate::channels::{
    AUTHORIZED_KEY, Delivery, FW_CFG_DIRECTORY, FW_CFG_FILES_MAX_LIBVIRT, FW_CFG_MARK, oem_string,
};
use crate::command::{Domain, Launch};
use crate::facts::{Acceleration, QemuFacts};
use crate::handle::Handle;
use crate::plan_error::PlanError;
use crate::testnet::Boot;
use crate::vm_plan::VmPlan;

/// What plans ask of this engine.
pub(super) const CAPABILITIES: Capabilities = Capabilities {
    no_freeze: Some(
        "the engine is libvirt, which saves VMs one by one to files and cannot save all at one instant to be forked",
    ),
    no_display: None,
    no_nested: None,
    cards: Cards::Names,
    guests: Guests::Booted,
    fw_cfg_files: FW_CFG_FILES_MAX_LIBVIRT,
    named_directory: Some("libvirt"),
    programs: &[
        RequiredProgram { program: "libvirtd", package: "libvirt-daemon libvirt-daemon-driver-qemu" },
        RequiredProgram { program: "virsh", package: "libvirt-clients" },
    ],
};

/// The domain of the VM at this place in its plan, with names in place of what is known only when its group
/// comes up.
pub(super) fn launch(index: u32, vm: &VmPlan, facts: &QemuFacts) -> Result<Launch, PlanError> {
    check_characters(vm)?;
    Ok(Launch::Libvirt(domain(index, vm, facts, &DomainPaths::planned())))
}

/// Checks all that goes into a domain as it was declared. Names have no such characters.
fn check_characters(vm: &VmPlan) -> Result<(), PlanError> {
    let cmdline = match &vm.spec.boot {
        Boot::Kernel { cmdline, .. } => Some(("the kernel's command line", cmdline)),
        Boot::Uefi | Boot::Bios => None,
    };
    let credentials = vm.spec.config.credentials.values().map(|value| ("a credential", value));
    for (what, text) in credentials.chain(cmdline) {
        if let Some(character) = unspeakable(text) {
            return Err(PlanError::Unspeakable { vm: vm.name.clone(), what, character });
        }
    }
    Ok(())
}

/// What a domain says that is known only when its group comes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainPaths {
    /// The directory of descriptors of the process that holds all files, as in `/proc/12/fd`.
    pub descriptors: String,
    /// Where consoles are appended to files.
    pub logs: String,
    /// The line of sshd's authorized_keys that lets the driver in.
    pub authorized_key: String,
}

/// The number of the private directory with that process.
pub const DOMAIN_DIRECTORY: u32 = 3;

/// How many numbers each VM has there; those of [`Handle`]s and credentials are less.
const NUMBERS: u32 = 32;

impl DomainPaths {
    /// What stands in its place in a plan that is only looked at.
    pub fn planned() -> Self {
        let text = str::to_owned;
        Self { descriptors: text("/proc/HOLDER/fd"), logs: text("LOGS"), authorized_key: text("KEY") }
    }

    /// The number of a VM's file with the process; `vm` is the VM's place in its plan. The argument is the
    /// file's number in a QEMU process that is started directly.
    pub const fn number(vm: u32, number: u32) -> u32 {
        (vm + 1) * NUMBERS + number
    }

    /// The private directory.
    pub fn directory(&self) -> String {
        format!("{}/{DOMAIN_DIRECTORY}", self.descriptors)
    }

    /// The file of this VM behind this handle.
    pub fn file(&self, vm: u32, handle: Handle) -> String {
        self.numbered(vm, handle.number())
    }

    fn numbered(&self, vm: u32, number: u32) -> String {
        format!("{}/{}", self.descriptors, Self::number(vm, number))
    }

    /// A socket of this VM, at which the owner listens and to which QEMU connects: that of the monitor,
    /// the console, or the guest agent.
    pub fn socket(&self, vm: &VmPlan, handle: Handle) -> String {
        format!("{}/{}", self.directory(), socket_name(vm, handle))
    }
}

/// Where a group's libvirt listens; `directory` is the private directory, as who connects sees it.
pub fn libvirt_socket(directory: &str) -> String {
    format!("{directory}/run/libvirt/libvirt-sock")
}

/// The name of such a socket in the private directory.
pub fn socket_name(vm: &VmPlan, handle: Handle) -> String {
    format!("{}.{}", vm.name, handle.as_str())
}

/// The domain of the VM at this place in its plan.
pub fn domain(index: u32, vm: &VmPlan, facts: &QemuFacts, paths: &DomainPaths) -> Domain {
    let mut xml = Xml { text: String::new(), index, vm, facts, paths };
    xml.domain();
    Domain::new(xml.text)
}

struct Xml<'a> {
    text: String,
    index: u32,
    vm: &'a VmPlan,
    facts: &'a QemuFacts,
    paths: &'a DomainPaths,
}

impl Xml<'_> {
    fn line(&mut self, line: impl AsRef<str>) {
        writeln!(self.text, "{}", line.as_ref()).expect("a String takes all");
    }

    fn file(&self, handle: Handle) -> String {
        escaped(&self.paths.file(self.index, handle))
    }

    fn socket(&self, handle: Handle) -> String {
        escaped(&self.paths.socket(self.vm, handle))
    }

    fn domain(&mut self) {
        let vm = self.vm;
        let kind = match self.facts.acceleration {
            Acceleration::Kvm => "kvm",
            Acceleration::Tcg => "qemu",
        };
        self.line(format!("<domain type='{kind}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"));
        self.line(format!("  <name>{}</name>", vm.name));
        self.line(format!("  <uuid>{}</uuid>", vm.uuid));
        self.line("  <genid/>");
        self.line(format!("  <memory unit='MiB'>{}</memory>", vm.spec.memory_mib));
        self.line(format!("  <vcpu>{}</vcpu>", vm.spec.vcpus));
        self.boot();
        self.configuration();
        // Suspension states confuse guests whose host cannot wake them.
        self.line("  <features><acpi/><vmport state='off'/></features>");
        self.line("  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>");
        let facts = self.facts;
        match facts.acceleration {
            Acceleration::Kvm => self.line("  <cpu mode='host-passthrough'/>"),
            Acceleration::Tcg => {
                let off = facts.disabled_features.iter();
                let off = off.map(|name| format!("<feature policy='disable' name='{name}'/>"));
                self.line(format!("  <cpu mode='maximum'>{}</cpu>", off.collect::<String>()));
            }
        }
        self.line("  <clock offset='utc'/>");
        self.line("  <on_poweroff>destroy</on_poweroff>");
        self.line("  <on_reboot>restart</on_reboot>");
        self.line("  <on_crash>preserve</on_crash>");
        self.line("  <devices>");
        self.line("    <controller type='usb' model='none'/>");
        self.line("    <controller type='pci' index='0' model='pcie-root'/>");
        self.cards();
        self.disks();
        self.channels();
        // A guest without it waits for entropy in its first boot.
        self.line("    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>");
        self.line("    <memballoon model='none'/>");
        self.line(if vm.spec.display {
            "    <video><model type='vga'/></video>"
        } else {
            "    <video><model type='none'/></video>"
        });
        self.line("  </devices>");
        self.second_monitor();
        self.line("</domain>");
    }

    fn boot(&mut self) {
        self.line("  <os>");
        self.line("    <type arch='x86_64' machine='q35'>hvm</type>");
        match &self.vm.spec.boot {
            // SeaBIOS then speaks on the serial port.
            Boot::Bios if !self.vm.spec.display => self.line("    <bios useserial='yes'/>"),
            Boot::Bios => {}
            Boot::Uefi => {
                let code = escaped(&self.facts.firmware_code);
                self.line(format!("    <loader readonly='yes' type='pflash'>{code}</loader>"));
                let vars = self.file(Handle::FirmwareVars);
                self.line(format!("    <nvram>{vars}</nvram>"));
            }
            Boot::Kernel { initrd, cmdline, .. } => {
                let kernel = self.file(Handle::Kernel);
                self.line(format!("    <kernel>{kernel}</kernel>"));
                if initrd.is_some() {
                    let initrd = self.file(Handle::Initrd);
                    self.line(format!("    <initrd>{initrd}</initrd>"));
                }
                let cmdline = escaped(&self.facts.with_frequency(cmdline));
                self.line(format!("    <cmdline>{cmdline}</cmdline>"));
            }
        }
        self.line("    <smbios mode='sysinfo'/>");
        self.line("  </os>");
    }

    fn configuration(&mut self) {
        let Delivery { smbios, fw_cfg } = Delivery::of(self.vm);
        let marked = !fw_cfg.is_empty();
        let ignition = self.vm.spec.config.ignition.is_some();
        if ignition || marked {
            self.line("  <sysinfo type='fwcfg'>");
            if ignition {
                let file = self.file(Handle::Ignition);
                self.line(format!("    <entry name='opt/com.coreos/config' file='{file}'/>"));
            }
            for (place, (name, _)) in (0..).zip(fw_cfg) {
                let name = escaped(&format!("{FW_CFG_DIRECTORY}{name}"));
                let file = escaped(&self.paths.numbered(self.index, Handle::credential_number(place)));
                self.line(format!("    <entry name='{name}' file='{file}'/>"));
            }
            self.line("  </sysinfo>");
        }
        self.line("  <sysinfo type='smbios'>");
        self.line("    <oemStrings>");
        let key = (AUTHORIZED_KEY, self.paths.authorized_key.as_str());
        if marked {
            self.line(format!("      <entry>{FW_CFG_MARK}</entry>"));
        }
        for (name, value) in smbios.into_iter().chain(std::iter::once(key)) {
            let entry = escaped(&oem_string(name, value));
            self.line(format!("      <entry>{entry}</entry>"));
        }
        self.line("    </oemStrings>");
        self.line("  </sysinfo>");
    }

    /// A PCIe root port for each card, in order, so that guests name them as with QEMU alone.
    fn cards(&mut self) {
        let cards = [Some((self.vm.mac, &self.vm.tap)), self.vm.second_mac.zip(self.vm.second_tap.as_ref())];
        for (index, card) in cards.into_iter().enumerate() {
            let Some((mac, tap)) = card else { continue };
            let port = index + 1;
            self.line(format!("    <controller type='pci' index='{port}' model='pcie-root-port'/>"));
            self.line("    <interface type='ethernet'>");
            self.line(format!("      <mac address='{mac}'/>"));
            self.line(format!("      <target dev='{tap}' managed='no'/>"));
            self.line("      <model type='virtio'/>");
            self.line("      <rom enabled='no'/>");
            self.line(format!("      <address type='pci' bus='{port}' slot='0' function='0'/>"));
            self.line("    </interface>");
        }
    }

    fn disks(&mut self) {
        let mut letters = 'a'..='z';
        let mut target = || format!("vd{}", letters.next().expect("few disks"));
        if self.vm.spec.disk.is_some() {
            let (image, overlay) = (self.file(Handle::Image), self.file(Handle::Overlay));
            self.line("    <disk type='file' device='disk'>");
            self.line("      <driver name='qemu' type='qcow2' cache='unsafe' discard='unmap' detect_zeroes='unmap'/>");
            self.line(format!("      <source file='{overlay}'/>"));
            self.line("      <backingStore type='file'>");
            self.line("        <format type='raw'/>");
            self.line(format!("        <source file='{image}'/>"));
            self.line("        <backingStore/>");
            self.line("      </backingStore>");
            self.line(format!("      <target dev='{}' bus='virtio'/>", target()));
            if !matches!(self.vm.spec.boot, Boot::Kernel { .. }) {
                self.line("      <boot order='1'/>");
            }
            self.line("    </disk>");
        }
        for (handle, serial, wanted) in [
            (Handle::ConfigDisk, "config", self.vm.spec.config.config_dir.is_some()),
            (Handle::CloudInitDisk, "cloud-init", self.vm.spec.config.cloud_init.is_some()),
        ] {
            if wanted {
                let file = self.file(handle);
                self.line("    <disk type='file' device='disk'>");
                self.line("      <driver name='qemu' type='raw'/>");
                self.line(format!("      <source file='{file}'/>"));
                self.line("      <backingStore/>");
                self.line(format!("      <target dev='{}' bus='virtio'/>", target()));
                self.line("      <readonly/>");
                self.line(format!("      <serial>{serial}</serial>"));
                self.line("    </disk>");
            }
        }
    }

    /// The console is read from a socket as with QEMU alone, and is appended to a file as well, which is
    /// there when the owner is not.
    fn channels(&mut self) {
        let (console, agent) = (self.socket(Handle::Console), self.socket(Handle::Agent));
        let log = escaped(&format!("{}/{}.console", self.paths.logs, self.vm.name));
        self.line("    <serial type='unix'>");
        self.line(format!("      <source mode='connect' path='{console}'/>"));
        self.line(format!("      <log file='{log}' append='on'/>"));
        self.line("      <target port='0'/>");
        self.line("    </serial>");
        // As many as there are, and port 0, which is for consoles.
        self.line("    <controller type='virtio-serial' index='0' ports='2'/>");
        self.line("    <channel type='unix'>");
        self.line(format!("      <source mode='connect' path='{agent}'/>"));
        self.line("      <target type='virtio' name='org.qemu.guest_agent.0'/>");
        self.line("    </channel>");
    }

    /// What happens to a VM is told by QEMU itself, at once and in order. Nothing is changed by it.
    fn second_monitor(&mut self) {
        let monitor = self.paths.socket(self.vm, Handle::Qmp).replace(',', ",,");
        let monitor = escaped(&format!("socket,id=steading,path={monitor}"));
        self.line("  <qemu:commandline>");
        for arg in ["-chardev", &monitor, "-mon", "chardev=steading,mode=control"] {
            self.line(format!("    <qemu:arg value='{arg}'/>"));
        }
        self.line("  </qemu:commandline>");
    }
}

/// The first character of a text that XML cannot hold at all (XML 1.0, section 2.2), if there is one.
pub(crate) fn unspeakable(text: &str) -> Option<char> {
    let is_speakable = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    text.chars().find(|&c| !is_speakable(c))
}

/// Text as it is written in XML, between tags and in quotes. Newlines in quotes, and carriage returns,
/// would be read as something else.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&apos;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#13;"),
            _ => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_xml_is_escaped() {
        assert_eq!(escaped("a<b>&'\"\r\n"), "a&lt;b&gt;&amp;&apos;&quot;&#13;\n");
    }

    #[test]
    fn control_characters_cannot_be_said() {
        assert_eq!(unspeakable("tab\tline\n\u{e9} \u{1f600}"), None);
        assert_eq!(unspeakable("bell\u{7}"), Some('\u{7}'));
        assert_eq!(unspeakable("\u{ffff}"), Some('\u{ffff}'));
    }

    #[test]
    fn numbers_of_files_do_not_meet() {
        let most = Handle::credential_number(u32::try_from(FW_CFG_FILES_MAX_LIBVIRT).expect("few") - 1);
        assert!(Handle::ALL.into_iter().all(|handle| handle.number() < most), "handles come first");
        assert!(most < NUMBERS && DomainPaths::number(0, 0) > DOMAIN_DIRECTORY, "{most}");
        assert!(DomainPaths::number(0, most) < DomainPaths::number(1, 0));
    }
}
