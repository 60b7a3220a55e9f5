//! Integration tests: they drive the real command, or hold a rule over the sources.
