//! A scripted peer does what its script says, reports what does not fit, and always ends (rule X-6 of the embedded
//! server; section 14 of the resilience rules).

use std::io::{self, ErrorKind as IoKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use amps_client::ErrorKind;
use amps_client::testing::{
    ConnectionScript, Expectation, Frame, LogonAck, PeerConnection, ScriptedPeer, ScriptedPeerBuilder,
};

const SOON: Duration = Duration::from_secs(20);
const LOGON: &str = r#"{"c":"logon","cid":"auto0","client_name":"py-1","pw":"s3cret"}"#;
const SUBSCRIBE: &str = r#"{"c":"subscribe","t":"orders","cid":"auto2","sub_id":"sub-2"}"#;
const SUBSCRIBED: &str = r#"{"c":"ack","cid":"auto2","a":"processed","status":"success"}"#;

/// A client that knows nothing but frames.
struct RawClient(TcpStream);

impl RawClient {
    fn connect(peer: &ScriptedPeer) -> RawClient {
        let stream = TcpStream::connect(peer.address().expect("a TCP peer")).expect("accepted");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        RawClient(stream)
    }

    fn send(&mut self, header: &str, payload: &[u8]) {
        self.send_raw(&Frame::encode(header, payload));
    }

    fn send_raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the peer reads");
    }

    fn receive(&mut self) -> Frame {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).expect("a length prefix");
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut body).expect("a whole frame");
        Frame::parse(&body).expect("a frame")
    }

    /// What comes until the peer closes the connection.
    fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).map(|_| rest)
    }
}

fn interactive() -> (ScriptedPeer, RawClient, PeerConnection) {
    let peer = ScriptedPeer::start().expect("a free port");
    let client = RawClient::connect(&peer);
    let connection = peer.accept(SOON).expect("the client has connected");
    (peer, client, connection)
}

/// A peer whose steps give up at once.
fn impatient() -> ScriptedPeerBuilder {
    ScriptedPeer::builder().timeout(Duration::from_millis(50))
}

#[test]
fn a_script_is_followed_step_by_step() {
    let peer = ScriptedPeer::builder()
        .connection(|c| {
            c.logon()
                .expect("subscribe")
                .reply_ok()
                .send(r#"{"c":"p","t":"{topic}","sids":"{sub_id}"}"#, b"data")
                .close()
        })
        .connection(|c| c.logon().idle())
        .start()
        .unwrap();
    assert_eq!(peer.uri("json"), format!("tcp://{}/amps/json", peer.address().unwrap()));

    let mut first = RawClient::connect(&peer);
    first.send(LOGON, b"");
    assert_eq!(
        first.receive().header_text(),
        r#"{"c":"ack","cid":"auto0","s":0,"bm":"7094790850998930143|0|","client_name":"py-1","a":"processed","status":"success","version":"5.3.5.1"}"#
    );
    first.send(SUBSCRIBE, b"");
    assert_eq!(first.receive().header_text(), SUBSCRIBED);
    assert_eq!(first.receive().raw(), br#"{"c":"p","t":"orders","sids":"sub-2"}data"#);
    assert_eq!(first.rest().unwrap(), b"");

    let mut second = RawClient::connect(&peer);
    second.send(LOGON, b"");
    assert_eq!(second.receive().header("status"), Some("success"));
    peer.finish().unwrap();
    assert_eq!(second.rest().unwrap(), b"", "finishing closes what is open");
}

#[test]
fn the_first_mismatch_is_reported_with_both_frames_and_closes_the_connection() {
    let orders = Expectation::command("subscribe").header("t", "orders");
    let peer = ScriptedPeer::builder().connection(|c| c.logon().expect(orders)).start().unwrap();
    let mut client = RawClient::connect(&peer);
    client.send(LOGON, b"");
    client.receive();
    client.send(r#"{"c":"subscribe","t":"trades","pw":"s3cret"}"#, b"");
    assert_eq!(client.rest().unwrap(), b"");

    let error = peer.finish().expect_err("a mismatch");
    assert_eq!(error.kind(), ErrorKind::Amps);
    let text = error.to_string();
    let expected = "connection 1, step 2 of 2 (expect): expected `subscribe` with `t` = `orders`, but received \
                    Frame({\"c\":\"subscribe\",\"t\":\"trades\",\"pw\":\"***\"}); of 2 frames received the last are:";
    assert!(text.starts_with(expected) && text.contains("client_name"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn a_step_that_waits_in_vain_says_for_what_and_shows_the_last_frames() {
    let script = |c: ConnectionScript| c.logon().timeout(Duration::from_millis(50)).expect("flush");
    let peer = ScriptedPeer::builder().connection(script).start().unwrap();
    let mut client = RawClient::connect(&peer);
    client.send(LOGON, b"");
    let error = peer.finish().expect_err("no flush");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let text = error.to_string();
    assert!(text.contains("step 3 of 3") && text.contains("for `flush`"), "{text}");
    assert!(text.contains("of 1 frames received") && !text.contains("s3cret"), "{text}");
}

#[test]
fn a_connection_that_is_never_made_is_a_failure_and_one_too_many_is_none() {
    let peer = impatient().connection(|c| c).connection(|c| c).start().unwrap();
    let _client = RawClient::connect(&peer);
    peer.wait_for_connections(1, SOON).unwrap();
    let error = peer.finish().expect_err("one connection is missing");
    assert!(error.to_string().contains("connection 2 of 2 was never made"), "{error}");

    let peer = ScriptedPeer::builder().connection(|c| c).start().unwrap();
    let clients = [RawClient::connect(&peer), RawClient::connect(&peer)];
    peer.wait_for_connections(2, SOON).unwrap();
    assert_eq!(peer.connections(), clients.len());
    peer.finish().unwrap();
}

#[test]
fn what_the_client_does_to_the_connection_is_told_apart() {
    let frame = Frame::encode(SUBSCRIBE, b"");
    let table: &[(&[u8], ErrorKind, &str)] = &[
        (b"", ErrorKind::Disconnected, "the client closed the connection, while `flush` was expected"),
        (&frame[..9], ErrorKind::Disconnected, "in the middle of a frame, after 9 bytes of it"),
        (b"\0\0\0\x03abc", ErrorKind::Stream, "what the client sent is no frame: no header"),
        (b"\xFF\xFF\xFF\xFFabc", ErrorKind::Stream, "exceeds the limit"),
        (b"GET / HTTP/1.1\r\n", ErrorKind::Disconnected, "after 16 bytes of it"),
    ];
    for (bytes, kind, text) in table {
        let peer = ScriptedPeer::builder().connection(|c| c.expect("flush")).start().unwrap();
        let mut client = RawClient::connect(&peer);
        client.send_raw(bytes);
        client.0.shutdown(Shutdown::Write).unwrap();
        let error = peer.finish().expect_err("no flush came");
        assert!(error.kind() == *kind && error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_logon_is_answered_as_the_test_wishes() {
    let (_peer, mut client, connection) = interactive();
    client.send(LOGON, b"");
    client.send(LOGON, b"");
    client.send(LOGON, b"");
    let retry = LogonAck::retry("alice", "chal").reason("token");
    for answer in [retry, LogonAck::failure("auth failure"), LogonAck::success().sequence(7).name_hash(9)] {
        let logon = connection.logon(&answer, SOON).unwrap();
        assert_eq!(client.receive().header_text(), answer.answer(&logon));
    }
}

#[test]
fn a_connection_whose_script_is_done_stays_open_and_is_recorded() {
    let peer = ScriptedPeer::builder().connection(|c| c.expect("flush").reply_ok()).start().unwrap();
    let mut client = RawClient::connect(&peer);
    client.send(r#"{"c":"flush","cid":"1"}"#, b"");
    client.receive();
    for n in 0..100 {
        client.send(r#"{"c":"p"}"#, &[n]);
    }
    assert_eq!(peer.wait_for_frames(100, "publish", SOON).unwrap().len(), 100);
    peer.finish().unwrap();
}

#[test]
fn refusals_name_their_reason() {
    let peer = ScriptedPeer::builder()
        .connection(|c| c.expect("subscribe").reply_failure("bad \"filter\"").reply(r#"{"c":"x","a":"{c}"}"#))
        .start()
        .unwrap();
    let mut client = RawClient::connect(&peer);
    client.send(SUBSCRIBE, b"");
    let ack = client.receive();
    assert_eq!((ack.header("status"), ack.header("reason")), (Some("failure"), Some("bad \"filter\"")));
    assert_eq!(client.receive().header("a"), Some("subscribe"));
    peer.finish().unwrap();
}

#[test]
fn a_gap_that_cannot_be_filled_is_an_error_that_names_it() {
    let (_peer, mut client, connection) = interactive();
    let error = connection.reply_ok().expect_err("nothing to answer");
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("`{cid}` cannot be filled in, because no frame"), "{error}");

    client.send(r#"{"c":"heartbeat","o":"beat"}"#, b"");
    connection.expect("heartbeat", SOON).unwrap();
    let error = connection.send(r#"{"c":"p","sids":"{sub_id}"}"#, b"").expect_err("no sub_id");
    assert!(
        error.to_string().contains("connection 1: `{sub_id}` cannot be filled in from Frame("),
        "{error}"
    );
}

#[test]
fn a_script_waits_until_the_test_releases_it() {
    let peer = ScriptedPeer::builder()
        .connection(|c| c.expect("subscribe").wait("before the ack").reply_ok())
        .otherwise(|c| c.wait("before the ack").close())
        .start()
        .unwrap();
    assert_eq!(peer.release("no such name").unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(peer.wait_reached("no such name", SOON).unwrap_err().kind(), ErrorKind::Usage);
    let mut client = RawClient::connect(&peer);
    let early = peer.wait_reached("before the ack", Duration::ZERO).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::TimedOut);

    client.send(SUBSCRIBE, b"");
    peer.wait_reached("before the ack", SOON).unwrap();
    client.0.set_nonblocking(true).unwrap();
    assert_eq!(client.0.read(&mut [0]).unwrap_err().kind(), IoKind::WouldBlock, "nothing is sent yet");
    client.0.set_nonblocking(false).unwrap();
    peer.release("before the ack").unwrap();
    assert_eq!(client.receive().header_text(), SUBSCRIBED);
    assert_eq!(RawClient::connect(&peer).rest().unwrap(), b"", "a name once released stays so");
    peer.finish().unwrap();
}

#[test]
fn a_script_that_is_not_released_fails() {
    let peer = impatient().connection(|c| c.wait("never")).start().unwrap();
    let _client = RawClient::connect(&peer);
    peer.wait_for_connections(1, SOON).unwrap();
    let error = peer.finish().expect_err("not released");
    assert!(error.to_string().contains("did not release `never` within 50ms"), "{error}");
}

/// X-3, group cut: orderly close, reset, half close, close within a frame.
#[test]
fn connections_end_as_the_script_says() {
    let frame = Frame::encode(r#"{"c":"heartbeat"}"#, b"");
    let peer = ScriptedPeer::builder()
        .connection(|c| c.expect("flush").close())
        .connection(|c| c.expect("flush").reset())
        .connection(|c| c.expect("flush").shutdown_write().expect("flush"))
        .connection(|c| c.send_raw(&frame[..7]).close())
        .connection(|c| c.wait_closed())
        .start()
        .unwrap();
    let flushing = || {
        let mut client = RawClient::connect(&peer);
        client.send(r#"{"c":"flush"}"#, b"");
        client
    };
    assert_eq!(flushing().rest().unwrap(), b"");
    assert_eq!(flushing().rest().unwrap_err().kind(), IoKind::ConnectionReset);
    let mut half = flushing();
    assert_eq!(half.rest().unwrap(), b"");
    half.send(r#"{"c":"flush"}"#, b"");
    assert_eq!(RawClient::connect(&peer).rest().unwrap(), frame[..7]);
    drop(RawClient::connect(&peer));
    peer.finish().unwrap();
}

/// X-3, group connect: refused for a while, then accepted on the same port.
#[test]
fn connections_are_refused_and_accepted_again_on_the_same_port() {
    let peer = ScriptedPeer::builder()
        .connection(|c| c.refuse().expect("flush").reply_ok().wait("refused").listen_again().reply_ok())
        .connection(|c| c.close())
        .start()
        .unwrap();
    let address = peer.address().unwrap();
    let mut client = RawClient::connect(&peer);
    client.send(r#"{"c":"flush","cid":"1"}"#, b"");
    client.receive();
    for _ in 0..3 {
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), IoKind::ConnectionRefused);
    }
    peer.release("refused").unwrap();
    client.receive();
    assert_eq!(RawClient::connect(&peer).rest().unwrap(), b"");

    for _ in 0..20 {
        peer.refuse().unwrap();
        assert!(TcpStream::connect(address).is_err());
        peer.listen_again().unwrap();
        peer.listen_again().unwrap();
        TcpStream::connect(address).unwrap();
    }
    peer.wait_for_connections(22, SOON).unwrap();
    assert_eq!(peer.connections(), 22, "telling the acceptor is not a connection");
    peer.finish().unwrap();
}

/// X-3, group silence: what the client writes fills the buffers, until reading goes on.
#[test]
fn a_silent_peer_makes_the_client_wait() {
    let peer = ScriptedPeer::builder()
        .connection(|c| c.stop_reading().wait("blocked").resume_reading().idle())
        .start()
        .unwrap();
    let mut client = RawClient::connect(&peer);
    peer.wait_reached("blocked", SOON).unwrap();
    let frame = Frame::encode(r#"{"c":"p","t":"t"}"#, vec![b'x'; 100_000]);
    client.0.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut written = 0;
    let stopped = loop {
        match client.0.write(&frame[written % frame.len()..]) {
            Ok(n) => written += n,
            Err(error) => break error,
        }
    };
    assert!(matches!(stopped.kind(), IoKind::WouldBlock | IoKind::TimedOut), "{stopped}");
    assert!(peer.frames().is_empty(), "nothing is recorded while nothing is read");

    peer.release("blocked").unwrap();
    client.0.set_write_timeout(Some(SOON)).unwrap();
    client.send_raw(&frame[written % frame.len()..]);
    let frames = written.div_ceil(frame.len());
    let all = peer.wait_for_frames(frames, "publish", SOON).unwrap();
    assert!(all.iter().all(|f| f.frame().payload().len() == 100_000));
    peer.finish().unwrap();
}

#[test]
fn a_client_that_does_not_read_is_a_time_out_that_says_how_far_it_got() {
    let endless = |c: &PeerConnection| loop {
        c.send(r#"{"c":"p"}"#, [0; 100_000])?;
    };
    let peer = impatient().connection(|c| c.perform(endless)).start().unwrap();
    let _client = RawClient::connect(&peer);
    peer.wait_for_connections(1, SOON).unwrap();
    let error = peer.finish().expect_err("nobody reads");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let text = error.to_string();
    assert!(text.contains("of 100013 bytes could be sent: the client does not read"), "{text}");
}

#[test]
fn writes_in_chunks_send_the_same_bytes() {
    let (_peer, mut client, connection) = interactive();
    for bytes in [1, 2, 7, 1000, 0] {
        connection.chunks_of(bytes);
        connection.send(r#"{"c":"p","t":"t"}"#, b"the payload").unwrap();
        assert_eq!(client.receive().raw(), br#"{"c":"p","t":"t"}the payload"#, "{bytes} bytes a write");
    }
}

/// `wire-protocol` 2.1: the record does not depend on how the stream was cut.
#[test]
fn every_split_of_the_stream_gives_the_same_frames() {
    let stream =
        [Frame::encode(SUBSCRIBE, b""), vec![0; 4], Frame::encode(r#"{"c":"p"}"#, b"\0{\xFF")].concat();
    let (_peer, mut client, connection) = interactive();
    for cut in 0..stream.len() {
        client.send_raw(&stream[..cut]);
        client.send_raw(&stream[cut..]);
        assert_eq!(connection.expect("subscribe", SOON).unwrap().header_text(), SUBSCRIBE);
        assert_eq!(connection.expect("p", SOON).unwrap().payload(), b"\0{\xFF");
    }
    assert_eq!(connection.frames().len(), 2 * stream.len());
}

/// V-1: connection number, running number, time.
#[test]
fn everything_received_is_recorded_with_its_connection_and_its_time() {
    let peer = ScriptedPeer::start().unwrap();
    let mut clients = [RawClient::connect(&peer), RawClient::connect(&peer)];
    peer.wait_for_connections(2, SOON).unwrap();
    for n in 0..6 {
        clients[n % 2].send(&format!(r#"{{"c":"p","s":{n}}}"#), b"");
        peer.wait_for_frames(n + 1, "p", SOON).unwrap();
    }
    let frames = peer.frames();
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!((frame.index(), frame.connection()), (n, 1 + n % 2));
        assert_eq!(frame.frame().header("s"), Some(n.to_string().as_str()));
    }
    assert!(frames.is_sorted_by_key(|frame| frame.elapsed()));
}

#[test]
fn a_test_waits_for_frames_by_what_they_are() {
    let (peer, mut client, connection) = interactive();
    client.send(LOGON, b"");
    for n in 0..3 {
        client.send(r#"{"c":"p"}"#, &[n]);
    }
    let publishes = peer.wait_for_frames(3, "publish", SOON).unwrap();
    assert_eq!(publishes.iter().map(|f| f.frame().payload()[0]).collect::<Vec<_>>(), [0, 1, 2]);
    let third = peer.wait_for_frame(|f: &Frame| f.payload() == [2], SOON).unwrap();
    assert_eq!(third.index(), 3);
    assert_eq!(peer.wait_for_frames(0, "flush", Duration::ZERO).unwrap().len(), 0);

    let error = peer.wait_for_frames(4, "publish", Duration::ZERO).expect_err("only three");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let text = error.to_string();
    assert!(
        text.starts_with("waited in vain for 4 frames, each `publish`; there are 3; of 4 frames"),
        "{text}"
    );
    drop(connection);
    assert_eq!(client.rest().unwrap(), b"", "dropping a connection closes it");
}

#[test]
fn whoever_waits_hears_of_a_script_that_failed() {
    let peer = ScriptedPeer::builder().connection(|c| c.expect("logon")).start().unwrap();
    RawClient::connect(&peer).send(SUBSCRIBE, b"");
    for error in [
        peer.wait_for_frame("flush", SOON).expect_err("the script failed"),
        peer.wait_for_connections(2, SOON).expect_err("the script failed"),
        peer.accept(SOON).expect_err("the script failed"),
        peer.finish().expect_err("the script failed"),
    ] {
        assert!(error.to_string().contains("step 1 of 1 (expect): expected `logon`"), "{error}");
    }
}

#[test]
fn frames_that_do_not_matter_are_passed_over() {
    let peer = ScriptedPeer::builder()
        .connection(|c| c.ignore("heartbeat").expect("logon").expect("subscribe").skip_to("flush").reply_ok())
        .start()
        .unwrap();
    let mut client = RawClient::connect(&peer);
    for command in ["heartbeat", "logon", "heartbeat", "heartbeat", "subscribe", "p", "unsubscribe", "flush"]
    {
        client.send(&format!(r#"{{"c":"{command}","cid":"c-{command}"}}"#), b"");
    }
    assert_eq!(client.receive().header("cid"), Some("c-flush"));
    assert_eq!(peer.frames().len(), 8, "they are recorded all the same");
    peer.finish().unwrap();
}

#[test]
fn an_interactive_expectation_takes_the_frame_and_can_go_on_after_a_mismatch() {
    let (peer, mut client, connection) = interactive();
    assert_eq!(connection.number(), 1);
    client.send(r#"{"c":"flush"}"#, b"");
    client.send(SUBSCRIBE, b"");
    let error = connection.expect("subscribe", SOON).expect_err("a flush");
    assert!(error.to_string().starts_with("connection 1: expected `subscribe`, but received"), "{error}");
    connection.expect(|f: &Frame| f.header("t") == Some("orders"), SOON).unwrap();
    let error = connection.expect("flush", Duration::from_millis(20)).expect_err("nothing more");
    assert_eq!(error.kind(), ErrorKind::TimedOut);

    drop(client);
    connection.wait_closed(SOON).unwrap();
    assert_eq!(connection.expect("flush", SOON).unwrap_err().kind(), ErrorKind::Disconnected);
    connection.close();
    let error = connection.send_raw(b"x").expect_err("closed");
    assert!(error.kind() == ErrorKind::Disconnected && error.to_string().contains("this side"), "{error}");
    peer.finish().unwrap();
}

#[test]
fn a_connection_that_was_closed_from_this_side_says_so() {
    let (_peer, mut client, connection) = interactive();
    connection.close();
    let error = connection.expect("flush", SOON).expect_err("closed");
    assert!(error.to_string().contains("this side closed the connection, while `flush`"), "{error}");
    connection.wait_closed(SOON).unwrap();
    assert_eq!(client.rest().unwrap(), b"");
    for end in [PeerConnection::close, PeerConnection::reset, PeerConnection::shutdown_write] {
        end(&connection);
    }
}

#[test]
fn a_connection_that_outlives_its_peer_fails_and_does_not_wait() {
    let (peer, _client, connection) = interactive();
    drop(peer);
    let began = Instant::now();
    assert_eq!(connection.expect("flush", SOON).unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(connection.reply(r#"{"c":"x"}"#).is_err());
    assert!(began.elapsed() < SOON);
}

#[test]
fn closures_of_the_test_run_within_a_script_and_their_failures_are_its_failures() {
    let peer = ScriptedPeer::builder()
        .connection(|c| {
            c.perform(|connection| {
                let publish = connection.expect("publish", SOON)?;
                connection.send(r#"{"c":"p","t":"{t}"}"#, publish.payload())
            })
        })
        .connection(|c| c.perform(|_| std::panic::resume_unwind(Box::new("a bug in the test"))))
        .start()
        .unwrap();
    let mut client = RawClient::connect(&peer);
    client.send(r#"{"c":"p","t":"echo"}"#, b"hello");
    assert_eq!(client.receive().raw(), br#"{"c":"p","t":"echo"}hello"#);
    assert_eq!(RawClient::connect(&peer).rest().unwrap(), b"");
    let error = peer.finish().expect_err("a panic");
    assert_eq!(error.kind(), ErrorKind::HandlerPanicked);
    assert!(error.to_string().contains("connection 2, step 1 of 1 (perform): it panicked: a bug"), "{error}");
}

#[test]
fn a_closure_that_never_ends_does_not_hold_up_the_test() {
    let (end, until_then) = std::sync::mpsc::channel::<()>();
    let until_then = std::sync::Mutex::new(until_then);
    let peer = impatient()
        .connection(|c| {
            c.perform(move |_| {
                // Ends when the test is over.
                let _ = until_then.lock().expect("nobody else").recv();
                Ok(())
            })
        })
        .start()
        .unwrap();
    let _client = RawClient::connect(&peer);
    peer.wait_for_connections(1, SOON).unwrap();
    let error = peer.finish().expect_err("it does not end");
    assert!(error.to_string().starts_with("a script does not end; nothing was received"), "{error}");
    drop(end);
}

#[test]
fn every_step_has_the_time_out_that_was_set_last() {
    let peer = ScriptedPeer::builder()
        .connection(|c| c.timeout(Duration::from_millis(30)).expect("flush"))
        .start()
        .unwrap();
    let _client = RawClient::connect(&peer);
    let began = Instant::now();
    assert_eq!(peer.finish().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(began.elapsed() < SOON);
}

/// `wire-protocol` 2.3.
#[test]
fn an_http_preflight_is_answered_before_the_first_frame() {
    let request = "GET /amps/json HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n";
    let peer = ScriptedPeer::builder().connection(|c| c.preflight().logon()).start().unwrap();
    let mut client = RawClient::connect(&peer);
    client.send_raw(&[request.as_bytes(), &Frame::encode(LOGON, b"")].concat());
    let mut answer = [0; 36];
    client.0.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
    assert_eq!(client.receive().header("status"), Some("success"));
    peer.finish().unwrap();

    let (_peer, mut client, connection) = interactive();
    for byte in request.as_bytes() {
        client.send_raw(&[*byte]);
    }
    assert_eq!(connection.expect_request(SOON).unwrap(), request);
    let (_peer, mut client, connection) = interactive();
    client.send_raw(&[b"GET ", &[b'x'; 20_000][..]].concat());
    assert_eq!(connection.expect_request(SOON).unwrap_err().kind(), ErrorKind::Stream);
}
