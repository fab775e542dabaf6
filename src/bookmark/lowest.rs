//! One starting point for several subscriptions.

use super::{Bookmark, BookmarkKind};

/// The point from which several subscriptions miss nothing: the lowest sequence of each publisher (`resilience.md` SM-16).
/// A point that is not made of places counts as the beginning of the log. `None` for no points at all.
pub(crate) fn lowest_of_each(points: &[Bookmark]) -> Option<Bookmark> {
    let mut lowest: Vec<(u64, u64)> = Vec::new();
    for point in points {
        let alone = std::slice::from_ref(point);
        let entries = if let BookmarkKind::List(entries) = point.kind() { entries.as_slice() } else { alone };
        for entry in entries {
            let BookmarkKind::At { publisher, sequence } = *entry.kind() else {
                return Some(Bookmark::EPOCH);
            };
            match lowest.iter_mut().find(|(known, _)| *known == publisher) {
                Some((_, known)) => *known = sequence.min(*known),
                None => lowest.push((publisher, sequence)),
            }
        }
    }
    let places = lowest.iter().map(|(publisher, sequence)| Bookmark::at(*publisher, *sequence));
    Bookmark::list(places).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SM-16.
    #[test]
    fn a_group_starts_at_the_lowest_point_of_each_publisher() {
        let common = |points: &[&str]| {
            let points: Vec<_> = points.iter().map(|point| Bookmark::parse(point).unwrap()).collect();
            lowest_of_each(&points).map(String::from)
        };
        assert_eq!(common(&["1|5|", "1|3|"]).as_deref(), Some("1|3|"));
        assert_eq!(common(&["1|5|,2|7|", "2|9|"]).as_deref(), Some("1|5|,2|7|"));
        assert_eq!(common(&["1|5|", "0"]).as_deref(), Some("0"));
        assert_eq!(common(&["1|5|,20260102T030405Z"]).as_deref(), Some("0"));
        assert_eq!(common(&[]), None);
    }
}
