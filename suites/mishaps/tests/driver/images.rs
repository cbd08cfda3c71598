//! Images that are no good: told before anything starts, by name, with what to do.

use crate::support::{HOST, Mishap, attempt};

/// What looks like a disk, and does not compress well.
fn disk() -> Vec<u8> {
    let mut state = 1_u32;
    let mut disk: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(1 << 20)
    .collect();
    // The signature of a master boot record.
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[test]
fn an_image_that_is_not_there_is_told_with_its_path() {
    let mut mishap = Mishap::new("image");
    mishap.command.env("MISHAP_IMAGE", "/no/such/disk.img");
    let ran = mishap.run();
    ran.assert_code(HOST);
    ran.assert_told(
        &[
            "VM a: cannot prepare its disk",
            "cannot open image /no/such/disk.img",
            "No such file or directory",
        ],
        "check that the path exists",
    );
}

#[test]
fn a_truncated_zstd_image_is_told_as_cut_short() {
    let whole = zstd::encode_all(disk().as_slice(), 1).expect("compress");
    let mishap = Mishap::new("image").image(&whole[..whole.len() / 2]);
    let image = mishap.path("image").display().to_string();
    let ran = mishap.run();
    ran.assert_code(HOST);
    ran.assert_told(&["VM a", &format!("image {image} is truncated: ")], "fetch it again");
    assert_eq!(ran.cached_images(), 0);
}

#[test]
fn an_encrypted_image_is_told_as_such() {
    let mishap = Mishap::new("image");
    let image = mishap.path("image").display().to_string();
    let args = ["create", "-q", "-f", "qcow2", "--object", "secret,id=key,data=secret"];
    let options = ["-o", "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10", &image, "1M"];
    let create = [args.as_slice(), options.as_slice()].concat();
    // It measures the CPU to choose a number of rounds, and gives up where that is too busy.
    let is_busy = |made: &Result<(), String>| {
        made.as_ref().is_err_and(|said| said.contains("Unable to get accurate CPU usage"))
    };
    let made = (0..100).map(|_| attempt("qemu-img", &create)).find(|made| !is_busy(made));
    assert_eq!(made, Some(Ok(())), "qemu-img {create:?}");
    let mut mishap = mishap;
    mishap.command.env("MISHAP_IMAGE", &image);
    let ran = mishap.run();
    ran.assert_code(HOST);
    ran.assert_told(&["VM a", &format!("image {image} is encrypted (qcow2 with LUKS)")], "decrypt it first");
}

#[test]
fn an_image_of_a_format_for_other_programs_is_told_with_what_is_accepted() {
    let vmdk = [b"KDMV".as_slice(), &[0; 4096]].concat();
    let mishap = Mishap::new("image").image(&vmdk);
    let image = mishap.path("image").display().to_string();
    let ran = mishap.run();
    ran.assert_code(HOST);
    ran.assert_told(
        &["VM a", &format!("image {image} has the wrong format: it looks like ")],
        "accepted are raw, qcow2",
    );
}

#[test]
fn a_page_that_was_downloaded_in_place_of_an_image_is_told() {
    let page = b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n".repeat(20);
    let ran = Mishap::new("image").image(&page).run();
    ran.assert_code(HOST);
    ran.assert_told(&["VM a", "has the wrong format: it looks like a web page"], "accepted are raw, qcow2");
}

#[test]
fn an_image_with_another_digest_than_declared_is_told_with_both() {
    let ran = Mishap::new("wrong-hash").image(&disk()).run();
    ran.assert_code(HOST);
    ran.assert_told(&["VM a", "is not the one declared: its SHA-256 is ", &"0".repeat(64)], "fetch it again");
    assert_eq!(ran.cached_images(), 0, "it is not kept");
}

#[test]
fn a_cache_without_room_for_an_image_is_told_with_what_is_needed() {
    let script = "mount -t tmpfs -o size=4m none \"$STEADING_CACHE_DIR\" && exec \"$@\"";
    let unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"];
    let can = std::process::Command::new(unshare[0])
        .args([&unshare[1..], &["mount -t tmpfs none /mnt"]].concat())
        .output();
    let can = can.expect("unshare(1) starts");
    assert!(
        can.status.success(),
        "this host lets no ordinary user mount a tmpfs in namespaces of their own, as groups need: {}",
        String::from_utf8_lossy(&can.stderr)
    );
    let mut mishap = Mishap::by(&[&unshare[..], &[script, "sh"]].concat(), "image");
    let image = mishap.path("image");
    let large = zstd::encode_all(disk().repeat(16).as_slice(), 1).expect("compress");
    std::fs::write(&image, large).expect("write an image");
    mishap.command.env("MISHAP_IMAGE", &image);
    let ran = mishap.run();
    ran.assert_code(HOST);
    ran.assert_told(
        &["VM a", "no room to unpack image ", "MiB are needed", "only ", " MiB are free in "],
        "STEADING_CACHE_DIR",
    );
}
