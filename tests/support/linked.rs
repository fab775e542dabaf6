//! A client and the scripted peer it is logged on to.

use std::thread;
use std::time::Duration;

use amps_client::Client;
use amps_client::testing::{LogonAck, PeerConnection, ScriptedPeer};

/// How long anything may take before the test is lost.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A logged-on client, and the peer's end of its connection.
pub(crate) struct Linked {
    pub(crate) client: Client,
    pub(crate) end: PeerConnection,
    // Ends last.
    peer: ScriptedPeer,
}

impl Linked {
    pub(crate) fn new() -> Linked {
        Linked::of(Client::builder("linked").build().expect("a name"))
    }

    /// Connects this client and logs it on.
    pub(crate) fn of(client: Client) -> Linked {
        let linked = Linked::connected(client, |uri| uri);
        let granted = linked.answered(Client::logon, |end| {
            end.logon(&LogonAck::success(), SOON).expect("a logon");
        });
        granted.expect("a granted logon");
        linked
    }

    /// Connects this client, after a change to the connection string, and does not log it on.
    pub(crate) fn connected(client: Client, uri: impl FnOnce(String) -> String) -> Linked {
        let peer = ScriptedPeer::start().expect("a free port");
        client.connect(&uri(peer.uri("json"))).expect("the peer accepts");
        let end = peer.accept(SOON).expect("the client has connected");
        Linked { client, end, peer }
    }

    /// Makes a call that waits for an answer, while `answer` plays the server.
    pub(crate) fn answered<T: Send>(
        &self,
        call: impl FnOnce(&Client) -> T + Send,
        answer: impl FnOnce(&PeerConnection),
    ) -> T {
        thread::scope(|scope| {
            let caller = scope.spawn(|| call(&self.client));
            let _release = ReleaseOnPanic(&self.end);
            answer(&self.end);
            caller.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Closes the connection if the test fails, so that nobody waits for an answer that will not come.
struct ReleaseOnPanic<'a>(&'a PeerConnection);

impl Drop for ReleaseOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.close();
        }
    }
}
