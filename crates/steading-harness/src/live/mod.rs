//! Looks into groups that run: the commands that a test program and `steading` have in common.

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

/// A command for a group that runs.
#[derive(Subcommand, Clone, Debug)]
pub enum LiveCommand {
    /// Run a shell command in a guest as root, with this program's input and output.
    Exec {
        /// The VM.
        vm: String,
        /// Give the command no input. Else it gets this program's, unless that is a terminal whose keys
        /// another program has. Of a file, what the command does not read is left for the next program.
        #[arg(long, short)]
        no_stdin: bool,
        /// Leave the command running when this program ends first. Else it gets the signal that ends this
        /// program, and is killed 10 s later, or at a second one.
        #[arg(long)]
        detach: bool,
        /// The command.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Open a shell in a guest.
    Ssh {
        /// The VM.
        vm: String,
    },
    /// Look at a VM's console, and type on it; Ctrl-] ends that.
    Console {
        /// The VM.
        vm: String,
    },
    /// Wait until a guest is ready: until commands can be run there, unless something else is named.
    Wait(wait::WaitArgs),
    /// Print the group's log. A line is in it after a second at most.
    Logs(logs::LogsArgs),
    /// Save a picture of a VM's display, as a PNG file.
    Screenshot {
        /// The VM.
        vm: String,
        /// The file.
        file: Utf8PathBuf,
    },
    /// Turn VMs on, with their disks as they were left.
    Start {
        /// The VMs.
        #[arg(required = true)]
        vms: Vec<String>,
    },
    /// Pull the plug of VMs.
    Kill {
        /// The VMs.
        #[arg(required = true)]
        vms: Vec<String>,
    },
    /// Press the power button of VMs, and boot them again.
    Reboot {
        /// The VMs.
        #[arg(required = true)]
        vms: Vec<String>,
    },
    /// Press the power button of VMs, and wait until they are off.
    Shutdown {
        /// The VMs.
        #[arg(required = true)]
        vms: Vec<String>,
    },
    /// Let the CPUs of VMs stand still.
    Pause {
        /// The VMs.
        #[arg(required = true)]
        vms: Vec<String>,
    },
    /// Let the CPUs of VMs run again; or open a testnet as it was when a test failed, and stay until
    /// Ctrl-C or `down`.
    Resume {
        /// The VMs; or the file that a run with --freeze-on-failure has written.
        #[arg(required = true, value_name = "VM|FILE")]
        targets: Vec<String>,
        /// What is to be said about a file.
        #[command(flatten)]
        options: ResumeOptions,
    },
    /// Make faults of the group's network, and undo them.
    #[command(subcommand)]
    Fault(fault::FaultCommand),
    /// Look at and change what the group's file server serves, and have it misbehave.
    #[command(subcommand)]
    Files(files::FilesCommand),
    /// Look at and change the names of the group, and where they are answered for.
    #[command(subcommand)]
    Dns(dns::DnsCommand),
    /// Make a certificate for names of the group, and print it with its key (PEM).
    Cert(cert::CertArgs),
    /// Run virsh with the libvirt of a group that was brought up with --engine libvirt.
    Virsh(virsh::VirshArgs),
    /// Freeze the group: all VMs at one instant, to fork from. It goes on at once.
    Freeze(freeze::FreezeArgs),
    /// Let a group that was frozen with --stay go on.
    Thaw,
    /// Bring up a fork of the group: another one that begins where this one was frozen.
    Fork(ForkArgs),
    /// Tear the group down.
    Down,
}

/// Does it, and returns the exit status.
///
/// # Errors
///
/// When there is no such group, or it does not work.
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
