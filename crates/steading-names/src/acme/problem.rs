//! What an ACME server answers when it does not do what it was asked for (RFC 8555, section 6.7; RFC 9457).

use serde_json::{Map, Value, json};

/// Before the kind of each problem.
const PREFIX: &str = "urn:ietf:params:acme:error:";

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: u16,
    kind: &'static str,
    detail: String,
    members: Map<String, Value>,
}

impl Problem {
    /// One of this kind (RFC 8555, section 6.7).
    pub fn new(status: u16, kind: &'static str, detail: String) -> Self {
        Self { status, kind, detail, members: Map::new() }
    }

    /// A request that is none.
    pub fn malformed(detail: String) -> Self {
        Self::new(400, "malformed", detail)
    }

    /// There is nothing.
    pub fn not_found(what: &str) -> Self {
        Self::new(404, "malformed", format!("there is no {what} here"))
    }

    /// With one more member.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The kind, without what is before each.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// What people are told.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The document.
    pub fn json(&self) -> Value {
        let mut document = self.members.clone();
        document.insert("type".to_owned(), json!(format!("{PREFIX}{}", self.kind)));
        document.insert("detail".to_owned(), json!(self.detail));
        document.insert("status".to_owned(), json!(self.status));
        document.into()
    }
}
