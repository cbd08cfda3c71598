//! Records that tests and testnets add to the names of a group.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{DnsName, DnsNameError};

/// A name, and what it leads to. Names are as [`DnsName::parse`] takes them.
///
/// ```
/// use steading_plan::Record;
///
/// assert_eq!(Record::vm("*.apps.@", "n1").to_string(), "*.apps.@ vm n1");
/// assert_eq!(Record::address("registry.example.com", [10, 0, 0, 1]).to_string(), "registry.example.com A 10.0.0.1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RecordTable", into = "RecordTable")]
pub struct Record {
    /// The name.
    pub name: String,
    /// What it leads to.
    pub data: RecordData,
}

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordData {
    /// An address: A or AAAA.
    Address(IpAddr),
    /// The addresses of a VM.
    Vm(String),
    /// Another name: CNAME.
    Cname(String),
    /// A text: TXT.
    Txt(String),
}

/// A name, and what it leads to: one of `address`, `vm`, `cname` and `txt`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Record")]
pub struct RecordTable {
    /// The name. One of one label is of the group's domain, for which a last label `@` stands; the first
    /// label may be `*`.
    name: String,
    /// An IPv4 or IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    address: Option<IpAddr>,
    /// The addresses of this VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vm: Option<String>,
    /// Another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cname: Option<String>,
    /// A text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    txt: Option<String>,
}

/// A record that cannot be one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// Its name is none.
    #[error(transparent)]
    Name(#[from] DnsNameError),
    /// It leads nowhere, or to several things.
    #[error(
        "the record {0:?} has {1}\nhint: one of `address`, `vm`, `cname` and `txt` is wanted; a name may have several records"
    )]
    Data(String, &'static str),
    /// A VM that is not there.
    #[error("the record {name} leads to VM {vm:?}, which is not there\nhint: there are: {known}")]
    NoVm {
        /// The record's name.
        name: String,
        /// The VM.
        vm: String,
        /// The VMs that are.
        known: String,
    },
    /// A name that is a VM's own, or the group's.
    #[error(
        "{name} is the name of {owner}, and cannot have other records\nhint: give the record a name of its own"
    )]
    Taken {
        /// The name.
        name: DnsName,
        /// Whose it is.
        owner: String,
    },
    /// An alias next to other records.
    #[error(
        "{0} cannot be an alias (CNAME) and have other records as well (RFC 1034, section 3.6.2)\nhint: remove the others first"
    )]
    Alias(DnsName),
    /// An alias of nothing but a pattern.
    #[error(
        "{0} cannot be an alias (CNAME) of {1}: that is a pattern, and no name\nhint: name the one that is meant"
    )]
    Pattern(DnsName, DnsName),
    /// It is there already.
    #[error("the record is there already: {0}")]
    Present(Record),
    /// It is not there.
    #[error("there is no such record: {asked}\nhint: {known}")]
    Missing {
        /// What was asked for.
        asked: String,
        /// Those that are.
        known: String,
    },
    /// A text that is too long for an answer.
    #[error("the text of the record {0} has more than 4096 bytes")]
    Long(DnsName),
}

impl Record {
    fn new(name: impl Into<String>, data: RecordData) -> Self {
        Self { name: name.into(), data }
    }

    /// The name has this address: A or AAAA.
    pub fn address(name: impl Into<String>, address: impl Into<IpAddr>) -> Self {
        Self::new(name, RecordData::Address(address.into()))
    }

    /// The name has the addresses of this VM.
    pub fn vm(name: impl Into<String>, vm: impl Into<String>) -> Self {
        Self::new(name, RecordData::Vm(vm.into()))
    }

    /// The name is another for this one: CNAME.
    pub fn cname(name: impl Into<String>, target: impl Into<String>) -> Self {
        Self::new(name, RecordData::Cname(target.into()))
    }

    /// The name has this text: TXT.
    pub fn txt(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(name, RecordData::Txt(text.into()))
    }
}

impl TryFrom<RecordTable> for Record {
    type Error = RecordError;

    fn try_from(table: RecordTable) -> Result<Self, RecordError> {
        let RecordTable { name, address, vm, cname, txt } = table;
        let data = [
            address.map(RecordData::Address),
            vm.map(RecordData::Vm),
            cname.map(RecordData::Cname),
            txt.map(RecordData::Txt),
        ];
        let mut data = data.into_iter().flatten();
        match (data.next(), data.next()) {
            (Some(data), None) => Ok(Self { name, data }),
            (None, _) => Err(RecordError::Data(name, "nothing that it leads to")),
            (Some(_), Some(_)) => Err(RecordError::Data(name, "several things that it leads to")),
        }
    }
}

impl From<Record> for RecordTable {
    fn from(record: Record) -> Self {
        let table = Self { name: record.name, ..Self::default() };
        match record.data {
            RecordData::Address(address) => Self { address: Some(address), ..table },
            RecordData::Vm(vm) => Self { vm: Some(vm), ..table },
            RecordData::Cname(name) => Self { cname: Some(name), ..table },
            RecordData::Txt(text) => Self { txt: Some(text), ..table },
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.data)
    }
}

impl fmt::Display for RecordData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V4(address)) => write!(f, "A {address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "AAAA {address}"),
            Self::Vm(vm) => write!(f, "vm {vm}"),
            Self::Cname(name) => write!(f, "CNAME {name}"),
            Self::Txt(text) => write!(f, "TXT {text:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_leads_to_one_thing() {
        let read = |text: &str| toml::from_str::<Record>(text).map_err(|error| error.to_string());
        assert_eq!(read("name = \"a\"\nvm = \"n1\""), Ok(Record::vm("a", "n1")));
        assert_eq!(
            read("name = \"a\"\naddress = \"fd00::1\""),
            Ok(Record::address("a", "fd00::1".parse::<IpAddr>().unwrap()))
        );
        assert!(read("name = \"a\"").unwrap_err().contains("nothing that it leads to"));
        let both = read("name = \"a\"\nvm = \"n1\"\ntxt = \"x\"").unwrap_err();
        assert!(both.contains("several things that it leads to"), "{both}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        for record in [
            Record::address("a", [10, 0, 0, 1]),
            Record::vm("a", "n1"),
            Record::cname("a", "b.example"),
            Record::txt("a", "v=1; x \"y\""),
        ] {
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
        }
    }
}
