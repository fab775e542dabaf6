//! Bookmark subscriptions: what is sent, what is recorded, and where they go on.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use amps_client::testing::Frame;
use amps_client::{
    Bookmark, BookmarkStore, Client, ClientBuilder, Command, ErrorKind, MemoryBookmarkStore,
    MemorySubscriptionManager, Message, Origin, Receipt, RecoveryPointFactory,
};

use crate::support::client::*;
use crate::support::recovery_points::Table;

fn with_store() -> (Scene, Arc<MemoryBookmarkStore>) {
    let store = Arc::new(MemoryBookmarkStore::new());
    let builder = Client::builder("c").bookmark_store(Arc::clone(&store));
    (Scene::prepared(builder, |_| {}), store)
}

/// A client that places its subscriptions again.
fn remembering(builder: ClientBuilder) -> Scene {
    let scene = Scene::prepared(builder.subscription_manager(MemorySubscriptionManager::new()), |_| {});
    scene.reconnect_on_loss();
    scene
}

/// Places a bookmark subscription, and returns its frame and what comes.
fn replay(scene: &Scene, bookmark: &str) -> (Frame, Inbox) {
    let (handler, inbox) = inbox();
    let command = Command::subscribe("t").sub_id("s").bookmark(bookmark);
    let pending = scene.begin(move |client| client.execute_async(command, handler));
    let frame = scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    pending.wait().unwrap();
    (frame, inbox)
}

fn send(scene: &Scene, bookmark: &str, data: &str) {
    let header = format!(r#"{{"c":"p","t":"t","sids":"s","bm":"{bookmark}"}}"#);
    scene.connection.send(&header, data).unwrap();
}

/// Loses the connection, and returns the frame that places the subscription again.
fn placed_again(scene: &mut Scene) -> Frame {
    scene.connection.close();
    scene.accept_again();
    let frame = scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    scene.settle();
    frame
}

fn bookmark_of(frame: &Frame) -> Option<&str> {
    frame.header("bookmark")
}

/// BS-4.
#[test]
fn most_recent_stands_for_the_recovery_point_and_for_the_beginning_without_one() {
    let scene = Scene::logged_on("c");
    let (frame, _inbox) = replay(&scene, "recent");
    assert_eq!((bookmark_of(&frame), frame.header("a")), (Some("0"), Some("processed")));

    let (scene, store) = with_store();
    store.placed("s", &Bookmark::at(7, 3)).unwrap();
    let (frame, _inbox) = replay(&scene, "recent");
    assert_eq!((bookmark_of(&frame), frame.header("a")), (Some("7|3|"), Some("processed,persisted")));
}

/// BS-5, BS-6.
#[test]
fn a_starting_point_of_the_application_is_recorded_but_for_epoch_and_now() {
    for (placed, recorded) in [("7|3|", "7|3|"), ("0", "0"), ("0|1|", "0"), ("[1|1|:1|9|]", "[1|1|:1|9|]")] {
        let (scene, store) = with_store();
        let (frame, _inbox) = replay(&scene, placed);
        assert_eq!(bookmark_of(&frame), Some(placed));
        assert_eq!(store.most_recent("s").unwrap().as_str(), recorded);
    }
}

/// 127, BS-2.
#[test]
fn a_bookmark_that_is_none_is_refused_before_anything_is_sent() {
    let scene = Scene::logged_on("c");
    let error = scene.client.subscribe_with_bookmark_of("[1|2|:]");
    assert_eq!(error.kind(), ErrorKind::Command);
    assert!(error.to_string().contains("[1|2|:]"), "{error}");
    scene.subscribe("s");
}

trait SubscribeWithBookmark {
    fn subscribe_with_bookmark_of(&self, text: &str) -> amps_client::Error;
}

impl SubscribeWithBookmark for Client {
    fn subscribe_with_bookmark_of(&self, text: &str) -> amps_client::Error {
        self.execute(Command::subscribe("t").sub_id("s").bookmark(text)).expect_err("no bookmark")
    }
}

/// M-10, M-11.
#[test]
fn a_message_is_recorded_before_it_is_delivered_and_a_discarded_one_is_a_duplicate() {
    let (scene, store) = with_store();
    let (duplicates, seen) = inbox();
    scene.client.set_duplicate_handler(duplicates);
    let (_frame, inbox) = replay(&scene, "0");
    send(&scene, "7|1|", "one");
    send(&scene, "7|2|", "two");
    let (one, two) = (inbox.next(), inbox.next());
    assert_eq!((one.bookmark_seq(), two.bookmark_seq()), (1, 2));
    assert_eq!(store.outstanding("s"), 2);
    scene.client.discard(&one).unwrap();
    send(&scene, "7|1|", "one");
    send(&scene, "7|2|", "two");
    assert_eq!(seen.next().data(), b"one");
    assert_eq!(inbox.next().data(), b"two");
    assert!(inbox.rest().is_empty() && seen.rest().is_empty());
    store.discard_seq("s", two.bookmark_seq()).unwrap();
    assert_eq!(store.most_recent("s").unwrap(), Bookmark::at(7, 2));
}

/// M-10, M-11, EL-2: what is true of one message is true of each of many that come in one read, whatever happens to those
/// before it.
#[test]
fn messages_that_come_together_are_recorded_and_delivered_as_each_would_be_alone() {
    let (scene, store) = with_store();
    let (duplicates, seen) = inbox();
    scene.client.set_duplicate_handler(duplicates);
    let other = scene.subscribe("other");
    let (sender, delivered) = std::sync::mpsc::channel();
    let owner = scene.client.clone();
    let handler = move |message: &Message| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let data = String::from_utf8(message.data().to_vec())?;
        sender.send((data.clone(), message.bookmark_seq(), message.sub_id().map(str::to_owned)))?;
        match data.as_str() {
            "fails" => Err("as it should".into()),
            "panics" => panic!("as it should"),
            "last" => Ok(owner.unsubscribe("s")?),
            _ => Ok(owner.discard(message)?),
        }
    };
    let command = Command::subscribe("t").sub_id("s").bookmark("0");
    let pending = scene.begin(move |client| client.execute_async(command, handler));
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    pending.wait().unwrap();

    let message = |sids: &str, bookmark: &str, data: &str| {
        Frame::encode(&format!(r#"{{"c":"p","t":"t","sids":"{sids}","bm":"7|{bookmark}|"}}"#), data)
    };
    let together = [
        message("s", "1", "good"),
        message("s", "2", "fails"),
        message("s", "1", "known"),
        message("other", "8", "for another"),
        message("s", "3", "panics"),
        Frame::encode(r#"{"c":"p","t":"t","sids":"s"}"#, "not recorded"),
        message("s", "2", "fails"),
        message("s", "4", "good too"),
        message("s", "5", "last"),
        message("s", "6", "for nobody"),
    ];
    scene.connection.send_raw(together.concat()).unwrap();
    scene.connection.expect("unsubscribe", SOON).unwrap();
    scene.settle();

    let id = Some("s".to_owned());
    let expected = [
        ("good", 1),
        ("fails", 2),
        ("panics", 3),
        ("not recorded", 0),
        ("fails", 2),
        ("good too", 4),
        ("last", 5),
    ];
    let expected: Vec<_> = expected.map(|(data, number)| (data.to_owned(), number, id.clone())).into();
    assert_eq!(delivered.try_iter().collect::<Vec<_>>(), expected);
    assert_eq!((other.next().data(), seen.next().data()), (&b"for another"[..], &b"known"[..]));
    assert!(other.rest().is_empty() && seen.rest().is_empty());
    assert_eq!(store.outstanding("s"), 3, "the two that failed and the last");
    let failures = scene.record.failures();
    let kinds: Vec<_> = failures.iter().map(|failure| (failure.origin, failure.error.kind())).collect();
    let (failed, panicked) = (ErrorKind::HandlerFailed, ErrorKind::HandlerPanicked);
    assert_eq!(kinds, [failed, panicked, failed].map(|kind| (Origin::MessageHandler, kind)));
    assert!(failures.iter().all(|failure| failure.id.as_deref() == Some("s")));
}

/// M-11, with a stream: its messages keep their numbers.
#[test]
fn the_messages_of_a_stream_are_recorded_as_they_arrive() {
    let (scene, store) = with_store();
    let command = Command::subscribe("t").sub_id("s").bookmark("0");
    let mut stream = scene.accepted("subscribe", move |client| client.execute(command));
    let frames: Vec<u8> = ["7|1|", "7|2|", "7|2|", "9|1|"]
        .into_iter()
        .flat_map(|bookmark| {
            Frame::encode(&format!(r#"{{"c":"p","t":"t","sids":"s","bm":"{bookmark}"}}"#), "x")
        })
        .collect();
    scene.connection.send_raw(frames).unwrap();
    stream.set_timeout(Some(SOON));
    let messages: Vec<Message> = stream.by_ref().take(4).map(Result::unwrap).collect();
    let numbers: Vec<u64> = messages.iter().map(Message::bookmark_seq).collect();
    assert_eq!((numbers, store.outstanding("s")), (vec![1, 2, 2, 3], 3));
    messages.iter().for_each(|message| scene.client.discard(message).unwrap());
    assert_eq!(store.outstanding("s"), 0);
}

/// BS-10, M-11: nobody is done with what was replaced. Once the stream is empty, everything up to the highest number that was
/// read was read or replaced.
#[test]
fn what_a_conflated_stream_has_replaced_is_outstanding_until_it_is_discarded_by_number() {
    let (scene, store) = with_store();
    let command = Command::subscribe("t").sub_id("s").bookmark("0");
    let mut stream = scene.accepted("subscribe", move |client| client.execute(command));
    stream.conflate().unwrap();
    for (key, bookmark) in [("a", "7|1|"), ("b", "7|2|"), ("a", "7|3|"), ("a", "7|4|")] {
        let header = format!(r#"{{"c":"p","t":"t","sids":"s","bm":"{bookmark}","k":"{key}"}}"#);
        scene.connection.send(&header, bookmark).unwrap();
    }
    scene.settle();
    let read: Vec<Message> = stream.by_ref().take(2).map(Result::unwrap).collect();
    let numbers: Vec<u64> = read.iter().map(Message::bookmark_seq).collect();
    assert_eq!((numbers, stream.depth(), store.outstanding("s")), (vec![4, 2], 0, 4));
    read.iter().for_each(|message| scene.client.discard(message).unwrap());
    assert_eq!((store.outstanding("s"), store.oldest_seq("s")), (2, Some(1)));

    while let Some(oldest) = store.oldest_seq("s").filter(|oldest| *oldest <= 4) {
        store.discard_seq("s", oldest).unwrap();
    }
    assert_eq!((store.outstanding("s"), store.most_recent("s").unwrap()), (0, Bookmark::at(7, 4)));
}

/// BS-8, M-10: neither a queue message nor one without a bookmark.
#[test]
fn what_is_no_replay_is_not_recorded() {
    let (scene, store) = with_store();
    let inbox = scene.subscribe("s");
    scene
        .connection
        .send(r#"{"c":"p","t":"q","sids":"s","bm":"7|1|","lp":"20260102T030405.0Z"}"#, "")
        .unwrap();
    scene.send("s", "");
    assert_eq!((inbox.next().bookmark_seq(), inbox.next().bookmark_seq()), (0, 0));
    assert_eq!(store.outstanding("s"), 0);
}

/// A store that breaks as it is told to.
struct Broken {
    inner: MemoryBookmarkStore,
}

impl Broken {
    fn new() -> Broken {
        Broken { inner: MemoryBookmarkStore::new() }
    }
}

impl BookmarkStore for Broken {
    fn log(&self, message: &Message) -> amps_client::Result<u64> {
        self.inner.log(message)
    }
    fn is_discarded(&self, message: &Message) -> amps_client::Result<bool> {
        self.inner.is_discarded(message)
    }
    fn receive(&self, message: &Message) -> amps_client::Result<Receipt> {
        match message.data() {
            b"fail" => Err(amps_client::Error::new(ErrorKind::Store, "the disk is full")),
            b"panic" => panic!("a bug in the store"),
            _ => self.inner.receive(message),
        }
    }
    fn discard(&self, message: &Message) -> amps_client::Result<()> {
        self.inner.discard(message)
    }
    fn discard_seq(&self, sub_id: &str, seq: u64) -> amps_client::Result<()> {
        self.inner.discard_seq(sub_id, seq)
    }
    fn placed(&self, sub_id: &str, bookmark: &Bookmark) -> amps_client::Result<()> {
        self.inner.placed(sub_id, bookmark)
    }
    fn most_recent(&self, sub_id: &str) -> amps_client::Result<Bookmark> {
        self.inner.most_recent(sub_id)
    }
    fn persisted(&self, sub_id: &str, bookmark: &str) -> amps_client::Result<()> {
        self.inner.persisted(sub_id, bookmark)
    }
    fn oldest_seq(&self, sub_id: &str) -> Option<u64> {
        self.inner.oldest_seq(sub_id)
    }
    fn outstanding(&self, sub_id: &str) -> usize {
        self.inner.outstanding(sub_id)
    }
    fn purge(&self) -> amps_client::Result<()> {
        self.inner.purge()
    }
    fn purge_sub_id(&self, sub_id: &str) -> amps_client::Result<()> {
        self.inner.purge_sub_id(sub_id)
    }
    fn prune(&self) -> amps_client::Result<()> {
        self.inner.prune()
    }
    fn set_resize_handler(&self, handler: Option<Box<dyn amps_client::BookmarkStoreResizeHandler>>) {
        self.inner.set_resize_handler(handler);
    }
}

/// M-11.
#[test]
fn what_cannot_be_recorded_is_reported_and_not_delivered() {
    let scene = Scene::prepared(Client::builder("c").bookmark_store(Broken::new()), |_| {});
    let (_frame, inbox) = replay(&scene, "0");
    send(&scene, "7|1|", "fail");
    send(&scene, "7|2|", "panic");
    send(&scene, "7|3|", "fine");
    assert_eq!(inbox.next().data(), b"fine");
    let failures = scene.record.wait_for_failures(2);
    for (failure, text) in failures.iter().zip(["the disk is full", "a bug in the store"]) {
        assert_eq!((failure.origin, failure.id.as_deref()), (Origin::BookmarkStore, Some("s")));
        assert!(failure.error.to_string().contains(text), "{}", failure.error);
    }
    assert!(inbox.rest().is_empty());
}

/// 122, M-20: unless nobody is subscribed any more.
#[test]
fn a_persisted_acknowledgement_of_a_subscription_goes_to_the_store() {
    let (scene, store) = with_store();
    let (last_chance, unclaimed) = inbox();
    scene.client.set_last_chance_handler(last_chance);
    let (_frame, inbox) = replay(&scene, "0");
    ["7|1|", "7|2|"].iter().for_each(|bookmark| send(&scene, bookmark, ""));
    (0..2).for_each(|_| scene.client.discard(&inbox.next()).unwrap());
    scene
        .connection
        .send(r#"{"c":"ack","sub_id":"s","bm":"7|1|","a":"persisted","status":"success"}"#, "")
        .unwrap();
    scene.settle();
    assert_eq!(store.most_recent("s").unwrap(), Bookmark::at(7, 1));
    scene.client.unsubscribe("s").unwrap();
    scene
        .connection
        .send(r#"{"c":"ack","sub_id":"s","bm":"7|2|","a":"persisted","status":"success"}"#, "")
        .unwrap();
    scene.settle();
    assert_eq!(store.most_recent("s").unwrap(), Bookmark::at(7, 1));
    assert!(unclaimed.rest().is_empty());
}

/// 128, BS-30: there is no caller to return it to.
#[test]
fn what_a_recovery_point_adapter_cannot_keep_is_reported_once() {
    let table = Arc::new(Table::default());
    let store = MemoryBookmarkStore::with_adapter(table.clone(), RecoveryPointFactory::Fixed).unwrap();
    let scene = Scene::prepared(Client::builder("c").bookmark_store(store), |_| {});
    let (_frame, _inbox) = replay(&scene, "0");
    let persisted = |bookmark: &str| {
        let header =
            format!(r#"{{"c":"ack","sub_id":"s","bm":"{bookmark}","a":"persisted","status":"success"}}"#);
        scene.connection.send(&header, "").unwrap();
        scene.settle();
    };
    table.fail(1);
    persisted("7|1|");
    persisted("7|2|");
    let failures = scene.record.failures();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!((failures[0].origin, failures[0].error.kind()), (Origin::BookmarkStore, ErrorKind::Store));
    assert_eq!(table.point("s"), "7|2|");

    table.panic_next();
    persisted("7|3|");
    persisted("7|4|");
    let failures = scene.record.failures();
    assert_eq!(failures[1].error.kind(), ErrorKind::HandlerPanicked, "{failures:?}");
    assert_eq!(table.point("s"), "7|4|");
}

#[test]
fn a_discard_without_a_store_is_a_usage_error() {
    let scene = Scene::logged_on("c");
    let inbox = scene.subscribe("s");
    scene.send("s", "");
    assert_eq!(scene.client.discard(&inbox.next()).unwrap_err().kind(), ErrorKind::Usage);
}

/// SM-7, BS-17.
#[test]
fn with_a_store_a_subscription_goes_on_at_the_recovery_point() {
    let store = Arc::new(MemoryBookmarkStore::new());
    let mut scene = remembering(Client::builder("c").bookmark_store(Arc::clone(&store)));
    let (_frame, inbox) = replay(&scene, "0");
    ["7|1|", "7|2|"].iter().for_each(|bookmark| send(&scene, bookmark, ""));
    scene.client.discard(&inbox.next()).unwrap();
    inbox.next();
    assert_eq!(bookmark_of(&placed_again(&mut scene)), Some("7|1|"));
    ["7|1|", "7|2|"].iter().for_each(|bookmark| send(&scene, bookmark, bookmark));
    assert_eq!(inbox.next().data(), b"7|2|");
}

/// SM-7, decision 17.
#[test]
fn without_a_store_a_subscription_goes_on_behind_the_last_message_of_each_publisher() {
    let mut scene = remembering(Client::builder("c"));
    let (_frame, inbox) = replay(&scene, "0");
    assert_eq!(bookmark_of(&placed_again(&mut scene)), Some("0"), "as it was placed");
    ["7|1|", "3|5|", "7|2|"].iter().for_each(|bookmark| send(&scene, bookmark, ""));
    inbox.payloads(3);
    assert_eq!(bookmark_of(&placed_again(&mut scene)), Some("3|5|,7|2|"));
    assert_eq!(bookmark_of(&placed_again(&mut scene)), Some("3|5|,7|2|"), "nothing is forgotten");
    let (frame, _) = replay(&scene, "7|1|");
    assert_eq!(bookmark_of(&frame), Some("7|1|"));
    assert_eq!(bookmark_of(&placed_again(&mut scene)), Some("7|1|"), "placed anew");
}

/// SM-7, decision 17: neither the whole log nor a gap.
#[test]
fn entered_at_now_and_lost_early_it_goes_on_ten_seconds_before_it_was_accepted() {
    let memory = || Client::builder("c").bookmark_store(MemoryBookmarkStore::new());
    for builder in [Client::builder("c"), memory()] {
        let mut scene = remembering(builder);
        let before = SystemTime::now() - Duration::from_secs(10);
        let (_frame, inbox) = replay(&scene, "0|1|");
        let after = SystemTime::now() - Duration::from_secs(10);
        let first = placed_again(&mut scene);
        let text = bookmark_of(&first).unwrap();
        let [before, after] = [before, after].map(|time| Bookmark::time(time).to_string());
        // Times without a fraction are shorter, and sort before those with one.
        assert!(before.as_str() <= text && text <= after.as_str(), "{before} {text} {after}");
        assert_eq!(bookmark_of(&placed_again(&mut scene)), Some(text), "the first acceptance counts");
        send(&scene, "7|1|", "");
        inbox.next();
        let resumed = placed_again(&mut scene);
        assert_eq!(bookmark_of(&resumed), Some("7|1|"));
    }
}

/// SM-3: what is unsubscribed is forgotten, also by a command.
#[test]
fn an_unsubscribe_command_ends_the_subscription_here_too() {
    let mut scene = remembering(Client::builder("c"));
    let inbox = scene.subscribe("s");
    let _ = scene.client.execute(Command::unsubscribe("s")).unwrap();
    scene.send("s", "too late");
    scene.settle();
    assert!(inbox.rest().is_empty());
    scene.connection.close();
    scene.accept_again();
    scene.settle();
}
