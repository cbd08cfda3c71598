//! Names on a FAT file system: what it can hold, and the two forms in which it does.
//!
//! Every name has a long form, in UTF-16, and a short one of eight and three characters for those who
//! know no other (Microsoft's specification, section 7).

use std::collections::{BTreeMap, BTreeSet};

use super::DiskError;
use super::fat_node::{ENTRY, Node, NodeContent};

/// UTF-16 units of the longest name.
const NAME_MAX: usize = 255;
/// Units of a name in one entry.
const UNITS: usize = 13;
/// Where they are in it, in bytes.
const UNIT_AT: [usize; UNITS] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;
const LAST: u8 = 0x40;

/// Refuses names that the file system could not hold as they are.
pub(crate) fn check_names(nodes: &[Node]) -> Result<(), DiskError> {
    let mut folded = BTreeMap::new();
    for Node { name, path, content } in nodes {
        let refuse = |reason: String| Err(DiskError::Name { path: path.to_string(), reason });
        if let Some(bad) = name.chars().find(|c| c.is_control() || "\"*/:<>?\\|".contains(*c)) {
            return refuse(format!("it has the character {bad:?}"));
        }
        if name.ends_with(['.', ' ']) || name.starts_with(' ') {
            return refuse("it starts with a space, or ends with a space or a dot".to_owned());
        }
        if name.is_empty() || name.encode_utf16().count() > NAME_MAX {
            return refuse(format!("it is empty or longer than {NAME_MAX} characters"));
        }
        if let Some(other) = folded.insert(name.to_lowercase(), name) {
            return refuse(format!("it differs from {other:?} in upper and lower case only"));
        }
        if let NodeContent::Directory(children) = content {
            check_names(children)?;
        }
    }
    Ok(())
}

/// Entries that the long form of a name takes.
pub(crate) fn long_entries(name: &str) -> usize {
    name.encode_utf16().count().div_ceil(UNITS)
}

/// Makes the short names of one directory.
pub(crate) struct ShortNames {
    /// All names, in lower case: no made-up short name may be one of them.
    taken: BTreeSet<String>,
    count: u32,
}

impl ShortNames {
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self { taken: names.map(str::to_lowercase).collect(), count: 0 }
    }

    /// The short form: the name itself if it fits, else its beginning, `~` and a number.
    pub(crate) fn of(&mut self, name: &str) -> [u8; 11] {
        let (base, extension) = match name.rsplit_once('.') {
            Some((base, extension)) if !base.is_empty() => (base, extension),
            _ => (name, ""),
        };
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        if is_plain(base) && is_plain(extension) && (1..=8).contains(&base.len()) && extension.len() <= 3 {
            return short_form(base, extension);
        }
        let plain = |text: &str, length: usize| -> String {
            text.chars().filter(char::is_ascii_alphanumeric).take(length).collect()
        };
        loop {
            self.count += 1;
            let number = format!("~{}", self.count);
            let base = plain(base, 8 - number.len().min(7)) + &number;
            let extension = plain(extension, 3);
            let whole = if extension.is_empty() { base.clone() } else { format!("{base}.{extension}") };
            if !self.taken.contains(&whole.to_lowercase()) {
                return short_form(&base, &extension);
            }
        }
    }
}

/// The entries of the long form, which come before the short one.
pub(crate) fn long_form(name: &str, short: [u8; 11]) -> Vec<u8> {
    let sum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let units: Vec<u16> = name.encode_utf16().collect();
    let mut entries = Vec::new();
    for (index, part) in units.chunks(UNITS).enumerate().rev() {
        let is_last = (index + 1) * UNITS >= units.len();
        let mut entry = [0; ENTRY];
        entry[0] = u8::try_from(index + 1).expect("at most 20") | if is_last { LAST } else { 0 };
        entry[11] = ATTRIBUTE_LONG_NAME;
        entry[13] = sum;
        // The name ends with a zero if there is room, and then with ones.
        let padded = part.iter().copied().chain([0]).chain(std::iter::repeat(0xffff));
        for (at, unit) in UNIT_AT.into_iter().zip(padded) {
            entry[at..at + 2].copy_from_slice(&unit.to_le_bytes());
        }
        entries.extend(entry);
    }
    entries
}

fn short_form(base: &str, extension: &str) -> [u8; 11] {
    let mut short = [b' '; 11];
    for (at, text) in [(0, base), (8, extension)] {
        short[at..at + text.len()].copy_from_slice(text.to_ascii_uppercase().as_bytes());
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_fits_is_its_own_short_form_and_others_get_a_number() {
        let names = ["activate", "a.tar.gz", ".profile", "activate~", "ACTIVA~2", "\u{e9}", "kernel-6.1.deb"];
        let mut all = ShortNames::new(names.into_iter());
        let short = names.map(|name| String::from_utf8(all.of(name).to_vec()).expect("ASCII"));
        assert_eq!(
            short,
            [
                "ACTIVATE   ",
                "ATAR~1  GZ ",
                "PROFIL~2   ",
                "ACTIVA~3   ",
                "ACTIVA~4   ",
                "~5         ",
                "KERNEL~6DEB"
            ]
        );
    }

    proptest! {
        #[test]
        fn no_two_names_of_a_directory_share_a_short_form(
            names in prop::collection::btree_set("[a-c~]{1,4}[a-c~1-9]{0,6}([.][a-c]{1,4})?", 1..200),
        ) {
            let mut all = ShortNames::new(names.iter().map(String::as_str));
            let short: BTreeSet<[u8; 11]> = names.iter().map(|name| all.of(name)).collect();
            prop_assert_eq!(short.len(), names.len());
        }
    }
}
