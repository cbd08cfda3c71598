//! Every accepted format gives the same disk; everything else is refused by its own name.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod common;

use camino::Utf8PathBuf;
use common::{Fixture, bytes_of, disk, gzip, lzma, noise, padded, qcow2, qemu_img, tar, xz, zstd};
use proptest::prelude::*;
use steading_plan::Sha256;
use steading_sys::process;
use steading_vm::image::{Format, ImageError, Progress};

fn check(fixture: &Fixture, source: &Utf8PathBuf, format: Format) {
    let image = fixture.prepare(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    assert_eq!(image.format, format, "{source}");
    assert_eq!(image.sha256, Sha256::of(fs_err::read(source).expect("read")), "{source}");
    assert!(bytes_of(&image) == padded(disk()), "{source} gives other bytes");
    let record = fs_err::metadata(&image.path).expect("stat");
    assert!(record.permissions().readonly());
}

#[test]
fn every_format_gives_the_same_disk_whatever_its_name() {
    let f = Fixture::new();
    let disk = disk();
    let two_members = [gzip(&disk[..1_000_000]), gzip(&disk[1_000_000..])].concat();
    let two_frames = [zstd(&disk[..1_000_000]), zstd(&disk[1_000_000..])].concat();
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &zstd(&disk)].concat();
    let in_tar = tar(&[("disk.img", &disk)]);
    let in_tar_with_dot = tar(&[("./README", b"hello"), ("./disk.img", &disk), ("./sums", b"0")]);
    for (name, bytes, format) in [
        ("disk.qcow2", disk.clone(), Format::Raw),
        ("a.gz", zstd(&disk), Format::Zstd),
        ("b.img", two_frames, Format::Zstd),
        ("c.img", skippable, Format::Zstd),
        ("d.zst", gzip(&disk), Format::Gzip),
        ("e.raw", two_members, Format::Gzip),
        ("f.tar", xz(&disk), Format::Xz),
        ("g", [xz(&disk[..1_000_000]), xz(&disk[1_000_000..])].concat(), Format::Xz),
        ("h.img", zstd(&in_tar), Format::Zstd),
        ("i.img", gzip(&in_tar_with_dot), Format::Gzip),
        ("j.img", xz(&in_tar), Format::Xz),
        ("k.img", lzma(&disk), Format::Lzma),
        ("l.xz", lzma(&in_tar), Format::Lzma),
        // Tapes and tools that write by blocks leave zeros.
        ("m.gz", [gzip(&disk), vec![0; 1000]].concat(), Format::Gzip),
    ] {
        check(&f, &f.file(name, &bytes), format);
    }
    let options: [&[&str]; 6] = [
        &[],
        &["-c"],
        &["-c", "-o", "compression_type=zstd"],
        &["-o", "compat=0.10"],
        &["-o", "extended_l2=on,cluster_size=128k"],
        &["-o", "cluster_size=512,lazy_refcounts=on"],
    ];
    for (index, options) in options.into_iter().enumerate() {
        check(&f, &qcow2(&f, &format!("q{index}.raw"), &disk, options), Format::Qcow2);
    }
    assert_eq!(f.cache.list().expect("list").len(), 20);
}

#[test]
fn a_sparse_gnu_tar_as_google_makes_them_is_unpacked() {
    let f = Fixture::new();
    let disk = disk();
    let raw = f.file("disk.img", &disk);
    steading_sys::process::run(
        "cp",
        "coreutils",
        ["--sparse=always", raw.as_str(), &format!("{raw}.sparse")],
    )
    .expect("cp");
    fs_err::rename(format!("{raw}.sparse"), &raw).expect("rename");
    let archive = f.dir().join("image.tar.gz");
    let args =
        ["--format=oldgnu", "-Sczf", archive.as_str(), "-C", f.dir().as_str(), "disk.img"].map(str::to_owned);
    steading_sys::process::run("tar", "tar", args).expect("tar");
    check(&f, &archive, Format::Gzip);
}

#[test]
fn holes_stay_holes() {
    let f = Fixture::new();
    let mut large = vec![0; 64 << 20];
    large[..512].copy_from_slice(&disk()[..512]);
    let end = large.len();
    large[end - 1] = 1;
    let sources = [f.file("a", &large), f.file("b", &zstd(&large)), qcow2(&f, "c", &large, &[])];
    for source in &sources {
        fs_err::remove_file(f.dir().join("raw-for-qcow2")).ok();
        f.prepare(source).expect("prepare");
    }
    for entry in f.cache.list().expect("list") {
        assert_eq!(entry.size, 64 << 20);
        assert!(entry.allocated <= 512 << 10, "{entry:?}");
    }
}

#[test]
fn what_is_no_image_is_refused_by_the_name_of_what_it_is() {
    let f = Fixture::new();
    for (bytes, what) in [
        (b"<!DOCTYPE html><html>Not found</html>".to_vec(), "looks like a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n".to_vec(), "git-lfs"),
        (b"PK\x03\x04\0\0".to_vec(), "a zip archive"),
        (tar(&[("disk.img", &disk())]), "a tar archive without compression"),
        (gzip(b"<html>"), "what is inside looks like a web page"),
        (zstd(&gzip(&disk())), "what is inside looks like gzip data once more"),
        (gzip(b"QFI\xfb\0\0\0\x03"), "what is inside looks like a qcow2 disk"),
        (noise(3, 100), "shorter than one sector"),
        (gzip(&tar(&[("other.img", &disk())])), "holds no `disk.img`, but other.img"),
        (gzip(&tar(&[("disk.img", &disk()), ("./disk.img", &disk())])), "more than one `disk.img`"),
    ] {
        let source = f.file("image", &bytes);
        let (_, text) = f.refusal(&source);
        assert!(text.contains(what), "{what}: {text}");
    }
    for (name, options) in
        [("vmdk", &[][..]), ("vdi", &[]), ("vhdx", &[]), ("vpc", &[]), ("vpc", &["-o", "subformat=fixed"])]
    {
        let (raw, path) = (f.file("raw", &disk()), f.dir().join("foreign"));
        let args = [&["convert", "-O", name][..], options, &[raw.as_str(), path.as_str()]].concat();
        qemu_img(args);
        assert!(matches!(f.refusal(&path).0, ImageError::WrongFormat { .. }), "{name} {options:?}");
    }
}

#[test]
fn empty_missing_and_special_files_have_errors_of_their_own() {
    let f = Fixture::new();
    assert!(matches!(f.refusal(&f.file("empty", b"")).0, ImageError::Empty { .. }));
    assert!(matches!(f.refusal(&f.file("packed-nothing", &gzip(b""))).0, ImageError::Empty { .. }));
    assert!(matches!(f.refusal(&f.dir().join("missing")).0, ImageError::Open { .. }));
    assert!(matches!(f.refusal(&f.dir()).0, ImageError::NotAFile { .. }));
    let pipe = f.dir().join("pipe");
    steading_sys::process::run("mkfifo", "coreutils", [pipe.as_str()]).expect("mkfifo");
    assert!(matches!(f.refusal(&pipe).0, ImageError::NotAFile { .. }));
}

/// As `qemu_img`. QEMU finds out how many rounds a key takes by the CPU time of some, and gives up where the
/// kernel counted none meanwhile: a matter of luck.
fn encrypt(args: &[&str]) {
    let unlucky = |error: &process::RunError| error.to_string().contains("Unable to get accurate CPU usage");
    let mut tries = (0..50).map(|_| process::run("qemu-img", "qemu-utils", args.iter().copied()));
    let done = tries.find(|done| !done.as_ref().is_err_and(unlucky));
    done.expect("QEMU counts CPU time in one of 50 tries").expect("qemu-img");
}

#[test]
fn encrypted_images_are_refused() {
    let f = Fixture::new();
    let path = f.dir().join("encrypted");
    let secret = ["--object", "secret,id=key,data=swordfish"];
    let quick = "key-secret=key,iter-time=10";
    let luks = format!("encrypt.format=luks,encrypt.{},encrypt.iter-time=10", "key-secret=key");
    encrypt(&[&["create"][..], &secret, &["-f", "qcow2", "-o", &luks, path.as_str(), "1M"]].concat());
    let (error, text) = f.refusal(&path);
    assert!(matches!(error, ImageError::Encrypted { .. }) && text.contains("qcow2 with LUKS"), "{text}");
    fs_err::remove_file(&path).expect("remove");
    encrypt(&[&["create"][..], &secret, &["-f", "luks", "-o", quick, path.as_str(), "1M"]].concat());
    assert!(matches!(f.refusal(&path).0, ImageError::Encrypted { method: "LUKS", .. }));
}

#[test]
fn a_qcow2_that_names_another_file_is_refused_and_that_file_is_not_read() {
    let f = Fixture::new();
    let secret = f.file("secret", &noise(4, 1 << 20));
    let path = f.dir().join("a.qcow2");
    qemu_img(["create", "-f", "qcow2", "-b", secret.as_str(), "-F", "raw", path.as_str()]);
    let (error, text) = f.refusal(&path);
    assert!(matches!(error, ImageError::NamesAnotherFile { .. }) && text.contains(secret.as_str()), "{text}");
    fs_err::remove_file(&path).expect("remove");
    let option = format!("data_file={}", f.dir().join("data"));
    qemu_img(["create", "-f", "qcow2", "-o", &option, path.as_str(), "1M"]);
    let (error, text) = f.refusal(&path);
    assert!(
        matches!(error, ImageError::NamesAnotherFile { .. }) && text.contains("external data file"),
        "{text}"
    );
}

#[test]
fn every_kind_of_truncation_is_told() {
    let f = Fixture::new();
    let disk = disk();
    let archive = tar(&[("disk.img", &disk)]);
    let of_archive = [zstd(&archive), gzip(&archive), xz(&archive), lzma(&archive)];
    for whole in [zstd(&disk), gzip(&disk), xz(&disk), lzma(&disk)].into_iter().chain(of_archive) {
        for cut in [whole.len() / 2, whole.len() - 1, whole.len() - 5, 40] {
            let (error, text) = f.refusal(&f.file("cut", &whole[..cut]));
            assert!(matches!(error, ImageError::Truncated { .. }), "{cut} of {}: {text}", whole.len());
        }
    }
    // The wrapping is whole, what was wrapped is not.
    let (_, text) = f.refusal(&f.file("cut", &zstd(&archive[..archive.len() / 2])));
    assert!(text.contains("truncated: the tar inside ends after"), "{text}");
    let mut gpt = vec![0; 4 << 20];
    gpt[512..1024].copy_from_slice(&gpt_header(4 << 20));
    for cut in [f.file("cut", &gpt[..3 << 20]), f.file("cut.gz", &gzip(&gpt[..3 << 20]))] {
        let (error, text) = f.refusal(&cut);
        assert!(matches!(error, ImageError::Truncated { .. }) && text.contains("4194304"), "{text}");
    }
}

#[test]
fn damage_inside_of_a_wrapping_is_told_from_truncation() {
    let f = Fixture::new();
    let disk = disk();
    for mut bytes in [zstd(&disk), gzip(&disk), xz(&disk)] {
        // The checksums are at the end, and so is the index of xz.
        let at = bytes.len() / 2;
        bytes[at..at + 64].fill(0);
        let (error, text) = f.refusal(&f.file("damaged", &bytes));
        assert!(matches!(error, ImageError::Corrupt { .. }), "{text}");
    }
}

/// Every error that a file can provoke, each by a file for it: the cause that is named is the real one.
#[test]
fn each_error_of_the_image_reader_names_the_real_cause() {
    let f = Fixture::new();
    let disk = disk();
    let archive = tar(&[("disk.img", &disk)]);
    let damaged = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] ^= 0xff;
        bytes
    };
    let behind = |bytes: Vec<u8>, more: &[u8]| [&bytes[..], more].concat();
    let mut gpt = vec![0; 4 << 20];
    gpt[4096..4608].copy_from_slice(&gpt_header(4 << 20));
    let linux = {
        let mut kernel = vec![0; 4096];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel
    };
    let one_member = gzip(&disk);
    let trailing = |format: &str| format!("has bytes after the end of its {format} data");
    let cases = [
        ("bytes behind gzip", behind(gzip(&disk), b"!"), trailing("gzip")),
        ("a signature behind gzip", behind(gzip(&disk), &noise(7, 64)), trailing("gzip")),
        ("zeros and bytes behind gzip", behind(gzip(&disk), b"\0\0\0x"), trailing("gzip")),
        ("a newline behind xz", behind(xz(&disk), b"\n"), trailing("xz")),
        ("bytes behind zstd", behind(zstd(&disk), &noise(8, 64)), trailing("zstd")),
        ("bytes behind lzma", behind(lzma(&disk), &noise(9, 64)), trailing("lzma")),
        ("xz behind gzip", behind(gzip(&disk), &xz(&disk)), trailing("gzip")),
        (
            "another member that is cut",
            behind(gzip(&disk), &one_member[..2]),
            "gzip data ends in the middle".to_owned(),
        ),
        (
            "another member that is cut later",
            behind(gzip(&disk), &one_member[..30]),
            "gzip data ends in the middle".to_owned(),
        ),
        (
            "the checksum of gzip",
            damaged(gzip(&disk), gzip(&disk).len() - 6),
            "its gzip data cannot be decoded".to_owned(),
        ),
        ("xz with an unknown check", xz_with_an_unknown_check(&disk), "uses a feature of xz".to_owned()),
        (
            "the header of the tar",
            gzip(&damaged(tar(&[("other", b"x"), ("disk.img", &disk)]), 1024 + 150)),
            "the tar in image".to_owned(),
        ),
        (
            "the tar inside, cut in a header",
            zstd(&tar(&[("other", b"x"), ("disk.img", &disk)])[..1024 + 100]),
            "the tar in image".to_owned(),
        ),
        (
            "the tar inside, cut in its data",
            xz(&archive[..archive.len() / 2]),
            "the tar inside ends after".to_owned(),
        ),
        ("a GPT for other sectors", gpt.clone(), "partitioned for sectors of 4096 bytes".to_owned()),
        ("the same in gzip", gzip(&gpt), "partitioned for sectors of 4096 bytes".to_owned()),
        (
            "compress",
            behind(b"\x1f\x9d\x90".to_vec(), &noise(10, 4096)),
            "looks like data of `compress`".to_owned(),
        ),
        (
            "lzop",
            behind(b"\x89LZO\0\r\n\x1a\n".to_vec(), &noise(11, 4096)),
            "looks like lzop data".to_owned(),
        ),
        ("a kernel", linux, "looks like a Linux kernel".to_owned()),
        ("lzma twice", zstd(&lzma(&disk)), "what is inside looks like lzma data once more".to_owned()),
    ];
    for (what, bytes, said) in cases {
        let (_, text) = f.refusal(&f.file("image", &bytes));
        assert!(text.contains(&said), "{what}: {text}");
        assert!(what.contains("cut") || !text.contains("ends in the middle"), "{what}: {text}");
    }
}

/// Fields of a qcow2 header with values that cannot be (`docs/interop/qcow2.txt` of QEMU), and what is said of each.
#[test]
fn each_field_of_a_qcow2_header_with_a_bad_value_is_named() {
    let f = Fixture::new();
    let sound = fs_err::read(qcow2(&f, "sound", &disk(), &[])).expect("read");
    let large = u64::MAX.to_be_bytes();
    let cases: &[(&str, usize, &[u8], &str)] = &[
        ("version", 4, &[0, 0, 0, 1], "uses qcow version 1"),
        ("version", 4, &[0, 0, 0, 4], "uses qcow version 4"),
        ("backing file", 8, &large, "names the backing file"),
        ("cluster bits", 20, &[0, 0, 0, 8], "its clusters would have 2^8 bytes"),
        ("cluster bits", 20, &[0, 0, 0, 63], "its clusters would have 2^63 bytes"),
        ("size", 24, &[0; 8], "its disk has no bytes"),
        ("size", 24, &large, "its L1 table is too small for its disk"),
        ("encryption", 32, &[0, 0, 0, 1], "is encrypted (qcow2 with AES)"),
        ("encryption", 32, &[0, 0, 0, 9], "is encrypted (qcow2 with an unknown method)"),
        ("L1 entries", 36, &[0xff; 4], "its L1 table would have 4294967295 entries"),
        (
            "L1 offset",
            40,
            &large,
            "its L1 table at byte 18446744073709551615 ends behind the end of the file",
        ),
        ("refcount offset", 48, &large, "its refcount table at byte 18446744073709551615 ends behind"),
        ("refcount clusters", 56, &[0xff; 4], "its refcount table at byte"),
        ("corrupt", 79, &[2], "QEMU marked it as corrupt"),
        ("data file", 79, &[4], "names an external data file"),
        ("feature", 72, &[0x80], "uses the qcow2 features 0x8000000000000000"),
    ];
    for (field, at, value, said) in cases {
        let mut bytes = sound.clone();
        bytes[*at..*at + value.len()].copy_from_slice(value);
        let (_, text) = f.refusal(&f.file("image", &bytes));
        assert!(text.contains(said), "{field}: {said:?} is not in {text}");
    }
}

/// The type of the check is in the flags of the stream's header and footer, each with a CRC (the .xz file format
/// 1.2.1, section 2.1.1).
fn xz_with_an_unknown_check(data: &[u8]) -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let mut bytes = xz(data);
    bytes[7] = 0x0f;
    let sum = crc(&bytes[6..8]);
    bytes[8..12].copy_from_slice(&sum);
    bytes
}

#[test]
fn a_disk_that_is_larger_than_a_file_can_be_is_no_lack_of_room() {
    let f = Fixture::new();
    let path = f.dir().join("huge");
    // ext4 has files of 16 TiB at most, tmpfs and XFS of 8 EiB; there the disk is made, and takes nothing.
    qemu_img(["create", "-f", "qcow2", "-o", "cluster_size=2M", path.as_str(), "100T"]);
    match f.prepare(&path) {
        Ok(image) => assert_eq!(image.size, 100 << 40),
        Err(error) => {
            let text = error.to_string();
            assert!(matches!(error, ImageError::TooLarge { .. }), "{text}");
            assert!(text.contains("is a disk of 104857600 MiB") && !text.contains("are needed"), "{text}");
        }
    }
}

#[test]
fn another_file_than_declared_is_refused_with_both_digests() {
    let f = Fixture::new();
    let (expected, other) = (Sha256::of(disk()), noise(5, 1 << 20));
    for source in [f.file("a", &other), f.file("b", &gzip(&other)), qcow2(&f, "c", &other, &[])] {
        let error = f.cache.prepare(&source, Some(expected), &mut |_| ()).expect_err("wrong");
        let actual = Sha256::of(fs_err::read(&source).expect("read"));
        let text = error.to_string();
        assert!(text.contains(&expected.to_string()) && text.contains(&actual.to_string()), "{text}");
        assert_eq!(f.names("images"), [""; 0]);
        assert_eq!(f.names("locks"), [""; 0]);
    }
    let source = f.file("disk", &disk());
    assert_eq!(f.cache.prepare(&source, Some(expected), &mut |_| ()).expect("right").sha256, expected);
    // Now there is an entry with that digest: it must not be given for another file.
    let error = f.cache.prepare(&f.file("a", &other), Some(expected), &mut |_| ()).expect_err("wrong");
    assert!(matches!(error, ImageError::WrongHash { .. }));
}

#[test]
fn a_gpt_disk_keeps_its_size_and_others_are_padded() {
    let f = Fixture::new();
    let size = (2 << 20) + 3 * 512;
    let mut gpt = noise(6, size);
    gpt[512..1024].copy_from_slice(&gpt_header(size));
    for source in [f.file("a", &gpt), f.file("b", &zstd(&gpt))] {
        let image = f.prepare(&source).expect("prepare");
        assert_eq!(image.size, size as u64);
        assert!(bytes_of(&image) == gpt);
    }
    gpt[512] = 0;
    let image = f.prepare(&f.file("c", &gpt)).expect("prepare");
    assert_eq!(image.size, (2 << 20) + 4096);
    assert!(bytes_of(&image) == padded(gpt));
}

#[test]
fn progress_reaches_the_end_of_the_source_and_of_the_disk() {
    let f = Fixture::new();
    for source in [f.file("a", &disk()), f.file("b", &xz(&disk())), qcow2(&f, "c", &disk(), &[])] {
        let mut last = Progress::Waiting;
        f.cache.prepare(&source, None, &mut |step| last = step).expect("prepare");
        let length = fs_err::metadata(&source).expect("stat").len();
        let Progress::Unpacking { read, total_read, written } = last else { panic!("{last:?}") };
        assert_eq!((read, total_read, written), (length, length, disk().len() as u64), "{source}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_cut_qcow2_is_refused_or_gives_the_whole_disk(per_mille in 0_usize..1000, is_packed in any::<bool>()) {
        let f = Fixture::new();
        let options: &[&str] = if is_packed { &["-c"] } else { &["-o", "cluster_size=4k"] };
        let whole = fs_err::read(qcow2(&f, "whole", &disk(), options)).expect("read");
        let cut = f.file("cut", &whole[..(whole.len() * per_mille / 1000).max(1)]);
        match f.prepare(&cut) {
            Ok(image) => prop_assert!(bytes_of(&image) == padded(disk())),
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.contains("hint: "), "{}", text);
            }
        }
    }

    #[test]
    fn any_disk_comes_back_from_any_wrapping(
        seed in any::<u64>(), sectors in 1_usize..2000, hole in 0_usize..2000, format in 0_usize..4,
    ) {
        let f = Fixture::new();
        let mut disk = noise(seed, sectors * 512);
        disk[..3].copy_from_slice(&[0xeb, 0x63, 0x90]);
        let hole = (hole * 512).min(disk.len());
        disk[512.min(hole)..hole].fill(0);
        let packed = match format { 0 => disk.clone(), 1 => zstd(&disk), 2 => gzip(&disk), _ => xz(&disk) };
        let image = f.prepare(&f.file("a", &packed)).expect("prepare");
        prop_assert!(bytes_of(&image) == padded(disk));
    }
}

/// A primary GPT header for a disk of `size` bytes, with its checksum.
fn gpt_header(size: usize) -> [u8; 512] {
    let last = size as u64 / 512 - 1;
    let mut header = [0; 512];
    header[..12].copy_from_slice(b"EFI PART\0\0\x01\0");
    header[12] = 92;
    header[24] = 1;
    header[32..40].copy_from_slice(&last.to_le_bytes());
    header[48..56].copy_from_slice(&(last - 33).to_le_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&header[..92]);
    header[16..20].copy_from_slice(&crc.sum().to_le_bytes());
    header
}
