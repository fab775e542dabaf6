//! What must be settled before a client exists.

use super::Client;
use crate::command::check_text;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::MAX_FRAME;

/// Collects what cannot change later; made by [`Client::builder`].
///
/// What may change while a client runs (handlers, listeners, heartbeats, time limits, switches) has a setter on
/// [`Client`] instead.
///
/// ```
/// use amps_client::Client;
///
/// # fn main() -> amps_client::Result<()> {
/// let client = Client::builder("desk-blotter").frame_limit(16 << 20).build()?;
/// assert_eq!(client.name(), "desk-blotter");
/// # Ok(())
/// # }
/// ```
///
/// Stores and the subscription manager belong here. A client has no setter for them, so they cannot change under a
/// connection; neither of these compiles:
///
/// ```compile_fail
/// # fn change(client: amps_client::Client, other: ()) {
/// client.set_publish_store(other);
/// # }
/// ```
/// ```compile_fail
/// # fn change(client: amps_client::Client, other: ()) {
/// client.set_bookmark_store(other);
/// # }
/// ```
/// ```compile_fail
/// # fn change(client: amps_client::Client, other: ()) {
/// client.set_subscription_manager(other);
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens before `build`"]
pub struct ClientBuilder {
    config: Config,
}

/// The settled configuration of a client.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) frame_limit: u32,
    pub(crate) outbox_limit: usize,
}

impl ClientBuilder {
    pub(crate) fn new(name: String) -> ClientBuilder {
        ClientBuilder { config: Config { name, frame_limit: MAX_FRAME, outbox_limit: 64 << 20 } }
    }

    /// The largest frame that is accepted from the server, in bytes; a larger one ends the connection with a `Stream` error
    /// before anything is allocated for it. Default and maximum: 1 GiB.
    pub fn frame_limit(mut self, bytes: u32) -> ClientBuilder {
        self.config.frame_limit = bytes;
        self
    }

    /// How many bytes of frames published on the receive thread, where nothing may wait, are queued for the writer before
    /// `publish` fails there. Default: 64 MiB.
    pub fn outbox_limit(mut self, bytes: usize) -> ClientBuilder {
        self.config.outbox_limit = bytes;
        self
    }

    /// Creates the client, not connected yet. Starts no thread.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage): the name is empty or holds a control character that cannot be sent, or a limit is 0 or
    /// above its maximum.
    pub fn build(self) -> Result<Client> {
        let Config { name, frame_limit, outbox_limit } = &self.config;
        if name.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "a client needs a name: it identifies the session"));
        }
        check_text("client name", name)?;
        if *frame_limit == 0 || *frame_limit > MAX_FRAME {
            let text = format!("a frame limit of {frame_limit} bytes is not between 1 byte and 1 GiB");
            return Err(Error::new(ErrorKind::Usage, text));
        }
        if *outbox_limit == 0 {
            return Err(Error::new(ErrorKind::Usage, "an outbox limit of 0 bytes would let nothing out"));
        }
        Ok(Client::new(self.config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acceptance rule 9.
    #[test]
    fn what_cannot_work_is_refused_by_build() {
        let refused = [
            Client::builder(""),
            Client::builder("a\u{1}b"),
            Client::builder("a").frame_limit(0),
            Client::builder("a").frame_limit(u32::MAX),
            Client::builder("a").outbox_limit(0),
        ];
        for builder in refused {
            let text = format!("{builder:?}");
            assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Usage, "{text}");
        }
    }
}
