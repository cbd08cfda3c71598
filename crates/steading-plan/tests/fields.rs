//! Every field of a testnet in TOML: the reference names those that parse, and bad values are refused.

#![expect(clippy::match_same_arms, reason = "a table, in the order of the reference")]

use std::collections::{BTreeMap, BTreeSet};

use steading_plan::{Guest, GuestFiles, HostFacts, Plan, TestnetFile};

/// The reference, whose tables of fields are made from the sources.
const REFERENCE: &str = include_str!("../../../docs/reference/testnet.md");

/// Where a field of a section of the reference is written, with a value that is good.
fn good(section: &str, field: &str) -> Option<&'static str> {
    Some(match (section, field) {
        ("The file", "vm") => "[[vm]]\nname = \"n1\"\nboot = \"bios\"\ndisk = { path = \"d\" }",
        ("The file", "prefix") => "prefix = \"2001:db8:1:1::/64\"",
        ("The file", "addressing") => "addressing = \"static\"",
        ("The file", "file") => "[[file]]\npath = \"f\"",
        ("The file", "record") => "[[record]]\nname = \"a\"\ntxt = \"t\"",
        ("The file", "resolver") => "resolver = [\"8.8.8.8\"]",
        ("A VM", "name") => VM,
        ("A VM", "guest") => "[[vm]]\nname = \"n1\"\nguest = \"reference\"",
        ("A VM", "vcpus") => "VM\nvcpus = 2",
        ("A VM", "memory_mib") => "VM\nmemory_mib = 100",
        ("A VM", "boot") => "[[vm]]\nname = \"n1\"\nboot = \"uefi\"\ndisk = { path = \"d\" }",
        ("A VM", "disk") => VM,
        ("A VM", "disk_mib") => "VM\ndisk_mib = 100",
        ("A VM", "second_card") => "VM\nsecond_card = true",
        ("A VM", "display") => "VM\ndisplay = true",
        ("A VM", "inside") => {
            "VM\nmemory_mib = 1000\n[[vm]]\nname = \"n2\"\nmemory_mib = 100\ninside = \"n1\"\ndisk = { path = \"d\" }\n\
             boot.kernel = { kernel = \"k\", initrd = \"i\", cmdline = \"\" }"
        }
        ("A VM", "autostart") => "VM\nautostart = false",
        ("A VM", "reboots_on_panic") => "VM\nreboots_on_panic = true",
        ("A VM", "metrics") => "VM\nmetrics = [9100, 9200]",
        ("A VM", "config") => "VM\n[vm.config]",
        ("An image", "path") => VM,
        ("An image", "sha256") => {
            "[[vm]]\nname = \"n1\"\nboot = \"bios\"\ndisk = { path = \"d\", \
             sha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\" }"
        }
        ("A file", "path") => "[[file]]\npath = \"f\"",
        ("A file", "name") => "[[file]]\npath = \"f\"\nname = \"g\"",
        ("A file", "sha256") => {
            "[[file]]\npath = \"f\"\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\""
        }
        ("A record", "name" | "address") => "[[record]]\nname = \"a\"\naddress = \"10.0.0.1\"",
        ("A record", "vm") => "VM\n[[record]]\nname = \"a\"\nvm = \"n1\"",
        ("A record", "cname") => "[[record]]\nname = \"a\"\ncname = \"b.example\"",
        ("A record", "txt") => "[[record]]\nname = \"a\"\ntxt = \"t\"",
        ("Configuration", "config_dir") => "VM\nconfig.config_dir = \"c\"",
        ("Configuration", "cloud_init") => "VM\nconfig.cloud_init = { user_data = \"u\" }",
        ("Configuration", "ignition") => "VM\nconfig.ignition = '{\"ignition\":{\"version\":\"3.3.0\"}}'",
        ("Configuration", "credentials") => "VM\nconfig.credentials = { motd = \"hello\" }",
        ("cloud-init", "user_data") => "VM\nconfig.cloud_init = { user_data = \"u\" }",
        ("cloud-init", "meta_data") => "VM\nconfig.cloud_init = { user_data = \"u\", meta_data = \"m\" }",
        ("cloud-init", "network_config") => {
            "VM\nconfig.cloud_init = { user_data = \"u\", network_config = \"n\" }"
        }
        ("Boot", "kernel" | "cmdline") => {
            "[[vm]]\nname = \"n1\"\nboot.kernel = { kernel = \"k\", cmdline = \"quiet\" }"
        }
        ("Boot", "initrd") => {
            "[[vm]]\nname = \"n1\"\nboot.kernel = { kernel = \"k\", initrd = \"i\", cmdline = \"quiet\" }"
        }
        _ => return None,
    })
}

/// Texts with one bad value each, and a part of what is said of it. Values of a wrong type are tried for each field
/// as well.
const BAD: &[(&str, &str)] = &[
    ("prefix = \"fd00::/48\"", "fd00::/48"),
    ("prefix = \"here\"", "prefix"),
    ("addressing = \"dhcp\"", "unknown variant `dhcp`"),
    ("resolver = [\"127.0.0.1\"]", "127.0.0.1 cannot be claimed"),
    ("resolver = [\"one\"]", "resolver"),
    ("records = []", "did you mean `record`?"),
    ("[[vm]]\nname = \"N1\"\nboot = \"bios\"\ndisk = { path = \"d\" }", "has 'N' at position 1"),
    ("[[vm]]\nname = \"\"\nboot = \"bios\"\ndisk = { path = \"d\" }", "name is empty"),
    ("[[vm]]\nname = \"files\"\nboot = \"bios\"\ndisk = { path = \"d\" }", "no VM can be named `files`"),
    ("[[vm]]\nname = \"n1\"\nguest = \"debian\"", "unknown variant `debian`"),
    ("[[vm]]\nname = \"n1\"\nboot = \"grub\"", "unknown variant `grub`"),
    ("[[vm]]\nname = \"n1\"\nboot = \"bios\"", "has no disk"),
    ("VM\nvcpus = 0", "no vCPU"),
    ("VM\nvcpus = -1", "vcpus"),
    ("VM\nvcpus = 4294967296", "vcpus"),
    ("VM\nmemory_mib = 1", "1 MiB"),
    ("VM\nmemory_mib = 4294967295", "4294967295"),
    ("VM\nmemory_mib = 4294967296", "memory_mib"),
    ("VM\ndisk_mib = 0", "`disk_mib` is 0"),
    ("VM\ndisk_mib = 17592186046464", "a disk has 1 to 2147483648 MiB"),
    ("VM\ndisk_mib = -1", "disk_mib"),
    ("VM\ndisk_mib = 1.5", "disk_mib"),
    ("VM\ninside = \"nobody\"", "nobody"),
    ("VM\nmetrics = [0]", "`metrics` has the port 0"),
    ("VM\nmetrics = [9100, 9100]", "9100 twice"),
    ("VM\nmetrics = [65536]", "65536"),
    ("VM\nconfig.config_dir = \"\"", "`config_dir` is \"\""),
    ("VM\nconfig.ignition = \"variant: fcos\"", "`ignition` is no Ignition configuration"),
    ("VM\nconfig.credentials = { \"a=b\" = \"x\" }", "a=b"),
    ("VM\nconfig.credentials = { \"system.hostname\" = \"x\" }", "`system.hostname` is reserved"),
    (
        "VM\nconfig.credentials = { \"ssh.authorized_keys.root\" = \"x\" }",
        "`ssh.authorized_keys.root` is reserved",
    ),
    ("[[vm]]\nname = \"n1\"\nboot = \"bios\"\ndisk = { path = \"\" }", "`disk` is \"\""),
    ("[[vm]]\nname = \"n1\"\nboot = \"bios\"\ndisk = { path = \"d\", sha256 = \"abc\" }", "SHA-256"),
    ("[[vm]]\nname = \"n1\"\nboot.kernel = { kernel = \"\", cmdline = \"\" }", "`kernel` is \"\""),
    (
        "[[vm]]\nname = \"n1\"\nboot.kernel = { kernel = \"k\", initrd = \"\", cmdline = \"\" }",
        "`initrd` is \"\"",
    ),
    ("[[vm]]\nname = \"n1\"\nboot.kernel = { kernel = \"k\", cmdline = \"a\\u0000b\" }", "NUL"),
    ("[[vm]]\nname = \"n1\"\nboot.kernel = { kernel = \"k\" }", "missing field `cmdline`"),
    ("[[file]]\npath = \"\"", "it is empty"),
    ("[[file]]\npath = \"f\"\nname = \"a/b\"", "it holds a slash"),
    ("[[file]]\npath = \"f\"\nname = \"targets.json\"", "the group serves itself"),
    ("[[file]]\npath = \"f\"\nsha256 = \"abc\"", "SHA-256"),
    ("[[record]]\nname = \"a b\"\ntxt = \"t\"", "is no DNS name"),
    ("[[record]]\nname = \"a\"", "one of `address`, `vm`, `cname` and `txt`"),
    ("[[record]]\nname = \"a\"\naddress = \"10.0.0\"", "address"),
    ("[[record]]\nname = \"a\"\nvm = \"nobody\"", "nobody"),
    ("[[record]]\nname = \"a\"\ncname = \"*.b.example\"", "a pattern"),
    ("[[record]]\nname = \"files\"\ntxt = \"t\"", "the name of the group itself"),
];

const VM: &str = "[[vm]]\nname = \"n1\"\nboot = \"bios\"\ndisk = { path = \"d\" }";

/// The fields of the reference, each with the section of its table.
fn fields() -> BTreeSet<(String, String)> {
    let (mut section, mut is_table_of_fields) = ("", false);
    let mut fields = BTreeSet::new();
    for line in REFERENCE.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title;
        }
        match line.strip_prefix("| ").and_then(|rest| rest.split_once(" | ")) {
            Some(("field", _)) => is_table_of_fields = true,
            Some((field, _)) if is_table_of_fields && field.starts_with('`') => {
                fields.insert((section.to_owned(), field.trim_matches('`').to_owned()));
            }
            Some(_) => {}
            None => is_table_of_fields = false,
        }
    }
    fields
}

/// What `steading plan` does with a testnet: no file is opened.
fn plan(text: &str) -> Result<Plan, String> {
    let text = text.replacen("VM\n", &format!("{VM}\n"), 1);
    let file = TestnetFile::parse(&text).map_err(|error| error.to_string())?;
    let boot = steading_plan::Boot::Kernel { kernel: "k".into(), initrd: None, cmdline: String::new() };
    let guest = GuestFiles { boot, disk: None, memory_mib: 512, reboots_on_panic: false };
    let guests = BTreeMap::from([(Guest::Reference, guest)]);
    let testnet = file.resolve(&guests).map_err(|error| error.to_string())?;
    let host = HostFacts::default();
    Plan::derive(&"g".parse().expect("a name"), &testnet, &host).map_err(|error| steading_plan::chain(&error))
}

#[test]
fn each_field_of_the_reference_parses() {
    let fields = fields();
    assert!(fields.len() > 35, "{fields:?}");
    for (section, field) in &fields {
        let text = good(section, field).unwrap_or_else(|| panic!("{section}: {field}: no value is tried"));
        assert!(text.contains(field.as_str()) || text.contains("VM"), "{field} is not in {text}");
        if let Err(error) = plan(text) {
            panic!("{section}: {field}: {error}\n{text}");
        }
    }
}

#[test]
fn each_field_with_a_bad_value_is_refused_with_the_reason() {
    for (text, said) in BAD {
        let error = plan(text).err().unwrap_or_else(|| panic!("{text}: it was accepted"));
        assert!(error.contains(said), "{text}: {said:?} is not in {error}");
    }
}

#[test]
fn each_field_with_a_value_of_another_type_is_refused_with_its_place() {
    // No field takes a date.
    for (section, field) in fields() {
        let text = good(&section, &field).expect("tried above").replacen("VM\n", &format!("{VM}\n"), 1);
        let Some(at) = text.rfind(&format!("{field} = ")) else { continue };
        let (before, value) = text.split_at(at + field.len() + 3);
        // The value of a table in one line ends before its next field.
        let end = value.find([',', '}', '\n']).filter(|_| !value.starts_with('{') && !value.starts_with('['));
        let rest = match end {
            Some(end) => &value[end..],
            None => value.find('\n').map_or("", |end| &value[end..]),
        };
        let wrong = format!("{before}1979-05-27{rest}");
        let error = plan(&wrong).err().unwrap_or_else(|| panic!("{wrong}: it was accepted"));
        assert!(error.contains("line ") || error.contains("`credentials` is a date"), "{wrong}: {error}");
    }
}
