//! Bytes to read, from a recipe in which messages can be written as they are, and one byte can stand for a part of a message:
//! so that a random change makes another message more often than nonsense.

/// A byte from here on stands for a part; all others for themselves.
const FIRST_PART: u8 = 0x80;

/// Takes the next byte as it is.
const LITERALLY: u8 = 0xff;

const PARTS: &[&str] = &[
    // First lines
    "GET / HTTP/1.1\r\nHost: a\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\n",
    "HEAD / HTTP/1.1\r\nHost: a\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
    "GET http://a/ HTTP/1.1\r\nHost: a\r\n",
    "GET / HTTP/1.0\r\n",
    "CONNECT a:80 HTTP/1.1\r\n",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\n\r\n",
    // Fields
    "Host: a\r\n",
    "Host: b\r\n",
    "Host: ",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 6\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 18446744073709551621\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length : 5\r\n",
    "Content-Length:5\r\n",
    "Content-Length: ",
    "Content_Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: Chunked \r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Transfer-Encoding: ",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Connection: upgrade\r\nUpgrade: websocket\r\n",
    "Connection: content-length\r\n",
    "Connection: x, close\r\n",
    "Connection: ",
    "Expect: 100-continue\r\n",
    "TE: trailers\r\n",
    "Trailer: x\r\n",
    "Keep-Alive: 5\r\n",
    "X-Forwarded-For: 1\r\n",
    "X: y\r\n",
    "X:\r\n",
    "X: \u{fc}\t\"y\r\n",
    " folded\r\n",
    "\tfolded\r\n",
    // Bodies
    "hello",
    "5\r\nhello\r\n",
    "5;x=y\r\nhello\r\n",
    "5;x=\"\r\n\"\r\nhello\r\n",
    "5 \r\nhello\r\n",
    "005\r\nhello\r\n",
    "5\nhello\n",
    "0x5\r\nhello\r\n",
    "5\r\nhello",
    "0\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    "0;x\r\n\r\n",
    "0\n\n",
    "0\r\n",
    "fffffffffffffffb\r\n",
    "10000000000000005\r\n",
    // What may stand anywhere
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    "\x0b",
    ":",
    ";",
    ",",
    "?",
    "#",
    "//",
    "%00",
    "chunked",
    "close",
];

/// Follows a recipe.
pub fn prepare(recipe: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(recipe.len());
    let mut recipe = recipe.iter().copied();
    while let Some(byte) = recipe.next() {
        match byte.checked_sub(FIRST_PART) {
            None => bytes.push(byte),
            Some(_) if byte == LITERALLY => bytes.extend(recipe.next()),
            Some(part) => {
                let part = PARTS.get(usize::from(part) % PARTS.len()).copied().unwrap_or_default();
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_says_what_to_put_together() {
        assert_eq!(prepare(b"X: y\r\n"), b"X: y\r\n");
        assert_eq!(prepare(&[0x80, b'X', 0xff, 0xfc]), b"GET / HTTP/1.1\r\nHost: a\r\nX\xfc");
        assert!(PARTS.len() < usize::from(LITERALLY - FIRST_PART));
    }
}
