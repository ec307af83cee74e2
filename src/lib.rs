//! tandem: the map of the system.
//!
//! A SIP switch. The protocols are in three crates without I/O, [`sip`], [`media`] and [`cas`]; this crate has the sockets, the storage and
//! the loops that own state.
//!
//! | to find | look in |
//! | --- | --- |
//! | how the parts are put together | [`app`] |
//! | the loop that owns SIP: endpoint, calls, bindings | `signaling.rs` |
//! | SIP sockets; media threads; DNS | [`net`], [`net::rtp`], `net/dns.rs` |
//! | what a request outside a dialog comes to | [`request`] |
//! | where what is dialled leads, whoever dials it | [`route`] |
//! | calls: ringing, answer, hold, the end, the record | [`call`] |
//! | whether people can be reached, and who watches them | [`presence`], `signaling/watcher.rs` |
//! | who we serve, and where their devices are | [`user`], [`location`] |
//! | the loop that serves client applications | [`clients`] |
//! | CAS over HTTP and WebSocket, documents, health, metrics | [`http`] |
//! | how the switch answers CAS | [`provider`] |
//! | applications of CAS that are devices themselves | [`thin`] |
//! | calls that are over, per user | [`history`] |
//! | logs, and what is counted | [`telemetry`] |
//! | what survives a restart | [`storage`] |
//! | the configuration, every key of it | [`config`] |
//! | the command line | [`cli`] |
//!
//! **One INVITE.** [`net`] reads it; `signaling.rs` gives it to [`sip::Endpoint`], whose event goes to [`request`]: who calls, whom, where are
//! the devices. `signaling/resolve.rs` finds next hops by name where there are names. [`call::Calls`] rings the devices, negotiates with
//! [`media::sdp`], opens ports on the media threads and connects them when the first 2xx comes.
//!
//! **One RTP packet.** A media thread of [`net::rtp`] reads it into its buffer, [`media::Engine`] says where it goes, and it leaves from the
//! same buffer. Signaling never sees it.
//!
//! **One CAS request.** [`http`] decodes it on a thread of its own and gives it to [`clients`], where [`cas::server::Server`] decides who asks and
//! whether they may; [`provider`] asks the signaling loop by its door, `signaling/ask.rs`. What happens there comes back as news and goes to
//! whoever subscribed.
//!
//! **One REGISTER.** [`request`] checks the digest and computes the new bindings with [`sip::registrar`]; [`location`] takes them at once,
//! [`storage`] writes them, and the 200 leaves when they are on the disk.

pub mod app;
pub mod call;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod config;
pub mod device;
pub mod history;
pub mod http;
pub mod inside;
pub mod location;
pub mod net;
pub mod pii;
pub mod presence;
pub mod provider;
pub mod request;
mod retry;
pub mod route;
mod signaling;
pub mod storage;
pub mod telemetry;
pub mod thin;
pub mod user;
