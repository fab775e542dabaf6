//! A client with no ideas of its own: it writes the headers it is given and reads frames.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use amps_client::testing::{Frame, Server};

/// How long a frame may take to arrive before the test is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection to a [`Server`].
pub(crate) struct RawClient {
    stream: TcpStream,
    flushes: u32,
}

impl RawClient {
    /// Connects to the first TCP listener and says nothing.
    pub(crate) fn connect(server: &Server) -> RawClient {
        let address = server.address().expect("a TCP listener");
        RawClient::of(TcpStream::connect(address).expect("a connection"))
    }

    pub(crate) fn of(stream: TcpStream) -> RawClient {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        RawClient { stream, flushes: 0 }
    }

    /// Connects and logs on for JSON messages.
    pub(crate) fn log_on(server: &Server, name: &str) -> RawClient {
        RawClient::log_on_as(server, name, "json")
    }

    pub(crate) fn log_on_as(server: &Server, name: &str, message_type: &str) -> RawClient {
        let mut client = RawClient::connect(server);
        let logon = format!(
            r#"{{"c":"logon","cid":"logon","client_name":"{name}","mt":"{message_type}","a":"processed"}}"#
        );
        client.send(&logon);
        let answer = client.receive();
        assert_eq!(answer.header("status"), Some("success"), "{answer:?}");
        client
    }

    /// Writes one frame: a header, and a payload right behind it if there is one.
    pub(crate) fn send(&mut self, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let length = u32::try_from(body.len()).expect("a short frame");
        self.send_raw(&[&length.to_be_bytes(), body].concat());
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a connection that takes bytes");
    }

    /// The next frame; the test fails if none comes.
    pub(crate) fn receive(&mut self) -> Frame {
        match self.next() {
            Some(frame) => frame,
            None => panic!("the server closed the connection"),
        }
    }

    /// The next frame, or `None` if the server closed the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut prefix = [0; 4];
        if !self.fill(&mut prefix) {
            return None;
        }
        let mut body = vec![0; u32::from_be_bytes(prefix) as usize];
        assert!(self.fill(&mut body), "the connection ended within a frame");
        Some(Frame::parse(&body).expect("a frame"))
    }

    /// Reads until the server closes the connection, and returns the frames before that.
    pub(crate) fn read_to_end(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The frames that are on their way already: everything before the answer to a flush.
    pub(crate) fn received(&mut self) -> Vec<Frame> {
        self.flushes += 1;
        let id = format!("flush-{}", self.flushes);
        self.send(format!(r#"{{"c":"flush","cid":"{id}","a":"processed"}}"#));
        std::iter::from_fn(|| Some(self.receive()).filter(|frame| frame.header("cid") != Some(&id))).collect()
    }

    /// Sends a command and returns everything that is sent because of it, as text.
    pub(crate) fn ask(&mut self, body: impl AsRef<[u8]>) -> Vec<String> {
        self.send(body);
        self.texts()
    }

    /// [`received`](RawClient::received), as text.
    pub(crate) fn texts(&mut self) -> Vec<String> {
        self.received().iter().map(text).collect()
    }

    /// The next bytes, be they frames or not.
    pub(crate) fn read_raw(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        assert!(self.fill(&mut bytes), "the connection ended before {count} bytes");
        bytes
    }

    /// All bytes until the connection ends, and the error it ends with, if it does.
    pub(crate) fn read_raw_to_end(&mut self) -> (Vec<u8>, Option<ErrorKind>) {
        let mut bytes = Vec::new();
        let error = self.stream.read_to_end(&mut bytes).err().map(|error| error.kind());
        (bytes, error)
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// False at the end of the stream, before the first byte or within.
    fn fill(&mut self, mut into: &mut [u8]) -> bool {
        while !into.is_empty() {
            match self.stream.read(into) {
                Ok(0) => return false,
                Ok(length) => into = &mut into[length..],
                Err(error) if is_closed(&error) => return false,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
        true
    }
}

fn is_closed(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn text(frame: &Frame) -> String {
    String::from_utf8_lossy(frame.raw()).into_owned()
}
