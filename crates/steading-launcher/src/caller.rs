//! Who calls, and with which privilege this program does what it is asked.

use anyhow::{Context as _, bail, ensure};
use rustix::process::{DumpableBehavior, getegid, geteuid, getgid, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, no_new_privs, set_capabilities, set_no_new_privs,
};
use steading_plan::ProcessMark;
use steading_sys::capability::{NETWORK, clear_ambient, keep_network_only};

/// Who started this program.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The user; not root.
    pub(crate) uid: u32,
    /// This process.
    pub(crate) mark: ProcessMark,
}

impl Caller {
    /// Looks at who calls, drops every privilege but the three, and never gets another.
    pub(crate) fn enter() -> anyhow::Result<Self> {
        let uid = getuid();
        ensure!(
            uid == geteuid() && getgid() == getegid(),
            "the launcher runs with another user's or group's identity, and is to have none\nhint: as root: chmod ug-s on it"
        );
        ensure!(
            !uid.is_root(),
            "the launcher is for ordinary users, and root asks\nhint: run Steading as an ordinary user"
        );
        let permitted = capabilities(None).context("cannot tell which capabilities there are")?.permitted;
        if !permitted.contains(NETWORK) {
            bail!("the launcher lacks capabilities\nhint: {}", lack()?);
        }
        keep(NETWORK)?;
        clear_ambient().context("cannot clear the ambient capabilities")?;
        set_no_new_privs(true).context("cannot give up new privileges")?;
        // Nobody looks into it, and it leaves no core.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .context("cannot keep others from looking into this process")?;
        // It opens no relative path; so that it holds no directory of the caller's either.
        rustix::process::chdir("/").context("cannot leave the working directory")?;
        let mark = steading_sys::mark::current().context("cannot tell which process this is")?;
        Ok(Self { uid: uid.as_raw(), mark })
    }
}

/// Keeps these capabilities and no others.
fn keep(kept: CapabilitySet) -> anyhow::Result<()> {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("cannot drop capabilities")
}

/// Keeps what it takes to remove interfaces.
pub(crate) fn keep_removal_only() -> anyhow::Result<()> {
    keep(CapabilitySet::NET_ADMIN)
}

/// Has the three outlive an exec.
pub(crate) fn hand_down() -> anyhow::Result<()> {
    keep_network_only().context("cannot hand down capabilities")
}

/// Why it has none.
fn lack() -> anyhow::Result<&'static str> {
    Ok(if no_new_privs()? {
        "it was started with no_new_privs, as sandboxes and services do (NoNewPrivileges=, systemd.exec(5)); the \
         kernel then gives programs no capabilities of their own"
    } else {
        "as root: setcap cap_net_admin,cap_net_raw,cap_net_bind_service=ep on it; and it must lie on a file \
         system that is not mounted nosuid"
    })
}
