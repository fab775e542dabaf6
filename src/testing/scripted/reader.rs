//! The thread that reads from one connection, so that frames are recorded whatever its script is doing.

use std::io::{self, Read};
use std::sync::Arc;

use memchr::memmem;
use socket2::Socket;

use super::state::{Shared, after};
use crate::error::{Error, ErrorKind};
use crate::testing::Frame;

/// Reads until the connection ends, and notes how it ended.
pub(super) fn read(shared: &Shared, number: usize, socket: Arc<Socket>) {
    let mut input = Input::default();
    let end = loop {
        if let Err(end) = input.read_some(&socket).and_then(|()| input.take_in(shared, number)) {
            break end;
        }
    };
    // Whoever closes the connection waits for the end, and wants to be the last one who holds the socket.
    drop(socket);
    shared.change(|state| {
        if let Some(link) = state.link_mut(number) {
            let own = || Error::new(ErrorKind::Disconnected, "this side closed the connection");
            link.end = Some(if link.socket.is_none() { own() } else { end });
        }
    });
}

/// Bytes that are no whole frame yet.
#[derive(Default)]
struct Input {
    pending: Vec<u8>,
    /// Past the place where an HTTP request may stand.
    opened: bool,
}

/// The most that is read at once.
const READ: usize = 64 * 1024;

/// An HTTP request longer than this is none (`wire-protocol` 2.3).
const MAX_REQUEST: usize = 16 * 1024;

impl Input {
    fn read_some(&mut self, socket: &Socket) -> Result<(), Error> {
        let filled = self.pending.len();
        self.pending.resize(filled + READ, 0);
        let mut reader = socket;
        let read = loop {
            match reader.read(self.pending.get_mut(filled..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.pending.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(self.closed()),
            Ok(_) => Ok(()),
            Err(error) => {
                Err(Error::new(ErrorKind::Disconnected, "the connection was lost").with_source(error))
            }
        }
    }

    fn closed(&self) -> Error {
        let text = match self.pending.len() {
            0 => "the client closed the connection".to_owned(),
            bytes => format!(
                "the client closed the connection in the middle of a frame, after {bytes} bytes of it"
            ),
        };
        Error::new(ErrorKind::Disconnected, text)
    }

    /// Records the frames that are there as a whole, once reading is allowed.
    fn take_in(&mut self, shared: &Shared, number: usize) -> Result<(), Error> {
        wait_until_reading(shared, number);
        if !self.opened && !self.open(shared, number)? {
            return Ok(());
        }
        self.opened = true;
        let mut at = 0;
        loop {
            let rest = self.pending.get(at..).unwrap_or_default();
            let (frame, used) = Frame::cut(rest).map_err(|e| corrupt(&e))?;
            at += used;
            match frame {
                Some(frame) => shared.received(number, frame),
                None => break,
            }
        }
        self.pending.drain(..at);
        Ok(())
    }

    /// Takes an HTTP request off the start of the connection; false if more of it must be read.
    ///
    /// It cannot be mistaken: as the length of a frame, `GET ` would be above the limit.
    fn open(&mut self, shared: &Shared, number: usize) -> Result<bool, Error> {
        if !self.pending.starts_with(b"GET ") {
            return Ok(!b"GET ".starts_with(&self.pending));
        }
        let Some(end) = memmem::find(&self.pending, b"\r\n\r\n").map(|at| at + 4) else {
            let endless = self.pending.len() > MAX_REQUEST;
            return if endless { Err(corrupt(&"an HTTP request without an end")) } else { Ok(false) };
        };
        let request: Vec<u8> = self.pending.drain(..end).collect();
        shared.change(|state| {
            if let Some(link) = state.link_mut(number) {
                link.request = Some(String::from_utf8_lossy(&request).into_owned());
            }
        });
        Ok(true)
    }
}

/// Waits while the script has stopped reading.
fn wait_until_reading(shared: &Shared, number: usize) {
    let reading = shared.wait(after(std::time::Duration::MAX), |state| {
        let link = state.link(number)?;
        (!link.reading_stopped || link.socket.is_none()).then_some(())
    });
    // When everything ends, what was read is still taken in; the next read ends the thread.
    let _ = reading;
}

fn corrupt(why: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Stream, format!("what the client sent is no frame: {why}"))
}
