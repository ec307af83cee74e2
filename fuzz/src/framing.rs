//! `sip::framing`: however a stream is cut into reads, the same messages come out of it, and none is longer than its bounds.

use sip::framing::{Fault, Frame, Framing, Limits};

const LIMITS: Limits = Limits { header: 4096, body: 4096 };

/// Tries one stream, cut in three ways.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let whole = frames(data, data.len().max(1));
    for size in [7, 64] {
        assert_eq!(frames(data, size), whole, "in reads of {size}");
    }
    whole.iter().any(|frame| matches!(frame, Ok(Frame::Message(_))))
}

fn frames(data: &[u8], size: usize) -> Vec<Result<Frame, Fault>> {
    let mut framing = Framing::new(LIMITS);
    let mut out = Vec::new();
    for read in data.chunks(size) {
        framing.handle_input(read);
        while let Some(frame) = framing.poll_output() {
            if let Ok(Frame::Message(message)) = &frame {
                assert!(message.len() <= LIMITS.header + LIMITS.body);
            }
            out.push(frame.map_err(|error| error.fault));
        }
    }
    out
}
