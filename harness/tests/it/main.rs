//! Integration tests: they drive the real command, or hold a rule over the sources.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod bad_input;
mod gate;
mod page;
mod plan;
mod quickstart;
mod sandbox;
mod threads;
mod tidy;
mod world;
