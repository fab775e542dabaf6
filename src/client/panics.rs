//! Where a callback panicked: an opt-in, because it changes the whole process.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static CAUGHT: RefCell<Option<Backtrace>> = const { RefCell::new(None) };
}

/// From now on a panic in a callback is reported with the backtrace of the place where it happened.
///
/// After unwinding the stack is gone, so this installs a panic hook, once for the process. The hook calls the one before
/// it and does nothing else for panics outside of this library's callbacks. Without it
/// [`UnhandledError::backtrace`](crate::UnhandledError::backtrace) is `None` for panics.
///
/// ```
/// amps_client::capture_panic_backtraces();
/// amps_client::capture_panic_backtraces(); // the second time does nothing
/// ```
pub fn capture_panic_backtraces() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if INSIDE.get() {
                CAUGHT.set(Some(Backtrace::force_capture()));
            }
            before(info);
        }));
    });
}

/// While it lives, the thread counts as being inside a callback.
#[derive(Debug)]
pub(crate) struct CallbackScope {
    before: bool,
}

impl CallbackScope {
    #[inline]
    pub(crate) fn enter() -> CallbackScope {
        CallbackScope { before: INSIDE.replace(true) }
    }
}

impl Drop for CallbackScope {
    #[inline]
    fn drop(&mut self) {
        INSIDE.set(self.before);
    }
}

/// The backtrace of the panic just caught on this thread, if the hook is installed.
pub(crate) fn take_backtrace() -> Option<Backtrace> {
    CAUGHT.take()
}

/// The backtrace of here and now, if the environment asks for backtraces.
pub(crate) fn current_backtrace() -> Option<Backtrace> {
    let backtrace = Backtrace::capture();
    (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace)
}
