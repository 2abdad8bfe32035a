//! An API server for tests: a function from requests to answers.

use std::sync::Arc;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// A request as the fake sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method, a space, the path without the query.
    pub what: String,
    /// The query.
    pub query: String,
    /// The body; null where there is none.
    pub body: Value,
}

/// What was asked so far.
pub type Log = Arc<Mutex<Vec<Asked>>>;

/// A client of an API server that answers as `answer` says: status and body.
pub fn client(answer: impl Fn(&Asked) -> (u16, Value) + Send + 'static) -> (Client, Log) {
    let (service, mut requests) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let log = Log::default();
    let asked = log.clone();
    tokio::spawn(async move {
        while let Some((request, reply)) = requests.next_request().await {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let request = Asked {
                what: format!("{} {}", parts.method, parts.uri.path()),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let (status, body) = answer(&request);
            asked.lock().push(request);
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            reply.send_response(Response::builder().status(status).body(body).unwrap());
        }
    });
    (Client::new(service, "default"), log)
}

/// An answer that refuses.
pub fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
    (
        code,
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message }),
    )
}
