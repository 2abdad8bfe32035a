//! How the operator is reached: TLS against the CA in a file, with the token in another. Both are read at each attempt,
//! because both are renewed while the proxy runs.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use evenkeel_proxy_api::trust::Trust;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri};

/// No connection for so long is a failure.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A ping is sent this often, even while nothing else is.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// Without an answer to a ping for so long the operator is dead: noticed within 4 s.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The CA or the token cannot be read.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The transport says no.
    #[error("{}", chain(.0))]
    Transport(#[from] tonic::transport::Error),
}

/// Transport errors hide their cause: tell all of it, each part once.
fn chain(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let part = cause.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        source = cause.source();
    }
    text
}

/// Whoever makes connections to the operator.
pub trait Dial: Send + Sync + 'static {
    /// A connection.
    fn channel(&self) -> impl Future<Output = Result<Channel, DialError>> + Send;

    /// The authorities by one of which the operator's certificate must be signed.
    fn trust(&self) -> impl Future<Output = Result<Trust, DialError>> + Send;

    /// The token that says who this proxy is.
    fn token(&self) -> impl Future<Output = Result<String, DialError>> + Send;
}

/// What must hold of the operator's address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is no URL.
    #[error("{0:?} is not a URL; write https://HOST:PORT")]
    NotAUrl(String),
    /// It would send the token in the clear.
    #[error("{0:?} does not begin with https://: the token must not travel in the clear")]
    NotHttps(String),
}

/// Reaches the operator over TLS. The server's name is the address's host.
#[derive(Clone, Debug)]
pub struct TlsDial {
    address: Uri,
    ca_file: PathBuf,
    token_file: PathBuf,
}

impl TlsDial {
    /// For the operator at this URL.
    pub fn new(address: &str, ca_file: PathBuf, token_file: PathBuf) -> Result<Self, AddressError> {
        let uri: Uri = address.parse().map_err(|_| AddressError::NotAUrl(address.to_owned()))?;
        match uri.scheme_str() {
            Some("https") => Ok(Self { address: uri, ca_file, token_file }),
            Some(_) => Err(AddressError::NotHttps(address.to_owned())),
            None => Err(AddressError::NotAUrl(address.to_owned())),
        }
    }
}

impl Dial for TlsDial {
    async fn channel(&self) -> Result<Channel, DialError> {
        let ca = Certificate::from_pem(read(&self.ca_file).await?);
        let tls =
            ClientTlsConfig::new().ca_certificate(ca).domain_name(self.address.host().unwrap_or_default());
        Ok(endpoint(self.address.clone()).tls_config(tls)?.connect().await?)
    }

    async fn trust(&self) -> Result<Trust, DialError> {
        Ok(Trust::of(read(&self.ca_file).await?.as_bytes()))
    }

    async fn token(&self) -> Result<String, DialError> {
        Ok(read(&self.token_file).await?.trim().to_owned())
    }
}

/// An endpoint that notices a dead peer.
pub(super) fn endpoint(address: Uri) -> Endpoint {
    Endpoint::from(address)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
}

async fn read(path: &PathBuf) -> Result<String, DialError> {
    tokio::fs::read_to_string(path).await.map_err(|error| DialError::File { path: path.clone(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(address: &str) -> Result<TlsDial, AddressError> {
        TlsDial::new(address, "/no/ca".into(), "/no/token".into())
    }

    #[test]
    fn the_address_is_a_url_with_https() {
        assert!(dial("https://evenkeel-operator-push.evenkeel-system.svc:8443").is_ok());
        assert_eq!(
            dial("http://operator:8443").unwrap_err(),
            AddressError::NotHttps("http://operator:8443".into())
        );
        assert_eq!(dial("operator").unwrap_err(), AddressError::NotAUrl("operator".into()));
        assert_eq!(dial("not a url").unwrap_err(), AddressError::NotAUrl("not a url".into()));
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let error = dial("https://operator:8443").unwrap().channel().await.unwrap_err();
        assert!(error.to_string().starts_with("/no/ca: "), "{error}");
    }
}
