//! What every case needs.

use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use libtest_mimic::Failed;
use steading_api::{Client, ProcessEvent, ProcessSpec};
use steading_group::{GroupConfig, Owner};
use steading_plan::{Boot, HostFacts, HostResources, Plan, QemuFacts, Testnet, VmSpec};
use steading_vm::engine::prepare;
use steading_vm::image::ImageCache;
use tokio::runtime::Runtime;

/// A group that is up, and what is needed to ask it.
pub(crate) struct Group {
    pub(crate) owner: Owner,
    pub(crate) client: Client,
    pub(crate) runtime: Runtime,
    pub(crate) plan: Plan,
    pub(crate) dir: tempfile::TempDir,
}

/// Writes to standard error, whatever becomes of it.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The kernel of the reference guest, if that was built.
pub(crate) fn kernel() -> Option<Utf8PathBuf> {
    let dir = std::env::var("STEADING_GUEST").ok()?;
    let kernel = Utf8Path::new(&dir).join("vmlinuz");
    kernel.is_file().then_some(kernel)
}

/// VMs that boot a kernel which soon panics, since it has no root file system.
pub(crate) fn panicking(names: &[&str]) -> Testnet {
    let boot = Boot::Kernel {
        kernel: kernel().unwrap_or_default(),
        initrd: None,
        cmdline: "console=ttyS0 panic=0".to_owned(),
    };
    Testnet::new().vms(names.iter().map(|name| VmSpec::new(*name, boot.clone()).memory_mib(256)))
}

/// A group's configuration, with a directory of its own.
pub(crate) fn config(testnet: &Testnet) -> Result<(GroupConfig, tempfile::TempDir), Failed> {
    let host =
        HostFacts { resources: HostResources { cpus: 64, memory_mib: 1 << 20 }, qemu: QemuFacts::default() };
    let plan = Plan::derive(&"group-test".parse()?, testnet, &host)?;
    let dir = tempfile::tempdir()?;
    let path = Utf8Path::from_path(dir.path()).ok_or("the path is not UTF-8")?;
    let cache = ImageCache::open(&path.join("cache"))?;
    let prepared = plan.vms.iter().map(|vm| prepare(vm, &cache, &mut |_| {})).collect::<Result<_, _>>()?;
    let (log_dir, scratch) = (path.join("logs"), path.join("scratch"));
    std::fs::create_dir_all(&log_dir)?;
    std::fs::create_dir_all(&scratch)?;
    Ok((GroupConfig { plan, prepared, log_dir, scratch }, dir))
}

impl Group {
    pub(crate) fn up(testnet: &Testnet) -> Result<Self, Failed> {
        let (config, dir) = config(testnet)?;
        let plan = config.plan.clone();
        let mut owner = steading_group::spawn(config)?;
        owner.wait_until_ready()?;
        let client = Client::new(owner.socket_path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { owner, client, runtime, plan, dir })
    }

    /// Runs a shell line inside to its end: its lines, and how it ended.
    pub(crate) fn run(&self, line: &str) -> Result<(Vec<String>, ProcessEvent), Failed> {
        let argv = ["sh", "-c", line].map(str::to_owned).into();
        let spec = ProcessSpec { name: "line".to_owned(), argv, env: Vec::new() };
        self.runtime.block_on(async {
            let mut events = self.client.start_process(&spec).await?;
            let mut lines = Vec::new();
            while let Some(event) = events.next().await? {
                match event {
                    ProcessEvent::Started { .. } => {}
                    ProcessEvent::Line { text } => lines.push(text),
                    ProcessEvent::Ended { .. } => return Ok((lines, event)),
                }
            }
            Err("the program's end was not told".into())
        })
    }

    /// Ends it in an orderly way.
    pub(crate) fn tear_down(self) -> Result<(), Failed> {
        self.runtime.block_on(self.client.tear_down())?;
        let status = self.owner.wait()?;
        check(status == Some(0), || format!("the owner ended with {status:?}"))
    }
}

pub(crate) fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}
