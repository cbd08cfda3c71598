//! Makes the VMs of a group that comes up: their files, their TAPs, who runs them, and their tasks. None runs
//! yet afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use steading_logs::journal::{Follower, FollowerOptions, GATEWAYD_PORT, StartAt};
use steading_net::Network;
use steading_plan::{Cards, Plan, Sha256, VmPlan};
use steading_sys::tap;
use steading_vm::engine::{EngineConfig, PreparedVm, VmEngine, VmFiles, set_up};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::GroupError;
use crate::frozen::Past;
use crate::key::LoginKey;
use crate::launched::Launched;
use crate::log::Log;
use crate::paths::directory_path;
use crate::taken::Taken;
use crate::vm::{Common, Inside, TimedSign, VmHandle, make, make_nested};
use steading_sys::processes::Processes;

/// What one VM starts from.
pub(crate) enum VmSource {
    Prepared(PreparedVm),
    Past(Box<Past>),
}

impl VmSource {
    fn image(&self) -> Option<Sha256> {
        match self {
            Self::Prepared(prepared) => prepared.image_digest(),
            Self::Past(past) => past.record.image,
        }
    }
}

/// What VMs are made with.
pub(crate) struct Making<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) network: &'a Network,
    /// What the launcher has handed over, where it has made the network.
    pub(crate) launched: Option<&'a mut Launched>,
    pub(crate) key: &'a LoginKey,
    pub(crate) scratch: &'a Utf8Path,
    pub(crate) log_dir: &'a Utf8Path,
    pub(crate) processes: &'a Processes,
    pub(crate) log: &'a Log,
    pub(crate) taken: &'a Taken,
}

/// What was made.
pub(crate) struct MadeVms {
    /// The VMs, by name.
    pub(crate) vms: BTreeMap<String, VmHandle>,
    /// The digests of their images.
    pub(crate) images: BTreeMap<String, Sha256>,
    /// Of VMs that go on, whose journals are followed once this is told.
    pub(crate) journals: Vec<oneshot::Sender<()>>,
}

/// One whose files are open.
struct Open<'a> {
    index: u32,
    plan: &'a VmPlan,
    files: VmFiles,
    past: Option<Past>,
    journal: FollowerOptions,
}

/// One that another VM runs.
struct Nested<'a> {
    plan: &'a VmPlan,
    host: &'a str,
    signs: mpsc::UnboundedReceiver<TimedSign>,
}

impl Making<'_> {
    /// Makes them, with their tasks in the background.
    pub(crate) async fn make(
        mut self,
        beginnings: Vec<VmSource>,
        background: &mut JoinSet<()>,
    ) -> Result<MadeVms, GroupError> {
        let plan = self.plan;
        let (mut open, mut nested, mut images) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut inside = HashMap::<&str, Inside>::new();
        for ((index, vm), beginning) in (0..).zip(&plan.vms).zip(beginnings) {
            if let Some(host) = &vm.spec.inside {
                let (sender, signs) = mpsc::unbounded_channel();
                inside.entry(host).or_default().insert(vm.name.to_string(), sender);
                nested.push(Nested { plan: vm, host, signs });
                continue;
            }
            images.extend(beginning.image().map(|digest| (vm.name.to_string(), digest)));
            let mut vm = self.open(index, vm, beginning)?;
            self.connect(&mut vm).await?;
            open.push(vm);
        }
        let common = Common {
            engine: self.engine(&open, background).await?,
            has_network: plan.engine.capabilities().cards != Cards::None,
            log: self.log.clone(),
            taken: self.taken.clone(),
        };
        let (mut vms, mut journals) = (BTreeMap::new(), Vec::new());
        for Open { index, plan, files, past, journal } in open {
            let inside = inside.remove(plan.name.as_str()).unwrap_or_default();
            let goes_on = past.as_ref().is_some_and(|past| past.frozen.was_on());
            let (told, begin) = goes_on.then(oneshot::channel).unzip();
            journals.extend(told);
            let follow = |power, events| {
                let follower = Follower::new(journal, power, events);
                if let Some(begin) = begin { follower.beginning_when(begin) } else { follower }
            };
            let (vm, task) = make(index, plan.clone(), (files, past), inside, &common, follow);
            background.spawn(task.run());
            vms.insert(plan.name.to_string(), vm);
        }
        for Nested { plan, host, signs } in nested {
            // The plan has checked that it is there.
            let Some(host) = vms.get(host).cloned() else { continue };
            let journal = self.journal(plan);
            let follow = |power, events| Follower::new(journal, power, events);
            let (vm, task) = make_nested(plan.clone(), &host, signs, &common, follow);
            background.spawn(task.run());
            vms.insert(plan.name.to_string(), vm);
        }
        Ok(MadeVms { vms, images, journals })
    }

    fn open<'a>(&self, index: u32, plan: &'a VmPlan, beginning: VmSource) -> Result<Open<'a>, GroupError> {
        let mut journal = self.journal(plan);
        let (files, past) = match beginning {
            VmSource::Prepared(prepared) => {
                (VmFiles::open(plan, &prepared, self.scratch, &self.key.public)?, None)
            }
            VmSource::Past(past) => {
                let frozen = past.frozen.try_clone().map_err(GroupError::io("hold frozen files"))?;
                journal.start = past.record.journal.clone().map_or(journal.start, StartAt::After);
                (VmFiles::from_frozen(plan, frozen, self.scratch)?, Some(*past))
            }
        };
        Ok(Open { index, plan, files, past, journal })
    }

    /// Makes the host's ends of its cards.
    async fn connect(&mut self, vm: &mut Open<'_>) -> Result<(), GroupError> {
        let cards = self.plan.engine.capabilities().cards;
        for (handle, name) in vm.plan.taps() {
            match (&mut self.launched, cards) {
                (_, Cards::None) => continue,
                (Some(launched), _) => {
                    vm.files.insert(handle, launched.take_tap(name)?);
                    continue;
                }
                (None, Cards::Descriptors) => vm.files.insert(handle, tap::create(name)?),
                (None, Cards::Names) => tap::create_lasting(name)?,
            }
            self.network.attach(name).await?;
        }
        Ok(())
    }

    /// The engine of the group, whose warnings go to the log.
    async fn engine(
        &self,
        vms: &[Open<'_>],
        background: &mut JoinSet<()>,
    ) -> Result<Arc<dyn VmEngine>, GroupError> {
        let (warnings, mut warned) = mpsc::unbounded_channel::<String>();
        let log = self.log.clone();
        background.spawn(async move {
            while let Some(warning) = warned.recv().await {
                log.warn(None, &warning).await;
            }
        });
        let directory = Utf8PathBuf::from(directory_path());
        let config = EngineConfig {
            plan: self.plan,
            files: vms.iter().map(|vm| (vm.index, &vm.files)).collect(),
            authorized_key: &self.key.public,
            processes: self.processes.clone(),
            log_dir: self.log_dir,
            directory: &directory,
            warnings,
        };
        Ok(set_up(config).await?)
    }

    fn journal(&self, vm: &VmPlan) -> FollowerOptions {
        let mut options = FollowerOptions::new((vm.address, GATEWAYD_PORT).into());
        options.source = Some(self.plan.addresses.logs.into());
        options
    }
}
