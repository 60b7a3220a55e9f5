//! Integration tests: they drive the real command, or hold a rule over the sources.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod bad_input;
mod choices;
mod fuzz;
mod gate;
mod plan;
mod predictions;
mod quickstart;
mod sandbox;
mod threads;
mod tidy;
mod world;
