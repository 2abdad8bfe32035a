//! Nodes that somebody empties. Pure.
//!
//! Whoever empties a node says so first: with `kubectl cordon` and `kubectl drain`, or with a taint that keeps new pods
//! away. Taints that tell of a node's health, or for whom it is reserved, say nothing of that kind.

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

/// What the cluster adds to a node that is cordoned.
const CORDONED: &str = "node.kubernetes.io/unschedulable";
/// Taints of those who empty nodes.
const EMPTIED: [&str; 6] = [
    CORDONED,
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption", // before its version 1
    "cloud.google.com/impending-node-termination",
    "node.cloudprovider.kubernetes.io/shutdown",
];

/// Whether a pod has to leave its node. One that tolerates that the node is emptied stays: it would only come back.
pub fn is_emptied(node: &Node, pod: &Pod) -> bool {
    let Some(spec) = &node.spec else { return false };
    let cordoned = spec.unschedulable.unwrap_or(false).then(|| Taint {
        key: CORDONED.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    });
    let taints = spec.taints.iter().flatten().chain(&cordoned);
    let mut emptied = taints.filter(|taint| {
        EMPTIED.contains(&taint.key.as_str()) && matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
    });
    let tolerations: Vec<&Toleration> =
        pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten()).collect();
    emptied.any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// Whether a toleration may be one of a node that is emptied. Others need not be kept.
pub fn concerns(toleration: &Toleration) -> bool {
    toleration.key.as_deref().is_none_or(|key| key.is_empty() || EMPTIED.contains(&key))
}

/// As the scheduler sees it (src: k8s.io/component-helpers/scheduling/corev1, ToleratesTaint).
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let Toleration { key, operator, value, effect, .. } = toleration;
    let matches = |wanted: &Option<String>, found: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == found)
    };
    let same_value = value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    let any_value = operator.as_deref() == Some("Exists");
    matches(effect, &taint.effect) && matches(key, &taint.key) && (any_value || same_value)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn a_pod_leaves_a_node_that_somebody_empties_unless_it_tolerates_that() {
        let taint = |key: &str, effect: &str| json!({"taints": [{"key": key, "effect": effect}]});
        let cordoned = || json!({"unschedulable": true});
        let exists = |key: &str| json!([{"key": key, "operator": "Exists"}]);
        let table: [(&str, Value, Value, bool); 12] = [
            ("a node like any other", json!({}), json!([]), false),
            ("cordoned", cordoned(), json!([]), true),
            ("about to be deleted", taint("ToBeDeletedByClusterAutoscaler", "NoSchedule"), json!([]), true),
            ("disrupted", taint("karpenter.sh/disrupted", "NoSchedule"), json!([]), true),
            ("a wish", taint("karpenter.sh/disrupted", "PreferNoSchedule"), json!([]), false),
            ("out of memory", taint("node.kubernetes.io/memory-pressure", "NoSchedule"), json!([]), false),
            ("cut off", taint("node.kubernetes.io/unreachable", "NoExecute"), json!([]), false),
            ("reserved", taint("example.com/team", "NoSchedule"), json!([]), false),
            ("it runs everywhere", cordoned(), json!([{"operator": "Exists"}]), false),
            ("it runs there", cordoned(), exists("node.kubernetes.io/unschedulable"), false),
            ("it tolerates others", cordoned(), exists("node.kubernetes.io/not-ready"), true),
            (
                "it tolerates another effect",
                cordoned(),
                json!([{"operator": "Exists", "effect": "NoExecute"}]),
                true,
            ),
        ];
        for (case, node, tolerations, expected) in table {
            let node: Node = from_value(json!({"spec": node})).unwrap();
            let pod: Pod =
                from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap();
            assert_eq!(is_emptied(&node, &pod), expected, "{case}");
            let kept = pod.spec.unwrap().tolerations.unwrap_or_default().into_iter().filter(concerns);
            let pod: Pod =
                from_value(json!({"spec": {"containers": [], "tolerations": kept.collect::<Vec<_>>()}}))
                    .unwrap();
            assert_eq!(is_emptied(&node, &pod), expected, "{case}, trimmed");
        }
    }
}
