//! HTTP from a test to VMs: with the names of the group, and from an address that the test chooses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::de::DeserializeOwned;

use crate::session::Session;

pub use reqwest::Method;

/// How much of an answer's body an error shows, in characters.
const SHOWN: usize = 500;

/// From which address of the driver's a request comes. Firewalls treat them as they please.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// That of the test's own traffic.
    #[default]
    Management,
    /// That of log streams.
    Logs,
    /// That of the file server.
    Files,
    /// Another, outside the VMs' own prefix; the driver gets it when it is first used.
    Address(Ipv6Addr),
}

impl Source {
    /// The address, which is the driver's from now on.
    pub(crate) fn ensure(self, session: &Session) -> anyhow::Result<Ipv6Addr> {
        let addresses = &session.status.plan.addresses;
        Ok(match self {
            Self::Management => addresses.management,
            Self::Logs => addresses.logs,
            Self::Files => addresses.files,
            Self::Address(address) => {
                session.runtime.block_on(session.client.add_source(address))?;
                address
            }
        })
    }
}

/// Makes a client as it is wanted.
#[must_use]
pub struct HttpClientBuilder {
    session: Arc<Session>,
    source: Source,
    limit: Duration,
    roots: Vec<CertificateDer<'static>>,
}

/// Asks servers of VMs over HTTP and HTTPS. Connections are kept for later requests.
#[derive(Clone)]
pub struct HttpClient {
    session: Arc<Session>,
    client: reqwest::Client,
    limit: Duration,
}

/// A request that is about to be sent.
#[must_use]
pub struct HttpRequest {
    client: HttpClient,
    builder: reqwest::RequestBuilder,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    url: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl HttpClientBuilder {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        let limit = session.limit;
        Self { session, source: Source::default(), limit, roots: Vec::new() }
    }

    /// Has requests come from this address.
    pub fn source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// Gives each request so long, its answer included.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Trusts servers whose certificates come from these authorities (PEM, one or several), beside the
    /// group's own. Nobody else is trusted: there is no network in which others could be met.
    ///
    /// # Errors
    ///
    /// When there is no certificate in it.
    pub fn trust(mut self, pem: impl AsRef<[u8]>) -> anyhow::Result<Self> {
        let before = self.roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_ref()) {
            self.roots.push(certificate.context("cannot read a certificate to trust")?);
        }
        anyhow::ensure!(
            self.roots.len() > before,
            "there is no certificate to trust in what was given\nhint: PEM is wanted, which begins with -----BEGIN CERTIFICATE-----"
        );
        Ok(self)
    }

    /// Makes the client.
    ///
    /// # Errors
    ///
    /// When the driver cannot have the address, or a certificate is no authority's.
    pub fn build(self) -> anyhow::Result<HttpClient> {
        let Self { session, source, limit, roots } = self;
        let address = source.ensure(&session)?;
        let group = session.runtime.block_on(session.client.authority())?;
        let group = CertificateDer::from_pem_slice(group.certificate.as_bytes());
        let mut store = rustls::RootCertStore::empty();
        store.add(group.context("cannot read the certificate of the group's authority")?)?;
        for root in roots {
            store.add(root).context("cannot trust a certificate")?;
        }
        let tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(store)
                .with_no_client_auth();
        // Its tasks run on the event loop of all handles.
        let entered = session.runtime.enter();
        let resolver = GroupNames::new(session.status.plan.addresses.gateway)?;
        let client = reqwest::Client::builder()
            .local_address(IpAddr::V6(address))
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(resolver))
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        drop(entered);
        Ok(HttpClient { session, client, limit })
    }
}

impl HttpClient {
    /// Asks for a URL. Any answer is one, whatever its status.
    ///
    /// # Errors
    ///
    /// When there is no whole answer in time.
    pub fn get(&self, url: impl AsRef<str>) -> anyhow::Result<HttpResponse> {
        self.request(Method::GET, url).send()
    }

    /// A request with whatever it needs.
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> HttpRequest {
        HttpRequest { client: self.clone(), builder: self.client.request(method, url.as_ref()) }
    }
}

impl HttpRequest {
    /// With one more field in its head.
    pub fn header(self, name: &str, value: &str) -> Self {
        Self { builder: self.builder.header(name, value), ..self }
    }

    /// With this body.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { builder: self.builder.body(body.into()), ..self }
    }

    /// Sends it, and waits for the whole answer, whatever its status.
    ///
    /// # Errors
    ///
    /// When there is no whole answer in time.
    pub fn send(self) -> anyhow::Result<HttpResponse> {
        let Self { client: HttpClient { session, limit, .. }, builder } = self;
        let left = session.end.map(|end| end.saturating_duration_since(Instant::now()));
        let limit = left.map_or(limit, |left| limit.min(left));
        session.runtime.block_on(async {
            let response = builder.timeout(limit).send().await.map_err(|error| explained(&error))?;
            let url = response.url().to_string();
            let status = response.status().as_u16();
            let text =
                |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers =
                response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            let body = response.bytes().await.map_err(|error| explained(&error))?.to_vec();
            Ok(HttpResponse { url, status, headers, body })
        })
    }
}

/// What went wrong, each cause said once.
fn explained(error: &reqwest::Error) -> anyhow::Error {
    anyhow::anyhow!(steading_api::chain(error))
}

impl HttpResponse {
    /// The status (RFC 9110, section 15).
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A field of the head, if it is there; its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as text; what is none is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body's value, in JSON.
    ///
    /// # Errors
    ///
    /// When it is none, or of another type.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!("{} did not answer with the JSON that is wanted: {}", self.url, self.shown())
        })
    }

    /// The same answer, if its status is one of success.
    ///
    /// # Errors
    ///
    /// When it is none; the error shows the answer.
    pub fn succeed(self) -> anyhow::Result<Self> {
        anyhow::ensure!(
            (200..300).contains(&self.status),
            "{} answered with status {}: {}",
            self.url,
            self.status,
            self.shown()
        );
        Ok(self)
    }

    fn shown(&self) -> String {
        self.text().trim_end().chars().take(SHOWN).collect()
    }
}

/// Asks the group's own name server; the host's knows none of its names.
struct GroupNames(TokioResolver);

impl GroupNames {
    fn new(server: Ipv6Addr) -> anyhow::Result<Self> {
        let servers = vec![NameServerConfig::udp_and_tcp(server.into())];
        let config = ResolverConfig::from_name_servers(servers);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build();
        Ok(Self(resolver.context("cannot resolve names")?))
    }
}

impl Resolve for GroupNames {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let found = resolver.lookup_ip(name.as_str()).await?;
            let addresses: Vec<SocketAddr> =
                found.iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
