//! Tells the API server which authority signs the certificate of the webhook.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::interval;
use tracing::{info, warn};

use super::{NAME, WEBHOOK};
use crate::error::{Error, request};
use crate::labels::MANAGER;

/// An upgrade of the chart may have taken it out, or brought the webhook in.
const CHECK: Duration = Duration::from_secs(30);

/// Keeps the bundle in the configuration of the webhook while this operator leads. Without such a configuration nobody
/// asks.
pub async fn trust(client: Client, mut bundle: watch::Receiver<String>) -> &'static str {
    let mut check = interval(CHECK);
    loop {
        tokio::select! {
            _ = check.tick() => {}
            changed = bundle.changed() => if changed.is_err() { return "trust in the eviction webhook" },
        }
        let newest = bundle.borrow_and_update().clone();
        if let Err(error) = look(&client, &newest).await {
            warn!(%error, "evictions of replicas go through undrained until it can be written; it is tried again");
        }
    }
}

async fn look(client: &Client, bundle: &str) -> Result<(), Error> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let action = || format!("read ValidatingWebhookConfiguration {NAME}");
    let Some(configuration) = request(action, api.get_opt(NAME)).await? else { return Ok(()) };
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let mut webhooks = configuration.webhooks.iter().flatten();
    let ours = webhooks.find(|webhook| webhook.name == WEBHOOK);
    if ours.is_none_or(|webhook| webhook.client_config.ca_bundle.as_ref() == Some(&bundle)) {
        return Ok(());
    }
    // Merged by name: all else belongs to the chart.
    let patch = json!({"webhooks": [{"name": WEBHOOK, "clientConfig": {"caBundle": bundle}}]});
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    let action = || format!("write ValidatingWebhookConfiguration {NAME}");
    request(action, api.patch(NAME, &params, &Patch::Strategic(patch))).await?;
    info!("the API server trusts this operator with evictions");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::fake::{self, Log};

    /// What is asked of an API server where the webhook has that bundle.
    async fn looked(bundle: &Value, name: &str) -> Log {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": NAME},
            "webhooks": [{
                "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "NoneOnDryRun",
                "clientConfig": {"caBundle": bundle},
            }],
        });
        let (client, log) = fake::client(move |_| (200, configuration.clone()));
        look(&client, "PEM").await.unwrap();
        log
    }

    #[tokio::test]
    async fn the_bundle_is_written_where_it_is_missing_or_another_and_nothing_else_is() {
        for bundle in [Value::Null, json!("QU5P")] {
            let log = looked(&bundle, WEBHOOK).await;
            let written = log.lock()[1].body.clone();
            let expected = json!({"webhooks": [{"name": WEBHOOK, "clientConfig": {"caBundle": "UEVN"}}]});
            assert_eq!(written, expected);
        }
        assert_eq!(looked(&json!("UEVN"), WEBHOOK).await.lock().len(), 1, "it is there");
        assert_eq!(looked(&Value::Null, "other").await.lock().len(), 1, "somebody else's webhook");
    }

    #[tokio::test]
    async fn without_the_webhook_there_is_nothing_to_do() {
        let (client, log) = fake::client(|_| fake::refusal(404, "NotFound", "not found"));
        look(&client, "PEM").await.unwrap();
        assert_eq!(log.lock().len(), 1);
    }
}
