//! What the guides in `docs/` list is all that there is, and is so.

use amps_client::{ConnectionState, Error, ErrorKind, Origin, Reason};

const ERROR_HANDLING: &str = include_str!("../docs/error-handling.md");

/// The cells of each row of the table with this head.
fn table<'a>(guide: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let from = guide.find(head).unwrap_or_else(|| panic!("there is no table {head}"));
    let rows = guide[from..].lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The texts between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_table_of_kinds_has_every_kind_with_its_class_and_whether_to_try_again() {
    let rows = table(ERROR_HANDLING, "| Kind | Class | Means |");
    let described: Vec<(String, bool, String)> = rows
        .iter()
        .map(|row| (quoted(row[0])[0].to_owned(), row[0].ends_with('*'), quoted(row[1])[0].to_owned()))
        .collect();
    let all = ErrorKind::ALL
        .iter()
        .map(|kind| (kind.to_string(), Error::from(*kind).is_retryable(), kind.class().to_string()));
    assert_eq!(described, all.collect::<Vec<_>>());
}

#[test]
fn the_table_of_reasons_has_the_kind_that_each_becomes() {
    let rows = table(ERROR_HANDLING, "| Reason | Kind |");
    for row in &rows {
        let kind = quoted(row[1])[0];
        let reasons: Vec<&str> = quoted(row[0]);
        let texts = if reasons.is_empty() { vec![""] } else { reasons };
        for text in texts {
            assert_eq!(Reason::of(text).kind().to_string(), kind, "{text}");
        }
    }
    let kinds: Vec<&str> = rows.iter().map(|row| quoted(row[1])[0]).collect();
    assert_eq!((kinds.len(), Reason::of("something else").kind()), (20, ErrorKind::Command));
}

#[test]
fn the_table_of_origins_has_every_origin() {
    let rows = table(ERROR_HANDLING, "| Origin | What failed |");
    let described: Vec<&str> = rows.iter().map(|row| quoted(row[0])[0]).collect();
    assert_eq!(described, Origin::ALL.iter().map(|origin| format!("{origin:?}")).collect::<Vec<_>>());
}

/// The sequences themselves are shown by the example `connection_states`, which is run by a test of its own.
#[test]
fn the_tables_of_states_have_states_only() {
    use ConnectionState::*;
    let all = [
        Connected,
        LoggedOn,
        HeartbeatInitiated,
        PublishReplayed,
        Resubscribed,
        Disconnected,
        Shutdown,
        Unknown,
    ];
    let described = table(ERROR_HANDLING, "| State | Announced when | Then |");
    let described: Vec<&str> = described.iter().map(|row| quoted(row[0])[0]).collect();
    assert_eq!(described, all.map(|state| state.to_string()));

    let sequences = table(ERROR_HANDLING, "| The client has | It announces |");
    assert_eq!(sequences.len(), 8);
    for row in &sequences {
        let expected = [
            Some(Connected),
            Some(LoggedOn),
            row[0].contains("heartbeats").then_some(HeartbeatInitiated),
            row[0].contains("publish store").then_some(PublishReplayed),
            row[0].contains("subscription manager").then_some(Resubscribed),
        ];
        let expected: Vec<String> = expected.into_iter().flatten().map(|state| state.to_string()).collect();
        assert_eq!(quoted(row[1]), expected, "{}", row[0]);
    }
}
