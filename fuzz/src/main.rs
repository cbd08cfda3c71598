//! What `cargo xtask fuzz` needs of the targets: their names, their seeds and words as files, and to
//! look at one input again.

#![expect(clippy::print_stdout, reason = "it is a command for people")]

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Parser, Subcommand};
use fs_err as fs;
use steading_fuzz::{TARGETS, Target};

#[derive(Parser)]
#[command(about = "The targets of the search for inputs that break readers.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the names of all targets.
    List,
    /// Write the seeds of a target into a directory, each as a file, and its words as a dictionary.
    Seeds {
        /// The target.
        #[arg(value_parser = target)]
        target: Target,
        /// Where the seeds go.
        dir: Utf8PathBuf,
        /// Where the words go, in libFuzzer's form.
        dictionary: Utf8PathBuf,
    },
    /// Give these inputs to a target.
    Run {
        /// The target.
        #[arg(value_parser = target)]
        target: Target,
        /// Files.
        #[arg(required = true)]
        inputs: Vec<Utf8PathBuf>,
    },
}

fn target(name: &str) -> Result<Target, String> {
    let names = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    steading_fuzz::target(name).copied().ok_or_else(|| format!("there are: {}", names()))
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::List => TARGETS.iter().for_each(|target| println!("{}", target.name)),
        Command::Seeds { target, dir, dictionary } => write_seeds(&target, &dir, &dictionary)?,
        Command::Run { target, inputs } => {
            for input in inputs {
                let bytes = fs::read(&input).with_context(|| format!("cannot read the input {input}"))?;
                (target.check)(&bytes);
                println!("{}: {input} breaks nothing", target.name);
            }
        }
    }
    Ok(())
}

fn write_seeds(target: &Target, dir: &Utf8Path, dictionary: &Utf8Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    for (number, seed) in target.seeds.iter().enumerate() {
        fs::write(dir.join(format!("seed-{number}")), seed)?;
    }
    let words: Vec<String> = target.words.iter().map(|word| format!("\"{}\"\n", escaped(word))).collect();
    Ok(fs::write(dictionary, words.concat())?)
}

/// As "Dictionaries" of libFuzzer's documentation has it: a backslash, a quote and `\xAB`.
fn escaped(word: &str) -> String {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02X}"),
    };
    word.bytes().map(byte).collect()
}
