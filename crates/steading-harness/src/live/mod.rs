//! Commands for running groups, which test programs and `steading` have in common.

mod cert;
mod console;
mod dns;
mod fault;
mod files;
mod fork;
mod freeze;
mod logs;
mod remote;
mod resume;
mod shell;
mod verbs;
mod virsh;
mod wait;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Subcommand;
use steading_api::VmVerb;

use crate::event_loop::wait_for;
use crate::groups;
use fork::ForkArgs;
use resume::ResumeOptions;

/// A command for a running group.
#[derive(Subcommand, Clone, Debug)]
pub enum LiveCommand {
    /// Run a shell command in a guest as root.
    Exec {
        /// VM.
        vm: String,
        /// Give the command no input. By default it gets the standard input of this program, except in the
        /// background of a terminal. What the command does not read of a file stays for the next program.
        #[arg(long, short)]
        no_stdin: bool,
        /// Leave the command running when this program ends first. By default the command gets the signal that
        /// ends this program, and is killed after 10 s or at a second signal.
        #[arg(long)]
        detach: bool,
        /// Command.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Open a shell in a guest.
    Ssh {
        /// VM.
        vm: String,
    },
    /// Attach to a VM's console; Ctrl-] detaches.
    Console {
        /// VM.
        vm: String,
    },
    /// Wait until a guest is ready: by default, until it runs commands.
    Wait(wait::WaitArgs),
    /// Print the group's log, which is at most one second behind.
    Logs(logs::LogsArgs),
    /// Save a screenshot of a VM's display as a PNG file.
    Screenshot {
        /// VM.
        vm: String,
        /// File.
        file: Utf8PathBuf,
    },
    /// Start VMs, with their disks as they were left.
    Start {
        /// VMs.
        #[arg(required = true)]
        vms: Vec<String>,
    },
    /// Cut the power of VMs.
    Kill {
        /// VMs.
        #[arg(required = true)]
        vms: Vec<String>,
    },
    /// Reboot VMs (ACPI).
    Reboot {
        /// VMs.
        #[arg(required = true)]
        vms: Vec<String>,
    },
    /// Shut VMs down (ACPI), and wait until they are off.
    Shutdown {
        /// VMs.
        #[arg(required = true)]
        vms: Vec<String>,
    },
    /// Pause VMs.
    Pause {
        /// VMs.
        #[arg(required = true)]
        vms: Vec<String>,
    },
    /// Resume paused VMs; or open the testnet of a failed test, and keep it until Ctrl-C or `down`.
    Resume {
        /// VMs, or the file written by a run with --freeze-on-failure.
        #[arg(required = true, value_name = "VM|FILE")]
        targets: Vec<String>,
        /// Options for a file.
        #[command(flatten)]
        options: ResumeOptions,
    },
    /// Make and undo faults of the group's network.
    #[command(subcommand)]
    Fault(fault::FaultCommand),
    /// Manage the group's file server: its files and faults.
    #[command(subcommand)]
    Files(files::FilesCommand),
    /// Manage the group's DNS: names, and resolver addresses.
    #[command(subcommand)]
    Dns(dns::DnsCommand),
    /// Issue a certificate for names in the group, and print it with its key (PEM).
    Cert(cert::CertArgs),
    /// Run virsh on the libvirt of a group that uses --engine libvirt.
    Virsh(virsh::VirshArgs),
    /// Freeze all VMs of the group at one instant, for forks. The group then continues.
    Freeze(freeze::FreezeArgs),
    /// Let a group continue that was frozen with --stay.
    Thaw,
    /// Bring up a fork: a new group that starts where this one was frozen.
    Fork(ForkArgs),
    /// Tear the group down.
    Down,
}

/// Runs the command, and returns the exit status.
///
/// # Errors
///
/// When there is no such group, or the command fails.
pub fn run(command: &LiveCommand, wanted: Option<&str>) -> anyhow::Result<u8> {
    if let LiveCommand::Resume { targets, options } = command
        && let [file] = targets.as_slice()
        && file.contains(['.', '/'])
    {
        // No VM is called so (RFC 1123, section 2.1, without dots).
        return resume::resume(Utf8Path::new(file), options);
    }
    let group = groups::choose(wanted)?;
    let verb = |verb, vms: &[String]| wait_for(verbs::act(&group, verb, vms));
    match command {
        LiveCommand::Virsh(args) => virsh::run(&group, args),
        LiveCommand::Exec { vm, no_stdin, detach, command } => {
            let how = shell::How { no_stdin: *no_stdin, detach: *detach };
            shell::execute(&group, vm, &command.join(" "), how)
        }
        LiveCommand::Ssh { vm } => shell::open(&group, vm),
        LiveCommand::Console { vm } => wait_for(console::open(&group, vm)),
        LiveCommand::Wait(args) => wait::wait(&group, args),
        LiveCommand::Logs(args) => wait_for(logs::print(&group, args)),
        LiveCommand::Screenshot { vm, file } => wait_for(verbs::screenshot(&group, vm, file)),
        LiveCommand::Start { vms } => verb(VmVerb::Start, vms),
        LiveCommand::Kill { vms } => verb(VmVerb::Kill, vms),
        LiveCommand::Reboot { vms } => verb(VmVerb::Reboot, vms),
        LiveCommand::Shutdown { vms } => verb(VmVerb::Shutdown, vms),
        LiveCommand::Pause { vms } => verb(VmVerb::Pause, vms),
        LiveCommand::Resume { targets, .. } => verb(VmVerb::Resume, targets),
        LiveCommand::Fault(command) => wait_for(fault::run(&group, command)),
        LiveCommand::Files(command) => wait_for(files::run(&group, command)),
        LiveCommand::Dns(command) => wait_for(dns::run(&group, command)),
        LiveCommand::Cert(args) => wait_for(cert::run(&group, args)),
        LiveCommand::Freeze(args) => wait_for(freeze::freeze(&group, args)),
        LiveCommand::Thaw => wait_for(freeze::thaw(&group)),
        LiveCommand::Fork(args) => fork::fork(&group, args),
        LiveCommand::Down => wait_for(verbs::down(&group)),
    }
}
