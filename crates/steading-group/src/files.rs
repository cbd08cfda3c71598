//! The group's file server: what it serves, what it does wrong on purpose, and what is told of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::net::IpAddr;
use std::sync::Arc;

use steading_api::{ActiveFileFault, Failure, FailureKind, FileFaultRequest, FileStatus, chain};
use steading_files::{Access, Document, FileError, FileServer, ServedFile, digest};
use steading_logs::{FaultEvent, FileAccess};
use steading_plan::text::one_line;
use steading_plan::{AddressPlan, FILES_PORT, FileFault, FileSource, Plan, Sha256, TARGETS_NAME, VmName};
use tokio::sync::{Mutex, mpsc};

use crate::GroupError;
use crate::faults::Numbers;
use crate::log::Log;

/// How many accesses may wait to be told. More hold up those who download.
const ACCESSES_WAITING: usize = 1024;

/// The file server, for those who ask it to change.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    server: Arc<FileServer>,
    addresses: Arc<AddressPlan>,
    log: Log,
    numbers: Numbers,
    faults: Arc<Mutex<BTreeMap<u32, ActiveFileFault>>>,
}

/// Tells of accesses, until the server ends.
pub(crate) struct Teller {
    accesses: mpsc::Receiver<Access>,
    names: HashMap<IpAddr, VmName>,
    log: Log,
}

impl Files {
    /// Starts the server. Of the files that a frozen group had, those that are no longer as they were
    /// are told, and are not there for those who ask for them.
    pub(crate) async fn start(
        plan: &Plan,
        log: Log,
        numbers: Numbers,
        files: Vec<ServedFile>,
        faults: Vec<ActiveFileFault>,
    ) -> Result<(Self, Teller), GroupError> {
        let (sender, accesses) = mpsc::channel(ACCESSES_WAITING);
        let address = (plan.addresses.files, FILES_PORT).into();
        let server = FileServer::start(address, sender).map_err(GroupError::io("start the file server"))?;
        for file in files {
            let file = match blocking(move || file.found_again().map_err(|error| (file, error))).await? {
                Ok(found) => found,
                Err((file, error)) => {
                    log.warn(None, &chain(&error)).await;
                    file
                }
            };
            server.add(file)?;
        }
        let teller = Teller { accesses, names: plan.names_of_addresses(), log: log.clone() };
        let files = Self {
            server: Arc::new(server),
            addresses: Arc::new(plan.addresses.clone()),
            log,
            numbers,
            faults: Arc::default(),
        };
        // Whoever had asked for them is not here.
        let kept: BTreeMap<_, _> =
            faults.into_iter().map(|fault| (fault.id, ActiveFileFault { pid: None, ..fault })).collect();
        if !kept.is_empty() {
            let mut active = files.faults.lock().await;
            files.put_into_place(&kept).await.map_err(GroupError::io("make the file server misbehave"))?;
            for fault in kept.values() {
                files.numbers.are_taken_to(fault.id);
                files.tell_beginning(fault).await;
            }
            *active = kept;
        }
        Ok((files, teller))
    }

    /// Serves one more file.
    pub(crate) async fn add(&self, source: FileSource) -> Result<FileStatus, Failure> {
        let read = blocking(move || ServedFile::read(&source, digest)).await;
        let read = read.map_err(|error| failed(chain(&error)))?;
        let file = read.and_then(|file| self.server.add(file)).map_err(refused)?;
        self.log.driver(None, &format!("the file server serves {}: {}", file.name, file.path)).await;
        Ok(self.status(&file))
    }

    pub(crate) async fn remove(&self, name: &str) -> Result<(), Failure> {
        let file = self.server.remove(name).map_err(refused)?;
        self.log.driver(None, &format!("the file server serves {} no longer", file.name)).await;
        Ok(())
    }

    /// What tells metrics, for Prometheus.
    pub(crate) fn set_targets(&self, targets: &serde_json::Value) {
        let content = targets.to_string().into_bytes();
        self.server.set_document(TARGETS_NAME, Document { content_type: "application/json", content });
    }

    /// A file that can be downloaded now.
    pub(crate) fn get(&self, name: &str) -> Result<FileStatus, Failure> {
        let file = self.server.find(name).map_err(refused)?;
        file.open().map_err(refused)?;
        Ok(self.status(&file))
    }

    /// All files, be they as they were or not.
    pub(crate) fn list(&self) -> Vec<FileStatus> {
        self.server.files().iter().map(|file| self.status(file)).collect()
    }

    /// What a fork is to serve.
    pub(crate) fn served(&self) -> Vec<ServedFile> {
        self.server.files().iter().map(|file| file.as_ref().clone()).collect()
    }

    /// Opens the file with this digest, if there is one.
    pub(crate) fn open(&self, sha256: &Sha256) -> Option<Result<File, Failure>> {
        let file = self.server.files().into_iter().find(|file| file.sha256 == *sha256)?;
        Some(file.open().map_err(refused))
    }

    fn status(&self, file: &ServedFile) -> FileStatus {
        FileStatus {
            name: file.name.clone(),
            path: file.path.clone(),
            sha256: file.sha256,
            size: file.size(),
            url: self.addresses.file_url(&file.sha256.to_string()),
            named_url: self.addresses.file_url(&file.name),
            trouble: file.open().err().map(|error| chain(&error)),
        }
    }

    /// Has the server misbehave. What a program of the group asked for ends with it.
    pub(crate) async fn begin(
        &self,
        request: FileFaultRequest,
        name_of: impl Fn(i32) -> Option<String>,
    ) -> Result<ActiveFileFault, Failure> {
        let FileFaultRequest { fault, pid } = request;
        fault.check().map_err(|error| Failure::bad_request(chain(&error)))?;
        if let Some(file) = &fault.file {
            self.server.find(file).map_err(refused)?;
        }
        let mut active = self.faults.lock().await;
        // Looked at with the faults in hand: a program's end takes them after the program is forgotten.
        let function = pid.and_then(name_of);
        let pid = pid.filter(|_| function.is_some());
        let begun = ActiveFileFault { id: self.numbers.next(), fault, function, pid };
        let mut wanted = active.clone();
        wanted.insert(begun.id, begun.clone());
        self.put_into_place(&wanted).await.map_err(|error| failed(error.to_string()))?;
        *active = wanted;
        self.tell_beginning(&begun).await;
        Ok(begun)
    }

    /// Those that are active, by number.
    pub(crate) async fn faults(&self) -> Vec<ActiveFileFault> {
        self.faults.lock().await.values().cloned().collect()
    }

    /// Undoes one; whether there was such a fault.
    pub(crate) async fn undo(&self, id: u32) -> Result<bool, Failure> {
        Ok(!self.end(|fault| fault.id == id, "").await?.is_empty())
    }

    /// Undoes all, and says which.
    pub(crate) async fn undo_all(&self) -> Result<Vec<ActiveFileFault>, Failure> {
        self.end(|_| true, "").await
    }

    /// Undoes those that this program asked for; it has ended.
    pub(crate) async fn undo_of(&self, pid: i32) {
        let ended = self.end(|fault| fault.pid == Some(pid), ", with the end of its program").await;
        if let Err(failure) = ended {
            let message = format!("faults of a program that has ended stay: {}", failure.message);
            self.log.warn(None, &message).await;
        }
    }

    /// Has one stay when the program that asked for it has ended; whether there is such a fault.
    pub(crate) async fn keep(&self, id: u32) -> bool {
        self.faults.lock().await.get_mut(&id).map(|fault| fault.pid = None).is_some()
    }

    async fn end(
        &self,
        is_meant: impl Fn(&ActiveFileFault) -> bool,
        why: &str,
    ) -> Result<Vec<ActiveFileFault>, Failure> {
        let mut active = self.faults.lock().await;
        let (ended, left): (BTreeMap<_, _>, BTreeMap<_, _>) =
            active.clone().into_iter().partition(|(_, fault)| is_meant(fault));
        if ended.is_empty() {
            return Ok(Vec::new());
        }
        self.put_into_place(&left).await.map_err(|error| failed(error.to_string()))?;
        *active = left;
        for fault in ended.values() {
            let message = format!("fault {} is undone{why}: {}", fault.id, fault.fault);
            self.log.fault(FaultEvent::Ended { id: fault.id }, message).await;
        }
        Ok(ended.into_values().collect())
    }

    async fn put_into_place(&self, active: &BTreeMap<u32, ActiveFileFault>) -> std::io::Result<()> {
        let faults: BTreeMap<u32, FileFault> =
            active.iter().map(|(id, active)| (*id, active.fault.clone())).collect();
        self.server.set_faults(faults).await
    }

    async fn tell_beginning(&self, begun: &ActiveFileFault) {
        let what = begun.fault.to_string();
        let message = format!("fault {}: {what}", begun.id);
        self.log.fault(FaultEvent::Began { id: begun.id, what }, message).await;
    }
}

impl Teller {
    pub(crate) async fn run(mut self) {
        let mut known = BTreeSet::new();
        while let Some(access) = self.accesses.recv().await {
            let vm = self.names.get(&access.peer).cloned();
            if let Some(trouble) = &access.trouble {
                // Who does not get it asks again and again.
                if known.insert(trouble.clone()) {
                    self.log.warn(vm.as_ref(), trouble).await;
                }
            }
            let message = described(&access, vm.as_ref());
            let told = FileAccess {
                file: access.file,
                method: access.method,
                status: access.status,
                first: access.first,
                announced: access.announced,
                sent: access.sent,
                microseconds: u64::try_from(access.took.as_micros()).unwrap_or(u64::MAX),
                faults: access.faults,
            };
            self.log.access(vm, told, message).await;
        }
    }
}

/// An access as a line of the log.
fn described(access: &Access, vm: Option<&VmName>) -> String {
    let Access { method, file, sent, announced, .. } = access;
    // Of a VM the record says so.
    let who = if vm.is_some() { String::new() } else { format!("{}: ", access.peer) };
    // A guest chooses what it asks for.
    let mut text = format!("{who}{} {}: ", one_line(method), one_line(file));
    let answered = match access.status {
        Some(status) => format!("{status}, {sent} bytes"),
        None => "reset".to_owned(),
    };
    text.push_str(&answered);
    text.extend((sent < announced).then(|| format!(" of {announced}")));
    text.extend((access.first > 0).then(|| format!(" from {}", access.first)));
    text.extend([format!(" in {:.3} s", access.took.as_secs_f64())]);
    if !access.faults.is_empty() {
        let numbers: Vec<String> = access.faults.iter().map(u32::to_string).collect();
        text.extend([" (fault ", &numbers.join(", "), ")"]);
    }
    text
}

/// Reads files, for which nobody else is to wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, GroupError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| GroupError::io("read a file")(error.into()))
}

#[expect(clippy::needless_pass_by_value, reason = "it is the end of the error")]
fn refused(error: FileError) -> Failure {
    Failure::bad_request(chain(&error))
}

fn failed(message: String) -> Failure {
    Failure::new(FailureKind::Failed, message)
}
