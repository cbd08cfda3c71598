//! VMs as they are declared to a scheduler, such as in a BUILD file of Bazel, and whether a testnet
//! keeps to them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{VmSpec, env_vars};

/// What was declared, by the names of VMs: `{"n1":{"memory_mib":512,"vcpus":1}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeclaredVms(BTreeMap<String, DeclaredVm>);

/// One VM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclaredVm {
    memory_mib: u32,
    vcpus: u32,
}

/// A testnet that asks for more than was declared for it.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the testnet asks for more than was declared for it: {differences}\nhint: write in the BUILD file: vms = {starlark}"
)]
pub struct UndeclaredError {
    differences: String,
    starlark: String,
}

/// A declaration that cannot be understood.
#[derive(Debug, Error)]
#[error("cannot understand {variable} ({text})", variable = env_vars::STEADING_DECLARED_VMS)]
pub struct ParseDeclaredError {
    text: String,
    source: serde_json::Error,
}

impl ParseDeclaredError {
    /// What is wrong with the text.
    pub fn reason(&self) -> String {
        self.source.to_string()
    }
}

impl DeclaredVms {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// When it is no such JSON.
    pub fn parse(text: &str) -> Result<Self, ParseDeclaredError> {
        serde_json::from_str(text).map_err(|source| ParseDeclaredError { text: text.to_owned(), source })
    }

    /// What would have to be declared for these VMs.
    pub fn of(vms: &[VmSpec]) -> Self {
        let declared = |vm: &VmSpec| DeclaredVm { memory_mib: vm.memory_mib, vcpus: vm.vcpus };
        Self(vms.iter().map(|vm| (vm.name.clone(), declared(vm))).collect())
    }

    /// Whether the testnet keeps to it. Returns a note when it asks for less.
    ///
    /// # Errors
    ///
    /// When it asks for more: a VM that was not declared, or more vCPUs or memory of one.
    pub fn check(&self, vms: &[VmSpec]) -> Result<Option<String>, UndeclaredError> {
        let wanted = Self::of(vms);
        let (mut more, mut less) = (Vec::new(), Vec::new());
        for (name, vm) in &wanted.0 {
            let Some(declared) = self.0.get(name) else {
                more.push(format!("VM {name} was not declared"));
                continue;
            };
            let amounts =
                [(vm.vcpus, declared.vcpus, "vCPUs"), (vm.memory_mib, declared.memory_mib, "MiB of memory")];
            for (wants, has, what) in amounts {
                let difference = || format!("VM {name} has {wants} {what} and not {has}");
                match wants.cmp(&has) {
                    Ordering::Greater => more.push(difference()),
                    Ordering::Less => less.push(difference()),
                    Ordering::Equal => {}
                }
            }
        }
        less.extend(
            self.0
                .keys()
                .filter(|name| !wanted.0.contains_key(*name))
                .map(|name| format!("there is no VM {name}")),
        );
        if !more.is_empty() {
            return Err(UndeclaredError { differences: more.join("; "), starlark: wanted.starlark() });
        }
        Ok((!less.is_empty()).then(|| {
            format!(
                "more was declared for the testnet than it asks for, and is kept from others: {}\nhint: write in the BUILD file: vms = {}",
                less.join("; "),
                wanted.starlark()
            )
        }))
    }

    /// As it is written in a BUILD file.
    fn starlark(&self) -> String {
        let mut text = "{".to_owned();
        for (index, (name, vm)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ =
                write!(text, "{comma}\"{name}\": vm(vcpus = {}, memory_mib = {})", vm.vcpus, vm.memory_mib);
        }
        text + "}"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Boot;

    fn vms(sizes: &[(&str, u32, u32)]) -> Vec<VmSpec> {
        let vm = |&(name, vcpus, memory_mib): &(&str, u32, u32)| {
            VmSpec::new(name, Boot::Uefi).vcpus(vcpus).memory_mib(memory_mib)
        };
        sizes.iter().map(vm).collect()
    }

    const DECLARED: &str = r#"{"n1":{"memory_mib":512,"vcpus":1},"n2":{"memory_mib":1024,"vcpus":2}}"#;

    #[test]
    fn what_keeps_to_its_declaration_passes_without_a_word() {
        let declared = DeclaredVms::parse(DECLARED).unwrap();
        assert_eq!(declared.check(&vms(&[("n2", 2, 1024), ("n1", 1, 512)])), Ok(None));
    }

    #[test]
    fn what_asks_for_more_is_refused_and_told_what_to_declare() {
        let declared = DeclaredVms::parse(DECLARED).unwrap();
        let error = declared.check(&vms(&[("n1", 2, 513), ("n3", 1, 64)])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the testnet asks for more than was declared for it: VM n1 has 2 vCPUs and not 1; \
             VM n1 has 513 MiB of memory and not 512; VM n3 was not declared\n\
             hint: write in the BUILD file: vms = {\"n1\": vm(vcpus = 2, memory_mib = 513), \
             \"n3\": vm(vcpus = 1, memory_mib = 64)}"
        );
    }

    #[test]
    fn what_asks_for_less_is_told() {
        let declared = DeclaredVms::parse(DECLARED).unwrap();
        let note = declared.check(&vms(&[("n1", 1, 256)])).unwrap().unwrap();
        assert!(note.contains("VM n1 has 256 MiB of memory and not 512; there is no VM n2"), "{note}");
    }

    #[test]
    fn what_is_no_declaration_is_told_with_its_text() {
        let error = DeclaredVms::parse(r#"{"n1":1}"#).unwrap_err();
        assert_eq!(error.to_string(), r#"cannot understand STEADING_DECLARED_VMS ({"n1":1})"#);
    }
}
