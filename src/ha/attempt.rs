//! The connect loop: one server after the other, until one accepts or nobody is left.
//!
//! Only the thread that has the gate runs it: the caller of `connect_and_logon`, the receive thread of a lost connection, or
//! the caller of a command that revives a client.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{ReconnectDelayStrategy, ServerChooser};
use crate::auth::Authenticator;
use crate::callbacks::Origin;
use crate::client::{Client, ConnectionInfo, Logon, contain, driver};
use crate::error::{Error, ErrorKind, Result};
use crate::uri::without_password;

/// How an `HAClient` gets a connection.
pub(super) struct Attempts {
    tools: Mutex<Tools>,
    logon_options: String,
    settings: Mutex<Settings>,
}

/// What only the thread that runs the loop uses.
struct Tools {
    chooser: Option<Box<dyn ServerChooser>>,
    delay: Box<dyn ReconnectDelayStrategy>,
}

struct Settings {
    logon_timeout: Option<Duration>,
    last_delay: Duration,
}

/// The last failure of each server, for the text of a time-out.
#[derive(Default)]
struct Failures(BTreeMap<String, Error>);

/// What one attempt goes to.
struct Target {
    uri: String,
    authenticator: Arc<dyn Authenticator>,
}

impl Attempts {
    pub(super) fn new(
        chooser: Option<Box<dyn ServerChooser>>,
        delay: Box<dyn ReconnectDelayStrategy>,
        logon_options: String,
    ) -> Attempts {
        let settings = Settings { logon_timeout: Some(Duration::from_secs(10)), last_delay: Duration::ZERO };
        Attempts {
            tools: Mutex::new(Tools { chooser, delay }),
            logon_options,
            settings: Mutex::new(settings),
        }
    }

    pub(super) fn set_logon_timeout(&self, limit: Option<Duration>) {
        self.settings.lock().logon_timeout = limit;
    }

    pub(super) fn logon_timeout(&self) -> Option<Duration> {
        self.settings.lock().logon_timeout
    }

    pub(super) fn info(&self, client: &Client) -> ConnectionInfo {
        let settings = self.settings.lock();
        let millis = |time: Duration| time.as_millis().to_string();
        client
            .connection_info()
            .with("haClient.reconnectDelay", millis(settings.last_delay))
            .with("haClient.timeout", millis(settings.logon_timeout.unwrap_or_default()))
    }

    /// The application asks for a connection: what is past does not count.
    pub(super) fn start_anew(&self) {
        let mut tools = self.tools.lock();
        let Tools { chooser, delay } = &mut *tools;
        // What goes wrong in here shows when it is asked next.
        let _ = contain(|| {
            if let Some(chooser) = chooser {
                chooser.reset();
            }
            delay.reset();
            Ok(())
        });
    }

    /// An established connection was lost.
    pub(super) fn lost(&self, client: &Client, cause: &Error) {
        let error = match cause.is_disconnect() {
            true => cause.clone(),
            false => {
                Error::new(ErrorKind::Disconnected, "the connection was lost").with_source(cause.clone())
            }
        };
        let info = self.info(client);
        self.tools.lock().report_failure(client, &error, &info);
    }

    /// Tries until there is a connection that is logged on and recovered, and says why there will be none.
    pub(super) fn run(&self, client: &Client, deadline: Option<Instant>) -> Result<()> {
        let mut tools = self.tools.lock();
        let mut failures = Failures::default();
        loop {
            let target = tools.next_target()?;
            let delay = ask(|| tools.delay.connect_wait_duration(&target.uri)).and_then(|delay| delay)?;
            self.settings.lock().last_delay = delay;
            self.sleep(client, delay, deadline, &failures)?;
            let attempt = || self.attempt(client, &mut tools, &target, deadline);
            let Err(error) = driver::within(client.core(), deadline, attempt) else {
                return ask(|| tools.delay.reset());
            };
            driver::abandon(client.core(), &error);
            if driver::is_cancelled(client.core()) {
                return Err(driver::cancelled());
            }
            log::warn!(target: "amps::ha", "{}: {error}", without_password(&target.uri));
            let info = self.info(client).with("client.uri", without_password(&target.uri));
            tools.report_failure(client, &error, &info);
            failures.0.insert(without_password(&target.uri), error);
            if is_over(deadline) {
                return Err(failures.timed_out());
            }
        }
    }

    /// Waits before an attempt. A close ends the wait at once.
    fn sleep(
        &self,
        client: &Client,
        delay: Duration,
        deadline: Option<Instant>,
        failures: &Failures,
    ) -> Result<()> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let core = client.core();
        let awake = core.sleep_unless_closed(left.map_or(delay, |left| left.min(delay)));
        if !awake || driver::is_cancelled(core) {
            return Err(driver::cancelled());
        }
        if is_over(deadline) { Err(failures.timed_out()) } else { Ok(()) }
    }

    fn attempt(
        &self,
        client: &Client,
        tools: &mut Tools,
        target: &Target,
        deadline: Option<Instant>,
    ) -> Result<()> {
        driver::connect(client.core(), &target.uri, deadline)?;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = [self.logon_timeout(), left].into_iter().flatten().min();
        let logon = Logon::new()
            .options(&*self.logon_options)
            .shared_authenticator(Arc::clone(&target.authenticator));
        let logon = match limit {
            Some(limit) => logon.timeout(limit),
            None => logon,
        };
        let tools = Mutex::new(tools);
        let replayed = || tools.lock().report_success(&self.info(client));
        driver::logon(client.core(), &logon, &replayed)
    }
}

impl Tools {
    /// Asks where to go next.
    fn next_target(&mut self) -> Result<Target> {
        let Some(chooser) = &mut self.chooser else {
            let text = "an HAClient needs servers: give its builder `servers` or a `server_chooser`";
            return Err(Error::new(ErrorKind::Connection, text));
        };
        match ask(|| chooser.current_uri())?.filter(|uri| !uri.is_empty()) {
            Some(uri) => Ok(Target { uri, authenticator: ask(|| chooser.current_authenticator())? }),
            None => Err(match ask(|| chooser.refusal())? {
                Some(refusal) => refusal,
                None => {
                    let why = ask(|| chooser.error())?;
                    let separator = if why.is_empty() { "" } else { ": " };
                    Error::new(ErrorKind::Connection, format!("no AMPS instances available{separator}{why}"))
                }
            }),
        }
    }

    fn report_failure(&mut self, client: &Client, error: &Error, info: &ConnectionInfo) {
        let Some(chooser) = &mut self.chooser else { return };
        let told = contain(|| {
            chooser.report_failure(error, info);
            Ok(())
        });
        if let Err(failure) = told {
            client.core().registry.report(failure.unhandled(Origin::Connection));
        }
    }

    fn report_success(&mut self, info: &ConnectionInfo) -> Result<()> {
        match &mut self.chooser {
            Some(chooser) => ask(|| chooser.report_success(info)),
            None => Ok(()),
        }
    }
}

impl Failures {
    fn timed_out(&self) -> Error {
        let mut text = "no server accepted within the time allowed".to_owned();
        for (uri, error) in &self.0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "; {uri}: {error}");
        }
        Error::new(ErrorKind::TimedOut, text)
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Asks user code for something; a panic in it is an error.
fn ask<T>(question: impl FnOnce() -> T) -> Result<T> {
    let mut answer = None;
    let asked = contain(|| {
        answer = Some(question());
        Ok(())
    });
    asked.map_err(|failure| failure.error)?;
    answer.ok_or_else(|| ErrorKind::HandlerPanicked.into())
}
