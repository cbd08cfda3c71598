//! The facts about a host that plans depend on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::engine::Engine;

/// Facts about the host that a plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// What its QEMU can do.
    pub qemu: QemuFacts,
    /// What runs the VMs.
    pub engine: Engine,
}

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

    /// The kernel's command line, with the frequency of its time stamp counter, unless it has that already.
    ///
    /// Under emulation the counter is the host's. A kernel that boots compares it with the timer chip for some
    /// milliseconds. If its host is under load then, the kernel measures a frequency that is wrong by any
    /// factor, and its clock runs that much too fast. KVM has a clock for its guests.
    pub(crate) fn with_frequency(&self, cmdline: &str) -> String {
        /// In kHz (Documentation/admin-guide/kernel-parameters.txt).
        const PARAMETER: &str = "tsc_early_khz=";
        match self.tsc_mhz {
            Some(mhz) if self.acceleration == Acceleration::Tcg && !cmdline.contains(PARAMETER) => {
                format!("{cmdline} {PARAMETER}{mhz}000")
            }
            _ => cmdline.to_owned(),
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
