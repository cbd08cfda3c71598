//! What QEMU says of overlays that were made without it.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;

use camino::Utf8Path;
use common::{Fixture, disk, noise, padded, qemu_on};
use proptest::prelude::*;
use steading_vm::image::{Image, ImageError, empty_overlay};

const FILE: &str = "/proc/self/fd/0";

fn scratch() -> &'static Utf8Path {
    Utf8Path::new("/tmp")
}

/// QEMU's name for the overlay with its base, as the engine gives it with `-blockdev`.
fn on_base(image: &Image) -> String {
    format!(
        r#"json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{FILE}"}},
            "backing":{{"driver":"raw","read-only":true,"file":{{"driver":"file","filename":"{}"}}}}}}"#,
        image.path
    )
}

fn read_through(f: &Fixture, overlay: &File, image: &Image) -> Vec<u8> {
    let target = f.dir().join("converted");
    qemu_on("qemu-img", overlay, ["convert", "-O", "raw", &on_base(image), target.as_str()]);
    fs_err::read(&target).expect("read")
}

#[test]
fn an_overlay_shows_its_base_keeps_what_is_written_and_leaves_the_base_alone() {
    let f = Fixture::new();
    let image = f.prepare(&f.file("a", &disk())).expect("prepared");
    let base = padded(disk());
    let overlay = image.overlay(&f.dir(), None).expect("overlay");
    assert!(read_through(&f, &overlay, &image) == base);

    qemu_on("qemu-io", &overlay, ["-c", "write -P 0x5a 70k 300k", &on_base(&image)]);
    qemu_on("qemu-img", &overlay, ["check", "-f", "qcow2", FILE]);
    let mut written = base.clone();
    written[70 << 10..370 << 10].fill(0x5a);
    assert!(read_through(&f, &overlay, &image) == written);
    assert!(fs_err::read(&image.path).expect("read") == base);
}

#[test]
fn a_larger_overlay_has_zeros_behind_its_base_and_a_smaller_one_is_refused() {
    let f = Fixture::new();
    let image = f.prepare(&f.file("a", &noise(1, 1 << 20))).expect("prepared");
    let overlay = image.overlay(&f.dir(), Some((2 << 20) + 1)).expect("overlay");
    let mut wanted = noise(1, 1 << 20);
    wanted.resize((2 << 20) + 512, 0);
    assert!(read_through(&f, &overlay, &image) == wanted);
    let error = image.overlay(&f.dir(), Some((1 << 20) - 512)).expect_err("too small");
    assert!(matches!(error, ImageError::OverlayTooSmall { .. }), "{error}");
}

#[test]
fn overlays_are_on_the_file_system_of_their_scratch_directory_and_have_no_name() {
    let f = Fixture::new();
    let scratch = f.dir().join("scratch");
    fs_err::create_dir(&scratch).expect("mkdir");
    let overlay = empty_overlay(&scratch, 1 << 30).expect("overlay");
    assert_eq!(fs_err::read_dir(&scratch).expect("list").count(), 0);
    overlay.write_all_at(b"x", 1 << 20).expect("writable");
    let error = empty_overlay(&f.dir().join("missing"), 512).expect_err("missing");
    assert!(error.to_string().contains("missing"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn qemu_finds_no_fault_in_an_overlay_of_any_size(
        size in prop_oneof![1_u64..1 << 20, 1_u64..1 << 34, 1_u64..1 << 46, (0_u64..64).prop_map(|n| (512 << 20) * n + 1)],
    ) {
        let overlay = empty_overlay(scratch(), size).expect("overlay");
        // It ends with an error for any fault or leak.
        qemu_on("qemu-img", &overlay, ["check", "-f", "qcow2", FILE]);
        let info = qemu_on("qemu-img", &overlay, ["info", "-f", "qcow2", "--output=json", FILE]);
        let info: serde_json::Value = serde_json::from_slice(&info).expect("JSON");
        prop_assert_eq!(info["virtual-size"].as_u64(), Some(size.next_multiple_of(512)));
        prop_assert_eq!(info["cluster-size"].as_u64(), Some(65536));
        prop_assert!(info.get("backing-filename").is_none());
        prop_assert_eq!(&info["format-specific"]["data"]["compat"], "1.1");
        prop_assert_eq!(&info["format-specific"]["data"]["lazy-refcounts"], false);
        // The last sector can be written to and read.
        let last = (size.next_multiple_of(512) - 512).to_string();
        qemu_on("qemu-io", &overlay, ["-f", "qcow2", "-c", &format!("write -P 7 {last} 512"), "-c", &format!("read -P 7 {last} 512"), FILE]);
        qemu_on("qemu-img", &overlay, ["check", "-f", "qcow2", FILE]);
    }
}
