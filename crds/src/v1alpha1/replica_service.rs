//! `ReplicaService`: replicas of one pod template, and how many there should be.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{DNS_LABEL, Duration, HasConditions, StatusCondition, duration_between, seconds};

/// A service: replicas of one pod, between a minimum and a maximum, as many as its load needs.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[kube(
    group = "evenkeel.dev",
    version = "v1alpha1",
    kind = "ReplicaService",
    plural = "replicaservices",
    shortname = "rsvc",
    category = "evenkeel",
    namespaced,
    status = "ReplicaServiceStatus",
    scale(
        spec_replicas_path = ".spec.scaling.desired",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    doc = "A service: replicas of one pod, between a minimum and a maximum, as many as its load needs.",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("the pods get the name of the service as a label: use lower-case letters, digits and dashes").field_path(".metadata.name"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.scaling.desired", description = "Replicas there should be"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas", description = "Replicas whose pods are ready"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.scaling.min", description = "Never fewer"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.scaling.max", description = "Never more"),
    printcolumn(name = "CPU %", type_ = "integer", json_path = ".status.cpuUtilizationPercent", description = "CPU used, in percent of what is requested"),
    printcolumn(name = "Available", type_ = "string", json_path = ".status.conditions[?(@.type=='Available')].status", description = "Whether enough replicas serve"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Healthy", type_ = "integer", json_path = ".status.healthyReplicas", priority = 1, description = "Replicas that pass the load balancers' checks"),
    printcolumn(name = "Draining", type_ = "integer", json_path = ".status.drainingReplicas", priority = 1, description = "Replicas that are leaving"),
    printcolumn(name = "Scaling", type_ = "string", json_path = ".status.conditions[?(@.type=='ScalingActive')].status", priority = 1, description = "Whether the policies can decide"),
    printcolumn(name = "Last scaling", type_ = "string", json_path = ".status.lastScaling.message", priority = 1, description = "The last change and why")
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaServiceSpec {
    /// The pods to run: a PodTemplateSpec, as in a Deployment. The cluster checks it as it would a Deployment's.
    #[schemars(schema_with = "pod_template")]
    pub template: serde_json::Value,
    /// How many replicas there should be.
    pub scaling: Scaling,
    /// Who may connect to the replicas.
    #[serde(default)]
    pub network: Network,
    /// How a new template replaces an old one.
    #[serde(default)]
    pub rollout: Rollout,
}

/// How many replicas there should be.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("min is greater than max: raise max or lower min"))]
pub struct Scaling {
    /// Never fewer. From 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub min: i32,
    /// Never more. From `min` to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub max: i32,
    /// How many there should be now, 0 or more. The autoscaler writes it, and so may you (`kubectl scale`): your number is taken,
    /// within min and max, and the policies go on from there. Leave it out of version control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub desired: Option<i32>,
    /// While true the policies change nothing; `desired` still counts.
    #[serde(default)]
    pub paused: bool,
    /// What calls for more or fewer replicas: out if any wants out, in only if all agree. Without policies only
    /// `desired` counts. At most 10.
    #[serde(default)]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub policies: Vec<Policy>,
    /// How scaling out is held back.
    #[serde(default = "scale_out")]
    pub scale_out: Window,
    /// How scaling in is held back.
    #[serde(default = "scale_in")]
    pub scale_in: Window,
    /// How long a new replica's metrics say nothing about the load. From 0s to 1h.
    #[serde(default = "no_time")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = duration_between("warmup", "0s", "1h", "30s"))]
    pub warmup: Duration,
}

/// What calls for more or fewer replicas.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Name of the policy, unique in this service.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// Keep a metric at a target.
    pub target_tracking: TargetTracking,
}

/// Keep a metric's mean over the replicas at a target.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TargetTracking {
    /// Which metric.
    pub metric: Metric,
    /// The target, in percent of what the replicas' containers request. From 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub target_percent: u16,
}

/// Metrics that can be tracked.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// CPU time used, in relation to the CPU requested.
    CPUUtilization,
}

/// How scaling in one direction is held back.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// A change needs to have been called for during all of this time. From 0s to 1h.
    #[schemars(length(max = 20))]
    #[x_kube(validation = duration_between("stabilization", "0s", "1h", "300s"))]
    pub stabilization: Duration,
}

/// Who may connect to the replicas.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.isolation != 'None' || size(self.allowFrom) == 0").message("with isolation None everyone may connect: leave out allowFrom, or set isolation to Balancers"))]
pub struct Network {
    /// Whether connections are restricted.
    #[serde(default)]
    pub isolation: Isolation,
    /// Who else may connect, as in a NetworkPolicy's ingress rule. At most 20.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub allow_from: Vec<NetworkPolicyPeer>,
}

/// Whether connections to replicas are restricted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Only the proxies of load balancers that forward here, and `allowFrom`.
    #[default]
    Balancers,
    /// Not restricted.
    None,
}

/// How a new template replaces an old one.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// A rollout without progress for so long is reported as failed; the `deregistrationDelay` that old replicas may take to
    /// drain comes on top. From 10s to 24h.
    #[serde(default = "default_progress_deadline")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = duration_between("progressDeadline", "10s", "24h", "600s"))]
    pub progress_deadline: Duration,
    /// What becomes of a template whose rollout is reported as failed.
    #[serde(default)]
    pub rollback: Rollback,
}

/// What becomes of a template whose rollout is reported as failed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rollback {
    /// Its rollout stops; old replicas serve on, beside new ones that pass.
    #[default]
    None,
    /// It gives way to the last template of which all replicas were ready at once, until another template is asked for.
    Automatic,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { progress_deadline: default_progress_deadline(), rollback: Rollback::None }
    }
}

/// What the operator last saw of a ReplicaService.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaServiceStatus {
    /// The generation that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Replicas that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Replicas whose pods are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Replicas that pass the health checks of the load balancers that forward to them.
    #[serde(default)]
    pub healthy_replicas: i32,
    /// Replicas that are leaving and finish what is in flight.
    #[serde(default)]
    pub draining_replicas: i32,
    /// How many replicas there should be.
    #[serde(default)]
    pub desired_replicas: i32,
    /// Selector of the replicas' pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// CPU utilisation on which the last decision was based, in percent of the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_utilization_percent: Option<i32>,
    /// The last change of the number of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_scaling: Option<LastScaling>,
    /// `Accepted`, `Available`, `Progressing`, `AbleToScale`, `ScalingActive` and `ScalingLimited`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<StatusCondition>,
}

impl HasConditions for ReplicaServiceStatus {
    fn conditions(&self) -> &[StatusCondition] {
        &self.conditions
    }
}

/// A change of the number of replicas.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LastScaling {
    /// When.
    pub time: Time,
    /// From how many.
    pub from: i32,
    /// To how many.
    pub to: i32,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

fn pod_template(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "required": ["spec"],
        "properties": {
            "spec": {
                "description": "What runs in a pod: a PodSpec.",
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": true,
                "required": ["containers"],
                "properties": {
                    "containers": {
                        "description": "The containers of a pod, at least one.",
                        "type": "array",
                        "minItems": 1,
                        "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                    },
                },
            },
        },
    })
}

fn scale_out() -> Window {
    Window { stabilization: seconds(0) }
}

fn scale_in() -> Window {
    Window { stabilization: seconds(300) }
}

fn no_time() -> Duration {
    seconds(0)
}

fn default_progress_deadline() -> Duration {
    seconds(600)
}
