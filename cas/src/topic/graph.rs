//! Topic `graph`: who is in a call with which devices, and what each carries. A user is a node, a device an edge (000-12, 000-13).

use super::declare::bodies;
use super::operation::operations;
use super::tel::{Media, PartyState};
use super::{Done, Seen, reply, write_body};
use crate::error::Error;
use crate::permission::{Caller, Owner, Reach, Right, decide};
use crate::provider::Graph as Provider;
use crate::text::{CallId, DeviceId, UserName};

operations! { "graph";
    /// Shows the graph of a call.
    "get" Get(Get) -> Graph, Quick, Own;
}

/// The right to see a graph, in replies and in events.
pub(crate) const GET: Right<'static> = Right { topic: "graph", message: "get", user: Reach::Own };

bodies! {
    /// Request of `get`.
    Get {
        /// The call.
        call: CallId,
    }
    /// The graph of a call.
    Graph {
        /// The call.
        call: CallId,
        /// Its users.
        nodes: Vec<Node>,
        /// Their devices.
        edges: Vec<Edge>,
        /// Nobody may join.
        locked: bool = default,
    }
    /// A user, or an outside number, in a call.
    Node {
        /// The user's name, or the number.
        id: String,
        /// The user, if they are one of ours.
        user: Option<UserName> = default,
        /// What the others do not get of it.
        muted: Vec<Media> = default,
        /// It moderates the conference.
        moderator: bool = default,
    }
    /// A device of a node.
    Edge {
        /// The node.
        node: String,
        /// The device.
        device: DeviceId,
        /// What it carries.
        media: Vec<Media>,
        /// Where it is in the call.
        state: PartyState,
    }
    /// Body of `changed`.
    Changed {
        /// The graph before.
        old: Graph,
        /// The graph now.
        new: Graph,
    }
}

impl Graph {
    /// Returns the users in the call.
    #[must_use]
    pub fn users(&self) -> Vec<UserName> {
        self.nodes.iter().filter_map(|node| node.user.clone()).collect()
    }
}

/// Serves a request.
pub(crate) async fn serve<P: Provider>(provider: &P, caller: &Caller, request: Request) -> Result<Done, Error> {
    let right = request.right();
    let Request::Get(request) = request;
    let graph = provider.graph(&request.call).await?;
    decide(caller, right, Owner::Users(&graph.users()))?;
    reply(&graph)
}

impl Seen for Changed {
    fn message(&self) -> &str {
        "changed"
    }

    fn view(&self, _: &Caller) -> u32 {
        0
    }

    fn write(&self, _: u32, out: &mut Vec<u8>) {
        write_body(self, out);
    }
}
