//! What a testnet in TOML says. It differs from a declared testnet in that a VM may name a guest
//! that is looked for on a machine; a declared one knows the files, so its plan stays pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::Ipv6Net;
use schemars::JsonSchema;
use serde::Deserialize;
use thiserror::Error;

use crate::{
    Addressing, Boot, FileSource, GuestConfig, ImageSource, Record, RecordError, RecordTable, Testnet,
    VmSpec, default_memory_mib, default_vcpus,
};

/// The declared VMs and network of one test.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Testnet")]
pub struct TestnetFile {
    /// The VMs, in the order in which they were declared.
    #[serde(default, rename = "vm")]
    vms: Vec<VmTable>,
    /// The VMs' /64, for software that treats unique local addresses specially.
    #[schemars(with = "Option<String>")]
    prefix: Option<Ipv6Net>,
    /// How guests get their addresses.
    #[serde(default)]
    addressing: Addressing,
    /// Files that VMs can download from the group's file server.
    #[serde(default, rename = "file")]
    files: Vec<FileSource>,
    /// Names that the group's DNS knows in addition to those of VMs.
    #[serde(default, rename = "record")]
    records: Vec<RecordTable>,
    /// Addresses at which the group's DNS answers, too: those of resolvers that guests have built in.
    #[serde(default, rename = "resolver")]
    #[schemars(with = "Vec<String>")]
    resolvers: Vec<IpAddr>,
}

/// One declared VM. It says what it boots by `guest`, by `boot`, or by both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Vm")]
struct VmTable {
    /// Its name, which is also its host name. Checked when the plan is derived.
    name: String,
    /// A guest that is found on this machine. What it boots and its disk are the guest's, except for
    /// what `boot` and `disk` say.
    guest: Option<Guest>,
    /// Virtual CPUs.
    #[serde(default = "default_vcpus")]
    vcpus: u32,
    /// Memory in MiB; what its guest does well with when left out, or 512.
    memory_mib: Option<u32>,
    /// What it boots.
    boot: Option<Boot>,
    /// The disk it starts from, under an overlay of its own. Only a kernel can do without.
    disk: Option<ImageSource>,
    /// Grow the disk to so many MiB; the image's own size when left out.
    disk_mib: Option<u64>,
    /// Whether it has a second network card, with an IPv4 address by DHCP.
    #[serde(default)]
    second_card: bool,
    /// Whether it has a VGA adapter, which screenshots need.
    #[serde(default)]
    display: bool,
    /// The VM that it runs inside of, which is to run it: its frames come by that VM's card. It takes its
    /// memory and vCPUs from there.
    inside: Option<String>,
    /// Whether it is started with the group; else by the test.
    #[serde(default = "yes")]
    autostart: bool,
    /// Whether it boots again by itself after a panic of its kernel, so that waits go on. Else a panic ends
    /// them.
    #[serde(default)]
    reboots_on_panic: bool,
    /// The TCP ports at which it tells its metrics, at the path `/metrics`. While the VM is on, the group's
    /// file server lists them for Prometheus.
    #[serde(default)]
    metrics: Vec<u16>,
    /// How it is configured.
    #[serde(default)]
    config: GuestConfig,
}

/// A guest that is found on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Guest {
    /// The reference guest: the one in `$STEADING_GUEST`, else the one that was built last.
    Reference,
    /// The universal guest: the one in `$STEADING_UNIVERSAL_GUEST`, else the one that was built last.
    Universal,
    /// The host guest, which runs VMs that are declared inside it: the one in `$STEADING_HOST_GUEST`, else the
    /// one that was built last.
    Host,
}

const fn yes() -> bool {
    true
}

/// What a guest that was found boots, and the disk it starts from.
#[derive(Clone, Debug)]
pub struct GuestFiles {
    /// What it boots.
    pub boot: Boot,
    /// The disk it starts from.
    pub disk: Option<ImageSource>,
    /// How much memory it does well with, in MiB.
    pub memory_mib: u32,
    /// Whether it boots again by itself after a panic of its kernel.
    pub reboots_on_panic: bool,
}

/// Why a text is no testnet.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TestnetFileError {
    /// It is no TOML, or its tables are not those of a testnet.
    #[error("{said}{}", Advice(.nearest.as_deref()))]
    Toml {
        /// What is wrong, with the place.
        said: String,
        /// The right word that is most like the one that is unknown.
        nearest: Option<String>,
    },
    /// A VM says in no way what it boots.
    #[error(
        "VM {vm}: neither `boot` nor `guest` is given\nhint: `guest = \"reference\"` is the quickest way to a guest"
    )]
    NothingToBoot {
        /// The VM.
        vm: String,
    },
    /// A record leads nowhere, or to several things.
    #[error(transparent)]
    Record(#[from] RecordError),
}

struct Advice<'a>(Option<&'a str>);

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |word| write!(f, "\nhint: did you mean `{word}`?"))
    }
}

impl TestnetFile {
    /// Reads a testnet.
    ///
    /// # Errors
    ///
    /// [`TestnetFileError::Toml`], with the place and the nearest right word.
    pub fn parse(text: &str) -> Result<Self, TestnetFileError> {
        toml::from_str(text).map_err(|error| TestnetFileError::Toml {
            said: error.to_string().trim_end().to_owned(),
            nearest: nearest_word(error.message()).map(str::to_owned),
        })
    }

    /// The guests that VMs name, and of each the first VM that does.
    pub fn guests(&self) -> BTreeMap<Guest, &str> {
        let named = self.vms.iter().rev().filter_map(|vm| Some((vm.guest?, vm.name.as_str())));
        named.collect()
    }

    /// The testnet, with the files of guests; see [`Self::guests`].
    ///
    /// # Errors
    ///
    /// [`TestnetFileError::NothingToBoot`], [`TestnetFileError::Record`].
    pub fn resolve(self, guests: &BTreeMap<Guest, GuestFiles>) -> Result<Testnet, TestnetFileError> {
        let vms = self.vms.into_iter().map(|vm| vm.resolve(guests));
        let records = self.records.into_iter().map(Record::try_from);
        Ok(Testnet {
            vms: vms.collect::<Result<_, _>>()?,
            prefix: self.prefix,
            addressing: self.addressing,
            files: self.files,
            records: records.collect::<Result<_, _>>()?,
            resolvers: self.resolvers,
        })
    }
}

impl VmTable {
    fn resolve(self, guests: &BTreeMap<Guest, GuestFiles>) -> Result<VmSpec, TestnetFileError> {
        let guest = self.guest.and_then(|guest| guests.get(&guest));
        let Some(boot) = self.boot.or_else(|| guest.map(|guest| guest.boot.clone())) else {
            return Err(TestnetFileError::NothingToBoot { vm: self.name });
        };
        Ok(VmSpec {
            name: self.name,
            vcpus: self.vcpus,
            memory_mib: self
                .memory_mib
                .or(guest.map(|guest| guest.memory_mib))
                .unwrap_or_else(default_memory_mib),
            boot,
            disk: self.disk.or_else(|| guest.and_then(|guest| guest.disk.clone())),
            disk_mib: self.disk_mib,
            second_card: self.second_card,
            display: self.display,
            inside: self.inside,
            autostart: self.autostart,
            reboots_on_panic: self.reboots_on_panic || guest.is_some_and(|guest| guest.reboots_on_panic),
            metrics: self.metrics,
            config: self.config,
        })
    }
}

/// From "unknown field `x`, expected one of `a`, `b`": the one that is most like `x`, if any is.
fn nearest_word(message: &str) -> Option<&str> {
    if !message.starts_with("unknown") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = quoted.next()?;
    let similarity = |word: &&str| strsim::jaro_winkler(wrong, word);
    let best = quoted.max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&best) > 0.7).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> GuestFiles {
        let boot = Boot::Kernel { kernel: "vmlinuz".into(), initrd: None, cmdline: "quiet".to_owned() };
        GuestFiles {
            boot,
            disk: Some(ImageSource::new("guest/disk")),
            memory_mib: 700,
            reboots_on_panic: false,
        }
    }

    fn resolved(text: &str) -> Result<Testnet, TestnetFileError> {
        TestnetFile::parse(text)?.resolve(&BTreeMap::from([(Guest::Reference, reference())]))
    }

    #[test]
    fn the_reference_guest_has_its_kernel_and_disk() {
        let testnet = resolved("[[vm]]\nname = \"n1\"\nguest = \"reference\"\n").expect("a testnet");
        let vm = &testnet.vms[0];
        assert!(matches!(&vm.boot, Boot::Kernel { cmdline, .. } if cmdline == "quiet"), "{vm:?}");
        assert!(vm.disk.as_ref().is_some_and(|disk| disk.path == "guest/disk"), "{vm:?}");
        assert_eq!((vm.vcpus, vm.memory_mib, vm.autostart), (1, 700, true));
    }

    #[test]
    fn what_is_said_beside_a_guest_prevails() {
        let text = "[[vm]]\nname = \"n1\"\nguest = \"reference\"\nboot = \"uefi\"\n\
                    [[vm]]\nname = \"n2\"\nguest = \"reference\"\nmemory_mib = 99\ndisk = { path = \"own\" }\n";
        let testnet = resolved(text).expect("a testnet");
        assert_eq!(testnet.vms[0].boot, Boot::Uefi);
        assert!(testnet.vms[0].disk.is_some());
        assert_eq!(testnet.vms[1].disk.as_ref().expect("its own").path, "own");
        assert_eq!(testnet.vms[1].memory_mib, 99);
    }

    #[test]
    fn a_vm_with_nothing_to_boot_is_refused_with_advice() {
        let error = resolved("[[vm]]\nname = \"n1\"\n").expect_err("refused").to_string();
        assert!(error.starts_with("VM n1: neither `boot` nor `guest`") && error.contains("hint:"), "{error}");
    }

    #[test]
    fn the_first_vm_that_names_a_guest_is_told() {
        let bios = "[[vm]]\nname = \"n1\"\nboot = \"bios\"\n";
        let named = |name: &str, guest: &str| format!("[[vm]]\nname = \"{name}\"\nguest = \"{guest}\"\n");
        assert!(TestnetFile::parse(bios).expect("a testnet").guests().is_empty());
        let all =
            [bios.to_owned(), named("n2", "universal"), named("n3", "reference"), named("n4", "reference")];
        let all = TestnetFile::parse(&all.concat()).expect("a testnet");
        assert_eq!(all.guests(), BTreeMap::from([(Guest::Reference, "n3"), (Guest::Universal, "n2")]));
    }

    /// The defaults of the file are those of the library.
    #[test]
    fn a_vm_of_which_nothing_more_is_said_is_that_of_the_library() {
        let testnet = resolved("[[vm]]\nname = \"n1\"\nboot = \"bios\"\n").expect("a testnet");
        assert_eq!(testnet.vms, [VmSpec::new("n1", Boot::Bios)]);
    }

    #[test]
    fn a_mistake_is_shown_with_its_place_and_the_nearest_right_word() {
        let text = "[[vm]]\nname = \"n1\"\nvcpu = 2\nboot = \"bios\"\n";
        let error = TestnetFile::parse(text).expect_err("refused").to_string();
        assert!(error.contains("line 3"), "{error}");
        assert!(error.ends_with("hint: did you mean `vcpus`?"), "{error}");
    }

    #[test]
    fn what_is_like_no_right_word_gets_no_guess() {
        let said = |text| TestnetFile::parse(text).expect_err("refused").to_string();
        let error = said("[[vm]]\nname = \"n1\"\nzzz = 2\n");
        assert!(!error.contains("did you mean"), "{error}");
        assert!(said("[[vm]").contains("line 1"));
    }
}
