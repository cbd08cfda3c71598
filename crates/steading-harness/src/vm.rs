//! The handle of one VM, with the verbs that people know from the NixOS test driver.
//!
//! A wait ends at once when its VM ends, and on failure reports what it last saw.

use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use camino::Utf8Path;
use fs_err as fs;
use steading_api::{
    CommandOutput, ConsoleFrom, ConsoleMatch, ConsoleWait, Ended, FileStatus, GUEST_POWERED_OFF,
    GuestCommand, LogLine, Note, VmState, VmStatus, VmVerb,
};
use steading_plan::{FileSource, VmPlan};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::http::{HttpClientBuilder, HttpResponse};
use crate::limit::bounded;
use crate::session::Session;
use crate::ssh::{Ran, Ssh, SshError};
use crate::unmet::Unmet;

/// How long one attempt to open a port may take.
const PORT_ATTEMPT: Duration = Duration::from_secs(2);

/// A shorter wait is not reported.
const ANNOUNCED_AFTER: Duration = Duration::from_secs(1);

/// Succeeds in a guest that is not shutting down, with systemd or without. At the very end of a shutdown systemd is
/// there no more, and `systemctl` says so (systemctl(1), "is-system-running").
const IS_NOT_STOPPING: &str = "test ! -d /run/systemd/system || \
     case $(systemctl is-system-running 2>/dev/null) in stopping|offline|unknown|'') false;; esac";

/// How much of a command's output an error shows, in characters.
const SHOWN: usize = 1500;

/// One VM of the testnet.
#[derive(Clone)]
pub struct Vm {
    plan: Arc<VmPlan>,
    pub(crate) session: Arc<Session>,
    limit: Duration,
}

impl Vm {
    pub(crate) fn new(plan: VmPlan, session: Arc<Session>) -> Self {
        let limit = session.limit;
        Self { plan: Arc::new(plan), session, limit }
    }

    /// Returns the same VM with another time limit for its waits.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit: bounded(limit), ..self.clone() }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        self.plan.name.as_str()
    }

    /// Returns its IPv6 address.
    pub fn address(&self) -> Ipv6Addr {
        self.plan.address
    }

    /// Returns its plan.
    pub fn plan(&self) -> &VmPlan {
        &self.plan
    }

    /// Returns its current state.
    pub fn status(&self) -> anyhow::Result<VmStatus> {
        Ok(self.block_on(self.session.client.vm(self.name()))?)
    }

    /// Starts it, with its disk as it was left.
    pub fn start(&self) -> anyhow::Result<()> {
        self.act(VmVerb::Start)
    }

    /// Cuts its power.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.act(VmVerb::Kill)
    }

    /// Reboots it: presses its power button (ACPI), waits until it is off, and starts it again.
    pub fn reboot(&self) -> anyhow::Result<()> {
        self.act(VmVerb::Reboot)
    }

    /// Shuts it down: presses its power button (ACPI), and waits until it is off.
    pub fn shutdown(&self) -> anyhow::Result<()> {
        self.act(VmVerb::Shutdown)
    }

    /// Pauses it.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.act(VmVerb::Pause)
    }

    /// Resumes it after a pause.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.act(VmVerb::Resume)
    }

    fn act(&self, verb: VmVerb) -> anyhow::Result<()> {
        if !matches!(verb, VmVerb::Pause | VmVerb::Resume) {
            self.session.forget_connection(self.name());
        }
        let acting = self.session.client.act(self.name(), verb);
        let done = self.block_on(self.announced(verb.as_str(), acting));
        if verb == VmVerb::Reboot {
            // Somebody may have connected to the boot that has ended since.
            self.session.forget_connection(self.name());
        }
        done?;
        Ok(())
    }

    /// Runs a shell command as root, and returns its status and output, whether or not it succeeded.
    pub fn execute(&self, command: &str) -> anyhow::Result<CommandOutput> {
        self.wait(&format!("running `{command}`"), self.run(command, &[])).map(|(output, _)| output)
    }

    /// Runs a command that must succeed, and returns its output.
    pub fn succeed(&self, command: &str) -> anyhow::Result<String> {
        let output = self.execute(command)?;
        if output.status == 0 {
            return Ok(output.stdout);
        }
        bail!("VM {}: `{command}` failed {}", self.name(), shown(&output))
    }

    /// Runs a command that must fail, and returns its output.
    pub fn fail(&self, command: &str) -> anyhow::Result<String> {
        let output = self.execute(command)?;
        if output.status != 0 {
            return Ok(output.stdout);
        }
        bail!("VM {}: `{command}` succeeded, but was expected to fail, {}", self.name(), shown(&output))
    }

    /// Repeats a command until it succeeds, and returns the output of the last run.
    pub fn wait_until_succeeds(&self, command: &str) -> anyhow::Result<String> {
        self.repeat(command, |status| status == 0)
    }

    /// Repeats a command until it fails, and returns the output of the last run.
    pub fn wait_until_fails(&self, command: &str) -> anyhow::Result<String> {
        self.repeat(command, |status| status != 0)
    }

    fn repeat(&self, command: &str, wanted: impl Fn(i32) -> bool) -> anyhow::Result<String> {
        self.repeat_until(command, &format!("waiting for `{command}`"), |output| {
            Ok(wanted(output.status).then(|| output.stdout.clone()))
        })
    }

    /// Waits until a systemd unit is active. A unit that has failed is an error at once.
    pub fn wait_for_unit(&self, unit: &str) -> anyhow::Result<()> {
        let name = quoted(unit);
        let query = format!(
            "systemctl is-active -- {name}; systemctl is-failed -q -- {name} && exit 9; systemctl is-active -q -- {name}"
        );
        self.repeat_until(&query, &format!("waiting for unit {unit}"), |output| match output.status {
            0 => Ok(Some(())),
            9 => bail!(
                "the unit has failed\nhint: see `journalctl -u {unit}` in the guest, or its journal.log"
            ),
            _ => Ok(None),
        })
    }

    /// Repeats a command until `judge` accepts its result.
    pub(crate) fn repeat_until<T>(
        &self,
        command: &str,
        what: &str,
        judge: impl Fn(&CommandOutput) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let last = std::cell::RefCell::new(String::new());
        let attempts = async {
            let mut backoff = Backoff::new();
            loop {
                match self.run(command, &[]).await {
                    Ok((output, _)) => match judge(&output)? {
                        Some(found) => return Ok(found),
                        None => *last.borrow_mut() = shown(&output),
                    },
                    // A guest that reboots by itself breaks the connection; the next try makes another.
                    Err(error) if is_broken(&error) => {
                        *last.borrow_mut() = format!("without a result: {error:#}");
                    }
                    Err(error) => return Err(error),
                }
                backoff.pause().await;
            }
        };
        self.wait(what, attempts).with_context(|| match last.borrow().as_str() {
            "" => format!("`{command}` has not finished once"),
            seen => format!("the last run ended {seen}"),
        })
    }

    /// Waits until a TCP port accepts connections from the management address.
    pub fn wait_for_open_port(&self, port: u16) -> anyhow::Result<()> {
        let address = (self.address(), port);
        let attempts = async {
            let mut backoff = Backoff::new();
            while !matches!(timeout(PORT_ATTEMPT, TcpStream::connect(address)).await, Ok(Ok(_))) {
                backoff.pause().await;
            }
            Ok(())
        };
        self.wait(&format!("waiting for port {port}"), attempts)
    }

    /// Returns whether a TCP port accepts a connection from the management address now.
    pub fn has_open_port(&self, port: u16) -> bool {
        let attempt = async { timeout(PORT_ATTEMPT, TcpStream::connect((self.address(), port))).await };
        matches!(self.block_on(attempt), Ok(Ok(_)))
    }

    /// Returns the URL of a path on a server of this VM, by its address: `http://[ADDRESS]:PORT/PATH`. Ask for it with
    /// [`Group::http`](crate::Group::http).
    ///
    /// ```no_run
    /// # fn test(testnet: &steading_harness::Group) -> anyhow::Result<()> {
    /// let n1 = testnet.vm("n1");
    /// testnet.http()?.get(n1.url(8000, "/health"))?.succeed()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn url(&self, port: u16, path: &str) -> String {
        format!("http://[{}]:{port}/{}", self.address(), path.trim_start_matches('/'))
    }

    /// Sends an HTTP GET request to a server of this VM from the management address, and returns the response, whatever
    /// its status.
    ///
    /// # Errors
    ///
    /// When there is no complete response in time.
    #[deprecated(since = "0.2.0", note = "ask with a client: `testnet.http()?.get(vm.url(port, path))`")]
    pub fn http(&self, port: u16, path: &str) -> anyhow::Result<HttpResponse> {
        let client = HttpClientBuilder::new(Arc::clone(&self.session)).within(self.limit).build()?;
        let url = self.url(port, path);
        client.get(&url).with_context(|| format!("VM {}: asking for {url}", self.name()))
    }

    /// Waits until the guest runs commands over SSH. If it is shutting down, waits for its next boot.
    pub fn wait_for_ssh(&self) -> anyhow::Result<()> {
        self.repeat_until(IS_NOT_STOPPING, "waiting for its SSH server", |output| {
            Ok((output.status == 0).then_some(()))
        })
    }

    /// Returns the number of its current boot: how many times it was started or reset.
    pub fn boot(&self) -> anyhow::Result<u32> {
        Ok(self.status()?.boot)
    }

    /// Waits until it is in boot `number` or a later one, and runs commands. After a command in the guest such as
    /// `systemctl reboot`, this tells the next boot from the current one.
    ///
    /// ```no_run
    /// # fn test(vm: &steading_harness::Vm) -> anyhow::Result<()> {
    /// let boot = vm.boot()?;
    /// vm.execute("systemctl reboot")?;
    /// vm.wait_for_boot(boot + 1)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for_boot(&self, number: u32) -> anyhow::Result<()> {
        let what = format!("waiting for boot {number}");
        // It may be off for a moment.
        let booted = async { Ok(self.session.client.booted(self.name(), number).await?) };
        self.block_on(self.announced(&what, self.limited(&what, booted)))?;
        // Somebody may have connected to the boot that has ended since.
        self.session.forget_connection(self.name());
        self.wait_for_ssh()
    }

    /// Waits until the guest has powered off by itself, for example at the end of `poweroff` in the guest. It presses no
    /// button: [`Self::shutdown`] does. Returns at once if the guest has powered off before.
    ///
    /// ```no_run
    /// # fn test(vm: &steading_harness::Vm) -> anyhow::Result<()> {
    /// vm.execute("systemctl poweroff --no-block")?;
    /// vm.wait_for_shutdown()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// For a VM inside another VM, any end counts, since its cause is not known.
    ///
    /// # Errors
    ///
    /// When the guest is still on at the time limit, its kernel panics, its power is cut, it was never started, or it is
    /// paused.
    pub fn wait_for_shutdown(&self) -> anyhow::Result<()> {
        const WHAT: &str = "waiting for its shutdown";
        let status = self.status()?;
        match status.state {
            VmState::Off if status.ended.is_none() => {
                bail!("VM {}: {WHAT}: it was never started", self.name())
            }
            VmState::Paused => bail!("VM {}: {WHAT}: it is paused\nhint: resume it first", self.name()),
            VmState::Off | VmState::Running | VmState::Frozen => {}
        }
        let ended = async { Ok(self.session.client.ended(self.name()).await?) };
        let ended = self.block_on(self.announced(WHAT, self.limited(WHAT, ended)))?;
        self.session.forget_connection(self.name());
        let is_nested = self.plan.spec.inside.is_some();
        if ended.reason == GUEST_POWERED_OFF || is_nested { Ok(()) } else { Err(self.ended(WHAT, &ended)) }
    }

    /// Waits until a regular expression matches the console output of this boot.
    pub fn wait_for_console(&self, pattern: &str) -> anyhow::Result<ConsoleMatch> {
        let limit_ms = self.limit_ms();
        let wait = ConsoleWait { pattern: pattern.to_owned(), from: ConsoleFrom::Boot, limit_ms };
        let waiting = self.session.client.wait_for_console(self.name(), &wait);
        Ok(self.block_on(self.announced(&format!("waiting for /{pattern}/ on its console"), waiting))?)
    }

    /// Waits until an extended regular expression matches a message in the guest's journal of this boot.
    pub fn wait_for_journal(&self, pattern: &str) -> anyhow::Result<()> {
        let command = format!("journalctl -b -q -o cat | grep -Eq -- {}", quoted(pattern));
        self.wait_until_succeeds(&command).map(|_| ())
    }

    /// Runs a shell command through the guest agent, which needs no network, and returns how it ended.
    pub fn execute_by_agent(&self, command: &str) -> anyhow::Result<CommandOutput> {
        let command = GuestCommand { line: command.to_owned(), limit_ms: self.limit_ms() };
        let running = self.session.client.agent(self.name(), &command);
        Ok(self
            .block_on(self.announced(&format!("running `{}` by the guest agent", command.line), running))?)
    }

    /// The old name of [`Self::execute_by_agent`].
    #[deprecated(since = "0.2.0", note = "renamed to `execute_by_agent`")]
    pub fn agent(&self, command: &str) -> anyhow::Result<CommandOutput> {
        self.execute_by_agent(command)
    }

    /// Copies a file into the guest, with its permissions.
    pub fn copy_to(&self, local: &Utf8Path, remote: &str) -> anyhow::Result<()> {
        let data = fs::read(local).with_context(|| format!("cannot copy the file to VM {}", self.name()))?;
        let mode = fs::metadata(local)?.permissions().mode() & 0o7777;
        let path = quoted(remote);
        let line = format!("cat >{path} && chmod {mode:o} {path}");
        self.copy(&format!("copying {local} to {remote}"), &line, &data)?;
        Ok(())
    }

    /// Copies a file out of the guest, with its permissions.
    pub fn copy_from(&self, remote: &str, local: &Utf8Path) -> anyhow::Result<()> {
        let path = quoted(remote);
        let line = format!("stat -c %a {path} >&2 && cat {path}");
        let (output, data) = self.copy(&format!("copying {remote} to {local}"), &line, &[])?;
        fs::write(local, data).with_context(|| format!("cannot write the file from VM {}", self.name()))?;
        let mode = u32::from_str_radix(output.stderr.trim(), 8).context("the guest reported no file mode")?;
        Ok(fs::set_permissions(local, std::fs::Permissions::from_mode(mode & 0o777))?)
    }

    pub(crate) fn copy(
        &self,
        what: &str,
        line: &str,
        input: &[u8],
    ) -> anyhow::Result<(CommandOutput, Vec<u8>)> {
        let (output, data) = self.wait(what, self.run(line, input))?;
        anyhow::ensure!(output.status == 0, "VM {}: {what} failed {}", self.name(), shown(&output));
        Ok((output, data))
    }

    /// Saves a screenshot of its display as a PNG file.
    pub fn screenshot(&self, file: &Utf8Path) -> anyhow::Result<()> {
        let shot = self.block_on(self.session.client.screenshot(self.name()))?;
        let png = shot.bytes().context("the screenshot is not valid base64")?;
        fs::write(file, png).with_context(|| format!("cannot write the screenshot of VM {}", self.name()))
    }

    /// Returns the last lines of its console.
    pub fn console_tail(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.block_on(self.session.client.console_tail(self.name()))?)
    }

    /// Waits between two tries of something that gives no event when it is ready, while the VM is on.
    pub(crate) fn pause_between(&self, what: &str, backoff: &mut Backoff) -> anyhow::Result<()> {
        self.wait(what, async {
            backoff.pause().await;
            Ok(())
        })
    }

    pub(crate) fn add_file(&self, file: &FileSource) -> anyhow::Result<FileStatus> {
        Ok(self.block_on(self.session.client.add_file(file))?)
    }

    pub(crate) fn remove_file(&self, name: &str) -> anyhow::Result<()> {
        Ok(self.block_on(self.session.client.remove_file(name))?)
    }

    /// The time limit of a wait that starts now, within the limit of the function.
    pub(crate) fn limit(&self) -> Duration {
        let left = self.session.end.map(|end| end.saturating_duration_since(Instant::now()));
        left.map_or(self.limit, |left| self.limit.min(left))
    }

    fn limit_ms(&self) -> u64 {
        u64::try_from(self.limit().as_millis()).unwrap_or(u64::MAX)
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.session.runtime.block_on(future)
    }

    /// Waits for a future until the time limit, or until the VM ends.
    fn wait<T>(&self, what: &str, future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        self.block_on(self.announced(what, async {
            let status = self.session.client.vm(self.name()).await?;
            if status.state == VmState::Paused {
                bail!("VM {}: {what}: it is paused\nhint: resume it first", self.name());
            }
            tokio::select! {
                ended = self.session.client.ended(self.name()) => Err(self.ended(what, &ended?)),
                outcome = self.limited(what, future) => outcome,
            }
        }))
    }

    /// Waits for a future until the time limit.
    async fn limited<T>(
        &self,
        what: &str,
        future: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let limit = self.limit();
        if let Ok(outcome) = timeout(limit, future).await {
            return outcome.with_context(|| format!("VM {}: {what}", self.name()));
        }
        let client = &self.session.client;
        let why = client.vm(self.name()).await.ok().and_then(|status| status.silence());
        let why = why.map(|why| format!("; {why}")).unwrap_or_default();
        let tail = client.console_tail(self.name()).await.unwrap_or_default();
        let bound = if limit < self.limit { ", the time limit of its function" } else { "" };
        let (name, seconds) = (self.name(), limit.as_secs_f64());
        let text = format!("VM {name}: {what}: not within {seconds:.0} s{bound}{why}{}", console(&tail));
        Err(Unmet(text).into())
    }

    /// Reports a wait to the runner if it takes long.
    async fn announced<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        if let Ok(done) = timeout(ANNOUNCED_AFTER, &mut future).await {
            return done;
        }
        self.session.send_note(Note::Waiting { what: format!("VM {}: {what}", self.name()) }).await;
        let done = future.await;
        self.session.send_note(Note::Going).await;
        done
    }

    fn ended(&self, what: &str, ended: &Ended) -> anyhow::Error {
        Unmet(format!("VM {}: {what}: {}{}", self.name(), ended.reason, console(&ended.console))).into()
    }

    /// Runs a command over SSH, and connects first if needed, however long that takes.
    async fn run(&self, line: &str, input: &[u8]) -> anyhow::Result<(CommandOutput, Vec<u8>)> {
        let mut backoff = Backoff::new();
        loop {
            match self.connection().await {
                Ok(ssh) => match ssh.run(line, input).await {
                    Ok(Ran { output, stdout, is_held }) => {
                        if is_held {
                            let what = "has ended, but a process that it started still holds its output";
                            let message = format!("VM {}: `{line}` {what}", self.name());
                            // A word about it is a comfort.
                            let _ = self
                                .session
                                .client
                                .log(&LogLine { function: Some(self.session.function.clone()), message })
                                .await;
                        }
                        return Ok((output, stdout));
                    }
                    Err(error) => {
                        self.session.forget_connection(self.name());
                        return Err(error.into());
                    }
                },
                Err(error @ (SshError::Refused | SshError::Key(_))) => return Err(error.into()),
                // It is booting.
                Err(SshError::NoAnswer | SshError::Protocol(_) | SshError::Cut) => backoff.pause().await,
            }
        }
    }

    async fn connection(&self) -> Result<Arc<Ssh>, SshError> {
        let known =
            self.session.connections.lock().unwrap_or_else(PoisonError::into_inner).get(self.name()).cloned();
        if let Some(ssh) = known.filter(|ssh| !ssh.is_closed()) {
            return Ok(ssh);
        }
        let ssh = Arc::new(Ssh::connect(self.address(), &self.session.status.ssh_key).await?);
        let mut connections = self.session.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.insert(self.name().to_owned(), Arc::clone(&ssh));
        Ok(ssh)
    }
}

/// A text as one word of a shell's line (POSIX.1-2017, Shell Command Language, 2.2.2).
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Whether the connection, rather than the command, has failed.
fn is_broken(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SshError::Cut | SshError::Protocol(_) | SshError::NoAnswer))
}

/// The status and output of a command, as the end of a sentence.
fn shown(output: &CommandOutput) -> String {
    let mut text = format!("with exit status {}", output.status);
    for (what, said) in [("standard output", &output.stdout), ("standard error", &output.stderr)] {
        let said = said.trim_end();
        if !said.is_empty() {
            let skip = said.chars().count().saturating_sub(SHOWN);
            let end: String = said.chars().skip(skip).collect();
            text.extend(["\n", what, ":\n", &end]);
        }
    }
    text
}

fn console(lines: &[String]) -> String {
    if lines.is_empty() {
        return "\nits console is empty\nhint: the console is the first serial port; add `console=ttyS0` to the kernel command line of a Linux guest".to_owned();
    }
    let skip = lines.len().saturating_sub(12);
    format!("\nthe last lines of its console:\n    {}", lines[skip..].join("\n    "))
}
