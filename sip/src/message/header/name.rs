//! Header names: the ones we read have a variant, with the compact form of RFC 3261 §7.3.3 where there is one.

/// A header name. `Other` stands for every name we have no variant for; the message keeps its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "each variant is the header of that name")]
pub enum Name {
    Accept,
    AcceptEncoding,
    AcceptLanguage,
    AlertInfo,
    Allow,
    AllowEvents,
    AuthenticationInfo,
    Authorization,
    CallId,
    CallInfo,
    Contact,
    ContentDisposition,
    ContentEncoding,
    ContentLanguage,
    ContentLength,
    ContentType,
    CSeq,
    Date,
    Diversion,
    ErrorInfo,
    Event,
    Expires,
    FeatureCaps,
    From,
    HistoryInfo,
    InReplyTo,
    MaxBreadth,
    MaxForwards,
    MimeVersion,
    MinExpires,
    MinSe,
    Organization,
    PAssertedIdentity,
    PPreferredIdentity,
    Path,
    Priority,
    Privacy,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyRequire,
    RAck,
    RSeq,
    Reason,
    RecordRoute,
    ReferSub,
    ReferTo,
    ReferredBy,
    RemotePartyId,
    Replaces,
    ReplyTo,
    Require,
    RetryAfter,
    Route,
    Server,
    ServiceRoute,
    SessionExpires,
    SipEtag,
    SipIfMatch,
    Subject,
    SubscriptionState,
    Supported,
    TargetDialog,
    Timestamp,
    To,
    Unsupported,
    UserAgent,
    Via,
    Warning,
    WwwAuthenticate,
    Other,
}

/// Variant, full name, compact form.
const TABLE: &[(Name, &str, Option<u8>)] = &[
    (Name::Via, "Via", Some(b'v')),
    (Name::From, "From", Some(b'f')),
    (Name::To, "To", Some(b't')),
    (Name::CallId, "Call-ID", Some(b'i')),
    (Name::CSeq, "CSeq", None),
    (Name::Contact, "Contact", Some(b'm')),
    (Name::MaxForwards, "Max-Forwards", None),
    (Name::ContentLength, "Content-Length", Some(b'l')),
    (Name::ContentType, "Content-Type", Some(b'c')),
    (Name::Route, "Route", None),
    (Name::RecordRoute, "Record-Route", None),
    (Name::Accept, "Accept", None),
    (Name::AcceptEncoding, "Accept-Encoding", None),
    (Name::AcceptLanguage, "Accept-Language", None),
    (Name::AlertInfo, "Alert-Info", None),
    (Name::Allow, "Allow", None),
    (Name::AllowEvents, "Allow-Events", Some(b'u')),
    (Name::AuthenticationInfo, "Authentication-Info", None),
    (Name::Authorization, "Authorization", None),
    (Name::CallInfo, "Call-Info", None),
    (Name::ContentDisposition, "Content-Disposition", None),
    (Name::ContentEncoding, "Content-Encoding", Some(b'e')),
    (Name::ContentLanguage, "Content-Language", None),
    (Name::Date, "Date", None),
    (Name::Diversion, "Diversion", None),
    (Name::ErrorInfo, "Error-Info", None),
    (Name::Event, "Event", Some(b'o')),
    (Name::Expires, "Expires", None),
    (Name::FeatureCaps, "Feature-Caps", None),
    (Name::HistoryInfo, "History-Info", None),
    (Name::InReplyTo, "In-Reply-To", None),
    (Name::MaxBreadth, "Max-Breadth", None),
    (Name::MimeVersion, "MIME-Version", None),
    (Name::MinExpires, "Min-Expires", None),
    (Name::MinSe, "Min-SE", None),
    (Name::Organization, "Organization", None),
    (Name::PAssertedIdentity, "P-Asserted-Identity", None),
    (Name::PPreferredIdentity, "P-Preferred-Identity", None),
    (Name::Path, "Path", None),
    (Name::Priority, "Priority", None),
    (Name::Privacy, "Privacy", None),
    (Name::ProxyAuthenticate, "Proxy-Authenticate", None),
    (Name::ProxyAuthorization, "Proxy-Authorization", None),
    (Name::ProxyRequire, "Proxy-Require", None),
    (Name::RAck, "RAck", None),
    (Name::RSeq, "RSeq", None),
    (Name::Reason, "Reason", None),
    (Name::ReferSub, "Refer-Sub", None),
    (Name::ReferTo, "Refer-To", Some(b'r')),
    (Name::ReferredBy, "Referred-By", Some(b'b')),
    (Name::RemotePartyId, "Remote-Party-ID", None),
    (Name::Replaces, "Replaces", None),
    (Name::ReplyTo, "Reply-To", None),
    (Name::Require, "Require", None),
    (Name::RetryAfter, "Retry-After", None),
    (Name::Server, "Server", None),
    (Name::ServiceRoute, "Service-Route", None),
    (Name::SessionExpires, "Session-Expires", Some(b'x')),
    (Name::SipEtag, "SIP-ETag", None),
    (Name::SipIfMatch, "SIP-If-Match", None),
    (Name::Subject, "Subject", Some(b's')),
    (Name::SubscriptionState, "Subscription-State", None),
    (Name::Supported, "Supported", Some(b'k')),
    (Name::TargetDialog, "Target-Dialog", None),
    (Name::Timestamp, "Timestamp", None),
    (Name::Unsupported, "Unsupported", None),
    (Name::UserAgent, "User-Agent", None),
    (Name::Warning, "Warning", None),
    (Name::WwwAuthenticate, "WWW-Authenticate", None),
];

const LONGEST: usize = 20;

/// For each length the rows of `TABLE` with a name of that length, so that a look-up compares few names.
static BY_LENGTH: [[u8; 12]; LONGEST + 1] = by_length();
/// For each variant its row.
static BY_NAME: [u8; Name::Other as usize] = by_name();

const NONE: u8 = u8::MAX;

const fn by_length() -> [[u8; 12]; LONGEST + 1] {
    let mut rows = [[NONE; 12]; LONGEST + 1];
    let mut used = [0; LONGEST + 1];
    let mut row = 0;
    while row < TABLE.len() {
        let length = TABLE[row].1.len();
        rows[length][used[length]] = row as u8;
        used[length] += 1;
        row += 1;
    }
    rows
}

const fn by_name() -> [u8; Name::Other as usize] {
    let mut rows = [NONE; Name::Other as usize];
    let mut row = 0;
    while row < TABLE.len() {
        rows[TABLE[row].0 as usize] = row as u8;
        row += 1;
    }
    rows
}

impl Name {
    /// Finds the variant of a full or compact name, in any case.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        if let [letter] = text {
            let compact = Some(letter.to_ascii_lowercase());
            return TABLE.iter().find(|row| row.2 == compact).map_or(Self::Other, |row| row.0);
        }
        let Some(rows) = BY_LENGTH.get(text.len()) else { return Self::Other };
        rows.iter()
            .map_while(|row| TABLE.get(usize::from(*row)))
            .find(|row| row.1.as_bytes().eq_ignore_ascii_case(text))
            .map_or(Self::Other, |row| row.0)
    }

    /// Returns the full name as the RFC writes it; empty for `Other`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        BY_NAME.get(self as usize).and_then(|row| TABLE.get(usize::from(*row))).map_or("", |row| row.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_in_compact_form() {
        assert_eq!(TABLE.len(), Name::Other as usize, "a variant has no row");
        for (name, text, compact) in TABLE {
            assert_eq!(Name::parse(text.as_bytes()), *name);
            assert_eq!(Name::parse(text.to_ascii_uppercase().as_bytes()), *name);
            assert_eq!(name.as_str(), *text);
            if let Some(letter) = compact {
                assert_eq!(Name::parse(&[*letter]), *name);
            }
        }
    }

    #[test]
    fn unknown_names_are_other() {
        for text in ["", "Z", "Vias", "X-Tandem", "A-Header-Name-Longer-Than-Any-We-Know"] {
            assert_eq!(Name::parse(text.as_bytes()), Name::Other, "{text}");
        }
    }
}
