//! Acknowledgements that wait to be sent together: by topic, counted, and with an age.
//!
//! Pure: when it is, and how a batch is sent, is the caller's business.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How old an acknowledgement gets at most unless told otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// What is to be sent, and when.
#[derive(Debug)]
pub(crate) struct Batches {
    /// How many acknowledgements of one topic go together; less than 2 means that each goes alone.
    size: usize,
    timeout: Duration,
    waiting: HashMap<String, Waiting>,
}

/// The acknowledgements of one topic that were not sent yet.
#[derive(Debug)]
struct Waiting {
    bookmarks: String,
    count: usize,
    /// Since when the first of them waits; `None` if it could not be sent, so that it is due in any case.
    since: Option<Instant>,
}

/// Acknowledgements of one topic that go into one frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) topic: String,
    /// A comma list.
    pub(crate) bookmarks: String,
    count: usize,
}

impl Default for Batches {
    fn default() -> Batches {
        Batches { size: 0, timeout: DEFAULT_TIMEOUT, waiting: HashMap::new() }
    }
}

impl Batches {
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sets how many go together. More than one would wait for ever without a timeout, so it comes back.
    pub(crate) fn set_size(&mut self, size: usize) {
        self.size = size;
        if size > 1 && self.timeout.is_zero() {
            self.timeout = DEFAULT_TIMEOUT;
        }
    }

    /// A subscription may have no more than so many unacknowledged messages: a larger batch would never get full.
    pub(crate) fn cap(&mut self, backlog: usize) {
        self.size = self.size.min(backlog);
    }

    /// Sets how old an acknowledgement gets at most. False if nothing would ever be sent: it is refused.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) -> bool {
        let makes_sense = !timeout.is_zero() || self.size < 2;
        if makes_sense {
            self.timeout = timeout;
        }
        makes_sense
    }

    /// Adds an acknowledgement. Returns its batch if that is full.
    pub(crate) fn add(&mut self, topic: &str, bookmark: &str, now: Instant) -> Option<Batch> {
        let count = match self.waiting.get_mut(topic) {
            Some(waiting) => {
                waiting.push(bookmark, 1);
                waiting.count
            }
            None => {
                let waiting = Waiting { bookmarks: bookmark.to_owned(), count: 1, since: Some(now) };
                self.waiting.insert(topic.to_owned(), waiting);
                1
            }
        };
        let (topic, waiting) = (count >= self.size).then(|| self.waiting.remove_entry(topic)).flatten()?;
        Some(waiting.batch(topic))
    }

    /// The batches that are full, which they may have become by a smaller size.
    pub(crate) fn take_full(&mut self) -> Vec<Batch> {
        let size = self.size;
        self.take_if(|waiting| waiting.count >= size)
    }

    /// The batches whose oldest acknowledgement has waited for long enough, and those that could not be sent before.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<Batch> {
        let timeout = self.timeout;
        self.take_if(|waiting| {
            waiting.since.is_none_or(|since| now.saturating_duration_since(since) >= timeout)
        })
    }

    pub(crate) fn take_all(&mut self) -> Vec<Batch> {
        self.take_if(|_| true)
    }

    /// A batch could not be sent: it goes before what has come meanwhile, and is due.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        let Batch { topic, bookmarks, count } = batch;
        let mut kept = Waiting { bookmarks, count, since: None };
        if let Some(newer) = self.waiting.remove(&topic) {
            kept.push(&newer.bookmarks, newer.count);
        }
        self.waiting.insert(topic, kept);
    }

    fn take_if(&mut self, wanted: impl Fn(&Waiting) -> bool) -> Vec<Batch> {
        let taken = self.waiting.extract_if(|_, waiting| wanted(waiting));
        let mut taken: Vec<_> = taken.map(|(topic, waiting)| waiting.batch(topic)).collect();
        taken.sort_unstable_by(|one, other| one.topic.cmp(&other.topic));
        taken
    }
}

impl Waiting {
    fn push(&mut self, bookmarks: &str, count: usize) {
        self.bookmarks.push(',');
        self.bookmarks.push_str(bookmarks);
        self.count += count;
    }

    fn batch(self, topic: String) -> Batch {
        Batch { topic, bookmarks: self.bookmarks, count: self.count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    impl Batch {
        fn one(topic: &str, bookmark: &str) -> Batch {
            Batch { topic: topic.to_owned(), bookmarks: bookmark.to_owned(), count: 1 }
        }
    }

    fn batches(size: usize) -> (Batches, Instant) {
        let mut batches = Batches::default();
        batches.set_size(size);
        (batches, Instant::now())
    }

    fn texts(batches: &[Batch]) -> Vec<(&str, &str)> {
        batches.iter().map(|batch| (batch.topic.as_str(), batch.bookmarks.as_str())).collect()
    }

    ///
    #[test]
    fn without_batching_each_goes_alone() {
        for size in [0, 1] {
            let (mut batches, now) = batches(size);
            assert_eq!(batches.add("q", "1|1|", now), Some(Batch::one("q", "1|1|")), "{size}");
            assert!(batches.is_empty());
        }
    }

    ///
    #[test]
    fn a_batch_is_full_by_the_count_of_its_own_topic() {
        let (mut batches, now) = batches(2);
        assert_eq!((batches.add("a", "1|1|", now), batches.add("b", "1|2|", now)), (None, None));
        let full = batches.add("a", "1|3|", now).unwrap();
        assert_eq!((full.bookmarks.as_str(), full.count), ("1|1|,1|3|", 2));
        assert_eq!(texts(&batches.take_all()), [("b", "1|2|")]);
        assert!(batches.is_empty());
    }

    /// it is the oldest that counts.
    #[test]
    fn a_batch_is_due_by_the_age_of_its_oldest() {
        let (mut batches, start) = batches(10);
        batches.add("a", "1|1|", start);
        batches.add("a", "1|2|", start + SECOND / 2);
        batches.add("b", "1|3|", start + SECOND / 2);
        assert_eq!(batches.take_due(start + SECOND * 9 / 10), []);
        assert_eq!(texts(&batches.take_due(start + SECOND)), [("a", "1|1|,1|2|")]);
        assert_eq!(texts(&batches.take_due(start + 2 * SECOND)), [("b", "1|3|")]);
    }

    ///
    #[test]
    fn what_could_not_be_sent_stays_in_front_and_is_due() {
        let (mut batches, now) = batches(2);
        batches.add("a", "1|1|", now);
        let lost = batches.add("a", "1|2|", now).unwrap();
        batches.add("a", "1|3|", now);
        batches.put_back(lost);
        assert_eq!(texts(&batches.take_due(now)), [("a", "1|1|,1|2|,1|3|")]);
        batches.put_back(Batch::one("b", "1|4|"));
        let full = batches.add("b", "1|5|", now).expect("it is full by what was kept");
        assert_eq!(texts(&[full]), [("b", "1|4|,1|5|")]);
    }

    ///
    #[test]
    fn the_backlog_lowers_the_size_and_never_raises_it() {
        let (mut batches, now) = batches(5);
        batches.cap(7);
        assert_eq!(batches.size(), 5);
        batches.add("a", "1|1|", now);
        batches.add("a", "1|2|", now);
        assert_eq!(batches.take_full(), []);
        batches.cap(2);
        assert_eq!((batches.size(), texts(&batches.take_full())), (2, vec![("a", "1|1|,1|2|")]));
        batches.cap(0);
        assert!(batches.add("a", "1|3|", now).is_some());
    }

    /// 17.
    #[test]
    fn a_batch_without_a_timeout_is_refused() {
        let (mut batches, _) = batches(10);
        assert!(!batches.set_timeout(Duration::ZERO));
        assert_eq!(batches.timeout(), SECOND);
        batches.set_size(1);
        assert!(batches.set_timeout(Duration::ZERO) && batches.timeout().is_zero());
        batches.set_size(2);
        assert_eq!(batches.timeout(), SECOND, "it comes back");
    }
}
