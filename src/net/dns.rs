//! The next hop of a URI (RFC 3263): `sip::locate` asks, the system's resolver answers. Work that ends with its request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::{RData, RecordType};
use sip::Uri;
use sip::locate::{Answer, Input, Locate, LocateError, Output, Policy, Question, Record, RecordKind, Target};

use crate::clock;

/// Looks up names; clones share one cache.
#[derive(Clone)]
pub(crate) struct Dns(Option<Arc<TokioResolver>>);

/// How long one query may take; a step of the search has its own limit.
const QUERY: Duration = Duration::from_secs(2);

impl Dns {
    /// Starts with the system's name servers.
    ///
    /// # Errors
    /// The system's configuration cannot be read.
    pub(crate) fn system() -> Result<Self, String> {
        let mut builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
        builder.options_mut().timeout = QUERY;
        builder.options_mut().attempts = 1;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self(Some(Arc::new(resolver))))
    }

    /// Looks nothing up.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// Finds the addresses of a URI in the order to try them.
    ///
    /// # Errors
    /// See [`LocateError`].
    pub(crate) async fn locate(&self, uri: &Uri, policy: &Policy, random: u64) -> Result<Vec<Target>, LocateError> {
        let mut locate = Locate::new(clock::now(), uri, policy, random);
        let mut asked = FuturesUnordered::new();
        loop {
            while let Some(output) = locate.poll_output() {
                match output {
                    Output::Ask(question) => {
                        asked.push(async move {
                            let answer = self.ask(&question).await;
                            (question, answer)
                        });
                    }
                    Output::Found(targets) => return Ok(targets),
                    Output::Failed(error) => return Err(error),
                }
            }
            let deadline = locate.poll_timeout().unwrap_or_else(|| clock::now() + QUERY);
            tokio::select! {
                biased;
                Some((question, answer)) = asked.next() => locate.handle_input(clock::now(), Input::Answer(question, answer)),
                () = tokio::time::sleep_until(deadline.into()) => locate.handle_timeout(clock::now()),
            }
        }
    }

    async fn ask(&self, question: &Question) -> Answer {
        let Some(resolver) = &self.0 else { return Answer::Failed };
        let kind = match question.kind {
            RecordKind::Naptr => RecordType::NAPTR,
            RecordKind::Srv => RecordType::SRV,
            RecordKind::A => RecordType::A,
            RecordKind::Aaaa => RecordType::AAAA,
        };
        // The dot at the end keeps the system's search list out.
        match resolver.lookup(format!("{}.", question.name), kind).await {
            Ok(lookup) => Answer::Records(lookup.answers().iter().filter_map(|record| record_of(&record.data)).collect()),
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => Answer::Records(Vec::new()),
            Err(_) => Answer::Failed,
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "records that we did not ask for, of a foreign and growing enum")]
fn record_of(data: &RData) -> Option<Record> {
    let name = |name: &hickory_resolver::proto::rr::Name| name.to_ascii().trim_end_matches('.').to_ascii_lowercase().into();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into();
    match data {
        RData::A(address) => Some(Record::Address(IpAddr::V4(address.0))),
        RData::AAAA(address) => Some(Record::Address(IpAddr::V6(address.0))),
        RData::CNAME(alias) => Some(Record::Cname(name(&alias.0))),
        RData::SRV(srv) => {
            let target = if srv.target.is_root() { ".".into() } else { name(&srv.target) };
            Some(Record::Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target })
        }
        RData::NAPTR(naptr) => Some(Record::Naptr {
            order: naptr.order,
            preference: naptr.preference,
            flags: text(&naptr.flags),
            service: text(&naptr.services),
            replacement: name(&naptr.replacement),
        }),
        _ => None,
    }
}
