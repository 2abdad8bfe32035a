//! Messages, read for the comparison: names in lower case, fields in order of their names, bodies without their framing.

/// A message as its receiver understands it.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    first_line: String,
    fields: Vec<String>,
    body: String,
}

/// Fields that differ between two exchanges, or that say how the message is framed, which both carriers choose freely.
const PASSING: [&str; 4] = ["date:", "transfer-encoding:", "x-forwarded-port:", "x-forwarded-host:"];

impl Message {
    /// Reads one message after another; the last may end with its connection.
    pub fn all(mut bytes: &[u8]) -> Vec<Self> {
        let mut messages = Vec::new();
        while let Some((head, rest)) = split_head(bytes) {
            let length = length(bytes).unwrap_or(bytes.len()).min(bytes.len());
            let body = &rest[..length - (bytes.len() - rest.len())];
            messages.push(Self::of(&head, body));
            bytes = &bytes[length..];
        }
        if !bytes.is_empty() {
            messages.push(Self::of("", bytes));
        }
        messages
    }

    /// Of an answer.
    pub fn status(&self) -> &str {
        self.first_line.split(' ').nth(1).unwrap_or_default()
    }

    fn of(head: &str, body: &[u8]) -> Self {
        let mut lines = head.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let mut fields: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| format!("{}: {}", name.to_ascii_lowercase(), value.trim()))
            .filter(|field| !PASSING.iter().any(|passing| field.starts_with(passing)))
            .collect();
        fields.sort();
        let body = if is_chunked(head) { content(body) } else { body.to_vec() };
        Self { first_line, fields, body: String::from_utf8_lossy(&body).into_owned() }
    }
}

fn split_head(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end + 4..]))
}

fn is_chunked(head: &str) -> bool {
    head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked")
}

/// The length of the message that these bytes begin with, if it has come as a whole and says how long it is.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let (head, rest) = split_head(bytes)?;
    let before = bytes.len() - rest.len();
    if is_chunked(&head) {
        return chunks(rest).map(|(_, length)| before + length);
    }
    let lower = head.to_ascii_lowercase();
    let said =
        lower.split_once("\r\ncontent-length:").map(|(_, rest)| rest.lines().next().unwrap_or_default());
    match said.map(|said| said.trim().parse::<usize>().unwrap_or(0)) {
        Some(length) => (rest.len() >= length).then_some(before + length),
        None if lower.starts_with("http/") => bodiless(&lower).then_some(before),
        None => Some(before),
    }
}

fn bodiless(head: &str) -> bool {
    let status = head.split(' ').nth(1).unwrap_or_default();
    status.starts_with('1') || status == "204" || status == "304"
}

fn content(body: &[u8]) -> Vec<u8> {
    chunks(body).map_or_else(|| body.to_vec(), |(content, _)| content)
}

/// The content of a chunked body, and its length with the framing.
fn chunks(body: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut content, mut place) = (Vec::new(), 0);
    loop {
        let line = body[place..].windows(2).position(|window| window == b"\r\n")?;
        let size = String::from_utf8_lossy(&body[place..place + line]).into_owned();
        let size = usize::from_str_radix(size.split([';', ' ']).next()?, 16).ok()?;
        place += line + 2;
        if size == 0 {
            let end = if body[place..].starts_with(b"\r\n") {
                2
            } else {
                body[place..].windows(4).position(|window| window == b"\r\n\r\n")? + 4
            };
            return Some((content, place + end));
        }
        content.extend_from_slice(body.get(place..place + size)?);
        place += size + 2;
    }
}
