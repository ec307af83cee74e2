//! How long a connection that is silent stays open: as long as a binding, a call or a trunk uses it, and no longer.

use sip::Transport::{Tcp, Udp};
use tokio::time::timeout;

use super::harness::{PATIENCE, Phone, Switch, TRUNK, switch};

const SHORT: &str = "[limits]\nidle = \"100ms\"\n";

/// A stranger comes and is reaped: so much time has passed, and again as much.
async fn two_silences(switch: &Switch) {
    for _ in 0..3 {
        let mut stranger = switch.phone("eve", Tcp).await;
        let options = stranger.write("OPTIONS", "sip:tandem.test", "<sip:tandem.test>", "", "");
        stranger.send(&options.encode()).await;
        stranger.until_closed().await;
    }
}

/// Returns true while the switch still answers on the phone's connection.
async fn lives(phone: &mut Phone) -> bool {
    phone.send(b"\r\n\r\n").await;
    let options = phone.write("OPTIONS", "sip:tandem.test", "<sip:tandem.test>", "", "");
    phone.send(&options.encode()).await;
    timeout(PATIENCE, phone.next()).await.unwrap().is_some()
}

#[tokio::test]
async fn a_binding_keeps_its_connection_until_it_is_removed() {
    switch(SHORT, async |switch| {
        let mut ann = switch.phone("ann", Tcp).await;
        assert_eq!(ann.register(600).await, 200);
        two_silences(switch).await;
        assert!(lives(&mut ann).await);
        assert_eq!(ann.register(0).await, 200);
        ann.until_closed().await;
    })
    .await;
}

#[tokio::test]
async fn a_binding_that_moved_keeps_the_old_connection_no_longer() {
    switch(SHORT, async |switch| {
        let mut old = switch.phone("ann", Tcp).await;
        assert_eq!(old.register(600).await, 200);
        let mut new = switch.phone("ann", Tcp).await;
        let contact = old.write("REGISTER", "sip:tandem.test", "<sip:ann@tandem.test>", "Expires: 0\r\n", "");
        let contact = String::from_utf8_lossy(contact.headers.get(sip::message::Name::Contact).unwrap()).into_owned();
        assert_eq!(new.register(600).await, 200);
        let mut remove = new.write("REGISTER", "sip:tandem.test", "<sip:ann@tandem.test>", "Expires: 0\r\n", "");
        remove.headers.set(sip::message::Name::Contact, contact);
        assert_eq!(new.ask(remove).await.status.code(), 200);
        old.until_closed().await;
        assert!(lives(&mut new).await);
    })
    .await;
}

#[tokio::test]
async fn a_call_keeps_the_connections_of_both_sides_until_it_ends() {
    switch(SHORT, async |switch| {
        let (mut ann, mut bob) = (switch.phone("ann", Tcp).await, switch.phone("bob", Tcp).await);
        assert_eq!(bob.register(600).await, 200);
        let invite = ann.invite("bob").await;
        let (answered, mut bob) = tokio::join!(ann.ask(invite), async {
            let invite = bob.request().await;
            bob.answer(&invite, "200 OK").await;
            bob
        });
        assert_eq!(answered.status.code(), 200);
        let ack = ann.within("ACK", &answered);
        ann.send(&ack).await;
        assert_eq!(bob.request().await.method.as_str(), "ACK");
        assert_eq!(bob.register(0).await, 200);
        two_silences(switch).await;
        // neither has a binding now: the call alone holds both
        let bye = ann.within("BYE", &answered);
        ann.send(&bye).await;
        assert_eq!(ann.response().await.status.code(), 200);
        let bye = bob.request().await;
        assert_eq!(bye.method.as_str(), "BYE");
        bob.answer(&bye, "200 OK").await;
        ann.until_closed().await;
        bob.until_closed().await;
    })
    .await;
}

#[tokio::test]
async fn a_trunk_keeps_its_connection() {
    switch(SHORT, async |switch| {
        let mut trunk = switch.phone_at("peer", Tcp, TRUNK).await;
        assert!(lives(&mut trunk).await);
        two_silences(switch).await;
        assert!(lives(&mut trunk).await);
        let mut ann = switch.phone("ann", Udp).await;
        assert_eq!(ann.register(600).await, 200);
    })
    .await;
}
