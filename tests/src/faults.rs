//! What a client sees while something goes away: each case breaks or changes one thing under a steady load of every
//! protocol, waits until all is well again, and counts what failed.
//!
//! ```text
//! Stage (objects) ─► Steady (load) ─► Case (fault) ─► Run (what became of each request) ─► table
//! ```
//!
//! For the local cluster only: faults stop and kill its processes.

pub mod cases;
pub mod clock;
pub mod control;
pub mod machine;
pub mod metrics;
pub mod play;
pub mod removals;
pub mod run;
pub mod stage;
pub mod steady;
pub mod table;
