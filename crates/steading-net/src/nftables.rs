//! Rules of nftables for the bridge, by netlink: put into place whole, in one transaction.
//!
//! The messages are those of `linux/netfilter/nf_tables.h` and `linux/netfilter/nfnetlink.h`. There is
//! one table, which holds what [`Ruleset`] says and nothing else. It is replaced, never changed, so
//! what the kernel has is always what was derived.

use std::collections::BTreeSet;
use std::io;

use rtnetlink::packet_core::{DecodeError, NetlinkBuffer};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};
use steading_plan::IfName;
use steading_plan::fault::{CHANCES, Filter, Hook, Rule, Ruleset, Verdict};

use crate::NetError;
use crate::nft_message::{Attributes, Batch, Message};

const TABLE: &str = "steading";

/// `NFPROTO_BRIDGE` (`linux/netfilter.h`).
const BRIDGE: u8 = 7;

/// Before anything else that filters (`NF_BR_PRI_FILTER_BRIDGED` in `linux/netfilter_bridge.h`).
const PRIORITY: i32 = -200;

/// What a type of message is for (`nf_tables_msg_types`).
mod kind {
    pub(super) const NEW_TABLE: u8 = 0;
    pub(super) const DELETE_TABLE: u8 = 2;
    pub(super) const NEW_CHAIN: u8 = 3;
    pub(super) const NEW_RULE: u8 = 6;
    pub(super) const NEW_SET: u8 = 9;
    pub(super) const NEW_SET_ELEMENTS: u8 = 12;
}

/// The register that all expressions use (`NFT_REG_1`).
const REGISTER: u32 = 1;

/// The length of a name in a register (`IFNAMSIZ` in `linux/if.h`).
const NAME_LENGTH: usize = 16;

/// Makes these the rules of this network namespace, in place of those before.
///
/// # Errors
///
/// When the kernel refuses; the rules are those from before then.
pub fn replace_rules(rules: &Ruleset) -> Result<(), NetError> {
    let failed = |source| NetError::Rules { rules: rules.rules.len(), source };
    send(&encode(rules)).map_err(failed)
}

/// Whether this kernel has all that faults need, tried in this network namespace. No rules are left.
///
/// # Errors
///
/// When it has not.
pub fn probe_rules() -> Result<(), NetError> {
    let name: IfName = String::from("probe").try_into().expect("an interface's name");
    let filter = Filter { from: BTreeSet::from([name]), to: BTreeSet::new() };
    let rule = |hook| Rule { hook, filter: filter.clone(), verdict: Verdict::DropSome(1) };
    replace_rules(&Ruleset { rules: Hook::ALL.map(rule).to_vec() })?;
    replace_rules(&Ruleset::default())
}

fn send(batch: &Batch) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.send_to(batch.bytes(), &SocketAddr::new(0, 0), 0)?;
    // The kernel has worked it off by now; one message asked for an answer, and what failed has one.
    socket.set_non_blocking(true)?;
    loop {
        let (answers, _) = socket.recv_from_full()?;
        if first_answer(&answers)?.is_some() {
            return Ok(());
        }
    }
}

/// Whether there is an answer among these messages; an error is one (netlink(7), `NLMSG_ERROR`).
fn first_answer(mut bytes: &[u8]) -> io::Result<Option<()>> {
    const ERROR: u16 = 2;
    let malformed = |error: DecodeError| io::Error::other(error.to_string());
    while !bytes.is_empty() {
        let message = NetlinkBuffer::new_checked(bytes).map_err(malformed)?;
        if message.message_type() == ERROR {
            let code = message.payload().first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
            return if code == 0 { Ok(Some(())) } else { Err(io::Error::from_raw_os_error(-code)) };
        }
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(None)
}

fn encode(rules: &Ruleset) -> Batch {
    let mut batch = Batch::new();
    // It may not be there yet, and what is not there cannot be deleted.
    batch.push(table(kind::NEW_TABLE));
    batch.push(table(kind::DELETE_TABLE));
    if rules.rules.is_empty() {
        return batch.finish();
    }
    batch.push(table(kind::NEW_TABLE));
    for hook in Hook::ALL {
        batch.push(chain(hook));
    }
    let mut sets = Sets::default();
    for rule in &rules.rules {
        let from = sets.ensure(&rule.filter.from, &mut batch);
        let to = sets.ensure(&rule.filter.to, &mut batch);
        batch.push(encode_rule(rule, from.as_deref(), to.as_deref()));
    }
    batch.finish()
}

fn table(kind: u8) -> Message {
    const NAME: u16 = 1;
    let mut message = Message::new(BRIDGE, kind);
    message.attributes.text(NAME, TABLE);
    message
}

fn chain(hook: Hook) -> Message {
    const TABLE_NAME: u16 = 1;
    const NAME: u16 = 3;
    const HOOK: u16 = 4;
    const TYPE: u16 = 7;
    const HOOK_NUMBER: u16 = 1;
    const HOOK_PRIORITY: u16 = 2;
    // `NF_BR_LOCAL_IN` and so on (`linux/netfilter_bridge.h`).
    let number = match hook {
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
    };
    let mut message = Message::new(BRIDGE, kind::NEW_CHAIN);
    message.attributes.text(TABLE_NAME, TABLE);
    message.attributes.text(NAME, hook.as_str());
    message.attributes.nested(HOOK, |attributes| {
        attributes.number(HOOK_NUMBER, number);
        attributes.number(HOOK_PRIORITY, PRIORITY.cast_unsigned());
    });
    message.attributes.text(TYPE, "filter");
    message
}

/// Sets of ports, each of which is made once.
#[derive(Default)]
struct Sets<'a> {
    known: Vec<&'a BTreeSet<IfName>>,
}

impl<'a> Sets<'a> {
    /// The name of a set of these ports; none for no ports, which means any.
    fn ensure(&mut self, ports: &'a BTreeSet<IfName>, batch: &mut Batch) -> Option<String> {
        if ports.is_empty() {
            return None;
        }
        let known = self.known.iter().position(|known| *known == ports);
        let number = known.unwrap_or(self.known.len());
        let name = format!("ports-{number}");
        if known.is_none() {
            self.known.push(ports);
            batch.push(set(&name, number));
            batch.push(elements(&name, ports));
        }
        Some(name)
    }
}

fn set(name: &str, number: usize) -> Message {
    const TABLE_NAME: u16 = 1;
    const NAME: u16 = 2;
    const FLAGS: u16 = 3;
    const KEY_TYPE: u16 = 4;
    const KEY_LENGTH: u16 = 5;
    const ID: u16 = 10;
    const CONSTANT: u32 = 2;
    // What nft(8) calls an interface's name, for those who list the rules.
    const IFNAME: u32 = 41;
    let mut message = Message::new(BRIDGE, kind::NEW_SET);
    message.attributes.text(TABLE_NAME, TABLE);
    message.attributes.text(NAME, name);
    message.attributes.number(FLAGS, CONSTANT);
    message.attributes.number(KEY_TYPE, IFNAME);
    message.attributes.number(KEY_LENGTH, u32::try_from(NAME_LENGTH).unwrap_or_default());
    message.attributes.number(ID, u32::try_from(number + 1).unwrap_or(u32::MAX));
    message
}

fn elements(name: &str, ports: &BTreeSet<IfName>) -> Message {
    const TABLE_NAME: u16 = 1;
    const SET: u16 = 2;
    const ELEMENTS: u16 = 3;
    const LIST_ELEMENT: u16 = 1;
    const KEY: u16 = 1;
    const VALUE: u16 = 1;
    let mut message = Message::new(BRIDGE, kind::NEW_SET_ELEMENTS);
    message.attributes.text(TABLE_NAME, TABLE);
    message.attributes.text(SET, name);
    message.attributes.nested(ELEMENTS, |list| {
        for port in ports {
            let mut key = port.as_str().as_bytes().to_vec();
            key.resize(NAME_LENGTH, 0);
            list.nested(LIST_ELEMENT, |element| {
                element.nested(KEY, |data| data.bytes(VALUE, &key));
            });
        }
    });
    message
}

fn encode_rule(rule: &Rule, from: Option<&str>, to: Option<&str>) -> Message {
    const TABLE_NAME: u16 = 1;
    const CHAIN: u16 = 2;
    const EXPRESSIONS: u16 = 4;
    let Rule { hook, filter: Filter { .. }, verdict } = rule;
    let mut message = Message::new(BRIDGE, kind::NEW_RULE).appended();
    message.attributes.text(TABLE_NAME, TABLE);
    message.attributes.text(CHAIN, hook.as_str());
    message.attributes.nested(EXPRESSIONS, |list| {
        // `NFT_META_IIFNAME`, `NFT_META_OIFNAME`
        for (key, set) in [(6, from), (7, to)] {
            if let Some(set) = set {
                is_port_in(list, key, set);
            }
        }
        match *verdict {
            Verdict::Drop => {}
            Verdict::DropSome(chances) => by_chance(list, chances),
        }
        drop_frame(list);
    });
    message
}

fn expression(list: &mut Attributes, name: &str, data: impl FnOnce(&mut Attributes)) {
    const LIST_ELEMENT: u16 = 1;
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    list.nested(LIST_ELEMENT, |element| {
        element.text(NAME, name);
        element.nested(DATA, data);
    });
}

/// Goes on only if the port's name is in the set.
fn is_port_in(list: &mut Attributes, key: u32, set: &str) {
    const META_DESTINATION: u16 = 1;
    const META_KEY: u16 = 2;
    const LOOKUP_SET: u16 = 1;
    const LOOKUP_SOURCE: u16 = 2;
    expression(list, "meta", |data| {
        data.number(META_DESTINATION, REGISTER);
        data.number(META_KEY, key);
    });
    expression(list, "lookup", |data| {
        data.text(LOOKUP_SET, set);
        data.number(LOOKUP_SOURCE, REGISTER);
    });
}

/// Goes on by chance. The kernel's number is in the host's order and comparisons go byte by byte, so
/// it is turned around first, as nft(8) does.
fn by_chance(list: &mut Attributes, chances: u32) {
    const NUMGEN_DESTINATION: u16 = 1;
    const NUMGEN_MODULUS: u16 = 2;
    const NUMGEN_TYPE: u16 = 3;
    const RANDOM: u32 = 1;
    const ORDER_SOURCE: u16 = 1;
    const ORDER_DESTINATION: u16 = 2;
    const ORDER_OPERATION: u16 = 3;
    const ORDER_LENGTH: u16 = 4;
    const ORDER_SIZE: u16 = 5;
    const HOST_TO_NETWORK: u32 = 1;
    const COMPARE_SOURCE: u16 = 1;
    const COMPARE_OPERATION: u16 = 2;
    const COMPARE_DATA: u16 = 3;
    const LESS: u32 = 2;
    const VALUE: u16 = 1;
    expression(list, "numgen", |data| {
        data.number(NUMGEN_DESTINATION, REGISTER);
        data.number(NUMGEN_MODULUS, CHANCES);
        data.number(NUMGEN_TYPE, RANDOM);
    });
    expression(list, "byteorder", |data| {
        data.number(ORDER_SOURCE, REGISTER);
        data.number(ORDER_DESTINATION, REGISTER);
        data.number(ORDER_OPERATION, HOST_TO_NETWORK);
        data.number(ORDER_LENGTH, 4);
        data.number(ORDER_SIZE, 4);
    });
    expression(list, "cmp", |data| {
        data.number(COMPARE_SOURCE, REGISTER);
        data.number(COMPARE_OPERATION, LESS);
        data.nested(COMPARE_DATA, |value| value.number(VALUE, chances));
    });
}

fn drop_frame(list: &mut Attributes) {
    const DESTINATION: u16 = 1;
    const DATA: u16 = 2;
    const VERDICT_REGISTER: u32 = 0;
    const VERDICT: u16 = 2;
    const CODE: u16 = 1;
    // `NF_DROP` (`linux/netfilter.h`)
    const DROP: u32 = 0;
    expression(list, "immediate", |data| {
        data.number(DESTINATION, VERDICT_REGISTER);
        data.nested(DATA, |data| data.nested(VERDICT, |verdict| verdict.number(CODE, DROP)));
    });
}
