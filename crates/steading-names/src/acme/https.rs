//! The sockets of the ACME server.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LINK, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{Acme, DIRECTORY, Problem, Reply, ReplyBody};
use crate::connections::serve_all;

/// The port of HTTPS.
pub const PORT: u16 = 443;

/// How long a client may take to shake hands, and for each request's head.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest request.
const REQUEST_MAX: usize = 64 * 1024;

/// How many connections there may be. More wait in the kernel.
const CONNECTIONS: usize = 64;

/// What requests are in (RFC 8555, section 6.2).
const JOSE: &str = "application/jose+json";

/// The sockets of one address.
pub struct AcmeListener {
    listener: TcpListener,
    tls: TlsAcceptor,
    acme: Arc<Acme>,
}

impl AcmeListener {
    /// Listens at this address, with what TLS needs.
    ///
    /// # Errors
    ///
    /// When somebody else does, or it is not the host's.
    pub async fn bind_port(
        address: SocketAddr,
        tls: &Arc<rustls::ServerConfig>,
        acme: Arc<Acme>,
    ) -> io::Result<Self> {
        Ok(Self::at(TcpListener::bind(address).await?, tls, acme))
    }

    /// Listens by this socket, which somebody has bound.
    pub fn at(listener: TcpListener, tls: &Arc<rustls::ServerConfig>, acme: Arc<Acme>) -> Self {
        Self { listener, tls: TlsAcceptor::from(Arc::clone(tls)), acme }
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves for as long as it is let.
    pub async fn run(self) -> Infallible {
        let Self { listener, tls, acme } = self;
        serve_all(&listener, CONNECTIONS, |stream| serve(stream, tls.clone(), Arc::clone(&acme))).await
    }
}

async fn serve(stream: TcpStream, tls: TlsAcceptor, acme: Arc<Acme>) {
    let stream = match timeout(PATIENCE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            acme.tell(format!(
                "an ACME client breaks off: {error}\nhint: does it trust the group's authority?"
            ));
            return;
        }
        Err(_) => return,
    };
    let service = service_fn(move |request| {
        let acme = Arc::clone(&acme);
        async move { Ok::<_, Infallible>(answer(&acme, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    // Its end is the client's affair.
    let _ = connection.await;
}

async fn answer(acme: &Acme, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let reply = match method {
        Method::GET => acme.get(&path),
        Method::HEAD => match acme.get(&path) {
            // RFC 8555, section 7.2.
            reply if reply.status == 204 => Reply { status: 200, ..reply },
            reply => reply,
        },
        Method::POST => post(acme, &path, request).await,
        _ => Problem::new(405, "malformed", "GET, HEAD and POST are understood".to_owned()).into(),
    };
    let mut response = respond(acme, &path, reply);
    if method == Method::HEAD {
        *response.body_mut() = Full::default();
    }
    response
}

async fn post(acme: &Acme, path: &str, request: Request<Incoming>) -> Reply {
    let is_jose = request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == JOSE);
    if !is_jose {
        return Problem::new(415, "malformed", format!("a request is in {JOSE}")).into();
    }
    match Limited::new(request.into_body(), REQUEST_MAX).collect().await {
        Ok(body) => acme.post(path, &body.to_bytes()).await,
        Err(_) => {
            Problem::new(413, "malformed", format!("the request is longer than {REQUEST_MAX} bytes")).into()
        }
    }
}

fn respond(acme: &Acme, path: &str, reply: Reply) -> Response<Full<Bytes>> {
    let (kind, body) = match reply.body {
        ReplyBody::Json(value) => (Some("application/json"), value.to_string()),
        ReplyBody::Problem(problem) => (Some("application/problem+json"), problem.json().to_string()),
        ReplyBody::Pem(pem) => (Some("application/pem-certificate-chain"), pem),
        ReplyBody::Nothing => (None, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(location) = reply.location.and_then(|url| HeaderValue::try_from(url).ok()) {
        headers.insert(LOCATION, location);
    }
    if let Ok(link) = HeaderValue::try_from(format!("<{}>;rel=\"index\"", acme.directory_url())) {
        headers.append(LINK, link);
    }
    if let Some(link) = reply.up.and_then(|url| HeaderValue::try_from(format!("<{url}>;rel=\"up\"")).ok()) {
        headers.append(LINK, link);
    }
    if path != DIRECTORY
        && let Ok(nonce) = HeaderValue::try_from(acme.nonce())
    {
        headers.insert("replay-nonce", nonce);
    }
    response
}
