//! The command line of a VM's QEMU process.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Boot, Delivery, FW_CFG_DIRECTORY, Handle, VmPlan};

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Acceleration {
    /// The host's virtual machine monitor in the kernel.
    Kvm,
    /// QEMU's own emulation.
    Tcg,
}

impl Acceleration {
    /// QEMU's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Features of QEMU's emulated CPU model `max` that slow a guest down, by QEMU's names (`-cpu help`).
///
/// `la57` is five-level page tables: each walk has one level more, for addresses that nobody has. The others
/// say that string instructions are fast, in more cases with each: QEMU emulates them byte by byte, and the
/// instructions that a guest uses without them by words. They go together: Linux that
/// finds `fsrm` without `erms` leaves out a check of lengths, and its first short `memmove` does not end
/// (arch/x86/lib/memmove_64.S).
pub const SLOW_CPU_FEATURES: [&str; 6] = ["la57", "erms", "fsrm", "fzrm", "fsrs", "fsrc"];

/// The [slow features](SLOW_CPU_FEATURES) among those that a QEMU offers, in the order of that list: the ones
/// to turn off. QEMU refuses the name of a feature that it does not know.
pub fn slow_features<'a>(offered: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let offered: BTreeSet<&str> = offered.into_iter().collect();
    SLOW_CPU_FEATURES.into_iter().filter(|name| offered.contains(name)).map(str::to_owned).collect()
}

/// What the host's QEMU is like, as far as command lines depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QemuFacts {
    /// The program.
    pub program: String,
    /// What executes instructions.
    pub acceleration: Acceleration,
    /// Features of the emulated CPU that are turned off. Not used under KVM.
    #[serde(default = "slow_features_of_7_2")]
    pub disabled_features: Vec<String>,
    /// The read-only part of the UEFI firmware.
    pub firmware_code: String,
    /// How often the host's time stamp counter counts in a second, in MHz, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tsc_mhz: Option<u32>,
}

/// Two measurements of one host's frequency differ by no more than a thousandth.
const FREQUENCY_TOLERANCE: u32 = 1000;

/// What QEMU 7.2 offers of the slow features.
fn slow_features_of_7_2() -> Vec<String> {
    slow_features(["la57", "erms"])
}

impl QemuFacts {
    /// The value of `-cpu`.
    pub fn cpu(&self) -> String {
        match self.acceleration {
            Acceleration::Kvm => "host".to_owned(),
            Acceleration::Tcg => {
                let off = self.disabled_features.iter().map(|name| format!(",{name}=off"));
                std::iter::once("max".to_owned()).chain(off).collect()
            }
        }
    }

    /// The same without what is measured, which differs a little each time.
    #[must_use]
    pub fn unmeasured(&self) -> Self {
        Self { tsc_mhz: None, ..self.clone() }
    }

    /// How many times too fast the clocks of guests that learned this frequency go on a host of another, if
    /// they do. Under emulation a guest's counter is the host's.
    pub fn clock_error(&self, here_mhz: Option<u32>) -> Option<f64> {
        let learned = self.tsc_mhz.filter(|_| self.acceleration == Acceleration::Tcg)?;
        let here = here_mhz?;
        let alike = here.abs_diff(learned) <= (learned / FREQUENCY_TOLERANCE).max(1);
        (!alike).then(|| f64::from(here) / f64::from(learned))
    }
}

impl Default for QemuFacts {
    fn default() -> Self {
        Self {
            program: "qemu-system-x86_64".to_owned(),
            acceleration: Acceleration::Tcg,
            disabled_features: slow_features_of_7_2(),
            firmware_code: "/usr/share/OVMF/OVMF_CODE_4M.fd".to_owned(),
            tsc_mhz: None,
        }
    }
}

/// How a QEMU process begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// With the devices and the memory of a frozen VM; else by booting.
    pub frozen: bool,
    /// How many frozen layers lie between the image and the overlay.
    pub layers: u32,
}

/// The arguments of one QEMU process; the first is the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QemuCommand(Vec<String>);

impl QemuCommand {
    /// The program and its arguments.
    pub fn argv(&self) -> &[String] {
        &self.0
    }

    /// The command line of a VM's QEMU process.
    pub fn derive(vm: &VmPlan, facts: &QemuFacts, beginning: Beginning) -> Self {
        let mut command = Self(vec![facts.program.clone()]);
        command.machine(vm, facts);
        command.memory(vm, beginning);
        command.channels();
        command.cards(vm);
        command.disks(vm, beginning.layers);
        command.boot(vm, facts);
        command.configuration(vm);
        command
    }

    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(name.to_owned());
        self.0.push(value.into());
    }

    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn machine(&mut self, vm: &VmPlan, facts: &QemuFacts) {
        self.option("-name", format!("guest={0},process=vm-{0:.11}", vm.name));
        self.flag("-no-user-config");
        self.flag("-nodefaults");
        let boot = match vm.spec.boot {
            Boot::Uefi => ",pflash0=firmware-code,pflash1=firmware-vars",
            // SeaBIOS then speaks on the serial port: else a guest that never boots says nothing at all.
            Boot::Bios if !vm.spec.display => ",graphics=off",
            Boot::Bios | Boot::Kernel { .. } => "",
        };
        // Suspension states confuse guests whose host cannot wake them, and their tables cost boot time.
        let accel = facts.acceleration.as_str();
        self.option("-machine", format!("q35,accel={accel},vmport=off,memory-backend=memory{boot}"));
        self.option("-global", "ICH9-LPC.disable_s3=1");
        self.option("-global", "ICH9-LPC.disable_s4=1");
        self.option("-cpu", facts.cpu());
        self.option("-smp", vm.spec.vcpus.to_string());
        self.option("-m", format!("{}M", vm.spec.memory_mib));
        self.option("-uuid", vm.uuid.clone());
        self.option("-rtc", "base=utc");
        self.option("-display", "none");
        if vm.spec.display {
            self.option("-device", "VGA,id=vga");
        }
        // A guest without it waits for entropy in its first boot.
        self.option("-object", "rng-random,id=entropy,filename=/dev/urandom");
        self.option("-device", "virtio-rng-pci,rng=entropy");
        // A panic becomes an event; the VM is left as it is, to be looked at.
        self.option("-device", "pvpanic");
        self.option("-action", "panic=none");
    }

    /// Memory is a file of the owner's, so that a freeze has nothing to copy. What begins with a
    /// frozen VM's memory sees it, and writes to a copy of its own, page by page. The generation
    /// id, new for each process, has guests seed their random numbers anew.
    fn memory(&mut self, vm: &VmPlan, beginning: Beginning) {
        let (path, size) = (Handle::Memory.path(), vm.spec.memory_mib);
        let share = if beginning.frozen { "off" } else { "on" };
        self.option(
            "-object",
            format!("memory-backend-file,id=memory,size={size}M,mem-path={path},share={share}"),
        );
        self.option("-device", "vmgenid,id=generation,guid=auto");
        if beginning.frozen {
            self.option("-incoming", "defer");
        }
    }

    fn channels(&mut self) {
        let sockets = [Handle::Qmp, Handle::Console, Handle::Agent, Handle::Thaw];
        for (id, handle) in sockets.map(|handle| (handle.as_str(), handle)) {
            self.option("-chardev", format!("socket,id={id},fd={}", handle.number()));
        }
        self.option("-mon", "chardev=qmp,mode=control");
        self.option("-serial", "chardev:console");
        // Each port has two queues, and each queue a descriptor that QEMU looks at whenever it wakes. Port 0 is
        // for consoles.
        let ports = 1 + [Handle::Agent, Handle::Thaw].len();
        self.option("-device", format!("virtio-serial-pci,id=serial,max_ports={ports}"));
        self.option("-device", "virtserialport,bus=serial.0,chardev=agent,name=org.qemu.guest_agent.0");
        self.option("-device", format!("virtserialport,bus=serial.0,chardev=thaw,name={THAW_PORT}"));
    }

    /// A PCIe root port for each card, in order: the guest's predictable names count the buses
    /// behind them (`enp1s0`, `enp2s0`; systemd.net-naming-scheme(7)). Cards have no option ROM:
    /// it would cost seconds of looking for a boot server.
    fn cards(&mut self, vm: &VmPlan) {
        let cards = [(Handle::Tap, Some(vm.mac)), (Handle::SecondTap, vm.second_mac)];
        for (index, (handle, mac)) in cards.into_iter().enumerate() {
            let Some(mac) = mac else { continue };
            let slot = index + 1;
            self.option("-device", format!("pcie-root-port,id=port{slot},chassis={slot},slot={slot}"));
            self.option("-netdev", format!("tap,id=net{slot},fd={}", handle.number()));
            // A guest that was asked to tell the network where it is would do so after each freeze; and QEMU
            // that is told not to ask (`announce-rounds`) crashes when such a guest resets the card.
            let device = format!(
                "virtio-net-pci,bus=port{slot},netdev=net{slot},mac={mac},romfile=,guest_announce=off"
            );
            self.option("-device", device);
        }
    }

    fn disks(&mut self, vm: &VmPlan, layers: u32) {
        if vm.spec.disk.is_some() {
            self.file(Handle::Image.number(), "image-file", "read-only=on");
            self.option("-blockdev", "raw,node-name=image,file=image-file,read-only=on");
            let mut below = "image".to_owned();
            for layer in 0..layers {
                let (file, node) = (format!("layer{layer}-file"), format!("layer{layer}"));
                self.file(Handle::layer_number(layer), &file, "read-only=on");
                self.option(
                    "-blockdev",
                    format!("qcow2,node-name={node},file={file},backing={below},read-only=on"),
                );
                below = node;
            }
            self.file(Handle::Overlay.number(), "overlay-file", &format!("discard=unmap,{NO_FLUSH}"));
            self.option(
                "-blockdev",
                format!(
                    "qcow2,node-name=disk,file=overlay-file,backing={below},discard=unmap,detect-zeroes=unmap"
                ),
            );
            self.option("-device", "virtio-blk-pci,drive=disk,bootindex=1");
        }
        for (handle, name, wanted) in [
            (Handle::ConfigDisk, "config", vm.spec.config.config_dir.is_some()),
            (Handle::CloudInitDisk, "cloud-init", vm.spec.config.cloud_init.is_some()),
        ] {
            if wanted {
                let file = format!("{name}-file");
                self.file(handle.number(), &file, "read-only=on");
                self.option("-blockdev", format!("raw,node-name={name},file={file},read-only=on"));
                self.option("-device", format!("virtio-blk-pci,drive={name},serial={name}"));
            }
        }
    }

    /// A file that QEMU gets open. It has no lock: it belongs to this VM alone, or is read-only.
    fn file(&mut self, number: u32, node: &str, more: &str) {
        self.option("-add-fd", format!("fd={number},set={number}"));
        let path = format!("/dev/fdset/{number}");
        self.option("-blockdev", format!("file,node-name={node},filename={path},locking=off,{more}"));
    }

    fn boot(&mut self, vm: &VmPlan, facts: &QemuFacts) {
        match &vm.spec.boot {
            Boot::Bios => {}
            Boot::Uefi => {
                let code = escaped(&facts.firmware_code);
                self.option(
                    "-blockdev",
                    format!("file,node-name=firmware-code,filename={code},read-only=on"),
                );
                self.file(
                    Handle::FirmwareVars.number(),
                    "firmware-vars",
                    &format!("read-only=off,{NO_FLUSH}"),
                );
            }
            Boot::Kernel { initrd, cmdline, .. } => {
                self.option("-kernel", Handle::Kernel.path());
                if initrd.is_some() {
                    self.option("-initrd", Handle::Initrd.path());
                }
                self.option("-append", with_frequency(cmdline, facts));
            }
        }
    }

    fn configuration(&mut self, vm: &VmPlan) {
        if vm.spec.config.ignition.is_some() {
            let path = Handle::Ignition.path();
            self.option("-fw_cfg", format!("name=opt/com.coreos/config,file={path}"));
        }
        self.option("-smbios", format!("file={}", Handle::Credentials.path()));
        let Delivery { fw_cfg, .. } = Delivery::of(vm);
        if !fw_cfg.is_empty() {
            // QEMU ends when there are more files than places for them.
            self.option("-global", format!("fw_cfg_io.x-file-slots={}", FW_CFG_SLOTS + fw_cfg.len()));
        }
        for (number, (name, _)) in (0..).zip(fw_cfg) {
            let number = Handle::credential_number(number);
            self.option("-fw_cfg", format!("name={FW_CFG_DIRECTORY}{name},file=/proc/self/fd/{number}"));
        }
    }
}

/// The guest's name of the port by which it is told that it goes on after a freeze.
pub const THAW_PORT: &str = "steading.thaw.0";

/// How many files fw_cfg has places for by default (`FW_CFG_FILE_SLOTS_DFLT`), with which QEMU does for its own.
const FW_CFG_SLOTS: usize = 32;

/// What the guest flushes is handed to the host's kernel, and not forced to its disk: nothing is lost when QEMU is
/// killed, and the file itself, which has no name, is lost with the host.
const NO_FLUSH: &str = "cache.no-flush=on";

/// The kernel's command line, with the frequency of its time stamp counter, unless that is in it.
///
/// Under emulation the counter is the host's. A kernel that boots compares it with the timer chip for some
/// milliseconds, and if its host is under load then, believes in a frequency that is wrong by any
/// factor; its clock runs that much too fast. KVM has a clock for its guests.
pub(crate) fn with_frequency(cmdline: &str, facts: &QemuFacts) -> String {
    /// In kHz (Documentation/admin-guide/kernel-parameters.txt).
    const PARAMETER: &str = "tsc_early_khz=";
    match facts.tsc_mhz {
        Some(mhz) if facts.acceleration == Acceleration::Tcg && !cmdline.contains(PARAMETER) => {
            format!("{cmdline} {PARAMETER}{mhz}000")
        }
        _ => cmdline.to_owned(),
    }
}

/// QEMU's option parser takes a doubled comma for a comma.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names as `query-cpu-model-expansion` gives them, among others.
    const OFFERED_BY_10: [&str; 9] =
        ["fsrs", "sse2", "fzrm", "la57", "fsrc", "avx2", "fsrm", "erms", "rdpid"];

    #[test]
    fn guests_hung_on_qemu_10_whose_cpu_has_fast_short_moves() {
        let facts = QemuFacts { disabled_features: slow_features(OFFERED_BY_10), ..QemuFacts::default() };
        assert_eq!(facts.cpu(), "max,la57=off,erms=off,fsrm=off,fzrm=off,fsrs=off,fsrc=off");
    }

    #[test]
    fn a_feature_that_this_qemu_does_not_know_is_not_named() {
        assert_eq!(QemuFacts::default().cpu(), "max,la57=off,erms=off");
        let facts = QemuFacts { disabled_features: slow_features(["sse2"]), ..QemuFacts::default() };
        assert_eq!(facts.cpu(), "max");
    }

    #[test]
    fn under_kvm_guests_see_the_cpu_of_the_host() {
        let facts = QemuFacts { acceleration: Acceleration::Kvm, ..QemuFacts::default() };
        assert_eq!(facts.cpu(), "host");
    }
}
