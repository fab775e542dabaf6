//! Bytes that are no frames, and frames that do not end, are a loss like any other.

use crate::support::client::*;
use amps_client::testing::Frame;
use amps_client::{Client, ConnectionState, ErrorKind, Origin};

use ConnectionState::{Connected, Disconnected, LoggedOn, Shutdown};

/// What no server sends, by what is wrong with it.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a length of 2 GiB", b"\x80\0\0\0{\"c\":\"p\"}".to_vec()),
        ("a length of 4 GiB", b"\xFF\xFF\xFF\xFF".to_vec()),
        ("no header", b"\0\0\0\x07garbage".to_vec()),
        ("a header without an end", b"\0\0\0\x08{\"c\":\"p\"".to_vec()),
        ("a header without a command", b"\0\0\0\x09{\"t\":\"t\"}".to_vec()),
        ("records that do not fit", Frame::encode(r#"{"c":"sow","query_id":"q","bs":1}"#, r#"{"l":9}x"#)),
    ]
}

/// 40, D-1, E 1.4.
#[test]
fn bytes_that_are_no_frame_are_reported_and_the_connection_counts_as_lost() {
    for (what, bytes) in garbage() {
        let scene = Scene::logged_on("c");
        scene.connection.send_raw(&bytes).unwrap();
        scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
        let first = scene.record.failures().remove(0);
        assert_eq!((first.error.kind(), first.origin), (ErrorKind::Stream, Origin::Connection), "{what}");
        assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected, Shutdown], "{what}");
        scene.connection.wait_closed(SOON).unwrap();
    }
}

/// 40: the handler repairs this loss too, and whoever waits is released.
#[test]
fn a_loss_for_invalid_bytes_is_repaired_like_any_other() {
    let mut scene = Scene::logged_on("c");
    scene.reconnect_on_loss();
    let subscribe = scene.begin(|client| client.subscribe("t", "").map(drop));
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.send_raw(b"\0\0\0\x07garbage").unwrap();
    let error = subscribe.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.to_string().contains("invalid bytes"), "{error}");
    scene.accept_again();
    scene.settle();
}

/// What came before the invalid bytes is delivered.
#[test]
fn messages_before_invalid_bytes_are_delivered() {
    let scene = Scene::logged_on("c");
    let inbox = scene.subscribe("s");
    let mut bytes = Frame::encode(&publication("s"), "1");
    bytes.extend(Frame::encode(&publication("s"), "2"));
    bytes.extend(b"\0\0\0\x07garbage");
    scene.connection.send_raw(&bytes).unwrap();
    assert_eq!(inbox.payloads(2), ["1", "2"]);
    scene.record.wait_for_failure(ErrorKind::Stream, "invalid bytes");
}

/// 41: at every place within the frame.
#[test]
fn half_a_frame_is_never_delivered() {
    let frame = Frame::encode(&publication("s"), "payload");
    for cut in [1, 3, 4, 5, 20, frame.len() - 7, frame.len() - 1] {
        let scene = Scene::logged_on("c");
        let inbox = scene.subscribe("s");
        scene.connection.send_raw(&frame[..cut]).unwrap();
        scene.connection.close();
        scene.record.wait_for_states(&[Connected, LoggedOn, Disconnected, Shutdown]);
        scene.client.close();
        assert!(inbox.rest().is_empty(), "{cut} bytes");
    }
}

/// A frame that comes in pieces is delivered once it is whole.
#[test]
fn a_frame_in_pieces_is_delivered_whole() {
    let scene = Scene::logged_on("c");
    let inbox = scene.subscribe("s");
    scene.connection.chunks_of(1);
    scene.send("s", "payload");
    assert_eq!(inbox.payloads(1), ["payload"]);
}

/// A lower limit of the client's own is kept, and named.
#[test]
fn a_frame_above_the_limit_of_the_client_ends_the_connection() {
    let builder = Client::builder("c").frame_limit(1000);
    let scene = Scene::prepared(builder, |_| {});
    let inbox = scene.subscribe("s");
    let header = publication("s");
    scene.send("s", &"x".repeat(1000 - header.len()));
    assert_eq!(inbox.next().data().len(), 1000 - header.len());
    scene.send("s", &"x".repeat(1001 - header.len()));
    let failure = scene.record.wait_for_failure(ErrorKind::Stream, "1001");
    assert!(failure.error.to_string().contains("1000"), "{}", failure.error);
}

/// An empty frame means nothing (`wire-protocol` 2.2).
#[test]
fn an_empty_frame_is_passed_over() {
    let scene = Scene::logged_on("c");
    let inbox = scene.subscribe("s");
    scene.connection.send_raw([0; 12]).unwrap();
    scene.send("s", "x");
    assert_eq!(inbox.payloads(1), ["x"]);
}
