//! Integration tests: they drive the real command, or hold a rule over the sources.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod bad_input;
mod bucket;
mod choices;
mod endpoint;
mod export;
mod fuzz;
mod gate;
mod install;
mod models;
mod page;
mod plan;
mod predictions;
mod quickstart;
mod sandbox;
mod scale;
mod search;
mod server;
mod threads;
mod tidy;
mod world;
