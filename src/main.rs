//! Command line to verb.

fn main() {}
