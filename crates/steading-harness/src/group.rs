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

    /// Returns the VM with this name.
    ///
    /// # Panics
    ///
    /// When the testnet has no such VM, which is a mistake in the test.
    pub fn vm(&self, name: &str) -> Vm {
        match self.plan().vm(name) {
            Some(plan) => Vm::new(plan.clone(), Arc::clone(&self.session)),
            None => panic!("no VM named `{name}` in this testnet"),
        }
    }

    /// Returns all VMs, in the order of declaration.
    pub fn vms(&self) -> Vec<Vm> {
        self.plan().vms.iter().map(|vm| Vm::new(vm.clone(), Arc::clone(&self.session))).collect()
    }

    /// Runs an action on all VMs at the same time, and waits for all. Returns the first error, if there is one.
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

    /// Returns the plan of the group.
    pub fn plan(&self) -> &Plan {
        &self.session.status.plan
    }

    /// Returns the log directory of the group. A VM's console is in `vms/<name>/console.log`.
    pub fn log_dir(&self) -> &str {
        &self.session.status.log_dir
    }

    /// Returns the error that ends a test as skipped, for this reason.
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

    /// Records a measured value; its name should end with its unit. All values are in the results, and
    /// `Suite::limit_metric` can limit them.
    pub fn metric(&self, name: impl Into<String>, value: f64) {
        self.session.note(Note::Metric { name: name.into(), value });
    }

    /// Returns the number of this attempt at the test; the first is 1.
    pub fn attempt(&self) -> u32 {
        // The environment was checked when this process began.
        let attempt = integer_variable(env_vars::STEADING_ATTEMPT, &variable);
        attempt.ok().flatten().and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1)
    }

    /// Freezes all VMs of the testnet at one instant. The testnet then continues, and as long as it runs,
    /// `steading fork` can make forks of the freeze.
    ///
    /// # Errors
    ///
    /// When a VM cannot be frozen. All VMs then continue unchanged.
    pub fn freeze(&self) -> anyhow::Result<Freeze> {
        self.freeze_as(&FreezeRequest::default())
    }

    /// Waits until the guests are idle, at most as long as `limit`, and then freezes the testnet like
    /// [`Self::freeze`]. Each fork repeats what the guests were about to do when they were frozen.
    ///
    /// # Errors
    ///
    /// When a VM cannot be frozen. All VMs then continue unchanged.
    pub fn freeze_settled(&self, limit: Duration) -> anyhow::Result<Freeze> {
        self.freeze_as(&FreezeRequest::default().settled_within(limit))
    }

    fn freeze_as(&self, request: &FreezeRequest) -> anyhow::Result<Freeze> {
        Ok(self.session.runtime.block_on(self.session.client.freeze(request))?)
    }

    /// Makes a fault of the network. Dropping the returned guard undoes it.
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
    /// When it names an unknown VM, or this host cannot make it.
    pub fn fault(&self, fault: Fault) -> anyhow::Result<FaultGuard> {
        // Here too: JSON has no words for some of what is no number.
        fault.check(self.plan())?;
        let request = FaultRequest { fault, pid: i32::try_from(std::process::id()).ok() };
        let begun = self.session.runtime.block_on(self.session.client.begin_fault(&request))?;
        Ok(FaultGuard::new(begun.id, begun, Arc::clone(&self.session)))
    }

    /// Returns all active faults of the network, no matter who made them.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn faults(&self) -> anyhow::Result<Vec<ActiveFault>> {
        Ok(self.session.runtime.block_on(self.session.client.faults())?)
    }

    /// Undoes all faults of the network, no matter who made them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to undo one, or the group has ended.
    pub fn undo_faults(&self) -> anyhow::Result<()> {
        self.session.runtime.block_on(self.session.client.undo_faults())?;
        Ok(())
    }

    /// Returns a file that VMs can download, by its name or SHA-256. The testnet has declared it, or it was
    /// added later.
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
    /// When there is no such file, or it was removed or changed on disk since it was added.
    pub fn file(&self, name: impl AsRef<str>) -> anyhow::Result<FileStatus> {
        Ok(self.session.runtime.block_on(self.session.client.file(name.as_ref()))?)
    }

    /// Returns all files that VMs can download.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn files(&self) -> anyhow::Result<Vec<FileStatus>> {
        Ok(self.session.runtime.block_on(self.session.client.files())?)
    }

    /// Serves another file for download by VMs, until the group ends or the file is removed.
    ///
    /// # Errors
    ///
    /// When it is not a regular file, or another file has the same name.
    pub fn add_file(&self, file: impl Into<FileSource>) -> anyhow::Result<FileStatus> {
        let mut source = file.into();
        source.served_name()?;
        // The owner has another directory.
        let path =
            std::path::absolute(&source.path).with_context(|| format!("cannot serve {}", source.path))?;
        source.path =
            Utf8PathBuf::try_from(path).context("cannot serve a file whose path is not valid UTF-8")?;
        Ok(self.session.runtime.block_on(self.session.client.add_file(&source))?)
    }

    /// Stops serving a file.
    ///
    /// # Errors
    ///
    /// When there is no such file.
    pub fn remove_file(&self, name: impl AsRef<str>) -> anyhow::Result<()> {
        Ok(self.session.runtime.block_on(self.session.client.remove_file(name.as_ref()))?)
    }

    /// Makes a fault of the file server. Dropping the returned guard undoes it.
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
    /// When it is invalid, or names an unknown file.
    pub fn file_fault(&self, fault: FileFault) -> anyhow::Result<FaultGuard<ActiveFileFault>> {
        let request = FileFaultRequest { fault, pid: i32::try_from(std::process::id()).ok() };
        let begun = self.session.runtime.block_on(self.session.client.begin_file_fault(&request))?;
        Ok(FaultGuard::new(begun.id, begun, Arc::clone(&self.session)))
    }

    /// Returns all active faults of the file server, no matter who made them.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn file_faults(&self) -> anyhow::Result<Vec<ActiveFileFault>> {
        Ok(self.session.runtime.block_on(self.session.client.file_faults())?)
    }

    /// Undoes all faults of the file server, no matter who made them, and returns them.
    ///
    /// # Errors
    ///
    /// When the group has ended.
    pub fn undo_file_faults(&self) -> anyhow::Result<Vec<ActiveFileFault>> {
        Ok(self.session.runtime.block_on(self.session.client.undo_file_faults())?)
    }

    /// Returns an HTTP client whose requests come from the management address.
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
    /// When the client cannot be made.
    pub fn http(&self) -> anyhow::Result<HttpClient> {
        self.http_client().build()
    }

    /// Returns a builder of HTTP clients with another source address, other limits, or more trusted authorities.
    pub fn http_client(&self) -> HttpClientBuilder {
        HttpClientBuilder::new(Arc::clone(&self.session))
    }

    /// Returns the Prometheus of a metrics VM, for queries.
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
    /// When the HTTP client cannot be made.
    ///
    /// # Panics
    ///
    /// When the testnet has no such VM.
    pub fn metrics(&self, vm: &str) -> anyhow::Result<Metrics> {
        Ok(Metrics::new(self.vm(vm), self.http()?, self.log_dir()))
    }

    /// Returns a source address of the driver to which the test can bind a socket. An address that the test
    /// chooses is added to the driver first.
    ///
    /// # Errors
    ///
    /// When the driver cannot get this address.
    pub fn source_address(&self, source: Source) -> anyhow::Result<Ipv6Addr> {
        source.ensure(&self.session)
    }

    /// Writes a line to the log.
    pub fn log(&self, message: impl Into<String>) {
        let line = LogLine { function: Some(self.session.function.clone()), message: message.into() };
        // A log that cannot be written never fails a test.
        let _ = self.session.runtime.block_on(self.session.client.log(&line));
    }

    /// Stores a value for other functions of this run.
    ///
    /// # Errors
    ///
    /// When the value cannot be serialized to JSON, or the group has ended.
    pub fn put(&self, key: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let value = serde_json::to_value(value).with_context(|| format!("cannot store the value {key:?}"))?;
        Ok(self.session.runtime.block_on(self.session.client.put_value(key, &value))?)
    }

    /// Returns a value that another function has stored.
    ///
    /// # Errors
    ///
    /// When no function has stored it, or it has another type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> anyhow::Result<T> {
        let value = self.session.runtime.block_on(self.session.client.value(key))?;
        let value = value.with_context(|| format!("no function has stored a value named {key:?}"))?;
        serde_json::from_value(value).with_context(|| format!("the value {key:?} has another type"))
    }
}

/// Runs an action on several VMs at the same time, and waits for all. Returns the first error, if there is one.
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

/// A test that is skipped, since it cannot run here.
#[derive(Debug, Error)]
#[error("skipped")]
pub(crate) struct Skip;
