//! A limit on what a PostgreSQL server may announce and send, on the stream below the driver.
//!
//! The driver makes room for a whole message as soon as its length is announced, before anything proves who the server is.

use std::io::{Error, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::message_headers::MessageHeaders;

/// Says how much a server may send; none for no limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageLimits {
    /// In one message.
    pub(super) message: Option<usize>,
    /// Over one connection.
    total: Option<u64>,
}

impl MessageLimits {
    /// For a server that others named. What is asked of it is answered in small rows.
    pub(super) const FOREIGN: Self = Self { message: Some(4 << 20), total: Some(128 << 20) };
    /// For a server that others named and whose rows are copied: values are large, and there is no end to how many.
    pub(super) const ROWS: Self = Self { message: Some(128 << 20), total: None };
    /// For a server that is trusted.
    pub(super) const NONE: Self = Self { message: None, total: None };
}

/// Counts what a server sends, and follows its headers: one byte of type, four of length, which counts itself and not the type.
#[derive(Debug)]
struct Counted {
    limits: MessageLimits,
    headers: MessageHeaders<5>,
    total: u64,
}

impl Counted {
    const fn new(limits: MessageLimits) -> Self {
        Self { limits, headers: MessageHeaders::new(), total: 0 }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.total += bytes.len() as u64;
        if let Some(most) = self.limits.total.filter(|most| self.total > *most) {
            return Err(Error::new(ErrorKind::InvalidData, format!("the server sent more than {most} bytes")));
        }
        self.headers.follow(bytes, |[_, length @ ..]| {
            let length = u32::from_be_bytes(length) as usize;
            match self.limits.message.filter(|most| length > *most) {
                None => Ok(length.saturating_sub(4)),
                Some(most) => Err(Error::new(
                    ErrorKind::InvalidData,
                    format!("the server announced a message of {length} bytes, and {most} are the most"),
                )),
            }
        })
    }
}

/// A stream of messages that ends with an error when the server exceeds the limits.
#[derive(Debug)]
pub(super) struct Limited<S> {
    stream: S,
    counted: Counted,
}

impl<S> Limited<S> {
    pub(super) fn new(stream: S, limits: MessageLimits) -> Self {
        Self { stream, counted: Counted::new(limits) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(this.counted.take(buffer.filled().get(before..).unwrap_or_default())),
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Limited<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream.channel_binding()
    }
}

/// A TLS handshake whose stream is [`Limited`].
pub(super) struct LimitedTls<T>(pub(super) T, pub(super) MessageLimits);

impl<S, T> TlsConnect<S> for LimitedTls<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
{
    type Stream = Limited<T::Stream>;
    type Error = T::Error;
    type Future = BoxFuture<'static, Result<Self::Stream, T::Error>>;

    fn connect(self, stream: S) -> Self::Future {
        let Self(tls, limits) = self;
        let handshake = tls.connect(stream);
        Box::pin(async move { handshake.await.map(|stream| Limited::new(stream, limits)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_pass_in_any_pieces() {
        let mut bytes = Vec::new();
        for body in [0_usize, 1, 700] {
            bytes.push(b'D');
            bytes.extend_from_slice(&u32::try_from(body + 4).unwrap().to_be_bytes());
            bytes.extend(std::iter::repeat_n(0xff, body));
        }
        for piece in [1, 2, 5, 6, 1000] {
            let mut counted = Counted::new(MessageLimits::FOREIGN);
            for part in bytes.chunks(piece) {
                counted.take(part).unwrap();
            }
            assert!(counted.headers.is_between_messages(), "{piece}");
        }
    }

    #[test]
    fn an_announced_size_is_refused_before_its_body_comes() {
        let mut counted = Counted::new(MessageLimits::FOREIGN);
        let error = counted.take(&[b'R', 0x7f, 0xff, 0xff, 0xff]).unwrap_err();
        assert!(error.to_string().contains("announced a message of 2147483647 bytes"), "{error}");
    }
}
