//! What idle logins cost: this is a program of its own, so that nothing else grows beside it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Instant;

use cas::login::Identity;
use cas::permission::Rights;
use cas::server::{Channel, ExchangeId, Input, Output, Peer, Request, Server, Settings, Wire};
use cas::text::UserName;
use serde_json::json;

const LOGINS: usize = 5000;

/// Memory of this process, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn five_thousand_idle_logins_cost_less_than_four_kilobytes_each() {
    // 004-23
    #[expect(clippy::disallowed_methods, reason = "a test's time begins somewhere")]
    let now = Instant::now();
    let settings = Settings { failed_logins_per_minute: u32::MAX, ..Settings::default() };
    let mut server = Server::new(settings, [1; 32], now, 0);
    let before = resident();
    for number in 0..LOGINS {
        let body = json!({ "user": format!("user{number}"), "password": "x", "application": "call manager" });
        let message = json!({ "topic": "login", "message": "login", "timestamp": 1, "sequence-id": 1, "request-id": 1, "body": body });
        let peer = Peer::Network { address: [127, 0, 0, 1].into(), wire: Wire::Clear };
        let channel = Channel::Once { peer, token: None };
        let exchange = ExchangeId(number as u64);
        let body = message.to_string().into_bytes().into();
        server.handle_input(now, Input::Request(Request { exchange, channel, content_type: None, accept: None, prefer: None, body }));
        while let Some(output) = server.poll_output() {
            if let Output::Verify { verify, .. } = output {
                let user = UserName::parse(&format!("user{number}")).unwrap();
                let identity = Identity { user, rights: Arc::new(Rights::default()), scopes: None, key: None };
                server.handle_input(now, Input::Verified { verify, identity: Some(identity) });
            }
        }
    }
    let each = resident().saturating_sub(before) / LOGINS;
    assert_eq!(server.logins(), LOGINS);
    println!("{each} bytes for a login");
    assert!(each < 4096, "{each} bytes for a login");
}
