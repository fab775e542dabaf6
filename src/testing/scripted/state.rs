//! What the threads of one peer share: one lock, one condition variable, nobody calls user code under the lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use socket2::Socket;

use super::received::ReceivedFrame;
use crate::error::{Error, ErrorKind, Result};
use crate::testing::Frame;
use crate::testing::door::Door;
use crate::testing::expectation::Expectation;

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    started: Instant,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) door: Arc<Door>,
    /// How long a step waits unless told otherwise.
    pub(super) timeout: Duration,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Everything received, on all connections.
    pub(super) frames: Vec<ReceivedFrame>,
    /// Every connection accepted; the first has number 1.
    pub(super) links: Vec<Link>,
    /// Connections without a script that nobody has asked for yet.
    pub(super) unclaimed: VecDeque<usize>,
    pub(super) gates: BTreeMap<String, Gate>,
    /// The first mismatch.
    pub(super) failure: Option<Error>,
    pub(super) running_scripts: usize,
    pub(super) steps_done: usize,
    /// The test is done: idle steps end.
    pub(super) finishing: bool,
    /// Everything ends.
    pub(super) stopped: bool,
    live_threads: usize,
}

/// One accepted connection.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// `None` once it is closed from this side.
    pub(super) socket: Option<Arc<Socket>>,
    /// Received and not expected yet.
    pub(super) inbox: VecDeque<Frame>,
    /// An HTTP request in front of the first frame.
    pub(super) request: Option<String>,
    /// The frame that gaps are filled from.
    pub(super) answered: Option<Frame>,
    /// Frames that are recorded and never expected.
    pub(super) ignored: Vec<Expectation>,
    /// Why nothing more will be received.
    pub(super) end: Option<Error>,
    pub(super) reading_stopped: bool,
    /// How many bytes go into one write; `None` for all of them.
    pub(super) chunk: Option<usize>,
}

/// A point at which a script waits for the test.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) reached: bool,
    pub(super) open: bool,
}

/// Why a wait found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missed {
    TimedOut,
    Stopped,
}

impl Shared {
    pub(super) fn new(door: Arc<Door>, timeout: Duration) -> Shared {
        Shared {
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            started: Instant::now(),
            threads: Mutex::default(),
            door,
            timeout,
        }
    }

    /// Looks at the state, without changing what others wait for.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    /// Changes the state and wakes whoever waits.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` finds something; what it takes out of the state in doing so is nobody else's business.
    pub(super) fn wait<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, Missed> {
        let found = self.wait_until(deadline, |state| match look(state) {
            Some(found) => Some(Ok(found)),
            None => state.stopped.then_some(Err(Missed::Stopped)),
        });
        found.unwrap_or(Err(Missed::TimedOut))
    }

    fn wait_until<T>(&self, deadline: Instant, mut look: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            match look(&mut state) {
                None if self.changed.wait_until(&mut state, deadline).timed_out() => return look(&mut state),
                None => {}
                found => return found,
            }
        }
    }

    /// Enters a frame into the record and hands it to its connection.
    pub(super) fn received(&self, number: usize, frame: Frame) {
        self.change(|state| {
            // Under the lock, so that the times are in the order of the record.
            let elapsed = self.started.elapsed();
            let index = state.frames.len();
            state.frames.push(ReceivedFrame::new(number, index, elapsed, frame.clone()));
            if let Some(link) = state.link_mut(number) {
                link.inbox.push_back(frame);
            }
        });
    }

    /// Keeps the first failure; what fails because everything ends is none.
    pub(super) fn fail(&self, error: Error) {
        self.change(|state| {
            if !state.stopped {
                state.failure.get_or_insert(error);
            }
        });
    }

    /// Runs `body` on a thread of its own, which [`stop`](Shared::stop) joins.
    pub(super) fn spawn(
        self: &Arc<Shared>,
        name: String,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        self.change(|state| state.live_threads += 1);
        let alive = Alive(self.clone());
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _alive = alive;
            body();
        });
        let thread = thread.map_err(|e| {
            Error::new(ErrorKind::Amps, "a thread of the scripted peer cannot be started").with_source(e)
        })?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Ends every wait and every connection.
    pub(super) fn stop(&self) {
        self.change(|state| {
            state.stopped = true;
            for socket in state.links.iter_mut().filter_map(|link| link.socket.take()) {
                // A socket that is not connected any more needs no shutdown.
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        });
        self.door.end();
    }

    /// Joins all threads. One that does not end in time, because code of the test holds it up, is left alone.
    pub(super) fn join(&self, timeout: Duration) {
        let all_ended = self.wait_until(after(timeout), |state| (state.live_threads == 0).then_some(()));
        let threads = std::mem::take(&mut *self.threads.lock());
        if all_ended.is_some() {
            for thread in threads {
                // A panic on it was reported as a mismatch.
                let _ = thread.join();
            }
        }
    }
}

/// The deadline of a wait that starts now.
pub(super) fn after(timeout: Duration) -> Instant {
    // A year is longer than any test, and within what an `Instant` can hold.
    Instant::now() + timeout.min(Duration::from_secs(365 * 24 * 3600))
}

impl State {
    pub(super) fn link(&self, number: usize) -> Option<&Link> {
        self.links.get(number.checked_sub(1)?)
    }

    pub(super) fn link_mut(&mut self, number: usize) -> Option<&mut Link> {
        self.links.get_mut(number.checked_sub(1)?)
    }

    /// The last frames received, for an error text: on this connection, or on all of them.
    pub(super) fn last_frames(&self, number: Option<usize>) -> String {
        let all = || self.frames.iter().filter(|frame| number.is_none_or(|n| n == frame.connection()));
        let count = all().count();
        if count == 0 {
            return "nothing was received".to_owned();
        }
        let last = all().skip(count.saturating_sub(LAST_FRAMES));
        let list: Vec<_> = last.map(|frame| format!("\n  {frame:?}")).collect();
        format!("of {count} frames received the last are:{}", list.concat())
    }
}

/// How many of the last frames an error text lists.
const LAST_FRAMES: usize = 5;

/// Counts a thread as live until it is dropped, whatever ends the thread.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.change(|state| state.live_threads -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::testing::endpoint::Endpoint;

    fn shared() -> Arc<Shared> {
        let door = Door::new(Endpoint::tcp((Ipv4Addr::LOCALHOST, 0)).unwrap());
        Arc::new(Shared::new(door, Duration::from_secs(5)))
    }

    #[test]
    fn a_wait_ends_with_what_it_waits_for_or_at_its_deadline_or_when_everything_ends() {
        let shared = shared();
        assert_eq!(shared.wait(after(Duration::ZERO), |s| s.finishing.then_some(())), Err(Missed::TimedOut));
        let other = shared.clone();
        shared.spawn("peer-test".to_owned(), move || other.change(|s| s.finishing = true)).unwrap();
        assert_eq!(shared.wait(after(Duration::MAX), |s| s.finishing.then_some(7)), Ok(7));
        shared.stop();
        assert_eq!(shared.wait(after(Duration::MAX), |_| None::<()>), Err(Missed::Stopped));
        assert_eq!(
            shared.wait(after(Duration::MAX), |s| s.finishing.then_some(8)),
            Ok(8),
            "what is there is found"
        );
        shared.join(Duration::from_secs(5));
        assert!(shared.threads.lock().is_empty());
    }

    #[test]
    fn a_thread_that_panics_counts_as_ended() {
        let shared = shared();
        shared.spawn("peer-test".to_owned(), || std::panic::resume_unwind(Box::new("quiet"))).unwrap();
        shared.join(Duration::from_secs(5));
        assert_eq!(shared.look(|s| s.live_threads), 0);
    }

    #[test]
    fn the_first_failure_counts_and_none_after_the_end() {
        let shared = shared();
        shared.fail(Error::new(ErrorKind::Amps, "first"));
        shared.fail(Error::new(ErrorKind::Amps, "second"));
        assert_eq!(shared.look(|s| s.failure.clone()).unwrap().to_string(), "first");
        let ended = self::shared();
        ended.stop();
        ended.fail(Error::new(ErrorKind::Amps, "late"));
        assert!(ended.look(|s| s.failure.is_none()));
    }

    #[test]
    fn an_error_text_lists_the_last_frames_of_one_connection_or_of_all() {
        let shared = shared();
        assert_eq!(shared.look(|s| s.last_frames(None)), "nothing was received");
        for n in 1..=8 {
            let frame = Frame::parse(format!(r#"{{"c":"p","s":{n}}}"#).as_bytes()).unwrap();
            shared.received(1 + n % 2, frame);
        }
        let all = shared.look(|s| s.last_frames(None));
        assert!(all.starts_with("of 8 frames") && all.matches("Frame").count() >= LAST_FRAMES, "{all}");
        let second = shared.look(|s| s.last_frames(Some(2)));
        assert!(second.starts_with("of 4 frames") && !second.contains(r#""s":8"#), "{second}");
    }
}
