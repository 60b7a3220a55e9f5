//! The command `ragft`.

fn main() {}
