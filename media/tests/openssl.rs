//! DTLS-SRTP against OpenSSL, in both roles, over loopback: another implementation agrees on profile and keys. Needs the `openssl`
//! program, so it runs only when asked: `cargo test -p media --test openssl -- --ignored`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use media::port::{
    destination::{Loopback, Policy, PortSet},
    webrtc::{Certificate, Event, Fingerprint, Hash, Remote, Role, SrtpKeys, WebRtc},
};
use media::rtp::srtp::Profile;

const LIMIT: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "the other end lives in real time")]
fn clock() -> Instant {
    Instant::now()
}

/// A folder with a certificate for OpenSSL; gone at the end.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// OpenSSL with what both roles share. It prints `Keying material: …` when it is connected.
fn openssl(folder: &Path, profile: &str, length: usize, rest: &[&str]) -> Child {
    let mut command = Command::new("openssl");
    command.args(rest).args(["-dtls1_2", "-mtu", "1200", "-use_srtp", profile, "-cert", "cert.pem", "-key", "key.pem"]);
    command.args(["-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", &length.to_string()]);
    command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("openssl runs")
}

fn run(role: Role, name: &str, profile: Profile) {
    let folder = Folder(std::env::temp_dir().join(format!("tandem-openssl-{}-{name}-{}", std::process::id(), role.setup())));
    std::fs::create_dir_all(&folder.0).unwrap();
    let theirs = rcgen::generate_simple_self_signed(vec!["openssl.test".to_owned()]).unwrap();
    std::fs::write(folder.0.join("cert.pem"), theirs.cert.pem()).unwrap();
    std::fs::write(folder.0.join("key.pem"), theirs.signing_key.serialize_pem()).unwrap();
    let ours = rcgen::generate_simple_self_signed(vec!["tandem.test".to_owned()]).unwrap();
    let certificate = Certificate::new(ours.cert.der().to_vec(), &ours.signing_key.serialize_der()).unwrap();

    #[expect(clippy::disallowed_methods, reason = "the other end is a program")]
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let length = profile.exported_len();
    let own = socket.local_addr().unwrap().to_string();
    let mut child = match role {
        Role::Client => openssl(&folder.0, name, length, &["s_server", "-accept", "127.0.0.1:0", "-Verify", "1"]),
        Role::Server => openssl(&folder.0, name, length, &["s_client", "-connect", &own]),
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let peer = match role {
        Role::Client => lines.find_map(|line| line.strip_prefix("ACCEPT ")?.parse::<SocketAddr>().ok()).unwrap(),
        Role::Server => socket.peek_from(&mut [0; 1]).unwrap().1,
    };
    let fingerprints = vec![Fingerprint::of(theirs.cert.der(), Hash::Sha256)];
    let keys = handshake(&certificate, &socket, &Remote { ice: None, fingerprints, role, address: Some(peer) });
    let printed = lines.find_map(|line| line.trim().strip_prefix("Keying material: ").map(str::to_owned)).unwrap();
    let _ = child.kill();
    let _ = child.wait();

    let keys = keys.expect("keys");
    let (client, server) = match role {
        Role::Client => (keys.send, keys.receive),
        Role::Server => (keys.receive, keys.send),
    };
    let (client_octets, server_octets) = (client.to_octets(), server.to_octets());
    let ((client_key, client_salt), (server_key, server_salt)) =
        (client_octets.split_at(profile.key_len()), server_octets.split_at(profile.key_len()));
    let material = [client_key, server_key, client_salt, server_salt].concat();
    let material: String = material.iter().map(|octet| format!("{octet:02X}")).collect();
    assert_eq!((client.profile(), material), (profile, printed));
}

fn handshake(certificate: &Certificate, socket: &UdpSocket, remote: &Remote) -> Option<SrtpKeys> {
    let policy = Policy { loopback: Loopback::Allowed, own: vec![], ports: Arc::new(PortSet::default()), listeners: vec![] };
    let mut port = WebRtc::new(certificate, None);
    port.set_remote(clock(), remote, &policy);
    let end = clock() + LIMIT;
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut keys = None;
    while clock() < end && keys.is_none() {
        let mut buffer = [0; 2000];
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            port.handle_packet(clock(), from, &mut buffer, length, &policy);
        }
        port.handle_timeout(clock());
        while let Some((to, datagram)) = port.poll_transmit() {
            socket.send_to(&datagram, to).unwrap();
        }
        while let Some(event) = port.poll_event() {
            match event {
                Event::Connected(agreed) => keys = Some(agreed),
                Event::Failed(_) | Event::Moved(_) | Event::Lost | Event::Closed => panic!("{event:?}"),
            }
        }
    }
    keys
}

#[test]
#[ignore = "needs the openssl program"]
fn openssl_agrees_on_the_keys_in_both_roles() {
    for role in [Role::Client, Role::Server] {
        run(role, "SRTP_AEAD_AES_128_GCM", Profile::AeadAes128Gcm);
        run(role, "SRTP_AES128_CM_SHA1_80", Profile::AesCm128HmacSha1_80);
    }
}
