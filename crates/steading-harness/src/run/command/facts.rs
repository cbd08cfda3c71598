//! What the program learns about the testnet.

use steading_api::{CA_NAME, DIRECTORY_FD, FACTS_NAME, GroupStatus, KEY_NAME};
use steading_plan::env_vars;

/// The testnet as variables of the environment.
pub(super) fn facts(owner: Option<i32>, status: &GroupStatus) -> Vec<(String, String)> {
    // The owner is PID 1 of the namespace that the program runs in, if it has one.
    let owner = owner.filter(|_| !status.has_namespaces).unwrap_or(1);
    let private = |name: &str| format!("/proc/{owner}/fd/{DIRECTORY_FD}/{name}");
    let plan = &status.plan;
    let mut facts = vec![
        (env_vars::STEADING_GROUP.to_owned(), plan.group.to_string()),
        (env_vars::STEADING_DOMAIN.to_owned(), plan.addresses.domain.clone()),
        (env_vars::STEADING_LOG_DIR.to_owned(), status.log_dir.clone()),
        (env_vars::STEADING_FACTS.to_owned(), private(FACTS_NAME)),
        (env_vars::STEADING_SSH_KEY.to_owned(), private(KEY_NAME)),
        (env_vars::STEADING_CA.to_owned(), private(CA_NAME)),
    ];
    for vm in &plan.vms {
        facts.push((variable(vm.name.as_str()), vm.address.to_string()));
    }
    facts
}

/// The prefix and the name as shells take it (POSIX.1-2017, Base Definitions, 8.1).
fn variable(vm: &str) -> String {
    let upper = vm.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    env_vars::STEADING_VM_PREFIX.chars().chain(upper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vms_variable_is_a_name_that_shells_take() {
        assert_eq!(variable("node-1"), "STEADING_VM_NODE_1");
    }
}
