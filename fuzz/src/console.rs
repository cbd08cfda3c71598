//! A guest's serial console, which can carry anything.

use std::time::Instant;

use steading_logs::{Console, ConsoleLine, LINE_MAX};

use crate::Target;
use crate::input::same_in_pieces;

/// The target.
pub const TARGET: Target = Target {
    name: "console",
    check,
    seeds: &[
        b"\x1b[0;1;31mred\x1b[0m\tplain\x1b(B\r\n[    0.000000] Linux version 6.1\r\r\nlogin: ",
        b"a\x1b]0;title\x07b\x1b]8;;x\x1b\\c\x1bPdcs\x1b\\d\n\x1b[2J\x1b[1;1Hmenu\x18\x1a\x7f\n\r",
        b"\xe2\x82\xac \xe2\x82 \xff \xc2\x9b \xf0\x9f\x92\n[ 1.0] Kernel panic - not syncing: x\n",
        b"\xc0\x80\xed\xa0\x80\r\x1b",
    ],
    words: &[
        "\u{1b}[",
        "\u{1b}]",
        "\u{1b}P",
        "\u{1b}\\",
        "\u{1b}(B",
        "\u{7}",
        "\u{18}",
        "\r\n",
        "\r\r\n",
        "\n\r",
        "\r",
        "€",
        "\u{80}",
        "\u{9b}",
        "\u{9f}",
        "2J",
        ";",
        "Kernel panic - not syncing: ",
        "\0",
    ],
};

/// Reads the bytes as a console of two boots.
pub fn check(bytes: &[u8]) {
    let (lines, text) = same_in_pieces(bytes, |pieces| {
        let mut console = Console::new();
        let mut lines = Vec::new();
        for boot in 0..2 {
            lines.extend(console.mark_boot());
            for piece in pieces {
                lines.extend(console.push(piece, Instant::now()));
            }
            assert_eq!(console.boot(), boot + 1);
        }
        lines.extend(console.flush_partial());
        let lines: Vec<_> = lines
            .into_iter()
            .map(|ConsoleLine { text, continued, boot, badness }| (text, continued, boot, badness))
            .collect();
        (lines, console.text().since(0).to_owned())
    });
    for (line, ..) in &lines {
        assert!(line.len() <= LINE_MAX, "a line has {} bytes", line.len());
        assert!(line.chars().all(|c| !c.is_control() || c == '\t'), "a line has a control: {line:?}");
    }
    assert!(text.chars().all(|c| !c.is_control() || c == '\t' || c == '\n'), "the text has a control");
}
