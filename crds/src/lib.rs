//! The Kubernetes API of Evenkeel: [`v1alpha1::LoadBalancer`], [`v1alpha1::TargetGroup`] and
//! [`v1alpha1::ReplicaService`] in the group `evenkeel.dev`.

pub mod v1alpha1;
