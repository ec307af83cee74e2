//! Which nonce counts were used.
