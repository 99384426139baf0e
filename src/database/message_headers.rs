//! A follower of the headers in a stream of messages, each of a header with the length of its body and the body.

use std::io::Error;

/// Follows the headers of messages, `N` bytes each, through a stream that arrives in any pieces.
#[derive(Debug)]
pub(super) struct MessageHeaders<const N: usize> {
    header: [u8; N],
    filled: usize,
    /// How much of the current message's body is still to come.
    body: usize,
}

impl<const N: usize> MessageHeaders<N> {
    /// Begins before the first header.
    pub(super) const fn new() -> Self {
        Self { header: [0; N], filled: 0, body: 0 }
    }

    /// Reads the next piece of the stream. `body_length` is called with each header as soon as it is complete, before anything
    /// of its body is passed on: it returns how many bytes follow, or why the stream ends here.
    pub(super) fn follow(
        &mut self,
        mut bytes: &[u8],
        body_length: impl Fn([u8; N]) -> Result<usize, Error>,
    ) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.body > 0 {
                let skipped = self.body.min(bytes.len());
                self.body -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let Some((byte, rest)) = bytes.split_first() else { break };
            if let Some(place) = self.header.get_mut(self.filled) {
                *place = *byte;
            }
            self.filled += 1;
            bytes = rest;
            if self.filled == N {
                self.filled = 0;
                self.body = body_length(self.header)?;
            }
        }
        Ok(())
    }

    /// Says whether the stream ends between two messages.
    #[cfg(test)]
    pub(super) fn is_between_messages(&self) -> bool {
        (self.filled, self.body) == (0, 0)
    }
}
