//! The certificate: whether it can be read, how long it lasts, and whether it names the domain (RFC 5922 §7.1).

use std::net::IpAddr;
use std::path::{Path, PathBuf};

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
    look(config).map_or_else(|finding| finding, |(path, der, is_own)| examine(&path, &der, config.domain.as_str(), is_own))
}

/// Returns what is wrong where the certificate ended.
pub(super) fn ended(config: &Config) -> Option<Finding> {
    let (path, der, is_own) = look(config).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    end(&path, &certificate, is_own)
}

/// Finds the certificate: its file, its bytes, and whether the switch made it.
fn look(config: &Config) -> Result<(PathBuf, Vec<u8>, bool), Vec<Finding>> {
    let (sip, http) = (&config.sip, &config.http);
    let is_used = !(sip.tls.is_empty() && sip.wss.is_empty() && (http.plain || http.listen.is_empty()));
    if !is_used {
        return Err(vec![Finding::ok(CHECK, "none is needed: no listener has TLS")]);
    }
    let own = config.data_dir.join(SELF_SIGNED);
    let (path, is_own) = config.tls.certificate.clone().map_or((own, true), |path| (path, false));
    if is_own && !path.exists() {
        return Err(vec![Finding::ok(CHECK, "a self-signed one is made at the first start")]);
    }
    read(&path).map(|der| (path, der, is_own)).map_err(|fault| vec![fault])
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Finding> {
    let first = CertificateDer::pem_file_iter(path).ok().and_then(|mut chain| chain.next()?.ok());
    let advice = "let the switch's user read it, as PEM with its own certificate first";
    first
        .map(|der| der.to_vec())
        .ok_or_else(|| Finding::fail(CHECK, format!("{} has no certificate that can be read", path.display()), advice))
}

fn end(path: &Path, certificate: &X509Certificate<'_>, is_own: bool) -> Option<Finding> {
    let ends = certificate.validity().not_after.timestamp();
    let shown = moment(u64::try_from(ends).unwrap_or(0).saturating_mul(1000));
    (today() >= ends).then(|| Finding::fail(CHECK, format!("{} ended {shown}", path.display()), renew(is_own)))
}

fn renew(is_own: bool) -> &'static str {
    if is_own { "remove it: the switch makes a new one at its next start" } else { "renew it; the switch reads it without a restart" }
}

/// Returns what time it is, in seconds since 1970.
fn today() -> i64 {
    i64::try_from(now() / 1000).unwrap_or(i64::MAX)
}

fn examine(file: &Path, der: &[u8], domain: &str, is_own: bool) -> Vec<Finding> {
    let path = file.display();
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return vec![Finding::fail(CHECK, format!("{path} is no X.509 certificate"), "ask its issuer for another one")];
    };
    let mut findings: Vec<Finding> = end(file, &certificate, is_own).into_iter().collect();
    let validity = certificate.validity();
    let days = (validity.not_after.timestamp() - today()).div_euclid(86400);
    if today() < validity.not_before.timestamp() {
        findings.push(Finding::fail(CHECK, format!("{path} is not valid yet"), "set the clock, or wait"));
    }
    if findings.is_empty() && days < SOON {
        findings.push(Finding::warn(CHECK, format!("{path} has {days} days left"), renew(is_own)));
    }
    if !names(&certificate, domain) {
        let advice = "apps and phones that check it refuse it; get one that names the domain";
        findings.push(Finding::warn(CHECK, format!("{path} does not name {domain}"), advice));
    }
    if findings.is_empty() {
        let is_self_signed = is_own || certificate.subject() == certificate.issuer();
        let kind = if is_self_signed { "self-signed, " } else { "" };
        findings.push(Finding::ok(CHECK, format!("{path}: {kind}{days} days left")));
    }
    findings
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
    use super::super::Verdict;
    use super::*;

    fn verdicts(names: &[&str], days: i64, domain: &str) -> Vec<Verdict> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        let today = time::OffsetDateTime::from_unix_timestamp(i64::try_from(now() / 1000).unwrap()).unwrap();
        params.not_before = today - time::Duration::days(400);
        params.not_after = today + time::Duration::days(days) + time::Duration::hours(1);
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        examine(Path::new("cert.pem"), &der, domain, false).iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn days_and_names_decide() {
        assert_eq!(verdicts(&["pbx.example"], 100, "pbx.example"), [Verdict::Ok]);
        assert_eq!(verdicts(&["*.example"], 100, "pbx.example"), [Verdict::Ok]);
        assert_eq!(verdicts(&["192.0.2.1"], 100, "192.0.2.1"), [Verdict::Ok]);
        assert_eq!(verdicts(&["*.example"], 100, "a.pbx.example"), [Verdict::Warn]);
        assert_eq!(verdicts(&["pbx.example"], 100, "other.example"), [Verdict::Warn]);
        assert_eq!(verdicts(&["pbx.example"], SOON - 1, "pbx.example"), [Verdict::Warn]);
        assert_eq!(verdicts(&["pbx.example"], -1, "pbx.example"), [Verdict::Fail]);
        assert_eq!(verdicts(&["pbx.example"], SOON - 1, "other.example"), [Verdict::Warn, Verdict::Warn]);
        assert_eq!(verdicts(&["pbx.example"], -1, "other.example"), [Verdict::Fail, Verdict::Warn]);
        assert_eq!(examine(Path::new("x"), b"no", "x", false).len(), 1);
    }
}
