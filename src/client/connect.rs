//! Opening a connection: the transport, its receive thread, and the first state.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::context::ThreadKey;
use super::core::Core;
use super::registry::Failure;
use super::worker::Worker;
use super::{context, receiver, recovery};
use crate::callbacks::ConnectionState;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{self, Transport};
use crate::uri::Uri;

/// Connects, unless the client is connected, is being closed, or is in somebody else's hands.
pub(crate) fn connect(core: &Arc<Core>, uri: &str) -> Result<()> {
    if core.config.driven {
        let text = "an HAClient connects by itself: call `connect_and_logon` instead of `connect`";
        return Err(Error::new(ErrorKind::Usage, text));
    }
    core.refuse_to_hang("connect")?;
    connect_through(core, uri, transport::connect)
}

/// Connects over a transport that `open` makes.
pub(crate) fn connect_through(
    core: &Arc<Core>,
    uri: &str,
    open: impl FnOnce(&Uri) -> Result<Arc<dyn Transport>>,
) -> Result<()> {
    let uri = Uri::parse(uri)?;
    let _claim = Claim::take(core, &uri)?;
    // A handler that has closed the client itself may still run, and no other may run beside it (T-8).
    core.wait_for_threads(None);
    let transport = open(&uri)?;
    let me = ThreadKey::current();
    let Some(version) = install(core, &transport, me) else {
        transport.shutdown();
        return Err(closed());
    };
    if let Err(failure) = start(core, transport, version) {
        core.abandon(&failure);
        return Err(failure);
    }
    if core.session.lock().is_repaired_by(me) {
        return Ok(());
    }
    if core.link.open(me) {
        return Ok(());
    }
    core.link.down(me);
    Err(Error::new(ErrorKind::Disconnected, "the connection was lost at once").with_uri(&uri.to_string()))
}

/// While it lives, no other thread connects.
struct Claim<'a> {
    core: &'a Core,
}

impl<'a> Claim<'a> {
    fn take(core: &'a Core, uri: &Uri) -> Result<Claim<'a>> {
        let me = ThreadKey::current();
        let mut session = core.session.lock();
        if session.is_closed_to(me) {
            return Err(closed());
        }
        if session.is_connected() || session.connecting {
            let text = match &session.uri {
                Some(current) => format!("the client is already connected to {current}"),
                None => "the client is already connected".to_owned(),
            };
            return Err(Error::new(ErrorKind::AlreadyConnected, text));
        }
        if session.is_repaired_by_other(me) {
            return Err(Error::new(ErrorKind::RetryOperation, "reconnect in progress"));
        }
        session.connecting = true;
        session.user = uri.user().unwrap_or_default().to_owned();
        session.uri = Some(uri.clone());
        Ok(Claim { core })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.core.session.lock().connecting = false;
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Disconnected, "the client was closed")
}

/// Makes the transport the current one, unless the client was closed meanwhile.
fn install(core: &Core, transport: &Arc<dyn Transport>, me: ThreadKey) -> Option<u64> {
    let mut session = core.session.lock();
    if session.is_closed_to(me) {
        return None;
    }
    let version = core.link.install(Arc::clone(transport), me);
    session.connect();
    Some(version)
}

/// Starts the receive thread. It begins to read when `Connected` has been announced, so that no later state can come
/// before it.
fn start(core: &Arc<Core>, transport: Arc<dyn Transport>, version: u64) -> Result<()> {
    let stops = core.stops.load(Ordering::Acquire);
    let (ready, started) = bounded::<Result<(), Failure>>(1);
    let (go, begin) = bounded::<()>(1);
    let body = {
        let core = Arc::clone(core);
        move || receive(&core, &*transport, version, stops, &ready, &begin)
    };
    let name = format!("amps-rx-{}", core.config.name);
    let worker = Worker::spawn(name, body).map_err(|e| {
        Error::new(ErrorKind::Connection, "the receive thread cannot be started").with_source(e)
    })?;
    core.threads.add(worker);
    match started.recv() {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            let text = "the thread-created callback failed";
            return Err(Error::new(ErrorKind::Connection, text).with_source(failure.error));
        }
        Err(_) => return Err(Error::new(ErrorKind::Connection, "the receive thread ended at once")),
    }
    core.announce_if_connected(version, ConnectionState::Connected);
    // The thread may have been told to stop meanwhile and be gone.
    let _ = go.send(());
    Ok(())
}

/// The life of one receive thread.
fn receive(
    core: &Arc<Core>,
    transport: &dyn Transport,
    version: u64,
    stops: u64,
    ready: &Sender<Result<(), Failure>>,
    begin: &Receiver<()>,
) {
    let me = ThreadKey::current().as_u64();
    context::enter_receive_thread(core.id);
    core.receive_thread.store(me, Ordering::Release);
    let created = core.registry.thread_created();
    let failed = created.is_err();
    if ready.send(created).is_err() || failed || begin.recv().is_err() {
        return;
    }
    let cause = receiver::run(core, transport, stops);
    // From here on this thread may wait like any other: what it waits for comes over another connection (T-7).
    let _ = core.receive_thread.compare_exchange(me, 0, Ordering::AcqRel, Ordering::Relaxed);
    transport.shutdown();
    if let Some(cause) = cause {
        recovery::handle_loss(core, version, &cause);
    }
    core.registry.thread_exiting();
}
