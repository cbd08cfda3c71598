//! Random bytes.

use std::fmt::Write as _;

use ring::rand::{SecureRandom as _, SystemRandom};

/// So many of them; the first bit is never set, so that they are a positive number, too.
///
/// # Panics
///
/// When the kernel gives none, which it does not once it has booted (getrandom(2)).
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel has random numbers");
    if let Some(first) = bytes.first_mut() {
        *first &= 0x7f;
    }
    bytes
}

/// A word that nobody can guess.
pub(crate) fn random_word() -> String {
    random::<16>().iter().fold(String::new(), |mut word, byte| {
        write!(word, "{byte:02x}").expect("a String takes all");
        word
    })
}
