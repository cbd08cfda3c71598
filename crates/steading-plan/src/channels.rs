//! The ways by which a guest is told things, and how much each of them carries.
//!
//! systemd credentials go over SMBIOS, which every systemd that knows credentials reads, as far as there is
//! room: guests read one page of it. The rest goes over fw_cfg, which has room for all, but not for long
//! names. What fits neither is refused here, before anything is started: a guest would get a part of it, or
//! nothing, and nobody would say so.
//!
//! Sources: systemd.system-credentials(7), systemd's `import-creds.c` and `creds-util.h`; SMBIOS 3.6, 6.1.3 and
//! 7.12; QEMU's docs/specs/fw_cfg.rst; Linux, arch/x86/include/asm/setup.h.

use thiserror::Error;

use crate::{Acceleration, Boot, Engine, QemuFacts, VmName, VmPlan};

/// Bytes of an SMBIOS structure that a guest reads: what Linux gives out of
/// `/sys/firmware/dmi/entries/11-0/raw` at one read is a page, and systemd reads once.
pub const SMBIOS_MAX: usize = 4096;

/// The most strings of one structure: they are counted in a byte.
const STRINGS_MAX: usize = 255;

/// Bytes of a structure without the strings of credentials: type, length, handle, count, the NUL at the end, and
/// [`FW_CFG_MARK`].
const STRUCTURE: usize = 6 + FW_CFG_MARK.len() + 1;

/// Room for the key that lets the driver in, a line of sshd's authorized_keys, in bytes.
pub const AUTHORIZED_KEY_MAX: usize = 256;

/// Where fw_cfg has credentials.
pub const FW_CFG_DIRECTORY: &str = "opt/io.systemd.credentials/";

/// Bytes of the longest name in fw_cfg (`FW_CFG_MAX_FILE_PATH`, less the NUL).
const FW_CFG_NAME_MAX: usize = 55;

/// How many credentials go over fw_cfg at most: each is an open file of the QEMU process.
pub const FW_CFG_FILES_MAX: usize = 60;

/// The same with libvirt, where one process holds the files of all VMs.
pub(crate) const FW_CFG_FILES_MAX_LIBVIRT: usize = 8;

/// Bytes that systemd takes of all credentials together, and so of one (`CREDENTIALS_TOTAL_SIZE_MAX`).
const CREDENTIALS_MAX: usize = 1 << 20;

/// Bytes of a kernel's command line, with its NUL, on x86 (`COMMAND_LINE_SIZE`).
const COMMAND_LINE_SIZE: usize = 2048;

/// A string that says that there are credentials over fw_cfg, too: the reference guest has the kernel look for
/// them only then, since that costs time. Other guests pass over it.
pub(crate) const FW_CFG_MARK: &str = "steading.credentials=fw_cfg";

/// The prefix of a credential's SMBIOS string.
const OEM_PREFIX: &str = "io.systemd.credential:";

/// The credential with the key that lets the driver in.
pub(crate) const AUTHORIZED_KEY: &str = "ssh.authorized_keys.root";

/// More than a way into a guest carries.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChannelError {
    /// A name that is too long for the way that has room for the value.
    #[error(
        "VM {vm}: its credentials take {bytes} bytes of the {SMBIOS_MAX} that a guest reads over SMBIOS, so \
         {name:?} has to go over fw_cfg, whose names have at most {} bytes: this one has {}\nhint: use a shorter \
         name, or a `CONFIG` disk",
        FW_CFG_NAME_MAX - FW_CFG_DIRECTORY.len(),
        name.len()
    )]
    Name {
        /// The VM.
        vm: VmName,
        /// The name.
        name: String,
        /// What all its credentials would take over SMBIOS.
        bytes: usize,
    },
    /// A VM that is told over SMBIOS alone.
    #[error(
        "VM {vm}: its credentials take {bytes} bytes, and a guest reads {SMBIOS_MAX} over SMBIOS, the only way \
         to a VM inside another\nhint: let the guest download what is large from the group's file server"
    )]
    Nested {
        /// The VM.
        vm: VmName,
        /// What all its credentials take.
        bytes: usize,
    },
    /// More than systemd takes.
    #[error(
        "VM {vm}: its credentials have {bytes} bytes, and systemd takes {CREDENTIALS_MAX} in all\nhint: use a \
         `CONFIG` disk, or let the guest download what is large from the group's file server"
    )]
    Total {
        /// The VM.
        vm: VmName,
        /// Bytes of all values.
        bytes: usize,
    },
    /// Too many that are too large for SMBIOS.
    #[error(
        "VM {vm}: its credentials take {bytes} bytes of the {SMBIOS_MAX} that a guest reads over SMBIOS, so {count} \
         have to go over fw_cfg, and with the engine {engine} {most} can\nhint: use a `CONFIG` disk"
    )]
    Count {
        /// The VM.
        vm: VmName,
        /// How many.
        count: usize,
        /// How many can.
        most: usize,
        /// What runs the VM.
        engine: Engine,
        /// What all its credentials would take over SMBIOS.
        bytes: usize,
    },
    /// A command line that the kernel would cut.
    #[error(
        "VM {vm}: the kernel's command line has {bytes} bytes{}, and Linux reads {}\nhint: shorten `cmdline`",
        if *added > 0 { format!(" with {added} that Steading adds") } else { String::new() },
        COMMAND_LINE_SIZE - 1
    )]
    CommandLine {
        /// The VM.
        vm: VmName,
        /// Its length.
        bytes: usize,
        /// How many of these are not declared.
        added: usize,
    },
}

/// How the credentials of a VM reach its guest, by name and value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// As strings of one SMBIOS structure of type 11.
    pub smbios: Vec<(&'a str, &'a str)>,
    /// As files of fw_cfg, in [`FW_CFG_DIRECTORY`].
    pub fw_cfg: Vec<(&'a str, &'a str)>,
}

impl<'a> Delivery<'a> {
    /// What the guest needs first comes first, then the small ones, so that as many as can be go the way that
    /// every guest knows.
    pub fn of(vm: &'a VmPlan) -> Self {
        let mut credentials: Vec<(&str, &str)> = vm.credentials().collect();
        credentials.sort_by_key(|(name, value)| (!is_vital(name), value.len(), *name));
        let mut room = SMBIOS_MAX - STRUCTURE - oem_length(AUTHORIZED_KEY, AUTHORIZED_KEY_MAX);
        let mut delivery = Self::default();
        for (name, value) in credentials {
            let takes = oem_length(name, value.len());
            if takes <= room && delivery.smbios.len() + 2 < STRINGS_MAX {
                room -= takes;
                delivery.smbios.push((name, value));
            } else {
                delivery.fw_cfg.push((name, value));
            }
        }
        delivery
    }

    /// What would go over SMBIOS if it had room for all, the driver's key included, in bytes.
    fn smbios_bytes(&self) -> usize {
        let credentials = self.smbios.iter().chain(&self.fw_cfg);
        let strings: usize = credentials.map(|(name, value)| oem_length(name, value.len())).sum();
        STRUCTURE + oem_length(AUTHORIZED_KEY, AUTHORIZED_KEY_MAX) + strings
    }

    /// The SMBIOS structure, for `-smbios file=`: the strings, and the line of sshd's authorized_keys that
    /// lets the driver in.
    pub fn smbios_structure(&self, authorized_key: &str) -> Vec<u8> {
        /// "OEM Strings".
        const TYPE: u8 = 11;
        const LENGTH: u8 = 5;
        /// That of QEMU's own structure of this type, which is not made then (`T11_BASE`).
        const HANDLE: u16 = 0x0e00;
        let strings = self.smbios.iter().copied().chain(std::iter::once((AUTHORIZED_KEY, authorized_key)));
        let mut strings: Vec<String> = strings.map(|(name, value)| oem_string(name, value)).collect();
        strings.extend((!self.fw_cfg.is_empty()).then(|| FW_CFG_MARK.to_owned()));
        let mut structure = vec![TYPE, LENGTH];
        structure.extend(HANDLE.to_le_bytes());
        structure.push(u8::try_from(strings.len()).expect("no more strings than that are given out"));
        for string in strings {
            structure.extend(string.bytes());
            structure.push(0);
        }
        structure.push(0);
        structure
    }
}

/// Whether a guest that lacks it cannot be reached.
fn is_vital(name: &str) -> bool {
    name == "system.hostname" || name.starts_with("network.network.")
}

/// The SMBIOS string of a credential.
pub(crate) fn oem_string(name: &str, value: &str) -> String {
    format!("{OEM_PREFIX}{name}={value}")
}

/// What such a string takes, with its NUL.
fn oem_length(name: &str, value: usize) -> usize {
    OEM_PREFIX.len() + name.len() + 1 + value + 1
}

/// Refuses what would reach the guest in part, or not at all.
///
/// `most` is how many credentials go over fw_cfg with this engine.
pub(crate) fn check(vm: &VmPlan, facts: &QemuFacts, engine: Engine, most: usize) -> Result<(), ChannelError> {
    check_command_line(vm, facts)?;
    let delivery = Delivery::of(vm);
    let name = || vm.name.clone();
    let total: usize = vm.credentials().map(|(_, value)| value.len()).sum();
    if total + AUTHORIZED_KEY_MAX > CREDENTIALS_MAX {
        return Err(ChannelError::Total { vm: name(), bytes: total });
    }
    let bytes = delivery.smbios_bytes();
    if vm.spec.inside.is_some() && !delivery.fw_cfg.is_empty() {
        return Err(ChannelError::Nested { vm: name(), bytes });
    }
    let longest = FW_CFG_NAME_MAX - FW_CFG_DIRECTORY.len();
    if let Some((long, _)) = delivery.fw_cfg.iter().find(|(name, _)| name.len() > longest) {
        return Err(ChannelError::Name { vm: name(), name: (*long).to_owned(), bytes });
    }
    if delivery.fw_cfg.len() > most {
        return Err(ChannelError::Count { vm: name(), count: delivery.fw_cfg.len(), most, engine, bytes });
    }
    Ok(())
}

/// Checks the length that the command line has on a host that knows the frequency of its time stamp counter, so
/// that a testnet that is accepted here is accepted everywhere.
fn check_command_line(vm: &VmPlan, facts: &QemuFacts) -> Result<(), ChannelError> {
    /// A host's frequency has four digits, or five.
    const TSC_MHZ: u32 = 99_999;
    let Boot::Kernel { cmdline, .. } = &vm.spec.boot else { return Ok(()) };
    let told = QemuFacts { acceleration: Acceleration::Tcg, tsc_mhz: Some(TSC_MHZ), ..facts.clone() };
    let bytes = told.with_frequency(cmdline).len();
    if bytes < COMMAND_LINE_SIZE {
        return Ok(());
    }
    Err(ChannelError::CommandLine { vm: vm.name.clone(), bytes, added: bytes - cmdline.len() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Addressing, HostFacts, Plan, PlanError, Testnet, VmSpec};

    fn vm(credentials: &[(&str, usize)]) -> VmSpec {
        let boot = Boot::Kernel { kernel: "/kernel".into(), initrd: None, cmdline: String::new() };
        let mut vm = VmSpec::new("n1", boot);
        let credentials = credentials.iter().map(|(name, size)| ((*name).to_owned(), "x".repeat(*size)));
        vm.config.credentials.extend(credentials);
        vm
    }

    fn plan(vm: VmSpec) -> Result<Plan, PlanError> {
        Plan::derive(&"g".parse().unwrap(), &Testnet::new().vm(vm), &HostFacts::default())
    }

    fn refusal(vm: VmSpec) -> String {
        plan(vm).expect_err("it does not fit").to_string()
    }

    /// By which way a credential goes.
    fn goes_over_smbios(plan: &Plan, name: &str) -> bool {
        let delivery = Delivery::of(&plan.vms[0]);
        let has = |list: &[(&str, &str)]| list.iter().any(|(other, _)| *other == name);
        assert!(has(&delivery.smbios) != has(&delivery.fw_cfg), "{name} goes by one way");
        has(&delivery.smbios)
    }

    #[test]
    fn credentials_beyond_a_page_were_cut_without_a_word() {
        let plan = plan(vm(&[("large", 3880), ("small", 100), ("huge", 20_000), ("vast", 140_000)])).unwrap();
        assert!(goes_over_smbios(&plan, "small") && goes_over_smbios(&plan, "system.hostname"));
        for name in ["huge", "vast"] {
            assert!(!goes_over_smbios(&plan, name), "{name}");
        }
        let delivery = Delivery::of(&plan.vms[0]);
        assert!(delivery.smbios_structure(&"k".repeat(AUTHORIZED_KEY_MAX)).len() <= SMBIOS_MAX);
        let command = plan.vms[0].launch.to_string();
        assert!(command.contains("name=opt/io.systemd.credentials/vast,file=/proc/self/fd/"), "{command}");
    }

    #[test]
    fn a_static_address_was_lost_behind_large_credentials() {
        let testnet = Testnet::new().addressing(Addressing::Static).vm(vm(&[("a", 1900), ("b", 1900)]));
        let plan = Plan::derive(&"g".parse().unwrap(), &testnet, &HostFacts::default()).unwrap();
        assert!(goes_over_smbios(&plan, "network.network.05-steading-1"));
        assert!(!goes_over_smbios(&plan, "b"));
    }

    #[test]
    fn what_no_way_carries_is_refused_with_its_sum_and_the_limit() {
        let long = "a.credential.with.rather.a.long.name";
        let text = refusal(vm(&[(long, 5000)]));
        assert!(text.contains(long) && text.contains("28") && text.contains("4096"), "{text}");
        let text = refusal(vm(&[("a", 700_000), ("b", 400_000)]));
        assert!(text.contains("1100002") && text.contains("1048576"), "{text}");
        let names: Vec<String> = (0..70).map(|number| format!("c{number}")).collect();
        let many: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 4000)).collect();
        let text = refusal(vm(&many));
        assert!(text.contains("so 70 have") && text.contains("60 can"), "{text}");
    }

    #[test]
    fn with_libvirt_fewer_credentials_go_over_fw_cfg() {
        let facts = HostFacts { engine: Engine::Libvirt, ..HostFacts::default() };
        let derive = |count: usize| {
            let names: Vec<String> = (0..count).map(|number| format!("c{number}")).collect();
            let given: Vec<(&str, usize)> =
                names.iter().map(|name| (name.as_str(), 140_000 / count)).collect();
            Plan::derive(&"g".parse().unwrap(), &Testnet::new().vm(vm(&given)), &facts)
        };
        assert!(derive(FW_CFG_FILES_MAX_LIBVIRT).is_ok());
        let text = derive(FW_CFG_FILES_MAX_LIBVIRT + 1).expect_err("too many").to_string();
        assert!(text.contains("engine libvirt 8 can"), "{text}");
    }

    #[test]
    fn a_command_line_that_linux_would_cut_is_refused() {
        let with = |length: usize| {
            let mut vm = vm(&[]);
            let Boot::Kernel { cmdline, .. } = &mut vm.boot else { unreachable!("it boots a kernel") };
            *cmdline = "x".repeat(length);
            vm
        };
        assert!(plan(with(2000)).is_ok());
        let text = refusal(with(2040));
        assert!(text.contains("2063") && text.contains("2047") && text.contains("adds"), "{text}");
    }

    proptest! {
        #[test]
        fn every_credential_goes_one_way_and_the_page_is_never_exceeded(
            sizes in prop::collection::vec(0_usize..5000, 0..80),
        ) {
            let names: Vec<String> = (0..sizes.len()).map(|number| format!("c{number}")).collect();
            let given: Vec<(&str, usize)> = names.iter().map(String::as_str).zip(sizes).collect();
            let Ok(plan) = plan(vm(&given)) else { return Ok(()) };
            for name in &names {
                goes_over_smbios(&plan, name);
            }
            let structure = Delivery::of(&plan.vms[0]).smbios_structure(&"k".repeat(AUTHORIZED_KEY_MAX));
            prop_assert!(structure.len() <= SMBIOS_MAX);
            prop_assert_eq!(usize::from(structure[4]), structure[5..].split(|&byte| byte == 0).count() - 2);
        }
    }
}
