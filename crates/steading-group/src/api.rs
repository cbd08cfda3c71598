//! The control API, served on the group's own socket.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::StreamExt as _;
use futures::stream;
use serde::Serialize;
use steading_api::{
    ActiveFault, ActiveFileFault, AuthorityStatus, Certificate, CertificateRequest, CommandOutput,
    ConsoleMatch, ConsoleWait, Ended, Ending, FailureKind, FaultRequest, FileFaultRequest, FileStatus,
    Freeze, FreezeRequest, GroupStatus, GuestCommand, LogLine, NamesStatus, Note, OutputStream, ProcessSpec,
    RecordRemoval, Screenshot, TerminalSize, VmStatus, VmVerb, chain,
};
use steading_plan::{FileSource, Record};
use steading_vm::agent::{AgentCommand, AgentError};
use tokio::sync::broadcast;

use crate::failed::{Failed, bad_request};
use crate::freeze;
use crate::frozen::FrozenGroup;
use crate::group::OwnedGroup;
use crate::isolation::Isolation;
use crate::remote;
use crate::vm::{console, power};

/// How long the agent may take for one step of a conversation.
const AGENT_STEP: Duration = Duration::from_secs(30);

type GroupState = State<Arc<OwnedGroup>>;

/// Every path there is.
pub(crate) fn router(group: Arc<OwnedGroup>) -> Router {
    Router::new()
        .route("/group", get(status))
        .route("/facts", get(remote::facts))
        .route("/log", get(remote::log).post(log_line))
        .route("/blobs/{sha256}", get(remote::blob))
        .route("/frozen/{id}/archive", get(remote::archive))
        .route("/vms/{vm}/tcp/{port}", post(remote::connect))
        .route("/vms/{vm}", get(vm_status))
        .route("/vms/{vm}/ended", get(ended))
        .route("/vms/{vm}/booted/{boot}", get(booted))
        .route("/vms/{vm}/console", get(console_tail))
        .route("/vms/{vm}/console/wait", post(console_wait))
        .route("/vms/{vm}/console/output", get(console_output))
        .route("/vms/{vm}/console/input", post(console_input))
        .route("/vms/{vm}/agent", post(agent))
        .route("/vms/{vm}/screenshot", get(screenshot))
        .route("/vms/{vm}/{verb}", post(act))
        .route("/values/{key}", get(value).post(put_value))
        .route("/processes", post(start_process))
        .route("/processes/{pid}/end", post(end_process))
        .route("/processes/{pid}/note", post(note))
        .route("/processes/{pid}/input", post(process_input))
        .route("/processes/{pid}/size", post(resize))
        .route("/processes/{pid}/close/{stream}", post(close_output))
        .route("/faults", get(faults).post(begin_fault))
        .route("/faults/undo", post(undo_faults))
        .route("/faults/{id}/undo", post(undo_fault))
        .route("/faults/{id}/keep", post(keep_fault))
        .route("/files", get(files).post(add_file))
        .route("/files/{name}", get(file))
        .route("/files/{name}/remove", post(remove_file))
        .route("/file-faults", get(file_faults).post(begin_file_fault))
        .route("/file-faults/undo", post(undo_file_faults))
        .route("/sources", post(add_source))
        .route("/names", get(names).post(add_record))
        .route("/names/remove", post(remove_records))
        .route("/resolvers", post(claim_resolver))
        .route("/authority", get(authority))
        .route("/certificates", post(certificate))
        .route("/records", get(records))
        .route("/frozen", get(freezes).post(freeze_group))
        .route("/frozen/{id}", get(frozen))
        .route("/frozen/{id}/forget", post(forget))
        .route("/thaw", post(thaw))
        .route("/teardown", post(teardown))
        .with_state(group)
}

async fn status(State(group): GroupState) -> Json<GroupStatus> {
    Json(GroupStatus {
        plan: group.plan.clone(),
        vms: group.statuses(),
        log_dir: group.log_dir.clone(),
        ssh_key: group.key.private.clone(),
        forked_from: group.forked_from.clone(),
        unforkable: group.plan.no_freeze().or(group.isolation.no_forks()).map(str::to_owned),
        has_namespaces: group.isolation == Isolation::Namespaces,
    })
}

async fn vm_status(State(group): GroupState, Path(vm): Path<String>) -> Result<Json<VmStatus>, Failed> {
    Ok(Json(group.vm(&vm)?.status()))
}

async fn act(
    State(group): GroupState,
    Path((vm, verb)): Path<(String, VmVerb)>,
) -> Result<Json<VmStatus>, Failed> {
    let vm = group.vm(&vm)?;
    power::act(vm, verb).await?;
    Ok(Json(vm.status()))
}

async fn ended(State(group): GroupState, Path(vm): Path<String>) -> Result<Json<Ended>, Failed> {
    Ok(Json(console::ended(group.vm(&vm)?).await?))
}

async fn booted(
    State(group): GroupState,
    Path((vm, boot)): Path<(String, u32)>,
) -> Result<Json<VmStatus>, Failed> {
    Ok(Json(console::booted(group.vm(&vm)?, boot).await?))
}

async fn console_tail(State(group): GroupState, Path(vm): Path<String>) -> Result<Json<Vec<String>>, Failed> {
    const SHOWN: usize = 100;
    let vm = group.vm(&vm)?;
    Ok(Json(group.log.tail(vm.name(), SHOWN).await))
}

async fn console_wait(
    State(group): GroupState,
    Path(vm): Path<String>,
    Json(wait): Json<ConsoleWait>,
) -> Result<Json<ConsoleMatch>, Failed> {
    Ok(Json(console::wait(group.vm(&vm)?, &wait).await?))
}

async fn screenshot(State(group): GroupState, Path(vm): Path<String>) -> Result<Json<Screenshot>, Failed> {
    Ok(Json(power::screenshot(group.vm(&vm)?).await?))
}

async fn agent(
    State(group): GroupState,
    Path(vm): Path<String>,
    Json(command): Json<GuestCommand>,
) -> Result<Json<CommandOutput>, Failed> {
    let vm = group.vm(&vm)?;
    let agent = vm.view().borrow().agent.clone();
    let Some(agent) = agent else {
        if let Some(host) = &vm.host {
            let message =
                format!("VM {}: the group has no way to its agent: VM {} runs it", vm.name(), host.name());
            return Err(vm.failure(FailureKind::BadRequest, message).await.into());
        }
        return Err(vm.off("cannot ask its agent").await.into());
    };
    let limit = Duration::from_millis(command.limit_ms);
    let ran = agent.run(&AgentCommand::shell(command.line), limit, AGENT_STEP.min(limit)).await;
    match ran {
        Ok(output) => Ok(Json(CommandOutput {
            status: output.status.or(output.signal.map(|signal| 128 + signal)).unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })),
        Err(error) => {
            let kind = match &error {
                AgentError::NoAnswer { .. } | AgentError::StillRunning { .. } => FailureKind::TimedOut,
                AgentError::Closed { .. } => FailureKind::VmEnded,
                _ => FailureKind::Failed,
            };
            Err(vm.failure(kind, format!("VM {}: {}", vm.name(), chain(&error))).await.into())
        }
    }
}

async fn log_line(State(group): GroupState, Json(line): Json<LogLine>) -> Json<()> {
    group.log.test(line.function, line.message).await;
    Json(())
}

async fn value(State(group): GroupState, Path(key): Path<String>) -> Json<Option<serde_json::Value>> {
    Json(group.values.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned())
}

async fn put_value(
    State(group): GroupState,
    Path(key): Path<String>,
    Json(value): Json<serde_json::Value>,
) -> Json<()> {
    group.values.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    Json(())
}

async fn start_process(State(group): GroupState, Json(spec): Json<ProcessSpec>) -> Result<Response, Failed> {
    let (run, events) = group.jobs.start(spec)?;
    group.tasks.spawn(run);
    Ok(lines(stream::unfold(events, async |mut events| events.recv().await.map(|event| (event, events)))))
}

async fn note(
    State(group): GroupState,
    Path(pid): Path<i32>,
    Json(note): Json<Note>,
) -> Result<Json<()>, Failed> {
    if group.jobs.note(pid, note).await {
        return Ok(Json(()));
    }
    Err(bad_request(format!(
        "no program with the number {pid} was started through the control API\nhint: the number is the one inside the group"
    )))
}

async fn end_process(
    State(group): GroupState,
    Path(pid): Path<i32>,
    Json(ending): Json<Option<Ending>>,
) -> Result<Json<()>, Failed> {
    if group.jobs.end(pid, ending) {
        Ok(Json(()))
    } else {
        Err(bad_request(format!("no program with the number {pid} was started by this API, or it has ended")))
    }
}

async fn process_input(
    State(group): GroupState,
    Path(pid): Path<i32>,
    bytes: axum::body::Bytes,
) -> Result<Json<()>, Failed> {
    Ok(Json(group.jobs.send_input(pid, &bytes).await?))
}

async fn resize(
    State(group): GroupState,
    Path(pid): Path<i32>,
    Json(size): Json<TerminalSize>,
) -> Result<Json<()>, Failed> {
    Ok(Json(group.jobs.resize(pid, size)?))
}

async fn close_output(
    State(group): GroupState,
    Path((pid, stream)): Path<(i32, OutputStream)>,
) -> Result<Json<()>, Failed> {
    Ok(Json(group.jobs.close_output(pid, stream)?))
}

async fn faults(State(group): GroupState) -> Json<Vec<ActiveFault>> {
    Json(group.faults.active().await)
}

async fn begin_fault(
    State(group): GroupState,
    Json(request): Json<FaultRequest>,
) -> Result<Json<ActiveFault>, Failed> {
    Ok(Json(group.faults.begin(request, |pid| group.jobs.name(pid)).await?))
}

async fn undo_fault(State(group): GroupState, Path(id): Path<u32>) -> Result<Json<()>, Failed> {
    if group.files.undo(id).await? {
        return Ok(Json(()));
    }
    Ok(Json(group.faults.undo(id).await?))
}

async fn undo_faults(State(group): GroupState) -> Result<Json<Vec<ActiveFault>>, Failed> {
    Ok(Json(group.faults.undo_all().await?))
}

async fn keep_fault(State(group): GroupState, Path(id): Path<u32>) -> Result<Json<()>, Failed> {
    if group.files.keep(id).await {
        return Ok(Json(()));
    }
    Ok(Json(group.faults.keep(id).await?))
}

async fn files(State(group): GroupState) -> Json<Vec<FileStatus>> {
    Json(group.files.list())
}

async fn file(State(group): GroupState, Path(name): Path<String>) -> Result<Json<FileStatus>, Failed> {
    Ok(Json(group.files.get(&name)?))
}

async fn add_file(
    State(group): GroupState,
    Json(source): Json<FileSource>,
) -> Result<Json<FileStatus>, Failed> {
    Ok(Json(group.files.add(source).await?))
}

async fn remove_file(State(group): GroupState, Path(name): Path<String>) -> Result<Json<()>, Failed> {
    Ok(Json(group.files.remove(&name).await?))
}

async fn file_faults(State(group): GroupState) -> Json<Vec<ActiveFileFault>> {
    Json(group.files.faults().await)
}

async fn begin_file_fault(
    State(group): GroupState,
    Json(request): Json<FileFaultRequest>,
) -> Result<Json<ActiveFileFault>, Failed> {
    Ok(Json(group.files.begin(request, |pid| group.jobs.name(pid)).await?))
}

async fn undo_file_faults(State(group): GroupState) -> Result<Json<Vec<ActiveFileFault>>, Failed> {
    Ok(Json(group.files.undo_all().await?))
}

async fn add_source(State(group): GroupState, Json(address): Json<Ipv6Addr>) -> Result<Json<()>, Failed> {
    Ok(Json(group.sources.add(address).await?))
}

async fn names(State(group): GroupState) -> Json<NamesStatus> {
    Json(group.names.status().await)
}

async fn add_record(State(group): GroupState, Json(record): Json<Record>) -> Result<Json<()>, Failed> {
    Ok(Json(group.names.add(record).await?))
}

async fn remove_records(
    State(group): GroupState,
    Json(removal): Json<RecordRemoval>,
) -> Result<Json<Vec<Record>>, Failed> {
    Ok(Json(group.names.remove(&removal).await?))
}

async fn claim_resolver(State(group): GroupState, Json(address): Json<IpAddr>) -> Result<Json<()>, Failed> {
    Ok(Json(group.names.claim(address).await?))
}

async fn authority(State(group): GroupState) -> Json<AuthorityStatus> {
    Json(group.certificates.status())
}

async fn certificate(
    State(group): GroupState,
    Json(request): Json<CertificateRequest>,
) -> Result<Json<Certificate>, Failed> {
    Ok(Json(group.certificates.issue(&request).await?))
}

async fn records(State(group): GroupState) -> Result<Response, Failed> {
    let Some(records) = group.log.subscribe().await else {
        return Err(bad_request("the group is ending"));
    };
    Ok(lines(received(records).map(|record| record.as_ref().clone())))
}

async fn freeze_group(
    State(group): GroupState,
    Json(request): Json<FreezeRequest>,
) -> Result<Json<Freeze>, Failed> {
    // It is carried to its end even if nobody waits for it any more: half of it would be a group
    // that stands still.
    let tasks = group.tasks.clone();
    let frozen = tasks.spawn(async move { freeze::freeze(&group, request).await }).await;
    Ok(Json(frozen.map_err(|error| bad_request(error.to_string()))??))
}

async fn thaw(State(group): GroupState) -> Result<Json<()>, Failed> {
    let tasks = group.tasks.clone();
    let thawed = tasks.spawn(async move { freeze::thaw(&group).await }).await;
    Ok(Json(thawed.map_err(|error| bad_request(error.to_string()))??))
}

async fn freezes(State(group): GroupState) -> Json<Vec<Freeze>> {
    Json(group.freezes.summaries())
}

async fn frozen(State(group): GroupState, Path(id): Path<String>) -> Result<Json<FrozenGroup>, Failed> {
    Ok(Json(group.freezes.description(&id)?))
}

async fn forget(State(group): GroupState, Path(id): Path<String>) -> Result<Json<()>, Failed> {
    Ok(Json(group.freezes.forget(&id)?))
}

async fn teardown(State(group): GroupState) -> Json<()> {
    // Once is enough; the channel holds one.
    let _ = group.teardown.try_send(());
    Json(())
}

/// What comes from now on. Who reads too slowly misses some; the files have all.
fn received<T: Clone + Send + 'static>(
    receiver: broadcast::Receiver<T>,
) -> impl futures::Stream<Item = T> + Send + 'static {
    stream::unfold(receiver, async |mut receiver| {
        loop {
            match receiver.recv().await {
                Ok(value) => return Some((value, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
}

/// What a console says from now on, byte by byte.
async fn console_output(State(group): GroupState, Path(vm): Path<String>) -> Result<Response, Failed> {
    let output = group.vm(&vm)?.output.subscribe();
    let pieces = received(output).map(Ok::<_, std::convert::Infallible>);
    Ok(Body::from_stream(pieces).into_response())
}

async fn console_input(
    State(group): GroupState,
    Path(vm): Path<String>,
    bytes: axum::body::Bytes,
) -> Result<Json<()>, Failed> {
    group.vm(&vm)?.type_on_console(bytes.to_vec()).await?;
    Ok(Json(()))
}

/// A body of JSON Lines.
fn lines<T: Serialize>(values: impl futures::Stream<Item = T> + Send + 'static) -> Response {
    let encoded = values.map(|value| {
        serde_json::to_vec(&value).map(|mut line| {
            line.push(b'\n');
            line
        })
    });
    ([("content-type", "application/jsonl")], Body::from_stream(encoded)).into_response()
}
