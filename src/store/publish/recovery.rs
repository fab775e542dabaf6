//! What a store file holds after a restart, from the records found in its segments.
//!
//! Pure. The segments are put in the order of their turns, and their records are walked through in that order. Every number
//! above the persisted one must turn up, but for those that a record declares unused: what does not is lost, and the
//! damage found on the way tells where.

use std::ops::Range;

use super::damage::StoreDamage;
use crate::store::header::PAGE;
use crate::store::layout::{Header, Part, record_size};
use crate::store::scan::{Chain, Glance, Item};

/// What is known besides the segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) segment_size: usize,
    /// No message up to here is kept; `None` if that cannot be read any more.
    pub(crate) persisted: Option<u64>,
    /// The highest number known to have been given out.
    pub(crate) assigned: u64,
    /// Bytes of the file as it was found.
    pub(crate) length: u64,
    /// So many bytes are missing behind those.
    pub(crate) cut_off: u64,
}

/// What a store file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Segments with messages, oldest first. The last one may be written on.
    pub(crate) runs: Vec<RecoveredRun>,
    /// Where to go on in the last run, and its epoch; `None` if nothing may be written there.
    pub(crate) end: Option<(usize, u32)>,
    pub(crate) free: Vec<u32>,
    /// Segments that nothing is known to be in, but something was.
    pub(crate) aside: Vec<u32>,
    pub(crate) lost: Vec<Range<u64>>,
    pub(crate) damage: Vec<StoreDamage>,
    /// No turn had a higher epoch.
    pub(crate) epoch: u32,
    /// The highest number that may have been given out.
    pub(crate) assigned: u64,
    /// The number of the last record.
    pub(crate) last: u64,
}

/// A segment with messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RecoveredRun {
    pub(crate) segment: u32,
    pub(crate) first: u64,
    /// Where the messages begin, in the order of their numbers; anything for those that are lost.
    pub(crate) starts: Vec<u32>,
}

/// Puts the segments with this content in order; `scan` looks closer at one of them.
pub(crate) fn recover(glances: &[Glance], scan: impl Fn(u32) -> Chain, known: Known) -> Recovered {
    let segments = || (0..).zip(glances);
    let mut turns: Vec<(u32, u32)> = segments()
        .filter_map(|(segment, content)| match content {
            Glance::Turn(epoch) => Some((*epoch, segment)),
            _ => None,
        })
        .collect();
    turns.sort_unstable();
    let of = |wanted| segments().filter(move |(_, content)| **content == wanted).map(|(segment, _)| segment);
    let unreadable: Vec<u32> = of(Glance::Unreadable).collect();

    let mut walk = Walk::new(known);
    let mut recovered = Recovered { free: of(Glance::Nothing).collect(), ..Recovered::default() };
    let mut end = 0;
    for (index, (_, segment)) in turns.iter().enumerate() {
        let chain = scan(*segment);
        walk.segment(*segment, &chain);
        recovered.sort_in(*segment, &chain, &mut end, known.persisted, index + 1 == turns.len());
    }
    let torn = walk.finish(&unreadable);
    recovered.take_out(&torn);

    // A turn whose records are all destroyed had an epoch too.
    let highest = turns.last().map_or(0, |(epoch, _)| *epoch);
    recovered.epoch = highest.saturating_add(unreadable.len() as u32);
    recovered.aside.extend(unreadable);
    Recovered { lost: walk.lost, damage: walk.damage, assigned: walk.assigned, ..recovered }
}

impl Recovered {
    /// Decides what becomes of a segment with records; `end` is the number after the last of those before.
    fn sort_in(&mut self, segment: u32, chain: &Chain, end: &mut u64, persisted: Option<u64>, newest: bool) {
        let run = RecoveredRun::of(segment, chain);
        let next = run.first + run.starts.len() as u64;
        if run.first + 1 < *end {
            // Its numbers do not come after those of the turn before: nothing that this library has written.
            self.aside.push(segment);
        } else if newest || next > persisted.map_or(0, |persisted| persisted + 1) {
            *end = next;
            self.last = next - 1;
            self.runs.push(run);
            self.end = (!chain.damaged_end).then_some((chain.end, chain.epoch));
        } else {
            self.free.push(segment);
        }
    }

    /// Makes segments free that hold nothing but parts of a message that was never completed. They are the last ones, and
    /// full.
    fn take_out(&mut self, torn: &[u32]) {
        if torn.is_empty() {
            return;
        }
        self.runs.retain(|run| !torn.contains(&run.segment));
        self.last = self.runs.last().map_or(0, |run| run.first + run.starts.len() as u64 - 1);
        self.end = None;
        // The first part goes last: as long as it is there, the others are known for what they are.
        self.free.extend(torn.iter().rev());
    }
}

impl RecoveredRun {
    fn of(segment: u32, chain: &Chain) -> RecoveredRun {
        let mut run = RecoveredRun { segment, first: 0, starts: Vec::new() };
        for (at, header) in chain.records() {
            if run.starts.is_empty() {
                run.first = header.sequence;
            }
            // The distance is at most the number of records that fit in between.
            run.starts.resize((header.sequence - run.first) as usize, 0);
            run.starts.push(at as u32);
        }
        run
    }
}

/// The walk through all records, oldest first.
#[derive(Debug)]
struct Walk {
    known: Known,
    /// The number up to which everything is accounted for.
    previous: Option<u64>,
    /// StoreDamage since then.
    suspects: Vec<Suspect>,
    /// A message of which only the first parts have come so far.
    open: Option<Open>,
    /// The highest number seen in a record that counts.
    assigned: u64,
    lost: Vec<Range<u64>>,
    damage: Vec<StoreDamage>,
}

#[derive(Debug)]
struct Suspect {
    position: u64,
    length: u64,
    /// The numbers in it can be told.
    numbered: bool,
}

#[derive(Debug)]
struct Open {
    sequence: u64,
    epoch: u32,
    jump: bool,
    segments: Vec<u32>,
}

impl Walk {
    fn new(known: Known) -> Walk {
        Walk {
            known,
            previous: known.persisted,
            suspects: Vec::new(),
            open: None,
            assigned: known.assigned,
            lost: Vec::new(),
            damage: Vec::new(),
        }
    }

    fn position(&self, segment: u32, at: usize) -> u64 {
        (PAGE + at) as u64 + u64::from(segment) * self.known.segment_size as u64
    }

    fn segment(&mut self, segment: u32, chain: &Chain) {
        for item in &chain.items {
            match item {
                Item::Gap(gap) => self.suspect(segment, gap.clone(), false),
                Item::Record { at, header, intact } => self.record(segment, *at, header, *intact),
            }
        }
        if chain.damaged_end {
            self.suspect(segment, chain.end..self.known.segment_size, false);
        }
    }

    fn suspect(&mut self, segment: u32, range: Range<usize>, numbered: bool) {
        let position = self.position(segment, range.start);
        self.suspects.push(Suspect { position, length: range.len() as u64, numbered });
    }

    fn record(&mut self, segment: u32, at: usize, header: &Header, intact: bool) {
        let sequence = header.sequence;
        if self.known.persisted.is_some_and(|persisted| sequence <= persisted) {
            self.assigned = self.assigned.max(sequence);
            self.suspects.clear();
            self.open = None;
            return;
        }
        if !intact {
            self.assigned = self.assigned.max(sequence);
            self.suspect(segment, at..at + header.size(), true);
            return;
        }
        match header.part {
            Part::Whole => self.complete(self.position(segment, at), sequence, header.jump),
            Part::First => {
                let (epoch, jump) = (header.epoch, header.jump);
                self.open = Some(Open { sequence, epoch, jump, segments: vec![segment] });
            }
            Part::Middle | Part::Last => self.further_part(segment, at, header),
        }
    }

    fn further_part(&mut self, segment: u32, at: usize, header: &Header) {
        let follows =
            |open: &Open| open.sequence == header.sequence && open.epoch.wrapping_add(1) == header.epoch;
        let Some(mut open) = self.open.take_if(|open| follows(open)) else {
            self.assigned = self.assigned.max(header.sequence);
            return;
        };
        if header.part == Part::Last {
            return self.complete(self.position(segment, at), open.sequence, open.jump);
        }
        open.epoch = header.epoch;
        open.segments.push(segment);
        self.open = Some(open);
    }

    /// The message with this number is there; its last record is at `position`.
    fn complete(&mut self, position: u64, sequence: u64, jump: bool) {
        let missing = self.previous.map_or(sequence, |previous| previous + 1)..sequence;
        if self.previous.is_some_and(|previous| sequence <= previous) {
            return;
        }
        // Before a jump nobody knows how many there were.
        let sequences = (!jump && !missing.is_empty()).then(|| missing.clone());
        if !self.suspects.is_empty() && (!missing.is_empty() || self.previous.is_none()) {
            self.report_suspects(sequences);
        } else if sequences.is_some() {
            self.damage.push(StoreDamage { position, length: 0, sequences });
        }
        if !missing.is_empty() {
            self.lost.push(missing);
        }
        self.suspects.clear();
        self.open = None;
        self.assigned = self.assigned.max(sequence);
        self.previous = Some(sequence);
    }

    fn report_suspects(&mut self, sequences: Option<Range<u64>>) {
        let suspects = self.suspects.drain(..);
        let damage = suspects.map(|Suspect { position, length, .. }| StoreDamage {
            position,
            length,
            sequences: sequences.clone(),
        });
        self.damage.extend(damage);
    }

    /// Accounts for what was behind the last message. Returns the segments with a message that was being written when
    /// the process died: its parts are whole, but the last is not there.
    fn finish(&mut self, unreadable: &[u32]) -> Vec<u32> {
        let size = self.known.segment_size as u64;
        let open = self.open.take();
        if self.suspects.is_empty() && unreadable.is_empty() && self.known.cut_off == 0 {
            return open.map_or_else(Vec::new, |open| open.segments);
        }
        let unnumbered: u64 = self.suspects.iter().filter(|s| !s.numbered).map(|s| s.length).sum();
        let unknown = unnumbered + unreadable.len() as u64 * size + self.known.cut_off;
        self.assigned = self.assigned.max(open.map_or(0, |open| open.sequence));
        if unknown > 0 {
            // As many messages as there can have been: a number is never used twice.
            self.assigned =
                self.assigned.saturating_add(unknown / record_size(0) as u64 + 1).min(u64::MAX - 1);
        }
        let missing = self.previous.unwrap_or(self.assigned) + 1..self.assigned + 1;
        self.report_suspects((unknown == 0 && !missing.is_empty()).then(|| missing.clone()));
        if !missing.is_empty() {
            self.lost.push(missing);
        }
        self.report_segments(unreadable);
        if self.known.cut_off > 0 {
            let (position, length) = (self.known.length, self.known.cut_off);
            self.damage.push(StoreDamage { position, length, sequences: None });
        }
        Vec::new()
    }

    /// Neighbours are reported as one.
    fn report_segments(&mut self, unreadable: &[u32]) {
        let size = self.known.segment_size as u64;
        for segments in unreadable.chunk_by(|one, next| one + 1 == *next) {
            if let Some(first) = segments.first() {
                let (position, length) = (self.position(*first, 0), segments.len() as u64 * size);
                self.damage.push(StoreDamage { position, length, sequences: None });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: usize = 4096;
    /// Every record and every gap of these tests is as long as this.
    const RECORD: usize = 64;

    /// A segment: its epoch, then `5` for a record, `5!` for a damaged one, `j5` for one after a jump, `F5`, `M5` and `L5` for
    /// parts, `-` for a gap, `?` for a damaged end.
    fn chain(text: &str) -> Chain {
        let mut words = text.split(' ');
        let mut chain = Chain { epoch: words.next().unwrap().parse().unwrap(), ..Chain::default() };
        for word in words {
            let at = chain.end;
            let digits: String = word.chars().filter(char::is_ascii_digit).collect();
            match word.as_bytes()[0] {
                b'?' => {
                    chain.damaged_end = true;
                    continue;
                }
                b'-' => chain.items.push(Item::Gap(at..at + RECORD)),
                first => {
                    let part = match first {
                        b'F' => Part::First,
                        b'M' => Part::Middle,
                        b'L' => Part::Last,
                        _ => Part::Whole,
                    };
                    let sequence = digits.parse().unwrap();
                    let (jump, epoch) = (first == b'j', chain.epoch);
                    let header = Header { sequence, length: RECORD - 24, part, jump, epoch };
                    chain.items.push(Item::Record { at, header, intact: !word.ends_with('!') });
                }
            }
            chain.end += RECORD;
        }
        chain
    }

    /// What is recovered from segments, of which `.` is an empty one and `#` one that cannot be read.
    fn recovered(persisted: Option<u64>, cut_off: u64, segments: &[&str]) -> Recovered {
        let glances: Vec<Glance> = segments
            .iter()
            .map(|text| match *text {
                "." => Glance::Nothing,
                "#" => Glance::Unreadable,
                text => Glance::Turn(chain(text).epoch),
            })
            .collect();
        let known = Known { segment_size: SEGMENT, persisted, assigned: 0, length: 4096, cut_off };
        recover(&glances, |segment| chain(segments[segment as usize]), known)
    }

    /// The numbers that can be found.
    fn kept(recovered: &Recovered, persisted: u64) -> Vec<u64> {
        let of_run = |run: &RecoveredRun| run.first..run.first + run.starts.len() as u64;
        let mut all: Vec<u64> = recovered.runs.iter().flat_map(of_run).collect();
        all.dedup();
        all.retain(|number| *number > persisted && !recovered.lost.iter().any(|lost| lost.contains(number)));
        all
    }

    fn damage(recovered: &Recovered) -> Vec<(u64, u64, Option<Range<u64>>)> {
        let tell = |damage: &StoreDamage| (damage.position, damage.length, damage.sequences.clone());
        recovered.damage.iter().map(tell).collect()
    }

    #[test]
    fn segments_are_put_in_the_order_of_their_turns() {
        let found = recovered(Some(3), 0, &["7 5 6", ".", "4 j1 2", "8 7", "6 3 4"]);
        let order: Vec<_> = found.runs.iter().map(|run| (run.segment, run.first)).collect();
        assert_eq!(order, [(4, 3), (0, 5), (3, 7)]);
        assert_eq!(kept(&found, 3), [4, 5, 6, 7]);
        assert_eq!((found.free.clone(), found.end, found.epoch), (vec![1, 2], Some((RECORD, 8)), 8));
        assert_eq!((found.assigned, found.last), (7, 7));
        assert!(found.damage.is_empty() && found.lost.is_empty() && found.aside.is_empty());
    }

    #[test]
    fn the_newest_segment_is_written_on_even_if_nothing_in_it_is_kept() {
        let found = recovered(Some(9), 0, &["1 j1 2", "2 3 4"]);
        assert_eq!((found.runs.len(), found.end), (1, Some((2 * RECORD, 2))));
        assert_eq!((kept(&found, 9), found.free), (vec![], vec![0]));
    }

    #[test]
    fn damage_between_messages_names_those_that_are_lost() {
        let found = recovered(Some(0), 0, &["1 j1 2 - 4 5! 6"]);
        assert_eq!(kept(&found, 0), [1, 2, 4, 6]);
        let at = |index| 4096 + (index * RECORD) as u64;
        assert_eq!(damage(&found), [(at(2), 64, Some(3..4)), (at(4), 64, Some(5..6))]);
        assert_eq!((found.assigned, found.end), (6, Some((6 * RECORD, 1))));
    }

    #[test]
    fn damage_among_discarded_messages_is_nobodys_concern() {
        for segment in ["1 j1 - 3 4", "1 - 3 4", "1 j1 2! 3 4"] {
            let found = recovered(Some(3), 0, &[segment]);
            assert_eq!((kept(&found, 3), damage(&found)), (vec![4], vec![]), "{segment}");
        }
        let found = recovered(Some(3), 0, &["1 j1 2 ?", "2 4 5"]);
        assert_eq!((kept(&found, 3), damage(&found), found.free), (vec![4, 5], vec![], vec![0]));
    }

    #[test]
    fn a_damaged_end_may_have_been_several_messages() {
        let found = recovered(Some(0), 0, &["1 j1 2 ?"]);
        assert_eq!(kept(&found, 0), [1, 2]);
        assert_eq!(damage(&found), [(4096 + 128, (SEGMENT - 128) as u64, None)]);
        assert_eq!((found.end, found.assigned), (None, 2 + (SEGMENT as u64 - 128) / 32 + 1));
        let known = recovered(Some(0), 0, &["1 j1 2 3!"]);
        assert_eq!((kept(&known, 0), known.assigned), (vec![1, 2], 3));
        assert_eq!(damage(&known), [(4096 + 128, 64, Some(3..4))]);
    }

    #[test]
    fn numbers_that_were_never_used_are_not_missed() {
        let found = recovered(Some(2), 0, &["1 j1 2 3", "2 j90 91"]);
        assert_eq!((kept(&found, 2), damage(&found)), (vec![3, 90, 91], vec![]));
        // Damage before a jump: nobody knows what was in it.
        let found = recovered(Some(2), 0, &["1 j1 2 3 ?", "2 j90 91"]);
        assert_eq!(kept(&found, 2), [3, 90, 91]);
        assert_eq!(damage(&found), [(4096 + 192, (SEGMENT - 192) as u64, None)]);
    }

    #[test]
    fn a_segment_that_vanished_is_missed() {
        let found = recovered(Some(0), 0, &["1 j1 2", ".", "3 5 6"]);
        assert_eq!(kept(&found, 0), [1, 2, 5, 6]);
        assert_eq!(damage(&found), [(4096 + 2 * SEGMENT as u64, 0, Some(3..5))]);
    }

    #[test]
    fn unreadable_segments_are_put_aside_and_reported_together() {
        let found = recovered(Some(0), 0, &["1 j1 2", "#", "#", ".", "#"]);
        assert_eq!((kept(&found, 0), found.aside.clone()), (vec![1, 2], vec![1, 2, 4]));
        let size = SEGMENT as u64;
        let expected = [(4096 + size, 2 * size, None), (4096 + 4 * size, size, None)];
        assert_eq!(damage(&found), expected);
        assert_eq!((found.epoch, found.assigned), (4, 2 + 3 * size / 32 + 1));
    }

    #[test]
    fn a_large_message_needs_all_its_parts_in_a_row() {
        let found = recovered(Some(0), 0, &["1 j1 2", "2 F3", "3 M3", "4 L3 4"]);
        assert_eq!((kept(&found, 0), damage(&found)), (vec![1, 2, 3, 4], vec![]));
        for segments in [["1 j1 2", "2 F3", ".", "4 L3 4"], ["1 j1 2", ".", "3 M3", "4 L3 4"]] {
            let found = recovered(Some(0), 0, &segments);
            assert_eq!(kept(&found, 0), [1, 2, 4], "{segments:?}");
            assert_eq!(damage(&found), [(4096 + 3 * SEGMENT as u64 + 64, 0, Some(3..4))]);
        }
    }

    #[test]
    fn a_large_message_that_was_being_written_never_was() {
        for (segments, torn) in [(["1 j1 2", "2 F3", "3 M3"], vec![2, 1]), (["1 j1 2", "2 F3", "."], vec![1])]
        {
            let found = recovered(Some(0), 0, &segments);
            assert_eq!((kept(&found, 0), damage(&found)), (vec![1, 2], vec![]));
            assert_eq!((found.assigned, found.last, found.end), (2, 2, None));
            assert!(found.free.ends_with(&torn), "the first part is given up last: {:?}", found.free);
        }
    }

    #[test]
    fn a_cut_off_file_may_have_had_more() {
        let found = recovered(Some(0), 320, &["1 j1 2"]);
        assert_eq!((kept(&found, 0), found.assigned), (vec![1, 2], 2 + 11));
        assert_eq!(damage(&found), [(4096, 320, None)]);
    }

    #[test]
    fn without_progress_everything_counts_as_kept() {
        let found = recovered(None, 0, &["5 12 13", "3 8 9"]);
        assert_eq!(kept(&found, 0), [8, 9, 12, 13]);
        assert_eq!(damage(&found), [(4096, 0, Some(10..12))]);
        assert_eq!(recovered(None, 0, &["."]).assigned, 0);
    }

    #[test]
    fn numbers_that_run_backwards_are_put_aside() {
        let found = recovered(Some(0), 0, &["1 j10 11", "2 5 6", "3 12"]);
        assert_eq!((kept(&found, 0), found.aside), (vec![10, 11, 12], vec![1]));
    }
}
