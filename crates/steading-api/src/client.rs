//! The client of the control API.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use steading_plan::{FileSource, Record, Sha256};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::{
    ActiveFault, ActiveFileFault, AuthorityStatus, Certificate, CertificateRequest, CommandOutput,
    ConsoleMatch, ConsoleWait, Ended, Ending, Endpoint, Failure, FailureKind, FaultRequest, FileFaultRequest,
    FileStatus, Freeze, FreezeRequest, GroupStatus, GuestCommand, LineDecoder, LogLine, NamesStatus, Note,
    OutputStream, ProcessEvent, ProcessSpec, RecordRemoval, Screenshot, TerminalSize, VmStatus, VmVerb,
};

/// A request that brought no answer, or a bad one.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "cannot reach the group's owner at {endpoint}\nhint: the group has ended, or was started by another user"
    )]
    Unreachable {
        /// Where it was expected to listen.
        endpoint: Endpoint,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the group's owner broke off its answer: the group has ended")]
    Broken(#[from] hyper::Error),
    /// A stream came to an end that nobody announced.
    #[error("the group has ended")]
    Ended,
    /// The answer is of another kind than was expected.
    #[error(
        "the group's owner gave an answer that this program does not understand\nhint: are both of the same version?"
    )]
    Answer(#[from] serde_json::Error),
    /// What was asked for did not succeed.
    #[error("{}", Shown(.0))]
    Failed(Failure),
}

impl ClientError {
    /// What kind of failure the owner reported, if it did.
    pub fn kind(&self) -> Option<FailureKind> {
        match self {
            Self::Failed(failure) => Some(failure.kind),
            Self::Unreachable { .. } | Self::Broken(_) | Self::Ended | Self::Answer(_) => None,
        }
    }
}

struct Shown<'a>(&'a Failure);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if !self.0.console.is_empty() {
            f.write_str("\nthe last lines of its console:")?;
        }
        for line in &self.0.console {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// A client of one group. Each request has a connection of its own: they are cheap, and a long
/// wait holds up nobody.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
}

impl Client {
    /// A client of the group whose owner listens there. A text is the path of a unix socket.
    pub fn new(endpoint: impl Into<Endpoint>) -> Self {
        Self { endpoint: endpoint.into() }
    }

    /// Where the owner listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What the group is and how it does.
    pub async fn status(&self) -> Result<GroupStatus, ClientError> {
        self.get("/group").await
    }

    /// The plan of the group, as the owner wrote it for programs of any language: a JSON document.
    pub async fn facts(&self) -> Result<serde_json::Value, ClientError> {
        self.get("/facts").await
    }

    /// The bytes of `log.jsonl` from this offset on, until the group ends. A stream that broke is resumed at the
    /// offset behind the last byte that came.
    pub async fn log_from(&self, from: u64) -> Result<Bytestream, ClientError> {
        self.bytes(Method::GET, &format!("/log?from={from}"), b"").await
    }

    /// The bytes of `log.jsonl` from this offset on, as far as it is written by now.
    pub async fn log_until_now(&self, from: u64) -> Result<Bytestream, ClientError> {
        self.bytes(Method::GET, &format!("/log?from={from}&follow=false"), b"").await
    }

    /// What the group keeps under the name of this freeze, as a file for `steading resume`; without the logs of
    /// the run. `images` says whether it holds the images of disks.
    pub async fn archive(&self, id: &str, images: bool) -> Result<Bytestream, ClientError> {
        self.bytes(Method::GET, &format!("/frozen/{}/archive?images={images}", encoded(id)), b"").await
    }

    /// The bytes of a file that the group's file server has, or of an image that a VM started from, by the SHA-256
    /// of its source.
    pub async fn blob(&self, sha256: &Sha256) -> Result<Bytestream, ClientError> {
        self.bytes(Method::GET, &format!("/blobs/{sha256}"), b"").await
    }

    /// Connects to a TCP port of a guest, through the owner.
    pub async fn connect(&self, vm: &str, port: u16) -> Result<GuestConnection, ClientError> {
        let target = format!("/vms/{}/tcp/{port}", encoded(vm));
        let (response, connection) = self.send_and(true, Method::POST, &target, b"").await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(failure(&response.into_body().collect().await?.to_bytes()));
        }
        let upgraded = hyper::upgrade::on(response).await?;
        Ok(GuestConnection { stream: TokioIo::new(upgraded), _connection: connection })
    }

    /// How one VM does.
    pub async fn vm(&self, vm: &str) -> Result<VmStatus, ClientError> {
        self.get(&format!("/vms/{}", encoded(vm))).await
    }

    /// Does something to a VM.
    pub async fn act(&self, vm: &str, verb: VmVerb) -> Result<VmStatus, ClientError> {
        self.post(&format!("/vms/{}/{}", encoded(vm), verb.as_str()), &()).await
    }

    /// Waits until the VM is off, however long that takes.
    pub async fn ended(&self, vm: &str) -> Result<Ended, ClientError> {
        self.get(&format!("/vms/{}/ended", encoded(vm))).await
    }

    /// Waits until a VM is in this boot or a later one, however long that takes. Ends with the VM.
    pub async fn booted(&self, vm: &str, boot: u32) -> Result<VmStatus, ClientError> {
        self.get(&format!("/vms/{}/booted/{boot}", encoded(vm))).await
    }

    /// The last lines of a VM's console.
    pub async fn console_tail(&self, vm: &str) -> Result<Vec<String>, ClientError> {
        self.get(&format!("/vms/{}/console", encoded(vm))).await
    }

    /// What a VM's console says from now on.
    pub async fn console_output(&self, vm: &str) -> Result<Bytestream, ClientError> {
        self.bytes(Method::GET, &format!("/vms/{}/console/output", encoded(vm)), &[]).await
    }

    /// Types on a VM's console.
    pub async fn type_on_console(&self, vm: &str, bytes: &[u8]) -> Result<(), ClientError> {
        self.exchange(Method::POST, &format!("/vms/{}/console/input", encoded(vm)), bytes).await
    }

    /// Waits for a text on a VM's console.
    pub async fn wait_for_console(&self, vm: &str, wait: &ConsoleWait) -> Result<ConsoleMatch, ClientError> {
        self.post(&format!("/vms/{}/console/wait", encoded(vm)), wait).await
    }

    /// Runs a command in the guest by its agent, which needs no network.
    pub async fn agent(&self, vm: &str, command: &GuestCommand) -> Result<CommandOutput, ClientError> {
        self.post(&format!("/vms/{}/agent", encoded(vm)), command).await
    }

    /// Takes a picture of a VM's display.
    pub async fn screenshot(&self, vm: &str) -> Result<Screenshot, ClientError> {
        self.get(&format!("/vms/{}/screenshot", encoded(vm))).await
    }

    /// Writes a line to the log.
    pub async fn log(&self, line: &LogLine) -> Result<(), ClientError> {
        self.post("/log", line).await
    }

    /// Keeps a value for other test functions.
    pub async fn put_value(&self, key: &str, value: &serde_json::Value) -> Result<(), ClientError> {
        self.post(&format!("/values/{}", encoded(key)), value).await
    }

    /// A value that another test function kept.
    pub async fn value(&self, key: &str) -> Result<Option<serde_json::Value>, ClientError> {
        self.get(&format!("/values/{}", encoded(key))).await
    }

    /// Starts a program inside the group. It is ended when the stream is dropped.
    pub async fn start_process(&self, spec: &ProcessSpec) -> Result<Lines<ProcessEvent>, ClientError> {
        self.lines(Method::POST, "/processes", &serde_json::to_vec(spec)?).await
    }

    /// Kills a program inside the group, with all that it started.
    pub async fn end_process(&self, pid: i32) -> Result<(), ClientError> {
        self.post(&format!("/processes/{pid}/end"), &None::<Ending>).await
    }

    /// Sends a program inside the group a signal, and kills it when it has not ended in time.
    pub async fn ask_process_to_end(&self, pid: i32, ending: Ending) -> Result<(), ClientError> {
        self.post(&format!("/processes/{pid}/end"), &Some(ending)).await
    }

    /// Gives a program inside the group this as input; returns when the program's pipe or terminal has
    /// taken it. Nothing means that there is no more.
    pub async fn send_input(&self, pid: i32, bytes: &[u8]) -> Result<(), ClientError> {
        self.exchange(Method::POST, &format!("/processes/{pid}/input"), bytes).await
    }

    /// Gives a program's terminal another size.
    pub async fn resize(&self, pid: i32, size: TerminalSize) -> Result<(), ClientError> {
        self.post(&format!("/processes/{pid}/size"), &size).await
    }

    /// Reads an output of a program no further: writing there fails from now on, as in a pipe whose
    /// reader has gone.
    pub async fn close_output(&self, pid: i32, stream: OutputStream) -> Result<(), ClientError> {
        self.post(&format!("/processes/{pid}/close/{}", stream.as_str()), &()).await
    }

    /// Tells those who started this program something about it.
    pub async fn note(&self, pid: i32, note: &Note) -> Result<(), ClientError> {
        self.post(&format!("/processes/{pid}/note"), note).await
    }

    /// The records of the log from now on, as JSON values.
    pub async fn records(&self) -> Result<Lines<serde_json::Value>, ClientError> {
        self.lines(Method::GET, "/records", &[]).await
    }

    /// Makes a fault of the group's network.
    pub async fn begin_fault(&self, request: &FaultRequest) -> Result<ActiveFault, ClientError> {
        self.post("/faults", request).await
    }

    /// The faults that are active.
    pub async fn faults(&self) -> Result<Vec<ActiveFault>, ClientError> {
        self.get("/faults").await
    }

    /// Undoes a fault.
    pub async fn undo_fault(&self, id: u32) -> Result<(), ClientError> {
        self.post(&format!("/faults/{id}/undo"), &()).await
    }

    /// Undoes all faults, and says which they were.
    pub async fn undo_faults(&self) -> Result<Vec<ActiveFault>, ClientError> {
        self.post("/faults/undo", &()).await
    }

    /// Has a fault stay when the program that asked for it has ended.
    pub async fn keep_fault(&self, id: u32) -> Result<(), ClientError> {
        self.post(&format!("/faults/{id}/keep"), &()).await
    }

    /// What the file server serves.
    pub async fn files(&self) -> Result<Vec<FileStatus>, ClientError> {
        self.get("/files").await
    }

    /// A file by its name or digest, which can be downloaded now.
    pub async fn file(&self, name: &str) -> Result<FileStatus, ClientError> {
        self.get(&format!("/files/{}", encoded(name))).await
    }

    /// Serves one more file. Its path is absolute.
    pub async fn add_file(&self, source: &FileSource) -> Result<FileStatus, ClientError> {
        self.post("/files", source).await
    }

    /// Serves a file no longer.
    pub async fn remove_file(&self, name: &str) -> Result<(), ClientError> {
        self.post(&format!("/files/{}/remove", encoded(name)), &()).await
    }

    /// Has the file server misbehave. It is undone, or kept, as a fault of the network is.
    pub async fn begin_file_fault(&self, request: &FileFaultRequest) -> Result<ActiveFileFault, ClientError> {
        self.post("/file-faults", request).await
    }

    /// How the file server misbehaves just now.
    pub async fn file_faults(&self) -> Result<Vec<ActiveFileFault>, ClientError> {
        self.get("/file-faults").await
    }

    /// Has the file server behave, and says what is undone.
    pub async fn undo_file_faults(&self) -> Result<Vec<ActiveFileFault>, ClientError> {
        self.post("/file-faults/undo", &()).await
    }

    /// Makes this an address of the driver, to speak to VMs from.
    pub async fn add_source(&self, address: Ipv6Addr) -> Result<(), ClientError> {
        self.post("/sources", &address).await
    }

    /// What the group's DNS answers with.
    pub async fn names(&self) -> Result<NamesStatus, ClientError> {
        self.get("/names").await
    }

    /// Adds a record. Every question from now on is answered with it.
    pub async fn add_record(&self, record: &Record) -> Result<(), ClientError> {
        self.post("/names", record).await
    }

    /// Removes records, and says which they were.
    pub async fn remove_records(&self, removal: &RecordRemoval) -> Result<Vec<Record>, ClientError> {
        self.post("/names/remove", removal).await
    }

    /// Has the group's DNS answer at this address, too.
    pub async fn claim_resolver(&self, address: IpAddr) -> Result<(), ClientError> {
        self.post("/resolvers", &address).await
    }

    /// The group's certificate authority.
    pub async fn authority(&self) -> Result<AuthorityStatus, ClientError> {
        self.get("/authority").await
    }

    /// A certificate for names of the group.
    pub async fn certificate(&self, request: &CertificateRequest) -> Result<Certificate, ClientError> {
        self.post("/certificates", request).await
    }

    /// Freezes the group: all VMs at one instant. It goes on, unless it is to stand.
    pub async fn freeze(&self, request: &FreezeRequest) -> Result<Freeze, ClientError> {
        self.post("/frozen", request).await
    }

    /// Lets a group that stands frozen go on, as the first fork of what was kept.
    pub async fn thaw(&self) -> Result<(), ClientError> {
        self.post("/thaw", &()).await
    }

    /// What was kept of the group under this name, to fork from, as a JSON value; its files are
    /// open in the owner's process.
    pub async fn frozen(&self, id: &str) -> Result<serde_json::Value, ClientError> {
        self.get(&format!("/frozen/{}", encoded(id))).await
    }

    /// Everything that was kept of the group.
    pub async fn freezes(&self) -> Result<Vec<Freeze>, ClientError> {
        self.get("/frozen").await
    }

    /// Keeps it no longer. Forks of it go on.
    pub async fn forget(&self, id: &str) -> Result<(), ClientError> {
        self.post(&format!("/frozen/{}/forget", encoded(id)), &()).await
    }

    /// Ends the group in an orderly way.
    pub async fn tear_down(&self) -> Result<(), ClientError> {
        self.post("/teardown", &()).await
    }

    async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        self.exchange(Method::GET, target, &[]).await
    }

    async fn post<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.exchange(Method::POST, target, &serde_json::to_vec(body)?).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: &[u8],
    ) -> Result<T, ClientError> {
        let (response, _connection) = self.send(method, target, body).await?;
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        if status == StatusCode::OK {
            return Ok(serde_json::from_slice(&bytes)?);
        }
        Err(failure(&bytes))
    }

    async fn lines<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: &[u8],
    ) -> Result<Lines<T>, ClientError> {
        let bytes = self.bytes(method, target, body).await?;
        Ok(Lines { bytes, decoder: LineDecoder::new(), kind: std::marker::PhantomData })
    }

    async fn bytes(&self, method: Method, target: &str, body: &[u8]) -> Result<Bytestream, ClientError> {
        let (response, connection) = self.send(method, target, body).await?;
        if response.status() != StatusCode::OK {
            return Err(failure(&response.into_body().collect().await?.to_bytes()));
        }
        Ok(Bytestream { body: response.into_body(), _connection: connection })
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        body: &[u8],
    ) -> Result<(Response<Incoming>, JoinSet<()>), ClientError> {
        self.send_and(false, method, target, body).await
    }

    /// `upgrade`: the connection is to become another (RFC 9110, section 7.8).
    async fn send_and(
        &self,
        upgrade: bool,
        method: Method,
        target: &str,
        body: &[u8],
    ) -> Result<(Response<Incoming>, JoinSet<()>), ClientError> {
        let Endpoint::Unix(path) = &self.endpoint;
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| ClientError::Unreachable { endpoint: self.endpoint.clone(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Its error reaches the caller by the sender.
            let _ = connection.with_upgrades().await;
        });
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "group")
            .header("content-type", "application/json");
        let request =
            if upgrade { request.header("connection", "upgrade").header("upgrade", "tcp") } else { request };
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .expect("methods, targets and headers here are valid");
        Ok((sender.send_request(request).await?, task))
    }
}

/// A word of a path, whatever is in it (RFC 3986, section 2.1).
fn encoded(word: &str) -> PercentEncode<'_> {
    utf8_percent_encode(word, NON_ALPHANUMERIC)
}

fn failure(bytes: &[u8]) -> ClientError {
    match serde_json::from_slice(bytes) {
        Ok(failure) => ClientError::Failed(failure),
        Err(_) => ClientError::Failed(Failure::new(
            FailureKind::BadRequest,
            String::from_utf8_lossy(bytes).into_owned(),
        )),
    }
}

/// A stream of bytes.
#[derive(Debug)]
pub struct Bytestream {
    body: Incoming,
    /// The connection lives as long as the stream.
    _connection: JoinSet<()>,
}

impl Bytestream {
    /// The next bytes; none when the stream has ended.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// A TCP connection to a guest, through the owner of its group.
#[derive(Debug)]
pub struct GuestConnection {
    stream: TokioIo<Upgraded>,
    /// What carries it lives as long.
    _connection: JoinSet<()>,
}

impl AsyncRead for GuestConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for GuestConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream of JSON values, one a line.
#[derive(Debug)]
pub struct Lines<T> {
    bytes: Bytestream,
    decoder: LineDecoder,
    kind: std::marker::PhantomData<T>,
}

impl<T: DeserializeOwned> Lines<T> {
    /// The next value; none when the stream has ended.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(value) = self.decoder.next_value()? {
                return Ok(Some(value));
            }
            match self.bytes.next().await? {
                None => return Ok(None),
                Some(data) => self.decoder.push(&data),
            }
        }
    }
}
