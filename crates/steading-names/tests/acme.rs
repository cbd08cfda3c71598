//! The ACME server, by a client that can do each step right, or wrong.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use steading_names::acme::{Acme, Asker, Jwk, Reply, ReplyBody};
use steading_names::{Authority, AuthorityKey, SharedZone};
use steading_plan::{HostFacts, Plan, Record, Testnet};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const HOST: &str = "https://acme.g.test";

/// A client with a key of its own.
struct Client {
    key: EcdsaKeyPair,
    random: SystemRandom,
    account: Option<String>,
}

/// One of the things that a client can do wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mistake {
    #[default]
    None,
    Signature,
    Nonce,
    Url,
    Account,
    Algorithm,
}

impl Client {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self { key: key.expect("a key"), random, account: None }
    }

    fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "x": BASE64URL.encode(&point[1..33]), "y": BASE64URL.encode(&point[33..])})
    }

    fn thumbprint(&self) -> String {
        serde_json::from_value::<Jwk>(self.jwk()).expect("a key").thumbprint()
    }

    fn signed(&self, acme: &Acme, path: &str, payload: &Value, mistake: Mistake) -> Vec<u8> {
        let mut header = json!({"alg": "ES256", "nonce": acme.nonce(), "url": format!("{HOST}{path}")});
        match &self.account {
            Some(account) => header["kid"] = json!(account),
            None => header["jwk"] = self.jwk(),
        }
        match mistake {
            Mistake::Nonce => header["nonce"] = json!("mine"),
            Mistake::Url => header["url"] = json!(format!("{HOST}/acme/elsewhere")),
            Mistake::Account => header["kid"] = json!(format!("{HOST}/acme/account/nobody")),
            Mistake::Algorithm => header["alg"] = json!("none"),
            Mistake::None | Mistake::Signature => {}
        }
        let payload = if payload.is_null() { String::new() } else { payload.to_string() };
        let (header, payload) = (BASE64URL.encode(header.to_string()), BASE64URL.encode(payload));
        let signature =
            self.key.sign(&self.random, format!("{header}.{payload}").as_bytes()).expect("signed");
        let mut signature = signature.as_ref().to_vec();
        if mistake == Mistake::Signature {
            signature[5] ^= 1;
        }
        let signature = BASE64URL.encode(signature);
        json!({"protected": header, "payload": payload, "signature": signature}).to_string().into_bytes()
    }

    async fn post(&self, acme: &Acme, path: &str, payload: Value) -> Reply {
        let path = path.strip_prefix(HOST).unwrap_or(path);
        acme.post(path, &self.signed(acme, path, &payload, Mistake::None)).await
    }

    async fn register(&mut self, acme: &Acme) {
        let reply = self.post(acme, "/acme/new-account", json!({"termsOfServiceAgreed": true})).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        self.account = reply.location;
    }

    async fn order(&self, acme: &Acme, names: &[&str]) -> (String, Value) {
        let identifiers: Vec<Value> =
            names.iter().map(|name| json!({"type": "dns", "value": name})).collect();
        let reply = self.post(acme, "/acme/new-order", json!({"identifiers": identifiers})).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        (reply.location.clone().expect("a place"), value(&reply))
    }
}

fn value(reply: &Reply) -> Value {
    match &reply.body {
        ReplyBody::Json(value) => value.clone(),
        other => panic!("no object: {other:?}"),
    }
}

fn kind(reply: &Reply) -> &str {
    match &reply.body {
        ReplyBody::Problem(problem) => problem.kind(),
        other => panic!("no problem: {other:?}"),
    }
}

/// The server, in a group where `web` is this host.
struct Place {
    acme: Acme,
    authority: Arc<Authority>,
    zone: SharedZone,
    _told: mpsc::UnboundedReceiver<String>,
}

fn plan() -> Plan {
    let host = HostFacts::default();
    Plan::derive(&"g".parse().expect("a name"), &Testnet::new(), &host).expect("a plan")
}

fn place(port: u16) -> Place {
    let kept = AuthorityKey::new("g").expect("an authority");
    let authority = Arc::new(Authority::open(&kept).expect("an authority"));
    let zone = plan().zone(&[Record::address("web", [127, 0, 0, 1])], []).expect("records");
    let zone = SharedZone::new(zone);
    let (teller, told) = mpsc::unbounded_channel();
    let asker = Asker { source: None, port };
    let acme = Acme::new(Arc::clone(&authority), zone.clone(), asker, "acme.g.test", Vec::new(), teller);
    Place { acme, authority, zone, _told: told }
}

/// Answers everything that is asked for with this body; its port.
async fn web(body: String, running: &mut JoinSet<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    running.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head"));
            }
            let head = String::from_utf8(head).expect("text");
            assert!(head.starts_with("GET /.well-known/acme-challenge/"), "{head}");
            assert!(head.contains("host: web.g.test\r\n"), "{head}");
            let token = head.split(['/', ' ']).nth(4).expect("a token").to_owned();
            let body = body.replace("TOKEN", &token);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.expect("written");
        }
    });
    port
}

fn request(names: &[&str]) -> Value {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(names).expect("names");
    let request = params.serialize_request(&key).expect("a request");
    json!({"csr": BASE64URL.encode(request.der())})
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

#[tokio::test]
async fn a_client_that_serves_its_name_gets_a_certificate_of_the_group() {
    let mut running = JoinSet::new();
    let mut client = Client::new();
    let port = web(format!("TOKEN.{}\n", client.thumbprint()), &mut running).await;
    let Place { acme, authority, .. } = place(port);
    assert_eq!(text(&value(&acme.get("/directory")), "/newOrder"), format!("{HOST}/acme/new-order"));
    client.register(&acme).await;
    let (url, order) = client.order(&acme, &["web.g.test"]).await;
    assert_eq!(text(&order, "/status"), "pending");
    let authorization = value(&client.post(&acme, text(&order, "/authorizations/0"), Value::Null).await);
    assert_eq!(text(&authorization, "/challenges/0/type"), "http-01");
    // Too early.
    let early = client.post(&acme, text(&order, "/finalize"), request(&["web.g.test"])).await;
    assert_eq!((early.status, kind(&early)), (403, "orderNotReady"));
    let challenge = client.post(&acme, text(&authorization, "/challenges/0/url"), json!({})).await;
    assert_eq!(text(&value(&challenge), "/status"), "valid", "{challenge:?}");
    assert!(challenge.up.is_some());
    assert_eq!(text(&value(&client.post(&acme, &url, Value::Null).await), "/status"), "ready");
    let other = client.post(&acme, text(&order, "/finalize"), request(&["web.g.test", "n1.g.test"])).await;
    assert_eq!((other.status, kind(&other)), (400, "badCSR"));
    let done = value(&client.post(&acme, text(&order, "/finalize"), request(&["web.g.test"])).await);
    assert_eq!(text(&done, "/status"), "valid");
    let certificate = client.post(&acme, text(&done, "/certificate"), Value::Null).await;
    let ReplyBody::Pem(pem) = certificate.body else { panic!("no certificate: {certificate:?}") };
    assert!(pem.ends_with(authority.certificate()), "the authority's is behind it");
    assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2);
    // Nobody else's.
    let mut stranger = Client::new();
    stranger.register(&acme).await;
    assert_eq!(stranger.post(&acme, text(&done, "/certificate"), Value::Null).await.status, 404);
    assert_eq!(stranger.post(&acme, &url, Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_client_that_does_not_serve_its_name_gets_nothing() {
    let mut running = JoinSet::new();
    let mut client = Client::new();
    let wrong = web("TOKEN.another".to_owned(), &mut running).await;
    // Nobody listens at the port of a socket that is closed.
    let closed =
        TcpListener::bind("127.0.0.1:0").await.expect("a socket").local_addr().expect("an address").port();
    for (port, problem) in [(wrong, "incorrectResponse"), (closed, "connection")] {
        let Place { acme, .. } = place(port);
        client.account = None;
        client.register(&acme).await;
        let (url, order) = client.order(&acme, &["web.g.test"]).await;
        let authorization = value(&client.post(&acme, text(&order, "/authorizations/0"), Value::Null).await);
        let challenge = client.post(&acme, text(&authorization, "/challenges/0/url"), json!({})).await;
        let challenge = value(&challenge);
        assert_eq!(text(&challenge, "/status"), "invalid");
        assert_eq!(text(&challenge, "/error/type"), format!("urn:ietf:params:acme:error:{problem}"));
        assert_eq!(text(&value(&client.post(&acme, &url, Value::Null).await), "/status"), "invalid");
        let refused = client.post(&acme, text(&order, "/finalize"), request(&["web.g.test"])).await;
        assert_eq!(kind(&refused), "orderNotReady");
    }
}

#[tokio::test]
async fn a_name_outside_of_the_group_is_rejected_with_the_reason() {
    let Place { acme, zone, .. } = place(80);
    let mut client = Client::new();
    client.register(&acme).await;
    for (kind_of_name, name, wanted) in [
        ("dns", "www.debian.org", "rejectedIdentifier"),
        ("dns", "*.g.test", "rejectedIdentifier"),
        ("dns", "10.0.0.1", "rejectedIdentifier"),
        ("dns", "@", "rejectedIdentifier"),
        ("dns", "a b", "rejectedIdentifier"),
        ("ip", "9.9.9.9", "rejectedIdentifier"),
        ("ip", "web.g.test", "rejectedIdentifier"),
        ("email", "a@g.test", "unsupportedIdentifier"),
    ] {
        let order = json!({"identifiers": [{"type": "dns", "value": "web.g.test"}, {"type": kind_of_name, "value": name}]});
        let reply = client.post(&acme, "/acme/new-order", order).await;
        assert_eq!(kind(&reply), wanted, "{name}: {reply:?}");
    }
    // As soon as a test has it lead somewhere, it is of the group.
    let records = [Record::address("www.debian.org", [127, 0, 0, 1])];
    zone.set(plan().zone(&records, []).expect("records"));
    client.order(&acme, &["www.debian.org"]).await;
}

#[tokio::test]
async fn what_is_not_signed_for_this_request_is_not_heeded() {
    let Place { acme, .. } = place(80);
    let mut client = Client::new();
    let path = "/acme/new-account";
    let first = client.signed(&acme, path, &json!({}), Mistake::None);
    assert_eq!(acme.post(path, &first).await.status, 201);
    assert_eq!(kind(&acme.post(path, &first).await), "badNonce", "it is a repetition");
    client.register_again(&acme).await;
    let order = json!({"identifiers": [{"type": "dns", "value": "web.g.test"}]});
    let path = "/acme/new-order";
    for (mistake, wanted) in [
        (Mistake::Signature, "unauthorized"),
        (Mistake::Nonce, "badNonce"),
        (Mistake::Url, "unauthorized"),
        (Mistake::Account, "accountDoesNotExist"),
        (Mistake::Algorithm, "badSignatureAlgorithm"),
    ] {
        let reply = acme.post(path, &client.signed(&acme, path, &order, mistake)).await;
        assert_eq!(kind(&reply), wanted, "{mistake:?}");
    }
    // Another's key, under this account.
    let thief = Client { account: client.account.clone(), ..Client::new() };
    assert_eq!(kind(&thief.post(&acme, path, order.clone()).await), "unauthorized");
    assert_eq!(client.post(&acme, path, order.clone()).await.status, 201, "without a mistake it is heeded");
    for bytes in [&b""[..], b"{}", b"[]", br#"{"protected":"!","payload":"","signature":""}"#] {
        assert_eq!(kind(&acme.post(path, bytes).await), "malformed");
    }
    let account = client.account.clone().expect("an account");
    let reply = client.post(&acme, &account, json!({"status": "deactivated"})).await;
    assert_eq!(text(&value(&reply), "/status"), "deactivated");
    assert_eq!(kind(&client.post(&acme, path, order).await), "unauthorized");
}

#[tokio::test]
async fn accounts_go_on_where_they_were_kept() {
    let Place { acme, authority, zone, .. } = place(80);
    let mut client = Client::new();
    client.register(&acme).await;
    let kept = acme.accounts();
    let text = serde_json::to_string(&kept).expect("it can be written");
    let read = serde_json::from_str(&text).expect("it can be read");
    let (teller, _told) = mpsc::unbounded_channel();
    let asker = Asker { source: None, port: 80 };
    let fork = Acme::new(authority, zone, asker, "acme.g.test", read, teller);
    client.order(&fork, &["web.g.test"]).await;
}

impl Client {
    async fn register_again(&mut self, acme: &Acme) {
        let reply = self.post(acme, "/acme/new-account", json!({"onlyReturnExisting": true})).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        self.account = reply.location;
    }
}
