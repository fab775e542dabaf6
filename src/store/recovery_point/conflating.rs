//! An adapter that passes on few of many updates.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, ReentrantMutex};

use super::waiting::Waiting;
use super::{RecoveryPoint, RecoveryPointAdapter};
use crate::error::{Error, ErrorKind, Result};

/// Keeps the latest recovery point of each subscription, and passes it on to another adapter now and then: a subscription
/// whose every message is discarded moves with every message, and few stores outside can follow that.
///
/// A point is passed on when it has changed so often, or when its first change that was not passed on is so old. A thread of
/// the adapter does that, so that neither a discard nor the receive thread waits for the other adapter. What is still held back
/// when the process dies is lost: the messages since then come again.
///
/// | Setting | Default |
/// |---|---|
/// | [`threshold`](ConflatingRecoveryPointAdapterBuilder::threshold) | 10 changes |
/// | [`age`](ConflatingRecoveryPointAdapterBuilder::age) | 2 s |
/// | [`interval`](ConflatingRecoveryPointAdapterBuilder::interval) | 2 s |
///
/// When the other adapter fails, the point is tried again at the next interval, unless there is a newer one by then. The
/// failure is returned once: by the next [`update`](RecoveryPointAdapter::update), [`update_all`] or
/// [`close`](RecoveryPointAdapter::close). Purges are passed on at once, and nothing that was held back comes after them.
///
/// The store closes the adapter when it is dropped. Then, and by [`update_all`], everything is passed on. Dropping the adapter
/// closes it, too.
///
/// ```
/// use amps_client::{
///     Bookmark, BookmarkStore, ConflatingRecoveryPointAdapter, MemoryBookmarkStore, RecoveryPoint,
///     RecoveryPointAdapter, RecoveryPointFactory, Result,
/// };
///
/// /// Prints what is to be kept.
/// struct Printer;
///
/// impl RecoveryPointAdapter for Printer {
///     fn recover(&self) -> Result<Vec<RecoveryPoint>> {
///         Ok(Vec::new())
///     }
///     fn update(&self, point: &RecoveryPoint) -> Result<()> {
///         println!("{} goes on at {}", point.sub_id(), point.bookmark().as_str());
///         Ok(())
///     }
///     fn purge(&self) -> Result<()> {
///         Ok(())
///     }
///     fn purge_sub_id(&self, _sub_id: &str) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let adapter = ConflatingRecoveryPointAdapter::new(Printer)?;
/// // Of a dynamic point only what is passed on is ever computed.
/// let store = MemoryBookmarkStore::with_adapter(adapter, RecoveryPointFactory::Dynamic)?;
/// for sequence in 1..=5 {
///     store.placed("orders-1", &Bookmark::at(17, sequence))?;
/// }
/// drop(store); // prints one line
/// # Ok(())
/// # }
/// ```
///
/// [`update_all`]: ConflatingRecoveryPointAdapter::update_all
pub struct ConflatingRecoveryPointAdapter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ConflatingRecoveryPointAdapter {
    /// Starts conflating for this adapter, with the defaults.
    ///
    /// # Errors
    ///
    /// [`Store`](ErrorKind::Store): the thread cannot be started.
    pub fn new(inner: impl RecoveryPointAdapter + 'static) -> Result<ConflatingRecoveryPointAdapter> {
        ConflatingRecoveryPointAdapter::builder(inner).build()
    }

    /// Starts from the defaults and changes some.
    pub fn builder(inner: impl RecoveryPointAdapter + 'static) -> ConflatingRecoveryPointAdapterBuilder {
        let (threshold, limit) = (10, Duration::from_secs(2));
        ConflatingRecoveryPointAdapterBuilder {
            inner: Box::new(inner),
            threshold,
            age: limit,
            interval: limit,
        }
    }

    /// Passes on everything that is held back, on this thread, and waits for the other adapter.
    ///
    /// # Errors
    ///
    /// The first failure of the other adapter that was not returned yet. The rest is passed on nevertheless.
    pub fn update_all(&self) -> Result<()> {
        self.shared.pass_on(Waiting::take_all);
        self.shared.outcome()
    }
}

impl RecoveryPointAdapter for ConflatingRecoveryPointAdapter {
    fn recover(&self) -> Result<Vec<RecoveryPoint>> {
        self.shared.inner.recover()
    }

    fn update(&self, point: &RecoveryPoint) -> Result<()> {
        if self.shared.hold_back(point) { self.shared.outcome() } else { self.shared.inner.update(point) }
    }

    fn purge(&self) -> Result<()> {
        let _turn = self.shared.turn.lock();
        self.shared.state.lock().waiting.clear();
        self.shared.inner.purge()
    }

    fn purge_sub_id(&self, sub_id: &str) -> Result<()> {
        let _turn = self.shared.turn.lock();
        self.shared.state.lock().waiting.remove(sub_id);
        self.shared.inner.purge_sub_id(sub_id)
    }

    fn prune(&self) -> Result<()> {
        self.shared.inner.prune()
    }

    fn close(&self) -> Result<()> {
        let Some(thread) = self.thread.lock().take() else { return Ok(()) };
        self.shared.stop();
        if thread.thread().id() != thread::current().id() {
            // It contains every panic, so there is no failure to pass on.
            drop(thread.join());
        }
        let updated = self.update_all();
        updated.and(self.shared.inner.close())
    }
}

impl Drop for ConflatingRecoveryPointAdapter {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            log::warn!(target: "amps::store", "a recovery point adapter cannot be closed: {error}");
        }
    }
}

impl fmt::Debug for ConflatingRecoveryPointAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConflatingRecoveryPointAdapter")
            .field("interval", &self.shared.interval)
            .field("waiting", &self.shared.state.lock().waiting)
            .finish_non_exhaustive()
    }
}

/// How a [`ConflatingRecoveryPointAdapter`] conflates.
///
/// ```
/// use std::time::Duration;
///
/// use amps_client::{ConflatingRecoveryPointAdapter, RecoveryPointAdapter};
///
/// # fn conflated(inner: impl RecoveryPointAdapter + 'static) -> amps_client::Result<ConflatingRecoveryPointAdapter> {
/// ConflatingRecoveryPointAdapter::builder(inner).threshold(1_000).age(Duration::from_millis(500)).build()
/// # }
/// ```
#[must_use]
#[derive(Debug)]
pub struct ConflatingRecoveryPointAdapterBuilder {
    inner: Box<dyn RecoveryPointAdapter>,
    threshold: u32,
    age: Duration,
    interval: Duration,
}

impl ConflatingRecoveryPointAdapterBuilder {
    /// After how many changes a point is passed on. 1 or 0: each is passed on at once, on the thread that makes it. Default:
    /// 10.
    pub fn threshold(mut self, changes: u32) -> ConflatingRecoveryPointAdapterBuilder {
        self.threshold = changes;
        self
    }

    /// How old the first change of a point may get that was not passed on. Zero: whenever one is passed on, all of them are.
    /// Default: 2 s.
    pub fn age(mut self, age: Duration) -> ConflatingRecoveryPointAdapterBuilder {
        self.age = age;
        self
    }

    /// How often the age is looked at; so much later than that a point may be passed on. Default: 2 s.
    pub fn interval(mut self, interval: Duration) -> ConflatingRecoveryPointAdapterBuilder {
        self.interval = interval;
        self
    }

    /// Starts conflating.
    ///
    /// # Errors
    ///
    /// [`Store`](ErrorKind::Store): the thread cannot be started.
    pub fn build(self) -> Result<ConflatingRecoveryPointAdapter> {
        let waiting = Waiting::new(self.threshold, self.age);
        let shared = Arc::new(Shared {
            inner: self.inner,
            is_direct: self.threshold <= 1,
            interval: self.interval,
            state: Mutex::new(State { waiting, failure: None, is_closed: false }),
            changed: Condvar::new(),
            turn: ReentrantMutex::new(()),
        });
        let work = shared.clone();
        let thread = thread::Builder::new().name("amps-recovery".to_owned()).spawn(move || work.run());
        let thread = thread.map_err(|error| {
            Error::new(ErrorKind::Store, "cannot start the thread of a recovery point adapter")
                .with_source(error)
        })?;
        Ok(ConflatingRecoveryPointAdapter { shared, thread: Mutex::new(Some(thread)) })
    }
}

struct Shared {
    inner: Box<dyn RecoveryPointAdapter>,
    is_direct: bool,
    interval: Duration,
    state: Mutex<State>,
    /// There is something to wait for, or to do.
    changed: Condvar,
    /// Who holds it passes points on, or purges. The other adapter may purge from within; it is taken before the state.
    turn: ReentrantMutex<()>,
}

struct State {
    waiting: Waiting,
    /// The first failure that was not returned yet.
    failure: Option<Error>,
    is_closed: bool,
}

impl Shared {
    /// Passes on what is due, until it is closed.
    fn run(&self) {
        while self.await_due() {
            self.pass_on(|waiting| waiting.take_due(Instant::now()));
        }
    }

    /// Waits for the time to look for what is due. False if it is closed.
    fn await_due(&self) -> bool {
        let mut state = self.state.lock();
        while !state.is_closed {
            if state.waiting.is_empty() {
                self.changed.wait(&mut state);
            } else if state.waiting.is_full() || self.changed.wait_for(&mut state, self.interval).timed_out()
            {
                return true;
            }
        }
        false
    }

    /// False if the point is to be passed on at once.
    fn hold_back(&self, point: &RecoveryPoint) -> bool {
        let mut state = self.state.lock();
        if self.is_direct || state.is_closed {
            return false;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.put(point, Instant::now());
        if was_empty || state.waiting.is_full() {
            self.changed.notify_one();
        }
        true
    }

    fn pass_on(&self, take: impl FnOnce(&mut Waiting) -> Vec<RecoveryPoint>) {
        let _turn = self.turn.lock();
        let points = take(&mut self.state.lock().waiting);
        for point in points {
            if let Err(error) = self.update(&point) {
                let mut state = self.state.lock();
                state.failure.get_or_insert(error);
                state.waiting.put_back(point, Instant::now());
            }
        }
    }

    fn update(&self, point: &RecoveryPoint) -> Result<()> {
        let updated = catch_unwind(AssertUnwindSafe(|| self.inner.update(point)));
        updated.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::HandlerPanicked, "a recovery point adapter panicked"))
        })
    }

    /// What went wrong meanwhile, told once.
    fn outcome(&self) -> Result<()> {
        self.state.lock().failure.take().map_or(Ok(()), Err)
    }

    fn stop(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }
}
