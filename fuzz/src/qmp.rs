//! QEMU's words and those of its guest agent, which is inside a guest.

use serde_json::Value;
use steading_vm::qmp::{CodecError, MessageReader, Qmp, TimedEvent};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::Target;
use crate::input::{Pieces, drive, same_in_pieces};

/// The target.
pub const TARGET: Target = Target {
    name: "qmp",
    check,
    seeds: &[
        b"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"x\"}}}\r\n\
          {\"return\": {}}\r\n{\"return\": {\"status\": \"running\", \"running\": true}, \"id\": 1}\r\n",
        b"{\"QMP\":{\"version\":{\"qemu\":{\"micro\":0,\"minor\":0,\"major\":9}}}}\n{\"return\":{}}\n\
          {\"timestamp\": {\"seconds\": 1800000000, \"microseconds\": 250000}, \"event\": \"SHUTDOWN\",\
          \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\n\
          {\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no such\"}, \"id\": 1}\n",
        b"{\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"device\":\"\",\"node-name\":\"root\",\"nospace\":true}}\n\
          {\"event\":\"STOP\",\"timestamp\":{\"seconds\":-1,\"microseconds\":-1}}\n",
        b"{\"tor\xff{\"return\": 7}\n",
        // More than the limit of a short reader, at once and byte by byte.
        b"[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]\n{}\n",
    ],
    words: &[
        "{\"QMP\":{\"version\":{\"qemu\":{\"micro\":0,\"minor\":0,\"major\":9}}}}\n",
        "{\"return\":{}}\n",
        "\"id\":1",
        "\"error\":",
        "\"event\":\"RESET\"",
        "\"timestamp\":",
        "\"seconds\":",
        "\"microseconds\":",
        "9223372036854775807",
        "\n",
        "\r\n",
    ],
};

/// Short enough for messages of a few words to be too long.
const SHORT_LIMIT: usize = 64;

/// Reads the bytes as messages, as a guest agent's late answer, and as all that a QEMU ever says.
pub fn check(bytes: &[u8]) {
    for limit in [SHORT_LIMIT, 1 << 20] {
        let (messages, _) = same_in_pieces(bytes, |pieces| drive(all_messages(pieces, limit, false)));
        same_in_pieces(bytes, |pieces| drive(all_messages(pieces, limit, true)));
        for message in messages {
            assert!(message.to_string().len() <= 8 * limit, "a message is longer than the limit");
            // Whatever it is, it is an event or none.
            let _ = TimedEvent::parse(&message);
        }
    }
    drive(client(bytes));
}

/// All messages, after the agent's mark or from the beginning, and how the stream ended.
async fn all_messages(pieces: &[&[u8]], limit: usize, from_sentinel: bool) -> (Vec<Value>, String) {
    let mut reader = MessageReader::new(Pieces::new(pieces), limit);
    let mut messages = Vec::new();
    if from_sentinel && !reader.skip_to_sentinel().await.expect("the stream can be read") {
        return (messages, "no sentinel".to_owned());
    }
    loop {
        match reader.next().await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, "the end".to_owned()),
            Err(error @ CodecError::TooLong { .. }) => return (messages, error.to_string()),
            // Reading may go on after it, as the agent does.
            Err(CodecError::Malformed { shown, .. }) => messages.push(Value::String(shown)),
            Err(CodecError::Read(error)) => panic!("the stream can be read: {error}"),
        }
    }
}

/// Whatever QEMU says, whoever waits for an answer learns the outcome when QEMU has ended.
async fn client(bytes: &[u8]) {
    let (ours, mut qemus) = UnixStream::pair().expect("a pair of sockets");
    let speaks = async {
        // The client may end before it has read all.
        let _ = qemus.write_all(bytes).await;
        let _ = qemus.shutdown().await;
    };
    let listens = async {
        let Ok((qmp, driver, mut events)) = Qmp::connect(ours).await else { return };
        let (_, answer) = tokio::join!(driver.run(), async { qmp.execute("query-status", None).await });
        assert!(answer.is_err() || bytes.contains(&b'1'), "an answer without the id of its question");
        while events.recv().await.is_some() {}
    };
    tokio::join!(speaks, listens);
}
