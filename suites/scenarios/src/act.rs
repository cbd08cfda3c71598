//! What functions of scenarios do.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use camino::Utf8PathBuf;
use fs_err as fs;
use steading::Group;

/// Where functions tell the tests what they did; each run has its own.
fn directory() -> anyhow::Result<Utf8PathBuf> {
    Ok(std::env::var("SCENARIO_DIR").context("SCENARIO_DIR is not set")?.into())
}

/// A function that writes one line to the trace of its run.
pub(crate) fn trace(line: &'static str) -> impl Fn(&Group) -> anyhow::Result<()> {
    move |_| write_trace(line)
}

fn write_trace(line: &str) -> anyhow::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(directory()?.join("trace"))?;
    // One write, so that lines of several processes do not mix.
    Ok(file.write_all(format!("{line}\n").as_bytes())?)
}

/// A function that fails if another of its kind runs at the same time.
pub(crate) fn alone(name: &'static str) -> impl Fn(&Group) -> anyhow::Result<()> {
    move |_| {
        let token = directory()?.join("token");
        fs::OpenOptions::new().write(true).create_new(true).open(&token).context("somebody else is here")?;
        write_trace(name)?;
        Ok(fs::remove_file(token)?)
    }
}

/// Returns once the test that runs this scenario has let all in who wait here.
pub(crate) fn meet() -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(directory()?.join("meeting"))?;
    Ok(stream.read_exact(&mut [0])?)
}

/// Returns once a file of this name is in the run's directory.
pub(crate) fn wait_for_file(name: &str) -> anyhow::Result<()> {
    let path = directory()?.join(name);
    while !path.exists() {
        std::thread::yield_now();
    }
    Ok(())
}

/// Prints lines of many lengths, some longer than a terminal has columns, until it is told to end.
pub(crate) fn talk(_: &Group) -> anyhow::Result<()> {
    for number in 0..60 {
        println!("word {number} {}", "=".repeat(number * 2));
    }
    wait_for_file("go")
}

/// Runs a program that takes half a second to make a report once it is asked to end.
pub(crate) fn report_on_a_signal() -> anyhow::Result<()> {
    let script = "cd $SCENARIO_DIR; trap 'sleep 0.5; echo report >>trace; exit' INT TERM; echo at work >>trace; \
                  while :; do sleep 0.05; done";
    let status = Command::new("sh").args(["-c", script]).status()?;
    anyhow::bail!("it ended with {status}")
}

/// Never returns.
pub(crate) fn hang() -> anyhow::Result<()> {
    loop {
        std::thread::park();
    }
}

/// Uses up the stack.
#[expect(unconditional_recursion, reason = "that is how a stack overflows")]
pub(crate) fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 512]);
    overflow(depth + 1) + room[0]
}

/// Ends this process from outside, by a signal that cannot be caught.
pub(crate) fn kill_myself() -> anyhow::Result<()> {
    let status = Command::new("sh").args(["-c", "kill -9 $PPID"]).status()?;
    anyhow::bail!("still here, and the shell ended with {status}")
}

/// Leaves a process behind that has left the process group.
pub(crate) fn leave_a_child(_: &Group) -> anyhow::Result<()> {
    let mut command = Command::new("setsid");
    command.args(["sleep", "1000"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn()?;
    Ok(())
}

/// Prints so many bytes, in lines, and a last one.
pub(crate) fn flood(bytes: usize) -> anyhow::Result<()> {
    let chunk = format!("{}\n", "x".repeat(1023)).repeat(64);
    let mut stdout = std::io::stdout().lock();
    for _ in 0..bytes / chunk.len() {
        stdout.write_all(chunk.as_bytes())?;
    }
    Ok(writeln!(stdout, "the flood is over")?)
}

/// Prints what is no text, and a line without an end.
pub(crate) fn babble() -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(b"before \xff\xfe\x00 after\nlast without an end")?)
}
