//! Nonces that prove themselves.
