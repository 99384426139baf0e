//! Keys against recorded vectors, and against arbitrary input.

use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    kind: String,
    instance_name: String,
    instance_secret: String,
    nonce: String,
    issued_s: u64,
    member_id: u64,
    key: String,
}

fn nonce(text: &str) -> [u8; 12] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn public_secret() -> InstanceSecret {
    InstanceSecret::parse("4361726e697461732c206c69746572616c6c79206d65616e696e6720226c6974").unwrap()
}

const COUNTING: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

#[test]
fn every_vector_is_issued_byte_for_byte_and_checks() {
    let vectors: Vectors = serde_json::from_str(include_str!("../../tests/admin_keys.json")).unwrap();
    assert_eq!(vectors.vectors.len(), 8);
    for vector in vectors.vectors {
        let secret = InstanceSecret::parse(&vector.instance_secret).unwrap();
        let kind = match vector.kind.as_str() {
            "admin" | "member" => KeyKind::Admin { member_id: vector.member_id },
            "read_only" => KeyKind::ReadOnly { member_id: vector.member_id },
            "system" => KeyKind::System,
            other => panic!("unknown kind {other}"),
        };
        let key = issue(&vector.instance_name, &secret, kind, vector.issued_s, nonce(&vector.nonce)).unwrap();
        assert_eq!(key.expose(), vector.key);
        let claims = check(&vector.key, &vector.instance_name, &secret).unwrap();
        assert_eq!(claims.kind, kind);
        assert_eq!(claims.issued_s, vector.issued_s);
        assert_eq!(claims.instance_name, vector.instance_name);
        assert_eq!(claims.scheme, KeyScheme::Current);
        assert_eq!(claims.is_read_only, vector.kind == "read_only");
    }
}

#[test]
fn the_derived_vectors_agree() {
    for (kind, sealed) in [
        (KeyKind::Admin { member_id: 0 }, "01000102030405060708090a0b1e5c06d46516f3f5fa3e99f5af81a957a2adc6f04983839e"),
        (KeyKind::ReadOnly { member_id: 0 }, "01000102030405060708090a0b9293461285dccc90b288bfa912cae60264829aebb93d6acd1867"),
        (KeyKind::System, "01000102030405060708090a0b1e0050533b39313fd1b0b727eaf2c146a1c4e8cc9eb197c4"),
    ] {
        let key = issue("dev", &public_secret(), kind, 1_700_000_000, COUNTING).unwrap();
        assert_eq!(key.expose(), format!("dev|{sealed}"));
    }
}

#[test]
fn a_key_opens_only_its_own_instance() {
    let secret = public_secret();
    let key = issue("dev", &secret, KeyKind::Admin { member_id: 7 }, 1_700_000_000, COUNTING).unwrap();
    let key = key.expose();
    assert_eq!(check(key, "dev", &secret).unwrap().member_id, Some(7));
    assert!(check(&format!("prod:{key}"), "dev", &secret).is_ok());
    assert_eq!(check(key, "other", &secret), Err(KeyError::OtherInstance { name: "dev".into() }));
    assert_eq!(check(&format!("preview:{key}"), "dev", &secret), Err(KeyError::OtherInstance { name: String::new() }));
    assert_eq!(check(key, "dev", &InstanceSecret::new([7; 32])), Err(KeyError::Undecryptable));
    let last = if key.ends_with('0') { "1" } else { "0" };
    assert_eq!(check(&format!("{}{last}", &key[..key.len() - 1]), "dev", &secret), Err(KeyError::Undecryptable));
    for text in ["", "|", "dev|", "dev|zz", "nonsense", "a|b|01"] {
        assert_eq!(check(text, "dev", &secret), Err(KeyError::Malformed), "{text}");
    }
    // The name stands outside of what is encrypted.
    let renamed = key.replace("dev|", "renamed|");
    assert!(check(&renamed, "renamed", &secret).is_ok());
}

#[test]
fn legacy_keys_are_accepted() {
    let secret = public_secret();
    let payload = KeyPayload {
        instance_name: Some("carnitas".into()),
        issued_s: 1_600_000_000,
        identity: Some(KeyIdentity::Member(0)),
        is_read_only: false,
    };
    let nonce = [9; 24];
    let cipher = XSalsa20Poly1305::new_from_slice(secret.0.as_slice()).unwrap();
    let sealed = cipher.encrypt(crypto_secretbox::Nonce::from_slice(&nonce), payload.encode().as_slice()).unwrap();
    let text = hex::encode([&[1], nonce.as_slice(), sealed.as_slice()].concat());
    for key in [text.clone(), format!("carnitas|{text}")] {
        let claims = check(&key, "carnitas", &secret).unwrap();
        assert_eq!(claims.scheme, KeyScheme::Legacy);
        assert_eq!(claims.issued_s, 1_600_000_000);
    }
    assert!(matches!(check(&text, "dev", &secret), Err(KeyError::OtherInstance { .. })));
}

#[test]
fn a_key_issued_at_no_time_is_refused() {
    let key = issue("dev", &public_secret(), KeyKind::System, 0, COUNTING).unwrap();
    assert_eq!(check(key.expose(), "dev", &public_secret()), Err(KeyError::InvalidPayload));
}

#[test]
fn secrets_are_read_drawn_and_hidden() {
    let secret = InstanceSecret::generate().unwrap();
    assert_ne!(secret, InstanceSecret::generate().unwrap());
    assert_eq!(InstanceSecret::parse(secret.to_hex().expose()).unwrap(), secret);
    assert_eq!(format!("{secret:?}"), "<instance secret>");
    assert!(matches!(InstanceSecret::parse("abcd"), Err(InstanceSecretError::Length { bytes: 2 })));
    assert!(matches!(InstanceSecret::parse("zz"), Err(InstanceSecretError::NotHex)));
}

proptest! {
    #[test]
    fn no_text_is_too_odd_to_check(key in ".*") {
        let _ = check(&key, "dev", &public_secret());
    }

    #[test]
    fn no_hex_is_too_odd_to_check(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let key = format!("dev|{}", hex::encode(bytes));
        prop_assert!(check(&key, "dev", &public_secret()).is_err());
    }

    #[test]
    fn an_issued_key_is_accepted(member_id in any::<u64>(), issued_s in 1..u64::MAX, nonce in any::<[u8; 12]>(), secret in any::<[u8; 32]>()) {
        let secret = InstanceSecret::new(secret);
        let key = issue("dev", &secret, KeyKind::Admin { member_id }, issued_s, nonce).unwrap();
        let claims = check(key.expose(), "dev", &secret).unwrap();
        prop_assert_eq!(claims.kind, KeyKind::Admin { member_id });
        prop_assert_eq!(claims.issued_s, issued_s);
    }
}
