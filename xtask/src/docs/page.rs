//! The generated pages: what is read from programs and sources, as Markdown.

use std::fmt::Write as _;

use super::help::Help;
use super::item::{self, Item};

/// First in each page.
const NOTICE: &str = "<!-- Made by `cargo xtask docs`; changes to this file are lost. -->\n\n";

fn begin(title: &str, intro: &str) -> String {
    format!("{NOTICE}# {title}\n\n{intro}\n")
}

/// Every command and flag. Of a test program, those that it has in common with `steading` are named
/// only.
pub(super) fn command_line(steading: &Help, test_program: &Help) -> String {
    let mut text = begin(
        "Command line",
        "There are two kinds of programs: `steading`, and test programs, each of which is its own command line.\n\
         What follows is what they say when they are asked with `--help`; `steading man DIR` writes the same as\n\
         manual pages, `steading completions SHELL` prints completions.",
    );
    let _ = writeln!(text, "\n## steading\n\n{}", fenced(&steading.text));
    for command in steading.commands.iter().flat_map(Help::all) {
        let _ = writeln!(text, "\n### {}\n\n{}", command.name, fenced(&command.text));
    }
    let _ = writeln!(
        text,
        "\n## A test program\n\n\
         Here the program of the [guide](../guide/first-test.md). It also accepts, without any effect, the options\n\
         that `cargo test` and nextest may pass to any test: `--nocapture`, `--show-output`, `--quiet`, `--color`,\n\
         `--bench`, `--test` and `-Z`. `--format` (`pretty`, `terse`) says how `--list` lists.\n\n{}",
        fenced(&test_program.text)
    );
    let is_common = |command: &&Help| steading.commands.iter().any(|other| other.about() == command.about());
    let (common, own): (Vec<&Help>, Vec<&Help>) = test_program.commands.iter().partition(is_common);
    for command in own.iter().flat_map(|command| command.all()) {
        let _ = writeln!(text, "\n### {}\n\n{}", command.name, fenced(&command.text));
    }
    let names: Vec<String> = common.iter().map(|command| code(last_word(&command.name))).collect();
    let _ = writeln!(
        text,
        "\n### As in steading\n\n{}\n\nThey take the same arguments, and without `--group` mean the group of the \
         program's own suite.",
        names.join(", ")
    );
    text
}

/// Every exit status of a run.
pub(super) fn exit_status(source: &str) -> String {
    let mut text = begin(
        "Exit status",
        "Commands that run something else pass its status on, and have statuses of their own for their own errors.\n\
         A pipe whose reader has gone (`logs | head -1`) is no error: nothing is printed, and the status is 141, which\n\
         shells tell of a program that SIGPIPE has ended.",
    );
    text.push('\n');
    for row in source.lines().filter_map(|line| line.strip_prefix("//! |")) {
        let _ = writeln!(text, "|{row}");
    }
    for group in item::constants(source) {
        let _ = writeln!(text, "\n## {}\n", group.title);
        text.push_str("| status | name in `steading::exit_code` | meaning |\n| --- | --- | --- |\n");
        for constant in group.constants {
            let (value, about) = (&constant.value, cell(&constant.about));
            let _ = writeln!(text, "| {value} | `{}` | {about} |", constant.name);
        }
    }
    text
}

/// Every environment variable.
pub(super) fn environment(source: &str) -> String {
    let mut text = begin(
        "Environment",
        "All variables that Steading reads or sets. It passes on all others to the programs that it starts. A variable\n\
         that is empty is treated as one that is not set. A variable with a value that it does not take ends the program\n\
         with status 2 before anything starts, and the error names the variable.",
    );
    for group in item::constants(source) {
        let _ = writeln!(text, "\n## {}\n\n| variable | meaning |\n| --- | --- |", group.title);
        for constant in &group.constants {
            let rest = if constant.value.ends_with('_') { "*NAME*" } else { "" };
            let _ = writeln!(text, "| `{}`{rest} | {} |", constant.value, cell(&constant.about));
        }
    }
    text
}

/// The sources of the types that a testnet in TOML is parsed into.
pub(super) struct TestnetSources {
    pub(super) file: String,
    pub(super) declared: String,
    pub(super) served: String,
    pub(super) record: String,
    pub(super) addressing: String,
}

/// Every field of a testnet in TOML.
pub(super) fn testnet(sources: &TestnetSources) -> anyhow::Result<String> {
    let TestnetSources { file, declared, served, record, addressing } = sources;
    let mut text = begin(
        "Testnets in TOML",
        "What `steading up`, `run` and `plan` read. `steading schema` prints the same as a JSON schema, for editors\n\
         that complete and check; it is also in the repository, as `docs/testnet.schema.json`. Paths are relative to\n\
         the working directory. A field that is not known here is an error.",
    );
    let mut table = |title: &str, intro: &str, items: &[Item]| {
        let _ = writeln!(text, "\n## {title}\n\n{intro}\n\n| field | type | meaning |\n| --- | --- | --- |");
        for field in items {
            let _ =
                writeln!(text, "| `{}` | {} | {} |", field.name, toml_type(&field.value), cell(&field.about));
        }
    };
    table("The file", "At its top:", &item::members(file, "TestnetFile")?);
    table(
        "A VM",
        "One table `[[vm]]` for each. All but the name, and one of `guest` and `boot`, may be left out: then it has\n\
         1 vCPU and 512 MiB, and is started with the group.",
        &item::members(file, "VmTable")?,
    );
    table("An image", "As in `disk = { path = \"disk.qcow2\" }`.", &item::members(declared, "ImageSource")?);
    table(
        "A file",
        "One table `[[file]]` for each file that VMs can download from the group's file server.",
        &item::members(served, "FileSource")?,
    );
    table(
        "A record",
        "One table `[[record]]` for each: a name, and one of `address`, `vm`, `cname` and `txt`.",
        &item::members(record, "RecordTable")?,
    );
    table("Configuration", "A table `[vm.config]`.", &item::members(declared, "GuestConfig")?);
    table("cloud-init", "A table `[vm.config.cloud_init]`.", &item::members(declared, "CloudInit")?);

    let variants = |items: &[Item]| {
        let mut rows = String::from("| value | meaning |\n| --- | --- |\n");
        for variant in items {
            let _ = writeln!(rows, "| `{}` | {} |", variant.name.to_lowercase(), cell(&variant.about));
        }
        rows
    };
    let addressing = variants(&item::members(addressing, "Addressing")?);
    let _ = write!(text, "\n## Addressing\n\n`addressing` is one of:\n\n{addressing}");
    let _ = write!(text, "\n## Guests\n\n`guest` is one of:\n\n{}", variants(&item::members(file, "Guest")?));
    let boot = item::members(declared, "Boot")?;
    let _ = write!(text, "\n## Boot\n\n`boot` is one of:\n\n{}", variants(&boot));
    let kernel = boot.iter().find(|variant| !variant.fields.is_empty());
    text.push_str(
        "\nA kernel is written as `boot.kernel = { kernel = \"vmlinuz\", cmdline = \"console=ttyS0\" }`:\n\n",
    );
    text.push_str("| field | type | meaning |\n| --- | --- | --- |\n");
    for field in kernel.iter().flat_map(|kernel| &kernel.fields) {
        let _ = writeln!(text, "| `{}` | {} | {} |", field.name, toml_type(&field.value), cell(&field.about));
    }
    Ok(text)
}

/// Every record of the log, every event in it, and every row of the results.
pub(super) fn events(record: &str, summary: &str, event: &str) -> anyhow::Result<String> {
    let mut text = begin(
        "Records and events",
        "Two files of a run are for programs. In both, readers should pass over fields that they do not know: some\n\
         may be added within a version. A value with fields is written as `{\"name\": {…}}`, one without as `\"name\"`.",
    );
    text.push_str(
        "\n## log.jsonl\n\nThe first line is `{\"steading_log\": 1, \"begun\": …}`. Each further line is a record. \
         Fields that would be\nempty, zero or false are left out. Times are in RFC 3339.\n\n",
    );
    push_fields(&mut text, &item::members(record, "Record")?);
    text.push_str("\n`stream` is one of:\n\n");
    push_variants(&mut text, &item::members(record, "Stream")?, '-');
    text.push_str("\n`event`, of what happens to a VM, is one of:\n\n");
    push_variants(&mut text, &item::members(record, "VmEvent")?, '-');
    text.push_str(
        "\n`fault`, of what happens to the network or is done wrong by the file server, is one of:\n\n",
    );
    push_variants(&mut text, &item::members(record, "FaultEvent")?, '-');
    text.push_str("\n`access`, of what was asked of the file server, has:\n\n");
    push_fields(&mut text, &item::members(record, "FileAccess")?);
    text.push_str("\n## results.json\n\nWritten when the run has ended.\n\n");
    push_fields(&mut text, &item::members(summary, "Summary")?);
    text.push_str("\nEach of `functions` has:\n\n");
    push_fields(&mut text, &item::members(summary, "Row")?);
    text.push_str("\n`kind` is one of:\n\n");
    push_variants(&mut text, &item::members(summary, "Kind")?, '_');
    text.push_str("\n`outcome` is one of:\n\n");
    push_variants(&mut text, &item::members(event, "Outcome")?, '_');
    text.push_str("\nA failure, as in `{\"failed\": \"returned\"}`, is one of:\n\n");
    push_variants(&mut text, &item::members(event, "Failure")?, '_');
    text.push_str("\nEach of `metrics` has:\n\n");
    push_fields(&mut text, &item::members(summary, "Metric")?);
    text.push_str("\n`reserved` has:\n\n");
    push_fields(&mut text, &item::members(event, "Reserved")?);
    Ok(text)
}

fn push_fields(text: &mut String, items: &[Item]) {
    text.push_str("| field | meaning |\n| --- | --- |\n");
    for field in items {
        let _ = writeln!(text, "| `{}` | {} |", field.name, cell(&field.about));
    }
}

fn push_variants(text: &mut String, items: &[Item], joint: char) {
    text.push_str("| value | meaning | fields |\n| --- | --- | --- |\n");
    for variant in items {
        let fields: Vec<String> =
            variant.fields.iter().map(|field| format!("`{}`: {}", field.name, cell(&field.about))).collect();
        let name = json_name(&variant.name, joint);
        let _ = writeln!(text, "| `{name}` | {} | {} |", cell(&variant.about), fields.join(" "));
    }
}

/// `TimedOut` as serde writes it: `timed-out`, `timed_out`.
fn json_name(name: &str, joint: char) -> String {
    let mut made = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !made.is_empty() {
            made.push(joint);
        }
        made.push(c.to_ascii_lowercase());
    }
    made
}

/// What one writes in TOML for a type of Rust.
fn toml_type(rust: &str) -> String {
    let inner = rust.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')).unwrap_or(rust);
    let word = match inner {
        "u32" | "u64" => "integer",
        "bool" => "boolean",
        "String" | "Utf8PathBuf" | "Sha256" | "Ipv6Net" | "IpAddr" | "Guest" | "Addressing" => "string",
        "Boot" => "string or table",
        "BTreeMap<String, String>" => "table of strings",
        "Vec<u16>" => "array of integers",
        "Vec<IpAddr>" => "array of strings",
        list if list.starts_with("Vec<") => "array of tables",
        _ => "table",
    };
    word.to_owned()
}

/// Fit for a cell of a table: links of rustdoc lead nowhere here.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace("[`crate::", "`").replace("[`", "`").replace("`]", "`")
}

fn fenced(text: &str) -> String {
    format!("```text\n{text}\n```")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn last_word(text: &str) -> &str {
    text.split(' ').next_back().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(name: &str, text: &str, commands: Vec<Help>) -> Help {
        Help { name: name.to_owned(), text: text.to_owned(), commands }
    }

    #[test]
    fn commands_in_common_are_shown_once() {
        let exec = |program: &str| help(&format!("{program} exec"), "Run a command.\n\nUsage: …", vec![]);
        let steading = help("steading", "Steading.", vec![exec("steading")]);
        let list = help("test list", "List the tests.", vec![]);
        let page = command_line(&steading, &help("test", "A test.", vec![exec("test"), list]));
        assert!(page.contains("### steading exec\n") && page.contains("### test list\n"), "{page}");
        assert!(!page.contains("### test exec\n") && page.contains("\n`exec`\n"), "{page}");
    }

    #[test]
    fn names_are_those_of_the_files() {
        assert_eq!(json_name("TimedOut", '_'), "timed_out");
        assert_eq!(json_name("On", '-'), "on");
        assert_eq!(toml_type("Option<u64>"), "integer");
        assert_eq!(cell("a | see [`crate::X`]"), "a \\| see `X`");
    }

    #[test]
    fn a_variable_with_an_open_end_is_shown_as_such() {
        let page = environment("// ## Set\n\n/// An address.\npub const VM: &str = \"VM_\";\n");
        assert!(page.contains("## Set\n") && page.contains("| `VM_`*NAME* | An address. |"), "{page}");
    }
}
