//! The queue `q` of a server that the test plays, and its subscription `Q`.

use amps_client::testing::{Frame, PeerConnection};

use super::client::SOON;

/// Delivers the message of this number to the subscription.
#[track_caller]
pub(crate) fn lend(connection: &PeerConnection, number: u64) {
    let header =
        format!(r#"{{"c":"p","t":"q","bm":"1|{number}|","lp":"20300102T030405.123456Z","l":1,"sids":"Q"}}"#);
    connection.send(&header, number.to_string()).expect("the client reads");
}

/// The header that acknowledges messages of a topic, word for word; with an option if it is not empty.
pub(crate) fn acknowledgement(topic: &str, numbers: &[u64], option: &str) -> String {
    let bookmarks: Vec<_> = numbers.iter().map(|number| format!("1|{number}|")).collect();
    let options = if option.is_empty() { String::new() } else { format!(r#","o":"{option}""#) };
    let bookmarks = bookmarks.join(",");
    format!(r#"{{"c":"sow_delete","t":"{topic}","cid":"AMPS-queue-ack","bookmark":"{bookmarks}"{options}}}"#)
}

/// Expects that these messages of the queue are acknowledged next, in one frame, which is returned.
#[track_caller]
pub(crate) fn expect_ack(connection: &PeerConnection, numbers: &[u64], option: &str) -> Frame {
    let frame = connection.expect("sow_delete", SOON).expect("an acknowledgement");
    assert_eq!(frame.header_text(), acknowledgement("q", numbers, option));
    frame
}
