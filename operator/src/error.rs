//! What can go wrong while reconciling. All of it may go away by itself, so all of it is tried again; what only a
//! change of the object cures is no error but a condition.

use std::time::Duration;

use tokio::time::timeout;

/// No single request to the API server takes longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused it, or could not be reached.
    #[error("cannot {action}: {source}")]
    Api {
        /// What was tried.
        action: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// No answer.
    #[error("cannot {action}: the API server did not answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout {
        /// What was tried.
        action: String,
    },
}

impl Error {
    /// Where the API server has nothing of that name.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(&**source, kube::Error::Api(status) if status.is_not_found()))
    }

    /// Where somebody else was faster: it exists already, or is not any more what was read.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(&**source, kube::Error::Api(status) if status.code == 409))
    }

    /// Where the API server will not have it, now or later.
    pub fn is_refusal(&self) -> bool {
        let Self::Api { source, .. } = self else { return false };
        matches!(&**source, kube::Error::Api(status) if matches!(status.code, 400 | 403 | 413 | 422))
    }
}

/// Waits for a request, but not for ever. `action` completes the sentence "cannot …".
pub async fn request<T>(
    action: impl FnOnce() -> String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Error::Api { action: action(), source: Box::new(error) }),
        Err(_) => Err(Error::Timeout { action: action() }),
    }
}
