//! Media without I/O: SDP, RTP, ports and bridges as state machines. It knows no SIP.
#![warn(missing_docs)]
