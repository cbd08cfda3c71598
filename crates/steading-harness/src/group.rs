//! What a test function works with: the group that runs its testnet.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8PathBuf;
use serde::Serialize;
use serde::de::DeserializeOwned;
use steading_api::{
    ActiveFault, ActiveFileFault, FaultRequest, FileFaultRequest, FileStatus, Freeze, FreezeRequest, LogLine,
    Note,
};
use steading_plan::{Fault, FileFault, FileSource, Plan, env_vars, integer_variable};
use thiserror::Error;

use crate::environment::variable;
use crate::fault::FaultGuard;
use crate::http::{HttpClient, HttpClientBuilder, Source};
use crate::metrics::Metrics;
use crate::session::Session;
use crate::vm::Vm;

/// A group, the running instance of a testnet, as a test function sees it.
#[derive(Clone)]
pub struct Group {
    pub(crate) session: Arc<Session>,
}

impl Group {
    /// Connects to the group whose control socket is here, for this function.
    pub(crate) fn connect(socket: &str, function: &str, function_limit: Duration) -> anyhow::Result<Self> {
        Ok(Self { session: Arc::new(Session::connect(socket, function, function_limit)?) })
    }

    /// The VM of this name.
    ///
    /// # Panics
    ///
    /// When the testnet declares no such VM: that is a mistake in the test.
    pub fn vm(&self, name: &str) -> Vm {
        match self.plan().vm(name) {
            Some(plan) => Vm::new(plan.clone(), Arc::clone(&self.session)),
            None => panic!("the testnet declares no VM named {name:?}"),
        }
    }

    /// Every VM, in the order of declaration.
    pub fn vms(&self) -> Vec<Vm> {
        self.plan().vms.iter().map(|vm| Vm::new(vm.clone(), Arc::clone(&self.session))).collect()
    }

    /// Does something to all VMs at once, and waits for all; the first error, if any.
    ///
    /// ```no_run
    /// # fn test(testnet: &steading_harness::Group) -> anyhow::Result<()> {
    /// testnet.at_once(|vm| vm.reboot())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn at_once<T: Send>(
        &self,
        action: impl Fn(&Vm) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<Vec<T>> {
        at_once(&self.vms(), action)
    }

    /// All that was derived for the group.
    pub fn plan(&self) -> &Plan {
        &self.session.status.plan
    }

    /// Where the group's logs are; `vms/<name>/console.log` below it is a VM's console.
    pub fn log_dir(&self) -> &str {
        &self.session.status.log_dir
    }

    /// The error that ends a test as skipped, for this reason.
    ///
    /// ```no_run
    /// # fn test(testnet: &steading_harness::Group) -> anyhow::Result<()> {
    /// if testnet.vms().len() < 3 {
    ///     return Err(testnet.skip("needs three VMs"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn skip(&self, reason: impl Into<String>) -> anyhow::Error {
        self.session.note(Note::Skip { reason: reason.into() });
        Skip.into()
    }

    /// Tells a value that was measured; its name should end with its unit. All values are in the
    /// results, and `Suite::limit_metric` can say what they must be.
    pub fn metric(&self, name: impl Into<String>, value: f64) {
        self.session.note(Note::Metric { name: name.into(), value });
    }

    /// Which attempt at this test this is; the first is 1.
    pub fn attempt(&self) -> u32 {
        // The environment was checked when this process began.
        let attempt = integer_variable(env_vars::STEADING_ATTEMPT, &variable);
        attempt.ok().flatten().and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1)
    }

    /// Freezes the testnet, all VMs at one instant. It goes on at once, as the first fork of what was
    /// kept, and `steading fork` can make others as long as it runs.
    ///
    /// # Errors
    ///
    /// When a VM cannot be frozen; all go on as they were then.
    pub fn freeze(&self) -> anyhow::Result<Freeze> {
        self.freeze_as(&FreezeRequest::default())
    }

    /// The same, once the guests have come to rest, for which they may take as long as `limit`: what they are about
    /// to do when they are frozen, each fork does anew.
    ///
    /// # Errors
    ///
    /// When a VM cannot be frozen; all go on as they were then.
    pub fn freeze_settled(&self, limit: Duration) -> anyhow::Result<Freeze> {
        self.freeze_as(&FreezeRequest::default().settled_within(limit))
    }

    fn freeze_as(&self, request: &FreezeRequest) -> anyhow::Result<Freeze> {
        Ok(self.session.runtime.block_on(self.session.client.freeze(request))?)
    }

    /// Makes a fault of the network. It is undone when what is returned is dropped.
    ///
    /// ```no_run
    /// # fn test(testnet: &steading_harness::Group) -> anyhow::Result<()> {
    /// use steading_plan::Fault;
    ///
    /// let partition = testnet.fault(Fault::partition(&["a", "b"], &["c"]).one_way())?;
    /// let lossy = testnet.fault(Fault::loss("a", 10.0).to("b"))?;
    /// // What a cluster does then.
    /// partition.undo()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it names a VM that is not there, or cannot be made on this host.
    pub fn fault(&self, fault: Fault) -> anyhow::Result<FaultGuard> {
        // Here too: JSON has no words for some of what is no number.
        fault.check(self.plan())?;
        let request = FaultRequest { fault, pid: i32::try_from(std::process::id()).ok() };
        let begun = self.session.runtime.block_on(self.session.client.begin_fault(&request))?;
        Ok(FaultGuard::new(begun.id, begun, Arc::clone(&self.session)))
    }

    /// The faults of the network that are active, whoever made them.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn faults(&self) -> anyhow::Result<Vec<ActiveFault>> {
        Ok(self.session.runtime.block_on(self.session.client.faults())?)
    }

    /// Undoes all faults of the network, whoever made them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or the group has ended.
    pub fn undo_faults(&self) -> anyhow::Result<()> {
        self.session.runtime.block_on(self.session.client.undo_faults())?;
        Ok(())
    }

    /// A file that VMs can download, by its name or its SHA-256: one that the testnet declares, or that
    /// was added since.
    ///
    /// ```no_run
    /// # fn test(testnet: &steading_harness::Group) -> anyhow::Result<()> {
    /// let image = testnet.file("update.img")?;
    /// let (url, sha256) = (image.url(), image.sha256());
    /// testnet.vm("n1").succeed(&format!("upgrade {url} {sha256}"))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is no such file, or it has vanished or changed since it was added.
    pub fn file(&self, name: impl AsRef<str>) -> anyhow::Result<FileStatus> {
        Ok(self.session.runtime.block_on(self.session.client.file(name.as_ref()))?)
    }

    /// All files that VMs can download.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn files(&self) -> anyhow::Result<Vec<FileStatus>> {
        Ok(self.session.runtime.block_on(self.session.client.files())?)
    }

    /// Has VMs download one more file, for the rest of the group's life or until it is removed.
    ///
    /// # Errors
    ///
    /// When it is no file, or another has its name.
    pub fn add_file(&self, file: impl Into<FileSource>) -> anyhow::Result<FileStatus> {
        let mut source = file.into();
        source.served_name()?;
        // The owner has another directory.
        let path =
            std::path::absolute(&source.path).with_context(|| format!("cannot serve {}", source.path))?;
        source.path = Utf8PathBuf::try_from(path).context("cannot serve a file whose path is no text")?;
        Ok(self.session.runtime.block_on(self.session.client.add_file(&source))?)
    }

    /// Has VMs find a file no longer.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn remove_file(&self, name: impl AsRef<str>) -> anyhow::Result<()> {
        Ok(self.session.runtime.block_on(self.session.client.remove_file(name.as_ref()))?)
    }

    /// Has the file server misbehave. It is undone when what is returned is dropped.
    ///
    /// ```no_run
    /// # fn test(testnet: &steading_harness::Group) -> anyhow::Result<()> {
    /// use steading_plan::FileFault;
    ///
    /// let cut = testnet.file_fault(FileFault::cut_after(1_000_000).of("update.img"))?;
    /// // What a download does then.
    /// cut.undo()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it makes no sense, or names a file that is not there.
    pub fn file_fault(&self, fault: FileFault) -> anyhow::Result<FaultGuard<ActiveFileFault>> {
        let request = FileFaultRequest { fault, pid: i32::try_from(std::process::id()).ok() };
        let begun = self.session.runtime.block_on(self.session.client.begin_file_fault(&request))?;
        Ok(FaultGuard::new(begun.id, begun, Arc::clone(&self.session)))
    }

    /// How the file server misbehaves, whoever asked for it.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn file_faults(&self) -> anyhow::Result<Vec<ActiveFileFault>> {
        Ok(self.session.runtime.block_on(self.session.client.file_faults())?)
    }

    /// Has the file server behave, whoever asked for what it does wrong; says what is undone.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn undo_file_faults(&self) -> anyhow::Result<Vec<ActiveFileFault>> {
        Ok(self.session.runtime.block_on(self.session.client.undo_file_faults())?)
    }

    /// A client for HTTP, from the management address.
    ///
    /// ```no_run
    /// # fn test(testnet: &steading_harness::Group) -> anyhow::Result<()> {
    /// let health = testnet.http()?.get("http://n1:8000/health")?.succeed()?;
    /// assert_eq!(health.text(), "good");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn http(&self) -> anyhow::Result<HttpClient> {
        self.http_client().build()
    }

    /// A client for HTTP from another address, with other limits, or with authorities to trust.
    pub fn http_client(&self) -> HttpClientBuilder {
        HttpClientBuilder::new(Arc::clone(&self.session))
    }

    /// The Prometheus of a metrics VM, to be asked by the test.
    ///
    /// ```no_run
    /// # fn test(testnet: &steading_harness::Group) -> anyhow::Result<()> {
    /// let metrics = testnet.metrics("metrics")?;
    /// metrics.wait_until("up{vm=\"n1\"}", |samples| samples.iter().any(|sample| sample.value() == 1.0))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When a client for HTTP cannot be made.
    ///
    /// # Panics
    ///
    /// When the testnet declares no such VM.
    pub fn metrics(&self, vm: &str) -> anyhow::Result<Metrics> {
        Ok(Metrics::new(self.vm(vm), self.http()?, self.log_dir()))
    }

    /// An address of the driver's to bind a socket to. One that the test chooses is the driver's from
    /// now on.
    ///
    /// # Errors
    ///
    /// When the driver cannot have it.
    pub fn source_address(&self, source: Source) -> anyhow::Result<Ipv6Addr> {
        source.ensure(&self.session)
    }

    /// Writes a line to the log.
    pub fn log(&self, message: impl Into<String>) {
        let line = LogLine { function: Some(self.session.function.clone()), message: message.into() };
        // A log that cannot be written never fails a test.
        let _ = self.session.runtime.block_on(self.session.client.log(&line));
    }

    /// Keeps a value for other functions of this run.
    ///
    /// # Errors
    ///
    /// When it cannot be written as JSON, or the group has ended.
    pub fn put(&self, key: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let value = serde_json::to_value(value).with_context(|| format!("cannot keep {key:?}"))?;
        Ok(self.session.runtime.block_on(self.session.client.put_value(key, &value))?)
    }

    /// A value that another function kept.
    ///
    /// # Errors
    ///
    /// When nobody kept one, or it is of another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> anyhow::Result<T> {
        let value = self.session.runtime.block_on(self.session.client.value(key))?;
        let value = value.with_context(|| format!("no function has kept a value named {key:?}"))?;
        serde_json::from_value(value).with_context(|| format!("the value {key:?} is of another type"))
    }
}

/// Does something to several VMs at once, and waits for all; the first error, if any.
pub fn at_once<T: Send>(
    vms: &[Vm],
    action: impl Fn(&Vm) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let action = &action;
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = vms.iter().map(|vm| scope.spawn(move || action(vm))).collect();
        running.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        .collect()
}

/// A test that cannot do here what it is for.
#[derive(Debug, Error)]
#[error("skipped")]
pub(crate) struct Skip;
