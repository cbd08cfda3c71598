//! What a guest asks of the group's DNS.

use std::sync::LazyLock;

use steading_names::{DnsTransport, answer};
use steading_plan::{HostFacts, Plan, Record, Testnet, Zone};

use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "dns",
    check,
    seeds: &[
        // n1.fuzz.test. AAAA, with EDNS
        b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x02n1\x04fuzz\x04test\x00\x00\x1c\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00",
        // a.b.example.com. TXT
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x01b\x07example\x03com\x00\x00\x10\x00\x01",
        // A name that points at itself.
        b"\x00\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01",
        // Two questions, and a count of answers that are not there.
        b"\x00\x03\x01\x00\x00\x02\x00\x09\x00\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00\x01\x00\x01",
    ],
    words: &["\x00\x01", "\x00\x1c", "\x00\x10", "\x00\x05", "\x00\x7f", "\x04fuzz\x04test\x00", "\x03www", "\x01*"],
};

/// A head, of 12 bytes.
const HEAD: usize = 12;

static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let host = HostFacts::default();
    let plan = Plan::derive(&"fuzz".parse().expect("a name"), &Testnet::new(), &host).expect("a plan");
    let records = [
        Record::txt("*.example.com", "x".repeat(3000)),
        Record::cname("www", "b.example.com"),
        Record::cname("ring", "ring"),
        Record::address("n1", [10, 0, 0, 1]),
    ];
    plan.zone(&records, []).expect("good records")
});

/// Answers the bytes as a question.
pub fn check(bytes: &[u8]) {
    for (transport, limit) in [(DnsTransport::Udp, 1232), (DnsTransport::Tcp, 65535)] {
        let told = answer(&ZONE, bytes, transport);
        assert_eq!(told, answer(&ZONE, bytes, transport), "another answer to the same question");
        let Some(told) = told else { continue };
        assert!((HEAD..=limit).contains(&told.len()), "an answer of {} bytes", told.len());
        assert_eq!(told[..2], bytes[..2], "an answer to another question");
        assert!(told[2] & 0x80 != 0, "an answer that is a question");
        assert!(answer(&ZONE, &told, transport).is_none(), "an answer to an answer");
    }
}
