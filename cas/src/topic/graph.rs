//! Topic `graph`: who is in a call with which devices, and what each carries. A user is a node, a device an edge (000-12, 000-13).

use super::declare::bodies;
use super::operation::operations;
use super::tel::privacy::Sight;
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

/// The id of a node that is nobody's to know.
pub const ANONYMOUS: &str = "anonymous";

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
        /// It asked not to be shown, as in calls: its id is `anonymous` then, and it has no devices.
        anonymous: bool = default,
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

    fn privacy(&self) -> impl Iterator<Item = (bool, Option<&UserName>)> {
        self.nodes.iter().map(|node| (node.anonymous, node.user.as_ref()))
    }

    /// Takes out whom a login does not see, unless it is itself one of them.
    fn hide(&mut self, own: Option<&UserName>) {
        let Self { nodes, edges, .. } = self;
        for node in nodes.iter_mut().filter(|node| node.anonymous && node.user.is_some() && node.user.as_ref() != own) {
            edges.retain(|edge| edge.node != node.id);
            (node.id, node.user) = (ANONYMOUS.to_owned(), None);
        }
    }
}

/// Serves a request.
pub(crate) async fn serve<P: Provider>(provider: &P, caller: &Caller, request: Request) -> Result<Done, Error> {
    let right = request.right();
    let Request::Get(request) = request;
    let mut graph = provider.graph(&request.call).await?;
    decide(caller, right, Owner::Users(&graph.users()))?;
    let sight = Sight::of(graph.privacy(), caller, GET);
    if sight != Sight::ALL {
        let own = sight.own(graph.privacy()).and_then(|(_, user)| user.cloned());
        graph.hide(own.as_ref());
    }
    reply(&graph)
}

impl Seen for Changed {
    fn message(&self, _: u64) -> &str {
        "changed"
    }

    fn view(&self, caller: &Caller) -> u64 {
        Sight::of(self.new.privacy().chain(self.old.privacy()), caller, GET).bits()
    }

    fn write(&self, view: u64, out: &mut Vec<u8>) {
        let sight = Sight::from_bits(view);
        if sight == Sight::ALL {
            return write_body(self, out);
        }
        let own = sight.own(self.new.privacy().chain(self.old.privacy())).and_then(|(_, user)| user);
        let mut shown = self.clone();
        shown.new.hide(own);
        shown.old.hide(own);
        write_body(&shown, out);
    }
}
