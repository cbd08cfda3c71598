//! Tests of the client against a fake QEMU over a real socket pair.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::qmp::{QmpEvent, RunState, StopCause};

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#;

/// The other end: a QEMU that says what the test tells it to.
struct Peer {
    lines: tokio::io::Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Peer {
    fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { lines: BufReader::new(reader).lines(), writer }
    }

    async fn say(&mut self, text: &str) {
        self.writer.write_all(format!("{text}\r\n").as_bytes()).await.expect("write");
    }

    async fn hear(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("in time");
        serde_json::from_str(&line.expect("read").expect("a line")).expect("JSON")
    }

    async fn answer(&mut self, id: &Value, value: Value) {
        self.say(&json!({ "return": value, "id": id }).to_string()).await;
    }
}

struct Connected {
    qmp: Qmp,
    events: QmpEvents,
    peer: Peer,
    tasks: JoinSet<Result<(), QmpError>>,
}

async fn connected() -> Connected {
    let (near, far) = UnixStream::pair().expect("a pair");
    let mut peer = Peer::new(far);
    let greet = async {
        peer.say(GREETING).await;
        assert_eq!(peer.hear().await, json!({"execute": "qmp_capabilities"}));
        peer.say(r#"{"return": {}}"#).await;
    };
    let (connected, ()) = tokio::join!(Qmp::connect(near), greet);
    let (qmp, driver, events) = connected.expect("connected");
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run());
    Connected { qmp, events, peer, tasks }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

#[tokio::test]
async fn the_greeting_tells_the_version() {
    let Connected { qmp, tasks: _tasks, .. } = connected().await;
    assert_eq!(qmp.version().to_string(), "7.2.22");
    assert_eq!(qmp.version().package, "Debian");
}

#[tokio::test]
async fn answers_out_of_order_reach_whoever_asked() {
    let Connected { qmp, mut peer, tasks: _tasks, .. } = connected().await;
    let serve = async {
        let (first, second) = (peer.hear().await, peer.hear().await);
        for request in [&second, &first] {
            peer.answer(&request["id"], json!({ "for": request["execute"] })).await;
        }
    };
    let (first, second, ()) = soon(async {
        tokio::join!(qmp.execute("query-a", None), qmp.execute("query-b", Some(json!({"x": 1}))), serve)
    })
    .await;
    assert_eq!(first.expect("an answer")["for"], "query-a");
    assert_eq!(second.expect("an answer")["for"], "query-b");
}

#[tokio::test]
async fn an_error_of_qemu_is_an_error_of_the_call() {
    let Connected { qmp, mut peer, tasks: _tasks, .. } = connected().await;
    let serve = async {
        let request = peer.hear().await;
        let error = json!({"class": "CommandNotFound", "desc": "The command x has not been found"});
        peer.say(&json!({ "error": error, "id": request["id"] }).to_string()).await;
    };
    let (result, ()) = soon(async { tokio::join!(qmp.execute("x", None), serve) }).await;
    let error = result.expect_err("an error");
    assert_eq!(
        error.to_string(),
        "QEMU failed to `x` (CommandNotFound): The command x has not been found\n\
         hint: this QEMU is older than 7.2, or was built without it"
    );
}

#[tokio::test]
async fn when_qemu_dies_everybody_who_waits_and_whoever_asks_later_learns_it() {
    let Connected { qmp, mut peer, mut tasks, mut events } = connected().await;
    let die = async {
        peer.hear().await;
        peer.hear().await;
        peer.say(r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-panic"}}"#).await;
        drop(peer);
    };
    let (first, second, ()) = soon(async { tokio::join!(qmp.stop(), qmp.query_status(), die) }).await;
    assert!(matches!(first.expect_err("closed"), QmpError::Closed { command } if command == "stop"));
    assert!(second.expect_err("closed").is_closed());
    assert!(
        matches!(qmp.cont().await.expect_err("closed"), QmpError::Closed { command } if command == "cont")
    );
    soon(qmp.closed()).await;
    assert!(soon(tasks.join_next()).await.expect("a task").expect("no panic").is_ok());
    let last = soon(events.recv()).await.expect("an event").event;
    assert_eq!(last, QmpEvent::Shutdown { guest: true, reason: StopCause::GuestPanic });
    assert_eq!(soon(events.recv()).await, None);
}

#[tokio::test]
async fn dropping_the_connection_ends_all_waits() {
    let Connected { qmp, mut peer, mut tasks, .. } = connected().await;
    let abort = async {
        peer.hear().await;
        tasks.shutdown().await;
    };
    let (result, ()) = soon(async { tokio::join!(qmp.stop(), abort) }).await;
    assert!(result.expect_err("closed").is_closed());
}

#[tokio::test]
async fn quitting_a_qemu_that_is_gone_before_it_answers_is_success() {
    let Connected { qmp, mut peer, tasks: _tasks, .. } = connected().await;
    let die = async {
        assert_eq!(peer.hear().await["execute"], "quit");
        drop(peer);
    };
    let (result, ()) = soon(async { tokio::join!(qmp.quit(), die) }).await;
    result.expect("success");
}

#[tokio::test]
async fn a_caller_that_gives_up_disturbs_nobody() {
    let Connected { qmp, mut peer, tasks: _tasks, .. } = connected().await;
    let mut given_up = Box::pin(qmp.stop());
    let asked = async { peer.hear().await };
    let request = tokio::select! { request = asked => request, _ = &mut given_up => panic!("answered") };
    drop(given_up);
    let serve = async {
        peer.answer(&request["id"], json!({})).await;
        let request = peer.hear().await;
        peer.answer(&request["id"], json!({"running": false, "status": "prelaunch", "singlestep": false}))
            .await;
    };
    let (status, ()) = soon(async { tokio::join!(qmp.query_status(), serve) }).await;
    assert_eq!(status.expect("a status").status, RunState::Prelaunch);
}

#[tokio::test]
async fn events_come_in_order_between_answers() {
    let Connected { qmp, mut events, mut peer, tasks: _tasks, .. } = connected().await;
    let serve = async {
        peer.say(r#"{"event": "STOP"}"#).await;
        let request = peer.hear().await;
        peer.answer(&request["id"], json!({})).await;
        peer.say(r#"{"event": "RESUME"}"#).await;
    };
    let (result, ()) = soon(async { tokio::join!(qmp.stop(), serve) }).await;
    result.expect("stopped");
    assert_eq!(soon(events.recv()).await.expect("an event").event, QmpEvent::Stop);
    assert_eq!(soon(events.recv()).await.expect("an event").event, QmpEvent::Resume);
}

#[tokio::test]
async fn a_qemu_that_ends_before_it_greets_is_told_with_advice() {
    let (near, far) = UnixStream::pair().expect("a pair");
    drop(far);
    let error = soon(Qmp::connect(near)).await.expect_err("no greeting");
    assert!(error.to_string().contains("hint:") && error.is_closed());
}

#[tokio::test]
async fn what_is_no_qmp_is_shown() {
    let (near, far) = UnixStream::pair().expect("a pair");
    let mut peer = Peer::new(far);
    peer.say(r#"{"hello": "world"}"#).await;
    let error = soon(Qmp::connect(near)).await.expect_err("no greeting");
    assert!(matches!(&error, QmpError::Greeting { shown } if shown.contains("hello")), "{error}");
}

#[tokio::test]
async fn nonsense_in_the_midst_ends_the_connection_with_an_error() {
    let Connected { qmp, mut peer, mut tasks, .. } = connected().await;
    peer.say(r#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#).await;
    let ended = soon(tasks.join_next()).await.expect("a task").expect("no panic");
    assert!(matches!(ended, Err(QmpError::NotUnderstood { .. })));
    assert!(qmp.stop().await.expect_err("closed").is_closed());
}

#[tokio::test]
async fn the_last_words_of_a_dead_qemu_are_heard_by_whoever_was_about_to_ask() {
    // Which of reading and writing comes first is left to chance, so often enough for both.
    for _ in 0..30 {
        let Connected { qmp, mut peer, mut events, tasks: _tasks } = connected().await;
        peer.say(r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}"#).await;
        drop(peer);
        assert!(soon(qmp.stop()).await.expect_err("closed").is_closed());
        let last = soon(events.recv()).await.expect("an event").event;
        assert_eq!(last, QmpEvent::Shutdown { guest: true, reason: StopCause::GuestShutdown });
    }
}
