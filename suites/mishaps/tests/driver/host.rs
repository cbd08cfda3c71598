//! Testnets that cannot be, and hosts that lack something: told before a group is there.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::support::{HOST, Mishap, USAGE};

/// A disk without anything on it.
fn empty_disk() -> Vec<u8> {
    vec![0; 1 << 20]
}

#[test]
fn a_mishap_that_there_is_not_is_refused() {
    let ran = Mishap::new("meteor").run();
    ran.assert_code(HOST);
    ran.assert_told(&["MISHAP=\"meteor\" is no mishap"], "MISHAP is one of image, ");
}

#[test]
fn more_memory_than_the_machine_has_is_refused_with_the_sum() {
    let ran = Mishap::new("too-much-memory").image(&empty_disk()).run();
    ran.assert_code(HOST);
    let sum = "a 64 + b 67108864 + 96 for each of 2 QEMU processes";
    ran.assert_told(&["needs 67109120 MiB of memory, and this machine has ", sum], "less memory_mib");
    assert_eq!(ran.cached_images(), 0, "nothing was unpacked");
}

#[test]
fn more_vcpus_than_any_machine_has_are_refused() {
    let ran = Mishap::new("too-many-vcpus").image(&empty_disk()).run();
    ran.assert_code(USAGE);
    ran.assert_told(&["VM a has 10000 vCPUs, and QEMU's machine q35 takes 255 at most"], "declare fewer");
}

#[test]
fn names_that_cannot_be_are_the_authors_mistake() {
    let cases: [(&str, &[&str], &str); 4] = [
        ("same-name", &["two VMs are named a: VMs 1 and 3"], "give each its own"),
        (
            "long-name",
            &["the VM name \"nnnnnnnnnnnnnnnnnnnn…\" has 300 characters, more than 63"],
            "shorten it",
        ),
        ("space-in-name", &["the VM name \"my vm\" has ' ' at position 3"], "a-z, 0-9 and '-'"),
        ("slash-in-name", &["the VM name \"../vm\" has '.' at position 1"], "a-z, 0-9 and '-'"),
    ];
    for (name, said, hint) in cases {
        let ran = Mishap::new(name).image(&empty_disk()).run();
        ran.assert_code(USAGE);
        ran.assert_told(said, hint);
        assert!(!ran.path("out").exists(), "{name}: nothing was started");
    }
}

/// A directory on PATH with only these of the host's programs.
fn only(mishap: &Mishap, programs: &[&str]) -> PathBuf {
    let dir = mishap.path("programs");
    std::fs::create_dir(&dir).expect("a directory");
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Ordinary users have daemons on the machine, not on PATH.
    let dirs = || std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    for program in programs {
        let mut found = dirs().map(|dir| dir.join(program));
        let found = found.find(|file| file.is_file());
        let found = found.unwrap_or_else(|| panic!("{program} (`cargo xtask setup` installs it)"));
        symlink(found, dir.join(program)).expect("a link");
    }
    dir
}

#[test]
fn a_missing_qemu_is_told_with_its_package() {
    let mut mishap = Mishap::new("never-boots").image(&empty_disk());
    let programs = only(&mishap, &["dnsmasq"]);
    mishap.command.env("PATH", programs);
    let ran = mishap.run();
    ran.assert_code(HOST);
    ran.assert_told(
        &["VM a", "qemu-system-x86_64 is not installed, or not on PATH"],
        "apt-get install qemu-system-x86",
    );
}

#[test]
fn a_missing_dnsmasq_is_told_with_its_package() {
    let mut mishap = Mishap::new("never-boots").image(&empty_disk());
    let programs = only(&mishap, &["qemu-system-x86_64"]);
    mishap.command.env("PATH", programs);
    let ran = mishap.run();
    ran.assert_code(HOST);
    ran.assert_told(&["dnsmasq is not installed, or not on PATH"], "apt-get install dnsmasq-base");
}

#[test]
fn a_missing_qemu_img_is_told_when_an_image_needs_it() {
    let mut mishap = Mishap::new("never-boots");
    let image = mishap.path("image").display().to_string();
    crate::support::tool("qemu-img", &["create", "-q", "-f", "qcow2", &image, "1M"]);
    let programs = only(&mishap, &["dnsmasq", "qemu-system-x86_64"]);
    mishap.command.env("PATH", programs).env("MISHAP_IMAGE", image);
    let ran = mishap.run();
    ran.assert_code(HOST);
    ran.assert_told(&["VM a", "qemu-img is not installed, or not on PATH"], "apt-get install qemu-utils");
}
