//! An ACME server (RFC 8555) without its sockets: from a request to its response.

mod challenge;
mod https;
mod jws;
mod nonces;
mod order;
mod problem;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{Timestamp, ToSpan as _};
use rcgen::{CertificateSigningRequestParams, DnType, DnValue, SanType};
use rustls::pki_types::CertificateSigningRequestDer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use steading_plan::DnsName;
use tokio::sync::mpsc;

use crate::random::random_word;
use crate::{Authority, SharedZone};
pub use challenge::Asker;
pub use https::{AcmeListener, PORT};
pub use jws::{Jwk, Jws};
use nonces::Nonces;
use order::{Order, Proof, RawIdentifier};
pub use problem::Problem;

/// How many orders are kept; the oldest go first.
const ORDERS_MAX: usize = 1000;

/// How many accounts there may be.
const ACCOUNTS_MAX: usize = 1000;

/// How long an order is said to be good, in hours.
const ORDER_HOURS: i64 = 24;

/// The path of the directory, by which everything else is found.
pub const DIRECTORY: &str = "/directory";

/// An account: a key, and whom it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The key.
    pub key: Jwk,
    /// URLs of people to be told; nobody is.
    #[serde(default)]
    pub contact: Vec<String>,
    /// Whether it has been given up.
    #[serde(default)]
    pub deactivated: bool,
}

/// The server.
#[derive(Debug)]
pub struct Acme {
    authority: Arc<Authority>,
    zone: SharedZone,
    asker: Asker,
    /// `https://HOST`.
    base: String,
    state: Mutex<State>,
    /// What is worth telling, for people.
    told: mpsc::UnboundedSender<String>,
}

#[derive(Debug, Default)]
struct State {
    nonces: Nonces,
    /// By the digests of their keys.
    accounts: BTreeMap<String, Account>,
    orders: BTreeMap<String, Order>,
    /// The orders' names, the oldest first.
    ages: Vec<String>,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Where what was made is.
    pub location: Option<String>,
    /// What it is a part of.
    pub up: Option<String>,
    /// The answer itself.
    pub body: ReplyBody,
}

/// What an answer holds.
#[derive(Clone, Debug)]
pub enum ReplyBody {
    /// An object.
    Json(Value),
    /// A certificate.
    Pem(String),
    /// A problem.
    Problem(Problem),
    /// Nothing.
    Nothing,
}

impl Reply {
    fn json(status: u16, value: Value) -> Self {
        Self { status, location: None, up: None, body: ReplyBody::Json(value) }
    }

    fn at(self, location: String) -> Self {
        Self { location: Some(location), ..self }
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        Self { status: problem.status(), location: None, up: None, body: ReplyBody::Problem(problem) }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewAccount {
    #[serde(default)]
    contact: Vec<String>,
    #[serde(default)]
    only_return_existing: bool,
}

#[derive(Deserialize)]
struct AccountUpdate {
    contact: Option<Vec<String>>,
    status: Option<String>,
}

#[derive(Deserialize)]
struct NewOrder {
    identifiers: Vec<RawIdentifier>,
}

#[derive(Deserialize)]
struct Finalize {
    csr: String,
}

impl Acme {
    /// One that is found at this host, with the accounts that were kept.
    pub fn new(
        authority: Arc<Authority>,
        zone: SharedZone,
        asker: Asker,
        host: &str,
        accounts: Vec<Account>,
        told: mpsc::UnboundedSender<String>,
    ) -> Self {
        let accounts = accounts.into_iter().map(|account| (account.key.thumbprint(), account)).collect();
        let state = Mutex::new(State { accounts, ..State::default() });
        Self { authority, zone, asker, base: format!("https://{host}"), state, told }
    }

    /// The accounts, for who goes on from here.
    pub fn accounts(&self) -> Vec<Account> {
        self.state().accounts.values().cloned().collect()
    }

    /// Where the directory is.
    pub fn directory_url(&self) -> String {
        self.url(DIRECTORY)
    }

    /// A number for the next request.
    pub fn nonce(&self) -> String {
        self.state().nonces.give()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn tell(&self, message: String) {
        // Nobody listens at the end.
        let _ = self.told.send(message);
    }

    /// What is answered to who only looks.
    pub fn get(&self, path: &str) -> Reply {
        match path {
            DIRECTORY => Reply::json(200, self.directory()),
            "/acme/new-nonce" => Reply { status: 204, location: None, up: None, body: ReplyBody::Nothing },
            // Certificates are no secret, but RFC 8555 has everything else asked for by POST.
            _ if path.starts_with("/acme/") => {
                Problem::new(405, "malformed", "a signed POST is wanted (RFC 8555, section 6.3)".to_owned())
                    .into()
            }
            _ => Problem::not_found("such resource").into(),
        }
    }

    fn directory(&self) -> Value {
        json!({
            "newNonce": self.url("/acme/new-nonce"),
            "newAccount": self.url("/acme/new-account"),
            "newOrder": self.url("/acme/new-order"),
            "revokeCert": self.url("/acme/revoke-cert"),
            "keyChange": self.url("/acme/key-change"),
            "meta": {"externalAccountRequired": false},
        })
    }

    /// What is answered to a signed request.
    pub async fn post(&self, path: &str, body: &[u8]) -> Reply {
        match self.heed(path, body).await {
            Ok(reply) => reply,
            Err(problem) => {
                if problem.kind() != "badNonce" {
                    self.tell(format!("ACME refused {path}: {}: {}", problem.kind(), problem.detail()));
                }
                problem.into()
            }
        }
    }

    async fn heed(&self, path: &str, body: &[u8]) -> Result<Reply, Problem> {
        let jws = Jws::parse(body)?;
        let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        if words == ["acme", "new-account"] {
            let key = jws.jwk()?;
            self.check(&jws, &key, path)?;
            return self.new_account(&key, &payload(&jws)?);
        }
        let (id, account) = self.account_of(&jws)?;
        self.check(&jws, &account.key, path)?;
        if account.deactivated {
            let detail = "the account has been deactivated".to_owned();
            return Err(Problem::new(401, "unauthorized", detail));
        }
        match words.as_slice() {
            ["acme", "account", known] if *known == id => self.update_account(&id, &jws),
            ["acme", "account", known, "orders"] if *known == id => {
                let state = self.state();
                let orders = state.orders.iter().filter(|(_, order)| order.account == id);
                let urls: Vec<String> =
                    orders.map(|(order, _)| self.url(&format!("/acme/order/{order}"))).collect();
                Ok(Reply::json(200, json!({"orders": urls})))
            }
            ["acme", "new-order"] => self.new_order(id, &payload(&jws)?),
            ["acme", "order", order] => self.with_order(order, &id, |found| {
                Ok(Reply::json(200, self.order_json(order, found)).at(self.url(path)))
            }),
            ["acme", "order", order, "finalize"] => self.finalize(order, &id, &payload(&jws)?),
            ["acme", "certificate", order] => self.with_order(order, &id, |found| match &found.certificate {
                Some(pem) => {
                    Ok(Reply { status: 200, location: None, up: None, body: ReplyBody::Pem(pem.clone()) })
                }
                None => Err(Problem::not_found("certificate yet")),
            }),
            ["acme", "authorization", order, index] => self.authorization(order, index, &id, &jws),
            ["acme", "challenge", order, index] => {
                self.challenge(order, index, &id, &jws, &account.key).await
            }
            ["acme", "revoke-cert" | "key-change"] => {
                let detail = "this authority revokes nothing and changes no keys: it ends with its testnet";
                Err(Problem::new(403, "unauthorized", detail.to_owned()))
            }
            _ => Err(Problem::not_found("such resource of this account")),
        }
    }

    /// Whether a request is signed by this key, is for here, and is no repetition.
    fn check(&self, jws: &Jws, key: &Jwk, path: &str) -> Result<(), Problem> {
        jws.verify(key)?;
        let meant = jws.protected.url.as_deref().unwrap_or_default();
        if meant != self.url(path) {
            let detail = format!("the request is signed for {meant:?}, and went to {}", self.url(path));
            return Err(Problem::new(401, "unauthorized", detail));
        }
        if jws.protected.nonce.as_ref().is_some_and(|nonce| self.state().nonces.take(nonce)) {
            return Ok(());
        }
        let detail = "the nonce was not given out here, or was used already".to_owned();
        Err(Problem::new(400, "badNonce", detail))
    }

    fn account_of(&self, jws: &Jws) -> Result<(String, Account), Problem> {
        let Some(kid) = &jws.protected.kid else {
            return Err(Problem::malformed(
                "the request has no `kid`, by which its account is told".to_owned(),
            ));
        };
        let id = kid.strip_prefix(&self.url("/acme/account/"));
        let found = id.and_then(|id| Some((id.to_owned(), self.state().accounts.get(id)?.clone())));
        found.ok_or_else(|| {
            Problem::new(400, "accountDoesNotExist", format!("there is no account {kid:?} here"))
        })
    }

    fn new_account(&self, key: &Jwk, asked: &NewAccount) -> Result<Reply, Problem> {
        let id = key.thumbprint();
        let mut state = self.state();
        if let Some(known) = state.accounts.get(&id) {
            return Ok(Reply::json(200, self.account_json(&id, known)).at(self.account_url(&id)));
        }
        if asked.only_return_existing {
            let detail = "there is no account of this key".to_owned();
            return Err(Problem::new(400, "accountDoesNotExist", detail));
        }
        if state.accounts.len() >= ACCOUNTS_MAX {
            return Err(Problem::new(
                429,
                "rateLimited",
                format!("there are {ACCOUNTS_MAX} accounts already"),
            ));
        }
        let account = Account { key: key.clone(), contact: asked.contact.clone(), deactivated: false };
        let reply = Reply::json(201, self.account_json(&id, &account)).at(self.account_url(&id));
        state.accounts.insert(id, account);
        Ok(reply)
    }

    fn update_account(&self, id: &str, jws: &Jws) -> Result<Reply, Problem> {
        let mut state = self.state();
        let account =
            state.accounts.get_mut(id).ok_or_else(|| Problem::not_found("such account any more"))?;
        if !jws.payload.is_empty() {
            let update: AccountUpdate = payload(jws)?;
            match update.status.as_deref() {
                None | Some("valid") => {}
                Some("deactivated") => account.deactivated = true,
                Some(other) => {
                    return Err(Problem::malformed(format!("an account cannot be made {other:?}")));
                }
            }
            if let Some(contact) = update.contact {
                account.contact = contact;
            }
        }
        Ok(Reply::json(200, self.account_json(id, account)).at(self.account_url(id)))
    }

    fn account_url(&self, id: &str) -> String {
        self.url(&format!("/acme/account/{id}"))
    }

    fn account_json(&self, id: &str, account: &Account) -> Value {
        let status = if account.deactivated { "deactivated" } else { "valid" };
        let orders = self.url(&format!("/acme/account/{id}/orders"));
        json!({"status": status, "contact": account.contact, "orders": orders})
    }

    fn new_order(&self, account: String, asked: &NewOrder) -> Result<Reply, Problem> {
        let hours = ORDER_HOURS.hours();
        let expires = Timestamp::now().checked_add(hours).unwrap_or(Timestamp::MAX);
        let expires = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let order = Order::new(account, &asked.identifiers, &self.zone.get(), expires)?;
        let id = random_word();
        let reply = Reply::json(201, self.order_json(&id, &order)).at(self.url(&format!("/acme/order/{id}")));
        let mut state = self.state();
        if state.ages.len() >= ORDERS_MAX {
            let oldest = state.ages.remove(0);
            state.orders.remove(&oldest);
        }
        state.ages.push(id.clone());
        state.orders.insert(id, order);
        Ok(reply)
    }

    /// Does this with an order, if it is this account's.
    fn with_order<T>(
        &self,
        id: &str,
        account: &str,
        action: impl FnOnce(&mut Order) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let mut state = self.state();
        match state.orders.get_mut(id).filter(|order| order.account == account) {
            Some(order) => action(order),
            None => Err(Problem::not_found("such order of this account")),
        }
    }

    fn order_json(&self, id: &str, order: &Order) -> Value {
        let url = |index: usize| self.url(&format!("/acme/authorization/{id}/{index}"));
        let identifiers: Vec<Value> =
            order.authorizations.iter().map(|authorization| authorization.identifier.json()).collect();
        let mut value = json!({
            "status": order.status(),
            "expires": order.expires,
            "identifiers": identifiers,
            "authorizations": (0..order.authorizations.len()).map(url).collect::<Vec<_>>(),
            "finalize": self.url(&format!("/acme/order/{id}/finalize")),
        });
        if order.certificate.is_some() {
            value["certificate"] = json!(self.url(&format!("/acme/certificate/{id}")));
        }
        let error = order.authorizations.iter().find_map(|authorization| authorization.error.as_ref());
        if let Some(error) = error {
            value["error"] = error.json();
        }
        value
    }

    fn authorization_json(&self, id: &str, index: usize, order: &Order) -> Value {
        let authorization = &order.authorizations[index];
        json!({
            "identifier": authorization.identifier.json(),
            "status": authorization.proof.as_str(),
            "expires": order.expires,
            "challenges": [self.challenge_json(id, index, order)],
        })
    }

    fn challenge_json(&self, id: &str, index: usize, order: &Order) -> Value {
        let authorization = &order.authorizations[index];
        let status = match authorization.proof {
            Proof::Deactivated => Proof::Invalid,
            proof => proof,
        };
        let mut value = json!({
            "type": "http-01",
            "url": self.url(&format!("/acme/challenge/{id}/{index}")),
            "status": status.as_str(),
            "token": authorization.token,
        });
        if let Some(error) = &authorization.error {
            value["error"] = error.json();
        }
        value
    }

    fn authorization(&self, id: &str, index: &str, account: &str, jws: &Jws) -> Result<Reply, Problem> {
        self.with_order(id, account, |order| {
            let index = place(index, order)?;
            if !jws.payload.is_empty() {
                let update: AccountUpdate = payload(jws)?;
                if update.status.as_deref() != Some("deactivated") {
                    return Err(Problem::malformed("an authorization can only be deactivated".to_owned()));
                }
                order.authorizations[index].proof = Proof::Deactivated;
            }
            Ok(Reply::json(200, self.authorization_json(id, index, order)))
        })
    }

    async fn challenge(
        &self,
        id: &str,
        index: &str,
        account: &str,
        jws: &Jws,
        key: &Jwk,
    ) -> Result<Reply, Problem> {
        let (index, authorization) = self.with_order(id, account, |order| {
            let index = place(index, order)?;
            Ok((index, order.authorizations[index].clone()))
        })?;
        // With an empty payload it is only looked at.
        if !jws.payload.is_empty() && authorization.proof == Proof::Pending {
            let wanted = format!("{}.{}", authorization.token, key.thumbprint());
            let name = &authorization.identifier.value;
            let proven = self.asker.ask(&self.zone.get(), name, &authorization.token, &wanted).await;
            if let Err(problem) = &proven {
                self.tell(format!("ACME does not believe that a client has {name}: {}", problem.detail()));
            }
            self.with_order(id, account, |order| {
                let authorization = &mut order.authorizations[index];
                // Somebody else may have been quicker.
                if authorization.proof == Proof::Pending {
                    authorization.proof = if proven.is_ok() { Proof::Valid } else { Proof::Invalid };
                    authorization.error = proven.err();
                }
                Ok(())
            })?;
        }
        self.with_order(id, account, |order| {
            let reply = Reply::json(200, self.challenge_json(id, index, order));
            Ok(Reply { up: Some(self.url(&format!("/acme/authorization/{id}/{index}"))), ..reply })
        })
    }

    fn finalize(&self, id: &str, account: &str, asked: &Finalize) -> Result<Reply, Problem> {
        let bad = |why: String| Problem::new(400, "badCSR", why);
        let der = jws::decode(&asked.csr).map_err(|error| bad(format!("it is not base64url: {error}")))?;
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(|error| bad(format!("the request cannot be used: {error}")))?;
        self.with_order(id, account, |order| {
            if order.status() != "ready" {
                let detail =
                    format!("the order is {}, and only one that is ready is finalized", order.status());
                return Err(Problem::new(403, "orderNotReady", detail));
            }
            let (mut wanted, mut asked) = (order.names(), names_of(&request).map_err(bad)?);
            wanted.sort();
            asked.sort();
            asked.dedup();
            if wanted != asked {
                return Err(bad(format!(
                    "the request is for {}, and the order for {}",
                    asked.join(", "),
                    wanted.join(", ")
                )));
            }
            let signed = self.authority.sign(&request, &order.names());
            let pem =
                signed.map_err(|error| Problem::new(500, "serverInternal", steading_plan::chain(&error)))?;
            order.certificate = Some(pem);
            self.tell(format!("ACME: a certificate was issued for {}", order.names().join(", ")));
            Ok(Reply::json(200, self.order_json(id, order)).at(self.url(&format!("/acme/order/{id}"))))
        })
    }
}

fn payload<T: DeserializeOwned>(jws: &Jws) -> Result<T, Problem> {
    serde_json::from_slice(&jws.payload)
        .map_err(|error| Problem::malformed(format!("the payload is not what is wanted here: {error}")))
}

fn place(index: &str, order: &Order) -> Result<usize, Problem> {
    let index = index.parse().ok().filter(|index| *index < order.authorizations.len());
    index.ok_or_else(|| Problem::not_found("such authorization of this order"))
}

/// The names that a certificate is asked for.
fn names_of(request: &CertificateSigningRequestParams) -> Result<Vec<String>, String> {
    let alternatives = request.params.subject_alt_names.iter().map(|name| match name {
        SanType::DnsName(name) => Ok(name.as_str().to_ascii_lowercase()),
        SanType::IpAddress(address) => Ok(address.to_string()),
        other => Err(format!("the request is for {other:?}, which is neither a name nor an address")),
    });
    let mut names = alternatives.collect::<Result<Vec<_>, _>>()?;
    let common = match request.params.distinguished_name.get(&DnType::CommonName) {
        None => None,
        Some(DnValue::Utf8String(name)) => Some(name.clone()),
        Some(DnValue::PrintableString(name)) => Some(name.as_str().to_owned()),
        Some(DnValue::Ia5String(name)) => Some(name.as_str().to_owned()),
        Some(_) => return Err("the request's common name is in no usual alphabet".to_owned()),
    };
    // What a tool puts there of its own ("self signed certificate") is no request; nothing is taken from it.
    let is_name = |name: &String| name.parse::<IpAddr>().is_ok() || DnsName::parse(name, "invalid").is_ok();
    names.extend(common.filter(is_name).map(|name| name.to_ascii_lowercase()));
    Ok(names)
}
