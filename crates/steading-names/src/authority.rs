//! The group's certificate authority.

use std::net::IpAddr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::random::random;

/// How long certificates are good, in days from today: as long as those that ACME clients are used to.
const DAYS: i64 = 90;

/// How long ago they began: longer than a guest's clock can have been stopped.
const YEARS_BEFORE: i64 = 1;

/// How long the authority's own is good, in years.
const AUTHORITY_YEARS: i64 = 20;

/// The longest common name (`ub-common-name`, RFC 5280, appendix A.1).
const COMMON_NAME_MAX: usize = 64;

/// The authority, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityKey {
    /// Its private key, in PEM.
    pub private: String,
    /// Its certificate, in PEM: what is to be trusted.
    pub certificate: String,
}

/// The authority, at work.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// A certificate with its key, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, and that of the authority after it.
    pub chain: String,
    /// The key.
    pub key: String,
}

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The authority cannot be made, or understood as it was kept.
    #[error("cannot make the group's certificate authority")]
    Make(#[source] rcgen::Error),
    /// A certificate cannot be made.
    #[error("cannot make a certificate for {names}")]
    Issue {
        /// For what.
        names: String,
        /// The reason.
        source: rcgen::Error,
    },
    /// What was made cannot be used.
    #[error("cannot serve with the certificate for {names}: {why}")]
    Use {
        /// For what.
        names: String,
        /// The reason.
        why: String,
    },
    /// A certificate for nothing.
    #[error("a certificate for no name was asked for")]
    Nothing,
}

impl AuthorityKey {
    /// Makes one for this group.
    ///
    /// # Errors
    ///
    /// When there is no randomness.
    pub fn new(group: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Make)?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Steading");
        // A label, so it fits.
        name.push(DnType::CommonName, group);
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        validity(&mut params, AUTHORITY_YEARS.years());
        let certificate = params.self_signed(&key).map_err(AuthorityError::Make)?;
        Ok(Self { private: key.serialize_pem(), certificate: certificate.pem() })
    }
}

impl Authority {
    /// The one that was kept.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn open(kept: &AuthorityKey) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(&kept.private).map_err(AuthorityError::Make)?;
        let issuer = Issuer::from_ca_cert_pem(&kept.certificate, key).map_err(AuthorityError::Make)?;
        Ok(Self { issuer, certificate: kept.certificate.clone() })
    }

    /// Its certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate with a new key, for names and addresses that were checked.
    ///
    /// # Errors
    ///
    /// When there are none, or no randomness.
    pub fn issue(&self, names: &[String]) -> Result<Issued, AuthorityError> {
        let failed = |source| AuthorityError::Issue { names: names.join(", "), source };
        let key = KeyPair::generate().map_err(failed)?;
        let chain = self.certify(names, &key)?;
        Ok(Issued { chain, key: key.serialize_pem() })
    }

    /// A certificate of the key of this request, in PEM and with the authority's behind it. What else the
    /// request says is ignored.
    ///
    /// # Errors
    ///
    /// When there are no names.
    pub fn sign(
        &self,
        request: &CertificateSigningRequestParams,
        names: &[String],
    ) -> Result<String, AuthorityError> {
        self.certify(names, &request.public_key)
    }

    fn certify(&self, names: &[String], key: &impl PublicKeyData) -> Result<String, AuthorityError> {
        let first = names.first().ok_or(AuthorityError::Nothing)?;
        let failed = |source| AuthorityError::Issue { names: names.join(", "), source };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if first.len() <= COMMON_NAME_MAX {
            params.distinguished_name.push(DnType::CommonName, first.as_str());
        }
        let alternatives = names.iter().map(|name| match name.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ia5String::try_from(name.as_str()).map(SanType::DnsName),
        });
        params.subject_alt_names = alternatives.collect::<Result<_, _>>().map_err(failed)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        // That of the key would be the same for each certificate of one key.
        params.serial_number = Some(SerialNumber::from_slice(&random::<16>()));
        validity(&mut params, DAYS.days());
        let certificate: Certificate = params.signed_by(key, &self.issuer).map_err(failed)?;
        Ok(certificate.pem() + &self.certificate)
    }

    /// What a TLS server needs, for names that were checked.
    ///
    /// # Errors
    ///
    /// As of [`Self::issue`].
    pub fn server_config(&self, names: &[String]) -> Result<rustls::ServerConfig, AuthorityError> {
        let unusable = |error: &dyn std::fmt::Display| AuthorityError::Use {
            names: names.join(", "),
            why: error.to_string(),
        };
        let issued = self.issue(names)?;
        let chain = CertificateDer::pem_slice_iter(issued.chain.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).map_err(|error| unusable(&error))?;
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| unusable(&error))
    }
}

/// From a year ago until so long from today.
fn validity(params: &mut CertificateParams, from_today: Span) {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let at = |date: Date| {
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        date_time_ymd(i32::from(date.year()), month, day)
    };
    params.not_before = at(today.saturating_sub(YEARS_BEFORE.years()));
    params.not_after = at(today.saturating_add(from_today));
}
