//! The default chooser: a list, gone through in rounds.
//!
//! Pure: reports come in, the next connection string comes out.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::chooser::ServerChooser;
use crate::auth::{Authenticator, DefaultAuthenticator};
use crate::client::ConnectionInfo;
use crate::error::{Error, ErrorKind};
use crate::uri::without_password;

/// Goes through a list of servers, round and round, in the order in which they were added.
///
/// A failure moves on to the next server, except [`Disconnected`](ErrorKind::Disconnected): then the same server is tried
/// again first. A success changes nothing: the server stays the one to return to.
///
/// # When it gives up
///
/// Bad credentials do not get better by trying. So after two *refused rounds* in a row no server is offered any more, and
/// [`refusal`](ServerChooser::refusal) is the last error by which a server refused the logon. The number can be
/// [set](Self::give_up_after), also to never.
///
/// * A *round* is as many steps as the list has entries, so that each entry is passed once; a connection string that was
///   added twice has two. A failure that moves on is a step, and so is a call of [`next`](Self::next). `Disconnected` is
///   none, and neither counts nor discounts anything: the round waits until that server has failed otherwise.
/// * A round is *refused* if in it at least one server refused the logon with [`Authentication`](ErrorKind::Authentication) or
///   [`NotEntitled`](ErrorKind::NotEntitled). What the other servers failed with does not matter: a dead one among them does
///   not keep bad credentials going.
/// * A round without any refusal breaks the row. So network failures and [`NameInUse`](ErrorKind::NameInUse) alone go on for
///   ever.
/// * [`report_success`](ServerChooser::report_success) starts the count anew: the next step is the first of a round, at
///   whatever place in the list that is. A failure that follows for the same attempt moves on without being a step, because that
///   server has accepted the logon. [`add`](Self::add) and [`reset`](ServerChooser::reset) start anew too, and let a
///   chooser that gave up offer servers again.
///
/// ```
/// use amps_client::{ConnectionInfo, DefaultServerChooser, Error, ErrorKind, ServerChooser};
///
/// let mut chooser = DefaultServerChooser::from_iter(["tcp://a:9007/amps/json", "tcp://b:9007/amps/json"]);
/// let info = ConnectionInfo::default();
/// assert_eq!(chooser.current_uri().as_deref(), Some("tcp://a:9007/amps/json"));
///
/// chooser.report_failure(&Error::new(ErrorKind::ConnectionRefused, "nobody listens"), &info);
/// assert_eq!(chooser.current_uri().as_deref(), Some("tcp://b:9007/amps/json"));
/// chooser.report_failure(&Error::new(ErrorKind::Authentication, "wrong password"), &info); // the first round ends
///
/// chooser.report_failure(&Error::new(ErrorKind::ConnectionRefused, "nobody listens"), &info);
/// chooser.report_failure(&Error::new(ErrorKind::Authentication, "wrong password"), &info); // the second round ends
/// assert_eq!(chooser.current_uri(), None);
/// assert_eq!(chooser.refusal().unwrap().kind(), ErrorKind::Authentication);
/// ```
pub struct DefaultServerChooser {
    servers: Vec<Server>,
    /// The place of the current server; below the length unless the list is empty.
    current: usize,
    /// The current attempt was reported as a success; what fails of it later is no refusal of the logon.
    accepted: bool,
    give_up_after: Option<NonZeroU32>,
    refusals: Refusals,
}

const DEFAULT_ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

impl DefaultServerChooser {
    /// An empty list, which offers nothing; gives up after two refused rounds.
    pub fn new() -> DefaultServerChooser {
        DefaultServerChooser {
            servers: Vec::new(),
            current: 0,
            accepted: false,
            give_up_after: Some(DEFAULT_ROUNDS),
            refusals: Refusals::default(),
        }
    }

    /// After how many [refused rounds](Self#when-it-gives-up) in a row to give up; `None` is never. Default: two.
    ///
    /// ```
    /// use std::num::NonZeroU32;
    /// use amps_client::DefaultServerChooser;
    ///
    /// let patient = DefaultServerChooser::new().give_up_after(NonZeroU32::new(10));
    /// let stubborn = DefaultServerChooser::new().give_up_after(None);
    /// # drop((patient, stubborn));
    /// ```
    #[must_use]
    pub fn give_up_after(mut self, rounds: Option<NonZeroU32>) -> DefaultServerChooser {
        self.give_up_after = rounds;
        self
    }

    /// Adds a server at the end of the list, to log on to with the password of its connection string. The text is checked
    /// when it is tried, and may be in the list more than once.
    pub fn add(&mut self, uri: impl Into<String>) {
        self.add_with_authenticator(uri, Arc::new(DefaultAuthenticator));
    }

    /// Adds several servers; see [`add`](Self::add).
    ///
    /// ```
    /// use amps_client::DefaultServerChooser;
    ///
    /// let mut chooser = DefaultServerChooser::new();
    /// chooser.add_all(["tcp://a:9007/amps/json", "tcp://b:9007/amps/json"]);
    /// ```
    pub fn add_all(&mut self, uris: impl IntoIterator<Item = impl Into<String>>) {
        uris.into_iter().for_each(|uri| self.add(uri));
    }

    /// Adds a server whose logons get their password from this authenticator.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use amps_client::{Authenticator, DefaultServerChooser, Result, ServerChooser};
    ///
    /// struct Token(&'static str);
    ///
    /// impl Authenticator for Token {
    ///     fn authenticate(&self, _user: &str, _password: &str) -> Result<String> {
    ///         Ok(self.0.to_owned())
    ///     }
    ///
    ///     fn retry(&self, user: &str, password: &str) -> Result<String> {
    ///         self.authenticate(user, password)
    ///     }
    ///
    ///     fn completed(&self, _user: &str, _password: &str, _reason: &str) -> Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let mut chooser = DefaultServerChooser::new();
    /// chooser.add_with_authenticator("tcp://desk@a:9007/amps/json", Arc::new(Token("for a")));
    /// chooser.add_with_authenticator("tcp://desk@b:9007/amps/json", Arc::new(Token("for b")));
    /// assert_eq!(chooser.current_authenticator().authenticate("desk", "")?, "for a");
    /// chooser.next();
    /// assert_eq!(chooser.current_authenticator().authenticate("desk", "")?, "for b");
    /// # Ok::<(), amps_client::Error>(())
    /// ```
    pub fn add_with_authenticator(&mut self, uri: impl Into<String>, authenticator: Arc<dyn Authenticator>) {
        self.servers.push(Server { uri: uri.into(), authenticator });
        self.refusals = Refusals::default();
    }

    /// Moves on to the next server; after the last one comes the first. For choosers that are built on this one.
    pub fn next(&mut self) {
        self.step(None);
    }

    /// Leaves the current server, which may have refused the logon, as a step of the round.
    fn step(&mut self, refusal: Option<&Error>) {
        self.refusals.step(refusal, self.servers.len());
        self.advance();
    }

    fn advance(&mut self) {
        self.current = (self.current + 1) % self.servers.len().max(1);
    }

    fn gave_up(&self) -> bool {
        self.give_up_after.is_some_and(|rounds| self.refusals.rounds >= rounds.get())
    }

    fn server(&self) -> Option<&Server> {
        self.servers.get(self.current)
    }
}

impl ServerChooser for DefaultServerChooser {
    /// The current server; none if the list is empty or the chooser [gave up](DefaultServerChooser#when-it-gives-up).
    fn current_uri(&mut self) -> Option<String> {
        self.accepted = false;
        if self.gave_up() { None } else { self.server().map(|server| server.uri.clone()) }
    }

    /// The one added with the server, else the [`DefaultAuthenticator`].
    fn current_authenticator(&mut self) -> Arc<dyn Authenticator> {
        match self.server() {
            Some(server) => Arc::clone(&server.authenticator),
            None => Arc::new(DefaultAuthenticator),
        }
    }

    /// Moves on to the next server, unless the connection was lost.
    fn report_failure(&mut self, error: &Error, _info: &ConnectionInfo) {
        let accepted = std::mem::take(&mut self.accepted);
        match error.kind() {
            ErrorKind::Disconnected => {}
            _ if accepted => self.advance(),
            ErrorKind::Authentication | ErrorKind::NotEntitled => self.step(Some(error)),
            _ => self.step(None),
        }
    }

    /// Starts the count of refused rounds anew.
    fn report_success(&mut self, _info: &ConnectionInfo) {
        self.accepted = true;
        self.refusals = Refusals::default();
    }

    /// The last refusal of a logon, once the chooser [gave up](DefaultServerChooser#when-it-gives-up).
    fn refusal(&self) -> Option<Error> {
        self.refusals.last.clone().filter(|_| self.gave_up())
    }

    /// Starts the count of refused rounds anew; the current server stays.
    fn reset(&mut self) {
        self.refusals = Refusals::default();
    }

    /// The same as [`DefaultServerChooser::add`].
    fn add(&mut self, uri: String) {
        DefaultServerChooser::add(self, uri);
    }

    /// Does nothing: the list only grows.
    fn remove(&mut self, _uri: &str) {}
}

impl Default for DefaultServerChooser {
    fn default() -> DefaultServerChooser {
        DefaultServerChooser::new()
    }
}

impl<U: Into<String>> FromIterator<U> for DefaultServerChooser {
    /// A list of these servers, as [`add_all`](DefaultServerChooser::add_all) makes it.
    fn from_iter<I: IntoIterator<Item = U>>(uris: I) -> DefaultServerChooser {
        let mut chooser = DefaultServerChooser::new();
        chooser.add_all(uris);
        chooser
    }
}

impl fmt::Debug for DefaultServerChooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |server: &Server| without_password(&server.uri);
        f.debug_struct("DefaultServerChooser")
            .field("servers", &self.servers.iter().map(shown).collect::<Vec<_>>())
            .field("current", &self.server().map(shown))
            .field("give_up_after", &self.give_up_after)
            .field("refused_rounds", &self.refusals.rounds)
            .finish()
    }
}

struct Server {
    uri: String,
    authenticator: Arc<dyn Authenticator>,
}

/// Counts the refused rounds in a row.
#[derive(Default)]
struct Refusals {
    /// Refused rounds in a row, complete ones only.
    rounds: u32,
    /// Steps of the round that is under way.
    steps: usize,
    /// Whether a server refused the logon in the round that is under way.
    refused: bool,
    /// The last refusal of the row.
    last: Option<Error>,
}

impl Refusals {
    fn step(&mut self, refusal: Option<&Error>, servers: usize) {
        if let Some(error) = refusal {
            self.refused = true;
            self.last = Some(error.clone());
        }
        self.steps += 1;
        if self.steps >= servers {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        *self = match self.refused {
            true => Refusals {
                rounds: self.rounds.saturating_add(1),
                last: self.last.take(),
                ..Refusals::default()
            },
            false => Refusals::default(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn servers(count: usize) -> DefaultServerChooser {
        (0..count).map(|at| at.to_string()).collect()
    }

    /// What happens to a chooser, one letter each: what became of an attempt, or what somebody else did.
    fn happen(chooser: &mut DefaultServerChooser, event: char) {
        let info = ConnectionInfo::default();
        let fail = |chooser: &mut DefaultServerChooser, kind| {
            chooser.report_failure(&Error::new(kind, event), &info);
        };
        match event {
            'a' => fail(chooser, ErrorKind::Authentication),
            'e' => fail(chooser, ErrorKind::NotEntitled),
            'x' => fail(chooser, ErrorKind::ConnectionRefused),
            't' => fail(chooser, ErrorKind::TimedOut),
            'n' => fail(chooser, ErrorKind::NameInUse),
            'g' => fail(chooser, ErrorKind::PublishStoreGap),
            'd' => fail(chooser, ErrorKind::Disconnected),
            's' => chooser.report_success(&info),
            '>' => chooser.next(),
            '+' => ServerChooser::add(chooser, "added".to_owned()),
            '-' => chooser.remove("0"),
            'r' => chooser.reset(),
            // The logon was accepted, and then a subscription was refused.
            'f' => {
                chooser.report_success(&info);
                fail(chooser, ErrorKind::NotEntitled);
            }
            other => panic!("no event {other}"),
        }
    }

    /// The servers offered before each event and after the last; `.` is none.
    fn offered(mut chooser: DefaultServerChooser, events: &str) -> String {
        let mut offers = String::new();
        let mut offer = |chooser: &mut DefaultServerChooser| {
            offers.push(chooser.current_uri().map_or('.', |uri| uri.chars().next().unwrap()));
        };
        for event in events.chars() {
            offer(&mut chooser);
            happen(&mut chooser, event);
        }
        offer(&mut chooser);
        offers
    }

    /// 73, 75, HA-26, HA-27, decision 11.
    #[test]
    fn servers_are_offered_in_turn_until_their_refusals_have_gone_on_for_two_rounds() {
        let table = [
            // Nothing to offer.
            (0, "", "."),
            (0, ">x", "..."),
            (0, "+", ".a"),
            // Moving on, wrapping around, staying, returning.
            (3, "xtngx", "012012"),
            (3, "sdx", "0001"),
            (3, "xsdddx", "0111112"),
            (2, "->r+x>>", "00111a01"),
            // One entry: each refusal is a round.
            (1, "aa", "00."),
            (1, "ae", "00."),
            (1, "xxxx", "00000"),
            (1, "nnnn", "00000"),
            (1, "dddd", "00000"),
            (1, "axaxaa", "000000."),
            (1, "adda", "0000."),
            (1, "dada", "0000."),
            (1, "asaa", "0000."),
            (1, "asasas", "0000000"),
            // Two entries: full rounds, wherever the refusal is in them.
            (2, "aaaa", "0101."),
            (2, "axax", "0101."),
            (2, "xaxa", "0101."),
            (2, "axxa", "0101."),
            (2, "xaax", "0101."),
            (2, "anne", "0101."),
            (2, "xxxxxxxx", "010101010"),
            (2, "nnnnnnnn", "010101010"),
            (2, "nxtgnxtg", "010101010"),
            // A round without a refusal breaks the row.
            (2, "axxxaxxx", "010101010"),
            (2, "axxxaxax", "01010101."),
            (2, "xxaxax", "010101."),
            // A drop is no step, and takes nothing back.
            (2, "adadada", "0110011."),
            // A success starts anew, and with it a round at whatever place.
            (2, "aaasxax", "01011010"),
            (2, "aaasxaxa", "01011010."),
            (2, "asdxaax", "0111010."),
            // So do a new server and a reset; both revive a chooser that gave up.
            (1, "aa+aaaa", "00.0a0a."),
            (1, "a+aaaa", "000a0a."),
            (1, "aaraa", "00.00."),
            (2, "aaaraaaa", "01011010."),
            // `next` is a step without a refusal.
            (2, "a>a>", "0101."),
            (2, ">>>>>>", "0101010"),
            (2, "a>>>a>>>", "010101010"),
            // What fails after the logon was accepted is no refusal of it, but moves on.
            (1, "ffff", "00000"),
            (2, "fafafa", "0101010"),
            (2, "faaaa", "01010."),
        ];
        for (count, events, expected) in table {
            assert_eq!(offered(servers(count), events), expected, "{count} servers: {events}");
        }
    }

    /// HA-28: each entry of a repeated connection string is passed for itself.
    #[test]
    fn a_connection_string_that_was_added_twice_makes_the_round_longer() {
        let twice = || DefaultServerChooser::from_iter(["x", "x", "y"]);
        assert_eq!(offered(twice(), "aaaaaa"), "xxyxxy.");
        assert_eq!(offered(twice(), "axxxxx"), "xxyxxyx");
    }

    /// Decision 11: the number of rounds.
    #[test]
    fn the_number_of_refused_rounds_can_be_set_also_to_never() {
        let table = [
            (NonZeroU32::new(1), 2, "xa", "01."),
            (NonZeroU32::new(1), 1, "ffff", "00000"),
            (NonZeroU32::new(3), 2, "aaaaax", "010101."),
            (NonZeroU32::new(3), 1, "aaxaaa", "000000."),
            (None, 1, "aaaaaaaaa", "0000000000"),
        ];
        for (rounds, count, events, expected) in table {
            let chooser = servers(count).give_up_after(rounds);
            assert_eq!(offered(chooser, events), expected, "{rounds:?} rounds, {count} servers: {events}");
        }
    }

    /// HA-6, HA-26: nothing is refused before the chooser gives up, and then the last refusal counts.
    #[test]
    fn the_refusal_is_the_last_one_by_which_a_logon_was_refused() {
        use ErrorKind::{Authentication, NotEntitled};
        let table = [
            (2, "", None),
            (2, "aaa", None),
            (2, "aaae", Some(NotEntitled)),
            (2, "eaax", Some(Authentication)),
            (2, "axex", Some(NotEntitled)),
            (2, "exxxaxax", Some(Authentication)),
            (1, "eer", None),
            (1, "ee+", None),
        ];
        for (count, events, kind) in table {
            let mut chooser = servers(count);
            events.chars().for_each(|event| happen(&mut chooser, event));
            assert_eq!(chooser.refusal().map(|error| error.kind()), kind, "{count} servers: {events}");
            assert_eq!(chooser.current_uri().is_none(), kind.is_some(), "{count} servers: {events}");
            assert_eq!(chooser.error(), "");
        }
    }

    /// The count by definition: the steps since it last started anew, cut into rounds.
    fn refused_rounds_in_a_row(steps: &[bool], servers: usize) -> usize {
        steps.chunks_exact(servers).rev().take_while(|round| round.contains(&true)).count()
    }

    /// Decision 11, for any sequence of events.
    #[test]
    fn it_gives_up_exactly_when_the_last_rounds_were_all_refused() {
        let mut random = Random::new(0x5EED_00A2);
        for _ in 0..3_000 {
            let (count, rounds) = (1 + random.below(4), 1 + random.below(3));
            let mut chooser = servers(count).give_up_after(NonZeroU32::new(rounds as u32));
            let (mut steps, mut at, mut events) = (Vec::new(), 0, String::new());
            for _ in 0..60 {
                let gave_up = refused_rounds_in_a_row(&steps, count) >= rounds;
                let expected = (!gave_up).then(|| at.to_string());
                assert_eq!(chooser.current_uri(), expected, "{count} servers, {rounds} rounds: {events}");
                let event =
                    if gave_up { 'r' } else { *random.pick(&['a', 'a', 'e', 'x', 'd', '>', 's', 'f']) };
                events.push(event);
                happen(&mut chooser, event);
                match event {
                    's' | 'r' | 'f' => steps.clear(),
                    'd' => {}
                    other => steps.push(matches!(other, 'a' | 'e')),
                }
                at = if matches!(event, 's' | 'r' | 'd') { at } else { (at + 1) % count };
            }
        }
    }

    struct Named(&'static str);

    impl Authenticator for Named {
        fn authenticate(&self, _user: &str, _password: &str) -> crate::Result<String> {
            Ok(self.0.to_owned())
        }

        fn retry(&self, _user: &str, _password: &str) -> crate::Result<String> {
            Ok(String::new())
        }

        fn completed(&self, _user: &str, _password: &str, _reason: &str) -> crate::Result<()> {
            Ok(())
        }
    }

    /// 86, HA-26, HA-29.
    #[test]
    fn each_server_has_its_own_authenticator_or_the_default_one() {
        let mut chooser = DefaultServerChooser::new();
        let password = |chooser: &mut DefaultServerChooser| {
            chooser.current_authenticator().authenticate("desk", "given").unwrap()
        };
        assert_eq!(password(&mut chooser), "given", "even without any server");
        chooser.add_with_authenticator("same", Arc::new(Named("first")));
        chooser.add_with_authenticator("same", Arc::new(Named("second")));
        chooser.add("plain");
        for expected in ["first", "second", "given", "first"] {
            assert_eq!(password(&mut chooser), expected);
            happen(&mut chooser, 'x');
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let mut chooser = DefaultServerChooser::from_iter(["tcp://desk:s3cret@a:1/amps"]);
        happen(&mut chooser, 'a');
        let shown = format!("{chooser:?}");
        assert!(shown.contains("tcp://desk:***@a:1/amps") && !shown.contains("s3cret"), "{shown}");
    }
}
