//! Benchmarks of ragft; see `benches/benches/`.
