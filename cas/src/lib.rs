//! The client application server without I/O. Empty until its first topic: see the issue list.
#![warn(missing_docs)]
