//! The answer that one caller waits for.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, Result};
use crate::message::Message;

/// A place for one answer: an acknowledgement, or the loss of the connection.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    answer: Mutex<Option<Result<Message>>>,
    came: Condvar,
}

impl Reply {
    /// Gives the answer; the first one counts.
    pub(crate) fn fulfil(&self, answer: Result<Message, Error>) {
        self.answer.lock().get_or_insert(answer);
        self.came.notify_all();
    }

    /// Waits for the answer; `None` if it did not come before the deadline.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Option<Result<Message>> {
        let mut answer = self.answer.lock();
        while answer.is_none() {
            match deadline {
                None => self.came.wait(&mut answer),
                Some(deadline) => {
                    if self.came.wait_until(&mut answer, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        answer.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn the_first_answer_counts_and_is_given_once() {
        let reply = Reply::default();
        reply.fulfil(Err(ErrorKind::Disconnected.into()));
        reply.fulfil(Err(ErrorKind::Command.into()));
        assert_eq!(reply.wait(None).unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
        assert!(reply.wait(Some(Instant::now())).is_none());
    }

    #[test]
    fn a_waiter_is_woken_by_the_answer_and_by_its_deadline() {
        let reply = Arc::new(Reply::default());
        let start = Instant::now();
        assert!(reply.wait(Some(start + Duration::from_millis(10))).is_none());
        assert!(start.elapsed() >= Duration::from_millis(10));
        let waiter = {
            let reply = Arc::clone(&reply);
            std::thread::spawn(move || reply.wait(None))
        };
        reply.fulfil(Err(ErrorKind::TimedOut.into()));
        assert!(waiter.join().unwrap().is_some());
    }
}
