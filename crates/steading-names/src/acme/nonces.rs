//! Numbers that are good for one request each (RFC 8555, section 6.5).

use std::collections::{BTreeSet, VecDeque};

use crate::random::random_word;

/// How many may be unused; the oldest are forgotten first, and their clients told to try again.
const UNUSED_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Nonces {
    unused: BTreeSet<String>,
    ages: VecDeque<String>,
}

impl Nonces {
    pub(super) fn give(&mut self) -> String {
        let nonce = random_word();
        self.unused.insert(nonce.clone());
        self.ages.push_back(nonce.clone());
        if self.ages.len() > UNUSED_MAX
            && let Some(oldest) = self.ages.pop_front()
        {
            self.unused.remove(&oldest);
        }
        nonce
    }

    /// Whether it is good, which it is no more.
    pub(super) fn take(&mut self, nonce: &str) -> bool {
        self.unused.remove(nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_once_and_not_for_ever() {
        let mut nonces = Nonces::default();
        let first = nonces.give();
        assert!(nonces.take(&first));
        assert!(!nonces.take(&first));
        let second = nonces.give();
        for _ in 0..UNUSED_MAX {
            nonces.give();
        }
        assert!(!nonces.take(&second));
        assert!(nonces.unused.len() <= UNUSED_MAX && nonces.ages.len() <= UNUSED_MAX);
    }
}
