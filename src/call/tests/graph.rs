//! The call as others see it: who is in it, by which devices, with what media; and its changes in order.

use media::Kinds;

use super::scene::*;
use crate::call::graph::{Standing, State};
use crate::device;

/// What each leg of the only call is: party, device, where it stands, what it gives and takes.
fn legs(scene: &Scene) -> Vec<(u16, String, Standing, Kinds, Kinds)> {
    let view = scene.calls.views().next().expect("a call");
    let of = |party: &crate::call::graph::Party| {
        let id = party.id.0;
        let leg = move |leg: &crate::call::graph::Leg| {
            let device = leg.device.as_ref().map(device::Id::to_string).unwrap_or_default();
            (id, device, leg.state, leg.gives, leg.takes)
        };
        party.legs.iter().map(leg).collect::<Vec<_>>()
    };
    view.parties.iter().flat_map(of).collect()
}

#[test]
fn a_call_is_told_of_from_ringing_to_its_end() {
    let mut scene = Scene::new(2);
    scene.place(PCMU);
    scene.settle();
    let (none, audio) = (Kinds::NONE, Kinds::AUDIO);
    let ringing = |device: &str| (1, device.to_owned(), Standing::Ringing, none, none);
    assert_eq!(legs(&scene), [(0, "phone1".to_owned(), Standing::Calling, none, none), ringing("phone2"), ringing("phone3")]);
    let view = scene.calls.views().next().expect("a call");
    assert_eq!((view.state, view.started_at, view.ringing_at, view.answered_at), (State::Ringing, UNIX, None, None));
    scene.rings(DESK);
    scene.answers(MOBILE, PCMU);
    let talking = |party, device: &str| (party, device.to_owned(), Standing::Connected, audio, audio);
    assert_eq!(legs(&scene), [talking(0, "phone1"), talking(1, "phone3")]);
    let view = scene.calls.views_of("bob").next().expect("bob's call");
    assert_eq!((view.state, view.ringing_at, view.answered_at), (State::Connected, Some(UNIX), Some(UNIX)));
    assert_eq!(scene.calls.view(view.id), Some(view));
    assert_eq!(scene.calls.views_of("bo").count(), 0);
    scene.bye(CALLER);
    scene.assert_over();
    assert_eq!(scene.calls.views().count(), 0);
    // began, rang, answered, over
    assert_eq!(scene.told, 4);
}

#[test]
fn a_device_that_holds_gives_and_gets_nothing_in_the_graph() {
    let mut scene = Scene::talking();
    scene.phones[DESK].on_offer = OnOffer::Accept(LISTENING);
    scene.offer(CALLER, HOLD);
    scene.settle();
    let flows: Vec<_> = legs(&scene).into_iter().map(|(_, _, _, gives, takes)| (gives, takes)).collect();
    assert_eq!(flows, [(Kinds::NONE, Kinds::NONE), (Kinds::NONE, Kinds::AUDIO)]);
    scene.bye(DESK);
    scene.assert_over();
}

#[test]
fn calls_of_one_user_are_on_one_media_thread() {
    let mut scene = Scene::new(1);
    scene.place(PCMU);
    scene.settle();
    scene.answers(DESK, PCMU);
    assert_eq!(scene.media.beside.first(), Some(&None), "the first port may be anywhere");
    let first = scene.calls.views().next().expect("a call").id;
    scene.place(PCMU);
    scene.settle();
    scene.answers(DESK, PCMU);
    assert_eq!(scene.calls.views().count(), 2);
    let ports: Vec<_> = scene.media.arranged.iter().map(|(bridge, members)| (bridge.0 == first.0, members[0].port)).collect();
    assert_eq!(ports.len(), 2);
    assert!(scene.media.beside[1..].iter().all(Option::is_some), "{:?}", scene.media.beside);
    scene.give_up_all();
    scene.assert_over();
}
