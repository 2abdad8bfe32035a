//! What the end-to-end tests and the demo are made of.
//!
//! | Module | What it does |
//! |---|---|
//! | [`environment`] | where the cluster, its tools and the images are |
//! | [`install`] | puts Evenkeel on the cluster, once per run |
//! | [`cluster`] | a namespace per test, removed afterwards; what it looked like, when the test fails |
//! | [`conditions`] | awaits what should come true, and says what it saw last when it does not |
//! | [`ports`] | the node ports that reach the cluster from here |
//! | [`fixtures`] | the objects that tests begin with |
//! | [`traffic`] | requests, and what became of each |
//! | [`demo`] | the show |

pub mod cluster;
pub mod conditions;
pub mod demo;
pub mod environment;
pub mod faults;
pub mod fixtures;
pub mod install;
pub mod ports;
pub mod traffic;
