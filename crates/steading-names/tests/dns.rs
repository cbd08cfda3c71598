//! The DNS server: what it answers, byte by byte, and over sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use proptest::prelude::*;
use steading_names::{DnsListener, DnsTransport, SharedZone, answer};
use steading_plan::{Boot, HostFacts, Plan, Record, Testnet, VmSpec, Zone};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

fn plan() -> Plan {
    let boot = Boot::Kernel { kernel: "/vmlinuz".into(), initrd: None, cmdline: String::new() };
    let testnet = Testnet::new().vm(VmSpec::new("n1", boot));
    let host = HostFacts::default();
    Plan::derive(&"g".parse().expect("a name"), &testnet, &host).expect("a plan")
}

fn zone(records: &[Record]) -> Zone {
    plan().zone(records, []).expect("good records")
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

fn answered(zone: &Zone, question: &Message, transport: DnsTransport) -> Message {
    let bytes = question.to_vec().expect("it can be written");
    Message::from_vec(&answer(zone, &bytes, transport).expect("it is answered")).expect("a message")
}

fn data(answer: &Message) -> Vec<String> {
    answer.answers.iter().map(|record| format!("{} {}", record.name, record.data)).collect()
}

#[test]
fn a_vm_is_found_and_what_is_not_there_is_said_not_to_be() {
    let zone = zone(&[]);
    let found = answered(&zone, &question("N1.g.test.", RecordType::AAAA), DnsTransport::Udp);
    assert_eq!(found.metadata.response_code, ResponseCode::NoError);
    // As it was asked for: resolvers look at the case (draft-vixie-dnsext-dns0x20).
    assert_eq!(data(&found), [format!("N1.g.test. {}", plan().vms[0].address)]);
    assert_eq!((found.metadata.id, found.answers[0].ttl), (77, 0));
    assert!(found.metadata.authoritative && found.metadata.recursion_available);
    let none = answered(&zone, &question("n1.g.test.", RecordType::A), DnsTransport::Udp);
    assert_eq!((none.metadata.response_code, none.answers.len()), (ResponseCode::NoError, 0));
    for name in ["n2.g.test.", "www.debian.org.", "."] {
        let nothing = answered(&zone, &question(name, RecordType::AAAA), DnsTransport::Udp);
        assert_eq!(nothing.metadata.response_code, ResponseCode::NXDomain, "{name}");
        assert!(nothing.authorities.is_empty(), "with a SOA it would be kept");
    }
}

#[test]
fn an_alias_is_answered_with_what_it_leads_to() {
    let zone = zone(&[Record::cname("www", "n1"), Record::cname("lost", "nobody.example.com")]);
    let found = answered(&zone, &question("www.g.test.", RecordType::AAAA), DnsTransport::Udp);
    let address = plan().vms[0].address;
    assert_eq!(data(&found), ["www.g.test. n1.g.test.".to_owned(), format!("n1.g.test. {address}")]);
    let alias = answered(&zone, &question("www.g.test.", RecordType::CNAME), DnsTransport::Udp);
    assert_eq!(data(&alias), ["www.g.test. n1.g.test."]);
    let lost = answered(&zone, &question("lost.g.test.", RecordType::A), DnsTransport::Udp);
    // RFC 6604, section 3: the status is that of the last.
    assert_eq!((lost.metadata.response_code, lost.answers.len()), (ResponseCode::NXDomain, 1));
}

#[test]
fn a_long_text_is_cut_in_strings_and_asked_for_again_over_tcp() {
    let text = "0123456789".repeat(300);
    let zone = zone(&[Record::txt("long", text.clone())]);
    let mut asked = question("long.g.test.", RecordType::TXT);
    let cut = answered(&zone, &asked, DnsTransport::Udp);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let whole = answered(&zone, &asked, DnsTransport::Tcp);
    let RData::TXT(record) = &whole.answers[0].data else { panic!("{whole:?}") };
    assert_eq!(record.txt_data.iter().map(|part| part.len()).max(), Some(255));
    assert_eq!(record.txt_data.concat(), text.as_bytes());
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    asked.set_edns(edns);
    let cut = answered(&zone, &asked, DnsTransport::Udp);
    assert!(cut.metadata.truncation, "no datagram that would be cut into pieces");
    assert!(cut.edns.is_some());
}

#[test]
fn what_is_asked_wrongly_is_told_so() {
    let zone = zone(&[]);
    let mut update = question("n1.g.test.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(answered(&zone, &update, DnsTransport::Udp).metadata.response_code, ResponseCode::NotImp);
    let mut chaos = question("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(answered(&zone, &chaos, DnsTransport::Udp).metadata.response_code, ResponseCode::Refused);
    let mut two = question("n1.g.test.", RecordType::A);
    two.add_query(Query::query(Name::root(), RecordType::A));
    assert_eq!(answered(&zone, &two, DnsTransport::Udp).metadata.response_code, ResponseCode::FormErr);
    let mut bytes = question("n1.g.test.", RecordType::A).to_vec().expect("bytes");
    bytes.truncate(15);
    let told =
        Message::from_vec(&answer(&zone, &bytes, DnsTransport::Udp).expect("an answer")).expect("a message");
    assert_eq!((told.metadata.id, told.metadata.response_code), (77, ResponseCode::FormErr));
    // An answer to an answer would go on for ever.
    let answered = answered(&zone, &question("n1.g.test.", RecordType::A), DnsTransport::Udp);
    assert_eq!(answer(&zone, &answered.to_vec().expect("bytes"), DnsTransport::Udp), None);
}

#[tokio::test]
async fn a_change_is_answered_with_from_the_moment_it_is_made_over_both_transports() {
    let shared = SharedZone::new(zone(&[]));
    let anywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let listener = DnsListener::bind_port(anywhere, shared.clone()).await.expect("a socket");
    let address = listener.local_addr().expect("an address");
    let mut running = JoinSet::new();
    running.spawn(listener.run());
    let socket = UdpSocket::bind(anywhere).await.expect("a socket");
    socket.connect(address).await.expect("connected");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let bytes = question("late.g.test.", RecordType::A).to_vec().expect("bytes");
    for round in 0..20 {
        let records = if round % 2 == 1 { vec![Record::address("late", [10, 0, 0, 1])] } else { Vec::new() };
        shared.set(zone(&records));
        socket.send(&bytes).await.expect("sent");
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).await.expect("an answer");
        let by_udp = Message::from_vec(&buffer[..length]).expect("a message");
        stream.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("written");
        stream.write_all(&bytes).await.expect("written");
        let mut answer = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut answer).await.expect("an answer");
        let by_tcp = Message::from_vec(&answer).expect("a message");
        assert_eq!(
            (by_udp.answers.len(), by_tcp.answers.len()),
            (records.len(), records.len()),
            "round {round}"
        );
    }
}

proptest! {
    #[test]
    fn whatever_is_sent_breaks_nothing(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let zone = zone(&[Record::txt("*", "x")]);
        for transport in [DnsTransport::Udp, DnsTransport::Tcp] {
            if let Some(answer) = answer(&zone, &bytes, transport) {
                prop_assert!(Message::from_vec(&answer).is_ok());
                prop_assert_eq!(&answer[..2], &bytes[..2]);
            }
        }
    }
}
