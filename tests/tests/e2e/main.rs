//! End to end: real objects, a real cluster, real traffic. Each test has a namespace of its own.

mod bad_input;
mod examples;
mod faults;
mod health;
mod installation;
mod listeners;
mod nodes;
mod protocols;
mod reading;
mod rollout;
mod routing;
mod scaling;
mod targets;
mod validation;
