//! The short search of every target, and that it can find something.

use std::sync::Mutex;

use steading_fuzz::short::search;
use steading_fuzz::{TARGETS, Target, target};

/// A few seconds for all targets, in a debug build on two cores.
const CASES: u32 = 3000;

fn holds(name: &str) {
    let target = target(name).expect("a target");
    search(target, CASES).unwrap_or_else(|found| panic!("{found}"));
}

#[test]
fn whatever_a_console_carries_becomes_lines_of_text() {
    holds("console");
}

#[test]
fn events_are_those_of_their_lines_however_they_arrive() {
    holds("events");
}

#[test]
fn a_journal_is_read_the_same_in_any_pieces_and_in_bounded_memory() {
    holds("journal");
}

#[test]
fn the_launcher_reads_names_and_its_own_records_and_nothing_else() {
    holds("launch");
}

#[test]
fn a_request_for_a_file_is_read_whatever_it_is() {
    holds("files");
}

#[test]
fn a_compressed_image_decodes_the_same_in_any_pieces_or_is_refused() {
    holds("image");
}

#[test]
fn a_log_gives_the_same_records_while_it_grows_and_afterwards() {
    holds("log");
}

#[test]
fn whatever_qemu_says_its_client_ends_and_answers_everybody() {
    holds("qmp");
}

#[test]
fn a_report_can_be_made_of_any_results_and_any_log() {
    holds("report");
}

#[test]
fn a_testnet_in_toml_has_a_plan_or_an_error() {
    holds("testnet");
}

/// A reader with a mistake of the kind that is looked for: it takes a length from its input at its
/// word, which only matters behind two right words.
const MISTAKEN: Target = Target {
    name: "mistaken",
    check: |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Some((_, rest)) = text.split_once("begin length=") {
            let length = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            let body = &rest[length.len()..];
            if let Some(length) = length.parse::<usize>().ok().filter(|&length| length > 0) {
                assert!(body.is_char_boundary(length), "{length} bytes of {}", body.len());
            }
        }
    },
    seeds: &[b"begin length=4;abcd;end", b"begin\nend"],
    words: &["begin ", "length=", "9", ";", "end"],
};

#[test]
fn a_mistake_is_found_made_small_and_told_with_the_command_that_repeats_it() {
    let found = search(&MISTAKEN, CASES).expect_err("there is a mistake");
    assert_eq!(found.input, b"begin length=9", "{found}");
    let file = found.file.clone().expect("it was written");
    assert_eq!(fs_err::read(&file).expect("the input"), found.input);
    let told = found.to_string();
    assert!(told.contains(&format!("cargo xtask fuzz mistaken --input {file}")), "{told}");
    fs_err::remove_file(file).expect("removed");
}

#[test]
fn the_search_is_the_same_each_time() {
    static SEEN: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    const SEEING: Target = Target {
        name: "seeing",
        check: |bytes| SEEN.lock().expect("held by nobody").push(bytes.to_vec()),
        ..MISTAKEN
    };
    let seen = || {
        search(&SEEING, 100).expect("it breaks on nothing");
        std::mem::take(&mut *SEEN.lock().expect("held by nobody"))
    };
    let (once, twice) = (seen(), seen());
    assert_eq!(once.len(), 100 + SEEING.seeds.len());
    assert_eq!(once, twice);
}

#[test]
fn every_target_has_a_program_of_its_own_for_the_long_search() {
    let manifest = include_str!("../Cargo.toml");
    for Target { name, .. } in TARGETS {
        let path = format!("targets/{name}.rs");
        let source =
            fs_err::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).expect("a program");
        assert!(source.contains(&format!("steading_fuzz::{name}::check")), "{path}: {source}");
        assert!(manifest.contains(&format!("path = \"{path}\"")), "{path} is in no [[bin]]");
    }
}
