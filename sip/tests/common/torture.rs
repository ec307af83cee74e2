//! RFC 4475's messages, byte for byte (its appendix A), each with what is owed to it. The table serves `sip/tests/torture.rs`, the
//! fuzz corpus, and whoever runs the messages against the whole endpoint.
//!
//! `baddn.dat` has the empty line at its end that the appendix forgot. Who the messages are for (`user@example.com` and others) is
//! unknown to a test endpoint: where the duty is [`Duty::Accept`], 404 or 401 is as good as 200, but 400 or 5xx is a fault.

/// What tandem does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Well formed: it parses, survives print and parse, and nothing in its syntax may lead to a refusal.
    Accept,
    /// The message layer refuses it with this status.
    Refuse(u16),
    /// The message layer drops it without an answer.
    Drop,
    /// It parses; a higher layer owes one of these statuses.
    Owe(&'static [u16]),
    /// A response that parses, and that a higher layer drops instead of forwarding it.
    OweDrop,
}

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct Torture {
    /// The RFC's name for it.
    pub name: &'static str,
    /// The section of RFC 4475.
    pub section: &'static str,
    /// The datagram.
    pub bytes: &'static [u8],
    /// What is owed.
    pub duty: Duty,
    /// Where the RFC leaves a choice: what was chosen and why. Empty where there is none.
    pub choice: &'static str,
}

macro_rules! messages {
    ($($name:literal $section:literal $duty:expr, $choice:literal;)*) => {
        /// All 49 messages, in the order of the RFC.
        pub const MESSAGES: &[Torture] = &[$(Torture {
            name: $name,
            section: $section,
            bytes: include_bytes!(concat!("../torture/", $name, ".dat")),
            duty: $duty,
            choice: $choice,
        }),*];
    };
}

use Duty::{Accept, Drop, Owe, OweDrop, Refuse};

messages! {
    "wsinv" "3.1.1.1" Accept, "";
    "intmeth" "3.1.1.2" Owe(&[501]), "escaped control characters in a quoted display name are legal and kept, but display_name() drops them (S6)";
    "esc01" "3.1.1.3" Accept, "";
    "escnull" "3.1.1.4" Owe(&[401, 403, 404]), "%00 never makes an AOR or a user of ours (S7), so that nobody is registered under a shortened name";
    "esc02" "3.1.1.5" Owe(&[501]), "";
    "lwsdisp" "3.1.1.6" Accept, "";
    "longreq" "3.1.1.7" Accept, "";
    "dblreq" "3.1.1.8" Accept, "";
    "semiuri" "3.1.1.9" Accept, "";
    "transports" "3.1.1.10" Accept, "";
    "mpart01" "3.1.1.11" Accept, "";
    "unreason" "3.1.1.12" Accept, "";
    "noreason" "3.1.1.13" Accept, "";
    "badinv01" "3.1.2.1" Refuse(400), "";
    "clerr" "3.1.2.2" Refuse(400), "";
    "ncl" "3.1.2.3" Refuse(400), "";
    "scalar02" "3.1.2.4" Refuse(400), "";
    "scalarlg" "3.1.2.5" Drop, "";
    "quotbal" "3.1.2.6" Refuse(400), "no guess where the quote ends: two readers would guess differently";
    "ltgtruri" "3.1.2.7" Refuse(400), "strict: a start line has one reading";
    "lwsruri" "3.1.2.8" Refuse(400), "strict: a start line has one reading";
    "lwsstart" "3.1.2.9" Refuse(400), "strict: a start line has one reading";
    "trws" "3.1.2.10" Refuse(400), "strict: a start line has one reading";
    "escruri" "3.1.2.11" Refuse(400), "strict: no layer above can forget to strip the headers (S7)";
    "baddate" "3.1.2.12" Accept, "lenient: Date means nothing to us, and a wrong one is the sender's affair";
    "regbadct" "3.1.2.13" Owe(&[400]), "strict: whose parameters they are cannot be told in general";
    "badaspec" "3.1.2.14" Refuse(400), "strict: the space would have to be guessed away in what we forward";
    "baddn" "3.1.2.15" Refuse(400), "strict where the bare words hold a comma; other separators that carry no structure are let pass";
    "badvers" "3.1.2.16" Refuse(505), "";
    "mismatch01" "3.1.2.17" Refuse(400), "";
    "mismatch02" "3.1.2.18" Refuse(501), "";
    "bigcode" "3.1.2.19" Drop, "";
    "badbranch" "3.2.1" Owe(&[400, 200, 404]), "parsed, branch and all: to match as RFC 2543 or to refuse is the transaction layer's choice";
    "insuf" "3.3.1" Refuse(400), "";
    "unkscm" "3.3.2" Owe(&[416]), "";
    "novelsc" "3.3.3" Owe(&[416, 404]), "";
    "unksm2" "3.3.4" Owe(&[400]), "";
    "bext01" "3.3.5" Owe(&[420]), "";
    "invut" "3.3.6" Owe(&[415]), "";
    "regaut01" "3.3.7" Owe(&[401]), "";
    "multi01" "3.3.8" Refuse(400), "";
    "mcl01" "3.3.9" Refuse(400), "";
    "bcast" "3.3.10" OweDrop, "";
    "zeromf" "3.3.11" Owe(&[200, 404, 483]), "483 only where we would forward; an OPTIONS to ourselves is answered";
    "cparam01" "3.3.12" Accept, "";
    "cparam02" "3.3.13" Accept, "";
    "regescrt" "3.3.14" Accept, "";
    "sdp01" "3.3.15" Owe(&[406, 400]), "";
    "inv2543" "3.4.1" Accept, "lenient: no branch, no From tag, no Max-Forwards, as RFC 2543 allowed";
}
