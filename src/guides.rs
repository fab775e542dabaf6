//! The guides of `docs/`, whose programs are run as doc tests. Exists only while those are collected.

macro_rules! guides {
    ($($name:ident: $file:literal,)+) => {
        $(#[doc = include_str!(concat!("../docs/", $file))]
        mod $name {})+
    };
}

guides! {
    getting_started: "getting-started.md",
    commands: "commands.md",
    threads_and_callbacks: "threads-and-callbacks.md",
    error_handling: "error-handling.md",
    high_availability: "high-availability.md",
    queues: "queues.md",
    testing_your_program: "testing-your-program.md",
    performance: "performance.md",
    design_decisions: "design-decisions.md",
}

#[cfg(feature = "file-store")]
guides! {
    reliable_publishing: "reliable-publishing.md",
    replay: "replay.md",
}
