//! The table of all names of a group: what every question is answered from. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use thiserror::Error;

use super::{DnsName, Record, RecordData, RecordError};
use crate::{AddressPlan, VmPlan};

/// How many aliases may lead to each other.
const ALIASES_MAX: usize = 8;

/// The longest text of a record, in bytes.
const TEXT_MAX: usize = 4096;

/// The name of the ACME server, in the group's domain.
const ACME: &str = "acme";

/// Whom guests ask for the time that were told nothing else. The group's time server has these names, unless
/// a record says otherwise.
const TIME: [&str; 2] = ["pool.ntp.org", "*.pool.ntp.org"];

/// Everything that names of one group lead to.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: String,
    prefix: Ipv6Net,
    /// The name of the ACME server.
    acme_host: String,
    /// What each name leads to.
    sets: BTreeMap<DnsName, Vec<ZoneData>>,
    /// Every name, and every name above one: what exists (RFC 4592, section 2.2.2).
    nodes: BTreeSet<String>,
    /// Addresses of the group that no name may lead to.
    own: BTreeSet<IpAddr>,
    records: Vec<Record>,
}

/// What a name leads to, by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ZoneData {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME.
    Cname(DnsName),
    /// TXT.
    Txt(String),
    /// PTR.
    Ptr(DnsName),
}

/// What was found under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// There is no such name.
    Nothing,
    /// There is one, and it leads to these; maybe to nothing.
    Data(&'a [ZoneData]),
}

/// A name or address that is not of the group, and so is not certified.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StrangeNameError {
    /// A name.
    #[error(
        "{name} is no name of the group\nhint: names in {domain} are, and those that its DNS knows: add a record for it first"
    )]
    Name {
        /// The name.
        name: String,
        /// The group's domain.
        domain: String,
    },
    /// An address.
    #[error(
        "{0} is no address of the group\nhint: those of VMs, of the driver and of records are: add a record that leads to it first"
    )]
    Address(IpAddr),
    /// What is neither.
    #[error("{0:?} is neither a name nor an address: {1}")]
    Neither(String, String),
}

impl Zone {
    /// The table of a group with these records, at which these resolvers are claimed.
    ///
    /// # Errors
    ///
    /// When a record cannot be one.
    pub fn new(
        addresses: &AddressPlan,
        vms: &[VmPlan],
        records: &[Record],
        resolvers: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self, RecordError> {
        let domain = &addresses.domain;
        let mut own: BTreeSet<IpAddr> = addresses.driver_addresses().into_iter().map(IpAddr::from).collect();
        own.extend([IpAddr::from(addresses.gateway), addresses.ipv4_gateway.into()]);
        own.extend(resolvers);
        let mut zone = Self {
            domain: domain.clone(),
            prefix: addresses.prefix,
            acme_host: format!("{ACME}.{domain}"),
            sets: BTreeMap::new(),
            nodes: BTreeSet::new(),
            own,
            records: Vec::new(),
        };
        for vm in vms {
            let name = DnsName::derived(format!("{}.{domain}", vm.name));
            for address in addresses_of(vm) {
                zone.insert(reverse(address), ZoneData::Ptr(name.clone()));
                zone.insert(name.clone(), ZoneData::Address(address));
            }
        }
        let gateway = [IpAddr::from(addresses.gateway), addresses.ipv4_gateway.into()];
        let services = [("gateway", &gateway[..]), (ACME, &gateway), ("files", &[addresses.files.into()])];
        for (service, leads_to) in services {
            let name = DnsName::derived(format!("{service}.{domain}"));
            for address in leads_to {
                zone.insert(name.clone(), ZoneData::Address(*address));
            }
        }
        zone.nodes.insert(domain.clone());
        let taken: BTreeSet<DnsName> = zone.sets.keys().cloned().collect();
        for record in records {
            zone.add(record, vms, &taken)?;
        }
        for name in TIME {
            let name = DnsName::derived(name.to_owned());
            if !zone.sets.contains_key(&name) {
                for address in gateway {
                    zone.insert(name.clone(), ZoneData::Address(address));
                }
            }
        }
        Ok(zone)
    }

    fn add(&mut self, record: &Record, vms: &[VmPlan], taken: &BTreeSet<DnsName>) -> Result<(), RecordError> {
        let name = DnsName::parse(&record.name, &self.domain)?;
        if taken.contains(&name) {
            let owner = match vms.iter().find(|vm| format!("{}.{}", vm.name, self.domain) == name.as_str()) {
                Some(vm) => format!("VM {}", vm.name),
                None => "the group itself".to_owned(),
            };
            return Err(RecordError::Taken { name, owner });
        }
        let data = match &record.data {
            RecordData::Address(address) => vec![ZoneData::Address(*address)],
            RecordData::Vm(vm) => {
                let found = vms.iter().find(|known| known.name.as_str() == vm);
                let found = found.ok_or_else(|| {
                    let known: Vec<&str> = vms.iter().map(|vm| vm.name.as_str()).collect();
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    RecordError::NoVm { name: record.name.clone(), vm: vm.clone(), known }
                })?;
                addresses_of(found).map(ZoneData::Address).collect()
            }
            RecordData::Cname(target) => {
                let target = DnsName::parse(target, &self.domain)?;
                if target.is_wildcard() {
                    return Err(RecordError::Pattern(name, target));
                }
                vec![ZoneData::Cname(target)]
            }
            RecordData::Txt(text) if text.len() > TEXT_MAX => return Err(RecordError::Long(name)),
            RecordData::Txt(text) => vec![ZoneData::Txt(text.clone())],
        };
        let known = self.sets.get(&name).map(Vec::as_slice).unwrap_or_default();
        if data.iter().all(|data| known.contains(data)) {
            return Err(RecordError::Present(record.clone()));
        }
        let is_alias = |data: &ZoneData| matches!(data, ZoneData::Cname(_));
        if known.iter().chain(&data).any(is_alias) && !known.is_empty() {
            return Err(RecordError::Alias(name));
        }
        for data in data {
            self.insert(name.clone(), data);
        }
        self.records.push(record.clone());
        Ok(())
    }

    fn insert(&mut self, name: DnsName, data: ZoneData) {
        self.nodes.extend(DnsName::parents(name.as_str()).map(str::to_owned));
        self.nodes.insert(name.as_str().to_owned());
        let set = self.sets.entry(name).or_default();
        if !set.contains(&data) {
            set.push(data);
        }
    }

    /// The group's domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The host of the ACME server, as it stands in URLs.
    pub fn acme_host(&self) -> &str {
        &self.acme_host
    }

    /// The records that were added, in that order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Every name, with what it leads to.
    pub fn iter(&self) -> impl Iterator<Item = (&DnsName, &[ZoneData])> {
        self.sets.iter().map(|(name, data)| (name, data.as_slice()))
    }

    /// What a question for this name finds: it is in any case, with a final dot or without.
    pub fn find(&self, question: &str) -> Lookup<'_> {
        let name = question.strip_suffix('.').unwrap_or(question).to_ascii_lowercase();
        let name =
            if name.is_empty() || name.contains('.') { name } else { format!("{name}.{}", self.domain) };
        // What was derived is only compared.
        let node = DnsName::derived(name);
        if let Some(data) = self.sets.get(&node) {
            return Lookup::Data(data);
        }
        if self.nodes.contains(node.as_str()) {
            return Lookup::Data(&[]);
        }
        let encloser = DnsName::parents(node.as_str()).find(|parent| self.nodes.contains(*parent));
        let wildcard = encloser.map(|encloser| DnsName::derived(format!("*.{encloser}")));
        wildcard
            .and_then(|wildcard| self.sets.get(&wildcard))
            .map_or(Lookup::Nothing, |data| Lookup::Data(data))
    }

    /// The aliases that lead on from a name, each with what it leads to, up to one that is none or is not there.
    pub fn aliases(&self, question: &str) -> Vec<&DnsName> {
        let mut aliases: Vec<&DnsName> = Vec::new();
        let mut name = question;
        while let Lookup::Data([ZoneData::Cname(target)]) = self.find(name) {
            if aliases.len() == ALIASES_MAX {
                break;
            }
            aliases.push(target);
            name = target.as_str();
        }
        aliases
    }

    /// The addresses that a name has, by aliases too.
    pub fn addresses(&self, question: &str) -> Vec<IpAddr> {
        let last = self.aliases(question).last().map_or(question, |last| last.as_str());
        let Lookup::Data(data) = self.find(last) else { return Vec::new() };
        let address = |data: &ZoneData| match data {
            ZoneData::Address(address) => Some(*address),
            _ => None,
        };
        data.iter().filter_map(address).collect()
    }

    /// Refuses to certify what is not of the group, a name or an address. What a certificate has of it, as
    /// asked first: to a name of one label belongs the whole one.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn certifies(&self, text: &str) -> Result<Vec<String>, StrangeNameError> {
        if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            let leads = |data: &ZoneData| *data == ZoneData::Address(address);
            let is_vms = matches!(address, IpAddr::V6(address) if self.prefix.contains(&address));
            let is_known = is_vms || self.own.contains(&address) || self.sets.values().flatten().any(leads);
            return if is_known {
                Ok(vec![address.to_string()])
            } else {
                Err(StrangeNameError::Address(address))
            };
        }
        let neither = |error: &dyn fmt::Display| {
            StrangeNameError::Neither(text.chars().take(64).collect(), error.to_string())
        };
        let name = DnsName::parse(text, &self.domain).map_err(|error| neither(&error))?;
        let is_short = !text.contains(['.', '@', '*']);
        let in_domain = name.as_str() == self.domain
            || name.as_str().strip_suffix(&self.domain).is_some_and(|before| before.ends_with('.'));
        let is_known = in_domain
            || match self.find(name.as_str()) {
                // A pattern is only certified as it stands in the table.
                Lookup::Data(data) => {
                    !data.is_empty() && (!name.is_wildcard() || self.sets.contains_key(&name))
                }
                Lookup::Nothing => false,
            };
        if !is_known {
            return Err(StrangeNameError::Name { name: name.to_string(), domain: self.domain.clone() });
        }
        // Clients compare the name that they were asked for.
        let short = is_short.then(|| text.to_ascii_lowercase());
        Ok(short.into_iter().chain([name.to_string()]).collect())
    }

    /// The same records, without those of this name, or without this one.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn without(&self, name: &str, data: Option<&RecordData>) -> Result<Vec<Record>, RecordError> {
        let wanted = DnsName::parse(name, &self.domain)?;
        let is_meant = |record: &Record| {
            DnsName::parse(&record.name, &self.domain).as_ref() == Ok(&wanted)
                && data.is_none_or(|data| *data == record.data)
        };
        let left: Vec<Record> = self.records.iter().filter(|record| !is_meant(record)).cloned().collect();
        if left.len() < self.records.len() {
            return Ok(left);
        }
        let asked = data.map_or_else(|| wanted.to_string(), |data| format!("{wanted} {data}"));
        let known: Vec<String> = self.records.iter().map(ToString::to_string).collect();
        let known = if known.is_empty() {
            "no record was added; names of VMs stay".to_owned()
        } else {
            format!("there are: {}", known.join("; "))
        };
        Err(RecordError::Missing { asked, known })
    }
}

fn addresses_of(vm: &VmPlan) -> impl Iterator<Item = IpAddr> {
    std::iter::once(vm.address.into()).chain(vm.second_address.map(IpAddr::from))
}

/// The name under which an address is looked up (RFC 1035, section 3.5; RFC 3596, section 2.5).
fn reverse(address: IpAddr) -> DnsName {
    DnsName::derived(match address {
        IpAddr::V4(address) => reverse_ipv4(address),
        IpAddr::V6(address) => reverse_ipv6(address),
    })
}

fn reverse_ipv4(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("{d}.{c}.{b}.{a}.in-addr.arpa")
}

fn reverse_ipv6(address: Ipv6Addr) -> String {
    let digits = address.octets().into_iter().rev().flat_map(|byte| [byte & 0xf, byte >> 4]);
    let labels: Vec<String> = digits.map(|digit| format!("{digit:x}")).collect();
    format!("{}.ip6.arpa", labels.join("."))
}
