//! What a fault does to the reading and writing of a connection for as long as it lasts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Effect;
use crate::testing::clock::Time;

/// What hampers reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Stop,
    Slow { bytes: usize, tick: Duration },
}

/// What hampers writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writing {
    Stop,
    /// No heartbeats.
    Mute,
    Slow {
        bytes: usize,
        tick: Duration,
    },
    /// At most so many bytes in one write.
    Chunks(usize),
    /// At least so many frames in one write.
    Merge(usize),
}

/// One way to be hampered.
pub(crate) trait Kind: Copy {
    fn stops(self) -> bool;

    /// So many bytes per tick.
    fn pace(self) -> Option<(usize, Duration)>;
}

impl Kind for Reading {
    fn stops(self) -> bool {
        self == Reading::Stop
    }

    fn pace(self) -> Option<(usize, Duration)> {
        match self {
            Reading::Slow { bytes, tick } => Some((bytes, tick)),
            Reading::Stop => None,
        }
    }
}

impl Kind for Writing {
    fn stops(self) -> bool {
        self == Writing::Stop
    }

    fn pace(self) -> Option<(usize, Duration)> {
        match self {
            Writing::Slow { bytes, tick } => Some((bytes, tick)),
            _ => None,
        }
    }
}

/// Something that hampers one direction of a connection until its effect is over.
#[derive(Debug, Clone)]
pub(crate) struct Hindrance<T> {
    kind: T,
    effect: Arc<Effect>,
    pace: Option<Pace>,
}

impl<T: Kind> Hindrance<T> {
    pub(crate) fn new(kind: T, effect: Arc<Effect>, now: Time) -> Hindrance<T> {
        let pace = kind.pace().map(|(bytes, tick)| Pace::new(bytes, tick, now));
        Hindrance { kind, effect, pace }
    }
}

/// All that hampers one direction of a connection.
#[derive(Debug)]
pub(crate) struct Hindrances<T> {
    list: Vec<Hindrance<T>>,
}

/// Why it cannot go on at present.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// Until the effect is over.
    Stop(Arc<Effect>),
    /// Until then, or until the effect is over.
    Tick(Time, Arc<Effect>),
}

impl<T: Kind> Hindrances<T> {
    pub(crate) fn add(&mut self, hindrance: Hindrance<T>) {
        self.list.push(hindrance);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The kinds that are in effect.
    pub(crate) fn kinds(&mut self) -> impl Iterator<Item = T> {
        self.forget_over();
        self.list.iter().map(|hindrance| hindrance.kind)
    }

    /// What stops it altogether.
    pub(crate) fn stop(&mut self) -> Option<Obstacle> {
        self.forget_over();
        let stop = self.list.iter().find(|hindrance| hindrance.kind.stops());
        stop.map(|hindrance| Obstacle::Stop(hindrance.effect.clone()))
    }

    /// How many bytes may pass, or what is in their way.
    pub(crate) fn room(&mut self, now: Time) -> Result<usize, Obstacle> {
        if let Some(stop) = self.stop() {
            return Err(stop);
        }
        let mut room = usize::MAX;
        for hindrance in &mut self.list {
            if let Some(pace) = &mut hindrance.pace {
                match pace.room(now) {
                    0 => return Err(Obstacle::Tick(pace.next_tick(), hindrance.effect.clone())),
                    bytes => room = room.min(bytes),
                }
            }
        }
        Ok(room)
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.list
            .iter_mut()
            .filter_map(|hindrance| hindrance.pace.as_mut())
            .for_each(|pace| pace.spend(bytes));
    }

    fn forget_over(&mut self) {
        self.list.retain(|hindrance| !hindrance.effect.is_over());
    }
}

impl<T> Default for Hindrances<T> {
    fn default() -> Hindrances<T> {
        Hindrances { list: Vec::new() }
    }
}

/// How much may pass, given the time.
#[derive(Debug, Clone)]
struct Pace {
    bytes: usize,
    tick: Duration,
    /// The start of the tick that the credit is for.
    since: Time,
    credit: usize,
}

impl Pace {
    fn new(bytes: usize, tick: Duration, now: Time) -> Pace {
        let bytes = bytes.max(1);
        Pace { bytes, tick: tick.max(Duration::from_millis(1)), since: now, credit: bytes }
    }

    /// How many bytes may pass now.
    fn room(&mut self, now: Time) -> usize {
        let ticks = now.since(self.since).as_nanos() / self.tick.as_nanos();
        if let (1.., Ok(ticks)) = (ticks, u32::try_from(ticks)) {
            self.since = self.since.plus(self.tick.saturating_mul(ticks));
            // What was not used in its tick is gone, unless there was nothing left to use.
            let waited = if self.credit == 0 { ticks as usize } else { 1 };
            self.credit = self.bytes.saturating_mul(waited);
        }
        self.credit
    }

    fn spend(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub(bytes);
    }

    /// When there will be room again.
    fn next_tick(&self) -> Time {
        self.since.plus(self.tick)
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reading::Stop => f.write_str("stop reading"),
            Reading::Slow { bytes, tick } => write!(f, "read {bytes} bytes per {tick:?}"),
        }
    }
}

impl fmt::Display for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Writing::Stop => f.write_str("stop writing"),
            Writing::Mute => f.write_str("mute heartbeats"),
            Writing::Slow { bytes, tick } => write!(f, "write {bytes} bytes per {tick:?}"),
            Writing::Chunks(bytes) => write!(f, "write in chunks of {bytes} bytes"),
            Writing::Merge(frames) => write!(f, "merge writes of {frames} frames"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::default().plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_pace_grants_so_much_per_tick_and_saves_nothing_up_for_the_idle() {
        let mut pace = Pace::new(10, Duration::from_secs(1), at(0));
        assert_eq!(pace.room(at(0)), 10);
        pace.spend(4);
        assert_eq!(pace.room(at(0)), 6);
        assert_eq!(pace.room(at(5)), 10, "six were left over, and are gone");
        pace.spend(10);
        assert_eq!((pace.room(at(5)), pace.next_tick()), (0, at(6)));
        assert_eq!(pace.room(at(8)), 30, "who waits misses nothing");
    }
}
