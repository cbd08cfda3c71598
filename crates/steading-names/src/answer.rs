//! A question's bytes, and those of its answer. Pure.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use steading_plan::{DnsName, Lookup, Zone, ZoneData};

/// How long an answer may be kept, in seconds: not at all, since a test may change it at any moment.
const TTL: u32 = 0;

/// The longest answer in a datagram that is not cut into pieces on any usual link (dnsflagday.net, 2020).
const DATAGRAM_MAX: u16 = 1232;

/// The length of a message's head (RFC 1035, section 4.1.1).
const HEAD: usize = 12;

/// How much a string of a text holds (RFC 1035, section 3.3.14).
const STRING_MAX: usize = 255;

/// What an answer travels by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsTransport {
    /// Datagrams: what is too long for one is asked for again over TCP.
    Udp,
    /// A connection.
    Tcp,
}

/// The answer to what was asked; none if it was no question, but an answer or noise.
pub fn answer(zone: &Zone, asked: &[u8], transport: DnsTransport) -> Option<Vec<u8>> {
    let [high, low, flags, ..] = *asked else { return None };
    let is_answer = flags & 0x80 != 0;
    if is_answer || asked.len() < HEAD {
        return None;
    }
    let (answer, room) = if let Ok(question) = Message::from_vec(asked) {
        (respond(zone, &question), question.max_payload())
    } else {
        let id = u16::from_be_bytes([high, low]);
        (Message::error_msg(id, OpCode::Query, ResponseCode::FormErr), DATAGRAM_MAX)
    };
    let limit = match transport {
        DnsTransport::Udp => usize::from(room.min(DATAGRAM_MAX)),
        DnsTransport::Tcp => usize::from(u16::MAX),
    };
    let bytes = answer.to_vec().ok().filter(|bytes| bytes.len() <= limit);
    bytes.or_else(|| answer.truncate().to_vec().ok())
}

fn respond(zone: &Zone, question: &Message) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    // There is nothing that more asking would find.
    answer.metadata.recursion_available = true;
    answer.metadata.authoritative = true;
    if let Some(asked) = &question.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_MAX);
        answer.set_edns(edns);
        if asked.version() > 0 {
            answer.metadata.response_code = ResponseCode::BADVERS;
            return answer;
        }
    }
    answer.metadata.response_code = match (question.metadata.op_code, question.queries.as_slice()) {
        (OpCode::Query, [query]) => {
            answer.add_query(query.clone());
            fill(zone, query, &mut answer)
        }
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    answer.metadata.message_type = MessageType::Response;
    answer
}

fn fill(zone: &Zone, query: &Query, answer: &mut Message) -> ResponseCode {
    if !matches!(query.query_class, DNSClass::IN | DNSClass::ANY) {
        return ResponseCode::Refused;
    }
    let asked = query.name.to_ascii();
    let mut owner = query.name.clone();
    let mut found = zone.find(&asked);
    if !matches!(query.query_type, RecordType::CNAME | RecordType::ANY) {
        for target in zone.aliases(&asked) {
            let Some(target_name) = wire_name(target) else { return ResponseCode::ServFail };
            answer.add_answer(Record::from_rdata(owner, TTL, RData::CNAME(CNAME(target_name.clone()))));
            owner = target_name;
            found = zone.find(target.as_str());
        }
    }
    let Lookup::Data(data) = found else { return ResponseCode::NXDomain };
    for data in data {
        let Some(data) = wire_data(data) else { return ResponseCode::ServFail };
        if query.query_type == RecordType::ANY || query.query_type == data.record_type() {
            answer.add_answer(Record::from_rdata(owner.clone(), TTL, data));
        }
    }
    ResponseCode::NoError
}

fn wire_data(data: &ZoneData) -> Option<RData> {
    Some(match data {
        ZoneData::Address(IpAddr::V4(address)) => RData::A(A(*address)),
        ZoneData::Address(IpAddr::V6(address)) => RData::AAAA(AAAA(*address)),
        ZoneData::Cname(name) => RData::CNAME(CNAME(wire_name(name)?)),
        ZoneData::Ptr(name) => RData::PTR(PTR(wire_name(name)?)),
        ZoneData::Txt(text) if text.is_empty() => RData::TXT(TXT::from_bytes(vec![b""])),
        ZoneData::Txt(text) => RData::TXT(TXT::from_bytes(text.as_bytes().chunks(STRING_MAX).collect())),
    })
}

fn wire_name(name: &DnsName) -> Option<Name> {
    let mut name = Name::from_ascii(name.as_str()).ok()?;
    name.set_fqdn(true);
    Some(name)
}
