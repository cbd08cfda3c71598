//! Compressed images, from wherever they were downloaded.

use steading_vm::image::decode_compressed;

use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "image",
    check,
    seeds: &[
        // "disk" by gzip, zstd, xz and lzma.
        b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\x4b\xc9\x2c\xce\x06\0\x02\xddt\x0c\x04\0\0\0",
        b"\x28\xb5\x2f\xfd\x04\x58\x21\0\0disk\x5a\xca\xbd\x9f",
        b"\xfd\x37z\x58\x5a\0\0\x01i\x22\xde\x36\x02\0\x21\x01\x16\0\0\0t\x2f\xe5\xa3\x01\0\x03disk\0\x02\xddt\x0c\0\x01\x18\x04k\xe9\xf0\xa5\x90\x42\x99\x0d\x01\0\0\0\0\x01\x59\x5a",
        b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0\x32\x1a\x4a\xcdj\x16\x2a\x9f\xff\xfa\xee\x80\0",
        // A frame that is passed over, and a byte after the data.
        b"\x5a\x2a\x4d\x18\x04\0\0\0\x01\x02\x03\x04\x28\xb5\x2f\xfd\x04\x58\x21\0\0disk\x5a\xca\xbd\x9f\x21",
    ],
    words: &["\u{1f}", "\0\0\0\0", "\u{4}", "BZh", "disk", "\u{5d}\0\0", "ustar", "YZ"],
};

/// Far more than any seed holds.
const DECODED_MAX: u64 = 1 << 20;

/// Decodes the bytes.
pub fn check(bytes: &[u8]) {
    let decode =
        |piece| decode_compressed(bytes, DECODED_MAX, piece).map(|read| read.map_err(|error| error.kind()));
    let whole = decode(1 << 16);
    assert!(whole.iter().flatten().all(|decoded| decoded.len() as u64 <= DECODED_MAX));
    assert_eq!(decode(7), whole, "it matters in which pieces it arrives");
}
