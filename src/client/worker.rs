//! A named thread that can be waited for with a limit.

use std::convert::Infallible;
use std::io;
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use parking_lot::Mutex;

/// A running thread of the library. Any number of others may wait for it.
#[derive(Debug)]
pub(crate) struct Worker {
    id: ThreadId,
    /// Disconnected when the thread has ended; nothing is ever sent.
    ended: Receiver<Infallible>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    /// Starts a thread.
    pub(crate) fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> io::Result<Worker> {
        let (alive, ended) = bounded::<Infallible>(0);
        let run = move || {
            let _alive = alive;
            body();
        };
        let handle = thread::Builder::new().name(name).spawn(run)?;
        Ok(Worker { id: handle.thread().id(), ended, handle: Mutex::new(Some(handle)) })
    }

    /// Waits for the end of the thread, for at most `limit` if there is one, and not at all on the thread itself.
    pub(crate) fn wait(&self, limit: Option<Duration>) {
        if self.id == thread::current().id() {
            return;
        }
        let outcome = match limit {
            None => self.ended.recv().map_err(RecvTimeoutError::from),
            Some(limit) => self.ended.recv_timeout(limit),
        };
        if outcome == Err(RecvTimeoutError::Timeout) {
            return;
        }
        // Nothing is left to do for the thread but to go. Its body contains every panic of user code, so there is no
        // failure to pass on.
        let handle = self.handle.lock().take();
        drop(handle.map(JoinHandle::join));
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.handle.lock().as_ref().is_none_or(JoinHandle::is_finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn waiting_ends_with_the_thread_or_with_the_limit() {
        let (release, held) = bounded::<()>(0);
        let worker = Worker::spawn("held".to_owned(), move || _ = held.recv()).unwrap();
        let start = Instant::now();
        worker.wait(Some(Duration::from_millis(20)));
        assert!(start.elapsed() >= Duration::from_millis(20) && !worker.has_ended());
        drop(release);
        thread::scope(|scope| {
            let others = [(); 3].map(|()| scope.spawn(|| worker.wait(None)));
            worker.wait(Some(Duration::from_secs(5)));
            others.into_iter().for_each(|other| other.join().unwrap());
        });
        assert!(worker.has_ended());
        worker.wait(None);
    }

    #[test]
    fn a_thread_does_not_wait_for_itself() {
        let (give, take) = bounded::<Worker>(1);
        let (done, waited) = bounded(1);
        let worker = Worker::spawn("self".to_owned(), move || {
            take.recv().unwrap().wait(None);
            done.send(()).unwrap();
        });
        give.send(worker.unwrap()).unwrap();
        waited.recv_timeout(Duration::from_secs(5)).expect("the thread goes on");
    }
}
