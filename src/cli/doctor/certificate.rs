//! The certificate: whether it can be read, how long it lasts, and whether it names the domain (RFC 5922 §7.1).

use std::net::IpAddr;
use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::Finding;
use crate::cli::text::{moment, now};
use crate::config::Config;

const CHECK: &str = "certificate";
/// Days before its end at which a warning is given: an automatic renewal should have come by then.
const SOON: i64 = 21;
/// What the switch makes for itself, in its data folder.
const SELF_SIGNED: &str = "self-signed.pem";

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let (sip, http) = (&config.sip, &config.http);
    let is_used = !(sip.tls.is_empty() && sip.wss.is_empty() && (http.plain || http.listen.is_empty()));
    if !is_used {
        return vec![Finding::ok(CHECK, "none is needed: no listener has TLS")];
    }
    let own = config.data_dir.join(SELF_SIGNED);
    let (path, is_own) = config.tls.certificate.clone().map_or((own, true), |path| (path, false));
    if is_own && !path.exists() {
        return vec![Finding::ok(CHECK, "a self-signed one is made at the first start")];
    }
    vec![read(&path).map_or_else(|fault| fault, |der| examine(&path, &der, config.domain.as_str(), is_own))]
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Finding> {
    let first = CertificateDer::pem_file_iter(path).ok().and_then(|mut chain| chain.next()?.ok());
    let advice = "let the switch's user read it, as PEM with its own certificate first";
    first
        .map(|der| der.to_vec())
        .ok_or_else(|| Finding::fail(CHECK, format!("{} has no certificate that can be read", path.display()), advice))
}

fn examine(path: &std::path::Path, der: &[u8], domain: &str, is_own: bool) -> Finding {
    let path = path.display();
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Finding::fail(CHECK, format!("{path} is no X.509 certificate"), "ask its issuer for another one");
    };
    let seconds = |time: x509_parser::time::ASN1Time| time.timestamp();
    let (begins, ends) = (seconds(certificate.validity().not_before), seconds(certificate.validity().not_after));
    let today = i64::try_from(now() / 1000).unwrap_or(i64::MAX);
    let shown = moment(u64::try_from(ends).unwrap_or(0).saturating_mul(1000));
    let renew =
        if is_own { "remove it: the switch makes a new one at its next start" } else { "renew it; the switch reads it without a restart" };
    let days = (ends - today).div_euclid(86400);
    if today >= ends {
        return Finding::fail(CHECK, format!("{path} ended {shown}"), renew);
    }
    if today < begins {
        return Finding::fail(CHECK, format!("{path} is not valid yet"), "set the clock, or wait");
    }
    if days < SOON {
        return Finding::warn(CHECK, format!("{path} has {days} days left"), renew);
    }
    if !names(&certificate, domain) {
        let advice = "apps and phones that check it refuse it; get one that names the domain";
        return Finding::warn(CHECK, format!("{path} has {days} days left and does not name {domain}"), advice);
    }
    let is_self_signed = is_own || certificate.subject() == certificate.issuer();
    let kind = if is_self_signed { "self-signed, " } else { "" };
    Finding::ok(CHECK, format!("{path}: {kind}{days} days left"))
}

fn names(certificate: &X509Certificate<'_>, domain: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    let address: Option<IpAddr> = domain.parse().ok();
    names.value.general_names.iter().any(|name| {
        // every other kind of name says nothing of a host
        if let GeneralName::DNSName(name) = name {
            covers(name, domain)
        } else if let GeneralName::IPAddress(bytes) = name {
            address.is_some_and(|address| match address {
                IpAddr::V4(v4) => v4.octets() == **bytes,
                IpAddr::V6(v6) => v6.octets() == **bytes,
            })
        } else {
            false
        }
    })
}

/// A star stands for one label, the leftmost (RFC 6125 §6.4.3).
fn covers(name: &str, domain: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => domain.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => name.eq_ignore_ascii_case(domain),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Verdict;
    use super::*;

    fn verdict(names: &[&str], days: i64, domain: &str) -> Verdict {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        let today = time::OffsetDateTime::from_unix_timestamp(i64::try_from(now() / 1000).unwrap()).unwrap();
        params.not_before = today - time::Duration::days(400);
        params.not_after = today + time::Duration::days(days) + time::Duration::hours(1);
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        examine(Path::new("cert.pem"), &der, domain, false).verdict
    }

    #[test]
    fn days_and_names_decide() {
        assert_eq!(verdict(&["pbx.example"], 100, "pbx.example"), Verdict::Ok);
        assert_eq!(verdict(&["*.example"], 100, "pbx.example"), Verdict::Ok);
        assert_eq!(verdict(&["192.0.2.1"], 100, "192.0.2.1"), Verdict::Ok);
        assert_eq!(verdict(&["*.example"], 100, "a.pbx.example"), Verdict::Warn);
        assert_eq!(verdict(&["pbx.example"], 100, "other.example"), Verdict::Warn);
        assert_eq!(verdict(&["pbx.example"], SOON - 1, "pbx.example"), Verdict::Warn);
        assert_eq!(verdict(&["pbx.example"], -1, "pbx.example"), Verdict::Fail);
        assert_eq!(examine(Path::new("x"), b"no", "x", false).verdict, Verdict::Fail);
    }
}
