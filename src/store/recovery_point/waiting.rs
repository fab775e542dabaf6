//! The recovery points that a conflating adapter holds back.
//!
//! Pure: the time comes from outside.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::RecoveryPoint;

/// The latest point of each subscription that was not passed on yet.
#[derive(Debug)]
pub(super) struct Waiting {
    points: HashMap<String, Held>,
    threshold: u32,
    age: Duration,
    /// A subscription has changed as often as it may.
    is_full: bool,
}

#[derive(Debug)]
struct Held {
    point: RecoveryPoint,
    changes: u32,
    since: Instant,
}

impl Waiting {
    /// Nothing yet. A point is due after so many changes, or when the first of them is so old.
    pub(super) fn new(threshold: u32, age: Duration) -> Waiting {
        Waiting { points: HashMap::new(), threshold, age, is_full: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Whether a point is due because of its number of changes.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// A point that replaces the one before.
    pub(super) fn put(&mut self, point: &RecoveryPoint, now: Instant) {
        let changes = match self.points.get_mut(point.sub_id()) {
            Some(held) => {
                held.point = point.clone();
                held.changes += 1;
                held.changes
            }
            None => {
                let held = Held { point: point.clone(), changes: 1, since: now };
                self.points.insert(point.sub_id().to_owned(), held);
                1
            }
        };
        self.is_full |= changes >= self.threshold;
    }

    /// A point that could not be passed on. It waits as if it were new, unless there is a newer one.
    pub(super) fn put_back(&mut self, point: RecoveryPoint, now: Instant) {
        let held = Held { point, changes: 0, since: now };
        self.points.entry(held.point.sub_id().to_owned()).or_insert(held);
    }

    /// What is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<RecoveryPoint> {
        self.is_full = false;
        let is_due =
            |held: &Held| held.changes >= self.threshold || now.duration_since(held.since) >= self.age;
        self.points.extract_if(|_, held| is_due(held)).map(|(_, held)| held.point).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<RecoveryPoint> {
        self.is_full = false;
        self.points.drain().map(|(_, held)| held.point).collect()
    }

    pub(super) fn remove(&mut self, sub_id: &str) {
        self.points.remove(sub_id);
    }

    pub(super) fn clear(&mut self) {
        self.points.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bookmark::Bookmark;

    const AGE: Duration = Duration::from_secs(2);

    fn point(sub_id: &str, sequence: u64) -> RecoveryPoint {
        RecoveryPoint::new(sub_id, Bookmark::at(1, sequence))
    }

    fn texts(points: Vec<RecoveryPoint>) -> Vec<String> {
        let text = |point: &RecoveryPoint| format!("{} {}", point.sub_id(), point.bookmark().as_str());
        let mut texts: Vec<String> = points.iter().map(text).collect();
        texts.sort();
        texts
    }

    /// BS-32.
    #[test]
    fn a_point_is_due_after_so_many_changes_or_when_its_first_is_so_old() {
        let (mut waiting, start) = (Waiting::new(3, AGE), Instant::now());
        waiting.put(&point("a", 1), start);
        waiting.put(&point("a", 2), start + AGE / 2);
        waiting.put(&point("b", 1), start + AGE / 2);
        assert!(!waiting.is_full());
        assert!(waiting.take_due(start + AGE / 2).is_empty());
        assert_eq!(texts(waiting.take_due(start + AGE)), ["a 1|2|"], "the age is that of the first change");

        waiting.put(&point("b", 2), start);
        assert!(!waiting.is_full());
        waiting.put(&point("b", 3), start);
        assert!(waiting.is_full());
        assert_eq!(texts(waiting.take_due(start + AGE / 2)), ["b 1|3|"]);
        assert!(waiting.is_empty() && !waiting.is_full());
    }

    #[test]
    fn without_an_age_everything_is_due_at_once() {
        let (mut waiting, now) = (Waiting::new(10, Duration::ZERO), Instant::now());
        waiting.put(&point("a", 1), now);
        waiting.put(&point("b", 1), now);
        assert_eq!(texts(waiting.take_due(now)), ["a 1|1|", "b 1|1|"]);
    }

    #[test]
    fn what_is_put_back_gives_way_to_what_is_newer() {
        let (mut waiting, now) = (Waiting::new(2, AGE), Instant::now());
        waiting.put(&point("a", 2), now);
        waiting.put_back(point("a", 1), now);
        waiting.put_back(point("b", 1), now);
        assert!(!waiting.is_full() && waiting.take_due(now).is_empty());
        waiting.put_back(point("c", 1), now);
        waiting.remove("c");
        assert_eq!(texts(waiting.take_all()), ["a 1|2|", "b 1|1|"]);
        waiting.put(&point("a", 3), now);
        waiting.clear();
        assert!(waiting.is_empty());
    }
}
