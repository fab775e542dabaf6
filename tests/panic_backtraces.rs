//! Backtraces of panics are an opt-in, because they change the panic hook of the whole process.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use amps_client::{Message, capture_panic_backtraces};
use support::client::*;

/// X-4, 19: the one before is called as before, and panics elsewhere are none of our business.
#[test]
fn panics_in_callbacks_come_with_a_backtrace_once_that_was_asked_for() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    std::panic::set_hook(Box::new(|_| _ = PANICS.fetch_add(1, Ordering::Relaxed)));
    let scene = Scene::logged_on("c");
    scene.subscribe_with("s", |_: &Message| -> () { panic!("within a callback") });

    scene.send("s", "x");
    assert!(!scene.record.wait_for_failures(1)[0].has_backtrace);
    capture_panic_backtraces();
    capture_panic_backtraces();
    scene.send("s", "x");
    assert!(scene.record.wait_for_failures(2)[1].has_backtrace);
    std::panic::catch_unwind(|| panic!("somewhere else")).unwrap_err();
    scene.send("s", "x");
    assert!(scene.record.wait_for_failures(3)[2].has_backtrace);
    assert_eq!(PANICS.load(Ordering::Relaxed), 4);
}
