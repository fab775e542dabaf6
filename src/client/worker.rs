//! A named thread that can be waited for with a limit.

use std::convert::Infallible;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

/// A running thread of the library.
#[derive(Debug)]
pub(crate) struct Worker {
    handle: JoinHandle<()>,
    /// Disconnected when the thread has ended; nothing is ever sent.
    ended: Receiver<Infallible>,
}

impl Worker {
    /// Starts a thread.
    pub(crate) fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<Worker> {
        let (alive, ended) = bounded::<Infallible>(0);
        let run = move || {
            let _alive = alive;
            body();
        };
        Ok(Worker { handle: thread::Builder::new().name(name).spawn(run)?, ended })
    }

    /// Waits for the end of the thread, for at most `limit` if there is one, and not at all on the thread itself.
    /// Gives back a thread that has not ended by then.
    pub(crate) fn wait(self, limit: Option<Duration>) -> Option<Worker> {
        if self.handle.thread().id() == thread::current().id() {
            return Some(self);
        }
        if let Some(limit) = limit
            && let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(limit)
        {
            return Some(self);
        }
        // The body contains every panic of user code, so there is no failure to pass on.
        let _ = self.handle.join();
        None
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.handle.is_finished()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn waiting_ends_with_the_thread_or_with_the_limit() {
        let (release, held) = bounded::<()>(0);
        let worker = Worker::spawn("held".to_owned(), move || drop(held.recv())).unwrap();
        let start = Instant::now();
        let worker = worker.wait(Some(Duration::from_millis(20))).expect("it has not ended");
        assert!(start.elapsed() >= Duration::from_millis(20) && !worker.has_ended());
        drop(release);
        assert!(worker.wait(None).is_none());

        let worker = Worker::spawn("short".to_owned(), || {}).unwrap();
        assert!(worker.wait(None).is_none());
    }

    #[test]
    fn a_thread_does_not_wait_for_itself() {
        let (give, take) = bounded::<Worker>(1);
        let (done, waited) = bounded(1);
        let worker = Worker::spawn("self".to_owned(), move || {
            done.send(take.recv().unwrap().wait(None).is_some()).unwrap();
        });
        give.send(worker.unwrap()).unwrap();
        assert!(waited.recv_timeout(Duration::from_secs(5)).expect("the thread goes on"));
    }
}
