//! What all bookmark stores do alike: ids, the lock, the resize handler, the recovery points.
//!
//! A store is a [`Keeper`] around a [`Journal`], which only knows what is written where. The lock of the keeper is never
//! held while a resize handler or an adapter runs.

use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::super::bookmarks::{Change, Look, Place, PlaceReader, Subscription, Subscriptions, Tracked};
use super::super::recovery_point::{RecoveryPointAdapter, RecoveryPointFactory};
use super::updates::{Points, Task, Updates};
use super::{BookmarkStore, BookmarkStoreResizeHandler, Receipt};
use crate::bookmark::{Bookmark, BookmarkKind};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::wire::Field;

/// Where the changes of a store are written.
pub(crate) trait Journal: Send + 'static {
    /// A change that is about to be made. If it cannot be written it is not made.
    fn record(&mut self, _slot: usize, _sub_id: &str, _change: Change<'_>) -> Result<()> {
        Ok(())
    }

    /// The recovery point of a subscription has moved.
    fn moved(&mut self, _slot: usize, _sub_id: &str, _subscription: &Subscription) -> Result<()> {
        Ok(())
    }

    /// Whether it is time to prune.
    fn is_bloated(&self) -> bool {
        false
    }

    /// Everything is about to be forgotten.
    fn purge(&mut self) -> Result<()> {
        Ok(())
    }

    /// A subscription is about to be forgotten.
    fn purge_sub_id(&mut self, _slot: usize, _sub_id: &str) -> Result<()> {
        Ok(())
    }

    /// Throws away what recovery does not need.
    fn prune(&mut self, _subscriptions: &Subscriptions) -> Result<()> {
        Ok(())
    }
}

/// A bookmark store over a journal.
pub(crate) struct Keeper<J> {
    state: Arc<Mutex<State<J>>>,
    resize_handler: Mutex<Option<Arc<dyn BookmarkStoreResizeHandler>>>,
    points: Option<Points>,
}

pub(super) struct State<J> {
    pub(super) subscriptions: Subscriptions,
    pub(super) updates: Updates,
    reader: PlaceReader,
    journal: J,
}

type Guard<'a, J> = MutexGuard<'a, State<J>>;

impl<J: Journal> Keeper<J> {
    /// A store that knows these subscriptions.
    pub(crate) fn new(journal: J, subscriptions: Subscriptions) -> Keeper<J> {
        let state =
            State { subscriptions, updates: Updates::default(), reader: PlaceReader::default(), journal };
        Keeper { state: Arc::new(Mutex::new(state)), resize_handler: Mutex::new(None), points: None }
    }

    /// The same with an adapter, from which it recovers if it knows no subscription itself.
    pub(crate) fn with_adapter(
        self,
        adapter: Box<dyn RecoveryPointAdapter>,
        factory: RecoveryPointFactory,
    ) -> Result<Keeper<J>> {
        if self.state.lock().subscriptions.iter().next().is_none() {
            let points = adapter.recover()?;
            let mut state = self.state.lock();
            for point in points {
                let slot = state.change(present(point.sub_id())?, Change::Recovered(&point.bookmark()))?;
                state.moved(slot)?;
            }
        }
        let state = self.state.clone();
        let read = move |sub_id: &str| {
            let state = state.lock();
            state.subscriptions.with_id(sub_id).map_or(Bookmark::EPOCH, Subscription::recovery_point)
        };
        let reader = (factory == RecoveryPointFactory::Dynamic).then(|| Arc::new(read) as Arc<_>);
        Ok(Keeper { points: Some(Points { adapter, reader }), ..self })
    }

    /// Asks the journal.
    #[cfg(feature = "file-store")]
    pub(super) fn with_journal<R>(&self, ask: impl FnOnce(&mut J) -> R) -> R {
        ask(&mut self.state.lock().journal)
    }

    fn handler(&self) -> Option<Arc<dyn BookmarkStoreResizeHandler>> {
        self.resize_handler.lock().clone()
    }

    /// Logs a message that is not discarded.
    #[inline]
    fn take(&self, message: &Message) -> Result<Receipt> {
        let sub_id = sub_id_of(message)?;
        let text = message.bytes(Field::Bookmark).unwrap_or_default();
        let mut state = self.state.lock();
        let Some(place) = state.reader.read(text) else {
            return Ok(if is_duplicate(text) { Receipt::Duplicate } else { Receipt::New(0) });
        };
        let slot = state.subscriptions.slot(sub_id);
        match state.receive(slot, place)? {
            Some(receipt) => Ok(receipt),
            None => self.take_with_more_room(&mut state, slot, place),
        }
    }

    /// Makes room for a message, if the resize handler does not mind, and logs it.
    #[cold]
    fn take_with_more_room(
        &self,
        state: &mut Guard<'_, J>,
        slot: usize,
        place: Place<'_>,
    ) -> Result<Receipt> {
        let Some(tracked) = state.subscriptions.get(slot) else { return Ok(Receipt::New(0)) };
        let (sub_id, growth) = (tracked.sub_id.clone(), tracked.subscription.growth());
        let granted = match (self.handler(), growth) {
            (Some(handler), Some(bytes)) => {
                MutexGuard::unlocked(state, || handler.on_resize(self, &sub_id, bytes))
            }
            _ => true,
        };
        // The handler may have made room itself.
        let slot = state.subscriptions.slot(sub_id.as_bytes());
        if granted {
            state.grow(slot)?;
        }
        state.receive(slot, place)?.ok_or_else(|| {
            let bytes = growth.unwrap_or_default();
            let text = format!("the bookmark store may not grow to {bytes} bytes for subscription {sub_id}");
            Error::new(ErrorKind::Store, text)
        })
    }

    /// Passes on what has moved, without the lock.
    #[inline]
    fn settle(&self, mut state: Guard<'_, J>, slot: usize, moved: bool) -> Result<()> {
        if !moved {
            return Ok(());
        }
        let written = state.moved(slot);
        let Some(points) = &self.points else { return written };
        state.await_update(slot);
        written.and(points.pass_on(state))
    }

    fn tell(&self, mut state: Guard<'_, J>, task: Task) -> Result<()> {
        let Some(points) = &self.points else { return Ok(()) };
        state.updates.push(task);
        points.pass_on(state)
    }
}

impl<J: Journal> State<J> {
    /// `None` if there is no room for the message.
    #[inline]
    fn receive(&mut self, slot: usize, place: Place<'_>) -> Result<Option<Receipt>> {
        if self.journal.is_bloated() {
            self.prune_unasked();
        }
        let State { subscriptions, journal, .. } = self;
        let Some(tracked) = subscriptions.get_mut(slot) else { return Ok(None) };
        let subscription = &mut tracked.subscription;
        match subscription.look(place) {
            Look::Unseen if subscription.growth().is_some() => Ok(None),
            Look::Unseen => {
                journal.record(slot, &tracked.sub_id, Change::Received(place))?;
                Ok(Some(Receipt::New(subscription.append(place))))
            }
            Look::Outstanding(number) => {
                subscription.deliver_again(place);
                Ok(Some(Receipt::New(number)))
            }
            Look::Discarded => Ok(Some(Receipt::Duplicate)),
        }
    }

    /// The number of the outstanding message with this bookmark.
    #[inline]
    fn number_of(&mut self, slot: usize, bookmark: &[u8]) -> Option<u64> {
        let place = self.reader.read(bookmark)?;
        match self.subscriptions.get(slot)?.subscription.look(place) {
            Look::Outstanding(number) => Some(number),
            _ => None,
        }
    }

    /// True if that moves the recovery point.
    #[inline]
    fn discard(&mut self, slot: usize, number: u64) -> Result<bool> {
        let State { subscriptions, journal, .. } = self;
        let Some(tracked) = subscriptions.get_mut(slot) else { return Ok(false) };
        let Some(place) = tracked.subscription.outstanding_at(number) else { return Ok(false) };
        journal.record(slot, &tracked.sub_id, Change::Discarded(place))?;
        Ok(tracked.subscription.discard(number))
    }

    /// Makes another change, also to a subscription that is not known yet.
    fn change(&mut self, sub_id: &str, change: Change<'_>) -> Result<usize> {
        let slot = self.subscriptions.slot(sub_id.as_bytes());
        self.journal.record(slot, sub_id, change)?;
        if let Some(tracked) = self.subscriptions.get_mut(slot) {
            tracked.subscription.apply(change);
        }
        Ok(slot)
    }

    fn moved(&mut self, slot: usize) -> Result<()> {
        match self.subscriptions.get(slot) {
            Some(tracked) => self.journal.moved(slot, &tracked.sub_id, &tracked.subscription),
            None => Ok(()),
        }
    }

    fn await_update(&mut self, slot: usize) {
        let Some(tracked) = self.subscriptions.get_mut(slot) else { return };
        if !std::mem::replace(&mut tracked.awaits_update, true) {
            self.updates.push(Task::Update(slot));
        }
    }

    fn grow(&mut self, slot: usize) -> Result<()> {
        let grown = self.subscriptions.get_mut(slot).is_none_or(|tracked| tracked.subscription.grow());
        if grown { Ok(()) } else { Err(Error::new(ErrorKind::Store, "no memory for the bookmark store")) }
    }

    fn prune(&mut self) -> Result<()> {
        self.journal.prune(&self.subscriptions)
    }

    /// Prunes where nobody has asked for it. If that fails, the journal just grows.
    #[cold]
    fn prune_unasked(&mut self) {
        if let Err(error) = self.prune() {
            log::warn!(target: "amps::store", "{error}");
        }
    }
}

impl<J: Journal> BookmarkStore for Keeper<J> {
    fn log(&self, message: &Message) -> Result<u64> {
        Ok(match self.take(message)? {
            Receipt::New(number) => number,
            Receipt::Duplicate => 0,
        })
    }

    fn is_discarded(&self, message: &Message) -> Result<bool> {
        let sub_id = sub_id_of(message)?;
        let text = message.bytes(Field::Bookmark).unwrap_or_default();
        let Some(place) = Place::read(text) else { return Ok(is_duplicate(text)) };
        let mut state = self.state.lock();
        let known = state.subscriptions.find(sub_id).and_then(|slot| state.subscriptions.get(slot));
        Ok(known.is_some_and(|known| known.subscription.look(place) == Look::Discarded))
    }

    #[inline]
    fn receive(&self, message: &Message) -> Result<Receipt> {
        self.take(message)
    }

    #[inline]
    fn discard(&self, message: &Message) -> Result<()> {
        let sub_id = sub_id_of(message)?;
        let mut state = self.state.lock();
        let Some(slot) = state.subscriptions.find(sub_id) else { return Ok(()) };
        let number = match message.bookmark_seq() {
            0 => state.number_of(slot, message.bytes(Field::Bookmark).unwrap_or_default()),
            number => Some(number),
        };
        let moved = number.map_or(Ok(false), |number| state.discard(slot, number))?;
        self.settle(state, slot, moved)
    }

    #[inline]
    fn discard_seq(&self, sub_id: &str, seq: u64) -> Result<()> {
        let sub_id = present(sub_id)?;
        let mut state = self.state.lock();
        let Some(slot) = state.subscriptions.find(sub_id.as_bytes()) else { return Ok(()) };
        let moved = state.discard(slot, seq)?;
        self.settle(state, slot, moved)
    }

    fn placed(&self, sub_id: &str, bookmark: &Bookmark) -> Result<()> {
        let mut state = self.state.lock();
        let slot = state.change(present(sub_id)?, Change::Placed(bookmark))?;
        self.settle(state, slot, true)
    }

    fn most_recent(&self, sub_id: &str) -> Result<Bookmark> {
        let state = self.state.lock();
        let known = state.subscriptions.with_id(present(sub_id)?);
        Ok(known.map_or(Bookmark::EPOCH, Subscription::most_recent))
    }

    fn persisted(&self, sub_id: &str, bookmark: &str) -> Result<()> {
        let sub_id = present(sub_id)?;
        let places = bookmark.split(',').filter_map(|text| Place::read(text.trim().as_bytes()));
        let places: Vec<Place<'_>> = places.collect();
        let mut state = self.state.lock();
        let known = state.subscriptions.with_id(sub_id);
        if places.is_empty() || known.is_some_and(|known| !known.is_news(&places)) {
            return Ok(());
        }
        let slot = state.change(sub_id, Change::Persisted(&places))?;
        self.settle(state, slot, true)
    }

    fn oldest_seq(&self, sub_id: &str) -> Option<u64> {
        self.state.lock().subscriptions.with_id(sub_id)?.oldest()
    }

    fn outstanding(&self, sub_id: &str) -> usize {
        self.state.lock().subscriptions.with_id(sub_id).map_or(0, Subscription::outstanding)
    }

    fn purge(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.journal.purge()?;
        state.subscriptions.clear();
        let pruned = state.prune();
        pruned.and(self.tell(state, Task::Purge))
    }

    fn purge_sub_id(&self, sub_id: &str) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(slot) = state.subscriptions.find(present(sub_id)?.as_bytes()) {
            state.journal.purge_sub_id(slot, sub_id)?;
            state.subscriptions.remove(sub_id);
        }
        let pruned = state.prune();
        pruned.and(self.tell(state, Task::PurgeSubId(sub_id.into())))
    }

    fn prune(&self) -> Result<()> {
        let mut state = self.state.lock();
        let pruned = state.prune();
        pruned.and(self.tell(state, Task::Prune))
    }

    fn set_resize_handler(&self, handler: Option<Box<dyn BookmarkStoreResizeHandler>>) {
        *self.resize_handler.lock() = handler.map(Arc::from);
    }
}

impl<J> fmt::Debug for Keeper<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let outstanding = |tracked: &Tracked| (tracked.sub_id.clone(), tracked.subscription.outstanding());
        f.debug_map().entries(state.subscriptions.iter().map(|(_, tracked)| outstanding(tracked))).finish()
    }
}

#[inline]
fn sub_id_of(message: &Message) -> Result<&[u8]> {
    present(message.sub_id_bytes().unwrap_or_default())
}

/// The id, unless it is empty.
#[inline]
fn present<T: AsRef<[u8]> + ?Sized>(sub_id: &T) -> Result<&T> {
    if sub_id.as_ref().is_empty() {
        return Err(Error::new(ErrorKind::Store, "a bookmark store needs a subscription id"));
    }
    Ok(sub_id)
}

/// Whether a message counts as a duplicate whose bookmark is no place: unless it is a time or a range (BS-11).
#[cold]
fn is_duplicate(text: &[u8]) -> bool {
    let bookmark = std::str::from_utf8(text).ok().and_then(|text| Bookmark::parse(text).ok());
    !bookmark
        .is_some_and(|bookmark| matches!(bookmark.kind(), BookmarkKind::Time(_) | BookmarkKind::Range { .. }))
}
