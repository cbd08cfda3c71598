//! Certificates for names of the group, on request and by ACME.

use std::net::IpAddr;
use std::sync::Arc;

use steading_api::{AuthorityStatus, Certificate, CertificateRequest, Failure, FailureKind, chain};
use steading_names::acme::{self, Account, Acme, AcmeListener, Asker};
use steading_names::{Authority, AuthorityKey, Issued, SharedZone};
use steading_plan::text::one_line;
use steading_plan::{AddressPlan, Zone};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::GroupError;
use crate::listening::Listening;
use crate::log::Log;

/// The port at which challenges of ACME are asked for (RFC 8555, section 8.3).
const CHALLENGE_PORT: u16 = 80;

/// The group's authority, for those who ask it.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    key: Arc<AuthorityKey>,
    authority: Arc<Authority>,
    acme: Arc<Acme>,
    zone: SharedZone,
    log: Log,
}

/// Serves ACME, and tells of it, until the group ends.
pub(crate) struct AcmeTask {
    listeners: Vec<AcmeListener>,
    told: mpsc::UnboundedReceiver<String>,
    log: Log,
}

impl Certificates {
    /// Starts the ACME server, with the accounts that a frozen group had.
    pub(crate) async fn start(
        addresses: &AddressPlan,
        listening: &Listening,
        zone: SharedZone,
        key: AuthorityKey,
        accounts: Vec<Account>,
        log: Log,
    ) -> Result<(Self, AcmeTask), GroupError> {
        let authority = Arc::new(Authority::open(&key)?);
        let (teller, told) = mpsc::unbounded_channel();
        let asker = Asker { source: Some(addresses.files), port: CHALLENGE_PORT };
        let host = zone.get().acme_host().to_owned();
        let acme_server = Acme::new(Arc::clone(&authority), zone.clone(), asker, &host, accounts, teller);
        let acme_server = Arc::new(acme_server);
        let gateways = listening.gateways();
        let named = ["acme", "gateway"].map(|name| format!("{name}.{}", addresses.domain));
        let hosts: Vec<String> = named.into_iter().chain(gateways.iter().map(IpAddr::to_string)).collect();
        let tls = Arc::new(authority.server_config(&hosts)?);
        let mut listeners = Vec::new();
        for address in gateways {
            let bound = listening.tcp((*address, acme::PORT).into()).await;
            let bound = bound.map_err(|source| GroupError::Acme { address: *address, source })?;
            listeners.push(AcmeListener::at(bound, &tls, Arc::clone(&acme_server)));
        }
        let certificates = Self { key: Arc::new(key), authority, acme: acme_server, zone, log: log.clone() };
        Ok((certificates, AcmeTask { listeners, told, log }))
    }

    /// Whom to trust, and where programs fetch certificates.
    pub(crate) fn status(&self) -> AuthorityStatus {
        let certificate = self.authority.certificate().to_owned();
        AuthorityStatus { certificate, acme_url: self.acme.directory_url() }
    }

    /// A certificate for these names and addresses, if all are of the group.
    pub(crate) async fn issue(&self, request: &CertificateRequest) -> Result<Certificate, Failure> {
        let failure = |kind, message| Failure::new(kind, message);
        let names = certified(&self.zone.get(), &request.names)
            .map_err(|message| failure(FailureKind::BadRequest, message))?;
        let issued = self.authority.issue(&names);
        let Issued { chain, key } =
            issued.map_err(|error| failure(FailureKind::Failed, steading_api::chain(&error)))?;
        self.log.driver(None, &format!("a certificate was issued for {}", names.join(", "))).await;
        Ok(Certificate { names, chain, key, authority: self.authority.certificate().to_owned() })
    }

    /// What a fork goes on with.
    pub(crate) fn kept(&self) -> (AuthorityKey, Vec<Account>) {
        (self.key.as_ref().clone(), self.acme.accounts())
    }
}

/// Each of them once, with the whole names of short ones.
fn certified(zone: &Zone, asked: &[String]) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for name in asked {
        let certified = zone.certifies(name).map_err(|error| chain(&error))?;
        for name in certified {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if names.is_empty() {
        return Err(
            "a certificate for no name was asked for\nhint: give names or addresses of the group".to_owned()
        );
    }
    Ok(names)
}

impl AcmeTask {
    pub(crate) async fn run(mut self) {
        let mut running = JoinSet::new();
        for listener in self.listeners {
            running.spawn(listener.run());
        }
        while let Some(told) = self.told.recv().await {
            // Guests choose names and paths.
            self.log.driver(None, &one_line(&told)).await;
        }
    }
}
