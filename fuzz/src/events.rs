//! What the owner of a group tells of the programs that it runs.

use steading_api::{LineDecoder, ProcessEvent};

use crate::Target;
use crate::input::same_in_pieces;

/// The target.
pub const TARGET: Target = Target {
    name: "events",
    check,
    seeds: &[
        b"{\"started\":{\"pid\":7}}\n{\"line\":{\"text\":\"hello\"}}\n\
          {\"note\":{\"note\":{\"waiting\":{\"what\":\"port 22\"}}}}\n{\"note\":{\"note\":\"going\"}}\n\
          {\"ended\":{\"status\":0,\"signal\":null,\"left\":[\"sleep 9\"]}}\n",
        b"{\"note\":{\"note\":{\"metric\":{\"name\":\"boot_s\",\"value\":1.5}}}}\n\
          {\"ended\":{\"status\":null,\"signal\":9,\"left\":[]}}\n",
        b"\n{\"line\":{\"text\":\"\\u0000\\ud83d\\ude00\"}}\n{\"tor",
    ],
    words: &[
        "{\"started\":{\"pid\":1}}\n",
        "{\"line\":{\"text\":\"",
        "\"note\":",
        "{\"metric\":{\"name\":\"x\",\"value\":",
        "\"going\"",
        "{\"ended\":{\"status\":null,\"signal\":null,\"left\":[]}}\n",
        "1.7976931348623157e308",
        "-2147483648",
        "\n",
    ],
};

/// Reads the bytes as events.
pub fn check(bytes: &[u8]) {
    let events = same_in_pieces(bytes, |pieces| {
        let mut lines = LineDecoder::new();
        let mut events = Vec::new();
        for piece in pieces {
            lines.push(piece);
            loop {
                match lines.next_value::<ProcessEvent>() {
                    Ok(Some(event)) => events.push(Ok(event)),
                    Ok(None) => break,
                    Err(error) => events.push(Err(error.to_string())),
                }
            }
        }
        events
    });
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    // What has no end was not said.
    lines.pop();
    assert_eq!(events.len(), lines.len(), "each line is an event, or none with a reason");
    for (line, event) in lines.into_iter().zip(&events) {
        assert_eq!(&serde_json::from_slice::<ProcessEvent>(line).ok(), &event.as_ref().ok().cloned());
    }
    for event in events.into_iter().flatten() {
        let written = serde_json::to_string(&event).expect("an event can be written");
        assert!(!written.contains('\n'), "an event is one line");
        assert_eq!(serde_json::from_str::<ProcessEvent>(&written).expect("and read"), event);
    }
}
