//! The first bytes of a connection tell which HTTP it speaks. They are read here, under the caller's deadline, and put
//! back: hyper itself would wait for them for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A stream whose first bytes were read already, and are read again.
#[derive(Debug)]
pub(super) struct Begun<S> {
    first: [u8; PREFACE.len()],
    length: usize,
    told: usize,
    stream: S,
}

/// Reads until it is clear what is spoken.
pub(super) async fn begin<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(Protocol, Begun<S>)> {
    let mut first = [0; PREFACE.len()];
    let mut length = 0;
    while length < first.len() && PREFACE.starts_with(&first[..length]) {
        match stream.read(&mut first[length..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => length += more,
        }
    }
    let protocol = if &first == PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    Ok((protocol, Begun { first, length, told: 0, stream }))
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.told == self.length {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = buffer.remaining().min(self.length - self.told);
        buffer.put_slice(&self.first[self.told..self.told + count]);
        self.told += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_read_to_find_out_is_read_again() {
        let whole = [PREFACE.as_slice(), b"and more"].concat();
        for (sent, expected) in [
            (whole.as_slice(), Protocol::Http2),
            (b"GET / HTTP/1.1\r\n\r\n", Protocol::Http1),
            (b"PRx", Protocol::Http1),
        ] {
            let (protocol, mut begun) = begin(sent).await.unwrap();
            assert_eq!(protocol, expected);
            let mut again = Vec::new();
            begun.read_to_end(&mut again).await.unwrap();
            assert_eq!(again, sent);
        }
    }

    #[tokio::test]
    async fn one_who_leaves_in_the_middle_of_the_preface_is_gone() {
        assert!(begin(&PREFACE[..10]).await.is_err());
        assert!(begin(&b""[..]).await.is_err());
    }
}
