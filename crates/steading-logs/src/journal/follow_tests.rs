//! Tests of the follower against a fake journal server over real sockets.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq)]
struct Said {
    number: u64,
    boot: &'static str,
    message: String,
}

impl Said {
    fn cursor(&self) -> String {
        format!("s=1;i={:x};b={};m={:x};t=5;x={:x}", self.number, self.boot, self.number, self.number)
    }
}

/// What the fake guest's journal holds, and how it answers.
#[derive(Debug, Default)]
struct Guest {
    entries: Vec<Said>,
    boot: &'static str,
    requests: Vec<String>,
    /// Answers a range with 400.
    refuse_ranges: bool,
    /// Ends the answer after what there is.
    no_follow: bool,
}

struct Fake {
    guest: Arc<Mutex<Guest>>,
    changed: watch::Sender<u64>,
    address: SocketAddr,
    listener: Option<Arc<TcpListener>>,
    tasks: JoinSet<()>,
}

impl Fake {
    async fn start(boot: &'static str) -> Self {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.expect("bind"));
        let address = listener.local_addr().expect("address");
        let guest = Arc::new(Mutex::new(Guest { boot, ..Guest::default() }));
        let mut fake = Self {
            guest,
            changed: watch::Sender::new(0),
            address,
            listener: Some(listener),
            tasks: JoinSet::new(),
        };
        fake.serve();
        fake
    }

    fn serve(&mut self) {
        let listener = Arc::clone(self.listener.as_ref().expect("listening"));
        let (guest, changed) = (Arc::clone(&self.guest), self.changed.clone());
        self.tasks.spawn(async move {
            let mut answers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                answers.spawn(answer(stream, Arc::clone(&guest), changed.subscribe()));
            }
        });
    }

    fn say(&self, message: &str) {
        let mut guest = self.guest.lock().expect("lock");
        let number = guest.entries.last().map_or(1, |last| last.number + 1);
        let boot = guest.boot;
        guest.entries.push(Said { number, boot, message: message.to_owned() });
        drop(guest);
        self.changed.send_modify(|count| *count += 1);
    }

    fn with<T>(&self, change: impl FnOnce(&mut Guest) -> T) -> T {
        change(&mut self.guest.lock().expect("lock"))
    }

    /// Drops all connections and answers again after that.
    async fn reboot(&mut self, boot: &'static str) {
        self.tasks.shutdown().await;
        self.with(|guest| guest.boot = boot);
        self.serve();
    }
}

async fn answer(mut stream: TcpStream, guest: Arc<Mutex<Guest>>, mut changed: watch::Receiver<u64>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|count| count > 0) {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let (mut next, boot_only, no_follow, refuse) = {
        let mut guest = guest.lock().expect("lock");
        guest.requests.push(head.clone());
        let range = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("range: entries=").map(str::to_owned));
        let asked =
            range.as_ref().and_then(|range| range.split(';').nth(1)?.strip_prefix("i=").map(str::to_owned));
        let next = asked.map_or(0, |number| u64::from_str_radix(&number, 16).expect("number"));
        let boot_only = head.starts_with("GET /entries?boot&follow ").then_some(guest.boot);
        (next, boot_only, guest.no_follow, guest.refuse_ranges && range.is_some())
    };
    if refuse {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        return;
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    loop {
        let entries = guest.lock().expect("lock").entries.clone();
        for entry in entries.iter().filter(|entry| entry.number >= next) {
            if boot_only.is_some_and(|boot| boot != entry.boot) {
                continue;
            }
            let text = format!(
                "__CURSOR={}\n_BOOT_ID={}\n__MONOTONIC_TIMESTAMP={}\nMESSAGE={}\n\n",
                entry.cursor(),
                entry.boot,
                entry.number,
                entry.message
            );
            // Two chunks, which end within a field.
            for part in [&text[..7], &text[7..]] {
                let chunk = format!("{:x}\r\n{part}\r\n", part.len());
                if stream.write_all(chunk.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
        next = entries.last().map_or(next, |last| next.max(last.number + 1));
        if no_follow {
            let _ = stream.write_all(b"0\r\n\r\n").await;
            return;
        }
        tokio::select! {
            _ = changed.changed() => {}
            _ = stream.read(&mut byte) => return,
        }
    }
}

struct Following {
    power: watch::Sender<Power>,
    events: mpsc::Receiver<FollowEvent>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Option<JournalPosition>>,
}

impl Following {
    fn start(options: FollowerOptions) -> Self {
        Self::start_with(options, |follower| follower)
    }

    fn start_with(options: FollowerOptions, change: impl FnOnce(Follower) -> Follower) -> Self {
        let (power, power_seen) = watch::channel(Power::On { start: 1 });
        let (sender, events) = mpsc::channel(4);
        let cancel = CancellationToken::new();
        let follower = change(Follower::new(options, power_seen, sender));
        let task = tokio::spawn(follower.run(cancel.clone()));
        Self { power, events, cancel, task }
    }

    async fn event(&mut self) -> FollowEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("the follower runs")
    }

    /// The next so many messages, and what was lost on the way.
    async fn messages(&mut self, count: usize) -> (Vec<String>, Vec<LostReason>) {
        let (mut messages, mut lost) = (Vec::new(), Vec::new());
        while messages.len() < count {
            match self.event().await {
                FollowEvent::Entry(entry) => messages.push(entry.message),
                FollowEvent::Lost { reason } => lost.push(reason),
                FollowEvent::Reached | FollowEvent::Connected { .. } | FollowEvent::Disconnected { .. } => {}
            }
        }
        (messages, lost)
    }

    async fn stop(self) -> Option<JournalPosition> {
        self.cancel.cancel();
        timeout(PATIENCE, self.task).await.expect("it ends in time").expect("it does not panic")
    }
}

fn options(fake: &Fake) -> FollowerOptions {
    FollowerOptions {
        retry_min: Duration::from_millis(5),
        retry_max: Duration::from_millis(20),
        ..FollowerOptions::new(fake.address)
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn entries_come_as_they_are_written_from_the_logs_address() {
    let fake = Fake::start("a").await;
    fake.say("one");
    let mut following =
        Following::start(FollowerOptions { source: "127.0.0.7".parse().ok(), ..options(&fake) });
    assert!(matches!(following.event().await, FollowEvent::Reached));
    assert!(matches!(following.event().await, FollowEvent::Connected { first: true }));
    assert_eq!(following.messages(1).await.0, texts(&["one"]));
    fake.say("two");
    assert_eq!(following.messages(1).await, (texts(&["two"]), vec![]));
    let request = fake.with(|guest| guest.requests.remove(0));
    assert!(request.to_lowercase().contains("accept: application/vnd.fdo.journal"), "{request}");
    let position = following.stop().await.expect("a position");
    assert!(position.cursor.starts_with("s=1;i=2;"));
}

#[tokio::test]
async fn it_leaves_the_guest_in_peace_until_it_is_told_to_begin() {
    let fake = Fake::start("a").await;
    fake.say("one");
    let (told, begin) = oneshot::channel();
    let mut following = Following::start_with(options(&fake), |follower| follower.beginning_when(begin));
    assert!(timeout(Duration::from_millis(100), following.events.recv()).await.is_err(), "it has begun");
    assert!(fake.with(|guest| guest.requests.is_empty()), "it has asked");
    told.send(()).expect("it waits for that");
    assert_eq!(following.messages(1).await.0, texts(&["one"]));
}

#[tokio::test]
async fn the_first_connection_leaves_out_the_boots_before() {
    let fake = Fake::start("image").await;
    fake.say("made the image");
    fake.with(|guest| guest.boot = "a");
    fake.say("booted");
    let mut following = Following::start(options(&fake));
    assert_eq!(following.messages(1).await.0, texts(&["booted"]));
    let mut all = Following::start(FollowerOptions { start: StartAt::Beginning, ..options(&fake) });
    assert_eq!(all.messages(2).await.0, texts(&["made the image", "booted"]));
}

#[tokio::test]
async fn a_reboot_loses_and_repeats_nothing() {
    let mut fake = Fake::start("a").await;
    fake.say("one");
    let mut following = Following::start(options(&fake));
    assert_eq!(following.messages(1).await.0, texts(&["one"]));
    for (boot, words) in [("b", ["two", "three"]), ("c", ["four", "five"])] {
        fake.tasks.shutdown().await;
        fake.say(words[0]);
        fake.reboot(boot).await;
        fake.say(words[1]);
        assert_eq!(following.messages(2).await, (texts(&words), vec![]));
    }
}

#[tokio::test]
async fn a_killed_guest_that_lost_its_last_entries_is_read_from_its_new_boot_and_the_loss_is_said() {
    let mut fake = Fake::start("a").await;
    for message in ["one", "two", "three"] {
        fake.say(message);
    }
    let mut following = Following::start(options(&fake));
    assert_eq!(following.messages(3).await.0.len(), 3);
    fake.tasks.shutdown().await;
    // Two and three never reached the disk. Numbers are given again.
    fake.with(|guest| {
        guest.entries.truncate(1);
        guest.boot = "b";
    });
    for message in ["new two", "new three", "new four"] {
        fake.say(message);
    }
    fake.reboot("b").await;
    let (messages, lost) = following.messages(3).await;
    assert_eq!(messages, texts(&["new two", "new three", "new four"]));
    assert_eq!(lost, [LostReason::CursorGone]);
    fake.say("five");
    assert_eq!(following.messages(1).await, (texts(&["five"]), vec![]));
}

#[tokio::test]
async fn a_server_that_refuses_the_cursor_is_asked_for_the_current_boot() {
    let mut fake = Fake::start("a").await;
    fake.say("one");
    let mut following = Following::start(options(&fake));
    assert_eq!(following.messages(1).await.0, texts(&["one"]));
    fake.tasks.shutdown().await;
    fake.with(|guest| {
        guest.refuse_ranges = true;
        guest.entries.clear();
        guest.boot = "b";
    });
    fake.say("anew");
    fake.reboot("b").await;
    assert_eq!(following.messages(1).await, (texts(&["anew"]), vec![LostReason::CursorGone]));
}

#[tokio::test]
async fn a_server_that_is_silent_about_the_cursor_is_asked_for_the_current_boot_without_repetition() {
    let mut fake = Fake::start("a").await;
    fake.say("one");
    fake.say("two");
    let quick = FollowerOptions { resume_limit: Duration::from_millis(50), ..options(&fake) };
    let mut following = Following::start(quick);
    assert_eq!(following.messages(2).await.0.len(), 2);
    fake.tasks.shutdown().await;
    fake.with(|guest| guest.entries.truncate(1));
    fake.reboot("a").await;
    // It says nothing, for it has nothing from there on; then it writes again.
    timeout(PATIENCE, async {
        let asked = |guest: &mut Guest| guest.requests.len() >= 3;
        while !fake.with(asked) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("asked again");
    fake.with(|guest| guest.entries.push(Said { number: 3, boot: "a", message: "three".to_owned() }));
    fake.changed.send_modify(|count| *count += 1);
    assert_eq!(following.messages(1).await, (texts(&["three"]), vec![LostReason::Removed]));
}

#[tokio::test]
async fn a_server_that_ends_its_answers_is_asked_again_and_nothing_comes_twice() {
    let fake = Fake::start("a").await;
    fake.with(|guest| guest.no_follow = true);
    let mut following = Following::start(options(&fake));
    for message in ["one", "two", "three"] {
        fake.say(message);
        assert_eq!(following.messages(1).await, (texts(&[message]), vec![]));
    }
}

#[tokio::test]
async fn a_dead_connection_is_dropped_when_the_owner_says_that_the_vm_started_again() {
    // A guest that was killed without a word: it accepts, answers once, and is silent for ever.
    let dead = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = dead.local_addr().expect("address");
    let mut following = Following::start(FollowerOptions::new(address));
    let (mut first, _) = timeout(PATIENCE, dead.accept()).await.expect("in time").expect("accepted");
    first
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n__CURSOR=c\nMESSAGE=x\n\r\n")
        .await
        .expect("written");
    assert!(matches!(following.event().await, FollowEvent::Reached));
    assert!(matches!(following.event().await, FollowEvent::Connected { first: true }));

    // The last words arrive together with the news that it is off, and are read all the same.
    first.write_all(b"1\r\n\n\r\n").await.expect("written");
    following.power.send_replace(Power::Off);
    assert!(matches!(following.event().await, FollowEvent::Entry(entry) if entry.message == "x"));
    assert!(matches!(following.event().await, FollowEvent::Disconnected { reason: None }));
    let mut end = Vec::new();
    timeout(PATIENCE, first.read_to_end(&mut end)).await.expect("in time").expect("closed");

    following.power.send_replace(Power::On { start: 2 });
    let (mut second, _) = timeout(PATIENCE, dead.accept()).await.expect("in time").expect("accepted");
    let mut head = vec![0; 1000];
    let count = timeout(PATIENCE, second.read(&mut head)).await.expect("in time").expect("read");
    assert!(String::from_utf8_lossy(&head[..count]).to_lowercase().contains("range: entries=c\r\n"));
}

#[tokio::test]
async fn a_malformed_entry_is_said_and_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let mut following = Following::start(FollowerOptions::new(listener.local_addr().expect("address")));
    let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.expect("in time").expect("accepted");
    let body = "__CURSOR=a\nnot a field\n\n__CURSOR=b\nMESSAGE=good\n\n";
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await.expect("written");
    let (messages, lost) = following.messages(1).await;
    assert_eq!(messages, texts(&["good"]));
    assert!(matches!(lost.as_slice(), [LostReason::Malformed(ExportError::NotAField { .. })]));
}

#[tokio::test]
async fn a_full_channel_holds_up_the_follower_only_and_cancelling_ends_it() {
    let fake = Fake::start("a").await;
    for number in 0..50 {
        fake.say(&format!("{number}"));
    }
    let mut following = Following::start(options(&fake));
    assert_eq!(following.messages(1).await.0, texts(&["0"]));
    let position = following.stop().await.expect("a position");
    let mut rest =
        Following::start(FollowerOptions { start: StartAt::After(position.clone()), ..options(&fake) });
    let from = u64::from_str_radix(position.cursor[6..].split(';').next().expect("number"), 16);
    let expected = from.expect("number").to_string();
    assert_eq!(rest.messages(1).await, (vec![expected], vec![]));
}

#[tokio::test]
async fn the_follower_ends_when_nobody_tells_about_power_or_nobody_listens() {
    let fake = Fake::start("a").await;
    let Following { power, events, task, .. } = Following::start(options(&fake));
    drop((power, events));
    timeout(PATIENCE, task).await.expect("it ends in time").expect("it does not panic");
}

#[tokio::test]
async fn a_network_that_refuses_is_there_and_is_told_once_for_each_start() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("address");
    let refused = FollowerOptions { retry_max: Duration::from_millis(20), ..FollowerOptions::new(closed) };
    let mut following = Following::start(refused);
    assert!(matches!(following.event().await, FollowEvent::Reached));
    assert!(timeout(Duration::from_millis(300), following.events.recv()).await.is_err(), "once");
    following.power.send_replace(Power::On { start: 2 });
    assert!(matches!(following.event().await, FollowEvent::Reached));
}

#[tokio::test]
async fn a_source_address_that_is_not_there_is_said_once_with_advice() {
    let fake = Fake::start("a").await;
    let mut following =
        Following::start(FollowerOptions { source: "192.0.2.77".parse().ok(), ..options(&fake) });
    let FollowEvent::Disconnected { reason: Some(error) } = following.event().await else {
        panic!("an error")
    };
    assert!(error.to_string().contains("192.0.2.77") && error.to_string().contains("hint:"), "{error}");
    assert!(timeout(Duration::from_millis(100), following.events.recv()).await.is_err(), "once");
}
