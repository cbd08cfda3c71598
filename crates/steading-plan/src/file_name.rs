//! Names that people choose, as names of files.

use crate::Sha256;

/// How long the name of a file gets, in bytes. Others are put before and behind it, such as the name of a VM, and all of
/// it has 255 (`NAME_MAX`, `linux/limits.h`).
const LENGTH_MAX: usize = 120;

/// How many digits of a hash tell names apart.
const DIGITS: usize = 12;

/// A name as every file system takes it: letters, digits, `_` and `-`, with `--` for the `::` between sections. A name
/// that has anything else, or is long, gets a part of its hash, so no two names have one file.
pub fn file_name(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || c == '_';
    let is_itself = name.split("::").all(|part| !part.is_empty() && part.chars().all(is_plain));
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    if is_itself && plain.len() <= LENGTH_MAX {
        return plain;
    }
    let room = LENGTH_MAX - DIGITS - 1;
    let end = (0..=room.min(plain.len())).rev().find(|at| plain.is_char_boundary(*at)).unwrap_or(0);
    format!("{}-{:.DIGITS$}", &plain[..end], Sha256::of(name).to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_name_is_kept_and_others_have_a_hash() {
        assert_eq!(file_name("boots::by_uefi"), "boots--by_uefi");
        assert!(file_name("boots::by uefi/fast").starts_with("boots--by-uefi-fast-"));
        let long = file_name(&"x".repeat(300));
        assert_eq!(long.len(), LENGTH_MAX);
    }

    #[test]
    fn names_that_look_alike_have_files_of_their_own() {
        let long = "x".repeat(200);
        let alike = [
            "a::b",
            "a--b",
            "a b",
            "a-b",
            "a/b",
            "a:b",
            "a.b",
            "a\nb",
            "..",
            "::",
            "--",
            "",
            &long,
            &format!("{long}y"),
        ];
        let files: BTreeSet<String> = alike.iter().map(|name| file_name(name)).collect();
        assert_eq!(files.len(), alike.len(), "{files:?}");
    }

    proptest! {
        #[test]
        fn any_name_becomes_one_that_every_file_system_takes(name in any::<String>(), times in 1_usize..40) {
            let file = file_name(&name.repeat(times));
            prop_assert!(!file.is_empty() && file.len() <= LENGTH_MAX, "{}", file);
            prop_assert!(file.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-'), "{}", file);
        }
    }
}
