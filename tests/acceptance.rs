//! Every rule of the acceptance list has a test that cites it.
//!
//! A test cites rules by their numbers at the beginning of its doc comment, before everything else that it proves:
//! `/// 35, D-16, table 3.4: what it shows`, `/// 63 to 69, H-2.`

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const RULES: &str = include_str!("data/acceptance_rules.txt");

/// The rules that no test cites yet, and what they wait for; each with a comment that says why. There are none.
const OPEN: &[(u32, &str)] = &[];

/// The promise of each rule.
fn rules() -> BTreeMap<u32, &'static str> {
    let lines = RULES.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rule = |line: &'static str| {
        let (number, promise) = line.split_once(' ').expect("a number and a promise");
        (number.parse().expect("a number"), promise)
    };
    lines.map(rule).collect()
}

#[test]
fn every_rule_has_a_test_or_is_known_to_be_open() {
    let rules = rules();
    assert!(rules.keys().copied().eq(1..=143), "the list is complete");
    let mut tests: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for (name, number) in citations(&text, file.starts_with(root().join("tests"))) {
            tests.entry(number).or_default().push(name);
        }
    }
    let unknown: Vec<_> = tests.iter().filter(|(number, _)| !rules.contains_key(number)).collect();
    assert!(unknown.is_empty(), "there are no such rules: {unknown:?}");
    let missing: Vec<u32> = rules.keys().copied().filter(|number| !tests.contains_key(number)).collect();
    // Past the capture of the test harness: what is missing is to be seen although the test passes.
    let mut text = format!("{} of {} rules have a test\n", rules.len() - missing.len(), rules.len());
    let waits_for = |number| OPEN.iter().find(|(open, _)| *open == number).map_or("a test", |(_, what)| what);
    for number in &missing {
        text += &format!("  open: {number}, {}; waits for {}\n", rules[number], waits_for(*number));
    }
    std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
    let is_open = |number: &&u32| OPEN.iter().any(|(open, _)| open == *number);
    let forgotten: Vec<_> = missing.iter().filter(|number| !is_open(number)).collect();
    assert!(forgotten.is_empty(), "no test cites these rules: {forgotten:?}");
}

/// 11: what a builder settles has no setter, and the examples that must not compile say so.
#[test]
fn nothing_sets_a_store_or_a_subscription_manager_of_a_client() {
    let builder = fs::read_to_string(root().join("src/client/builder.rs")).unwrap();
    for setter in ["set_publish_store", "set_bookmark_store", "set_subscription_manager"] {
        let mut refused = builder.split("```compile_fail").skip(1).map(|after| after.split("```").next());
        let is_refused = refused.any(|example| example.is_some_and(|text| text.contains(setter)));
        assert!(is_refused, "no example shows that there is no {setter}");
        for file in sources().iter().filter(|file| file.starts_with(root().join("src"))) {
            let text = fs::read_to_string(file).unwrap();
            assert!(!text.contains(&format!("fn {setter}")), "{}", file.display());
        }
    }
}

#[test]
fn citations_are_read_from_the_beginning_of_a_doc_comment() {
    let table: [(&str, &[u32]); 9] = [
        ("/// 96: a stream.\n#[test]\nfn a() {", &[96]),
        ("/// 35, 36, D-16, table 3.4: in 7 outages.\n#[test]\nfn a() {", &[35, 36]),
        ("/// 63 to 65,\n/// 70, S-8.\n#[cfg(unix)]\n#[test]\nfn a() {", &[63, 64, 65, 70]),
        ("/// HA-1, 12.\n#[test]\nfn a() {", &[12]),
        ("/// 12.\n", &[]),
        ("/// Five, section 17.9, 3.4: no rule.\n#[test]\nfn a() {", &[]),
        ("/// 5 seconds, 6 at most.\n#[test]\nfn a() {", &[]),
        ("/// 12.\nconst A: u32 = 1;\n#[test]\nfn a() {", &[]),
        ("/// 12: a promise, proved for each store by a macro.\nfn a(store: Store) {", &[12]),
    ];
    for (text, expected) in table {
        let numbers: Vec<u32> = citations(text, true).into_iter().map(|(_, number)| number).collect();
        assert_eq!(numbers, expected, "{text}");
    }
    let helper = "/// 12: of a function that is no test.\nfn a() {";
    assert_eq!(citations(helper, false), [], "in the library only what is marked as a test counts");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// All Rust files that may have tests.
fn sources() -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![root().join("src"), root().join("tests")]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The rules that the tests of a file cite, each with the line that names the test. In a file of tests the promises count
/// too that a macro makes tests of.
fn citations(text: &str, is_test_file: bool) -> Vec<(String, u32)> {
    let (mut found, mut comment, mut is_test) = (Vec::new(), String::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            comment = format!("{comment} {}", words.trim());
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]";
        } else {
            if line.starts_with("fn ") && (is_test || is_test_file) {
                found.extend(cited(&comment).into_iter().map(|number| (line.to_owned(), number)));
            }
            (comment, is_test) = (String::new(), false);
        }
    }
    found
}

/// The numbers in the list that a doc comment begins with.
fn cited(comment: &str) -> Vec<u32> {
    let list = comment.split_once(": ").map_or(comment, |(list, _)| list);
    list.split(',').flat_map(|item| range(item.trim().trim_end_matches('.'))).collect()
}

fn range(item: &str) -> std::ops::RangeInclusive<u32> {
    let (first, last) = item.split_once(" to ").unwrap_or((item, item));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) => first..=last,
        _ => std::ops::RangeInclusive::new(1, 0),
    }
}
