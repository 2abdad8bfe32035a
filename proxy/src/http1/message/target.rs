//! The request target (RFC 9112 §3.2), and what a host may look like.

use super::refusal::Refusal;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'b> {
    /// Of the absolute form.
    pub(super) authority: Option<&'b str>,
    /// Without the query; `*` for the whole server.
    pub(super) path: &'b str,
    /// Without its question mark.
    pub(super) query: Option<&'b str>,
}

impl<'b> Target<'b> {
    /// Reads the target of a request with this method.
    pub(super) fn parse(method: &str, text: &'b str) -> Result<Self, Refusal> {
        if text.contains('#') {
            return Err(Refusal::Target);
        }
        if text.starts_with('/') {
            return Ok(Self::of(None, text));
        }
        if text == "*" && method == "OPTIONS" {
            return Ok(Self { authority: None, path: text, query: None });
        }
        let rest = after_scheme(text).ok_or(Refusal::Target)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).ok_or(Refusal::Target)?;
        if authority.is_empty() || !is_host(authority.as_bytes()) {
            return Err(Refusal::Target);
        }
        let target = Self::of(Some(authority), rest);
        Ok(match (target.path, target.query) {
            // RFC 9112 §3.2.4
            ("", None) if method == "OPTIONS" => Self { path: "*", ..target },
            ("", _) => Self { path: "/", ..target },
            _ => target,
        })
    }

    fn of(authority: Option<&'b str>, text: &'b str) -> Self {
        match text.split_once('?') {
            Some((path, query)) => Self { authority, path, query: Some(query) },
            None => Self { authority, path: text, query: None },
        }
    }
}

fn after_scheme(text: &str) -> Option<&str> {
    let scheme = |scheme: &str| {
        let (begun, rest) = text.split_at_checked(scheme.len())?;
        begun.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    scheme("http://").or_else(|| scheme("https://"))
}

/// Whether these are the bytes of a host with or without a port (RFC 3986 §3.2.2). No user, no list, nothing that ends an
/// authority for one reader and not for the next.
pub(super) fn is_host(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:[]%".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_in_three_forms() {
        let found = |authority, path, query| Ok(Target { authority, path, query });
        for (method, text, expected) in [
            ("GET", "/", found(None, "/", None)),
            ("GET", "/a?b=c?d", found(None, "/a", Some("b=c?d"))),
            ("GET", "/a?", found(None, "/a", Some(""))),
            ("GET", "//evil/x", found(None, "//evil/x", None)),
            ("OPTIONS", "*", found(None, "*", None)),
            ("GET", "*", Err(Refusal::Target)),
            ("GET", "http://shop:80/a?b", found(Some("shop:80"), "/a", Some("b"))),
            ("GET", "HTTPS://shop", found(Some("shop"), "/", None)),
            ("GET", "http://shop?b", found(Some("shop"), "/", Some("b"))),
            ("OPTIONS", "http://shop", found(Some("shop"), "*", None)),
            ("GET", "http://", Err(Refusal::Target)),
            ("GET", "http:///a", Err(Refusal::Target)),
            ("GET", "http://user@shop/", Err(Refusal::Target)),
            ("GET", "ftp://shop/", Err(Refusal::Target)),
            ("GET", "shop:80", Err(Refusal::Target)),
            ("GET", "a/b", Err(Refusal::Target)),
            ("GET", "", Err(Refusal::Target)),
            ("GET", "/a#b", Err(Refusal::Target)),
        ] {
            assert_eq!(Target::parse(method, text), expected, "{method} {text}");
        }
    }
}
