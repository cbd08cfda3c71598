//! What is ordered, and how far it is proven.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};
use steading_plan::Zone;

use super::problem::Problem;
use crate::random::random_word;

/// How many names an order may have, as with public authorities.
const NAMES_MAX: usize = 100;

/// A name or an address, as an order has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identifier {
    /// As it becomes a part of the certificate.
    pub(super) value: String,
}

#[derive(Deserialize)]
pub(super) struct RawIdentifier {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Pending,
    Valid,
    Invalid,
    Deactivated,
}

/// That the client has what an identifier leads to.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) identifier: Identifier,
    pub(super) token: String,
    pub(super) proof: Proof,
    pub(super) error: Option<Problem>,
}

/// An order of one account.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) account: String,
    pub(super) authorizations: Vec<Authorization>,
    pub(super) certificate: Option<String>,
    pub(super) expires: String,
}

impl Identifier {
    /// One that is of the group.
    fn check(raw: &RawIdentifier, zone: &Zone) -> Result<Self, Problem> {
        let refused = |detail: String| {
            Problem::new(403, "rejectedIdentifier", detail)
                .with("identifier", json!({"type": raw.kind, "value": raw.value}))
        };
        let is_address = raw.value.parse::<IpAddr>().is_ok();
        match raw.kind.as_str() {
            "dns" if is_address || raw.value.contains(['@', '[', ']']) => {
                return Err(refused(format!("{:?} is no name", raw.value)));
            }
            "dns" if raw.value.contains('*') => {
                return Err(refused(format!(
                    "{} is a pattern, which http-01 cannot prove (RFC 8555, section 8.3)\nhint: a test can have a certificate for it without ACME",
                    raw.value
                )));
            }
            "dns" => {}
            "ip" if is_address => {}
            "ip" => return Err(refused(format!("{:?} is no address", raw.value))),
            other => {
                let detail = format!("identifiers of the type {other:?} are not certified; dns and ip are");
                return Err(Problem::new(400, "unsupportedIdentifier", detail));
            }
        }
        let names = zone.certifies(&raw.value).map_err(|error| refused(error.to_string()))?;
        names
            .into_iter()
            .next()
            .map(|value| Self { value })
            .ok_or_else(|| refused("it is nothing".to_owned()))
    }

    pub(super) fn json(&self) -> Value {
        let kind = if self.value.parse::<IpAddr>().is_ok() { "ip" } else { "dns" };
        json!({"type": kind, "value": self.value})
    }
}

impl Proof {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Deactivated => "deactivated",
        }
    }
}

impl Order {
    /// One for these, if all are of the group.
    pub(super) fn new(
        account: String,
        identifiers: &[RawIdentifier],
        zone: &Zone,
        expires: String,
    ) -> Result<Self, Problem> {
        if identifiers.is_empty() || identifiers.len() > NAMES_MAX {
            return Err(Problem::malformed(format!("an order is for 1 to {NAMES_MAX} identifiers")));
        }
        let mut authorizations: Vec<Authorization> = Vec::new();
        for raw in identifiers {
            let identifier = Identifier::check(raw, zone)?;
            if authorizations.iter().all(|known| known.identifier != identifier) {
                let (token, proof, error) = (random_word(), Proof::Pending, None);
                authorizations.push(Authorization { identifier, token, proof, error });
            }
        }
        Ok(Self { account, authorizations, certificate: None, expires })
    }

    /// Its state (RFC 8555, section 7.1.6).
    pub(super) fn status(&self) -> &'static str {
        let proofs = || self.authorizations.iter().map(|authorization| authorization.proof);
        if self.certificate.is_some() {
            "valid"
        } else if proofs().any(|proof| matches!(proof, Proof::Invalid | Proof::Deactivated)) {
            "invalid"
        } else if proofs().all(|proof| proof == Proof::Valid) {
            "ready"
        } else {
            "pending"
        }
    }

    /// What it is for.
    pub(super) fn names(&self) -> Vec<String> {
        self.authorizations.iter().map(|authorization| authorization.identifier.value.clone()).collect()
    }
}
