//! How fast the file server is, next to nginx: one large file, and many small ones with and without
//! connections that are kept. Both serve the same files at the same address in one group, by turns, and
//! both write down each access. What their processes take of the CPUs is counted by the kernel.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use steading_api::{Client, ProcessEvent, ProcessSpec, Streams};
use steading_files::{ServedFile, digest};
use steading_group::{Admission, GroupConfig, Isolation, Origin};
use steading_plan::{FILES_PORT, FileSource, HostFacts, Plan, Testnet};
use steading_vm::image::ImageCache;

/// Debian's nginx (package `nginx-light`).
const NGINX: &str = "/usr/sbin/nginx";

const NGINX_PORT: u16 = 8081;

/// How many ask at once.
const CLIENTS: usize = 4;

/// Bytes of a small file.
const SMALL: usize = 4096;

const LARGE_NAME: &str = "large";

pub(crate) fn measure(large_mib: u64, small: usize, runs: usize) -> anyhow::Result<()> {
    ensure!(Utf8Path::new(NGINX).exists(), "there is no {NGINX}\nhint: Debian's package is nginx-light");
    let cache = ImageCache::default_dir();
    fs::create_dir_all(&cache)?;
    let dir = tempfile::tempdir_in(&cache)?;
    let dir = Utf8Path::from_path(dir.path()).context("the directory is not UTF-8")?;
    let files = write_files(&dir.join("files"), large_mib, small)?;
    fs::create_dir_all(dir.join("log"))?;
    let host = HostFacts::default();
    let plan = Plan::derive(&"bench-files".parse()?, &Testnet::new(), &host)?;
    let address = plan.addresses.files;
    let mut owner = steading_group::spawn(GroupConfig {
        plan,
        origin: Origin::Prepared(Vec::new()),
        files,
        log_dir: dir.join("log"),
        scratch: dir.to_owned(),
        admission: Admission::default(),
        isolation: Isolation::default(),
    })?;
    owner.wait_until_ready()?;
    let client = Client::new(owner.socket_path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let me = Utf8PathBuf::try_from(std::env::current_exe()?)?.into_string();
    let words = ["files-client", address.to_string().as_str(), dir.as_str()].map(str::to_owned);
    let numbers = [large_mib.to_string(), small.to_string(), runs.to_string()];
    let argv = [me].into_iter().chain(words).chain(numbers).collect();
    let outcome = runtime.block_on(show(&client, argv));
    runtime.block_on(client.tear_down())?;
    drop(runtime);
    owner.wait()?;
    outcome
}

/// Runs the measurement inside the group, and prints what it prints.
async fn show(client: &Client, argv: Vec<String>) -> anyhow::Result<()> {
    let spec = ProcessSpec { name: "files".to_owned(), argv, env: Vec::new(), streams: Streams::Lines };
    let mut events = client.start_process(&spec).await?;
    while let Some(event) = events.next().await? {
        match event {
            ProcessEvent::Line { text } => println!("{text}"),
            ProcessEvent::Ended { status: Some(0), .. } => return Ok(()),
            ProcessEvent::Ended { status, signal, .. } => bail!("it ended: {status:?}, {signal:?}"),
            ProcessEvent::Started { .. } | ProcessEvent::Output { .. } | ProcessEvent::Note { .. } => {}
        }
    }
    bail!("the group has ended")
}

fn write_files(dir: &Utf8Path, large_mib: u64, small: usize) -> anyhow::Result<Vec<ServedFile>> {
    fs::create_dir_all(dir)?;
    let piece: Vec<u8> =
        (0..1 << 20).map(|at: u32| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let mut large = fs::File::create(dir.join(LARGE_NAME))?;
    for _ in 0..large_mib {
        large.write_all(&piece)?;
    }
    for number in 0..small {
        fs::write(dir.join(number.to_string()), &piece[..SMALL])?;
    }
    let names = (0..small).map(|number| number.to_string()).chain([LARGE_NAME.to_owned()]);
    names.map(|name| Ok(ServedFile::read(&FileSource::new(dir.join(name)), digest)?)).collect()
}

/// One of the two servers.
struct Server {
    name: &'static str,
    address: SocketAddr,
    /// How its processes are called, or that there is one only, the first of the group.
    comm: Option<&'static str>,
}

/// Measures from inside the group.
pub(crate) fn measure_inside(
    address: Ipv6Addr,
    dir: &Utf8Path,
    large_mib: u64,
    small: usize,
    runs: usize,
) -> anyhow::Result<()> {
    // nginx has its own user for its workers only as root, which nobody is here.
    let nginx = start_nginx(address, dir)?;
    let servers = [
        Server { name: "steading", address: (address, FILES_PORT).into(), comm: None },
        Server { name: "nginx", address: (address, NGINX_PORT).into(), comm: Some("nginx") },
    ];
    let before = memory()?;
    let bytes = large_mib << 20;
    compare(&format!("one file of {large_mib} MiB, one client"), "MiB/s", runs, &servers, |server| {
        fetch_large(server.address, bytes)?;
        Ok(bytes >> 20)
    })?;
    println!("  memory of the group's owner: {before} KiB before, {} KiB at most", memory()?);
    for kept in [true, false] {
        let how = if kept { "kept" } else { "one for each" };
        let what = format!("{small} files of {SMALL} bytes, {CLIENTS} clients, connections: {how}");
        compare(&what, "files/s", runs, &servers, |server| {
            fetch_small(server.address, small, kept)?;
            Ok(small as u64)
        })?;
    }
    drop(nginx);
    Ok(())
}

/// Ends it with the measurement.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Only so does it end its workers, which have overwritten the marks by which the owner knows them.
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw);
        let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let _ = self.0.wait();
    }
}

fn start_nginx(address: Ipv6Addr, dir: &Utf8Path) -> anyhow::Result<Nginx> {
    let mut temp = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        write!(temp, "{kind}_temp_path {dir}/{kind};")?;
    }
    // As Debian has it, but for paths and the address.
    let text = format!(
        "daemon off; worker_processes auto; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
         events {{ worker_connections 768; }}\n\
         http {{ sendfile on; tcp_nopush on; access_log {dir}/access.log; {temp}\n\
         keepalive_requests 1000000;\n\
         server {{ listen [{address}]:{NGINX_PORT}; root {dir}/files; }} }}\n"
    );
    fs::write(dir.join("nginx.conf"), text)?;
    let child = Command::new(NGINX)
        .args([
            "-c",
            dir.join("nginx.conf").as_str(),
            "-p",
            dir.as_str(),
            "-e",
            dir.join("error.log").as_str(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let nginx = Nginx(child);
    let began = Instant::now();
    while TcpStream::connect((address, NGINX_PORT)).is_err() {
        ensure!(began.elapsed() < Duration::from_secs(10), "nginx does not listen; see its error.log");
        std::thread::yield_now();
    }
    Ok(nginx)
}

/// Both by turns; prints medians and ratios.
#[expect(clippy::cast_precision_loss, reason = "figures to two digits")]
fn compare(
    what: &str,
    unit: &str,
    runs: usize,
    servers: &[Server; 2],
    fetch: impl Fn(&Server) -> anyhow::Result<u64>,
) -> anyhow::Result<()> {
    let mut figures = [Vec::new(), Vec::new()];
    for round in 0..=runs {
        for (server, figures) in servers.iter().zip(&mut figures) {
            let (cpu, began) = (cpu_seconds(server)?, Instant::now());
            let amount = fetch(server).with_context(|| format!("{}: {what}", server.name))?;
            let took = began.elapsed().as_secs_f64();
            // The first round warms the page cache.
            if round > 0 {
                figures.push((amount as f64 / took, cpu_seconds(server)? - cpu));
            }
        }
    }
    println!("{what} ({runs} runs each, medians):");
    let medians: Vec<(f64, f64)> = figures
        .iter()
        .map(|figures| {
            (median(figures.iter().map(|it| it.0).collect()), median(figures.iter().map(|it| it.1).collect()))
        })
        .collect();
    for (server, (rate, cpu)) in servers.iter().zip(&medians) {
        println!("  {:<10} {rate:>10.0} {unit} {cpu:>7.2} s of CPU", server.name);
    }
    let ratio = |pick: fn(&(f64, f64)) -> f64| pick(&medians[0]) / pick(&medians[1]);
    println!("  ratio of throughput {:.2}, of CPU {:.2}", ratio(|it| it.0), ratio(|it| it.1));
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// What the server's processes have used up to now (proc_pid_stat(5)).
#[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 ticks")]
fn cpu_seconds(server: &Server) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
        let is_meant = match server.comm {
            Some(comm) => head.ends_with(&format!("({comm}")),
            None => pid == 1,
        };
        if is_meant {
            // After the state, which is field 3, come utime and stime as 14 and 15.
            let fields = tail.split(' ').skip(11).take(2);
            ticks += fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        }
    }
    ensure!(ticks > 0 || server.comm.is_some(), "the CPU time of the group's owner cannot be read");
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The most memory that the group's owner has had, in KiB.
fn memory() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/1/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).context("there is no VmHWM")
}

fn fetch_large(address: SocketAddr, bytes: u64) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let mut buffer = vec![0; 256 * 1024];
    let got = fetch(&mut stream, LARGE_NAME, false, &mut buffer)?;
    ensure!(got == bytes, "{got} bytes came of {bytes}");
    Ok(())
}

fn fetch_small(address: SocketAddr, count: usize, kept: bool) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || fetch_share(address, (client..count).step_by(CLIENTS), kept)))
            .collect();
        clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
    })
}

fn fetch_share(address: SocketAddr, numbers: impl Iterator<Item = usize>, kept: bool) -> anyhow::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut stream = None;
    for number in numbers {
        let mut connection = match stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(address)?,
        };
        let got = fetch(&mut connection, &number.to_string(), kept, &mut buffer)?;
        ensure!(got == SMALL as u64, "{got} bytes came of {SMALL}");
        stream = kept.then_some(connection);
    }
    Ok(())
}

/// Asks for a file, and returns how many bytes came.
fn fetch(stream: &mut TcpStream, name: &str, kept: bool, buffer: &mut [u8]) -> anyhow::Result<u64> {
    let connection = if kept { "keep-alive" } else { "close" };
    let request = format!("GET /{name} HTTP/1.1\r\nHost: files\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut filled = 0;
    let head = loop {
        let read = stream.read(&mut buffer[filled..])?;
        ensure!(read > 0, "the connection ended in the head");
        filled += read;
        if let Some(at) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
    ensure!(text.starts_with("http/1.1 200"), "the answer is: {text}");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: u64 = length.and_then(|text| text.trim().parse().ok()).context("the answer has no length")?;
    let mut got = (filled - head) as u64;
    while got < length {
        match stream.read(buffer)? {
            0 => break,
            read => got += read as u64,
        }
    }
    Ok(got)
}
