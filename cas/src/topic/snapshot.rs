//! The state that takes the place of events that are gone: what the login subscribed to, as it is now.

use super::event::Snapshot;
use super::{Done, presence, reply, tel};
use crate::error::Error;
use crate::permission::{Caller, Reach};
use crate::provider::Providers;
use crate::text::UserName;

/// What to show.
#[derive(Debug)]
pub struct Request {
    /// Whether the login subscribed to calls.
    pub(crate) tel: bool,
    /// The users whose presence it subscribed to.
    pub(crate) presence: Vec<UserName>,
    /// Topics whose state only the client can ask for.
    pub(crate) ask: Vec<String>,
}

/// Collects the state.
pub(crate) async fn serve<P: Providers>(providers: &P, caller: &Caller, request: Request) -> Result<Done, Error> {
    let mut snapshot = Snapshot { tel: None, presence: None, ask: request.ask };
    if request.tel && caller.reach(tel::SHOW) != Reach::None {
        let list = tel::Request::List(Box::new(tel::List { user: None, pickup: false, subscribe: false }));
        snapshot.tel = Some(tel::serve(providers, caller, list).await?.body);
    }
    if !request.presence.is_empty() && caller.reach(presence::GET) != Reach::None {
        let get = presence::Get { users: request.presence, addresses: Vec::new(), parts: Vec::new(), subscribe: false };
        snapshot.presence = Some(presence::serve(providers, caller, presence::Request::Get(Box::new(get))).await?.body);
    }
    reply(&snapshot)
}
