//! Guesses of tokens, and what one tenant can take from the others.

use super::Target;
use super::raw::RawRequest;

/// A well formed token that nobody has issued.
fn guess(number: u32) -> String {
    let body = format!("guess{number:05}_{}", "0".repeat(64));
    format!("cvxi_{body}{:08x}", crc32fast::hash(body.as_bytes()))
}

#[test]
fn guesses_are_slowed_down_and_tokens_in_use_are_not() {
    let target = Target::new();
    assert_eq!(target.send("read", RawRequest::new("GET", "/v1/projects")).status, 200);
    let mut refused = 0;
    for number in 0..200 {
        let token = guess(number);
        let response = RawRequest::new("GET", "/v1/projects").token(Some(&token)).send(target.address);
        match response.status {
            401 => assert_eq!(response.code(), "auth.token_unknown", "{response:?}"),
            429 => {
                assert!(response.header("retry-after").is_some(), "{response:?}");
                refused += 1;
            }
            _ => panic!("{response:?}"),
        }
    }
    assert!(refused > 50, "{refused} of 200 guesses were slowed down");
    assert_eq!(target.send("read", RawRequest::new("GET", "/v1/projects")).status, 200, "a token in use");
    target.assert_well();
}
