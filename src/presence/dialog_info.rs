//! Dialog information (RFC 4235): what a user's devices are doing, for the lamps of others. Always the full state.

use bytes::Bytes;
use sip::Aor;
use sip::message::header::Replaces;

use super::xml::{push_escaped, push_uri};
use crate::call::graph::{self, Standing, View};
use crate::call::party::Who;
use crate::config::Trunk;

/// The content type.
pub const TYPE: &str = "application/dialog-info+xml";

/// Most dialogs that a document shows; further ones are left out. A lamp shows one.
pub const MAX_DIALOGS: usize = 20;

/// How much a watcher may see of a user's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sight {
    /// That there is one.
    State,
    /// Also with whom.
    Parties,
    /// Also what an INVITE with Replaces needs to pick one up that rings (RFC 3891).
    Ringing,
    /// Also what it needs to take over one that is established: only the user's own devices may.
    Whole,
}

/// One leg of a user, as the user's device sees it.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The call.
    pub view: &'a View,
    /// The user in it.
    pub party: &'a graph::Party,
    /// The leg; none before a device is reached.
    pub leg: Option<&'a graph::Leg>,
    /// What names the leg's dialog: `to_tag` is the device's, `from_tag` is ours. None before the device has a tag.
    pub names: Option<Replaces>,
}

/// Writes the document of a user.
#[must_use]
pub fn print(aor: &Aor, version: u32, sight: Sight, shown: &[Shown<'_>]) -> Bytes {
    let mut text = String::with_capacity(256 + 512 * shown.len().min(MAX_DIALOGS));
    text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"");
    text.push_str(&version.to_string());
    text.push_str("\" state=\"full\" entity=\"");
    push_uri(&mut text, aor);
    text.push_str("\">");
    for shown in shown.iter().take(MAX_DIALOGS) {
        push_dialog(&mut text, aor, sight, shown);
    }
    if shown.is_empty() {
        // Some phones leave a lamp lit when a document has no dialog at all.
        text.push_str("<dialog id=\"none\"><state>terminated</state></dialog>");
    }
    text.push_str("</dialog-info>\r\n");
    text.into()
}

fn push_dialog(text: &mut String, aor: &Aor, sight: Sight, shown: &Shown<'_>) {
    let leg = shown.leg.map_or(0, |leg| leg.id.0);
    text.push_str(&format!("<dialog id=\"{}-{}-{leg}\"", shown.view.id, shown.party.id.0));
    if let Some(names) = shown.names.as_ref().filter(|_| is_named(shown, sight)) {
        for (name, value) in [("call-id", &names.call_id), ("local-tag", &names.to_tag), ("remote-tag", &names.from_tag)] {
            text.push_str(&format!(" {name}=\""));
            push_escaped(text, value);
            text.push('"');
        }
    }
    let calls = shown.view.parties.first().is_some_and(|first| first.id == shown.party.id);
    text.push_str(if calls { " direction=\"initiator\"" } else { " direction=\"recipient\"" });
    text.push_str("><state>");
    text.push_str(state(shown));
    text.push_str("</state>");
    // Phones with several keys for a user tell the calls apart by it.
    text.push_str("<local><identity>");
    push_uri(text, aor);
    text.push_str("</identity><target uri=\"");
    push_uri(text, aor);
    if shown.party.state == Standing::Holding {
        // RFC 4235 §4.1.3.2 and RFC 5359 §2.1: the local end renders no media.
        text.push_str("\"><param pname=\"+sip.rendering\" pvalue=\"no\"/></target></local>");
    } else {
        text.push_str("\"/></local>");
    }
    let other = shown.view.parties.iter().find(|party| party.id != shown.party.id && party.state != Standing::Left);
    if let Some(other) = other.filter(|other| sight >= Sight::Parties && !other.anonymous) {
        push_remote(text, other);
    }
    text.push_str("</dialog>");
}

/// Returns true where a watcher sees what names a dialog. Whoever knows it could try to speak in it: it is told only where it is of use (S5).
fn is_named(shown: &Shown<'_>, sight: Sight) -> bool {
    let rings = shown.leg.is_some_and(|leg| leg.state == Standing::Ringing);
    sight == Sight::Whole || (sight == Sight::Ringing && rings)
}

fn state(shown: &Shown<'_>) -> &'static str {
    match shown.leg.map_or(shown.party.state, |leg| leg.state) {
        Standing::Calling if shown.view.ringing_at.is_none() => "trying",
        Standing::Ringing if shown.leg.is_none() => "trying",
        Standing::Calling | Standing::Ringing => "early",
        Standing::Connected | Standing::Holding => "confirmed",
        Standing::Left => "terminated",
    }
}

fn push_remote(text: &mut String, other: &graph::Party) {
    let remote = match &other.who {
        Who::User(_) => Aor::parse(&other.address),
        Who::Outside { number, .. } if number.contains('@') => Aor::parse(number),
        Who::Outside { trunk, number } => Aor::new(number, &Trunk::domain(trunk)), // whatever it is, it is nobody's of ours (S6)
    };
    let Some(remote) = remote else { return };
    text.push_str("<remote><identity");
    if let Some(name) = &other.name {
        text.push_str(" display=\"");
        push_escaped(text, name);
        text.push('"');
    }
    text.push('>');
    push_uri(text, &remote);
    text.push_str("</identity><target uri=\"");
    push_uri(text, &remote);
    text.push_str("\"/></remote>");
}

#[cfg(test)]
mod tests {
    use media::Kinds;

    use super::*;
    use crate::call::Id;
    use crate::call::graph::{Constructed, Leg, Party, State};
    use crate::call::leg::LegId;
    use crate::call::party::PartyId;

    fn party(id: u16, who: Who, address: &str, state: Standing) -> Party {
        let leg = Leg {
            id: LegId(id.into()),
            device: None,
            application: false,
            dialog: None,
            contact: String::new(),
            state,
            gives: Kinds::NONE,
            takes: Kinds::NONE,
        };
        let name = Some(format!("\"{id}\" & co"));
        Party {
            id: PartyId(id),
            who,
            address: address.into(),
            name,
            anonymous: false,
            state,
            came_at: 0,
            held_at_device: false,
            muted: Kinds::NONE,
            silenced: Kinds::NONE,
            may_film: true,
            legs: vec![leg],
        }
    }

    fn view(caller: Standing, callee: Standing, ringing_at: Option<u64>) -> View {
        let number = Who::Outside { trunk: "t".into(), number: "+4930<".into() };
        View {
            id: Id(5),
            state: State::Ringing,
            parties: vec![party(0, number, "+4930@t", caller), party(1, Who::User("bob".into()), "bob@h", callee)],
            constructed: Constructed::Direct,
            dialled: "bob".into(),
            started_at: 0,
            ringing_at,
            answered_at: None,
            ended_at: None,
            slot: None,
            waits: false,
            joined: None,
            conference: None,
            why: None,
        }
    }

    fn printed(view: &View, of: u16, sight: Sight) -> String {
        let party = view.party(PartyId(of)).unwrap();
        let names = Replaces { call_id: "c<1".into(), to_tag: "device".into(), from_tag: "ours".into(), early_only: false };
        let shown = [Shown { view, party, leg: party.legs.first(), names: Some(names) }];
        String::from_utf8(print(&Aor::new("bob", "h").unwrap(), 3, sight, &shown).to_vec()).unwrap()
    }

    #[test]
    fn a_ringing_device_is_an_early_dialog_with_what_a_pickup_needs() {
        let text = printed(&view(Standing::Calling, Standing::Ringing, Some(1)), 1, Sight::Whole);
        assert!(text.contains("version=\"3\" state=\"full\" entity=\"sip:bob@h\""), "{text}");
        let dialog = "<dialog id=\"0000000000000005-1-1\" call-id=\"c&lt;1\" local-tag=\"device\" remote-tag=\"ours\" direction=\"recipient\">\
                      <state>early</state><local><identity>sip:bob@h</identity><target uri=\"sip:bob@h\"/></local>\
                      <remote><identity display=\"&quot;0&quot; &amp; co\">sip:+4930%3C@t.invalid</identity>\
                      <target uri=\"sip:+4930%3C@t.invalid\"/></remote></dialog>";
        assert!(text.contains(dialog), "{text}");
    }

    #[test]
    fn a_watcher_without_the_right_sees_the_state_alone() {
        // S5
        let text = printed(&view(Standing::Calling, Standing::Ringing, Some(1)), 1, Sight::State);
        let dialog = "<dialog id=\"0000000000000005-1-1\" direction=\"recipient\"><state>early</state>\
                      <local><identity>sip:bob@h</identity><target uri=\"sip:bob@h\"/></local></dialog>";
        assert!(text.contains(dialog), "{text}");
        let text = printed(&view(Standing::Calling, Standing::Ringing, Some(1)), 1, Sight::Parties);
        assert!(text.contains("<remote>") && !text.contains("call-id"), "{text}");
    }

    #[test]
    fn what_names_a_dialog_is_for_who_may_pick_it_up_and_for_its_own_user() {
        // S5
        for (of, standing, colleague) in [
            (0, Standing::Calling, false),
            (1, Standing::Ringing, true),
            (0, Standing::Connected, false),
            (1, Standing::Connected, false),
            (1, Standing::Holding, false),
        ] {
            let view = view(standing, standing, Some(1));
            let named = |sight| printed(&view, of, sight).contains("call-id");
            assert_eq!((named(Sight::Ringing), named(Sight::Whole)), (colleague, true), "{standing:?}");
        }
    }

    #[test]
    fn who_asked_not_to_be_shown_is_not() {
        let mut view = view(Standing::Connected, Standing::Connected, Some(1));
        view.parties[0].anonymous = true;
        assert!(!printed(&view, 1, Sight::Whole).contains("remote>"));
    }

    #[test]
    fn each_standing_has_its_state() {
        for (of, standing, ringing_at, state) in [
            (0, Standing::Calling, None, "trying"),
            (0, Standing::Calling, Some(1), "early"),
            (1, Standing::Ringing, Some(1), "early"),
            (1, Standing::Connected, Some(1), "confirmed"),
            (1, Standing::Holding, Some(1), "confirmed"),
            (1, Standing::Left, Some(1), "terminated"),
        ] {
            let text = printed(&view(standing, standing, ringing_at), of, Sight::State);
            assert!(text.contains(&format!("<state>{state}</state>")), "{standing:?} {text}");
            assert_eq!(text.contains("pvalue=\"no\""), standing == Standing::Holding);
            assert_eq!(text.contains("initiator"), of == 0);
        }
    }

    #[test]
    fn nobody_in_a_call_is_a_dialog_that_is_over() {
        let text = String::from_utf8(print(&Aor::new("bob", "h").unwrap(), 0, Sight::Whole, &[]).to_vec()).unwrap();
        assert!(text.contains("<dialog id=\"none\"><state>terminated</state></dialog>"));
    }
}
