//! Holds a flood of output back, so that a program that prints without end fills neither the log
//! nor the disk: of a long output the beginning is kept, and the end.

/// How much of one stream is passed on as it comes, in bytes.
const PASSED_ON: usize = 16 << 20;

/// How much of the end is passed on, in bytes.
const KEPT: usize = 64 << 10;

/// The output of one stream.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    passed_on: usize,
    held_back: u64,
    /// The last bytes, and as many before them that are not wanted any more.
    end: Vec<u8>,
}

/// The end of an output that was too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// How many bytes were left out before it.
    pub(crate) left_out: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Flood {
    /// Gives back how many of these bytes are to be passed on now; the rest is held back.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> usize {
        let now = bytes.len().min(PASSED_ON - self.passed_on);
        self.passed_on += now;
        let rest = &bytes[now..];
        self.held_back += rest.len() as u64;
        self.end.extend_from_slice(rest);
        if self.end.len() >= 2 * KEPT {
            self.end.drain(..self.end.len() - KEPT);
        }
        now
    }

    /// What is to be passed on when the stream has ended, if anything was held back.
    pub(crate) fn end(mut self) -> Option<End> {
        if self.held_back == 0 {
            return None;
        }
        if self.held_back > KEPT as u64 {
            self.end.drain(..self.end.len().saturating_sub(KEPT));
            // A line that is cut in the middle is left out, unless there is no other.
            let first = self.end.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            self.end.drain(..first);
        }
        Some(End { left_out: self.held_back - self.end.len() as u64, bytes: self.end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_of_common_size_is_passed_on_as_it_comes() {
        let mut flood = Flood::default();
        assert_eq!(flood.pass(b"a\n"), 2);
        assert_eq!(flood.end(), None);
    }

    #[test]
    fn a_little_too_much_loses_nothing() {
        let mut flood = Flood { passed_on: PASSED_ON - 3, ..Flood::default() };
        assert_eq!(flood.pass(b"one\ntwo\n"), 3);
        assert_eq!(flood.end(), Some(End { left_out: 0, bytes: b"\ntwo\n".to_vec() }));
    }

    #[test]
    fn of_a_flood_the_beginning_and_the_end_are_kept_and_the_rest_is_counted() {
        let mut flood = Flood::default();
        let line = [b"x".repeat(1022), b"\n".to_vec()].concat();
        let lines = 64 * 1024;
        let passed_on: usize = (0..lines).map(|_| flood.pass(&line)).sum();
        assert_eq!(passed_on, PASSED_ON);
        flood.pass(b"the last");
        let end = flood.end().unwrap();
        assert!(end.bytes.ends_with(b"\nthe last") && end.bytes.starts_with(b"xx"));
        assert!(end.bytes.len() <= KEPT && end.bytes.len() > KEPT - 1023);
        let all = (lines * line.len() + 8) as u64;
        assert_eq!(end.left_out + end.bytes.len() as u64 + PASSED_ON as u64, all);
    }
}
