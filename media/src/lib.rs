//! Media without I/O: SDP, RTP, ports and bridges as state machines. It knows no SIP.
//!
//! # Offer and answer
//!
//! A call has one [`Negotiation`](sdp::negotiate::Negotiation) per leg. What one leg's peer said is the template for what the
//! other leg is told, so a new call, a re-INVITE, a hold, a late offer and an UPDATE are all the same steps:
//!
//! 1. `a.receive_offer(Description::parse(body)?)`
//! 2. `b.make_offer(a.remote_offer(), port_b.addresses)` → the body for the other leg; before it, the port is opened with, or
//!    extended to, `b.streams_needed(a.remote_offer())` streams, and so is that of leg a
//! 3. `b.receive_answer(Description::parse(body)?, Finality::Final)`; then the port of leg b gets `b.streams()`
//! 4. `a.make_answer(b.remote(), port_a.addresses)` → the body for the first leg; then its port gets `a.streams()`
//!
//! When step 2 or 3 fails: `b.rollback()`, `a.reject_offer()`, and both legs are as before. In step 3 an answer in an
//! unreliable provisional response is [`Finality::Early`](sdp::negotiate::Finality): it may be followed by another. In step 4
//! an answer once made is repeated in the same transaction, whoever picks up; if then
//! [`passes_unchanged`](sdp::negotiate::passes_unchanged) fails, the caller needs a new offer. Each device that rings has a
//! `Negotiation` of its own.
//!
//! # The life of a packet
//!
//! The driver (in the root crate) reads a datagram into its one buffer and calls [`Engine::handle_packet`] with the socket's
//! [`SocketId`] and the source. The slot in the id finds the [port]; its [stream](port::rtp) checks that it is RTP or
//! RTCP ([`rtp`]), believes the source or turns it away (S2), and counts it ([`quality`]). The bridge's route for the payload
//! type names the stream of the other port, whose direction and address say whether and where the octets go: they are
//! returned as [`Transmit`], in the same buffer, and as they came while the receiver's first source speaks; when another one
//! takes over, it goes on with the first one's numbers ([`rtp::rewrite`]), and RTCP is mapped ([`rtp::report`]). Nothing is
//! copied, allocated or locked.
//!
//! Sound that the other end cannot decode goes into a transcoder instead ([`transcode`]). What comes out is due by the clock:
//! [`Engine::handle_timeout`], then [`Engine::poll_transmit`]. Both ends then have RTCP of ours, and signaling is told why.
//!
//! Who is in a bridge is declared as a whole with [`Engine::arrange`]. One other party is relayed or transcoded as above, to several
//! receivers with a copy for each further one; several others at once are summed up by the bridge's own clock ([`mix`]), and of their
//! pictures the speaker's is shown. A party that waits hears a sound ([`play`]).
//!
//! Commands come between packets; what signaling must know waits in [`Engine::poll_output`].
#![warn(missing_docs)]

pub mod arrange;
mod bridge;
pub mod codec;
pub mod dtmf;
mod engine;
pub mod jitter;
pub mod mix;
pub mod play;
pub mod port;
pub mod quality;
pub mod resample;
pub mod rtp;
pub mod sdp;
pub mod transcode;

pub use arrange::{BridgeId, Kinds, Member, SoundId};
pub use bridge::MAX_MEMBERS;
pub use engine::{Engine, Event, MEDIA_TIMEOUT, Moving, Transmit};
pub use play::Sound;
pub use port::{PortId, Settings, SocketId};
