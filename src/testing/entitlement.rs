//! Who may do what: the hook, and the answers it gave.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::LOG;
use super::filter::Filter;
use super::payload::Document;

/// Decides what users may do.
///
/// A closure from [`Access`] to [`Entitled`] is one. It is called on the thread of the connection concerned, or on the
/// one that called the server's own `publish`, with no lock held; it may use the server, but not stop it. Its answers are
/// remembered until [`Server::reset_entitlements`](super::Server::reset_entitlements). A panic counts as [`Entitled::Deny`].
///
/// ```
/// use amps_client::testing::{Access, Action, Entitled, Server};
///
/// # fn main() -> amps_client::Result<()> {
/// let rules = |access: &Access<'_>| match access.action() {
///     Action::Write if access.topic().starts_with("audit/") => Entitled::Deny,
///     Action::Read if access.user_id() == "junior" => Entitled::Only("/desk = 'EMEA'".into()),
///     _ => Entitled::Allow,
/// };
/// let server = Server::builder().listen_tcp().entitlement(rules).start()?;
/// # Ok(())
/// # }
/// ```
pub trait Entitlement: Send + Sync + 'static {
    /// Answers one question.
    fn on_access(&self, access: &Access<'_>) -> Entitled;
}

impl<F: Fn(&Access<'_>) -> Entitled + Send + Sync + 'static> Entitlement for F {
    fn on_access(&self, access: &Access<'_>) -> Entitled {
        self(access)
    }
}

/// What a user wants to do; given to an [`Entitlement`].
///
/// ```
/// use amps_client::testing::{Access, Action, Entitled};
///
/// fn readers_and_writers(access: &Access<'_>) -> Entitled {
///     match (access.action(), access.user_id(), access.topic()) {
///         (Action::Logon, ..) => Entitled::Allow,
///         (_, "alice", _) => Entitled::Allow,
///         (Action::Read, _, "ticks") => Entitled::Only("/delayed = 1".to_owned()),
///         _ => Entitled::Deny,
///     }
/// }
/// # let _ = readers_and_writers;
/// ```
#[derive(Debug)]
pub struct Access<'a> {
    question: &'a Question,
}

impl Access<'_> {
    /// Who: the user as the authenticator named it; empty for a logon without a user.
    pub fn user_id(&self) -> &str {
        &self.question.user_id
    }

    /// What the user wants to do.
    pub fn action(&self) -> Action {
        self.question.action
    }

    /// On which topic; empty for [`Action::Logon`].
    pub fn topic(&self) -> &str {
        &self.question.topic
    }

    /// The message type of the session, such as `json`.
    pub fn message_type(&self) -> &str {
        &self.question.message_type
    }
}

/// The kinds of [`Access`], where there is an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// To log on at all.
    Logon,
    /// To subscribe or to query. A regular-expression topic is asked about for each topic it finds.
    Read,
    /// To publish or to delete.
    Write,
}

/// The answer of an [`Entitlement`]; see [`Access`] for an example.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entitled {
    /// Yes.
    Allow,
    /// No: the command fails with `not entitled`; a topic found by a regular expression is silently left out.
    Deny,
    /// Yes, for messages that match this filter. A filter that does not compile counts as [`Entitled::Deny`].
    Only(String),
}

/// One question, and the key under which its answer is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) user_id: String,
    pub(crate) action: Action,
    pub(crate) message_type: String,
    pub(crate) topic: String,
}

/// An answer, ready for use.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    Allow,
    Deny,
    Only(Arc<Filter>),
}

impl Verdict {
    pub(crate) fn is_deny(&self) -> bool {
        matches!(self, Verdict::Deny)
    }

    /// True if the user may have to do with this message.
    pub(crate) fn shows(&self, document: &Document<'_>) -> bool {
        match self {
            Verdict::Allow => true,
            Verdict::Deny => false,
            Verdict::Only(filter) => filter.matches(document),
        }
    }
}

/// The hook of a server; asking it may run user code.
#[derive(Clone, Default)]
pub(crate) struct Rules(Option<Arc<dyn Entitlement>>);

impl Rules {
    pub(crate) fn new(hook: impl Entitlement) -> Rules {
        Rules(Some(Arc::new(hook)))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn ask(&self, question: &Question) -> Verdict {
        let Some(hook) = &self.0 else { return Verdict::Allow };
        match catch_unwind(AssertUnwindSafe(|| hook.on_access(&Access { question }))) {
            Ok(Entitled::Allow) => Verdict::Allow,
            Ok(Entitled::Deny) => Verdict::Deny,
            Ok(Entitled::Only(text)) => only(&text),
            Err(_) => {
                log::error!(target: LOG, "the entitlement hook panicked; the answer is no");
                Verdict::Deny
            }
        }
    }
}

fn only(text: &str) -> Verdict {
    match Filter::parse(text) {
        Ok(None) => Verdict::Allow,
        Ok(Some(filter)) => Verdict::Only(Arc::new(filter)),
        Err(error) => {
            log::error!(target: LOG, "an entitlement filter does not compile, the answer is no: {error}");
            Verdict::Deny
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_open() { "Rules(none)" } else { "Rules(hook)" })
    }
}

/// The answers given so far.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    is_open: bool,
    known: HashMap<Question, Verdict>,
    /// Users who may do nothing any more.
    revoked: HashSet<String>,
}

impl Verdicts {
    /// With no hook every answer is yes, and none needs to be asked for.
    pub(crate) fn new(rules: &Rules) -> Verdicts {
        Verdicts { is_open: rules.is_open(), ..Verdicts::default() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(crate) fn knows(&self, question: &Question) -> bool {
        self.is_open || self.is_revoked(question) || self.known.contains_key(question)
    }

    /// What was never asked is denied.
    pub(crate) fn verdict(&self, question: &Question) -> Verdict {
        match self.known.get(question) {
            _ if self.is_revoked(question) => Verdict::Deny,
            _ if self.is_open => Verdict::Allow,
            Some(verdict) => verdict.clone(),
            None => Verdict::Deny,
        }
    }

    pub(crate) fn learn(&mut self, question: Question, verdict: Verdict) {
        self.known.insert(question, verdict);
    }

    /// Denies a user everything but to log on, whatever was or will be answered.
    pub(crate) fn revoke(&mut self, user_id: &str) {
        self.revoked.insert(user_id.to_owned());
    }

    pub(crate) fn forget(&mut self, user_id: &str) {
        self.revoked.remove(user_id);
        self.known.retain(|question, _| question.user_id != user_id);
    }

    fn is_revoked(&self, question: &Question) -> bool {
        question.action != Action::Logon && self.revoked.contains(&question.user_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(topic: &str) -> Question {
        Question {
            user_id: "u".into(),
            action: Action::Read,
            message_type: "json".into(),
            topic: topic.into(),
        }
    }

    #[test]
    fn without_a_hook_everything_is_allowed_and_nothing_is_asked() {
        let verdicts = Verdicts::new(&Rules::default());
        assert!(verdicts.knows(&question("a")) && !verdicts.verdict(&question("a")).is_deny());
    }

    #[test]
    fn an_answer_is_kept_until_its_user_is_forgotten() {
        let rules = Rules::new(|access: &Access<'_>| match access.topic() {
            "a" => Entitled::Allow,
            "panic" => panic!("a rule that panics"),
            "bad" => Entitled::Only("this is no filter (".into()),
            _ => Entitled::Deny,
        });
        let mut verdicts = Verdicts::new(&rules);
        assert!(!verdicts.knows(&question("a")) && verdicts.verdict(&question("a")).is_deny());
        verdicts.learn(question("a"), rules.ask(&question("a")));
        assert!(!verdicts.verdict(&question("a")).is_deny());
        for denied in ["b", "panic", "bad"] {
            assert!(rules.ask(&question(denied)).is_deny(), "{denied}");
        }
        verdicts.forget("someone else");
        assert!(verdicts.knows(&question("a")));
        verdicts.forget("u");
        assert!(!verdicts.knows(&question("a")));
    }
}
