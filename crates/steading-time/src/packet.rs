//! Requests and answers (RFC 5905, section 7.3). Pure.

use std::time::{SystemTime, UNIX_EPOCH};

/// How many bytes a packet has, without extension fields.
pub const LENGTH: usize = 48;

/// Seconds from the beginning of NTP's era 0, 1900, to that of Unix time.
const TO_UNIX: u64 = 2_208_988_800;

/// The mode of clients, and that of servers (figure 10).
const CLIENT: u8 = 3;
const SERVER: u8 = 4;

/// A primary server: it has its time from no other.
const STRATUM: u8 = 1;

/// From where it has it: this machine's own clock.
const REFERENCE: &[u8; 4] = b"LOCL";

/// How exact the clock is read: 2^-20 s, about a microsecond.
const PRECISION: i8 = -20;

/// How far the clock may be off, in 2^-16 s: a millisecond. What this machine's own clock is off is not known.
const DISPERSION: u32 = 66;

/// A time in NTP's format: seconds of an era, and a fraction of 2^-32 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(u64);

impl Timestamp {
    /// This time; eras are not told apart.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = (since.as_secs() + TO_UNIX) << 32;
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        Self(seconds | fraction)
    }

    /// As it stands in a packet.
    pub const fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

/// The answer to a request that came at this time, sent at that one. None if it is no client's request.
pub fn answer(request: &[u8], received: Timestamp, sent: Timestamp) -> Option<[u8; LENGTH]> {
    let (first, rest) = request.split_first()?;
    let (version, mode) = ((first >> 3) & 7, first & 7);
    if request.len() < LENGTH || mode != CLIENT || !(1..=4).contains(&version) {
        return None;
    }
    let mut packet = [0; LENGTH];
    // No leap second is announced.
    packet[0] = version << 3 | SERVER;
    packet[1] = STRATUM;
    // The interval that the client has chosen.
    packet[2] = rest[1];
    packet[3] = PRECISION.cast_unsigned();
    packet[8..12].copy_from_slice(&DISPERSION.to_be_bytes());
    packet[12..16].copy_from_slice(REFERENCE);
    // When the clock was last set; it is right whenever it is read.
    packet[16..24].copy_from_slice(&received.to_be_bytes());
    // The client knows its request by the time that it wrote there.
    packet[24..32].copy_from_slice(&request[40..48]);
    packet[32..40].copy_from_slice(&received.to_be_bytes());
    packet[40..48].copy_from_slice(&sent.to_be_bytes());
    Some(packet)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64, nanos: u32) -> Timestamp {
        Timestamp::of(UNIX_EPOCH + Duration::new(seconds, nanos))
    }

    fn request(version: u8, mode: u8) -> [u8; LENGTH] {
        let mut request = [0; LENGTH];
        request[0] = version << 3 | mode;
        request[2] = 6;
        request[40..48].copy_from_slice(b"mytime!!");
        request
    }

    #[test]
    fn times_are_those_of_the_rfc() {
        // Figure 4: the first day of Unix, and the last second of era 0 and the one after.
        assert_eq!(at(0, 0).to_be_bytes(), [0x83, 0xaa, 0x7e, 0x80, 0, 0, 0, 0]);
        assert_eq!(at(0, 500_000_000).to_be_bytes()[4..], [0x80, 0, 0, 0]);
        assert_eq!(at(2_085_978_495, 0).to_be_bytes()[..4], [0xff; 4]);
        assert_eq!(at(2_085_978_496, 0).to_be_bytes()[..4], [0; 4]);
    }

    #[test]
    fn an_answer_names_the_request_and_both_times() {
        let answer = answer(&request(4, CLIENT), at(10, 0), at(10, 1000)).expect("an answer");
        assert_eq!(answer[..3], [0x24, 1, 6]);
        assert_eq!(answer[24..32], *b"mytime!!");
        assert_eq!(answer[32..40], at(10, 0).to_be_bytes());
        assert_eq!(answer[40..48], at(10, 1000).to_be_bytes());
    }

    #[test]
    fn who_is_no_client_gets_no_answer() {
        for (version, mode) in [(4, 0), (4, 1), (4, SERVER), (4, 5), (4, 6), (4, 7), (0, CLIENT), (5, CLIENT)]
        {
            assert_eq!(answer(&request(version, mode), at(1, 0), at(1, 0)), None, "{version} {mode}");
        }
        assert_eq!(answer(&request(4, CLIENT)[..47], at(1, 0), at(1, 0)), None);
        assert_eq!(answer(&[], at(1, 0), at(1, 0)), None);
    }

    proptest! {
        /// Two servers cannot be made to answer each other for ever, and nobody gets more than was sent.
        #[test]
        fn no_answer_is_answered_or_longer_than_what_was_asked(bytes: Vec<u8>) {
            if let Some(answered) = answer(&bytes, at(1, 0), at(1, 0)) {
                prop_assert!(answered.len() <= bytes.len());
                prop_assert_eq!(answer(&answered, at(2, 0), at(2, 0)), None);
            }
        }
    }
}
