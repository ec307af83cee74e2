//! What strangers may not do to the switch as a whole.

use sip::Transport::{Tls, Udp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::{PATIENCE, switch};

/// The beginning of a TLS record of 512 bytes with a ClientHello, and no more of it.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[tokio::test]
async fn a_flood_of_half_open_tls_handshakes_is_bounded_and_others_are_served() {
    // S11
    const BOUND: usize = 20;
    switch("[limits]\nconnections_per_address = 20\nhalf_open = \"1s\"\n", async |switch| {
        let address = switch.address(Tls);
        let mut flood = Vec::new();
        for _ in 0..5 * BOUND {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // what was refused may be gone already
            let _ = stream.write_all(HALF_A_HELLO).await;
            flood.push(stream);
        }
        assert_eq!(switch.phone("ann", Udp).await.register(600).await, 200, "beside the flood");
        // all of them end: those beyond the bound at once, the others as half open
        for stream in &mut flood {
            let mut rest = [0; 64];
            timeout(PATIENCE, async { while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {} }).await.unwrap();
        }
        // and there is room again
        let mut next = TcpStream::connect(address).await.unwrap();
        next.write_all(HALF_A_HELLO).await.unwrap();
        assert_eq!(switch.phone("bob", Udp).await.register(600).await, 200);
        assert!(timeout(std::time::Duration::from_millis(100), next.read_u8()).await.is_err(), "it is waited for");
    })
    .await;
}
