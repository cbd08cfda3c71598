//! What the launcher is told: words of a command line, and records that it finds on interfaces.

use steading_plan::{InterfaceRecord, LaunchRequest, ProcessMark};

use crate::Target;

/// Words and records, as `check` reads them.
pub const TARGET: Target = Target {
    name: "launch",
    check,
    seeds: &[
        b"east",
        b"east\0a\0b+ipv4",
        b"steading 1 uid=1001 keeper=7-99-4026531836 group=east",
        b"7-99-4026531836",
    ],
    words: &["\0", "+ipv4", "steading 1", " uid=", " keeper=", " group=", "-", "0", "/", ".."],
};

/// Words are a request of names that is written as it was read, or nothing; so are records and marks.
fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(request) = LaunchRequest::parse(text.split('\0')) {
        assert_eq!(request.words().join("\0"), text);
        assert!(request.taps().iter().all(|tap| tap.as_str().starts_with("ta")));
        // Nothing of a name is a line of its own in what the router daemon reads.
        let lines = request.dnsmasq();
        let mut of_macs = lines.lines().filter(|line| line.starts_with("dhcp-host="));
        let with_second = request.words().iter().filter(|word| word.ends_with("+ipv4")).count();
        assert!(of_macs.by_ref().count() == with_second && lines.lines().count() < 30 + with_second);
    }
    if let Some(record) = InterfaceRecord::parse(text) {
        assert_eq!(record.to_string(), text);
    }
    if let Ok(mark) = text.parse::<ProcessMark>() {
        assert_eq!(mark.to_string(), text);
    }
}
