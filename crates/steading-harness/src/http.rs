//! HTTP from a test to VMs, with the names of the group and a source address that the test chooses.

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

/// The source address of a request. Firewalls can treat each of them differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The address of the test's own traffic.
    #[default]
    Management,
    /// The address of log streams.
    Logs,
    /// The address of the file server.
    Files,
    /// Another address, outside the VMs' prefix. It is added to the driver when it is first used.
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

/// Builds an HTTP client.
#[must_use]
pub struct HttpClientBuilder {
    session: Arc<Session>,
    source: Source,
    limit: Duration,
    roots: Vec<CertificateDer<'static>>,
}

/// An HTTP and HTTPS client for servers of VMs. It reuses connections.
#[derive(Clone)]
pub struct HttpClient {
    session: Arc<Session>,
    client: reqwest::Client,
    limit: Duration,
}

/// A request that is not sent yet.
#[must_use]
pub struct HttpRequest {
    client: HttpClient,
    builder: reqwest::RequestBuilder,
}

/// The response of a server.
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

    /// Sets the source address.
    pub fn source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// Sets the time limit of each request, including its response.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Also trusts servers with certificates of these authorities (PEM, one or several), in addition to the
    /// group's own authority. No others are trusted.
    ///
    /// # Errors
    ///
    /// When it contains no certificate.
    pub fn trust(mut self, pem: impl AsRef<[u8]>) -> anyhow::Result<Self> {
        let before = self.roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_ref()) {
            self.roots.push(certificate.context("cannot read a certificate to trust")?);
        }
        anyhow::ensure!(
            self.roots.len() > before,
            "no certificate to trust found\nhint: give PEM, which begins with -----BEGIN CERTIFICATE-----"
        );
        Ok(self)
    }

    /// Builds the client.
    ///
    /// # Errors
    ///
    /// When the driver cannot get the address, or a certificate is not that of an authority.
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
    /// Sends a GET request, and returns the response, whatever its status.
    ///
    /// # Errors
    ///
    /// When there is no complete response in time.
    pub fn get(&self, url: impl AsRef<str>) -> anyhow::Result<HttpResponse> {
        self.request(Method::GET, url).send()
    }

    /// Returns a request, to add headers and a body to.
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> HttpRequest {
        HttpRequest { client: self.clone(), builder: self.client.request(method, url.as_ref()) }
    }
}

impl HttpRequest {
    /// Adds a header.
    pub fn header(self, name: &str, value: &str) -> Self {
        Self { builder: self.builder.header(name, value), ..self }
    }

    /// Sets the body.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { builder: self.builder.body(body.into()), ..self }
    }

    /// Sends the request, and waits for the complete response, whatever its status.
    ///
    /// # Errors
    ///
    /// When there is no complete response in time.
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
    /// Returns the status (RFC 9110, section 15).
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the value of a header, if there is one. The case of the name does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the body.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// Returns the body as text. Invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Parses the body as JSON.
    ///
    /// # Errors
    ///
    /// When it is not JSON, or has another type.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{} returned unexpected JSON: {}", self.url, self.shown()))
    }

    /// Returns the response itself if its status is a success.
    ///
    /// # Errors
    ///
    /// When the status is not a success; the error shows the response.
    pub fn succeed(self) -> anyhow::Result<Self> {
        anyhow::ensure!(
            (200..300).contains(&self.status),
            "{} returned status {}: {}",
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
