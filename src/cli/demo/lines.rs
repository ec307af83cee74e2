//! The lines of session descriptions, as far as scripted devices care (RFC 8866, RFC 3264): what one offers, and what a desk phone answers.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::peer::Media;

/// A line of a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    kind: &'a str,
    port: u16,
    protocol: &'a str,
    format: &'a str,
    ip: Option<IpAddr>,
    is_inactive: bool,
    /// The payload type of VP8.
    vp8: Option<u8>,
}

impl Line<'_> {
    /// Returns where it wants its media.
    fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.ip?, self.port)).filter(|_| self.port != 0)
    }
}

/// Reads the lines; what is no text has none.
pub(super) fn read(description: &[u8]) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut everywhere = None;
    for text in std::str::from_utf8(description).unwrap_or_default().lines().map(str::trim_end) {
        if let Some(media) = text.strip_prefix("m=") {
            let mut words = media.split(' ');
            let mut word = || words.next().unwrap_or_default();
            let (kind, port, protocol, format) = (word(), word().parse().unwrap_or(0), word(), word());
            lines.push(Line { kind, port, protocol, format, ip: everywhere, is_inactive: false, vp8: None });
            continue;
        }
        let ip = text.strip_prefix("c=IN IP4 ").or_else(|| text.strip_prefix("c=IN IP6 ")).and_then(|ip| ip.parse().ok());
        let Some(line) = lines.last_mut() else {
            everywhere = ip.or(everywhere);
            continue;
        };
        line.ip = ip.or(line.ip);
        line.is_inactive |= text == "a=inactive";
        let vp8 = text.strip_prefix("a=rtpmap:").and_then(|map| map.strip_suffix(" VP8/90000"));
        line.vp8 = line.vp8.or(vp8.and_then(|payload_type| payload_type.parse().ok()));
    }
    lines
}

/// Returns the kinds that are to flow.
pub(super) fn offered(description: &[u8]) -> Media {
    let lines = read(description);
    let has = |kind| lines.iter().any(|line| line.kind == kind && line.port != 0 && !line.is_inactive);
    Media { audio: has("audio"), video: has("video") }
}

/// Returns where a description wants its sound.
pub(super) fn audio_address(description: &[u8]) -> Option<SocketAddr> {
    read(description).iter().find(|line| line.kind == "audio")?.address()
}

/// Returns where a description wants its pictures, and with which payload type, if it takes VP8.
pub(super) fn video_address(description: &[u8]) -> Option<(SocketAddr, u8)> {
    let lines = read(description);
    let line = lines.iter().find(|line| line.kind == "video")?;
    line.address().zip(line.vp8)
}

/// Offers sound, or takes it.
pub(super) fn sound(at: SocketAddr) -> Bytes {
    let text = head(at, 1) + &line_of_sound(at, "RTP/AVP");
    Bytes::from(text)
}

/// Answers an offer with sound and pictures as it has them; both ports are on one address. `version`: how often this end has said something.
pub(super) fn answer(offer: &[u8], version: u32, audio: SocketAddr, video: SocketAddr) -> Bytes {
    let mut text = head(audio, version);
    for line in read(offer) {
        let Line { kind, protocol, format, .. } = line;
        match (kind, line.address(), line.vp8) {
            ("audio", Some(_), _) => text += &line_of_sound(audio, protocol),
            ("video", Some(_), Some(vp8)) => {
                text += &format!("m=video {} {protocol} {vp8}\r\na=rtpmap:{vp8} VP8/90000\r\n", video.port());
            }
            _ => text += &format!("m={kind} 0 {protocol} {format}\r\n"),
        }
    }
    Bytes::from(text)
}

fn head(at: SocketAddr, version: u32) -> String {
    let (ip, family) = (at.ip(), if at.is_ipv4() { "IP4" } else { "IP6" });
    format!("v=0\r\no=- 1 {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n")
}

fn line_of_sound(at: SocketAddr, protocol: &str) -> String {
    format!("m=audio {} {protocol} 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n", at.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 20000 RTP/AVP 0\r\nm=video 20002 RTP/AVP 97 96\r\nc=IN IP4 127.0.0.2\r\n\
                         a=rtpmap:97 H264/90000\r\na=rtpmap:96 VP8/90000\r\n";

    #[test]
    fn addresses_are_read_where_they_are() {
        assert_eq!(audio_address(OFFER.as_bytes()), Some(([127, 0, 0, 1], 20_000).into()));
        assert_eq!(video_address(OFFER.as_bytes()), Some((([127, 0, 0, 2], 20_002).into(), 96)));
        for refused in ["", "c=IN IP4 127.0.0.1\r\nm=audio 0 RTP/AVP 0\r\n", "m=audio 20000 RTP/AVP 0\r\n", "c=IN IP4 x\r\nm=audio 1 x\r\n"]
        {
            assert_eq!(audio_address(refused.as_bytes()), None, "{refused}");
        }
        assert_eq!(video_address(b"c=IN IP4 127.0.0.1\r\nm=video 2 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n"), None, "no VP8");
    }

    #[test]
    fn what_is_refused_or_inactive_does_not_flow() {
        assert_eq!(offered(OFFER.as_bytes()), Media { audio: true, video: true });
        assert_eq!(offered(OFFER.replace("20000", "0").as_bytes()), Media { audio: false, video: true });
        assert_eq!(offered(format!("{OFFER}a=inactive\r\n").as_bytes()), Media { audio: true, video: false });
    }

    #[test]
    fn an_answer_has_the_lines_of_its_offer() {
        let answered = |offer: &str| {
            let [audio, video] = [4000, 4002].map(|port| ([127, 0, 0, 9], port).into());
            let answer = answer(offer.as_bytes(), 2, audio, video);
            let text = String::from_utf8(answer.to_vec()).unwrap();
            text.lines().filter(|line| line.starts_with("m=")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(answered(OFFER), ["m=audio 4000 RTP/AVP 0", "m=video 4002 RTP/AVP 96"]);
        assert_eq!(answered(&OFFER.replace("20000", "0").replace("VP8", "VP9")), ["m=audio 0 RTP/AVP 0", "m=video 0 RTP/AVP 97"]);
    }
}
