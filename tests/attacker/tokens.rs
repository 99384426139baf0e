//! Guesses of tokens, and what one tenant can take from the others.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Target;
use super::raw::RawRequest;

/// How many clients guess at once, and how often each at most.
const CLIENTS: u32 = 8;
const GUESSES: u32 = 250;
/// After how many refusals they have been slowed down.
const ENOUGH: usize = 50;

/// A well formed token that nobody has issued.
fn guess(number: u32) -> String {
    let body = format!("guess{number:05}_{}", "0".repeat(64));
    format!("cvxi_{body}{:08x}", crc32fast::hash(body.as_bytes()))
}

#[test]
fn guesses_are_slowed_down_and_tokens_in_use_are_not() {
    let target = Target::new();
    assert_eq!(target.send("read", RawRequest::new("GET", "/v1/projects")).status, 200);
    // Several at once: one guess after the other may be slower than the limit allows on a machine that has much else to do.
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (target, refused) = (&target, &refused);
            scope.spawn(move || {
                for number in 0..GUESSES {
                    if refused.load(Ordering::SeqCst) > ENOUGH {
                        return;
                    }
                    let token = guess(client * GUESSES + number);
                    let response = RawRequest::new("GET", "/v1/projects").token(Some(&token)).send(target.address);
                    match response.status {
                        401 => assert_eq!(response.code(), "auth.token_unknown", "{response:?}"),
                        429 => {
                            assert!(response.header("retry-after").is_some(), "{response:?}");
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        _ => panic!("{response:?}"),
                    }
                }
            });
        }
    });
    let refused = refused.into_inner();
    assert!(refused > ENOUGH, "{refused} of {} guesses were slowed down", CLIENTS * GUESSES);
    assert_eq!(target.send("read", RawRequest::new("GET", "/v1/projects")).status, 200, "a token in use");
    target.assert_well();
}
