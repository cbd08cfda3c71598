//! The short search: a part of the tests, on any toolchain, without instrumentation.
//!
//! An input at random tells nothing: it is no JSON, no TOML, no journal. So each begins as a seed and
//! is edited a few times, with words that mean something to its reader. The search is the same each
//! time, since a change should be judged by what it changes; `PROPTEST_RNG_SEED=NUMBER` makes another
//! one. What it finds is made small, by leaving out edits and then bytes, and kept in a file.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use camino::Utf8PathBuf;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};

use crate::Target;

/// What decides the search, unless it is said.
pub const SEED: u64 = 1;

/// How many edits an input has at most.
const EDITS: usize = 8;

/// No input becomes longer, in bytes.
const INPUT_MAX: usize = 8 * 1024;

/// An input that breaks a promise.
#[derive(Debug)]
pub struct Found {
    /// The target.
    pub target: &'static str,
    /// The input, made small.
    pub input: Vec<u8>,
    /// What its reader did.
    pub reason: String,
    /// Where the input was put, if it could be.
    pub file: Option<Utf8PathBuf>,
    /// What decided the search.
    pub seed: RngSeed,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, input, reason, file, seed } = self;
        write!(f, "the target {target} breaks on b\"{}\": {reason}", input.escape_ascii())?;
        if let Some(file) = file {
            write!(f, "\nhint: this input again: cargo xtask fuzz {target} --input {file}")?;
        }
        write!(f, "\nhint: this search again: PROPTEST_RNG_SEED={seed} cargo test -p steading-fuzz {target}")
    }
}

/// One change to an input.
#[derive(Debug, Clone)]
enum Edit {
    Word(Index, Index),
    Byte(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Splice(Index, Index, Index),
    End(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = any::<Index>;
    prop_oneof![
        4 => (place(), place()).prop_map(|(at, word)| Edit::Word(at, word)),
        2 => (place(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        2 => (place(), 1..40_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        2 => (place(), 1..80_usize, 1..30_usize).prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
        1 => (place(), place(), place()).prop_map(|(at, seed, from)| Edit::Splice(at, seed, from)),
        1 => place().prop_map(Edit::End),
    ]
}

impl Edit {
    fn apply(&self, target: &Target, input: &mut Vec<u8>) {
        let place = |at: &Index| at.index(input.len() + 1);
        match self {
            Self::Word(at, word) => {
                let (at, word) = (place(at), word.get(target.words));
                input.splice(at..at, word.bytes());
            }
            Self::Byte(at, byte) => {
                let at = place(at);
                match input.get_mut(at) {
                    Some(there) => *there = *byte,
                    None => input.push(*byte),
                }
            }
            Self::Remove(at, length) => {
                let at = place(at);
                let end = (at + length).min(input.len());
                input.drain(at..end);
            }
            Self::Repeat(at, length, times) => {
                let at = place(at);
                let part = input[at..(at + length).min(input.len())].repeat(*times);
                input.splice(at..at, part);
            }
            Self::Splice(at, seed, from) => {
                let (at, seed) = (place(at), seed.get(target.seeds));
                input.splice(at.., seed[from.index(seed.len() + 1)..].iter().copied());
            }
            Self::End(at) => input.truncate(place(at)),
        }
        input.truncate(INPUT_MAX);
    }
}

fn inputs(target: &'static Target) -> impl Strategy<Value = Vec<u8>> {
    (any::<Index>(), prop::collection::vec(edit(), 0..=EDITS)).prop_map(move |(seed, edits)| {
        let mut input = seed.get(target.seeds).to_vec();
        for edit in &edits {
            edit.apply(target, &mut input);
        }
        input
    })
}

/// Tries the seeds, and then so many inputs that are like them.
///
/// # Errors
///
/// The first that breaks a promise.
pub fn search(target: &'static Target, cases: u32) -> Result<(), Box<Found>> {
    let given = Config::default();
    let seed = match given.rng_seed {
        RngSeed::Random => RngSeed::Fixed(SEED),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    let config = Config { cases, rng_seed: seed, failure_persistence: None, ..given };
    let exactly = target.seeds.iter().map(|seed| (Just(seed.to_vec()).boxed(), 1));
    for (inputs, cases) in exactly.chain([(inputs(target).boxed(), cases)]) {
        let mut runner = TestRunner::new(Config { cases, ..config.clone() });
        let ended = runner.run(&inputs, |input| {
            (target.check)(&input);
            Ok(())
        });
        match ended {
            Ok(()) => {}
            Err(TestError::Fail(_, input)) => return Err(Box::new(found(target, input, seed))),
            Err(TestError::Abort(reason)) => panic!("the search for inputs was given up: {reason}"),
        }
    }
    Ok(())
}

fn found(target: &Target, input: Vec<u8>, seed: RngSeed) -> Found {
    let (input, reason) = small(target, input);
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let name = format!("steading-fuzz-{}-{:016x}", target.name, hasher.finish());
    let file = Utf8PathBuf::try_from(std::env::temp_dir().join(name)).ok();
    let file = file.filter(|file| fs_err::write(file, &input).is_ok());
    Found { target: target.name, input, reason, file, seed }
}

/// How often an input is tried again to make it small.
const ATTEMPTS: usize = 2000;

/// Leaves out what can be left out, in ever smaller parts, as long as something breaks; and says what.
fn small(target: &Target, mut input: Vec<u8>) -> (Vec<u8>, String) {
    let mut reason = broken(target, &input).unwrap_or_else(|| "it broke once only".to_owned());
    let mut attempts = ATTEMPTS;
    let mut length = input.len();
    while length > 0 {
        let mut at = 0;
        while at < input.len() && attempts > 0 {
            attempts -= 1;
            let end = (at + length).min(input.len());
            let without = [&input[..at], &input[end..]].concat();
            match broken(target, &without) {
                Some(said) => (input, reason) = (without, said),
                None => at += length,
            }
        }
        length /= 2;
    }
    (input, reason)
}

/// What a panic says, if the target has one.
fn broken(target: &Target, input: &[u8]) -> Option<String> {
    let panic = std::panic::catch_unwind(|| (target.check)(input)).err()?;
    let said = panic.downcast_ref::<String>().cloned();
    said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).or(Some("a panic".to_owned()))
}
