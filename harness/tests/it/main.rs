//! Integration tests: they drive the real command, or hold a rule over the sources.

mod bad_input;
mod quickstart;
mod sandbox;
mod tidy;
