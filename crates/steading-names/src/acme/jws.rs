//! Signed requests of ACME (RFC 8555, section 6.2): JSON Web Signatures in the flattened form (RFC 7515,
//! section 7.2.2), by keys as JSON (RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::digest::{SHA256, digest};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kty")]
pub enum Jwk {
    /// A point on a curve (RFC 7518, section 6.2).
    #[serde(rename = "EC")]
    Ec {
        /// The curve.
        crv: Curve,
        /// One coordinate.
        x: Base64,
        /// The other.
        y: Base64,
    },
    /// An RSA key (RFC 7518, section 6.3).
    #[serde(rename = "RSA")]
    Rsa {
        /// The modulus.
        n: Base64,
        /// The exponent.
        e: Base64,
    },
}

/// The curves that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Curve {
    /// With ES256.
    #[serde(rename = "P-256")]
    P256,
    /// With ES384.
    #[serde(rename = "P-384")]
    P384,
}

/// Bytes in base64url.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Base64(Vec<u8>);

impl TryFrom<String> for Base64 {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, base64::DecodeError> {
        BASE64URL.decode(text).map(Self)
    }
}

impl From<Base64> for String {
    fn from(bytes: Base64) -> Self {
        BASE64URL.encode(bytes.0)
    }
}

impl Base64 {
    fn text(&self) -> String {
        BASE64URL.encode(&self.0)
    }

    /// With zeros before, to this length; none if it is longer.
    fn padded(&self, length: usize) -> Option<Vec<u8>> {
        let missing = length.checked_sub(self.0.len())?;
        Some([vec![0; missing], self.0.clone()].concat())
    }
}

/// What is signed together with the payload.
#[derive(Clone, Debug, Deserialize)]
pub struct Protected {
    /// The algorithm.
    pub alg: String,
    /// A number that was given out.
    pub nonce: Option<String>,
    /// Where the request goes.
    pub url: Option<String>,
    /// The key itself,
    pub jwk: Option<serde_json::Value>,
    /// or the account whose key it is.
    pub kid: Option<String>,
}

/// A request, not looked at yet.
#[derive(Clone, Debug)]
pub struct Jws {
    /// What was said about it.
    pub protected: Protected,
    /// What it says.
    pub payload: Vec<u8>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Flattened {
    protected: String,
    payload: String,
    signature: String,
}

impl Jws {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// [`Problem`] of the kind `malformed`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let malformed = |what: &str| Problem::malformed(format!("the request is no signed JSON: {what}"));
        let Flattened { protected, payload, signature } =
            serde_json::from_slice(bytes).map_err(|error| malformed(&error.to_string()))?;
        let signed = format!("{protected}.{payload}").into_bytes();
        let decoded = |text: String, what| {
            BASE64URL.decode(text).map_err(|error| malformed(&format!("{what} is not base64url: {error}")))
        };
        let protected = serde_json::from_slice(&decoded(protected, "its protected header")?)
            .map_err(|error| malformed(&format!("its protected header: {error}")))?;
        let payload = decoded(payload, "its payload")?;
        Ok(Self { protected, payload, signed, signature: decoded(signature, "its signature")? })
    }

    /// The key that it brings.
    ///
    /// # Errors
    ///
    /// `malformed` if there is none, `badPublicKey` if it is of a kind that is not understood.
    pub fn jwk(&self) -> Result<Jwk, Problem> {
        let jwk = self.protected.jwk.clone().ok_or_else(|| {
            Problem::malformed("the request has no `jwk`, by which a new account's key is told".to_owned())
        })?;
        serde_json::from_value(jwk).map_err(|error| {
            Problem::new(
                400,
                "badPublicKey",
                format!("the key cannot be used: {error}; P-256, P-384 and RSA can"),
            )
        })
    }

    /// Whether this key signed it.
    ///
    /// # Errors
    ///
    /// `badSignatureAlgorithm` if that is not one for the key, `unauthorized` if it did not.
    pub fn verify(&self, key: &Jwk) -> Result<(), Problem> {
        let (signed, signature) = (self.signed.as_slice(), self.signature.as_slice());
        let is_good = match (self.protected.alg.as_str(), key) {
            ("ES256", Jwk::Ec { crv: Curve::P256, x, y }) => {
                let point = point(x, y, 32)?;
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
            ("ES384", Jwk::Ec { crv: Curve::P384, x, y }) => {
                let point = point(x, y, 48)?;
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(signed, signature).is_ok()
            }
            ("RS256", Jwk::Rsa { n, e }) => RsaPublicKeyComponents { n: &n.0, e: &e.0 }
                .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
                .is_ok(),
            (other, _) => {
                let detail =
                    format!("{other:?} is no algorithm for such a key here; ES256, ES384 and RS256 are");
                return Err(Problem::new(400, "badSignatureAlgorithm", detail)
                    .with("algorithms", serde_json::json!(["ES256", "ES384", "RS256"])));
            }
        };
        if is_good {
            Ok(())
        } else {
            Err(Problem::new(
                403,
                "unauthorized",
                "the request is not signed by the account's key".to_owned(),
            ))
        }
    }
}

fn point(x: &Base64, y: &Base64, length: usize) -> Result<Vec<u8>, Problem> {
    let coordinates = x.padded(length).zip(y.padded(length));
    let (x, y) = coordinates.ok_or_else(|| {
        Problem::new(400, "badPublicKey", "a coordinate of the key is longer than its curve has".to_owned())
    })?;
    // Not compressed (SEC 1, section 2.3.3).
    Ok([&[4], x.as_slice(), &y].concat())
}

impl Jwk {
    /// The key's digest, by which it is known (RFC 7638).
    pub fn thumbprint(&self) -> String {
        let members = match self {
            Self::Ec { crv, x, y } => {
                let crv = match crv {
                    Curve::P256 => "P-256",
                    Curve::P384 => "P-384",
                };
                format!(r#"{{"crv":"{crv}","kty":"EC","x":"{}","y":"{}"}}"#, x.text(), y.text())
            }
            Self::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, e.text(), n.text()),
        };
        BASE64URL.encode(digest(&SHA256, members.as_bytes()))
    }
}

/// Bytes in base64url, as requests have them.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    BASE64URL.decode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_key_is_that_of_the_standard() {
        // RFC 7638, section 3.1.
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let jwk = serde_json::json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
        let jwk: Jwk = serde_json::from_value(jwk).unwrap();
        assert_eq!(jwk.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    #[test]
    fn a_signature_of_the_standard_is_good_and_no_other() {
        // RFC 7515, appendix A.3.
        let protected = "eyJhbGciOiJFUzI1NiJ9";
        let payload =
            "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature =
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let jwk = serde_json::json!({
            "kty": "EC", "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        });
        let jwk: Jwk = serde_json::from_value(jwk).unwrap();
        let jws = |payload: &str| {
            let text =
                serde_json::json!({"protected": protected, "payload": payload, "signature": signature});
            Jws::parse(text.to_string().as_bytes()).unwrap()
        };
        assert_eq!(jws(payload).verify(&jwk), Ok(()));
        assert_eq!(jws("e30").verify(&jwk).unwrap_err().kind(), "unauthorized");
        let mut other = jws(payload);
        other.protected.alg = "RS256".to_owned();
        assert_eq!(other.verify(&jwk).unwrap_err().kind(), "badSignatureAlgorithm");
    }
}
