//! What a client sends to the ACME server: signed JSON, and keys in it.

use steading_names::acme::{Jwk, Jws};

use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "acme",
    check,
    seeds: &[
        // RFC 7515, appendix A.3, flattened.
        br#"{"protected":"eyJhbGciOiJFUzI1NiJ9","payload":"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ","signature":"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"}"#,
        br#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
        br#"{"kty":"EC","crv":"P-384","x":"AA","y":""}"#,
        br#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#,
        br#"{"protected":"e30","payload":"","signature":""}"#,
    ],
    words: &[
        "\"protected\":", "\"payload\":", "\"signature\":", "\"kty\":\"EC\"", "\"kty\":\"RSA\"", "\"crv\":\"P-256\"",
        "eyJhbGciOiJSUzI1NiJ9", "eyJhbGciOiJFUzM4NCJ9", "AQAB", "\"x\":\"\"", "=",
    ],
};

/// Keys of which nobody here has the other half (RFC 7515, appendices A.2 and A.3).
const KEYS: [&str; 2] = [
    r#"{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}"#,
    r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
];

/// Reads the bytes as a request, and as a key.
pub fn check(bytes: &[u8]) {
    if let Ok(jwk) = serde_json::from_slice::<Jwk>(bytes) {
        let written = serde_json::to_string(&jwk).expect("a key can be written");
        let read: Jwk = serde_json::from_str(&written).expect("and read");
        assert_eq!(read, jwk);
        assert_eq!(read.thumbprint(), jwk.thumbprint());
        assert_eq!(jwk.thumbprint().len(), 43, "a SHA-256 in base64url");
    }
    match Jws::parse(bytes) {
        Ok(jws) => {
            for key in KEYS {
                let key: Jwk = serde_json::from_str(key).expect("a key");
                assert!(jws.verify(&key).is_err(), "a signature by a key that nobody has");
            }
            if let Ok(key) = jws.jwk() {
                // Whoever brings a key may well have signed with it.
                let _ = jws.verify(&key);
            }
        }
        Err(problem) => {
            assert_eq!(problem.kind(), "malformed");
            let document = problem.json();
            assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        }
    }
}
