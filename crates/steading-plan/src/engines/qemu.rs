//! QEMU, started by the group's owner: the command line of a VM's process.

use super::{Capabilities, Cards, Guests, RequiredProgram};
use crate::channels::{Delivery, FW_CFG_DIRECTORY, FW_CFG_FILES_MAX};
use crate::command::{IMAGE, Launch, MEMORY, OVERLAY, QemuCommand, SHARED, file_node};
use crate::facts::QemuFacts;
use crate::handle::Handle;
use crate::testnet::Boot;
use crate::vm_plan::VmPlan;

/// What plans ask of this engine.
pub(super) const CAPABILITIES: Capabilities = Capabilities {
    no_freeze: None,
    no_display: None,
    no_nested: None,
    cards: Cards::Descriptors,
    guests: Guests::Booted,
    fw_cfg_files: FW_CFG_FILES_MAX,
    named_directory: None,
    programs: &[RequiredProgram { program: "qemu-system-x86_64", package: "qemu-system-x86" }],
};

/// The command line of a VM's QEMU process, to boot the guest.
pub(super) fn launch(vm: &VmPlan, facts: &QemuFacts) -> Launch {
    let mut command = Builder(vec![facts.program.clone()]);
    command.machine(vm, facts);
    command.memory(vm);
    command.channels();
    command.cards(vm);
    command.disks(vm);
    command.boot(vm, facts);
    command.configuration(vm);
    Launch::Qemu(QemuCommand::new(command.0))
}

/// A command line that grows.
struct Builder(Vec<String>);

impl Builder {
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

    /// Memory is a file of the owner's, so that a freeze has nothing to copy. The generation id, new for each
    /// process, makes guests reseed their random numbers.
    fn memory(&mut self, vm: &VmPlan) {
        let (path, size) = (Handle::Memory.path(), vm.spec.memory_mib);
        self.option("-object", format!("{MEMORY},size={size}M,mem-path={path},{SHARED}"));
        self.option("-device", "vmgenid,id=generation,guid=auto");
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

    fn disks(&mut self, vm: &VmPlan) {
        if vm.spec.disk.is_some() {
            self.file(Handle::Image.number(), "image-file", "read-only=on");
            self.option("-blockdev", format!("raw,node-name={IMAGE},file=image-file,read-only=on"));
            self.file(Handle::Overlay.number(), "overlay-file", &format!("discard=unmap,{NO_FLUSH}"));
            self.option(
                "-blockdev",
                format!("{OVERLAY},file=overlay-file,backing={IMAGE},discard=unmap,detect-zeroes=unmap"),
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
        self.0.extend(file_node(number, node, more));
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
                self.option("-append", facts.with_frequency(cmdline));
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

/// QEMU's option parser takes a doubled comma for a comma.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostFacts, ImageSource, Plan, Testnet, VmSpec};

    fn command() -> QemuCommand {
        let vm = VmSpec::new("n1", Boot::Bios).disk(ImageSource::new("/disk"));
        let plan =
            Plan::derive(&"g".parse().unwrap(), &Testnet::new().vm(vm), &HostFacts::default()).unwrap();
        let Launch::Qemu(command) = plan.vms[0].launch.clone() else { unreachable!("the engine is QEMU") };
        command
    }

    /// What differs, in the order of the command lines: what one has alone, and what the other has.
    fn difference(one: &QemuCommand, other: &QemuCommand) -> (Vec<String>, Vec<String>) {
        let alone = |a: &QemuCommand, b: &QemuCommand| {
            a.argv().iter().filter(|arg| !b.argv().contains(arg)).cloned().collect()
        };
        (alone(one, other), alone(other, one))
    }

    #[test]
    fn frozen_layers_lie_between_the_image_and_the_overlay() {
        let (booted, layered) = (command(), command().with_layers(2));
        assert_eq!(command().with_layers(0), booted);
        let (before, after) = difference(&booted, &layered);
        assert_eq!(before.len(), 1, "{before:?}");
        let backings: Vec<&str> =
            after.iter().filter_map(|arg| arg.split_once("backing=")?.1.split(',').next()).collect();
        assert_eq!(backings, ["image", "layer0", "layer1"]);
        let names = layered.argv().iter().filter(|arg| *arg == "-blockdev").count();
        assert_eq!(names, booted.argv().iter().filter(|arg| *arg == "-blockdev").count() + 4);
    }

    #[test]
    fn one_that_goes_on_never_writes_to_the_frozen_memory() {
        let (before, after) = difference(&command(), &command().going_on());
        assert!(before.iter().all(|arg| arg.contains("share=on")) && before.len() == 1, "{before:?}");
        assert_eq!(after[0], before[0].replace("share=on", "share=off"));
        assert_eq!(after[1..], ["-incoming", "defer"]);
    }
}
