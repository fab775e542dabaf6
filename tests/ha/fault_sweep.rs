//! Every step on the way to a recovered connection, with every fault that can strike it: whoever makes the connection comes
//! through, no stored publish is lost or sent twice, and nobody is left waiting.

mod run;
mod table;

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use parking_lot::Mutex;

use run::run;
use table::{Case, Step, Trouble, Who};

/// Cases that run at a time; most of what they do is to wait.
const AT_A_TIME: usize = 6;

/// HA-10, HA-15, HA-18, HA-20, D-15, PS-8, PS-9; section 3 and 7: every combination recovers or reports as specified.
#[test]
fn whatever_fails_on_the_way_to_a_connection_the_client_recovers_and_loses_nothing() {
    let cases = table::cases();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let start = Instant::now();
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(*case)));
            results.lock().insert(*case, outcome.is_ok());
        }
    };
    thread::scope(|scope| (0..AT_A_TIME).for_each(|_| drop(scope.spawn(work))));
    let results = results.into_inner();
    assert_eq!(results.len(), cases.len());
    let text = format!("{}{} combinations in {:?}\n", tabulated(&results), results.len(), start.elapsed());
    // Past the capture of the test harness: how much ran is to be seen although the test passes.
    std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
    let failed: Vec<_> = results.iter().filter(|(_, recovered)| !**recovered).map(|(case, _)| case).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// For each step and fault how many of its combinations recovered, of how many.
fn tabulated(results: &BTreeMap<Case, bool>) -> String {
    let mut text = format!("\nrecovered, of {} kinds of connecting\n{:20}", Who::ALL.len(), "");
    Trouble::ALL.iter().for_each(|trouble| text += &format!("{:>13}", format!("{trouble:?}")));
    for step in Step::ALL {
        text += &format!("\n{:20}", format!("{step:?}"));
        for trouble in Trouble::ALL {
            let ran = results.iter().filter(|(case, _)| (case.step, case.trouble) == (step, trouble));
            let recovered = ran.clone().filter(|(_, recovered)| **recovered).count();
            let cell = match ran.count() {
                0 => "-".to_owned(),
                count => format!("{recovered} of {count}"),
            };
            text += &format!("{cell:>13}");
        }
    }
    text + "\n"
}
