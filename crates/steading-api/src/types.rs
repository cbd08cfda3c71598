//! What goes over the control API.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use steading_plan::{Fault, FileFault, Plan, Record, RecordData, Sha256, VmName};

/// What a group is and how it does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupStatus {
    /// All that was derived for it.
    pub plan: Plan,
    /// Its VMs, in the order of their declaration.
    pub vms: Vec<VmStatus>,
    /// Where its logs are.
    pub log_dir: String,
    /// The private key that may log in to guests, in OpenSSH's format.
    pub ssh_key: String,
    /// The freeze that it is a fork of, if it is one.
    #[serde(default)]
    pub forked_from: Option<String>,
    /// Why it cannot be frozen and forked, if its engine cannot.
    #[serde(default)]
    pub unforkable: Option<String>,
    /// Whether it has namespaces of its own. Else its name and addresses can be had by one group at a time,
    /// and its network cannot be changed.
    #[serde(default = "yes")]
    pub has_namespaces: bool,
}

/// Groups of versions before this one had no other way.
const fn yes() -> bool {
    true
}

/// Whether a VM runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmState {
    /// There is no process.
    Off,
    /// Its CPUs run.
    Running,
    /// Paused: its CPUs do not run.
    Paused,
    /// It is about to go on from where it was frozen.
    Frozen,
}

impl VmState {
    /// As it is shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Frozen => "frozen",
        }
    }
}

/// How one VM does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmStatus {
    /// Its name.
    pub name: VmName,
    /// Its address.
    pub address: Ipv6Addr,
    /// Whether it runs.
    pub state: VmState,
    /// How many times it was booted: started, or reset.
    pub boot: u32,
    /// Its kernel said that it panicked, in this boot.
    pub panicked: bool,
    /// The guest has suspended itself, and does nothing until it wakes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Why its guest seems to hang in its boot, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled: Option<String>,
    /// The process, while there is one.
    pub pid: Option<i32>,
    /// Why it is off, when it is.
    pub ended: Option<String>,
}

impl VmStatus {
    /// Why its guest does not answer, as far as that can be seen from outside.
    pub fn silence(&self) -> Option<String> {
        let suspended = self.suspended.then(|| "the guest has suspended itself".to_owned());
        self.stalled.clone().or(suspended)
    }
}

/// What can be done to a VM from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmVerb {
    /// Turn it on, with the disk as it was left.
    Start,
    /// Cut its power.
    Kill,
    /// Press the power button (ACPI), and turn it on again once it is off.
    Reboot,
    /// Press the power button (ACPI), and wait until it is off.
    Shutdown,
    /// Pause its CPUs.
    Pause,
    /// Let them run again.
    Resume,
}

impl VmVerb {
    /// As it stands in the path of a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Kill => "kill",
            Self::Reboot => "reboot",
            Self::Shutdown => "shutdown",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// How a group is to be frozen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeRequest {
    /// The name of the freeze; one is made if none is given.
    #[serde(default)]
    pub id: Option<String>,
    /// Whether the group stays paused afterwards, until it is resumed.
    #[serde(default)]
    pub stay: bool,
    /// How long its guests may first take to come to rest, in ms: what they are about to do, each fork
    /// does again.
    #[serde(default)]
    pub settle_ms: u64,
}

impl FreezeRequest {
    /// The same, once the guests have come to rest, for which they may take so long.
    #[must_use]
    pub fn settled_within(self, limit: Duration) -> Self {
        Self { settle_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), ..self }
    }
}

/// A group that was frozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Freeze {
    /// Its name.
    pub id: String,
    /// Until all was kept, in seconds, from when the guests had come to rest if that was waited for.
    pub kept_seconds: f64,
    /// From the first VM that was paused until all ran again, in seconds; none if they stay paused.
    pub stood_seconds: Option<f64>,
    /// What was kept: bytes of memory and of device state.
    pub bytes: u64,
}

/// A fault of the network that is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultRequest {
    /// Which.
    pub fault: Fault,
    /// The program of the group that asks, by its number there; the fault ends with it.
    #[serde(default)]
    pub pid: Option<i32>,
}

/// A fault of the network that is active.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActiveFault {
    /// Its number in its group.
    pub id: u32,
    /// What it is.
    pub fault: Fault,
    /// What asked for it, if it was a program of the group.
    #[serde(default)]
    pub function: Option<String>,
    /// The number of that program, with which it ends; none if it does not.
    #[serde(default)]
    pub pid: Option<i32>,
}

/// A file that the group's file server serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    /// What it is called.
    pub name: String,
    /// Where it is on the host.
    pub path: Utf8PathBuf,
    /// Its digest.
    pub sha256: Sha256,
    /// How long it is, in bytes.
    pub size: u64,
    /// Where VMs find it, by its digest.
    pub url: String,
    /// The same by its name.
    pub named_url: String,
    /// Why it cannot be downloaded just now, if it cannot.
    #[serde(default)]
    pub trouble: Option<String>,
}

impl FileStatus {
    /// Where VMs find it, by its digest.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where VMs find it, by its name.
    pub fn named_url(&self) -> &str {
        &self.named_url
    }

    /// Its digest.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// How long it is, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// A fault of the file server that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFaultRequest {
    /// Which.
    pub fault: FileFault,
    /// The program of the group that asks, by its number there; the fault ends with it.
    #[serde(default)]
    pub pid: Option<i32>,
}

/// A fault of the file server that is active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveFileFault {
    /// Its number in its group; no fault of the network has the same.
    pub id: u32,
    /// What it is.
    pub fault: FileFault,
    /// What asked for it, if it was a program of the group.
    #[serde(default)]
    pub function: Option<String>,
    /// The number of that program, with which it ends; none if it does not.
    #[serde(default)]
    pub pid: Option<i32>,
}

/// What the group's DNS answers with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesStatus {
    /// The group's domain, to which names of one label belong.
    pub domain: String,
    /// Every name, and what it leads to.
    pub names: Vec<NameStatus>,
    /// Those among them that were added, as they were asked for.
    pub records: Vec<Record>,
    /// Addresses at which it answers in addition to the gateway's.
    pub resolvers: Vec<IpAddr>,
}

/// A name, and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameStatus {
    /// The whole name.
    pub name: String,
    /// Types and values: `AAAA fd00::1`, `CNAME n1.etcd.test`.
    pub data: Vec<String>,
}

/// Records that are to be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRemoval {
    /// Those of this name:
    pub name: String,
    /// the one that leads to this, or all.
    #[serde(default)]
    pub data: Option<RecordData>,
}

/// The group's certificate authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityStatus {
    /// Its certificate, in PEM: what is to be trusted.
    pub certificate: String,
    /// Where ACME clients begin: the URL of the directory (RFC 8555, section 7.1.1).
    pub acme_url: String,
}

/// A certificate that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRequest {
    /// Names and addresses of the group.
    pub names: Vec<String>,
}

/// A certificate with its key, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// The certificate, and that of the authority after it.
    pub chain: String,
    /// The private key (PKCS #8).
    pub key: String,
    /// The authority's certificate, for who is to trust it.
    pub authority: String,
}

/// Where in a console to begin to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleFrom {
    /// With all that is still kept.
    Start,
    /// With the present boot.
    Boot,
    /// At this position.
    At(u64),
}

/// A wait for a text on a console.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsoleWait {
    /// A regular expression.
    pub pattern: String,
    /// Where to begin.
    pub from: ConsoleFrom,
    /// How long, in milliseconds.
    pub limit_ms: u64,
}

/// What was found on a console.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsoleMatch {
    /// The text.
    pub text: String,
    /// The position behind it, to look on from.
    pub end: u64,
}

/// The end of a VM, for those who waited for it to live.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// Why it is off.
    pub reason: String,
    /// The last lines of its console.
    pub console: Vec<String>,
}

/// A command for a guest, by its agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GuestCommand {
    /// A line for `/bin/sh`.
    pub line: String,
    /// How long it may take, in milliseconds.
    pub limit_ms: u64,
}

/// How a command in a guest ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutput {
    /// Its exit status; 128 and the signal's number if a signal ended it.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// Its errors.
    pub stderr: String,
}

/// A picture of a VM's display.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Screenshot {
    /// A PNG file, in base64.
    pub png: String,
}

impl Screenshot {
    /// One of this PNG file.
    pub fn new(png: impl AsRef<[u8]>) -> Self {
        Self { png: BASE64.encode(png) }
    }

    /// The PNG file.
    ///
    /// # Errors
    ///
    /// When it is not in base64.
    pub fn bytes(&self) -> Result<Vec<u8>, base64::DecodeError> {
        BASE64.decode(&self.png)
    }
}

/// A program to run inside the group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// What it is for, as the log names it.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables added to the environment.
    pub env: Vec<(String, String)>,
    /// Its input, and how its output arrives.
    #[serde(default)]
    pub streams: Streams,
}

/// How the standard streams of a program inside the group are connected. Whatever is chosen, the
/// log has its output in lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Streams {
    /// There is no input, and output arrives as [lines](ProcessEvent::Line).
    #[default]
    Lines,
    /// Output arrives [as it is](ProcessEvent::Output).
    Bytes {
        /// The input.
        input: Input,
    },
    /// It gets a terminal of its own, whose input is sent. What appears there arrives as
    /// [it is](ProcessEvent::Output), as standard output.
    Terminal {
        /// How large it is.
        size: TerminalSize,
        /// Standard error is no part of the terminal.
        errors_apart: bool,
    },
}

/// Where the input of a program inside the group comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// There is none.
    Nothing,
    /// The standard input of the process that started the group. The program reads it itself, so
    /// what it does not read is still there for others.
    Inherited,
    /// It is sent by requests.
    Sent,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// One of the two streams that a program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl OutputStream {
    /// As it stands in the path of a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// How a program is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The signal that it gets first, by its number (signal(7)).
    pub signal: i32,
    /// How long it may then take, in milliseconds, before it is killed.
    pub grace_ms: u64,
}

impl Ending {
    /// By this signal, and after this time by SIGKILL.
    pub fn new(signal: i32, grace: Duration) -> Self {
        Self { signal, grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// Bytes, as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RawBytes(pub Vec<u8>);

impl TryFrom<String> for RawBytes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        BASE64.decode(text).map(Self)
    }
}

impl From<RawBytes> for String {
    fn from(bytes: RawBytes) -> Self {
        BASE64.encode(bytes.0)
    }
}

/// What a program inside the group does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEvent {
    /// It runs, under this number inside the group.
    Started {
        /// Its number there.
        pid: i32,
    },
    /// It printed a line.
    Line {
        /// The line.
        text: String,
    },
    /// It wrote these bytes, which are unchanged.
    Output {
        /// Where to.
        stream: OutputStream,
        /// What.
        bytes: RawBytes,
    },
    /// It told something about itself.
    Note {
        /// What.
        note: Note,
    },
    /// It has ended, and all that it had started with it.
    Ended {
        /// Its exit status, if it exited.
        status: Option<i32>,
        /// The signal that ended it, if one did.
        signal: Option<i32>,
        /// What it had left running, which was then ended: command lines.
        left: Vec<String>,
    },
}

/// What a program inside the group tells those who started it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// It waits.
    Waiting {
        /// For what.
        what: String,
    },
    /// It waits no longer.
    Going,
    /// It measured something.
    Metric {
        /// What; the name should end with its unit.
        name: String,
        /// The value.
        value: f64,
    },
    /// It cannot do here what it is for.
    Skip {
        /// Why.
        reason: String,
    },
}

/// A line for the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// The test function that says it, if one does.
    pub function: Option<String>,
    /// What it says.
    pub message: String,
}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// There is no such VM, path or pattern.
    BadRequest,
    /// The VM is off, or ended while it was waited for.
    VmEnded,
    /// It took too long.
    TimedOut,
    /// It was tried and did not work.
    Failed,
    /// There is no such program on this host.
    NoProgram,
    /// The program is there, and cannot be started.
    CannotStart,
}

/// A request that did not succeed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// What was tried, on what, why it failed, what to try.
    pub message: String,
    /// The last lines of the console of the VM that it is about.
    #[serde(default)]
    pub console: Vec<String>,
}

impl Failure {
    /// A failure that is about no VM's console.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), console: Vec::new() }
    }

    /// A request that makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(FailureKind::BadRequest, message)
    }
}
