use super::*;
use crate::wire::MAX_FRAME;

fn framed(bodies: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for body in bodies {
        out.extend_from_slice(&(body.len() as u32).to_be_bytes());
        out.extend_from_slice(body);
    }
    out
}

fn walked(bytes: &[u8]) -> (Block, Walk) {
    let mut block = Block::with_capacity(bytes.len());
    block.copy_to_front(bytes);
    let walk = block.walk(bytes.len(), MAX_FRAME, &mut HeaderReader::default());
    (block, walk)
}

/// Command, topic, key and payload of every message.
fn found(block: &Block) -> Vec<(CommandType, String, String, Vec<u8>)> {
    let text = |e, f| String::from_utf8(block.field(e, f).unwrap_or_default().to_vec()).unwrap();
    let messages = block.entries().iter().filter(|e| e.is_record() || block.command(**e) != CommandType::Sow);
    messages
        .map(|e| {
            (block.command(*e), text(*e, Field::Topic), text(*e, Field::SowKey), block.payload(*e).to_vec())
        })
        .collect()
}

const SOW: &[u8] =
    br#"{"c":"sow","t":"orders","query_id":"auto7","bs":2}{"k":"111","l":8}{"id":1}{"k":"222","l":9,"x":"abc"}{"id":22}"#;

/// `wire-protocol` section 16, example 21, and 6.2: records start from a fresh copy of the outer header.
#[test]
fn a_sow_frame_holds_one_message_per_record() {
    let (block, walk) = walked(&framed(&[SOW]));
    assert_eq!(walk.error, None);
    let entries = block.entries();
    assert_eq!(entries.len(), 3);
    assert_eq!(found(&block).len(), 2);
    assert_eq!(block.payload(entries[2]), br#"{"id":22}"#);
    assert_eq!(block.field(entries[2], Field::CorrelationId), Some(&b"abc"[..]));
    assert_eq!(block.field(entries[1], Field::CorrelationId), None);
    assert_eq!(block.field(entries[1], Field::QueryId), Some(&b"auto7"[..]));
}

#[test]
fn an_x_of_one_record_does_not_leak_into_the_next() {
    let body = br#"{"c":"sow","query_id":"q"}{"k":"1","l":1,"x":"a"}1{"k":"2","l":1}2"#;
    let (block, _) = walked(&framed(&[body]));
    assert_eq!(block.field(block.entries()[2], Field::CorrelationId), None);
}

#[test]
fn a_newline_between_records_and_an_empty_payload_are_legal() {
    let (block, walk) = walked(&framed(&[b"{\"c\":\"sow\"}{\"l\":0}\n{\"l\":2}ab\n"]));
    assert_eq!(walk.error, None);
    assert_eq!(found(&block).iter().map(|m| m.3.clone()).collect::<Vec<_>>(), [b"".to_vec(), b"ab".to_vec()]);
}

#[test]
fn corrupt_frames_end_the_walk_and_deliver_nothing_of_themselves() {
    let good = br#"{"c":"p","t":"t"}x"#;
    let broken: &[(&[u8], WireError)] = &[
        (b"abc", WireError::Header(HeaderError::Missing)),
        (b"{}", WireError::NoCommand),
        (b"{\"t\":\"x\"}", WireError::NoCommand),
        (b"{\"c\":\"sow\"}abc", WireError::Header(HeaderError::Missing)),
        (b"{\"c\":\"sow\"}{\"l\":1}a{\"k\":\"1\"}a", WireError::NoRecordLength),
        (b"{\"c\":\"sow\"}{\"l\":\"x\"}a", WireError::NoRecordLength),
        (b"{\"c\":\"sow\"}{\"l\":9}a", WireError::RecordTooLong(9)),
        (b"{\"c\":\"sow\"}{\"l\":18446744073709551615}a", WireError::RecordTooLong(u64::MAX)),
    ];
    for (bad, error) in broken {
        let (block, walk) = walked(&framed(&[good, bad, good]));
        assert_eq!(walk.error.as_ref(), Some(error));
        assert_eq!(found(&block).len(), 1);
        assert_eq!(walk.consumed, 4 + good.len());
    }
}

/// `wire-protocol` 2.2.
#[test]
fn a_length_above_the_limit_is_an_error_and_a_zero_length_is_skipped() {
    let (_, walk) = walked(&[0x80, 0, 0, 0]);
    assert_eq!(walk.error, Some(WireError::FrameTooLong(0x8000_0000, MAX_FRAME)));
    let (block, walk) = walked(&framed(&[b"", br#"{"c":"p"}"#, b"", b"", br#"{"c":"p"}"#]));
    assert_eq!((found(&block).len(), walk.error), (2, None));
}

#[test]
fn an_incomplete_frame_says_how_long_it_will_be() {
    let whole = framed(&[br#"{"c":"p","t":"a"}x"#, br#"{"c":"p","t":"b"}"#]);
    let first = 4 + 18;
    for cut in first..whole.len() {
        let (block, walk) = walked(&whole[..cut]);
        assert_eq!((walk.consumed, found(&block).len()), (first, 1), "{cut}");
        assert_eq!(walk.wanted, if cut < first + 4 { 0 } else { 4 + 17 });
    }
}

#[test]
fn a_repeated_header_is_recognised_only_if_every_byte_is_the_same() {
    let a = br#"{"c":"p","t":"a","sids":"1"}first"#;
    let b = br#"{"c":"p","t":"a","sids":"1"}{"c":"p"}"#;
    let c = br#"{"c":"p","t":"b","sids":"1"}third"#;
    let (block, _) = walked(&framed(&[a, b, c, a]));
    let repeated: Vec<_> = block.entries().iter().map(|e| e.is_repeated()).collect();
    assert_eq!(repeated, [false, true, false, false]);
    let topics: Vec<_> = found(&block).into_iter().map(|m| m.1).collect();
    assert_eq!(topics, ["a", "a", "b", "a"]);
    assert_eq!(block.payload(block.entries()[1]), br#"{"c":"p"}"#);
    assert_eq!(block.layouts.len(), 1, "one shape");
}

#[test]
fn headers_of_one_shape_and_different_commands_are_told_apart() {
    let (block, _) = walked(&framed(&[br#"{"c":"oof","t":"a"}"#, br#"{"c":"ack","t":"a"}"#]));
    let commands: Vec<_> = block.entries().iter().map(|e| block.command(*e)).collect();
    assert_eq!(commands, [CommandType::Oof, CommandType::Ack]);
}

#[test]
fn a_header_rewritten_by_its_escapes_is_not_compared_with() {
    let raw = br#"{"c":"p","t":"a\"b"}x"#;
    let (block, _) = walked(&framed(&[raw, raw]));
    assert!(!block.entries()[1].is_repeated());
    assert_eq!(found(&block)[1].1, "a\"b");
}

/// Splitting changes nothing: what follows an incomplete frame is found by the next walk.
#[test]
fn every_split_of_a_stream_gives_the_same_messages() {
    let stream = framed(&[
        br#"{"c":"p","t":"a","sids":"1"}one"#,
        br#"{"c":"p","t":"a","sids":"1"}two"#,
        SOW,
        b"",
        br#"{"c":"oof","t":"b\\c","k":"9"}"#,
        br#"{"c":"p","t":"a","sids":"1"}three"#,
    ]);
    let whole = found(&walked(&stream).0);
    assert_eq!(whole.len(), 6);
    for cut in 0..=stream.len() {
        let (block, walk) = walked(&stream[..cut]);
        let mut got = found(&block);
        got.extend(found(&walked(&stream[walk.consumed..]).0));
        assert_eq!(got, whole, "cut at {cut}");
    }
}

/// `wire-protocol` 6.2: outer headers of different shapes, one after the other, each show through their own records.
#[test]
fn each_record_shows_the_outer_header_of_its_own_frame() {
    let a: &[u8] = br#"{"c":"sow","t":"orders","query_id":"q1"}{"k":"1","l":1}x{"k":"2","l":1}y"#;
    let b: &[u8] = br#"{"c":"sow","query_id":"q22","x":"id"}{"k":"3","l":1}z"#;
    let (block, walk) = walked(&framed(&[a, b, a]));
    assert_eq!(walk.error, None);
    let rows = block.entries().iter().filter(|entry| entry.is_record());
    let shown: Vec<_> = rows
        .map(|row| {
            [Field::SowKey, Field::Topic, Field::QueryId, Field::CorrelationId].map(|f| block.text(*row, f))
        })
        .collect();
    let (one, two) =
        ([Some("1"), Some("orders"), Some("q1"), None], [Some("2"), Some("orders"), Some("q1"), None]);
    assert_eq!(shown, [one, two, [Some("3"), None, Some("q22"), Some("id")], one, two]);
    for row in block.entries().iter().filter(|entry| entry.is_record()) {
        let (alone, entry) = block.detach(*row);
        for field in Field::ALL {
            assert_eq!(alone.text(entry, *field), block.text(*row, *field), "{field:?}");
        }
        assert_eq!(alone.payload(entry), block.payload(*row));
    }
}

#[test]
fn an_empty_value_of_a_record_does_not_hide_that_of_the_outer_header() {
    let body = br#"{"c":"sow","t":"orders","x":"outer"}{"x":"","t":null,"l":1}1{"x":"own","l":1}2"#;
    let (block, _) = walked(&framed(&[body]));
    let text = |index: usize, field| block.text(block.entries()[index], field);
    assert_eq!(text(1, Field::CorrelationId), Some("outer"));
    assert_eq!(text(1, Field::Topic), Some("orders"));
    assert_eq!(text(2, Field::CorrelationId), Some("own"));
}

/// `wire-protocol` 3.2: bytes that are no text, in unknown keys, around values and within them, harm no value.
#[test]
fn headers_of_a_query_result_that_are_no_text_still_show_their_values() {
    let body = [
        &b"{\"c\":\"sow\",\"\xFFz\":\"\xC3\",\"t\":\"or\xC3\xA9\xFF\",\"query_id\":\"\\u00e9\"}"[..],
        b"\xE2\x82{\"k\":\"\xFF\\u00e9\\\"\xE2\x82\",\"\xC3\":\"\xE2\x82\",\"x\":\"\xE2\x82\xAC\",\"l\":1}x",
        b"\xAC{\"k\":\"2\xA9\",\"l\":1}\xAC",
    ];
    let body = body.concat();
    let (block, walk) = walked(&framed(&[&body, &body]));
    assert_eq!(walk.error, None);
    let rows: Vec<_> = block.entries().iter().filter(|entry| entry.is_record()).collect();
    let shown = |row| {
        [Field::Topic, Field::QueryId, Field::SowKey, Field::CorrelationId]
            .map(|field| block.text(row, field))
    };
    for pair in rows.chunks(2) {
        assert_eq!(
            shown(*pair[0]),
            [Some("or\u{e9}?"), Some("\u{e9}"), Some("?\u{e9}\"??"), Some("\u{20ac}")]
        );
        assert_eq!(shown(*pair[1]), [Some("or\u{e9}?"), Some("\u{e9}"), Some("2?"), None]);
        assert_eq!(block.payload(*pair[1]), b"\xAC");
    }
    assert_eq!(rows.len(), 4);
}

#[test]
fn a_decimal_number_is_read_up_to_the_largest_and_nothing_else_is_one() {
    let good = [("0", 0), ("007", 7), ("9999999999999999999", 9_999_999_999_999_999_999)];
    for (text, number) in good {
        assert_eq!(decimal(text.as_bytes()), Some(number), "{text}");
    }
    assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
    assert_eq!(decimal(b"000000000000000000000000000018446744073709551615"), Some(u64::MAX));
    for text in ["", "18446744073709551616", "99999999999999999999", "-1", "1a", "1 ", "\u{663}"] {
        assert_eq!(decimal(text.as_bytes()), None, "{text}");
    }
}

/// Shapes that take turns are kept once, and whatever a peer sends, what is noted of it is in proportion.
#[test]
fn shapes_that_take_turns_cost_no_more_than_one() {
    let header = br#"{"c":"sow","t":"orders","query_id":"q"}"#;
    let turns = [&header[..], &br#"{"k":"1","l":0}{"k":"12","l":00}{"l":0,"k":"1"}"#.repeat(1000)].concat();
    let (block, walk) = walked(&framed(&[&turns, &turns]));
    assert_eq!(walk.error, None);
    assert_eq!((block.entries().len(), block.layouts.len()), (2 * 3001, 4));

    let records: String = (1..3000).map(|n| format!("{{\"{}\":0,\"l\":0}}", "-".repeat(n % 50))).collect();
    let (mut block, _) = walked(&framed(&[&[&header[..], records.as_bytes()].concat()]));
    assert!(block.layouts.len() <= 3000 && block.spans.len() <= 3000 + 3, "{}", block.spans.len());
    let quiet = framed(&[br#"{"c":"p"}"#]);
    block.layouts.reserve(100 * KEPT_LAYOUTS);
    block.entries.reserve(100 * KEPT_ENTRIES);
    block.sow_headers.reserve(100 * KEPT_TEXT);
    block.copy_to_front(&quiet);
    block.walk(quiet.len(), MAX_FRAME, &mut HeaderReader::default());
    assert!(block.layouts.capacity() <= KEPT_LAYOUTS, "{}", block.layouts.capacity());
    assert!(block.entries.capacity() <= KEPT_ENTRIES, "{}", block.entries.capacity());
    assert!(block.sow_headers.capacity() <= KEPT_TEXT, "{}", block.sow_headers.capacity());
}
