//! An AMPS-speaking server inside the process.
