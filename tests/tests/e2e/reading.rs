//! What a person reads: `kubectl get`, `describe` and `explain`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use evenkeel_tests::cluster::with_namespace;
use evenkeel_tests::environment::repository;

/// What is asked, and what the answer must contain.
const QUESTIONS: [(&[&str], &[&str]); 5] = [
    (&["get", "lb,tg,rsvc"], &["NAME", "READY", "shop", "web"]),
    (
        &["get", "evenkeel"],
        &[
            "loadbalancer.evenkeel.dev/shop",
            "targetgroup.evenkeel.dev/web",
            "replicaservice.evenkeel.dev/web",
        ],
    ),
    (&["describe", "lb", "shop"], &["Programmed", "Events"]),
    (&["describe", "tg", "web"], &["Healthy", "healthy"]),
    (&["describe", "rsvc", "web"], &["ScalingActive", "Desired"]),
];

const EXPLAINED: [&str; 4] = [
    "loadbalancer.spec.listeners.rules.conditions",
    "targetgroup.spec.healthCheck",
    "replicaservice.spec.scaling",
    "replicaservice.status",
];

#[tokio::test]
#[ignore = "needs a cluster: make e2e"]
async fn kubectl_shows_what_a_person_wants_to_know() -> Result<()> {
    with_namespace("reading", async |ns| {
        ns.serve_web(2).await?;
        let mut transcript = String::from(
            "# What kubectl says\n\nTaken from the end-to-end tests (`EVENKEEL_TRANSCRIPTS=docs/kubectl.md make e2e`): a load balancer with \
             one proxy in front of two replicas.\n",
        );
        for (question, expected) in QUESTIONS {
            let answer = ns.kubectl(question).await?;
            for words in expected {
                ensure!(answer.contains(words), "kubectl {}: no {words:?} in\n{answer}", question.join(" "));
            }
            transcribe(&mut transcript, question, &answer, &ns.name);
        }
        for path in EXPLAINED {
            let question = ["explain", path];
            let answer = ns.kubectl(&question).await?;
            ensure!(!answer.contains("<no description>"), "kubectl explain {path} has fields without description:\n{answer}");
            transcribe(&mut transcript, &question, &answer, &ns.name);
        }
        if let Ok(file) = std::env::var("EVENKEEL_TRANSCRIPTS") {
            std::fs::write(repository().join(&file), transcript).with_context(|| format!("write {file}"))?;
        }
        Ok(())
    })
    .await
}

fn transcribe(transcript: &mut String, question: &[&str], answer: &str, namespace: &str) {
    let answer = answer.replace(namespace, "shop");
    let question = question.join(" ");
    let _ = writeln!(transcript, "\n```console\n$ kubectl {question}\n{}\n```", answer.trim_end());
}
