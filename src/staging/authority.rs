//! The authority that vouches for the emulators of a run: made for it, and gone with it.

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::agent::protocol::Identity;

/// Before and after the run in which certificates are valid: clocks differ, and a staging may be kept for a while.
const MARGIN: SignedDuration = SignedDuration::from_hours(45 * 24);

/// A certificate authority. Its key is in this process's memory and nowhere else.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    now: Timestamp,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(run: &str, now: Timestamp) -> Result<Self, String> {
        let make = || {
            let mut params = CertificateParams::new(Vec::new())?;
            params
                .distinguished_name
                .push(DnType::CommonName, format!("rehearse {run}"));
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            valid(&mut params, now);
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?;
            Ok((certificate.pem(), Issuer::new(params, key)))
        };
        let (pem, issuer) = make().map_err(|error: rcgen::Error| error.to_string())?;
        Ok(Self { pem, issuer, now })
    }

    /// Its own certificate, which those hold who trust it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these hosts, and its key.
    ///
    /// # Errors
    /// When a host cannot stand in a certificate.
    pub fn vouch(&self, hosts: &[String]) -> Result<Identity, String> {
        let make = || {
            let mut params = CertificateParams::new(hosts)?;
            // A common name has at most 64 characters; the names that count are the alternative ones.
            let name = hosts.iter().find(|host| host.len() <= 64);
            if let Some(name) = name {
                params
                    .distinguished_name
                    .push(DnType::CommonName, name.as_str());
            }
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.use_authority_key_identifier_extension = true;
            valid(&mut params, self.now);
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.issuer)?;
            Ok(Identity {
                certificates: format!("{}{}", certificate.pem(), self.pem),
                key: key.serialize_pem(),
            })
        };
        make().map_err(|error: rcgen::Error| error.to_string())
    }
}

fn valid(params: &mut CertificateParams, now: Timestamp) {
    let day = |at: Timestamp| {
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        // Months and days of a calendar are positive.
        let small = |n: i8| u8::try_from(n).unwrap_or(1);
        date_time_ymd(date.year().into(), small(date.month()), small(date.day()))
    };
    params.not_before = day(now.saturating_sub(MARGIN).unwrap_or(now));
    params.not_after = day(now.saturating_add(MARGIN).unwrap_or(now));
}

#[cfg(test)]
mod tests {
    use super::Authority;
    use jiff::Timestamp;

    #[test]
    fn a_certificate_and_its_key_fit_and_two_runs_differ() {
        let now = Timestamp::now();
        let authority = Authority::new("site-20261121-190000-abcd", now).unwrap();
        let identity = authority
            .vouch(&[
                "api.payments.example".to_owned(),
                "pay_2.example".to_owned(),
            ])
            .unwrap();
        assert_eq!(
            identity.certificates.matches("BEGIN CERTIFICATE").count(),
            2
        );
        assert!(identity.key.contains("PRIVATE KEY"));
        assert!(!format!("{identity:?}").contains("PRIVATE KEY"));
        assert_ne!(authority.pem(), Authority::new("other", now).unwrap().pem());
    }
}
