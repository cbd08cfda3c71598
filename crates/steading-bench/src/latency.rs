//! How long a line takes from a guest's logger(1) to the driver's terminal.
//!
//! Clocks of host and guest cannot be compared to the millisecond, so all moments are the host's. A
//! word is typed on the guest's console, where a shell reads it, has it logged, and then echoes it.
//! That gives two bounds for the moment at which `logger` was done: not before the word was typed, and
//! not after its echo came. From the first on everything counts, the guest's own work too; the
//! second tells how much of it is the guest's.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use camino::Utf8Path;
use steading_api::{Bytestream, Client, GuestCommand, Lines};
use steading_group::Origin;
use steading_plan::Plan;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::group::{Up, bring_up, execute};
use crate::guests::{Prepared, prepare_guests, waiter};
use crate::stats::percentile;

/// Far more than any line takes.
const LIMIT: Duration = Duration::from_secs(30);

/// The time between two lines that do not wait for each other: no multiple of any timer's, and longer
/// than a guest under emulation takes to start logger.
const PACE: Duration = Duration::from_millis(293);

/// What the guest runs, instead of a login on its console.
const ECHO: &str = "systemctl stop serial-getty@ttyS0.service && systemd-run --unit=echo sh -c '\
    stty -echo </dev/ttyS0; exec </dev/ttyS0 >/dev/ttyS0; \
    while read -r word; do logger -t latency \"$word\"; echo \"$word\"; done'";

/// When one line was where.
#[derive(Clone, Copy)]
struct Times {
    typed: Instant,
    echoed: Instant,
    recorded: Instant,
    shown: Instant,
}

/// Everything that tells where a line is.
struct Witnesses {
    client: Client,
    vm: String,
    echoes: mpsc::UnboundedReceiver<(String, Instant)>,
    records: mpsc::UnboundedReceiver<(String, Instant)>,
    shown: mpsc::UnboundedReceiver<(String, Instant)>,
}

pub(crate) fn measure(lines: usize) -> anyhow::Result<()> {
    let Prepared { plan, vms, .. } = prepare_guests(1)?;
    let dir = tempfile::tempdir()?;
    let dir = Utf8Path::from_path(dir.path()).context("the directory for temporary files is not UTF-8")?;
    let Up { owner, client, runtime } = bring_up(&plan, Origin::Prepared(vms), dir)?;
    let mut terminal = None;
    let measured = runtime.block_on(run(&client, &plan, owner.pid(), lines, &mut terminal));
    runtime.block_on(client.tear_down())?;
    drop(runtime);
    owner.wait()?;
    if let Some(mut terminal) = terminal {
        // It ends with the group.
        terminal.wait()?;
    }
    let (alone, paced) = measured?;
    println!(
        "a line from a guest's logger to the terminal of `logs -f`, from the moment at which its word is"
    );
    println!("typed in the guest, so with the start of logger there:");
    println!("{}", row("  one at a time", &alone, |times| times.shown - times.typed));
    println!("{}", row("  one every 293 ms", &paced, |times| times.shown - times.typed));
    println!("of that, of all lines:");
    let all: Vec<Times> = alone.into_iter().chain(paced).collect();
    println!("{}", row("  the guest: logged, echoed", &all, |times| times.echoed - times.typed));
    println!("{}", row("  from there to the driver", &all, |times| times.recorded - times.echoed));
    println!("{}", row("  in order, on the terminal", &all, |times| times.shown - times.recorded));
    Ok(())
}

/// A line of a table: p50 and p99 in milliseconds.
fn row(what: &str, measured: &[Times], part: impl Fn(&Times) -> Duration) -> String {
    let measured: Vec<Duration> = measured.iter().map(part).collect();
    let ms = |share| percentile(&measured, share).as_secs_f64() * 1000.0;
    format!("{what:<28} p50 {:>7.1} ms   p99 {:>7.1} ms   ({} lines)", ms(0.5), ms(0.99), measured.len())
}

async fn run(
    client: &Client,
    plan: &Plan,
    owner: i32,
    lines: usize,
    terminal: &mut Option<Child>,
) -> anyhow::Result<(Vec<Times>, Vec<Times>)> {
    execute(client, "waiting for journals", waiter(plan)?).await?;
    let vm = plan.vms[0].name.to_string();
    let limit_ms = u64::try_from(LIMIT.as_millis())?;
    let echo = client.agent(&vm, &GuestCommand { line: ECHO.to_owned(), limit_ms }).await?;
    anyhow::ensure!(echo.status == 0, "the guest does not echo: {}", echo.stderr);
    let (echo_sender, echoes) = mpsc::unbounded_channel();
    let (record_sender, records) = mpsc::unbounded_channel();
    let (shown_sender, shown) = mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(read_console(client.console_output(&vm).await?, echo_sender));
    tasks.spawn(read_records(client.records().await?, record_sender));
    let mut program = follow_logs(owner)?;
    let output = program.stdout.take().context("it has an output")?;
    *terminal = Some(program);
    std::thread::spawn(move || {
        // Its end is that of the group.
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((_, word)) = line.rsplit_once(": ") {
                let _ = shown_sender.send((word.to_owned(), Instant::now()));
            }
        }
    });
    let mut witnesses = Witnesses { client: client.clone(), vm, echoes, records, shown };
    // The first ones find nothing in caches, and `logs -f` may have just been started.
    for number in 0..5 {
        witnesses.one(&format!("first{number}")).await?;
    }
    let mut alone = Vec::new();
    for number in 0..lines / 3 {
        // The next one does not come at the same moment of anybody's timers.
        let pause = Duration::from_millis(37 * (number as u64 % 14));
        let mut moment = tokio::time::interval(PACE);
        moment.reset_after(pause);
        moment.tick().await;
        alone.push(witnesses.one(&format!("alone{number}")).await?);
    }
    let paced = witnesses.paced(lines - lines / 3).await?;
    Ok((alone, paced))
}

/// `steading logs -f`, by the same code, as a program of its own.
fn follow_logs(owner: i32) -> anyhow::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["live", &owner.to_string(), "logs", "--follow", "--stream", "journal", "--grep"]);
    command.args(["^(first|alone|paced)[0-9]+$"]);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
}

async fn read_console(mut output: Bytestream, echoes: mpsc::UnboundedSender<(String, Instant)>) {
    let mut partial = String::new();
    while let Ok(Some(bytes)) = output.next().await {
        partial.push_str(&String::from_utf8_lossy(&bytes));
        while let Some((line, rest)) = partial.split_once('\n') {
            let _ = echoes.send((line.trim().to_owned(), Instant::now()));
            partial = rest.to_owned();
        }
    }
}

async fn read_records(
    mut records: Lines<serde_json::Value>,
    recorded: mpsc::UnboundedSender<(String, Instant)>,
) {
    while let Ok(Some(record)) = records.next().await {
        if record["identifier"] == "latency" {
            let word = record["message"].as_str().unwrap_or_default().to_owned();
            let _ = recorded.send((word, Instant::now()));
        }
    }
}

/// When this word came; what came before it is no concern of anybody.
async fn when(words: &mut mpsc::UnboundedReceiver<(String, Instant)>, word: &str) -> anyhow::Result<Instant> {
    let found = async {
        loop {
            match words.recv().await {
                Some((came, when)) if came == word => return Ok(when),
                Some(_) => {}
                None => anyhow::bail!("the group has ended"),
            }
        }
    };
    timeout(LIMIT, found).await.with_context(|| format!("{word} did not come"))?
}

impl Witnesses {
    async fn one(&mut self, word: &str) -> anyhow::Result<Times> {
        let typed = self.type_in(word).await?;
        self.times(word, typed).await
    }

    async fn paced(&mut self, count: usize) -> anyhow::Result<Vec<Times>> {
        let mut typed = Vec::new();
        let mut pace = tokio::time::interval(PACE);
        for number in 0..count {
            pace.tick().await;
            let word = format!("paced{number}");
            typed.push((self.type_in(&word).await?, word));
        }
        let mut measured = Vec::new();
        for (typed, word) in typed {
            measured.push(self.times(&word, typed).await?);
        }
        Ok(measured)
    }

    async fn type_in(&self, word: &str) -> anyhow::Result<Instant> {
        let typed = Instant::now();
        self.client.type_on_console(&self.vm, format!("{word}\n").as_bytes()).await?;
        Ok(typed)
    }

    async fn times(&mut self, word: &str, typed: Instant) -> anyhow::Result<Times> {
        Ok(Times {
            typed,
            echoed: when(&mut self.echoes, word).await.context("on the console")?,
            recorded: when(&mut self.records, word).await.context("in the log")?,
            shown: when(&mut self.shown, word).await.context("on the terminal")?,
        })
    }
}
