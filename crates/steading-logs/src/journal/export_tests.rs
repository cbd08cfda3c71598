//! Tests of the export format's parser.

use proptest::prelude::*;

use super::*;

type Outcome = Vec<Result<JournalEntry, ExportError>>;

fn parse(pieces: &[&[u8]]) -> Outcome {
    let mut parser = ExportParser::new(FIELD_MAX, true);
    let mut out = Vec::new();
    for piece in pieces {
        parser.push(piece, &mut out);
    }
    out
}

/// Writes `fields` as journald does: text where it has no control character but the tab.
fn export(fields: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.extend(name.as_bytes());
        if value.iter().all(|&byte| byte >= b' ' || byte == b'\t') {
            out.push(b'=');
        } else {
            out.push(b'\n');
            out.extend((value.len() as u64).to_le_bytes());
        }
        out.extend(value);
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

fn messages(outcome: &Outcome) -> Vec<&str> {
    outcome.iter().flatten().map(|entry| entry.message.as_str()).collect()
}

const PLAIN: &[u8] = b"__CURSOR=s=1;i=2;b=3;m=4;t=5;x=6\n__REALTIME_TIMESTAMP=1700000000123456\n\
__MONOTONIC_TIMESTAMP=4321\n_BOOT_ID=3b\nPRIORITY=4\nSYSLOG_IDENTIFIER=sshd\n_SYSTEMD_UNIT=ssh.service\n\
_PID=77\n_EXTRA=a=b\nMESSAGE=hello = world\n\n";

#[test]
fn an_entry_of_text_fields_is_read() {
    let outcome = parse(&[PLAIN]);
    let [Ok(entry)] = outcome.as_slice() else { panic!("one entry, not {outcome:?}") };
    assert_eq!(entry.cursor, "s=1;i=2;b=3;m=4;t=5;x=6");
    assert_eq!(entry.realtime_usec, Some(1_700_000_000_123_456));
    assert_eq!(entry.realtime().map(|time| time.to_string()).as_deref(), Some("2023-11-14T22:13:20.123456Z"));
    assert_eq!((entry.monotonic, entry.boot_id.as_deref()), (Some(4321), Some("3b")));
    assert_eq!((entry.priority, entry.pid), (Some(4), Some(77)));
    assert_eq!((entry.identifier.as_deref(), entry.unit.as_deref()), (Some("sshd"), Some("ssh.service")));
    assert_eq!((entry.message.as_str(), entry.cut), ("hello = world", false));
    assert_eq!(entry.fields[8].name, "_EXTRA");
    assert_eq!(entry.fields[8].value, "a=b");
}

#[test]
fn only_the_named_fields_are_kept_unless_all_are_asked_for() {
    let mut out = Vec::new();
    ExportParser::new(FIELD_MAX, false).push(PLAIN, &mut out);
    assert!(matches!(out.as_slice(), [Ok(entry)] if entry.fields.is_empty() && entry.pid == Some(77)));
}

#[test]
fn a_message_of_several_lines_and_one_that_is_no_text_are_read() {
    let fields = [("__CURSOR".to_owned(), b"c".to_vec()), ("MESSAGE".to_owned(), b"one\n\nthree".to_vec())];
    assert_eq!(messages(&parse(&[&export(&fields)])), ["one\n\nthree"]);
    let fields = [("__CURSOR".to_owned(), b"c".to_vec()), ("MESSAGE".to_owned(), b"\n\xff".to_vec())];
    let outcome = parse(&[&export(&fields)]);
    assert!(matches!(outcome.as_slice(), [Ok(entry)] if entry.message == "\n\u{fffd}" && entry.cut));
}

#[test]
fn an_oversized_field_is_cut_and_marked() {
    for newline in ["", "\n"] {
        let value = format!("{newline}{}", "x".repeat(1000)).into_bytes();
        let fields = [("__CURSOR".to_owned(), b"c".to_vec()), ("MESSAGE".to_owned(), value)];
        let mut parser = ExportParser::new(100, true);
        let mut out = Vec::new();
        for byte in export(&fields) {
            parser.push(&[byte], &mut out);
            assert!(parser.buffer.len() <= 100 + NAME_MAX + 1);
        }
        parser.push(PLAIN, &mut out);
        let [Ok(long), Ok(next)] = out.as_slice() else { panic!("two entries, not {out:?}") };
        assert_eq!((long.message.len(), long.cut, long.fields[1].cut), (100, true, true));
        assert_eq!(next.message, "hello = world");
    }
}

#[test]
fn an_entry_of_endless_fields_stays_bounded() {
    let mut parser = ExportParser::new(100, true);
    let mut out = Vec::new();
    parser.push(b"__CURSOR=c\n", &mut out);
    for _ in 0..10_000 {
        parser.push(format!("F={}\n", "x".repeat(90)).as_bytes(), &mut out);
    }
    parser.push(b"\n", &mut out);
    let [Ok(entry)] = out.as_slice() else { panic!("one entry, not {out:?}") };
    assert!(entry.cut && entry.fields.len() <= ENTRY_FIELDS + 2);
}

#[test]
fn after_a_malformed_line_reading_goes_on_at_the_next_entry() {
    let mut bytes = b"__CURSOR=c\nthis is no field\nMESSAGE=lost\n\n".to_vec();
    bytes.extend(PLAIN);
    let outcome = parse(&[&bytes]);
    assert!(matches!(outcome[0], Err(ExportError::NotAField { ref shown }) if shown == "this is no field"));
    assert_eq!((outcome.len(), messages(&outcome)), (2, vec!["hello = world"]));
}

#[test]
fn after_a_field_of_impossible_length_reading_goes_on() {
    let mut bytes = b"__CURSOR=c\nMESSAGE\n".to_vec();
    bytes.extend(u64::MAX.to_le_bytes());
    bytes.extend(b"abc\n\n");
    bytes.extend(PLAIN);
    let outcome = parse(&[&bytes]);
    assert!(matches!(&outcome[0], Err(ExportError::TooLong { length: u64::MAX, name }) if name == "MESSAGE"));
    assert_eq!(messages(&outcome), ["hello = world"]);
}

#[test]
fn a_binary_field_that_does_not_end_where_it_says_is_an_error() {
    let mut bytes = b"__CURSOR=c\nMESSAGE\n".to_vec();
    bytes.extend(2_u64.to_le_bytes());
    bytes.extend(b"abc\n\n");
    bytes.extend(PLAIN);
    let outcome = parse(&[&bytes]);
    assert!(matches!(outcome[0], Err(ExportError::NotEnded { .. })));
    assert_eq!(messages(&outcome), ["hello = world"]);
}

#[test]
fn an_entry_without_a_cursor_is_an_error() {
    assert_eq!(parse(&[b"MESSAGE=x\n\n\n\n"]), [Err(ExportError::NoCursor)]);
}

#[test]
fn a_stream_cut_in_the_midst_of_an_entry_says_so() {
    for cut in [3, PLAIN.len() - 1] {
        let mut parser = ExportParser::new(FIELD_MAX, false);
        let mut out = Vec::new();
        parser.push(&PLAIN[..cut], &mut out);
        assert_eq!((out.len(), parser.finish()), (0, Err(ExportError::CutShort)));
    }
    let mut parser = ExportParser::new(FIELD_MAX, false);
    let mut out = Vec::new();
    parser.push(PLAIN, &mut out);
    assert_eq!((out.len(), parser.finish()), (1, Ok(())));
}

fn fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let value = prop_oneof![
        proptest::collection::vec(b' '..=b'~', 0..40),
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'='), Just(b'A')], 0..20),
    ];
    proptest::collection::vec(("[A-Z_][A-Z0-9_]{0,20}", value), 0..8).prop_map(|mut fields| {
        fields.retain(|(name, _)| name != "__CURSOR");
        fields.insert(0, ("__CURSOR".to_owned(), b"s=1;i=1".to_vec()));
        fields
    })
}

proptest! {
    #[test]
    fn what_is_exported_is_read_back_in_any_chunking(
        entries in proptest::collection::vec(fields(), 0..5),
        sizes in proptest::collection::vec(1_usize..30, 1..20),
    ) {
        let bytes: Vec<u8> = entries.iter().flat_map(|fields| export(fields)).collect();
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*size));
            pieces.push(piece);
            rest = after;
        }
        let read: Vec<Vec<(String, Vec<u8>)>> = parse(&pieces)
            .into_iter()
            .map(|entry| {
                let fields = entry.expect("well-formed").fields;
                fields.into_iter().map(|field| (field.name, field.value.to_vec())).collect()
            })
            .collect();
        prop_assert_eq!(read, entries);
    }

    #[test]
    fn anything_at_all_gives_the_same_in_any_chunking(
        noise in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'='), Just(b'A'), any::<u8>()], 0..60),
        cut in 0_usize..60,
    ) {
        let cut = cut.min(noise.len());
        prop_assert_eq!(parse(&[&noise]), parse(&[&noise[..cut], &noise[cut..]]));
    }
}
