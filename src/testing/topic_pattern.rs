//! Topics as a subscription names them: a name, or a regular expression over names (P-4).

use super::pattern::Pattern;

/// The topics that a subscription, query or delete covers.
#[derive(Debug, Clone)]
pub(crate) struct TopicPattern(Topics);

#[derive(Debug, Clone)]
enum Topics {
    Named(String),
    Matching(Pattern),
}

impl TopicPattern {
    /// Takes `text` as a regular expression if it has a character of those, unless it is `literal_only` (the option
    /// `non_regex_topic`).
    pub(crate) fn new(text: &str, literal_only: bool) -> Result<TopicPattern, BadRegexTopic> {
        if literal_only || !text.contains(REGEX_CHARACTERS) {
            return Ok(TopicPattern(Topics::Named(text.to_owned())));
        }
        let pattern = Pattern::compile(text).ok_or_else(|| BadRegexTopic { topic: text.to_owned() })?;
        Ok(TopicPattern(Topics::Matching(pattern)))
    }

    /// True if the topic of this name is covered.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        match &self.0 {
            Topics::Named(name) => name == topic,
            Topics::Matching(pattern) => pattern.is_in(topic.as_bytes()),
        }
    }

    /// True if this is the name of one topic.
    pub(crate) fn is_literal(&self) -> bool {
        matches!(self.0, Topics::Named(_))
    }
}

const REGEX_CHARACTERS: [char; 14] = ['^', '$', '.', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\'];

/// A topic with characters of a regular expression that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad regex topic: {topic:?} is not a regular expression")]
pub(crate) struct BadRegexTopic {
    topic: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(text: &str, topic: &str) -> bool {
        TopicPattern::new(text, false).unwrap().matches(topic)
    }

    /// P-4 and 17.2.
    #[test]
    fn a_topic_with_regex_characters_is_searched_for() {
        for text in
            ["rx/.*", ".*", "rx/a|rx/b", "rx/[ab]", "x/a$", "^rx", "(?i)RX", r"rx\/a", "r{1}x", "rx/a+"]
        {
            assert!(covers(text, "rx/a"), "{text}");
            assert!(!TopicPattern::new(text, false).unwrap().is_literal(), "{text}");
        }
        for text in ["^a", "RX/.", "^rx$"] {
            assert!(!covers(text, "rx/a"), "{text}");
        }
        assert!(covers("trade.info", "trade/info"));
        assert!(covers("trade.info", "every/trade-info"));
        assert!(covers("^trade$", "trade"));
        assert!(!covers("^trade$", "trades"));
        assert!(!covers("^trade$", "every/trade"));
    }

    /// P-4.
    #[test]
    fn a_topic_without_regex_characters_is_one_name() {
        for text in ["orders", "a/b", "Größe", "a-b_c:d,e f", "\"quoted\"", ""] {
            let topics = TopicPattern::new(text, false).unwrap();
            assert!(topics.is_literal(), "{text}");
            assert!(topics.matches(text), "{text}");
            assert!(!topics.matches(&format!("{text}s")) && !topics.matches(&format!("a{text}")), "{text}");
        }
        for character in REGEX_CHARACTERS {
            let pattern = TopicPattern::new(&format!("a{character}"), false);
            assert!(pattern.is_err() || !pattern.unwrap().is_literal(), "{character}");
        }
    }

    /// P-4 and 17.2.
    #[test]
    fn a_literal_topic_takes_any_character_as_it_is() {
        for text in ["rx/.*", "^rx[", "a("] {
            let topics = TopicPattern::new(text, true).unwrap();
            assert!(topics.is_literal() && topics.matches(text) && !topics.matches("rx/a"), "{text}");
        }
    }

    /// Section 17.2.
    #[test]
    fn a_broken_regex_topic_is_refused_and_named() {
        for text in ["^rx[", "a(", "*", r"a\", "(?z)a", r"(a)\2"] {
            let error = TopicPattern::new(text, false).unwrap_err();
            assert_eq!(error.to_string(), format!("bad regex topic: {text:?} is not a regular expression"));
        }
    }
}
