//! What is asked of a group by those who share no files with it: its log, frozen groups, files, images, and
//! connections to its guests, each through the control API.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use camino::Utf8Path;
use futures::{Stream, stream};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use steading_api::{FailureKind, chain};
use steading_plan::{Handle, Plan, Sha256};
use steading_vm::image::ImageCache;
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::failed::{Failed, bad_request, failed};
use crate::group::OwnedGroup;
use crate::stored::pack;

type GroupState = State<Arc<OwnedGroup>>;

/// The name of the log in its directory.
const LOG: &str = "log.jsonl";

/// How much of a file is sent at once, in bytes.
const PIECE: usize = 64 * 1024;

/// How long a guest may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// The plan.
pub(crate) async fn facts(State(group): GroupState) -> Json<Plan> {
    Json(group.plan.clone())
}

/// Where a log is read from.
#[derive(Deserialize)]
pub(crate) struct LogQuery {
    /// An offset, in bytes.
    #[serde(default)]
    from: u64,
    /// Whether the stream goes on until the group ends, or ends with what is written by now.
    #[serde(default = "yes")]
    follow: bool,
}

const fn yes() -> bool {
    true
}

/// The bytes of the log from an offset on, until the group ends.
pub(crate) async fn log(
    State(group): GroupState,
    Query(LogQuery { from, follow }): Query<LogQuery>,
) -> Result<Response, Failed> {
    let path = Utf8Path::new(&group.log_dir).join(LOG);
    let cannot = |error: io::Error| failed(FailureKind::Failed, format!("cannot read {path}: {error}"));
    let mut file = fs_err::File::open(&path).map_err(cannot)?.into_parts().0;
    let length = file.metadata().map_err(cannot)?.len();
    if from > length {
        return Err(bad_request(format!("the log has {length} bytes, and byte {from} was asked for")));
    }
    file.seek(SeekFrom::Start(from)).map_err(cannot)?;
    let flushes = if follow {
        group.log.flushes().await.ok_or_else(|| bad_request("the group is ending"))?
    } else {
        group.log.flush().await;
        watch::channel(0).1
    };
    // It is waited for until the stream is dropped, which is after its last byte.
    let token = group.log_streams.token();
    let bytes = followed(file, flushes);
    let bytes = futures::StreamExt::inspect(bytes, move |_| {
        let _ = &token;
    });
    Ok(jsonl(Body::from_stream(bytes)))
}

/// What a file has from here on, and what is flushed to it, until nobody writes any more.
fn followed(
    file: File,
    flushes: watch::Receiver<u64>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let read = |file: Arc<File>| {
        tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let length = (&*file).read(&mut piece)?;
            piece.truncate(length);
            io::Result::Ok(piece)
        })
    };
    stream::unfold((Arc::new(file), flushes, false), move |(file, mut flushes, mut is_whole)| async move {
        loop {
            match read(Arc::clone(&file)).await.map_err(io::Error::other).and_then(|piece| piece) {
                Ok(piece) if piece.is_empty() && is_whole => return None,
                // More comes, or the rest was written just now.
                Ok(piece) if piece.is_empty() => is_whole = flushes.changed().await.is_err(),
                Ok(piece) => return Some((Ok(piece.into()), (file, flushes, is_whole))),
                Err(error) => return Some((Err(error), (file, flushes, true))),
            }
        }
    })
}

/// What an archive is to hold.
#[derive(Deserialize)]
pub(crate) struct ArchiveQuery {
    /// Whether the images of disks are in it.
    #[serde(default)]
    images: bool,
}

/// A frozen group as one file.
pub(crate) async fn archive(
    State(group): GroupState,
    Path(id): Path<String>,
    Query(ArchiveQuery { images }): Query<ArchiveQuery>,
) -> Result<Response, Failed> {
    let opened = group.freezes.open(&id)?;
    let cannot = |error: io::Error| failed(FailureKind::Failed, format!("cannot send {id}: {error}"));
    let (reader, writer) = io::pipe().map_err(cannot)?;
    let reader = pipe::Receiver::from_owned_fd(reader.into()).map_err(cannot)?;
    let packed = tokio::task::spawn_blocking(move || {
        pack(&opened, None, writer, |handle| images || handle != Handle::Image)
    });
    let pieces = stream::unfold((reader, Some(packed)), async |(mut reader, packed)| {
        let mut piece = vec![0; PIECE];
        match tokio::io::AsyncReadExt::read(&mut reader, &mut piece).await {
            Ok(0) => {
                // The archive is whole, or the stream breaks: a reader must see which.
                let packed = packed?.await.map_err(io::Error::other).and_then(|packed| packed);
                packed.err().map(|error| (Err(error), (reader, None)))
            }
            Ok(length) => {
                piece.truncate(length);
                Some((Ok(Bytes::from(piece)), (reader, packed)))
            }
            Err(error) => Some((Err(error), (reader, None))),
        }
    });
    Ok(octets(Body::from_stream(pieces)))
}

/// A served file, or an image of a VM, by the digest of its source. Images are sent as they are unpacked.
pub(crate) async fn blob(State(group): GroupState, Path(sha256): Path<String>) -> Result<Response, Failed> {
    let sha256: Sha256 = sha256.parse().map_err(|error| bad_request(chain(&error)))?;
    let file = match group.files.open(&sha256) {
        Some(file) => file?,
        None if group.images.values().any(|image| *image == sha256) => image(&sha256)?,
        None => {
            let message = format!("the group has no file and no image with the SHA-256 {sha256}");
            return Err(bad_request(message));
        }
    };
    let (_, closed) = watch::channel(0);
    Ok(octets(Body::from_stream(followed(file, closed))))
}

fn image(sha256: &Sha256) -> Result<File, Failed> {
    let found = ImageCache::open(&ImageCache::default_dir()).and_then(|cache| cache.find(sha256));
    let opened = found.and_then(|image| image.map(|image| image.open()).transpose());
    match opened {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(failed(FailureKind::Failed, format!("image {sha256} is no longer in the cache"))),
        Err(error) => Err(failed(FailureKind::Failed, chain(&error))),
    }
}

/// A TCP connection to a guest: the request becomes that (RFC 9110, section 7.8).
pub(crate) async fn connect(
    State(group): GroupState,
    Path((vm, port)): Path<(String, u16)>,
    mut request: Request,
) -> Result<Response, Failed> {
    let vm = group.vm(&vm)?;
    let target = std::net::SocketAddr::from((vm.plan.address, port));
    let refused =
        |kind, why: String| failed(kind, format!("VM {}: cannot connect to port {port}: {why}", vm.name()));
    let mut guest = match tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(target)).await {
        Ok(Ok(guest)) => guest,
        Ok(Err(error)) => return Err(refused(FailureKind::Failed, error.to_string())),
        Err(_) => {
            let why = format!("no answer within {} s", CONNECT_LIMIT.as_secs());
            return Err(refused(FailureKind::TimedOut, why));
        }
    };
    let upgrade = hyper::upgrade::on(&mut request);
    group.tasks.spawn(async move {
        // The asker may have gone; either end closes both.
        if let Ok(upgraded) = upgrade.await {
            let mut asker = TokioIo::new(upgraded);
            let _ = tokio::io::copy_bidirectional(&mut asker, &mut guest).await;
        }
    });
    let headers = [("connection", "upgrade"), ("upgrade", "tcp")];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn jsonl(body: Body) -> Response {
    ([("content-type", "application/jsonl")], body).into_response()
}

fn octets(body: Body) -> Response {
    ([("content-type", "application/octet-stream")], body).into_response()
}
